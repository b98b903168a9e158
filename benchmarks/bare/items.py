"""EVAL_SET: the ids of its items, and how many items each bucket has, unchecked."""

import json
import sys
from collections import Counter
from pathlib import Path

ids, buckets = set[str](), Counter[tuple[str, str]]()
with Path(sys.argv[1]).open() as items:
    for line in items:
        item = json.loads(line)
        ids.add(item["id"])
        buckets.update(item["buckets"].items())
print(len(ids), len(buckets))
