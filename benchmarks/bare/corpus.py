"""EVAL_SET CORPUS: the prompts that both files have, and the corpus's buckets, unchecked."""

import json
import sys
from collections import Counter
from pathlib import Path

with Path(sys.argv[1]).open() as file:
    prompts = {" ".join(json.loads(line)["prompt"].casefold().split()) for line in file}
buckets: Counter[tuple[str, str]] = Counter()
found = set()
with Path(sys.argv[2]).open() as file:
    for line in file:
        values = json.loads(line)
        if (prompt := " ".join(values["prompt"].casefold().split())) in prompts:
            found.add(prompt)
        buckets.update(values["buckets"].items())
print(len(found), len(buckets))
