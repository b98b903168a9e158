"""CSV OUTPUT: the rows as items of an eval set, unchecked."""

import csv
import json
import sys
from pathlib import Path

with Path(sys.argv[1]).open(newline="") as rows, Path(sys.argv[2]).open("w") as items:
    for number, row in enumerate(csv.DictReader(rows)):
        item = {"id": str(number), "prompt": row["prompt"], "expected": row["expected"]}
        items.write(json.dumps({**item, "buckets": {"topic": row["topic"]}}) + "\n")
