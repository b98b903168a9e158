"""BUNDLE PROMPTS BATCH: a bare loop over predict. Prints the seconds it took after loading."""

import json
import sys
import time
from itertools import islice
from pathlib import Path

import pandas
from mlflow import pyfunc

bundle, prompts, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
model = pyfunc.load_model(bundle)
answers: list[str] = []
begun = time.perf_counter()
with Path(prompts).open() as file:
    while some := [json.loads(line) for line in islice(file, size)]:
        answers += model.predict(pandas.DataFrame({"prompt": some}))
print(time.perf_counter() - begun)
