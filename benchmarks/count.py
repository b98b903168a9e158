"""ITEMS PREDICTIONS BASELINE: bucket counts and the gate, on Parquet files."""

import sys
from pathlib import Path

from lynx_pipeline.domain.gate.baseline import parse_baseline
from lynx_pipeline.domain.gate.rule import judge
from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.domain.scores import Scores
from lynx_pipeline.evaluation.storage.large import build

items, predictions, floors = (Path(name) for name in sys.argv[1:])
baseline = parse_baseline(floors.read_bytes(), str(floors))
eval_set = build((), "", baseline.eval_set_dvc_hash, "", EXACT, items)
counts = eval_set.count(predictions.read_bytes(), str(predictions))
verdict = judge(baseline, Scores(eval_set.dvc_hash, None, None, counts.buckets))
assert verdict.passed
print(len(verdict.buckets), counts.correct)
