"""EVAL_SET BUNDLE OUTPUT: evaluate a model through Ray, on a cluster of two nodes with one CPU
each.

Runs with one worker and then with two, three times. Prints the seconds each took for all prompts
and the number of different prediction files so far. The seconds are extrapolated from the last nine
tenths, because the second worker starts later.
"""

import os
import sys
import time
from pathlib import Path

from lynx_pipeline.config import EvaluationSettings, Limits
from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.evaluation.evidence import EVAL, PREDICTIONS
from lynx_pipeline.evaluation.inputs import read_eval_file
from lynx_pipeline.evaluation.run import evaluate

SMALL = {"object_store_memory": 80 << 20, "include_dashboard": False}


def main() -> None:
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **SMALL})
    for _ in range(2):
        cluster.add_node(num_cpus=1, **SMALL)
    os.environ["RAY_ADDRESS"] = cluster.address
    eval_set, bundle, output = (Path(name) for name in sys.argv[1:])
    answers = set()
    for _ in range(3):
        took = []
        for workers in (1, 2):
            took.append(_seconds(eval_set, bundle, output, workers))
            answers.add((output / PREDICTIONS).read_bytes())
        print(*took, len(answers))
    cluster.shutdown()


def _seconds(eval_set: Path, bundle: Path, output: Path, workers: int) -> float:
    seen: list[tuple[float, int]] = []
    evaluate(
        bundle,
        read_eval_file(eval_set, EXACT),
        output / EVAL,
        EvaluationSettings(Limits(batch_size=16), engine="ray", workers=workers),
        candidate=None,
        env=Env.DEV,
        warn=print,
        progress=lambda done, total: seen.append((time.perf_counter(), done)),
    )
    begun, done = next(each for each in seen if each[1] * 10 >= seen[-1][1])
    return (seen[-1][0] - begun) * seen[-1][1] / (seen[-1][1] - done)


main()
