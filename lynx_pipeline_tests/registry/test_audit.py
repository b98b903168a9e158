"""Audits: genuine promotions pass, and tampering is reported."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline.adapters.ledgers.directory import DirectoryLedger
from lynx_pipeline.cli import main
from lynx_pipeline.domain.ledger.chain import evidence_path, seal
from lynx_pipeline.domain.ledger.facts import (
    Evidence,
    Fact,
    Malformed,
    Promoted,
    read_object,
    to_json,
)
from lynx_pipeline.domain.ledger.state import broken_rules
from lynx_pipeline.domain.scorers import NUMERIC
from lynx_pipeline.domain.strict_json import canonical
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.audit import Audit, audit
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support.builders import PROMOTED, fact, promoted, sha256
from lynx_pipeline_tests.support.signing import sign
from lynx_pipeline_tests.support.world import World

A, B, C = "a" * 64, "b" * 64, "c" * 64
V = "v0.1.0-dev"


@pytest.fixture
def world(world: World) -> World:
    """A project whose registry has one promotion with evidence."""
    world.promote(world.candidate("good"), V)
    return world


def folder(world: World) -> Path:
    """The registry's folder."""
    return world.settings.root / "registry"


def audited(world: World, version: str = V) -> Audit:
    """The audit of a version, as a new process would run it."""
    return audit(Registry.open(world.settings), version)


def recorded(world: World) -> tuple[Promoted, dict[str, Any]]:
    """The promotion, and the fields of its evidence."""
    (entry,) = Registry.open(world.settings).history()
    assert isinstance(entry.fact, Promoted)
    assert isinstance(entry.fact.evidence, Evidence)
    return entry.fact, to_json(entry.fact)["evidence"]


def append(world: World, new: Fact) -> None:
    """Append a signed entry without checking any rule."""
    DirectoryLedger(folder(world)).append(lambda _: new, sign=sign)


def test_a_gated_promotion_passes_the_audit(world: World) -> None:
    """The replayed verdict is a pass, and nothing is reported."""
    found = audited(world)
    assert found.findings == found.notes == ()
    assert found.verdict is not None
    assert found.verdict.passed
    assert found.promotion in found.entries
    assert found.is_latest


def test_stored_evidence_is_enough_for_an_audit(world: World, tracking: Tracking) -> None:
    """The floors and the scorer have changed, and the evaluation and the MLflow server are gone."""
    world.settings.baseline.write_text("{}")
    for path in (world.folder / "good-evidence").iterdir():
        path.unlink()
    elsewhere = replace(world.settings, tracking_uri="http://127.0.0.1:1", scorer=NUMERIC)
    assert audit(Registry.open(elsewhere), V).findings == ()


def test_an_entry_from_before_bundle_digests_passes_the_audit(world: World) -> None:
    """Neither it nor its evidence has one. It resolves, and says so."""
    fact, kept = recorded(world)
    values = json.loads(stored_file(world, "candidate_eval").read_bytes())
    del values["bundle_digest"]
    raw = json.dumps(values).encode()
    evidence = read_object({**kept, "candidate_eval_sha256": sha256(raw)}, Evidence)
    old = replace(fact, semver="v0.2.0-dev", bundle_digest=None, evidence=evidence)
    DirectoryLedger(folder(world)).append(lambda _: old, [raw])
    assert audited(world, "v0.2.0-dev").findings == ()
    assert Registry.open(world.settings).resolve("v0.2.0-dev").bundle_digest is None


def stored_file(world: World, name: str) -> Path:
    """The registry's file for this piece of evidence."""
    fact, kept = recorded(world)
    digest = fact.bundle_digest if name == "manifest" else kept[f"{name}_sha256"]
    return folder(world) / evidence_path(str(digest))


@pytest.mark.parametrize("name", ["baseline", "candidate_eval", "predictions", "manifest"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes() + b" "), "was changed"),
    ],
)
def test_missing_or_changed_evidence_is_reported(
    world: World, name: str, damage: Callable[[Path], object], message: str
) -> None:
    """The finding names the file and what is wrong with it."""
    path = stored_file(world, name)
    damage(path)
    (finding,) = audited(world).findings
    assert path.name in finding
    assert message in finding


def test_a_changed_eval_set_fails_the_audit(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """The entry has different digests, and DVC can't restore the right file here."""
    world.settings.eval_set.write_bytes(world.settings.eval_set.read_bytes() + b"\n")
    assert run_command(world, "audit", V) == 3
    assert "DVC could not look up" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"canonical_sha": A}, "canonical_sha: the entry has"),
        ({"bundle_digest": C}, "bundle_digest: the entry has"),
        ({"mlflow_run_id": "0" * 32}, "mlflow_run_id: the entry has"),
        ({"parent_sha": C}, "parent_sha: the entry has"),
        ({"evidence": {"tolerance": 0.5}}, "tolerance: the entry has"),
        ({"evidence": {"isolation": "bubblewrap"}}, "isolation: the entry has"),
        ({"evidence": {"worst_margin": 1.0}}, "worst_margin: the entry has"),
        ({"evidence": {"scorer": "generous/1"}}, "the scorer 'generous/1' is unknown"),
        ({"evidence": {"scorer": NUMERIC.name}}, "expected a decimal number"),
    ],
)
def test_an_entry_that_contradicts_its_evidence_is_reported(
    world: World, change: dict[str, Any], message: str
) -> None:
    """The entry is hashed and chained correctly, but the evidence files have other values."""
    fact, kept = recorded(world)
    evidence = read_object({**kept, **change.pop("evidence", {})}, Evidence)
    append(world, replace(fact, semver="v0.2.0-dev", **{"evidence": evidence, **change}))
    found = audited(world, "v0.2.0-dev")
    assert len(found.findings) == 1
    assert message in found.findings[0]
    assert audited(world).findings == ()


def test_a_promotion_that_the_gate_would_have_refused_is_reported(world: World) -> None:
    """Matching digests do not help if the replayed verdict is a refusal."""
    bad = world.candidate("bad", wrong=6)
    kept = {
        "candidate_eval": (bad.evidence / "candidate_eval.json").read_bytes(),
        "predictions": (bad.evidence / "predictions.parquet").read_bytes(),
    }
    fact, recorded_evidence = recorded(world)
    digests = {f"{name}_sha256": sha256(raw) for name, raw in kept.items()}
    forged = replace(
        fact,
        semver="v0.2.0-dev",
        canonical_sha=bad.sha,
        mlflow_run_id=bad.run_id,
        evidence=read_object({**recorded_evidence, **digests}, Evidence),
    )
    DirectoryLedger(folder(world)).append(lambda _: forged, kept.values())
    found = audited(world, "v0.2.0-dev")
    assert found.verdict is not None
    assert not found.verdict.passed
    assert any("the replayed verdict is a refusal" in finding for finding in found.findings)


@pytest.mark.parametrize("digest", ["", "/../../../../etc/hostname", "a\0b", "A" * 64, B[:63]])
def test_an_invalid_digest_opens_no_file(world: World, digest: str) -> None:
    """An entry can't direct the audit to a file outside the registry."""
    fact, kept = recorded(world)
    evidence = read_object({**kept, "baseline_sha256": digest}, Evidence)
    append(world, replace(fact, semver="v0.2.0-dev", evidence=evidence))
    (finding,) = audited(world, "v0.2.0-dev").findings
    assert "cannot be replayed" in finding


def test_a_promotion_by_hand_is_reported(world: World) -> None:
    """Without evidence there is no verdict to replay."""
    made = world.candidate("any", wrong=12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Registry.open(world.settings).register_pending(made.run_id)
        Registry.open(world.settings).promote(made.sha, "v0.0.0-dev")
    found = audited(world, "v0.0.0-dev")
    assert found.verdict is None
    assert "WITHOUT EVIDENCE" in found.findings[0]


def test_the_lineage_follows_the_parents(world: World) -> None:
    """The lineage ends at the oldest known bundle and names its parent. A cycle also ends it."""
    for number, (sha, parent) in enumerate([(A, C), (B, A)], start=2):
        semver = f"v0.{number}.0-dev"
        append(world, fact(event=PROMOTED, semver=semver, canonical_sha=sha, parent_sha=parent))
    found = audited(world, "v0.3.0-dev")
    assert [entry.fact.canonical_sha for entry in found.lineage] == [A]
    assert found.oldest_parent == C
    append(world, fact(event=PROMOTED, semver="v0.4.0-dev", canonical_sha=C, parent_sha=B))
    chain = [entry.fact.canonical_sha for entry in audited(world, "v0.3.0-dev").lineage]
    assert chain == [A, C, B]


def test_an_audit_lists_every_entry_about_the_version(world: World) -> None:
    """Rollbacks are included, and the audit says whether the version is the latest."""
    world.promote(world.candidate("next"), "v0.2.0-dev")
    assert not audited(world).is_latest
    Registry.open(world.settings).rollback(V)
    found = audited(world)
    assert [entry.fact.event for entry in found.entries] == ["promoted", "rolled_back"]
    assert found.is_latest


# ----- lines that break a rule ----------------------------------------------------------------

INVALID_SEMVERS = [
    "v1.0.0-dev",
    "v1.0.0+build",
    "v1.0.0 ",
    " v1.0.0",
    "v1.0",
    "V1.0.0",
    "v01.0.0",
    "v1.0.0\n",
]


@pytest.mark.filterwarnings("ignore::lynx_pipeline.registry.IgnoredEntries")
@pytest.mark.parametrize("semver", INVALID_SEMVERS)
def test_an_invalid_version_in_prod_is_ignored_and_reported(world: World, semver: str) -> None:
    """The entry never resolves, a valid one beside it still does, and every report lists the
    line."""
    append(world, fact(env=Env.PROD, event=PROMOTED, semver="v0.9.0", canonical_sha=A))
    append(world, fact(env=Env.PROD, event=PROMOTED, semver=semver, canonical_sha=B))
    assert Registry.open(world.prod).resolve().canonical_sha == A
    for version in (semver, semver.strip(), "v1.0.0"):
        with pytest.raises(Refused, match="never promoted"):
            Registry.open(world.prod).resolve(version)
    (finding, *_) = audit(Registry.open(world.prod), semver).findings
    assert finding.startswith("line 3 ")
    assert "is ignored" in finding
    assert [note[:7] for note in audited(world).notes] == ["line 3 "]
    assert run_command(world, "registry", "verify") == 1


@pytest.mark.filterwarnings("ignore::lynx_pipeline.registry.IgnoredEntries")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actor": None}, "verified identity"),
        ({"actor": Malformed({"x": "1"}, "")}, "verified identity"),
        ({"actor": Malformed({"jti": "only"}, "")}, "verified identity"),
        ({"evidence": None}, "needs evidence"),
        ({"evidence": Malformed({"x": 1}, "")}, "needs evidence"),
        ({"semver": "v0.8.0"}, "not greater"),
        ({"semver": "v0.9.0"}, "promoted before"),
    ],
)
def test_an_entry_that_breaks_a_rule_in_prod_is_ignored(
    world: World, changes: dict[str, Any], message: str
) -> None:
    """A promotion needs a verified identity, evidence and a new, greater version."""
    append(world, fact(env=Env.PROD, event=PROMOTED, semver="v0.9.0", canonical_sha=A))
    values = {"env": Env.PROD, "event": PROMOTED, "semver": "v1.0.0", "canonical_sha": B}
    append(world, fact(**{**values, **changes}))
    assert Registry.open(world.prod).resolve().canonical_sha == A
    (broken,) = broken_rules(Registry.open(world.settings).verify(), {})
    assert broken[0].seq == 3
    assert message in broken[1]


@pytest.mark.filterwarnings("ignore::lynx_pipeline.registry.IgnoredEntries")
def test_an_entry_that_reuses_a_token_is_ignored(world: World) -> None:
    """The second entry with the same token is a replay."""
    first = promoted("v0.9.0", env=Env.PROD, canonical_sha=A)
    append(world, first)
    append(world, replace(first, semver="v1.0.0", canonical_sha=B))
    assert Registry.open(world.prod).resolve().canonical_sha == A
    (broken,) = broken_rules(Registry.open(world.settings).verify(), {})
    assert "was used before" in broken[1]


def raw_line(values: dict[str, Any], **changes: Any) -> bytes:
    """A line with these values and a matching hash, even if no ledger may contain it."""
    values = {k: v for k, v in {**values, **changes}.items() if k != "hash" and v is not ...}
    return canonical({**values, "hash": sha256(canonical(values))}) + b"\n"


@pytest.mark.parametrize("env", ["Prod", "prod ", "", "PROD", None, ...])
def test_an_unknown_environment_damages_the_ledger(world: World, env: Any) -> None:
    """Nothing resolves any more, and every reader names the line."""
    (entry,) = Registry.open(world.settings).history()
    new = fact(env=Env.PROD, event=PROMOTED, semver="v1.0.0")
    line = raw_line(seal(2, entry.hash, new).to_json(), env=env)
    add_line(world, line)
    assert_line_2_is_refused(world)


def test_a_duplicate_key_damages_the_ledger(world: World) -> None:
    """Two readers could interpret the line differently."""
    (entry,) = Registry.open(world.settings).history()
    line = seal(2, entry.hash, fact(event=PROMOTED, semver="v0.2.0-dev")).to_line()
    add_line(world, line.replace(b'"env":"dev"', b'"env":"dev","env":"prod"'))
    assert_line_2_is_refused(world)


def add_line(world: World, line: bytes) -> None:
    """Append bytes to the ledger's file."""
    with (folder(world) / "index.jsonl").open("ab") as file:
        file.write(line)


def assert_line_2_is_refused(world: World) -> None:
    """Every reader refuses the ledger and names line 2."""
    for settings in (world.settings, world.prod):
        registry = Registry.open(settings)
        for read in (registry.resolve, registry.verify, lambda it=registry: list(it.history())):
            with pytest.raises(BadInput, match="line 2"):
                read()
    with pytest.raises(BadInput, match="line 2"):
        audited(world)


# ----- as a command ---------------------------------------------------------------------------


def run_command(world: World, *arguments: str) -> int:
    """Run a command in the project. Returns its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world.settings.root)
        patch.setenv("MLFLOW_TRACKING_URI", world.tracking.uri)
        return main(list(arguments))


def test_the_command_prints_text_or_json(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The text includes the bucket table. The exit code is 0 only if the audit passes."""
    assert run_command(world, "audit", V) == 0
    out = capsys.readouterr().out
    for part in (V, "the latest in dev", "half.a", "PASSED", "Audit passed", "CpQU"):
        assert part in out
    assert run_command(world, "audit", V, "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["holds"] is True
    assert values["replayed_verdict"]["passed"] is True
    stored_file(world, "predictions").unlink()
    assert run_command(world, "audit", V) == 1
    assert "FINDINGS" in capsys.readouterr().out
    assert run_command(world, "audit", "v9.9.9-dev") == 1
    assert "no entry names" in capsys.readouterr().err


def test_escape_sequences_in_the_ledger_are_not_printed(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Raw escape sequences could hide lines on the terminal."""
    append(world, fact(event=PROMOTED, semver="v0.2.0\x1b[2K-dev"))
    assert run_command(world, "registry", "list") == 0
    assert "\x1b" not in capsys.readouterr().out
