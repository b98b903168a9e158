"""The chain: every change of a ledger's bytes is detected."""

import json
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.domain.ledger.chain import Checkpoint, Ledger, parse_ledger, seal
from lynx_pipeline.domain.ledger.facts import Fact, Malformed
from lynx_pipeline.domain.strict_json import canonical
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.builders import PROMOTED, SHA, chain, evidence, fact, sha256

A, B = "a" * 64, "b" * 64

# Pins the format: these bytes must have the same meaning in audits years from now.
GOLDEN = b"""\
{"actor":null,"artifact_uri":"runs:/0123456789abcdef0123456789abcdef/model","canonical_sha":\
"5555555555555555555555555555555555555555555555555555555555555555","cpqu":null,"env":"dev",\
"event":"registered","evidence":null,"hash":\
"1dfa3cc99be950cbca973f2a26eb3ba99ff2c821e118d52e0879d4db219b4fd0","mlflow_run_id":"0123456789abcdef0123456789abcdef","model":"tiny","parent_sha":null,\
"prev":null,"semver":null,"seq":1,"time":"2025-01-02T03:04:05Z"}
{"actor":{"repository_id":"7"},"artifact_uri":"runs:/0123456789abcdef0123456789abcdef/model",\
"canonical_sha":"5555555555555555555555555555555555555555555555555555555555555555","cpqu":0.25,\
"env":"prod","event":"promoted","evidence":{"isolation":"bubblewrap","worst_margin":-0.0125},\
"hash":\
"79b272ca38e18ff7575cf12987336e45a3bd9eeb07f7e71f65ce344c7d0071f6","mlflow_run_id":"0123456789abcdef0123456789abcdef","model":"tiny","parent_sha":\
"older","prev":\
"1dfa3cc99be950cbca973f2a26eb3ba99ff2c821e118d52e0879d4db219b4fd0","semver":"v1.2.3","seq":2,"time":"2025-01-02T03:04:05Z"}
"""
HASHES = (
    "1dfa3cc99be950cbca973f2a26eb3ba99ff2c821e118d52e0879d4db219b4fd0",
    "79b272ca38e18ff7575cf12987336e45a3bd9eeb07f7e71f65ce344c7d0071f6",
)


def golden_facts() -> list[Fact]:
    """The facts in the golden bytes."""
    promoted = fact(
        env=Env.PROD,
        event=PROMOTED,
        parent_sha="older",
        semver="v1.2.3",
        evidence=Malformed({"isolation": "bubblewrap", "worst_margin": -0.0125}, ""),
        cpqu=0.25,
        actor=Malformed({"repository_id": "7"}, ""),
    )
    return [fact(), promoted]


def bytes_of(ledger: Ledger) -> bytes:
    """The ledger as its file."""
    return b"".join(entry.to_line() for entry in ledger.entries)


def chain_unchecked(made: Fact) -> Ledger:
    """A ledger of one entry, whatever it says."""
    return Ledger((seal(1, None, made),))


def promoted(semver: str, sha: str = SHA, env: Env = Env.DEV, **changes: Any) -> Fact:
    """A promotion."""
    return fact(event=PROMOTED, semver=semver, canonical_sha=sha, env=env, **changes)


def test_the_bytes_are_the_golden_ones() -> None:
    """This pins keys, order, hashes and line ends of a registration and a full promotion."""
    assert bytes_of(chain(*golden_facts())) == GOLDEN


def test_the_golden_bytes_read_back_equal() -> None:
    """The result is the same facts, chained by the pinned hashes."""
    ledger = parse_ledger(GOLDEN, "f")
    assert [entry.fact for entry in ledger.entries] == golden_facts()
    assert tuple(entry.hash for entry in ledger.entries) == HASHES
    assert [entry.prev for entry in ledger.entries] == [None, HASHES[0]]
    assert (ledger.size, ledger.torn) == (len(GOLDEN), 0)


def test_an_entry_with_a_bundle_digest_has_one_more_key() -> None:
    """Older entries don't have it, and keep their bytes. A digest of another form is damage."""
    made = fact(bundle_digest=B)
    line = bytes_of(chain(made))
    old = GOLDEN.splitlines(keepends=True)[0]
    hashes = b'"hash":"%b",'
    key, own = b'"bundle_digest":"%b",' % B.encode(), chain(made).entries[0].hash.encode()
    assert line.replace(key, b"").replace(hashes % own, hashes % HASHES[0].encode()) == old
    assert own == b"a8fc50720f9cfb358ce766afb02e79fff668e72f67c18118a2ce855d4802e04e"
    assert parse_ledger(line, "f").entries[0].fact == made
    for wrong in ("", "b" * 63, "B" * 64):
        with pytest.raises(BadInput, match="'bundle_digest': expected"):
            parse_ledger(bytes_of(chain_unchecked(fact(bundle_digest=wrong))), "f")


def test_a_hash_can_be_checked_with_any_json_library() -> None:
    """The hash covers the entry's compact JSON, sorted by key, without the hash itself."""
    for line, expected in zip(GOLDEN.splitlines(), HASHES, strict=True):
        values = json.loads(line)
        assert values.pop("hash") == expected
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        assert sha256(text.encode()) == expected


@given(
    cpqu=st.one_of(
        st.floats(-(2.0**53) + 1, 2.0**53 - 1),
        st.integers(-300, 15).map(lambda e: 1.5 * 10.0**e),
    ),
    text=st.from_regex(r"\d?e-0?\d", fullmatch=True),
)
def test_a_number_has_one_valid_form(cpqu: float, text: str) -> None:
    """The valid form is that of RFC 8785. Python's own form is refused if it differs."""
    (entry,) = chain(promoted("v0.1.0-dev", cpqu=cpqu, parent_sha=text)).entries
    line = entry.to_line()
    assert parse_ledger(line, "f").entries == (entry,)
    values = entry.to_json()
    del values["hash"]
    unsealed = json.dumps(values, sort_keys=True, separators=(",", ":"))
    other = json.dumps({**values, "hash": sha256(unsealed.encode())}, sort_keys=True,
                       separators=(",", ":")).encode() + b"\n"  # fmt: skip
    if other != line:
        with pytest.raises(BadInput, match=r"not (in canonical form|JSON)"):
            parse_ledger(other, "f")


SMALL = chain(fact(), promoted("v0.1.0-dev"), promoted("v0.2.0-dev", A))
RAW = bytes_of(SMALL)
CHECKPOINT = Checkpoint(SMALL.size, 3, SMALL.entries[-1].hash)
LINES = RAW.splitlines(keepends=True)


def refused(raw: bytes) -> str:
    """The error message for a damaged ledger."""
    with pytest.raises(BadInput, match=r"line \d+") as caught:
        parse_ledger(raw, "f", [CHECKPOINT])
    return str(caught.value)


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80, 0xFF])
def test_every_changed_byte_is_detected(flip: int) -> None:
    """This covers every position in the file, and the error names the line."""
    for place in range(len(RAW)):
        damaged = bytearray(RAW)
        damaged[place] ^= flip
        line = RAW[:place].count(b"\n") + 1
        assert f"line {line}" in refused(bytes(damaged)), place


def test_every_removed_or_inserted_byte_is_detected() -> None:
    """Bytes that JSON ignores, such as a space, are detected too."""
    for place in range(len(RAW)):
        refused(RAW[:place] + RAW[place + 1 :])
        refused(RAW[:place] + b" " + RAW[place:])
        refused(RAW[:place] + b"\n" + RAW[place:])


def test_every_truncation_is_detected() -> None:
    """The checkpoint records the ledger's length, so any missing part is detected."""
    for length in range(len(RAW)):
        refused(RAW[:length])


def test_lines_cannot_be_removed_duplicated_or_moved() -> None:
    """All wrong orders and subsets of the lines are detected."""
    for count in range(len(LINES) + 1):
        for order in permutations(LINES, count):
            if list(order) != LINES:
                refused(b"".join(order))
    for place, line in enumerate(LINES):
        refused(b"".join([*LINES[:place], line, *LINES[place:]]))


def test_the_checkpoint_detects_a_rewritten_history() -> None:
    """The chain is valid in itself, but differs from the one that the checkpoint recorded."""
    forged = chain(fact(), promoted("v0.1.0-dev"), promoted("v0.2.0-dev", B))
    assert len(bytes_of(forged)) == len(RAW)
    assert "checkpoint" in refused(bytes_of(forged))
    longer = chain(*(entry.fact for entry in forged.entries), promoted("v0.3.0-dev"))
    assert "line 3" in refused(bytes_of(longer))


def test_text_after_the_last_newline_is_ignored() -> None:
    """A torn line is counted but not read, even if only its newline is missing."""
    entry = SMALL.next_entry(promoted("v0.3.0-dev"))
    for tail in (b"{", b"\x00" * 4096, entry.to_line()[:-1]):
        ledger = parse_ledger(RAW + tail, "f", [CHECKPOINT])
        assert ledger.entries == SMALL.entries
        assert (ledger.size, ledger.torn) == (len(RAW), len(tail))


def test_a_ledger_may_be_longer_than_its_checkpoint() -> None:
    """A kill after the commit point leaves an outdated checkpoint."""
    first = chain(fact()).checkpoint()
    assert first is not None
    assert parse_ledger(RAW, "f", [first]).entries == SMALL.entries
    for wrong in (
        replace(CHECKPOINT, hash="0" * 64),
        replace(CHECKPOINT, size=CHECKPOINT.size - 1),
        replace(CHECKPOINT, seq=2),
        Checkpoint(CHECKPOINT.size, 10**12, CHECKPOINT.hash),
    ):
        with pytest.raises(BadInput):
            parse_ledger(RAW, "f", [wrong])


def line_of(**changes: Any) -> bytes:
    """A first entry with these JSON values and a matching hash."""
    values = {**seal(1, None, fact()).to_json(), **changes}
    del values["hash"]
    values = {k: v for k, v in values.items() if v != "absent"}
    sealed = {**values, "hash": sha256(canonical(values))}
    return canonical(sealed) + b"\n"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"seq": 0}, "seq", id="seq 0"),
        pytest.param({"seq": 2}, "out of place", id="seq 2"),
        pytest.param({"seq": "1"}, "seq", id="seq text"),
        pytest.param({"prev": SHA}, "out of place", id="prev without a previous entry"),
        pytest.param({"prev": ""}, "prev", id="empty prev"),
        pytest.param({"event": "deleted"}, "event", id="unknown event"),
        pytest.param({"event": "promoted"}, "semver", id="promoted without a version"),
        pytest.param({"semver": "v1.0.0"}, "semver", id="registered with a version"),
        pytest.param({"actor": {"jti": "1"}}, "actor", id="registered with an actor"),
        pytest.param({"mlflow_run_id": None}, "mlflow_run_id", id="no run"),
        pytest.param({"env": "Prod"}, "env", id="unknown env"),
        pytest.param({"env": None}, "env", id="no env"),
        pytest.param({"canonical_sha": ""}, "canonical_sha", id="no sha"),
        pytest.param({"canonical_sha": None}, "canonical_sha", id="null sha"),
        pytest.param({"evidence": {}}, "evidence", id="empty evidence"),
        pytest.param({"evidence": [1]}, "evidence", id="evidence a list"),
        pytest.param({"actor": {}}, "actor", id="empty actor"),
        pytest.param({"actor": "root"}, "actor", id="actor text"),
        pytest.param({"cpqu": True}, "cpqu", id="cpqu true"),
        pytest.param({"time": 5}, "time", id="time a number"),
        pytest.param({"forced": True}, "forced", id="unknown key"),
        pytest.param({"model": "absent"}, "model", id="missing key"),
    ],
)
def test_an_entry_with_a_valid_hash_is_still_read_strictly(
    change: dict[str, Any], says: str
) -> None:
    """The hash shows that the entry is unchanged, not that its values are valid."""
    parse_ledger(line_of(), "f")
    with pytest.raises(BadInput, match=f"f, line 1.*{says}"):
        parse_ledger(line_of(**change), "f")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"model": ""}, id="empty model"),
        pytest.param({"model": "\ud800"}, id="half a surrogate"),
        pytest.param({"canonical_sha": " "}, id="blank sha"),
        pytest.param({"mlflow_run_id": ""}, id="empty run id"),
        pytest.param({"cpqu": float("nan")}, id="NaN"),
        pytest.param({"cpqu": 1e17}, id="a float that looks like a huge whole number"),
        pytest.param({"evidence": Malformed({}, "")}, id="empty evidence"),
        pytest.param({"evidence": evidence(tolerance=float("inf"))}, id="infinite tolerance"),
        pytest.param({"evidence": evidence(baseline_sha256="x")}, id="an invalid digest"),
        pytest.param({"semver": ""}, id="empty semver"),
    ],
)
def test_a_fact_that_would_not_read_back_is_never_sealed(change: dict[str, Any]) -> None:
    """One such line would make every later read fail."""
    with pytest.raises(BadInput):
        SMALL.next_entry(fact(**{"event": PROMOTED, "semver": "v0.3.0-dev", **change}))


facts = st.builds(
    promoted,
    semver=st.text(min_size=1).filter(str.strip),
    env=st.sampled_from(Env),
    model=st.text(min_size=1).filter(str.strip),
    sha=st.sampled_from([A, B]),
    parent_sha=st.none() | st.text(min_size=1).filter(str.strip),
    cpqu=st.none() | st.floats(0, 1e15) | st.just("not-deployment-ready"),
    evidence=st.none()
    | st.builds(evidence, worst_margin=st.floats(-1, 1), worst_bucket=st.just("größer.🦁"))
    | st.dictionaries(st.text(), st.floats(-1, 1), min_size=1).map(lambda it: Malformed(it, "")),
)


@given(st.lists(facts, max_size=6), st.binary(max_size=9).filter(lambda raw: b"\n" not in raw))
def test_a_written_ledger_reads_back_equal(all_facts: list[Fact], torn: bytes) -> None:
    """This holds for any facts in any language, followed by any torn line."""
    ledger = chain(*all_facts)
    checkpoint = ledger.checkpoint()
    again = parse_ledger(bytes_of(ledger) + torn, "f", [checkpoint] if checkpoint else [])
    assert again == replace(ledger, torn=len(torn))
