"""JSON that is as long as allowed, or longer: whatever is in it, it is read or refused at once."""

import pytest

from lynx_pipeline.domain.candidate_eval import parse_candidate_eval
from lynx_pipeline.domain.scores import read_scores
from lynx_pipeline.domain.strict_json import LONGEST, parse, parse_object
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.bounded import refusal

PARTS = {
    "lists": "[],",
    "objects": "{},",
    "objects with a key": '{"a":1},',
    "fractions": "1.5,",
    "long integers": "1" * 4300 + ",",
    "escapes": '"\\u00e9",',
}


def full(part: str) -> bytes:
    """A list of as many parts as are allowed."""
    return f"[{part * ((LONGEST - 3) // len(part))}1]".encode()


@pytest.mark.slow
@pytest.mark.parametrize("kind", PARTS)
def test_the_longest_json_takes_little_time_and_memory(kind: str) -> None:
    """Each kind of value, as often as it fits."""
    says = "expected a JSON object"
    assert says in refusal(parse_candidate_eval, full(PARTS[kind]), "candidate_eval.json")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("raw", "says"),
    [
        pytest.param(b"[" * LONGEST, "nested too deeply", id="deep"),
        pytest.param(b"1" * LONGEST, "4300 digits", id="a huge integer"),
        pytest.param(b"1." + b"1" * (LONGEST - 2), "too large or too small", id="a huge fraction"),
        pytest.param(
            b'{"%s": 1, "%s": 2}' % (b"k" * 10**6, b"k" * 10**6), "duplicate key", id="a huge key"
        ),
        pytest.param(
            b'{"eval_set_dvc_hash": "x", "buckets": {"%s": 1}}' % (b"b" * 10**6),
            "it has no dot",
            id="a huge bucket name",
        ),
    ],
)
def test_hostile_json_is_refused_at_once(raw: bytes, says: str) -> None:
    """The message stays short."""
    assert says in refusal(scores, raw)


def scores(raw: bytes) -> None:
    """Read the scores in a candidate's evaluation."""
    read_scores(parse_object(raw, "f"), "f")


def test_longer_json_is_not_parsed() -> None:
    """Not even valid JSON."""
    assert parse(full("1,"), "f")
    with pytest.raises(BadInput, match=r"^f: has 4194305 bytes, expected at most 4194304\.$"):
        parse(b" " * LONGEST + b"1", "f")
