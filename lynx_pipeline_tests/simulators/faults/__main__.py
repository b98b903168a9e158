"""Write the table of faults to standard output."""

import tempfile
from pathlib import Path

from lynx_pipeline_tests.simulators.faults.table import everything

if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="lynx-faults-") as folder:
        print(everything(Path(folder)), end="")
