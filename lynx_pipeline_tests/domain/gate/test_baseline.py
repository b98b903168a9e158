"""Reading the baseline and its scores: what is accepted, and what is refused with which message."""

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.domain.gate.baseline import Baseline, parse_baseline
from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.domain.scores import Score, buckets_to_json, read_buckets, read_scores
from lynx_pipeline.domain.strict_json import parse_object
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.builders import SHA, baseline_json, bucket, candidate_json, sha256


def parse(text: str) -> Baseline:
    """The baseline in ``text``."""
    return parse_baseline(text.encode(), "the file")


def one_bucket(text: str) -> Score:
    """The score in a bucket's JSON text."""
    values = parse_object(f'{{"d.a": {text}}}'.encode(), "the file")
    return read_buckets(values, "the file")["d.a"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("2", "0.02 is two percentage points.*write 0.02", id="2"),
        pytest.param("2.0", "0.02 is two percentage points.*write 0.02", id="2.0"),
        pytest.param("1", "fraction below 1", id="1"),
        pytest.param("1.0", "fraction below 1", id="1.0"),
        pytest.param("1e0", "fraction below 1", id="1e0"),
        pytest.param("1e399", "fraction below 1", id="huge with exponent"),
        pytest.param("9" * 400, "fraction below 1", id="huge"),
        pytest.param("true", "a number from 0 to 1, found true", id="true"),
        pytest.param("false", "a number from 0 to 1, found false", id="false"),
        pytest.param('"0.02"', "a number from 0 to 1", id="text"),
        pytest.param("-0.1", "a number from 0 to 1, found -0.1", id="negative"),
        pytest.param("-1e-300", "a number from 0 to 1", id="just negative"),
        pytest.param("null", "a number from 0 to 1, found null", id="null"),
        pytest.param("NaN", "NaN is not a number", id="NaN"),
        pytest.param("Infinity", "Infinity is not a number", id="Infinity"),
        pytest.param("[0.02]", "a list", id="list"),
        pytest.param("1e-999999999", "too large or too small", id="exponent bomb"),
    ],
)
def test_a_tolerance_that_is_not_a_fraction_is_refused(text: str, says: str) -> None:
    """The message names file and key; for points it suggests the fraction."""
    file = json.dumps(baseline_json()).replace("0.02", text, 1)
    with pytest.raises(BadInput, match=f"^the file.*{says}"):
        parse(file)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("0", Fraction(0), id="0"),
        pytest.param("0.0", Fraction(0), id="0.0"),
        pytest.param("-0.0", Fraction(0), id="minus zero"),
        pytest.param("0.02", Fraction(1, 50), id="0.02"),
        pytest.param("2e-2", Fraction(1, 50), id="2e-2"),
        pytest.param("0." + "9" * 60, 1 - Fraction(1, 10**60), id="many nines"),
    ],
)
def test_a_tolerance_is_exactly_what_is_written(text: str, value: Fraction) -> None:
    """Every digit counts; it is never rounded to a double."""
    file = json.dumps(baseline_json()).replace("0.02", text, 1)
    assert parse(file).tolerance == value


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"buckets": {}}, "buckets.*not empty", id="no buckets"),
        pytest.param({"buckets": [1]}, "buckets.*found a list", id="buckets a list"),
        pytest.param({"buckets": {"a": bucket(1, 2)}}, "<dimension>.<value>", id="no dimension"),
        pytest.param({"buckets": {"d.": bucket(1, 2)}}, "<dimension>.<value>", id="no value"),
        pytest.param({"buckets": {"d.a ": bucket(1, 2)}}, "<dimension>", id="trailing space"),
        pytest.param({"buckets": {"d.a\n": bucket(1, 2)}}, "<dimension>", id="newline"),
        pytest.param({"buckets": {"d.a": 0.5}}, "expected an object", id="bare number"),
        pytest.param({"buckets": {"d.a": {"accuracy": 0.5}}}, "'n' is missing", id="no n"),
        pytest.param({"buckets": {"d.a": {"n": 5}}}, "'accuracy' is missing", id="no accuracy"),
        pytest.param(
            {"buckets": {"d.a": {**bucket(1, 2), "waived": True}}}, "unknown", id="waiver"
        ),
        pytest.param({"force": True}, "'force'.*unknown", id="force"),
        pytest.param({"tolerance": 0.5}, "'tolerance'.*unknown", id="second tolerance"),
        pytest.param({"baseline_sha": ""}, "baseline_sha", id="empty sha"),
        pytest.param({"eval_set_dvc_hash": None}, "eval_set_dvc_hash", id="null hash"),
        pytest.param({"eval_set_sha256": ""}, "eval_set_sha256", id="empty sha256"),
        pytest.param({"scorer": "exact"}, "scorer 'exact' is unknown", id="unknown scorer"),
        pytest.param({"scorer": 1}, "'scorer'", id="scorer a number"),
        pytest.param({"latency_p95_ms": 0}, "latency_p95_ms.*more than 0", id="zero latency"),
        pytest.param({"latency_p95_ms": "1"}, "latency_p95_ms.*a number", id="latency a text"),
        pytest.param({"justification": 5}, "justification", id="justification a number"),
    ],
)
def test_a_malformed_baseline_is_refused(change: dict[str, Any], says: str) -> None:
    """Unknown keys are refused too, since one might be a rule that would not be applied."""
    with pytest.raises(BadInput, match=says):
        parse(json.dumps(baseline_json(**change)))


@pytest.mark.parametrize("key", ["eval_set_dvc_hash", "baseline_sha", "tolerance_pp", "buckets"])
def test_a_missing_key_is_refused_by_name(key: str) -> None:
    """There are no defaults, because the baseline is a policy."""
    values = baseline_json()
    del values[key]
    with pytest.raises(BadInput, match=key):
        parse(json.dumps(values))


def test_optional_keys_may_be_absent_or_null() -> None:
    """The optional keys are ``correct``, the sha256, lineage and justification."""
    values = baseline_json({"d.a": {"accuracy": 0.81, "n": 240}})
    raw = json.dumps(values).encode()
    found = parse_baseline(raw, "the file")
    assert found == Baseline(
        sha256=sha256(raw),
        eval_set_dvc_hash=values["eval_set_dvc_hash"],
        eval_set_sha256=None,
        scorer=EXACT,
        baseline_sha=SHA,
        previous_baseline_sha=None,
        tolerance=Fraction(1, 50),
        latency_p95_ms=None,
        justification=None,
        buckets={"d.a": Score(Fraction(81, 100), 240)},
    )
    latency = parse(json.dumps({**values, "latency_p95_ms": 0.25}))
    assert (latency.latency_p95_ms, latency.latency_budget_ms) == (0.25, 0.5)
    assert (found.latency_budget_ms, found.scorer) == (None, EXACT)
    nulls = {"eval_set_sha256": None, "previous_baseline_sha": None, "justification": None}
    assert parse(json.dumps({**values, **nulls})).buckets == found.buckets


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param('{"accuracy": 0.9, "n": 100, "correct": 70}', "disagree", id="off by far"),
        pytest.param('{"accuracy": 0.90, "n": 1000, "correct": 906}', "disagree", id="off by 6"),
        pytest.param('{"accuracy": 0.8083334, "n": 240, "correct": 194}', "disagree", id="rounded"),
        pytest.param('{"accuracy": 1, "n": 100, "correct": 99}', "disagree", id="1 is exact"),
        pytest.param('{"accuracy": 1e0, "n": 100, "correct": 99}', "disagree", id="1e0 is exact"),
        pytest.param('{"accuracy": 1e0, "n": 100, "correct": 50}', "disagree", id="half of 1e0"),
        pytest.param('{"accuracy": 0e5, "n": 100, "correct": 100}', "disagree", id="0e5"),
        pytest.param('{"accuracy": 0, "n": 100, "correct": 1}', "disagree", id="0 is exact"),
        pytest.param('{"accuracy": 1.0, "n": 5, "correct": 6}', "6 correct out of 5", id="more"),
        pytest.param('{"accuracy": 0.5, "n": 2, "correct": -1}', "correct", id="negative"),
        pytest.param('{"accuracy": 0.5, "n": 2, "correct": 1.0}', "whole", id="correct a fraction"),
        pytest.param('{"accuracy": 0.5, "n": 2, "correct": null}', "correct", id="correct null"),
        pytest.param('{"accuracy": 0.5, "n": 2, "correct": true}', "correct", id="correct true"),
        pytest.param('{"accuracy": 0.5, "n": 2.0}', "whole number, 1 or more", id="n a fraction"),
        pytest.param('{"accuracy": 0.5, "n": 0}', "whole number, 1 or more", id="n 0"),
        pytest.param('{"accuracy": 0.5, "n": -240}', "whole number, 1 or more", id="n negative"),
        pytest.param('{"accuracy": 0.5, "n": true}', "whole number, 1 or more", id="n true"),
        pytest.param('{"accuracy": 0.5, "n": "2"}', "whole number, 1 or more", id="n text"),
        pytest.param('{"accuracy": 1.0000001, "n": 2}', "from 0 to 1", id="above 1"),
        pytest.param('{"accuracy": 81, "n": 100}', "from 0 to 1", id="percent"),
        pytest.param('{"accuracy": -0.1, "n": 2}', "from 0 to 1", id="below 0"),
        pytest.param('{"accuracy": true, "n": 2}', "from 0 to 1", id="accuracy true"),
        pytest.param('{"accuracy": "0.5", "n": 2}', "from 0 to 1", id="accuracy text"),
        pytest.param('{"accuracy": null, "n": 2}', "from 0 to 1", id="accuracy null"),
    ],
)
def test_an_impossible_score_is_refused(text: str, says: str) -> None:
    """An accuracy that disagrees with the counts is refused too."""
    with pytest.raises(BadInput, match=f"d.a.*{says}"):
        one_bucket(text)


@pytest.mark.parametrize(
    "accuracy", ["0.8", "0.81", "0.808", "0.8083", "0.8083333333333333", "8.083e-1"]
)
def test_an_accuracy_agrees_at_its_own_precision(accuracy: str) -> None:
    """The score is then taken from the counts, not from the accuracy's digits."""
    found = one_bucket(f'{{"accuracy": {accuracy}, "n": 240, "correct": 194}}')
    assert found == Score(Fraction(194, 240), 240, 194)


@pytest.mark.slow
def test_the_shortest_double_always_agrees() -> None:
    """For every k of every n up to 400, the accuracy we write is accepted when read."""
    for n in range(1, 401):
        given = {f"d.{k}": Score.counted(k, n) for k in range(n + 1)}
        raw = json.dumps(buckets_to_json(given)).encode()
        assert read_buckets(parse_object(raw, "f"), "f") == given


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,5}\.[a-z0-9_]{1,9}", fullmatch=True),
        st.integers(1, 10**9).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
        min_size=1,
    )
)
def test_written_scores_read_back_equal(pairs: dict[str, tuple[int, int]]) -> None:
    """Any counts survive writing and reading the file."""
    scores = {name: Score.counted(k, n) for name, (k, n) in pairs.items()}
    raw = json.dumps(candidate_json(buckets_to_json(scores))).encode()
    assert read_scores(parse_object(raw, "f"), "f").buckets == scores


def test_only_scores_with_counts_are_written() -> None:
    """A score without counts would be rounded and read back as a different one."""
    with pytest.raises(ValueError, match="no count of correct answers"):
        buckets_to_json({"d.a": Score(Fraction(1, 3), 3)})


@given(st.decimals(0, 1, places=12, allow_nan=False))
def test_without_counts_the_accuracy_is_used_exactly_as_written(accuracy: Decimal) -> None:
    """Every digit counts."""
    text = f"{accuracy:f}"
    assert one_bucket(f'{{"accuracy": {text}, "n": 7}}').accuracy == Fraction(text)
