"""Feeds malformed input to every parser of a file or of untrusted text, and counts the outcomes.

``python -m lynx_pipeline_tests.fuzz 20000`` prints a table: how many inputs each parser got, how
many it refused with BadInput, how many raised any other exception (tracebacks), and how many bad
inputs it accepted (wrong accepts).

There are two kinds of input. Random changes to the bytes of a valid file, where only tracebacks are
failures; and a valid file with one deliberate fault, where accepting it is a failure too.
"""

import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lynx_pipeline.adapters.dvc_files import find
from lynx_pipeline.config import load_settings
from lynx_pipeline.domain.bundle import parent_sha, stable_mlmodel
from lynx_pipeline.domain.candidate_eval import parse_candidate_eval
from lynx_pipeline.domain.eval_set import parse_eval_set
from lynx_pipeline.domain.gate.baseline import parse_baseline
from lynx_pipeline.domain.ledger.chain import Ledger, parse_ledger
from lynx_pipeline.domain.ledger.facts import Promoted
from lynx_pipeline.domain.release.request import parse_comment
from lynx_pipeline.domain.scores import read_scores
from lynx_pipeline.domain.strict_json import parse_object
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation.storage.parquet import predictions_bytes, read_predictions
from lynx_pipeline_tests.fuzz_faults import (
    BUCKET,
    JSON_FAULTS,
    SCORE_FAULTS,
    Fault,
    at_top,
    comment_fault,
    dvc_fault,
    ledger_fault,
    mutated,
    project_fault,
)
from lynx_pipeline_tests.support.builders import evidence


@dataclass
class Tally:
    """The outcomes of one parser."""

    name: str
    tried: int = 0
    refused: int = 0
    tracebacks: int = 0
    wrong_accepts: int = 0
    example: bytes = b""


@dataclass(frozen=True)
class Target:
    """A parser, a valid input, and the faults that must be refused in it."""

    name: str
    parse: Callable[[bytes], Any]
    good: bytes
    faults: tuple[Fault, ...]


BASELINE = {
    "eval_set_dvc_hash": "0" * 32,
    "eval_set_sha256": "1" * 64,
    "baseline_sha": "2" * 64,
    "previous_baseline_sha": None,
    "tolerance_pp": 0.02,
    "justification": "Because.",
    "buckets": {"verb.go": BUCKET, "tense.past_simple": {"accuracy": 0.5, "n": 240}},
}
CANDIDATE = {
    "mlflow_run_id": "3" * 32,
    "canonical_sha": "4" * 64,
    "parent_sha": None,
    "eval_set_dvc_hash": "0" * 32,
    "eval_set_sha256": "1" * 64,
    "scorer": "normalised-exact-match/1",
    "n": 60,
    "correct": 57,
    "null_answers": 0,
    "predictions_sha256": "5" * 64,
    "isolation": "none",
    "measured": {"seconds": 1.5},
    "buckets": {"verb.go": BUCKET},
}
ITEM = {
    "id": "go-1",
    "prompt": "He ___ (go).",
    "expected": "goes",
    "accept": ["went"],
    "buckets": {"tense": "present_simple", "verb": "go"},
}
COMMENT = b"Please promote this.\n\nmlflow_run_id=" + b"a" * 32 + b" semver=v0.3.1\n"
MLMODEL = b"flavors:\n  python_function:\n    loader_module: x\nmodel_uuid: abc\nrun_id: def\n"


DVC_FILE = b"outs:\n- md5: " + b"7" * 32 + b"\n  size: 12\n  hash: md5\n  path: e.jsonl\n"
DVC_LOCK = b"schema: '2.0'\nstages:\n  make:\n    cmd: x\n    outs:\n" + b"".join(
    f"    {line}\n".encode() for line in DVC_FILE.decode().splitlines()[1:]
)
PROJECT = b"""[tool.lynx_pipeline]
model = "m"
eval_set = "e.jsonl"
baseline = "b.json"
price_per_hour = 0.05

[tool.lynx_pipeline.evaluation]
batch_size = 64
"""


@dataclass(frozen=True)
class OneFile:
    """A project with a single file, beside a ``dvc.yaml`` with the stage ``make``."""

    name: str
    raw: bytes

    def read(self, file: Path) -> bytes | None:
        if file.name == "dvc.yaml":
            return b"stages:\n  make: {cmd: x}\n"
        return self.raw if file.name == self.name else None

    def locks(self, root: Path) -> tuple[Path, ...]:
        return ()


def read_record(name: str) -> Callable[[bytes], object]:
    """A parser of the file that tracks an eval set."""
    return lambda raw: find(Path("/nowhere/e.jsonl"), OneFile(name, raw))


def read_project(raw: bytes) -> object:
    """Settings from a pyproject.toml with these bytes."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pyproject.toml").write_bytes(raw)
        return load_settings(Path(folder), {})


def ledger_bytes() -> bytes:
    """A ledger of three promotions."""
    ledger = Ledger()
    for number in range(3):
        fact = Promoted(
            time=f"2026-01-0{number + 1}T00:00:00Z",
            env=Env.DEV,
            model="m",
            mlflow_run_id="6" * 32,
            artifact_uri="models:/m-1",
            canonical_sha=str(number) * 64,
            semver=f"v0.{number}.0-dev",
            evidence=evidence(),
            cpqu=1.5,
        )
        entry = ledger.next_entry(fact)
        ledger = Ledger((*ledger.entries, entry), ledger.size + len(entry.to_line()))
    return b"".join(entry.to_line() for entry in ledger.entries)


TARGETS = (
    Target(
        "eval_baseline.json",
        lambda raw: parse_baseline(raw, "f"),
        json.dumps(BASELINE).encode(),
        (
            *JSON_FAULTS,
            *SCORE_FAULTS,
            at_top("tolerance_pp", 2, 1, 2.0, -0.02, "0.02", True, None, []),
            at_top("tolerance_pp"),
            at_top("baseline_sha", "", None, 7),
            at_top("floor", 0.5),
        ),
    ),
    Target(
        "candidate_eval.json, for compare",
        lambda raw: read_scores(parse_object(raw, "f"), "f"),
        json.dumps(CANDIDATE).encode(),
        (*JSON_FAULTS, *SCORE_FAULTS),
    ),
    Target(
        "candidate_eval.json, for promotion",
        lambda raw: parse_candidate_eval(raw, "f"),
        json.dumps(CANDIDATE).encode(),
        (
            *JSON_FAULTS,
            *SCORE_FAULTS,
            at_top("canonical_sha", "", None, 1),
            at_top("n", 0, -1, "60", 6.5),
            at_top("measured", {}, [], {"seconds": "fast"}),
        ),
    ),
    Target(
        "eval set",
        lambda raw: list(parse_eval_set(raw.split(b"\n"), "f")),
        json.dumps(ITEM).encode(),
        (
            *JSON_FAULTS,
            lambda rng, good: good + b"\n" + good,
            at_top("id", "", None, 5),
            at_top("prompt", "", None, []),
            at_top("expected", "", ".", None, ["goes"]),
            at_top("accept", "went", [""], [None], {}),
            at_top("buckets", {}, [], {"a.b": "c"}, {"a": ""}, {"a": 1}, {"a": " x"}),
            at_top("acept", ["went"]),
        ),
    ),
    Target("ledger", lambda raw: parse_ledger(raw, "f"), ledger_bytes(), (ledger_fault,)),
    Target(
        "predictions.parquet",
        lambda raw: read_predictions(raw, "f", 99),
        predictions_bytes(["a", "b"], ["went", None]),
        (lambda rng, good: good[: rng.randrange(len(good))],),
    ),
    Target(".dvc file", read_record("e.jsonl.dvc"), DVC_FILE, (dvc_fault,)),
    Target("dvc.lock", read_record("dvc.lock"), DVC_LOCK, (dvc_fault,)),
    Target("pyproject.toml", read_project, PROJECT, (project_fault,)),
    Target("request comment", parse_comment, COMMENT, (comment_fault,)),
    Target("MLmodel", stable_mlmodel, MLMODEL, ()),
    Target(
        "train_manifest.json",
        lambda raw: parent_sha(raw, "f"),
        b'{"parent_sha": "ab"}',
        (*JSON_FAULTS, at_top("parent_sha", "", 5, [], {})),
    ),
)


def inputs(target: Target, rng: random.Random, count: int) -> Iterator[tuple[bytes, bool]]:
    """At most ``count`` inputs for the parser, each with whether it is known to be bad."""
    for number in range(count):
        if target.faults and number % 2:
            raw = rng.choice(target.faults)(rng, target.good)
            if raw is not None:
                yield raw, True
        else:
            yield mutated(rng, target.good), False


def run(target: Target, count: int, seed: int) -> Tally:
    """Try ``count`` inputs on one parser."""
    tally = Tally(target.name)
    target.parse(target.good)  # it must accept the valid input, or its refusals prove nothing
    for raw, bad in inputs(target, random.Random(f"{seed} {target.name}"), count):
        tally.tried += 1
        try:
            target.parse(raw)
        except BadInput:
            tally.refused += 1
        except Exception:
            tally.tracebacks += 1
            tally.example = raw
        else:
            if bad:
                tally.wrong_accepts += 1
                tally.example = raw
    return tally


def main(arguments: list[str]) -> int:
    """Print the table; return 1 if there was a traceback or a wrong accept."""
    count = int(arguments[0]) if arguments else 20_000
    seed = int(arguments[1]) if len(arguments) > 1 else 1
    print(f"{'parser':<36}{'inputs':>9}{'refused':>9}{'tracebacks':>12}{'wrong accepts':>15}")
    failed = False
    for target in TARGETS:
        tally = run(target, count, seed)
        print(
            f"{tally.name:<36}{tally.tried:>9}{tally.refused:>9}{tally.tracebacks:>12}"
            f"{tally.wrong_accepts:>15}"
        )
        if tally.tracebacks or tally.wrong_accepts:
            failed = True
            print(f"  for example {tally.example[:300]!r}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
