"""BUNDLE EVAL_SET OUTPUT: load a model, predict every item, count by bucket."""

import json
import sys
from collections import Counter
from pathlib import Path

import pandas
from mlflow import pyfunc

bundle, eval_set, output = sys.argv[1:]
items = [json.loads(line) for line in Path(eval_set).read_text().splitlines()]
model = pyfunc.load_model(bundle)
predictions = model.predict(pandas.DataFrame({"prompt": [item["prompt"] for item in items]}))
sizes: Counter[str] = Counter()
right: Counter[str] = Counter()
for item, prediction in zip(items, predictions, strict=True):
    for dimension, value in item["buckets"].items():
        sizes[f"{dimension}.{value}"] += 1
        right[f"{dimension}.{value}"] += prediction == item["expected"]
scores = {name: {"accuracy": right[name] / n, "n": n} for name, n in sizes.items()}
Path(output).write_text(json.dumps({"buckets": scores}))
