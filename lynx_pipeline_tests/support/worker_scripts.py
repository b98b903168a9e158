"""Scripts that replace the worker and follow or violate its protocol; and helpers that run a bundle
on prompts."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from lynx_pipeline.config import Limits
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.sandbox.engine import Answered, Batch, Form
from lynx_pipeline.sandbox.isolation import Isolation, choose_isolation
from lynx_pipeline.sandbox.local import Local

NO_FORM = Form()
PROMPTS = [f"Say word{k}" for k in range(12)]
LIMITS = Limits(batch_size=5, batch_seconds=20, load_seconds=60, total_seconds=60, output_mib=1)
QUICK = Limits(batch_size=5, batch_seconds=1, load_seconds=10, total_seconds=15, output_mib=1)

SCRIPT = """
import json, os, signal, sys, time
def send(**message):
    print(json.dumps(message), flush=True)
{first}
send(ready=0.5)
for line in sys.stdin:
    batch = json.loads(line)
    ids, prompts = batch["ids"], batch["prompts"]
    answers = [prompt.removeprefix("Say ") for prompt in prompts]
    seconds, peak = 0.25, 1.5
    {each}
    send(ids=ids, predictions=answers, seconds=seconds, peak_mib=peak)
{last}
"""


def isolation() -> Isolation:
    """The best isolation that works on this machine."""
    return choose_isolation(Env.DEV, (), lambda _: None)


def batches(prompts: Sequence[str], size: int) -> Iterator[Batch]:
    """The prompts in batches; a prompt's row is its index."""
    for start in range(0, len(prompts), size):
        batch = list(prompts[start : start + size])
        yield Batch(list(range(start, start + len(batch))), batch)


def ask_batches(
    folder: Path,
    limits: Limits = LIMITS,
    prompts: Sequence[str] = PROMPTS,
    workers: int = 1,
    chosen: Isolation | None = None,
    form: Form = NO_FORM,
) -> list[Answered]:
    """Run the bundle in ``folder`` on all prompts; returns the batches in order of arrival."""
    engine = Local(folder, chosen or isolation(), limits, workers, form)
    return list(engine.answer(batches(prompts, limits.batch_size), len(prompts)))


def ask(
    folder: Path,
    limits: Limits = LIMITS,
    prompts: Sequence[str] = PROMPTS,
    workers: int = 1,
    chosen: Isolation | None = None,
    form: Form = NO_FORM,
) -> list[str | None]:
    """Run the bundle on all prompts; returns the answers in the order of the prompts."""
    answers: dict[int, str | None] = {}
    for batch in ask_batches(folder, limits, prompts, workers, chosen, form):
        answers.update(zip(batch.rows, batch.answers, strict=True))
    return [answers[row] for row in range(len(prompts))]


def write_script(scripted: Path, first: str = "", each: str = "pass", last: str = "") -> Path:
    """Write the script of the bundle ``scripted``: it runs ``first``, then ``each`` per batch,
    then ``last``."""
    text = SCRIPT.format(first=first, each=each, last=last)
    scripted.with_name("script.py").write_text(text)
    return scripted
