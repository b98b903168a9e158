"""Which versions a promotion may use, and which entries count."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.facts import Fact, Promoted
from lynx_pipeline.domain.ledger.state import check_promotion, replay
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import Refused
from lynx_pipeline_tests.support import builders
from lynx_pipeline_tests.support.builders import (
    PROMOTED,
    REGISTERED,
    ROLLED_BACK,
    SHA,
    chain,
    fact,
    rolled_back,
)

A, B = "a" * 64, "b" * 64


def promoted(semver: str, sha: str = SHA, env: Env = Env.DEV, **changes: Any) -> Promoted:
    """A promotion."""
    return builders.promoted(semver, canonical_sha=sha, env=env, **changes)


numbers = st.tuples(*[st.integers(0, 10**9 - 1)] * 3)


@given(numbers, numbers)
def test_prod_versions_must_increase(
    first: tuple[int, int, int], second: tuple[int, int, int]
) -> None:
    """Versions are compared as numbers, not as text: v0.10.0 comes after v0.9.0."""
    old, new = ("v{}.{}.{}".format(*parts) for parts in (first, second))
    ledger = chain(promoted(old, A, Env.PROD))
    if second > first:
        assert check_promotion(ledger, Env.PROD, "tiny", B, new, None, {}) is None
    else:
        with pytest.raises(Refused):
            check_promotion(ledger, Env.PROD, "tiny", B, new, None, {})


def test_a_version_is_never_reused() -> None:
    """A version names one bundle forever, even after a rollback and in the other environment."""
    done = promoted("v0.1.0-dev", A)
    ledger = chain(done, promoted("v0.2.0-dev", B), rolled_back(done))
    assert check_promotion(ledger, Env.DEV, "tiny", A, "v0.1.0-dev", None, {}) is ledger.entries[0]
    with pytest.raises(Refused, match="never reused"):
        check_promotion(ledger, Env.DEV, "tiny", B, "v0.1.0-dev", None, {})
    strange = chain(promoted("v1.0.0", A, Env.DEV))  # no dev promotion writes this
    with pytest.raises(Refused, match="never reused"):
        check_promotion(strange, Env.PROD, "tiny", A, "v1.0.0", None, {})


def test_a_version_names_one_bundle_digest() -> None:
    """The same checkpoint with other bytes is refused. Entries without a digest name any."""
    ledger = chain(promoted("v0.1.0", A, Env.PROD, bundle_digest=A))
    same = check_promotion(ledger, Env.PROD, "tiny", A, "v0.1.0", A, {})
    assert same is ledger.entries[0]
    for digest in (B, None):
        with pytest.raises(Refused, match="names this checkpoint with other bytes"):
            check_promotion(ledger, Env.PROD, "tiny", A, "v0.1.0", digest, {})
    old = chain(promoted("v0.1.0", A, Env.PROD))
    assert check_promotion(old, Env.PROD, "tiny", A, "v0.1.0", B, {}) is old.entries[0]


def test_one_bundle_may_have_several_versions() -> None:
    """A version names one bundle; a bundle may be named twice."""
    ledger = chain(promoted("v0.1.0", A, Env.PROD))
    assert check_promotion(ledger, Env.PROD, "tiny", A, "v0.1.1", None, {}) is None


def test_repeating_the_newest_prod_promotion_adds_no_entry() -> None:
    """The existing entry is returned, although the version is not greater."""
    ledger = chain(promoted("v0.1.0", A, Env.PROD), promoted("v0.2.0", B, Env.PROD))
    assert check_promotion(ledger, Env.PROD, "tiny", A, "v0.1.0", None, {}) is ledger.entries[0]


events = st.lists(
    st.tuples(
        st.sampled_from([PROMOTED, ROLLED_BACK, REGISTERED]),
        st.sampled_from(["v0.1.0", "v0.2.0", "v0.1.0-dev", "v0.2.0-dev.1", "nonsense"]),
        st.sampled_from(Env),
        st.sampled_from([A, B]),
    ),
    max_size=12,
)


@given(events)
def test_dev_entries_never_count_in_prod(drawn: list[tuple[str, str, Env, str]]) -> None:
    """Whatever the ledger contains, no dev entry, dev version or invalid version counts in prod."""
    all_facts = [
        fact(
            event=event,
            env=env,
            canonical_sha=s,
            **({} if event == REGISTERED else {"semver": semver}),
        )
        for event, semver, env, s in drawn
    ]
    ledger = chain(*all_facts)
    state = replay(ledger, Env.PROD, "tiny", {})
    for semver, entry in state.promoted.items():
        assert entry.fact.env is Env.PROD
        assert entry.fact.semver == semver in ("v0.1.0", "v0.2.0")
    assert all(entry.fact.env is Env.PROD for entry in state.registered.values())
    assert state.latest is None or state.latest in state.promoted.values()
    only_prod = chain(*(f for f in all_facts if f.env is Env.PROD))
    assert facts_of(replay(only_prod, Env.PROD, "tiny", {}).promoted) == facts_of(state.promoted)


def facts_of(entries: Any) -> dict[str, Fact]:
    """The facts by key, without their positions in the chain."""
    found: dict[str, Entry] = dict(entries)
    return {key: entry.fact for key, entry in found.items()}


def test_a_rollback_of_something_never_promoted_changes_nothing() -> None:
    """Only an earlier promotion can be restored, with its bundle. The state lists the ignored
    entries."""
    good = promoted("v0.1.0", A, Env.PROD, bundle_digest=A)
    ledger = chain(
        good,
        promoted("v0.2.0", B, Env.PROD),
        rolled_back(good, canonical_sha=B),
        rolled_back(good, semver="v0.9.9"),
        rolled_back(good, bundle_digest=B),
    )
    state = replay(ledger, Env.PROD, "tiny", {})
    assert state.latest is ledger.entries[1]
    assert [entry.seq for entry, _ in state.ignored] == [3, 4, 5]
