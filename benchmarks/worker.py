"""BUNDLE PROMPTS BATCH: predict all prompts through one worker process. Prints the seconds after
loading, and the peak memory of this process and of the worker in MiB."""

import json
import resource
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from lynx_pipeline.config import Limits
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.sandbox.engine import Batch
from lynx_pipeline.sandbox.isolation import choose_isolation
from lynx_pipeline.sandbox.local import Local


def main() -> None:
    bundle, prompts, size = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    limits = Limits(batch_size=size)
    engine = Local(bundle, choose_isolation(Env.DEV, (), print), limits, 1)
    begun = done = peak = 0.0
    with prompts.open() as file:
        for batch in engine.answer(_batches(file, size), sys.maxsize):
            begun = begun or time.perf_counter()
            done += len(batch.rows)
            peak = batch.peak_mib
    seconds = time.perf_counter() - begun
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(seconds * done / (done - size), ours, peak)


def _batches(lines: Iterator[str], size: int) -> Iterator[Batch]:
    row = 0
    while some := [json.loads(line) for line in islice(lines, size)]:
        yield Batch(list(range(row, row + len(some))), some)
        row += len(some)


main()
