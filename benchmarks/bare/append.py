"""LEDGER: append a line."""

import json
import os
import sys
from pathlib import Path

with Path(sys.argv[1]).open("a") as file:
    file.write(json.dumps({"semver": "v0.1.0", "event": "promoted"}) + "\n")
    file.flush()
    os.fsync(file.fileno())
