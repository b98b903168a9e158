"""A promoted version, exported: programs that know nothing of this project verify it."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest

from lynx_pipeline.adapters.ledgers.directory import SIGNATURES
from lynx_pipeline.adapters.signing import VARIABLE
from lynx_pipeline.cli import main
from lynx_pipeline.domain.ledger.facts import Actor
from lynx_pipeline.domain.ledger.model_signature import PREDICATE
from lynx_pipeline.domain.ledger.statements import read_envelope
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.audit import audit
from lynx_pipeline.registry.fetching import fetch
from lynx_pipeline_tests.registry.prod.conftest import Prod, both_stores
from lynx_pipeline_tests.support import REPO
from lynx_pipeline_tests.support.builders import sha256
from lynx_pipeline_tests.support.package_index import index
from lynx_pipeline_tests.support.signing import (
    RELEASE,
    elliptic_key,
    private_pem,
    public_key,
    signed,
)

V = "v0.1.0"
STOCK = (
    *("securesystemslib", "in-toto-attestation", "cyclonedx-python-lib[json-validation]"),
    *("model-signing==1.1.1", "pyopenssl==26.4.0"),  # it imports pyopenssl, and does not require it
)
# Runs in an environment without this project. Arguments: the exported folder, the public key.
VERIFIER = """
import base64, hashlib, importlib.util, json, sys
from pathlib import Path
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementPb
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

assert importlib.util.find_spec("lynx_pipeline") is None
folder = Path(sys.argv[1])
key = SSlibKey.from_crypto(load_der_public_key(base64.b64decode(sys.argv[2])))

def sha256(name):
    return hashlib.sha256((folder / name).read_bytes()).hexdigest()

predicates = []
lines = (folder / "attestations.intoto.jsonl").read_text().splitlines()
for line in lines:
    envelope = Envelope.from_dict(json.loads(line))
    envelope.verify([key], 1)
    assert envelope.payload_type == "application/vnd.in-toto+json"
    statement = json_format.Parse(envelope.payload, StatementPb())
    Statement.copy_from_pb(statement).validate()
    predicates.append((statement.predicate_type, json.loads(envelope.payload)))
(summary, of_entry), (results, of_results) = predicates
digests = {it["digest"]["sha256"] for it in of_entry["subject"]}
assert digests == {sha256("entry.json"), sha256("bundle_manifest.json")}
assert summary == "https://slsa.dev/verification_summary/v1"
assert of_entry["predicate"]["policy"]["digest"]["sha256"] == sha256("eval_baseline.json")
(based_on,) = of_entry["predicate"]["inputAttestations"]
assert based_on["digest"]["sha256"] == hashlib.sha256(f"{lines[1]}\\n".encode()).hexdigest()
assert results == "https://in-toto.io/attestation/test-result/v0.1"
named = {it["name"]: it["digest"]["sha256"] for it in of_results["predicate"]["configuration"]}
assert named["predictions"] == sha256("predictions.parquet")
assert named["candidate evaluation"] == sha256("candidate_eval.json")
assert named["baseline"] == sha256("eval_baseline.json")
bom = (folder / "bom.cdx.json").read_text()
assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bom) is None
print("verified", ", ".join(of_results["predicate"]["passedTests"]))
"""


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with stock verifiers, and without this project."""
    venv = tmp_path_factory.mktemp("stock") / "venv"
    install = ["uv", "pip", "install", "--quiet", "--python", str(venv)]
    locked = ["--constraints", str(REPO / "requirements-dev.lock")]
    for command in (
        ["uv", "venv", "--quiet", "--python", sys.executable, str(venv)],
        [*install, *locked, *STOCK, "cryptography"],
    ):
        subprocess.run(command, check=True, env={**os.environ, **index()})
    return venv / "bin/python"


def sign_with_an_elliptic_key(prod: Prod, patch: pytest.MonkeyPatch) -> None:
    """Use an ECDSA key from now on, in the settings and in the job."""
    prod.edit("pyproject.toml", public_key(), public_key(elliptic_key()))
    prod.commit()
    prod.issue_tokens_for_head()
    patch.setenv(VARIABLE, private_pem(elliptic_key()))


def export(prod: Prod, folder: Path, version: str = V) -> int:
    """Export the version, as the command does."""
    with chdir(prod.root), pytest.MonkeyPatch.context() as patch:
        patch.setenv("LYNX_ENV", "prod")
        return main(["audit", version, "--export", str(folder)])


@pytest.mark.slow(seconds=40)
@both_stores
def test_stock_tools_verify_an_export(
    prod: Prod, stock: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Signatures, statements, the digests that they name, and the bill of materials."""
    entry = prod.promote(prod.candidate("good", wrong=0), V)
    folder = tmp_path / "export"
    assert export(prod, folder) == 0
    assert "Exported to" in capsys.readouterr().err
    assert sha256((folder / "entry.json").read_bytes()) == entry.hash

    def verify(key: str) -> subprocess.CompletedProcess[str]:
        command = [str(stock), "-c", VERIFIER, str(folder), key]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, env={}
        )

    done = verify(public_key())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "verified half.a, all.x, half.b\n"
    assert "VerificationError" in verify(public_key("other")).stderr
    for name in ("entry.json", "predictions.parquet", "eval_baseline.json"):
        file = folder / name
        raw = file.read_bytes()
        file.write_bytes(raw + b" ")
        assert "AssertionError" in verify(public_key()).stderr
        file.write_bytes(raw)

    bom = json.loads((folder / "bom.cdx.json").read_bytes())
    model = bom["metadata"]["component"]
    assert (model["name"], model["version"]) == ("tiny", V)
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert metrics[0] == {
        "type": "accuracy",
        "value": "1.000000",
        "slice": "half.a",
        "confidenceInterval": {"lowerBound": "0.609666", "upperBound": "1.000000"},
    }
    names = {it["name"] for it in model["components"]}
    assert names == {"MLmodel", "code/tiny_loader.py"}
    card = (folder / "MODEL_CARD.md").read_text()
    assert card.startswith("# tiny v0.1.0\n")
    assert "PASSED: all 3 buckets kept their floor." in card
    assert card.count("half.") >= 2


@pytest.mark.slow(seconds=40)
@both_stores
def test_model_signing_verifies_a_fetched_bundle(
    prod: Prod, stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its command accepts the promoted files, and no other ones."""
    sign_with_an_elliptic_key(prod, monkeypatch)
    prod.promote(prod.candidate("good"), V)
    folder, bundle, key = (tmp_path / name for name in ("export", "bundle", "key.pem"))
    assert export(prod, folder) == 0
    fetch(Registry.open(prod.prod), V, bundle)
    key.write_text(
        f"-----BEGIN PUBLIC KEY-----\n{public_key(elliptic_key())}\n-----END PUBLIC KEY-----\n"
    )

    def verify(signature: Path = folder / "model.sig") -> str:
        command = [str(stock.with_name("model_signing")), "verify", "key", str(bundle)]
        command += ["--signature", str(signature), "--public_key", str(key)]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, env={}
        )
        assert ("succeeded" in done.stdout) == (done.returncode == 0), done
        return done.stdout + done.stderr

    assert "Verification succeeded" in verify()
    inside = bundle / "model.sig"
    shutil.copy(folder / "model.sig", inside)
    assert "Verification succeeded" in verify(inside)
    inside.unlink()
    loader = bundle / "code/tiny_loader.py"
    raw = loader.read_bytes()
    loader.write_bytes(raw[:-1] + b" ")
    assert "Hash mismatch for 'code/tiny_loader.py'" in verify()
    loader.unlink()
    assert "Missing files" in verify()
    loader.write_bytes(raw)
    (bundle / "more").write_bytes(b"")
    assert "Extra files found" in verify()
    (bundle / "more").unlink()
    signature = json.loads((folder / "model.sig").read_bytes())
    payload = json.loads(base64.b64decode(signature["dsseEnvelope"]["payload"]))
    payload["subject"][0]["name"] = "tiny@v9.9.9"
    signature["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    forged = tmp_path / "forged.sig"
    forged.write_text(json.dumps(signature))
    assert "Verification failed" in verify(forged)
    assert "Verification succeeded" in verify()


def test_an_export_says_why_it_has_no_signature_of_the_files(
    prod: Prod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key is one that ``model_signing`` can't verify, or the entry is from before."""
    prod.promote(prod.candidate("good"), V)
    assert export(prod, tmp_path / "ed25519") == 0
    assert "Without model.sig: the entry is signed with an Ed25519 key" in capsys.readouterr().err
    assert not (tmp_path / "ed25519/model.sig").exists()

    sign_with_an_elliptic_key(prod, monkeypatch)
    prod.edit("pyproject.toml", "keys = [", f'keys = [{{public_key = "{public_key()}"}}, ')
    second = "v0.2.0"
    prod.commit()
    prod.issue_tokens_for_head()
    prod.promote(prod.candidate("better"), second)
    assert export(prod, tmp_path / "new", second) == 0
    assert "Without" not in capsys.readouterr().err
    assert (tmp_path / "new/model.sig").exists()
    file = prod.root / "registry" / SIGNATURES
    before = file.read_bytes()
    file.write_bytes(b"".join(it for it in before.splitlines(True) if PREDICATE.encode() not in it))
    assert export(prod, tmp_path / "old", second) == 0
    assert "Without model.sig: the registry has none" in capsys.readouterr().err


def test_a_signature_of_other_files_is_a_finding(
    prod: Prod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audit compares it with the manifest that the entry names, and with the reader's keys."""
    sign_with_an_elliptic_key(prod, monkeypatch)
    first = prod.promote(prod.candidate("good"), V)
    prod.promote(prod.candidate("better"), "v0.2.0")
    file = prod.root / "registry" / SIGNATURES
    lines = file.read_bytes().splitlines(keepends=True)
    others = json.loads(lines[2])
    assert others["predicateType"] == PREDICATE
    of_others = json.dumps({**others, "entry": first.hash}).encode()
    file.write_bytes(b"".join((of_others, b"\n", *lines[1:])))
    (finding,) = audit(Registry.open(prod.prod), V).findings
    assert "the signature of the bundle's files was made with another key, or of" in finding
    file.write_bytes(b"".join((of_others, b"\n", *lines)))  # what somebody adds changes nothing
    assert audit(Registry.open(prod.prod), V).findings == ()


def test_an_export_replaces_nothing_and_needs_a_clean_audit(
    prod: Prod, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is complete, or it is not there."""
    prod.promote(prod.candidate("good"), V)
    folder = tmp_path / "export"
    folder.mkdir()
    assert export(prod, folder) == 2
    assert "exists already" in capsys.readouterr().err
    assert [*folder.iterdir()] == []
    folder.rmdir()
    (prod.root / "registry" / SIGNATURES).write_bytes(b"")
    assert export(prod, folder) == 1
    assert not folder.exists()


def test_an_export_from_dev_has_no_statements(prod: Prod, tmp_path: Path) -> None:
    """Nothing is signed there."""
    made = prod.candidate("good")
    Registry.open(prod.settings).promote(made.sha, f"{V}-dev", evidence=made.evidence)
    with chdir(prod.root):
        assert main(["audit", f"{V}-dev", "--export", str(tmp_path / "export")]) == 0
    names = {it.name for it in (tmp_path / "export").iterdir()}
    assert names == {
        *("entry.json", "eval_baseline.json", "candidate_eval.json", "predictions.parquet"),
        *("bundle_manifest.json", "bom.cdx.json", "MODEL_CARD.md"),
    }


def test_a_signed_statement_that_says_something_else_is_a_finding(prod: Prod) -> None:
    """The key's holder may sign anything. The audit compares it with the entry and the verdict."""
    genuine = prod.promote(prod.candidate("good"), V)
    assert audit(Registry.open(prod.prod), V).findings == ()
    file = prod.root / "registry" / SIGNATURES
    envelope = read_envelope(file.read_bytes())
    assert isinstance(genuine.fact.actor, Actor)
    evidence = prod.root / "registry" / "evidence"

    def named(results: bytes) -> bytes:
        """The entry's statement, naming this as the gate's result."""
        digest = sha256(results)
        (evidence / digest[:2]).mkdir(exist_ok=True)
        (evidence / digest[:2] / digest).write_bytes(results)
        said = json.loads(envelope.payload)
        (based_on,) = said["predicate"]["inputAttestations"]
        old = based_on["digest"]["sha256"]
        # Its path first: another digest in the statement may begin with the same two digits.
        return envelope.payload.replace(
            f"evidence/{old[:2]}/{old}".encode(), f"evidence/{digest[:2]}/{digest}".encode()
        ).replace(old.encode(), digest.encode())

    (of_entry, of_results) = audit(Registry.open(prod.prod), V).attestations.envelopes
    assert of_entry == envelope
    better = of_results.payload.replace(b'"passedTests":["half.a",', b'"passedTests":["half.z",')
    assert better != of_results.payload
    for payload, message in (
        (envelope.payload.replace(b"PASSED", b"FAILED"), "is not what a promotion writes"),
        (named(signed(better, RELEASE)), "the gate's signed result differs from the replayed"),
        (named(signed(of_results.payload, "other")), "the entry's statement names has no valid"),
        (envelope.payload.replace(b'"inputAtt', b'"inputAss'), "is not what a promotion writes"),
    ):
        file.write_bytes(signed(payload, RELEASE))
        found = audit(Registry.open(prod.prod), V).findings
        assert len(found) == 1
        assert message in found[0]
    missing = named(signed(better, RELEASE))
    for it in evidence.glob(f"*/{hashlib.sha256(signed(better, RELEASE)).hexdigest()}"):
        it.unlink()
    file.write_bytes(signed(missing, RELEASE))
    (finding,) = audit(Registry.open(prod.prod), V).findings
    assert "is missing" in finding
