"""CANDIDATE BASELINE: compare two files of scores."""

import json
import sys
from pathlib import Path

candidate, baseline = (json.loads(Path(name).read_text()) for name in sys.argv[1:])
for name, floor in baseline["buckets"].items():
    drop = floor["accuracy"] - candidate["buckets"][name]["accuracy"]
    print(name, floor["accuracy"], candidate["buckets"][name]["accuracy"], drop <= 0.02)
