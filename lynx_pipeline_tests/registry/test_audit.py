"""Audits: what holds is said to hold, and whatever was tampered with is named."""

import json
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline.adapters.ledgers.directory import DirectoryLedger
from lynx_pipeline.cli import main
from lynx_pipeline.domain.ledger.chain import evidence_path, seal
from lynx_pipeline.domain.ledger.facts import Evidence, Fact, Malformed, Promoted, read_object
from lynx_pipeline.domain.ledger.state import broken_rules
from lynx_pipeline.domain.scorers import NUMERIC
from lynx_pipeline.domain.strict_json import canonical
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.audit import Audit, audit
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support.builders import PROMOTED, fact, project, promoted, sha256
from lynx_pipeline_tests.support.world import World

A, B, C = "a" * 64, "b" * 64, "c" * 64
V = "v0.1.0-dev"


@pytest.fixture
def world(tmp_path: Path, tracking: Tracking) -> World:
    """A project whose registry holds one promotion on evidence."""
    settings = project(
        tmp_path / "project",
        environ={"MLFLOW_TRACKING_URI": tracking.uri},
        pyproject='registry = "registry"\n',
    )
    world = World(settings, tracking, tmp_path)
    world.promote(world.candidate("good"), V)
    return world


def folder(world: World) -> Path:
    """The registry's folder."""
    return world.settings.root / "registry"


def audited(world: World, version: str = V) -> Audit:
    """The audit, as a new process would do it."""
    return audit(Registry.open(world.settings), version)


def recorded(world: World) -> tuple[Promoted, dict[str, Any]]:
    """The promotion, and its evidence as the file has it."""
    (entry,) = Registry.open(world.settings).history()
    assert isinstance(entry.fact, Promoted)
    assert isinstance(entry.fact.evidence, Evidence)
    return entry.fact, asdict(entry.fact.evidence)


def append(world: World, new: Fact) -> None:
    """Write an entry past all rules, as somebody with a text editor and patience would."""
    DirectoryLedger(folder(world)).append(lambda _: new)


def test_a_gated_promotion_holds(world: World) -> None:
    """The verdict is worked out again, and the story is complete."""
    found = audited(world)
    assert found.findings == found.notes == ()
    assert found.verdict is not None
    assert found.verdict.passed
    assert found.promotion in found.entries
    assert found.is_latest


def test_it_holds_however_the_project_moved_on(world: World, tracking: Tracking) -> None:
    """Other floors and scorer, no evaluation left, no run left: the kept evidence is enough."""
    world.settings.baseline.write_text("{}")
    for path in (world.folder / "good-evidence").iterdir():
        path.unlink()
    elsewhere = replace(world.settings, tracking_uri="http://127.0.0.1:1", scorer=NUMERIC)
    assert audit(Registry.open(elsewhere), V).findings == ()


def piece(world: World, name: str) -> Path:
    """The kept file that the entry names so."""
    return folder(world) / evidence_path(recorded(world)[1][f"{name}_sha256"])


@pytest.mark.parametrize("name", ["baseline", "candidate_eval", "predictions"])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes() + b" "), "was changed"),
    ],
)
def test_lost_or_changed_evidence_is_named(
    world: World, name: str, damage: Callable[[Path], object], says: str
) -> None:
    """Nothing is said to hold that can't be shown."""
    path = piece(world, name)
    damage(path)
    (finding,) = audited(world).findings
    assert path.name in finding
    assert says in finding


def test_a_changed_eval_set_is_not_scored_on(world: World) -> None:
    """Its digests are in the entry; here DVC can't bring back the right one, and that is said."""
    world.settings.eval_set.write_bytes(world.settings.eval_set.read_bytes() + b"\n")
    assert main_exit(world, "audit", V) in (2, 3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"canonical_sha": A}, "canonical_sha: the entry has"),
        ({"mlflow_run_id": "0" * 32}, "mlflow_run_id: the entry has"),
        ({"parent_sha": C}, "parent_sha: the entry has"),
        ({"evidence": {"tolerance": 0.5}}, "tolerance: the entry has"),
        ({"evidence": {"isolation": "bubblewrap"}}, "isolation: the entry has"),
        ({"evidence": {"worst_margin": 1.0}}, "worst_margin: the entry has"),
        ({"evidence": {"scorer": "generous/1"}}, "the scorer 'generous/1' is unknown"),
        ({"evidence": {"scorer": NUMERIC.name}}, "expected a decimal number"),
    ],
)
def test_an_entry_that_says_more_than_its_evidence_is_caught(
    world: World, change: dict[str, Any], says: str
) -> None:
    """Sealed and chained as it should be, and still not what the files show."""
    fact, kept = recorded(world)
    evidence = read_object({**kept, **change.pop("evidence", {})}, Evidence)
    append(world, replace(fact, semver="v0.2.0-dev", **{"evidence": evidence, **change}))
    found = audited(world, "v0.2.0-dev")
    assert len(found.findings) == 1
    assert says in found.findings[0]
    assert audited(world).findings == ()


def test_a_promotion_that_the_gate_would_have_refused_is_caught(world: World) -> None:
    """Digests of true files prove nothing where the rule says no."""
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
def test_a_digest_that_is_none_opens_nothing(world: World, digest: str) -> None:
    """An entry can't send the auditor to another file."""
    fact, kept = recorded(world)
    evidence = read_object({**kept, "baseline_sha256": digest}, Evidence)
    append(world, replace(fact, semver="v0.2.0-dev", evidence=evidence))
    (finding,) = audited(world, "v0.2.0-dev").findings
    assert "cannot be replayed" in finding


def test_a_promotion_by_hand_has_nothing_to_replay(world: World) -> None:
    """And is not said to hold."""
    made = world.candidate("any", wrong=12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Registry.open(world.settings).register_pending(made.run_id)
        Registry.open(world.settings).promote(made.sha, "v0.0.0-dev")
    found = audited(world, "v0.0.0-dev")
    assert found.verdict is None
    assert "WITHOUT EVIDENCE" in found.findings[0]


def test_the_lineage_follows_the_parents(world: World) -> None:
    """To the oldest that the registry knows, and says where it ends; a circle ends too."""
    for number, (sha, parent) in enumerate([(A, C), (B, A)], start=2):
        semver = f"v0.{number}.0-dev"
        append(world, fact(event=PROMOTED, semver=semver, canonical_sha=sha, parent_sha=parent))
    found = audited(world, "v0.3.0-dev")
    assert [entry.fact.canonical_sha for entry in found.lineage] == [A]
    assert found.oldest_parent == C
    append(world, fact(event=PROMOTED, semver="v0.4.0-dev", canonical_sha=C, parent_sha=B))
    chain = [entry.fact.canonical_sha for entry in audited(world, "v0.3.0-dev").lineage]
    assert chain == [A, C, B]


def test_every_entry_about_the_version_is_in_it(world: World) -> None:
    """Rollbacks too; afterwards it says what is in force."""
    world.promote(world.candidate("next"), "v0.2.0-dev")
    assert not audited(world).is_latest
    Registry.open(world.settings).rollback(V)
    found = audited(world)
    assert [entry.fact.event for entry in found.entries] == ["promoted", "rolled_back"]
    assert found.is_latest


# ----- lines that break a rule ----------------------------------------------------------------

ODD = ["v1.0.0-dev", "v1.0.0+build", "v1.0.0 ", " v1.0.0", "v1.0", "V1.0.0", "v01.0.0", "v1.0.0\n"]


@pytest.mark.parametrize("semver", ODD)
def test_an_odd_version_in_prod_counts_for_nothing_and_is_reported(
    world: World, semver: str
) -> None:
    """It never resolves, a good version beside it does, and no report leaves the line out."""
    append(world, fact(env=Env.PROD, event=PROMOTED, semver="v0.9.0", canonical_sha=A))
    append(world, fact(env=Env.PROD, event=PROMOTED, semver=semver, canonical_sha=B))
    assert Registry.open(world.prod).resolve().canonical_sha == A
    for asked in (semver, semver.strip(), "v1.0.0"):
        with pytest.raises(Refused, match="never promoted"):
            Registry.open(world.prod).resolve(asked)
    (finding, *_) = audit(Registry.open(world.prod), semver).findings
    assert finding.startswith("line 3 ")
    assert "is ignored" in finding
    assert [note[:7] for note in audited(world).notes] == ["line 3 "]
    assert main_exit(world, "registry", "verify") == 1


@pytest.mark.parametrize(
    ("changes", "says"),
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
def test_an_unproven_entry_in_prod_counts_for_nothing(
    world: World, changes: dict[str, Any], says: str
) -> None:
    """Whoever writes it."""
    append(world, fact(env=Env.PROD, event=PROMOTED, semver="v0.9.0", canonical_sha=A))
    values = {"env": Env.PROD, "event": PROMOTED, "semver": "v1.0.0", "canonical_sha": B}
    append(world, fact(**{**values, **changes}))
    assert Registry.open(world.prod).resolve().canonical_sha == A
    (broken,) = broken_rules(Registry.open(world.settings).verify())
    assert broken[0].seq == 3
    assert says in broken[1]


def test_a_token_that_two_entries_name_counts_once(world: World) -> None:
    """The second one is a replay."""
    first = promoted("v0.9.0", env=Env.PROD, canonical_sha=A)
    append(world, first)
    append(world, replace(first, semver="v1.0.0", canonical_sha=B))
    assert Registry.open(world.prod).resolve().canonical_sha == A
    (broken,) = broken_rules(Registry.open(world.settings).verify())
    assert "was used before" in broken[1]


def unreadable(values: dict[str, Any], **changes: Any) -> bytes:
    """A line with these values and a hash that fits, whatever a ledger may hold."""
    values = {k: v for k, v in {**values, **changes}.items() if k != "hash" and v is not ...}
    return canonical({**values, "hash": sha256(canonical(values))}) + b"\n"


@pytest.mark.parametrize("env", ["Prod", "prod ", "", "PROD", None, ...])
def test_an_environment_that_is_none_damages_the_ledger(world: World, env: Any) -> None:
    """Nothing resolves any more, and verify, audit and list name the line."""
    (entry,) = Registry.open(world.settings).history()
    new = fact(env=Env.PROD, event=PROMOTED, semver="v1.0.0")
    line = unreadable(seal(2, entry.hash, new).to_json(), env=env)
    add_line(world, line)
    refused_by_line(world)


def test_a_doubled_key_damages_the_ledger(world: World) -> None:
    """Two readers could read two meanings."""
    (entry,) = Registry.open(world.settings).history()
    line = seal(2, entry.hash, fact(event=PROMOTED, semver="v0.2.0-dev")).to_line()
    add_line(world, line.replace(b'"env":"dev"', b'"env":"dev","env":"prod"'))
    refused_by_line(world)


def add_line(world: World, line: bytes) -> None:
    """Append bytes to the file."""
    with (folder(world) / "index.jsonl").open("ab") as file:
        file.write(line)


def refused_by_line(world: World) -> None:
    """Every reader refuses, and says line 2."""
    for settings in (world.settings, world.prod):
        registry = Registry.open(settings)
        for read in (registry.resolve, registry.verify, lambda it=registry: list(it.history())):
            with pytest.raises(BadInput, match="line 2"):
                read()
    with pytest.raises(BadInput, match="line 2"):
        audited(world)


# ----- as a command ---------------------------------------------------------------------------


def main_exit(world: World, *arguments: str) -> int:
    """The command's exit code, run in the project."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world.settings.root)
        patch.setenv("MLFLOW_TRACKING_URI", world.tracking.uri)
        return main(list(arguments))


def test_the_command_tells_the_story(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """As text with the bucket table, and as JSON; exit code 0 only if everything holds."""
    assert main_exit(world, "audit", V) == 0
    said = capsys.readouterr().out
    for part in (V, "the latest in dev", "half.a", "PASSED", "Audit passed", "CpQU"):
        assert part in said
    assert main_exit(world, "audit", V, "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["holds"] is True
    assert values["replayed_verdict"]["passed"] is True
    piece(world, "predictions").unlink()
    assert main_exit(world, "audit", V) == 1
    assert "FINDINGS" in capsys.readouterr().out
    assert main_exit(world, "audit", "v9.9.9-dev") == 1
    assert "no entry names" in capsys.readouterr().err


def test_what_a_stranger_wrote_does_not_reach_the_terminal_raw(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Escape sequences could hide lines."""
    append(world, fact(event=PROMOTED, semver="v0.2.0\x1b[2K-dev"))
    assert main_exit(world, "registry", "list") == 0
    assert "\x1b" not in capsys.readouterr().out


def test_rollback_and_promotion_by_command_move_the_alias(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a tracking server that is down is told, while the registry's change stands."""
    from lynx_pipeline.adapters.mlflow_tracking import connected

    world.promote(world.candidate("next"), "v0.2.0-dev")

    def alias() -> str:
        with connected(world.tracking.uri) as client:
            version = client.get_model_version_by_alias("tiny", "dev")
        return str(version.tags["lynx.semver"])

    assert main_exit(world, "registry", "rollback", V) == 0
    assert alias() == V
    assert main_exit(world, "registry", "rollback", "v0.2.0-dev") == 0
    assert alias() == "v0.2.0-dev"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world.settings.root)
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        assert main(["registry", "rollback", V]) == 0
    assert "MLflow's alias has not" in capsys.readouterr().err
    assert Registry.open(world.settings).resolve().semver == V
    assert alias() == "v0.2.0-dev"
