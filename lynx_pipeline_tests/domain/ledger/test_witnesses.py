"""Which checkpoints of witnesses count."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from lynx_pipeline.domain.ledger.chain import Ledger
from lynx_pipeline.domain.ledger.tree_head import TreeHead, tree_head
from lynx_pipeline.domain.ledger.witnesses import problems, require
from lynx_pipeline.domain.release.witnesses import WitnessPolicy
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.builders import chain, promoted
from lynx_pipeline_tests.support.signing import cosign, witness_key

NAMES = ("w1", "w2", "w3")
NOW = 1_800_000_000.0
HOUR = 3600.0
LEDGER = chain(*(promoted(f"v0.{number}.0-dev") for number in range(1, 6)))
FORK = chain(*(promoted(f"v0.{number}.0-dev") for number in (1, 2, 3, 4, 7)))
POLICY = WitnessPolicy(tuple(map(witness_key, NAMES)), 2, 48.0)


def head(size: int, ledger: Ledger = LEDGER, model: str = "tiny") -> TreeHead:
    """What a witness signs of a ledger."""
    return tree_head(ledger, model, size)


def check(
    published: Mapping[str, bytes], ledger: Ledger = LEDGER, policy: WitnessPolicy = POLICY
) -> Mapping[str, str]:
    """The witnesses that don't count for a reader that requires them."""
    ledger = replace(ledger, checkpoints=tuple(published.items()))
    found = problems(ledger, "tiny", policy, NOW, "there")
    require(found, policy, "there")
    return found


def published(hours: Mapping[str, float], size: int = 5) -> dict[str, bytes]:
    """What these witnesses signed so many hours ago."""
    return {name: cosign(head(size), name, NOW - ago * HOUR) for name, ago in hours.items()}


def test_enough_fresh_checkpoints_are_enough() -> None:
    """Two of three. They may be of the ledger as it was before its last entries."""
    assert check(published({"w1": 0, "w2": 1, "w3": 47.9})) == {}
    assert list(check(published({"w1": 0, "w3": 47}, size=2))) == ["w2"]


@pytest.mark.parametrize("required", [1, 2, 3])
@pytest.mark.parametrize("fresh", [0, 1, 2, 3])
def test_as_many_count_as_are_required(required: int, fresh: int) -> None:
    """Each number of each."""
    made, policy = published(dict.fromkeys(NAMES[:fresh], 1)), replace(POLICY, required=required)
    if fresh >= required:
        assert list(check(made, policy=policy)) == list(NAMES[fresh:])
        return
    with pytest.raises(BadInput, match=f"only {fresh} of 3 witnesses .* requires {required}"):
        check(made, policy=policy)


def test_the_error_names_each_witness_that_does_not_count() -> None:
    """And what to do."""
    made = published({"w1": 1, "w2": 50})
    with pytest.raises(BadInput) as caught:
        check(made)
    assert str(caught.value) == (
        "there: only 1 of 3 witnesses have a recent checkpoint here, and "
        "[tool.lynx_pipeline.witnesses] requires 2. w2: its checkpoint is of 2027-01-13T06:00:00Z, "
        "more than 48 hours ago. w3: it has published no checkpoint here. Run 'lynx-pipeline "
        "registry witness' on these machines. If it succeeds, and this stays so, somebody "
        "withholds the checkpoints or shows an old state of the registry."
    )


GOOD = published({"w2": 1, "w3": 1})


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"garbage", "something else is in the place", id="garbage"),
        pytest.param(cosign(head(5), "w2", NOW), "w1 has not signed it", id="another's"),
        pytest.param(
            cosign(head(5), "w2", NOW).replace(b"w2", b"w1"), "w1 has not signed it", id="renamed"
        ),
        pytest.param(
            cosign(head(5, model="other"), "w1", NOW), "of 'lynx-pipeline/other'", id="other model"
        ),
        pytest.param(
            cosign(head(5), "w1", NOW - 48.1 * HOUR), "more than 48 hours ago", id="stale"
        ),
        pytest.param(cosign(head(5), "w1", 0), "of 1970-01-01T00:00:00Z", id="the beginning"),
        pytest.param(cosign(head(5), "w1", NOW + 601), "in the future", id="future"),
        pytest.param(cosign(head(5), "w1", 2**62), "of second 4611686", id="far future"),
    ],
)
def test_a_checkpoint_that_does_not_count_is_named(raw: bytes, reason: str) -> None:
    """It is no alarm if enough others count: anybody who can push may have put it there."""
    found = check({**GOOD, "w1": raw})
    assert list(found) == ["w1"]
    assert reason in found["w1"]
    with pytest.raises(BadInput, match=r"only 2 of 3 witnesses .* requires 3"):
        check({**GOOD, "w1": raw}, policy=replace(POLICY, required=3))


def test_a_clock_that_is_a_little_ahead_is_no_problem() -> None:
    """Ten minutes."""
    assert check({**GOOD, "w1": cosign(head(5), "w1", NOW + 599)}) == {}


@pytest.mark.parametrize("hours", [0, 1000])
@pytest.mark.parametrize(
    ("ledger", "signed"),
    [
        pytest.param(Ledger(LEDGER.entries[:4]), head(5), id="wound back"),
        pytest.param(Ledger(), head(1), id="empty"),
        pytest.param(FORK, head(5), id="another of the same length"),
        pytest.param(LEDGER, head(5, FORK), id="another"),
        pytest.param(LEDGER, head(5, FORK), id="signed by one only"),
        pytest.param(LEDGER, TreeHead("lynx-pipeline/tiny", 10**15, bytes(32)), id="huge"),
    ],
)
def test_a_contradiction_is_an_error_however_old_it_is(
    ledger: Ledger, signed: TreeHead, hours: float
) -> None:
    """And whatever the others say."""
    raw = cosign(signed, "w1", NOW - hours * HOUR)
    others = {name: cosign(head(len(ledger.entries), ledger), name, NOW) for name in ("w2", "w3")}
    with pytest.raises(BadInput, match=r"does not extend the first .* that the witness w1 signed"):
        check({**others, "w1": raw}, ledger)


def test_checkpoints_of_others_are_ignored() -> None:
    """Of names that the settings don't trust."""
    assert check({**GOOD, "w1": GOOD["w2"], "w4": cosign(head(5, FORK), "w4", NOW)}) != {}
