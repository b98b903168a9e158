"""LEDGER: read every line of a ledger, and print the last version."""

import json
import sys
from pathlib import Path

entries = [json.loads(line) for line in Path(sys.argv[1]).read_bytes().splitlines()]
print(entries[-1]["semver"])
