"""BUNDLE EVAL_SET: load a model, predict every item, and compare the answers with deepeval."""

import json
import sys
from pathlib import Path

import pandas
from deepeval import evaluate
from deepeval.evaluate import AsyncConfig, CacheConfig, DisplayConfig
from deepeval.metrics import ExactMatchMetric
from deepeval.test_case import LLMTestCase
from mlflow import pyfunc

bundle, eval_set = sys.argv[1:]
items = [json.loads(line) for line in Path(eval_set).read_text().splitlines()]
model = pyfunc.load_model(bundle)
predictions = model.predict(pandas.DataFrame({"prompt": [item["prompt"] for item in items]}))
cases = [
    LLMTestCase(input=item["prompt"], actual_output=answer, expected_output=item["expected"])
    for item, answer in zip(items, predictions, strict=True)
]
found = evaluate(
    cases,
    [ExactMatchMetric()],
    async_config=AsyncConfig(run_async=False),
    cache_config=CacheConfig(write_cache=False),
    display_config=DisplayConfig(show_indicator=False, print_results=False),
)
print(sum(bool(result.success) for result in found.test_results))
