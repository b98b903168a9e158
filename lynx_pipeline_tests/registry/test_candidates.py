"""A promotion is of exactly the candidate that was evaluated and requested."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.domain.candidate_eval import parse_candidate_eval
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation.evidence import EVAL
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.audit import audit
from lynx_pipeline_tests.support.builders import bundle
from lynx_pipeline_tests.support.world import Made, World

V = "v0.1.0-dev"


@pytest.fixture
def student(world: World) -> Made:
    """The evidence of a logged model "student" of a run that also has a teacher among its
    artifacts. The evidence names no run, as the evaluation of a logged model does."""
    folder = bundle(world.folder / "student", body="return ['student']")
    teacher = bundle(world.folder / "teacher", body="return ['teacher']")
    run_id = world.tracking.run({"teacher": teacher})
    with connected(world.tracking.uri) as client:
        made = client.create_logged_model(
            world.tracking.experiment, name="student", source_run_id=run_id
        )
        client.log_model_artifacts(made.model_id, str(folder))
        client.finalize_logged_model(made.model_id, "READY")
    identity = read_bundle(folder)
    evidence = world.folder / "student-evidence"
    evaluated = Made(run_id, identity.canonical_sha, identity.digest, evidence)
    world.evaluate(evaluated, wrong=0)
    change_evidence(evaluated, mlflow_run_id=None, candidate=made.model_id)
    return evaluated


def change_evidence(made: Made, **changes: str | None) -> None:
    """Change keys of the evaluation."""
    values = json.loads((made.evidence / EVAL).read_bytes())
    (made.evidence / EVAL).write_text(json.dumps({**values, **changes}))


def named(made: Made) -> str:
    """The candidate that the evidence names."""
    evaluation = parse_candidate_eval((made.evidence / EVAL).read_bytes(), EVAL)
    return str(evaluation.candidate)


def test_a_logged_model_is_promoted_beside_another_model_of_its_run(
    world: World, student: Made
) -> None:
    """The entry names the run that MLflow knows, and the audit compares the model's id."""
    entry = world.promote(student, V)
    assert entry.fact.artifact_uri == f"models:/{named(student)}"
    assert entry.fact.mlflow_run_id == student.run_id
    assert audit(Registry.open(world.settings), V).findings == ()


def test_an_artifact_is_promoted_beside_another_model_of_its_run(
    world: World, student: Made
) -> None:
    """Its key names the run and the path."""
    teacher = read_bundle(world.folder / "teacher")
    made = replace(student, sha=teacher.canonical_sha, digest=teacher.digest)
    world.evaluate(made, wrong=0)
    change_evidence(made, candidate=f"{student.run_id}:teacher")
    entry = world.promote(made, V)
    assert entry.fact.artifact_uri.endswith(f"{student.run_id}/artifacts/teacher")
    assert audit(Registry.open(world.settings), V).findings == ()


def test_the_audit_reports_an_entry_of_another_model(world: World, student: Made) -> None:
    """Evidence of a logged model names no run that could be compared."""
    entry = world.promote(student, V)
    other = replace(entry.fact, artifact_uri="models:/m-" + "0" * 32, semver="v0.2.0-dev")
    Registry.open(world.settings).store.append(lambda _: other)
    (finding,) = audit(Registry.open(world.settings), "v0.2.0-dev").findings
    assert "artifact_uri: the entry has 'models:/m-000" in finding


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (lambda made: {"candidate": made.run_id}, "belongs to candidate m-.*, expected "),
        (lambda _: {"candidate": "m-" + "0" * 32}, "belongs to candidate m-.*, expected m-000"),
        (lambda _: {"bundle_digest": "0" * 64}, "changed since its request: .* 000000000000 was"),
    ],
    ids=["its run", "another model", "another bundle"],
)
def test_evidence_of_another_candidate_than_the_requested_is_refused(
    world: World, student: Made, asked: Callable[[Made], dict[str, Any]], says: str
) -> None:
    """Even if its bundle passes the gate."""
    before = world.state
    with pytest.raises(BadInput, match=says):
        Registry.open(world.settings).promote(
            student.sha, V, evidence=student.evidence, **asked(student)
        )
    assert world.state == before


def test_evidence_that_names_a_run_with_several_models_is_refused(
    world: World, student: Made
) -> None:
    """Which of them was evaluated is not clear."""
    change_evidence(student, mlflow_run_id=student.run_id, candidate=student.run_id)
    with pytest.raises(BadInput, match="has 2 models, expected exactly one"):
        world.promote(student, V)


def test_a_registration_by_hand_names_one_of_several_models(world: World, student: Made) -> None:
    """The same names as in a request are possible."""
    registry = Registry.open(world.settings)
    with pytest.warns(UserWarning, match="NOT THE CI PATH"):
        by_name = registry.register_pending(student.run_id, "student").entry.fact
    with pytest.warns(UserWarning, match="NOT THE CI PATH"):
        by_id = registry.register_pending(named(student)).entry.fact
    assert by_name == by_id
    assert by_name.artifact_uri == f"models:/{named(student)}"
    assert Path(by_name.mlflow_run_id).name == student.run_id
