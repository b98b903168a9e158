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

from lynx_pipeline.adapters.dvc_data import tracked_hash
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
from lynx_pipeline_tests.support.builders import evidence

Fault = Callable[[random.Random, bytes], bytes | None]


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


BUCKET = {"accuracy": 0.95, "n": 60, "correct": 57}
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
PROJECT = b"""[tool.lynx_pipeline]
model = "m"
eval_set = "e.jsonl"
baseline = "b.json"
price_per_hour = 0.05

[tool.lynx_pipeline.evaluation]
batch_size = 64
"""


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


def mutated(rng: random.Random, good: bytes) -> bytes:
    """``good`` with a few bytes changed, inserted, removed or repeated."""
    data = bytearray(good)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0 if data:
                data[at % len(data)] = rng.randrange(256)
            case 1:
                data[at:at] = bytes([rng.randrange(256)])
            case 2:
                del data[at : at + rng.randint(1, 8)]
            case 3:
                data[at:at] = data[at : at + rng.randint(1, 40)]
            case 4:
                data[at:at] = rng.choice(_NASTY)
            case _:
                data[at : at + 1] = rng.choice(_DIGITS)
    return bytes(data)


_NASTY = [
    b"NaN", b"Infinity", b"-Infinity", b"1e400", b"1e-999999999", b"9" * 5000, b"[" * 3000, b"{",
    b'"\\ud800"', b"\xff\xfe", b"\xef\xbb\xbf", b"\x00", b"null", b"true", b"-0", b"0.0", b'"a":1,',
    b"*x", b"&x ", b"!!python/object:os.system ", b"2026-01-01", b"\r\n", b"${{", b"`id`",
]  # fmt: skip
_DIGITS = [bytes([c]) for c in b"0123456789.-+eE"]


def random_place(rng: random.Random, value: Any) -> tuple[Any, Any]:
    """A random container inside a JSON value, and a key or index in it."""
    places: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        container = waiting.pop()
        keys: Any = container if isinstance(container, dict) else range(len(container))
        for key in keys:
            places.append((container, key))
            if isinstance(container[key], dict | list):
                waiting.append(container[key])
    return rng.choice(places)


def duplicate_key(rng: random.Random, good: bytes) -> bytes:
    """One object gets a duplicate of one of its keys."""
    value = json.loads(good)
    container, key = random_place(rng, value)
    while not isinstance(container, dict):
        container, key = random_place(rng, value)
    again = json.dumps({key: container[key]})[1:-1]
    container["\u0000here"] = 0
    return json.dumps(value).replace('"\\u0000here": 0', again).encode()


def not_a_number(rng: random.Random, good: bytes) -> bytes:
    """A value becomes NaN or an infinity."""
    value = json.loads(good)
    container, key = random_place(rng, value)
    container[key] = float(rng.choice(["nan", "inf", "-inf"]))
    return json.dumps(value).encode()


def truncate(rng: random.Random, good: bytes) -> bytes:
    """The text ends early, somewhere before its last bracket."""
    return good[: rng.randrange(1, len(good.rstrip()) - 1)]


def in_bucket(**change: Any) -> Fault:
    """One bucket's score gets these values; None drops the key."""

    def fault(rng: random.Random, good: bytes) -> bytes:
        value = json.loads(good)
        bucket = value["buckets"][rng.choice(sorted(value["buckets"]))]
        for key, new in change.items():
            bucket.pop(key, None) if new is None else bucket.update({key: new})
        return json.dumps(value).encode()

    return fault


def at_top(key: str, *values: Any) -> Fault:
    """The key gets one of the values; without values it is dropped."""

    def fault(rng: random.Random, good: bytes) -> bytes:
        value = json.loads(good)
        if values:
            value[key] = rng.choice(values)
        else:
            del value[key]
        return json.dumps(value).encode()

    return fault


JSON_FAULTS: tuple[Fault, ...] = (duplicate_key, not_a_number, truncate)
SCORE_FAULTS: tuple[Fault, ...] = (
    in_bucket(accuracy=1.01),
    in_bucket(accuracy=-0.01),
    in_bucket(accuracy="0.9"),
    in_bucket(accuracy=True),
    in_bucket(accuracy=None),
    in_bucket(n=0),
    in_bucket(n=-60),
    in_bucket(n=60.5),
    in_bucket(n=True),
    in_bucket(n=None),
    in_bucket(correct=-1),
    in_bucket(correct=10**9),
    in_bucket(correct=3),
    in_bucket(weight=2),
    at_top("buckets", {}, [], None, "all", {"nodot": BUCKET}, {"d.": BUCKET}, {"d.a": [1]}),
    at_top("buckets"),
    at_top("eval_set_dvc_hash", "", None, 5, [], "  "),
    at_top("eval_set_dvc_hash"),
)


def ledger_fault(rng: random.Random, good: bytes) -> bytes:
    """One bit of a committed line is flipped, or a line is removed, repeated or moved."""
    lines = good.splitlines(keepends=True)
    match rng.randrange(4):
        case 0:
            data = bytearray(good)
            at = rng.randrange(
                len(good) - 1
            )  # the last newline stays: without it the line is torn, not damaged
            data[at] ^= 1 << rng.randrange(8)
            return bytes(data)
        case 1:
            del lines[rng.randrange(len(lines) - 1)]
        case 2:
            at = rng.randrange(len(lines))
            lines.insert(at, lines[at])
        case _:
            lines[0], lines[1] = lines[1], lines[0]
    return b"".join(lines)


def comment_fault(rng: random.Random, good: bytes) -> bytes:
    """Something that resembles a request is added, or the request is malformed."""
    return rng.choice(
        [
            good + good,
            good + b"semver=v9.9.9\n",
            good.replace(b"mlflow_run_id", b"mlflow_run_id "),
            good.replace(b"semver=", b"semver ="),
            good.replace(b"aaaa", b"a$aa", 1),
            good.replace(b"a semver", b"a model=x semver"),
            good.replace(b"v0.3.1", b"v0.3.1;id"),
            good.replace(b"v0.3.1", b"$(id)"),
            good.replace(b"v0.3.1", b"v0.3.1 semver=v0.3.2"),
            good.replace(b"v0.3.1", "v０.3.1".encode()),  # noqa: RUF001  # a look-alike digit
            good.replace(b" semver", "\u00a0semver".encode()),
            good.replace(b"\n\n", b" "),
            good + b"x" * 70_000,
            b"",
        ]
    )


def dvc_fault(rng: random.Random, good: bytes) -> bytes:
    """A different output, or a different, malformed or missing hash."""
    return rng.choice(
        [
            good.replace(b"e.jsonl", b"other.jsonl"),
            good.replace(b"7777", b"777", 1),
            good.replace(b"7777", b"zzzz", 1),
            good.replace(b"md5: 7", b"sha: 7"),
            good + good[6:],
            b"outs: []\n",
            b"",
        ]
    )


def project_fault(rng: random.Random, good: bytes) -> bytes:
    """A key is unknown, missing, of the wrong type, or out of range."""
    return rng.choice(
        [
            good.replace(b"price_per_hour", b"prize_per_hour"),
            good.replace(b"batch_size = 64", b"batch_size = 0"),
            good.replace(b"batch_size = 64", b"batch_size = true"),
            good.replace(b"batch_size = 64", b'batch_size = "64"'),
            good.replace(b"batch_size", b"batch"),
            good.replace(b'model = "m"\n', b""),
            good.replace(b'"m"', b"5"),
            good.replace(b'"m"', b'"m'),
            good + b"\xff",
            b"",
        ]
    )


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
    Target(".dvc file", lambda raw: tracked_hash(raw, "f", "e.jsonl"), DVC_FILE, (dvc_fault,)),
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
