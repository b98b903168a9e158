"""``python -m lynx_pipeline`` is the same program as ``lynx-pipeline``."""

import sys

from lynx_pipeline.cli import main

sys.exit(main())
