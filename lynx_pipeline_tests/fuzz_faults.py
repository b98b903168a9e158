"""The malformed input of :mod:`lynx_pipeline_tests.fuzz`: random changes, and deliberate faults."""

import json
import random
from collections.abc import Callable
from typing import Any

Fault = Callable[[random.Random, bytes], bytes | None]

BUCKET = {"accuracy": 0.95, "n": 60, "correct": 57}


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
