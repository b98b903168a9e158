"""Which entries count as signed."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope as StockEnvelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from lynx_pipeline.domain.ledger.chain import Ledger
from lynx_pipeline.domain.ledger.facts import Promoted
from lynx_pipeline.domain.ledger.signatures import load_key, unsigned_entries
from lynx_pipeline.domain.ledger.state import broken_rules, replay
from lynx_pipeline.domain.ledger.statements import PREDICATES, entry_statement, to_sign
from lynx_pipeline.domain.release.signing import SigningPolicy, TrustedKey
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.builders import actor, chain, fact, promoted, rolled_back
from lynx_pipeline_tests.support.signing import (
    RELEASE,
    private_key,
    public_key,
    sign,
    signed,
    statement,
)

A, B = "a" * 64, "b" * 64
OTHER = "other"
SUMMARY, ROLLBACK = PREDICATES.values()


def policy(*names: str, **changes: Any) -> SigningPolicy:
    """A policy that trusts the keys with these names."""
    return SigningPolicy(tuple(TrustedKey(public_key(name)) for name in names), **changes)


def prod(number: int, **changes: Any) -> Promoted:
    """A promotion in prod."""
    return promoted(f"v0.{number}.0", env=Env.PROD, canonical_sha=A, bundle_digest=B, **changes)


def with_signatures(ledger: Ledger, *lines: bytes) -> Ledger:
    """The ledger, with these lines beside it."""
    return replace(ledger, signatures=b"".join(lines))


def unsigned(ledger: Ledger, it: SigningPolicy) -> dict[int, str]:
    """The places of the entries that don't count, with the reasons."""
    found = unsigned_entries(ledger, it)
    return {entry.seq: found[entry.hash] for entry in ledger.entries if entry.hash in found}


def test_only_signed_entries_count() -> None:
    """The others are ignored, whatever they say, and named."""
    first, second = prod(1), prod(2)
    ledger = chain(first, second, rolled_back(first))
    ledger = with_signatures(ledger, sign(ledger.entries[0]))
    found = unsigned_entries(ledger, policy(RELEASE))
    state = replay(ledger, Env.PROD, "tiny", found)
    assert state.latest is ledger.entries[0]
    assert [*state.promoted] == ["v0.1.0"]
    assert [e.seq for e, _ in broken_rules(ledger, found)] == [2, 3]
    assert unsigned(ledger, policy(RELEASE)) == dict.fromkeys((2, 3), "it is not signed")


def test_dev_needs_no_signatures() -> None:
    """Nor do registrations, which change nothing in production."""
    ledger = chain(fact(), promoted("v0.1.0-dev"), fact(env=Env.PROD))
    assert unsigned_entries(ledger, SigningPolicy()) == {}


BY_NO_KEY = "no key in [tool.lynx_pipeline.signatures] has made its signature"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (lambda e: sign(e), None),
        (lambda e: signed(statement(e.hash, SUMMARY), OTHER, RELEASE), None),
        (lambda e: sign(e) * 2, None),
        (lambda e: b'garbage\n\n{"payload": 1}\n' + sign(e), None),
        (lambda e: sign(e, OTHER) + sign(e), None),
        (lambda e: b"", "it is not signed"),
        (lambda e: signed(statement(e.hash, SUMMARY) + b" " * 50_000, RELEASE), "it is not signed"),
        (lambda e: signed(statement(e.hash, SUMMARY), *[OTHER] * 8, RELEASE), BY_NO_KEY),
        (lambda e: sign(e, OTHER), BY_NO_KEY),
        (lambda e: signed(statement(e.prev, SUMMARY), RELEASE), "it is not signed"),
        (lambda e: signed(statement(e.hash, ROLLBACK), RELEASE), "it is not signed"),
        (lambda e: signed(statement(e.hash, SUMMARY)), BY_NO_KEY),
        (lambda e: signed(b"no JSON", RELEASE), "it is not signed"),
        (lambda e: signed(f'{{"subject": "{e.hash}"}}'.encode(), RELEASE), "it is not signed"),
        (lambda e: moved(sign(e), statement(e.hash, SUMMARY) + b" "), BY_NO_KEY),
        (lambda e: sign(e).replace(b"in-toto+json", b"in-toto"), "it is not signed"),
    ],
    ids=[
        "by the key",
        "by two keys",
        "doubled",
        "after garbage",
        "after another key's",
        "none",
        "too long",
        "after too many others",
        "by another key",
        "of another entry",
        "as something else",
        "without a signature",
        "of no JSON",
        "of no statement",
        "of another text",
        "of another type",
    ],
)
def test_what_counts_as_a_signature(line: Any, reason: str | None) -> None:
    """One by a key that the settings name, of this entry, as what it is."""
    ledger = chain(prod(1), prod(2))
    first, second = ledger.entries
    found = unsigned(with_signatures(ledger, sign(first), line(second)), policy(RELEASE))
    if reason is None:
        assert found == {}
    else:
        assert found[2].startswith(reason)
        assert [*found] == [2]


def moved(line: bytes, payload: bytes) -> bytes:
    """The envelope with another payload under the same signature."""
    values = json.loads(line)
    return json.dumps({**values, "payload": base64.b64encode(payload).decode()}).encode() + b"\n"


def test_the_dates_of_keys_are_places_in_the_chain() -> None:
    """An entry's time proves nothing: a thief of an old key can write any."""
    ledger = chain(*(prod(number, time="2020-01-01T00:00:00Z") for number in range(1, 6)))
    hashes = [entry.hash for entry in ledger.entries]
    lines = [sign(entry, OTHER) for entry in ledger.entries[1:4]]
    ledger = with_signatures(ledger, *lines, sign(ledger.entries[4]))
    old = TrustedKey(public_key(OTHER), until=hashes[2])
    it = SigningPolicy((TrustedKey(public_key()), old), unsigned_until=hashes[0])
    assert unsigned(ledger, it) == {
        4: "it is signed with a retired key, after the last entry that may be signed with it"
    }
    assert [*unsigned(ledger, replace(it, unsigned_until=None))] == [1, 4]
    assert it.current == (TrustedKey(public_key()),)
    # A key that is not named any more: what it signed does not count any more.
    assert [*unsigned(ledger, replace(it, keys=it.keys[:1]))] == [2, 3, 4]


@given(st.lists(st.sampled_from(["", RELEASE, OTHER, "thief"]), min_size=1, max_size=8), st.data())
def test_against_a_simple_model(names: list[str], data: st.DataObject) -> None:
    """Whoever signs, in whatever order the lines are: an entry counts if it is exempt, or its
    signer is trusted at its place."""
    ledger = chain(*(prod(number) for number in range(len(names))))
    entries = list(enumerate(ledger.entries, start=1))
    lines = [sign(e, name) for (_, e), name in zip(entries, names, strict=True) if name]
    ledger = with_signatures(ledger, *data.draw(st.permutations(lines)))
    exempt, until = (data.draw(st.integers(0, len(names))) for _ in range(2))
    hashes = [None, *(entry.hash for entry in ledger.entries)]
    keys = [TrustedKey(public_key())]
    keys += [TrustedKey(public_key(OTHER), hashes[until])] if until else []
    it = SigningPolicy(tuple(keys), hashes[exempt])
    trusted = [
        seq
        for (seq, _), name in zip(entries, names, strict=True)
        if seq <= exempt or name == RELEASE or (name == OTHER and seq <= until)
    ]
    assert [*unsigned(ledger, it)] == [seq for seq, _ in entries if seq not in trusted]


def test_an_entry_of_another_repository_does_not_count() -> None:
    """A copy of it is signed too, if two repositories share a key."""
    ledger = chain(prod(1, actor=actor(repository_id="74")))
    ledger = with_signatures(ledger, sign(ledger.entries[0]))
    assert unsigned(ledger, policy(RELEASE, repository_id="74")) == {}
    assert unsigned(ledger, policy(RELEASE, repository_id="75")) == {
        1: "it is signed for the repository with the id '74', expected '75'"
    }


def test_without_keys_nothing_counts() -> None:
    """An empty policy trusts nobody."""
    ledger = chain(prod(1))
    ledger = with_signatures(ledger, sign(ledger.entries[0]))
    assert unsigned(ledger, SigningPolicy())[1].endswith("names no key that may have signed")


@pytest.mark.parametrize("name", ["unsigned_until", "until"])
def test_a_place_that_the_ledger_lacks_is_an_error(name: str) -> None:
    """Entries were removed, or the setting is of another registry."""
    it = policy(RELEASE, unsigned_until=A)
    if name == "until":
        it = SigningPolicy((TrustedKey(public_key(), until=A),))
    with pytest.raises(BadInput, match=f"'{name}': the ledger has no entry with the hash a"):
        unsigned_entries(chain(prod(1)), it)


def spki(key: Any) -> str:
    """A private key's public half, as the settings take it."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(
        key.public_key().public_bytes(serialization.Encoding.DER, form)
    ).decode()


@pytest.mark.parametrize(
    "key",
    [
        "AAAA",
        "MCowBQYDK2VwAyEA",
        spki(rsa.generate_private_key(65537, 2048)),
        spki(ec.generate_private_key(ec.SECP521R1())),
    ],
    ids=["nonsense", "cut", "RSA", "another curve"],
)
def test_an_unsuitable_key_is_an_error(key: str) -> None:
    """It says which keys are accepted."""
    with pytest.raises(BadInput, match="expected an Ed25519, ECDSA P-256 or ECDSA P-384 key"):
        load_key(TrustedKey(key))


@pytest.mark.parametrize(
    "private",
    [private_key(), *(ec.generate_private_key(it()) for it in (ec.SECP256R1, ec.SECP384R1))],
    ids=["Ed25519", "P-256", "P-384"],
)
def test_stock_tools_and_ours_agree(private: Any) -> None:
    """What securesystemslib signs counts here, and it verifies our envelopes."""
    ledger = chain(prod(1), rolled_back(prod(1), env=Env.PROD, actor=actor()))
    payloads = [entry_statement(ledger.entries[0], A), entry_statement(ledger.entries[1])]
    signer = CryptoSigner(private)
    lines = []
    for payload in payloads:
        made = StockEnvelope(payload, "application/vnd.in-toto+json", {})
        made.sign(signer)
        lines.append(json.dumps(made.to_dict()).encode() + b"\n")
        assert made.pae() == to_sign(payload)
    it = SigningPolicy((TrustedKey(spki(private)),))
    assert unsigned(with_signatures(ledger, *lines), it) == {}

    ours = StockEnvelope.from_dict(json.loads(_named(sign(ledger.entries[0]))))
    key = SSlibKey.from_crypto(private_key().public_key())
    assert [*ours.verify([key], 1)] == [key.keyid]
    ours.payload += b" "
    with pytest.raises(VerificationError):
        ours.verify([key], 1)


def _named(line: bytes) -> str:
    """The line with the key's id, which the library wants."""
    values = json.loads(line)
    values["signatures"][0]["keyid"] = SSlibKey.from_crypto(private_key().public_key()).keyid
    return json.dumps(values)
