"""Bundles whose process says what a test wants, well or badly, in the worker's place."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from lynx_pipeline.config import Limits
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.sandbox.isolation import Isolation, choose_isolation
from lynx_pipeline.sandbox.workers import Answered, Batch, Local

PROMPTS = [f"Say word{k}" for k in range(12)]
LIMITS = Limits(batch_size=5, batch_seconds=20, load_seconds=60, total_seconds=60, output_mib=1)
QUICK = Limits(batch_size=5, batch_seconds=1, load_seconds=10, total_seconds=15, output_mib=1)

SCRIPT = """
import json, os, signal, sys, time
def say(**message):
    print(json.dumps(message), flush=True)
{first}
say(ready=0.5)
for line in sys.stdin:
    batch = json.loads(line)
    ids, prompts = batch["ids"], batch["prompts"]
    answers = [prompt.removeprefix("Say ") for prompt in prompts]
    seconds, peak = 0.25, 1.5
    {each}
    say(ids=ids, predictions=answers, seconds=seconds, peak_mib=peak)
{last}
"""


def isolation() -> Isolation:
    """The best that works here."""
    return choose_isolation(Env.DEV, (), lambda _: None)


def batches(prompts: Sequence[str], size: int) -> Iterator[Batch]:
    """The prompts, cut into batches; their rows are their places."""
    for start in range(0, len(prompts), size):
        some = list(prompts[start : start + size])
        yield Batch(list(range(start, start + len(some))), some)


def asked(
    folder: Path,
    limits: Limits = LIMITS,
    prompts: Sequence[str] = PROMPTS,
    workers: int = 1,
    chosen: Isolation | None = None,
) -> list[Answered]:
    """All questions to the bundle in ``folder``."""
    engine = Local(folder, chosen or isolation(), limits, workers)
    return list(engine.answer(batches(prompts, limits.batch_size), len(prompts)))


def ask(
    folder: Path,
    limits: Limits = LIMITS,
    prompts: Sequence[str] = PROMPTS,
    workers: int = 1,
    chosen: Isolation | None = None,
) -> list[str | None]:
    """The answers, in the order of the questions."""
    found: dict[int, str | None] = {}
    for batch in asked(folder, limits, prompts, workers, chosen):
        found.update(zip(batch.rows, batch.answers, strict=True))
    return [found[row] for row in range(len(prompts))]


def speaks(stranger: Path, first: str = "", each: str = "pass", last: str = "") -> Path:
    """Write the script."""
    text = SCRIPT.format(first=first, each=each, last=last)
    stranger.with_name("script.py").write_text(text)
    return stranger
