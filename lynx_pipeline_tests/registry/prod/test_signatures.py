"""Entries in prod are signed, and an entry that is not signed as the reader expects is ignored,
whatever else is right about it."""

import json
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from lynx_pipeline.adapters.ledgers.directory import SIGNATURES
from lynx_pipeline.adapters.signing import VARIABLE
from lynx_pipeline.cli import main
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.facts import Actor, Evidence, Promoted, RolledBack
from lynx_pipeline.domain.ledger.model_signature import PREDICATE
from lynx_pipeline.domain.ledger.signatures import unsigned_entries
from lynx_pipeline.domain.ledger.statements import read_claims, read_envelope
from lynx_pipeline.errors import BadInput, LynxError, Refused, SystemFailed
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.audit import audit
from lynx_pipeline.registry.authorization import SignedPromotion, authorize
from lynx_pipeline_tests.registry.prod.conftest import PYPROJECT, Prod, both_stores
from lynx_pipeline_tests.support.builders import sha256
from lynx_pipeline_tests.support.key_services import aws
from lynx_pipeline_tests.support.places import OnGit
from lynx_pipeline_tests.support.signing import (
    RELEASE,
    private_pem,
    public_key,
    sign,
    signatures_table,
    signed,
    statement,
)

OTHER = "other"
FIRST, FORGED = "v0.1.0", "v0.9.0"


def forge(prod: Prod, genuine: Entry[Promoted]) -> Entry:
    """Push an entry as somebody with write access can: the next in the chain, with its tag, a real
    run's claims with an unused token, and evidence that the registry already has."""
    assert isinstance(genuine.fact.actor, Actor)
    claims = replace(genuine.fact.actor, jti="unused", run_id="1")
    return prod.store.append(lambda _: replace(genuine.fact, semver=FORGED, actor=claims)).entry


def resign(prod: Prod, raw: bytes) -> None:
    """Replace the registry's signatures."""
    (prod.root / "registry" / SIGNATURES).write_bytes(raw)


def trust(prod: Prod, table: str) -> None:
    """Change whose signatures count, in the reader's settings."""
    text = (prod.root / PYPROJECT).read_text()
    head, _, rest = text.partition("[tool.lynx_pipeline.signatures]")
    assert rest.count("\n") == 2
    prod.write(PYPROJECT, f"{head}{table}")


def latest(prod: Prod) -> str:
    """What a server loads."""
    return Registry.open(prod.prod).resolve().semver


@both_stores
def test_a_promotion_and_a_rollback_are_signed(prod: Prod) -> None:
    """One line for each, with a statement that stock tools can read. The key is nowhere."""
    prod.promote(prod.candidate("good"), FIRST)
    prod.promote(prod.candidate("better"), "v0.2.0")
    back = prod.rollback(FIRST)
    assert isinstance(back.fact, RolledBack)
    ledger = Registry.open(prod.prod).verify()
    assert unsigned_entries(ledger, prod.prod.signatures) == {}
    assert latest(prod) == FIRST
    lines = ledger.signatures.splitlines()
    assert len(lines) == len(ledger.entries) == 3
    first, _, third = (json.loads(read_envelope(line).payload) for line in lines)

    fact = ledger.entries[0].fact
    assert isinstance(fact, Promoted)
    assert isinstance(fact.evidence, Evidence)
    assert first["predicateType"] == "https://slsa.dev/verification_summary/v1"
    assert [it["digest"]["sha256"] for it in first["subject"]] == [
        ledger.entries[0].hash,
        fact.bundle_digest,
    ]
    summary = first["predicate"]
    assert summary["verificationResult"] == "PASSED"
    assert summary["policy"]["digest"]["sha256"] == fact.evidence.baseline_sha256
    (results,) = summary["inputAttestations"]
    kept = prod.store.evidence(results["digest"]["sha256"])
    results = json.loads(read_envelope(kept).payload)
    assert results["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert results["predicate"]["result"] == "PASSED"
    assert results["predicate"]["passedTests"] == ["half.a", "all.x", "half.b"]

    assert third["predicateType"] == "https://in-toto.io/attestation/release/v0.1"
    assert third["predicate"]["purl"] == "pkg:mlflow/tiny@v0.1.0"
    secret = private_pem().splitlines()[1].encode()
    for raw in prod.place.all().values():
        assert secret not in raw
    assert secret not in ledger.signatures


@both_stores
def test_a_promotion_that_is_repeated_is_not_signed_again(prod: Prod) -> None:
    """The entry is there, with its signature."""
    good = prod.candidate("good")
    prod.promote(good, FIRST)
    before = Registry.open(prod.prod).verify()
    prod.promote(good, FIRST)
    assert Registry.open(prod.prod).verify() == before


@pytest.mark.filterwarnings("ignore::lynx_pipeline.registry.IgnoredEntries")
@both_stores
def test_a_forged_entry_is_ignored_and_named(
    prod: Prod, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its chain, tag, claims and evidence are right. Only the signature can't be forged."""
    genuine = prod.promote(prod.candidate("good"), FIRST)
    forged = forge(prod, genuine)
    assert latest(prod) == FIRST
    with pytest.raises(Refused, match="was never promoted in prod"):
        Registry.open(prod.prod).resolve(FORGED)
    found = audit(Registry.open(prod.prod), FORGED)
    assert found.promotion is None
    assert "it is not signed" in found.findings[0]
    capsys.readouterr()
    with chdir(prod.root), pytest.MonkeyPatch.context() as patch:
        patch.setenv("LYNX_ENV", "prod")
        assert main(["registry", "verify"]) == 1
        assert f"line {forged.seq} is ignored: it is not signed" in capsys.readouterr().err
        assert main(["audit", FORGED]) == 1
        assert "it is not signed" in capsys.readouterr().out
        assert main(["registry", "resolve"]) == 0
    # It does not stop the next promotion either, except under the same version.
    prod.promote(prod.candidate("better"), "v0.2.0")
    assert latest(prod) == "v0.2.0"
    with pytest.raises(Refused, match="never reused"):
        prod.promote(prod.candidate("third"), FORGED)


def test_garbage_before_a_signature_does_not_void_it(prod: Prod) -> None:
    """Somebody appends a byte, and no newline."""
    prod.promote(prod.candidate("good"), FIRST)
    with (prod.root / "registry" / SIGNATURES).open("ab") as file:
        file.write(b"x")
    prod.promote(prod.candidate("better"), "v0.2.0")
    assert latest(prod) == "v0.2.0"


@pytest.mark.slow
@pytest.mark.parametrize("prod", ["git"], indirect=True)
def test_on_git_a_signature_is_in_its_entrys_tag(prod: Prod) -> None:
    """No later push to the branch can take it away, or void the next one. Rules on the hosting side
    protect tags."""
    prod.promote(prod.candidate("good"), FIRST)
    assert isinstance(prod.place, OnGit)
    listed = prod.place.git("ls-tree", "--name-only", "lynx-registry").split()
    assert listed == [b"evidence", b"index.jsonl"]
    message = prod.place.git("for-each-ref", "--format=%(contents)", f"refs/tags/tiny@{FIRST}")
    title, _, envelope, checkpoint = message.splitlines()
    assert title == b"promoted tiny v0.1.0 in prod"
    assert envelope + b"\n" == Registry.open(prod.prod).verify().signatures
    assert checkpoint.startswith(b'{"hash":')


@pytest.mark.slow
@pytest.mark.parametrize("prod", ["git"], indirect=True)
def test_a_tag_in_the_way_is_named(prod: Prod, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a message, as anybody can make it. It would block the promotion each time."""
    prod.promote(prod.candidate("good"), FIRST)
    assert isinstance(prod.place, OnGit)
    prod.place.git("update-ref", "refs/tags/tiny@v0.2.0", "lynx-registry")
    capsys.readouterr()
    with chdir(prod.root), pytest.MonkeyPatch.context() as patch:
        patch.setenv("LYNX_ENV", "prod")
        assert main(["registry", "verify"]) == 1
    assert "the tag tiny@v0.2.0 is ignored: it belongs to no entry" in capsys.readouterr().err
    better = prod.candidate("better")
    with pytest.raises(BadInput, match=r"the tag tiny@v0\.2\.0 exists and belongs to no entry"):
        prod.promote(better, "v0.2.0")
    prod.place.git("update-ref", "-d", "refs/tags/tiny@v0.2.0")
    prod.promote(better, "v0.2.0")
    assert latest(prod) == "v0.2.0"


def test_an_entry_that_readers_could_not_read_is_not_written(prod: Prod) -> None:
    """Somebody who controls MLflow's server chooses how long a location is."""
    genuine = prod.promote(prod.candidate("good"), FIRST)
    workflow = authorize(prod.prod)
    long = replace(genuine, fact=replace(genuine.fact, artifact_uri="x" * 100_000))
    with pytest.raises(BadInput, match="expected at most 65536"):
        workflow.sign(long, SignedPromotion(b"results", None))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda prod, e, raw: resign(prod, b""), "it is not signed"),
        (lambda prod, e, raw: resign(prod, raw[:-9]), "it is not signed"),
        (lambda prod, e, raw: resign(prod, sign(e, OTHER)), "has made its signature"),
        (
            lambda prod, e, raw: resign(prod, signed(statement("0" * 64), RELEASE)),
            "it is not signed",
        ),
        (lambda prod, e, raw: trust(prod, signatures_table(OTHER)), "has made its signature"),
        (lambda prod, e, raw: trust(prod, signatures_table()), "names no key"),
        (lambda prod, e, raw: trust(prod, ""), "names no key"),
        (
            lambda prod, e, raw: prod.edit(
                PYPROJECT, 'repository_id = "74"', 'repository_id = "7"'
            ),
            "it is signed for the repository with the id '74', expected '7'",
        ),
        (lambda prod, e, raw: resign(prod, raw * 2), None),
        (lambda prod, e, raw: resign(prod, b"\0\n" + raw), None),
        (lambda prod, e, raw: trust(prod, signatures_table(OTHER, RELEASE)), None),
        (lambda prod, e, raw: trust(prod, signatures_table(retired={RELEASE: e.hash})), None),
        (lambda prod, e, raw: trust(prod, signatures_table(unsigned_until=e.hash)), None),
    ],
    ids=[
        "stripped",
        "cut",
        "by another key",
        "of another entry",
        "the key is trusted no more",
        "no key",
        "no settings",
        "of another repository",
        "doubled",
        "after garbage",
        "one of two keys",
        "the key is retired",
        "before the transition",
    ],
)
def test_a_reader_trusts_what_its_settings_say(
    prod: Prod, change: object, reason: str | None
) -> None:
    """And not what the registry says."""
    entry = prod.promote(prod.candidate("good"), FIRST)
    raw = (prod.root / "registry" / SIGNATURES).read_bytes()
    change(prod, entry, raw)  # type: ignore[operator]
    if reason is None:
        assert latest(prod) == FIRST
        return
    with pytest.raises(Refused, match="nothing was promoted in prod"):
        latest(prod)
    (finding,) = audit(Registry.open(prod.prod), FIRST).findings[:1]
    assert reason in finding


@pytest.mark.filterwarnings("ignore::lynx_pipeline.registry.IgnoredEntries")
def test_a_retired_key_signs_nothing_more(prod: Prod) -> None:
    """A thief of the old key can't write an entry that counts, whatever time it claims."""
    genuine = prod.promote(prod.candidate("good"), FIRST)
    trust(prod, signatures_table(OTHER, retired={RELEASE: genuine.hash}))
    assert isinstance(genuine.fact.actor, Actor)
    claims = replace(genuine.fact.actor, jti="unused")
    stolen = replace(genuine.fact, semver=FORGED, actor=claims)
    prod.store.append(lambda _: stolen, sign=sign)
    assert latest(prod) == FIRST
    assert "signed with a retired key" in audit(Registry.open(prod.prod), FORGED).findings[0]


@pytest.mark.filterwarnings("ignore::lynx_pipeline.registry.IgnoredEntries")
def test_a_registry_from_before_goes_on(prod: Prod) -> None:
    """Its entries count up to the one that the settings name, and no further."""
    genuine = prod.promote(prod.candidate("good"), FIRST)
    resign(prod, b"")
    trust(prod, signatures_table(RELEASE, unsigned_until=genuine.hash))
    prod.commit()
    prod.issue_tokens_for_head()
    assert latest(prod) == FIRST
    forge(prod, genuine)
    assert latest(prod) == FIRST
    prod.promote(prod.candidate("better"), "v0.2.0")
    assert latest(prod) == "v0.2.0"
    prod.edit(PYPROJECT, genuine.hash, "0" * 64)
    with pytest.raises(BadInput, match="the ledger has no entry with the hash 0"):
        latest(prod)


@both_stores
@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (None, Refused, f"{VARIABLE} is not set"),
        (private_pem(OTHER), Refused, f"the key in {VARIABLE} is none of those"),
        ("-----BEGIN PRIVATE KEY-----\nx", BadInput, f"{VARIABLE}: expected a private key in PEM"),
    ],
    ids=["none", "another", "damaged"],
)
def test_without_a_trusted_key_nothing_changes(
    prod: Prod,
    key: str | None,
    error: type[LynxError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither a promotion nor a rollback."""
    good = prod.candidate("good")
    prod.promote(good, FIRST)
    prod.promote(prod.candidate("better"), "v0.2.0")
    before = prod.place.all()
    monkeypatch.delenv(VARIABLE)
    if key is not None:
        monkeypatch.setenv(VARIABLE, key)
    with pytest.raises(error, match=message):
        prod.promote(prod.candidate("third"), "v0.3.0")
    with pytest.raises(error, match=message):
        prod.rollback(FIRST)
    assert prod.place.all() == before


@pytest.mark.slow
@both_stores
def test_a_service_that_is_down_leaves_the_old_state(
    prod: Prod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is in a key management service. When it is back, the promotion works."""
    with aws.running(tmp_path) as kms:
        public = kms.create("ours", ec.SECP256R1())
        trust(prod, signatures_table().replace("[]", f'[{{public_key = "{public}"}}]'))
        prod.commit()
        prod.issue_tokens_for_head()
        for name, value in {VARIABLE: kms.uri.format("ours"), **kms.environ}.items():
            monkeypatch.setenv(name, value)
        good = prod.candidate("good")
        with monkeypatch.context() as patch:
            for name, value in kms.nowhere.items():
                patch.setenv(name, value)
            with pytest.raises(SystemFailed, match="could not be signed with awskms"):
                prod.promote(good, FIRST)
            assert prod.place.all() == {}
        prod.promote(good, FIRST)
        assert latest(prod) == FIRST
        assert kms.signed == 3  # the gate's result, the bundle's files, and the entry
        (of_model, of_entry) = Registry.open(prod.prod).verify().signatures.splitlines()
        assert PREDICATE in of_model.decode()
        (claim, _) = read_claims(read_envelope(of_entry).payload)
        assert len(claim.entry) == len(sha256(b""))
    assert public_key() not in (prod.root / PYPROJECT).read_text()
