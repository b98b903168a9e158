"""The Dagster component, and the definitions of a gate with a name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import (
    AssetKey,
    DagsterInstance,
    Definitions,
    DynamicPartitionsDefinition,
    RunStatusSensorDefinition,
)
from dagster.components.testing import create_defs_folder_sandbox
from dagster.components.testing.utils import component_defs

from lynx_pipeline.component import DeployGate, _settings
from lynx_pipeline.config import load_settings
from lynx_pipeline.defs.build import build_definitions
from lynx_pipeline.defs.gate import Gate
from lynx_pipeline.defs.outcome import failure_of_step
from lynx_pipeline.errors import GATE_MODULES, BadInput, Refused
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.defs.test_definitions import imported
from lynx_pipeline_tests.end_to_end.test_docs import blocks
from lynx_pipeline_tests.support.builders import bundle, project

ASSETS = ("eval_set", "eval_baseline", "candidate_bundle", "candidate_eval", "promotion_decision",
          "production_alias")  # fmt: skip
# Of Dagster's own, about every component.
pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")

TYPE = "lynx_pipeline.component.DeployGate"


@contextmanager
def loaded(*gates: dict[str, Any]) -> Iterator[Definitions]:
    """The definitions of a Dagster project with these gates, each in its own folder."""
    with create_defs_folder_sandbox() as sandbox:
        for number, attributes in enumerate(gates):
            sandbox.scaffold_component(
                DeployGate,
                defs_path=f"gate{number}",
                defs_yaml_contents={"type": TYPE, "attributes": attributes},
            )
        with sandbox.build_all_defs() as defs:
            yield defs


def cause(error: BaseException) -> str:
    """The message of the error at the beginning of the chain."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


def test_two_gates_share_no_name(tmp_path: Path) -> None:
    """Neither an asset, a check, a job, a schedule, a sensor, a partition nor a pool."""
    for name in ("tutor", "quiz"):
        project(tmp_path / name)
    gates = [{"name": name, "project": str(tmp_path / name)} for name in ("tutor", "quiz")]
    with loaded(*gates) as defs:
        graph = defs.resolve_asset_graph()
        assert graph.get_all_asset_keys() == {
            AssetKey([gate, asset]) for gate in ("tutor", "quiz") for asset in ASSETS
        }
        assert {graph.get(key).group_name for key in graph.get_all_asset_keys()} == {
            "tutor",
            "quiz",
        }
        for key in graph.get_all_asset_keys():
            found = graph.get(key).partitions_def
            assert found in (None, DynamicPartitionsDefinition(name=f"{key.path[0]}_candidates"))
            assert graph.get(key).pools in (None, set(), {f"{key.path[0]}_promotion"})
        assert len(graph.asset_check_keys) == 8
        names = [it.name for it in (*(defs.jobs or ()), *(defs.sensors or ()))]
        assert len({*names}) == len(names)
        assert all(name.startswith(("tutor_", "quiz_")) for name in names)
        assert {it.name for it in defs.schedules or ()} == {
            "tutor_archive_daily",
            "quiz_archive_daily",
        }


def test_the_dagster_project_keeps_its_executor_and_loggers(tmp_path: Path) -> None:
    """The gate's own jobs tag their runs, so they have the gate's executor. Its sensors watch no
    other job."""
    defs = build_definitions(project(tmp_path / "p"), "tutor")
    assert (defs.executor, defs.loggers, defs.resources) == (None, None, None)
    assert defs.resolve_implicit_global_asset_job_def().executor_def.name != "in_process"
    jobs = [it for it in defs.resolve_all_job_defs() if not it.name.startswith("__")]
    assert {it.name for it in jobs} == {
        f"tutor_{name}"
        for name in ("evaluate", "promote", "eval_and_promote", "archive_candidates")
    }
    assert {it.executor_def.name for it in jobs} == {"in_process"}
    watching = [it for it in defs.sensors or () if isinstance(it, RunStatusSensorDefinition)]
    assert len(watching) == 2
    watched: Any
    for watched in watching:
        assert {it.name for it in watched._monitored_jobs} <= {it.name for it in jobs}
        assert watched._monitored_jobs


def test_settings_can_be_given_or_read_by_each_step(tmp_path: Path) -> None:
    """Both ways give the same definitions."""
    settings = project(tmp_path / "p")
    for given in (settings, lambda: load_settings(tmp_path / "p")):
        defs = build_definitions(given, "tutor")
        done = defs.resolve_implicit_global_asset_job_def().get_subset(
            asset_selection={AssetKey(["tutor", "eval_set"])}
        )
        assert done.execute_in_process().success


@pytest.mark.parametrize("name", ["a-b", "1a", "a b", "_a", "a.b", "é", "a\n"])
def test_a_name_that_dagster_would_not_accept_is_an_error(name: str, tmp_path: Path) -> None:
    """It says what is allowed."""
    with pytest.raises(BadInput, match="expected letters, digits and underscores"):
        Gate(load_settings, name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"project": "nowhere"}, "Correct 'project' in the gate's defs.yaml", id="path"
        ),
        pytest.param({"project": "p/data"}, "data/pyproject.toml does not exist", id="above"),
        pytest.param({"project": "invalid"}, "'corpus': expected a path", id="settings"),
        pytest.param({"project": "several"}, "or 'project_model' in defs.yaml", id="no model"),
        pytest.param(
            {"project": "several", "project_model": "c"}, "models (a, b), found 'c'", id="model"
        ),
        pytest.param({"name": "a-b"}, "pattern", id="name"),
        pytest.param({"tolerance": 0.5}, "Extra inputs are not permitted", id="a rule"),
    ],
)
def test_an_invalid_gate_is_an_error_that_says_what_to_do(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """Settings in a folder above do not count, and a gate has no rule of its own."""
    project(tmp_path / "p")
    (tmp_path / "invalid").mkdir()
    (tmp_path / "invalid/pyproject.toml").write_text("[tool.lynx_pipeline]\nmodel='m'\ncorpus=7\n")
    (tmp_path / "several").mkdir()
    models = "".join(f'[[tool.lynx_pipeline.models]]\nname = "{it}"\n' for it in "ab")
    (tmp_path / "several/pyproject.toml").write_text(models)
    attributes = {"name": "tutor", "project": "p", **changes}
    attributes["project"] = str(tmp_path / attributes["project"])
    with pytest.raises(Exception, match=r".") as raised, loaded(attributes):
        pass
    assert message in cause(raised.value)


def test_two_gates_of_one_name_are_an_error(tmp_path: Path) -> None:
    """Dagster's own error only names a duplicate asset key."""
    gate = {"name": "tutor", "project": str(project(tmp_path / "p").root)}
    with pytest.raises(Exception, match=r".") as raised, loaded(gate, gate):
        pass
    assert cause(raised.value).startswith("2 gates are named 'tutor'")


def test_gates_share_no_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where LYNX_HOME is set, which all of them see."""
    project(tmp_path / "p")
    monkeypatch.setenv("LYNX_HOME", str(tmp_path / "home"))
    defs = component_defs(component=DeployGate(name="tutor", project=str(tmp_path / "p")))
    job = defs.resolve_job_def("tutor_archive_candidates")
    assert job.execute_in_process().success
    assert _settings(tmp_path / "p", "tutor").home == tmp_path / "home/tutor"
    monkeypatch.delenv("LYNX_HOME")
    assert _settings(tmp_path / "p", "tutor").home == tmp_path / "p/.lynx"


def test_a_gate_may_be_of_one_of_a_projects_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever model the environment names."""
    models = "".join(f'[[tool.lynx_pipeline.models]]\nname = "{it}"\n' for it in "ab")
    (tmp_path / "pyproject.toml").write_text(models)
    monkeypatch.setenv("LYNX_GATE", "a")
    assert _settings(tmp_path, "tutor", "b").model == "b"


@pytest.mark.parametrize(
    ("params", "name", "folder"),
    [
        ({}, "my_gate", "{{ context.project_root }}"),
        ({"name": "tutor"}, "tutor", "{{ context.project_root }}"),
        ({"project": "/models/tutor"}, "my_gate", "/models/tutor"),
    ],
)
def test_the_scaffold_names_the_gate_and_its_project(
    params: dict[str, Any], name: str, folder: str
) -> None:
    """By default the gate is named like its folder, and its project is the Dagster project."""
    with create_defs_folder_sandbox() as sandbox:
        made = sandbox.scaffold_component(
            DeployGate, defs_path="deep/my-gate", scaffold_params=params
        )
        written = yaml.safe_load((made / "defs.yaml").read_text())
    assert written["type"] == TYPE
    assert written["attributes"]["name"] == name
    assert written["attributes"]["project"].endswith(folder)


def test_the_python_of_the_page_merges_two_gates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is, for projects without components."""
    for name in ("tutor", "quiz"):
        project(tmp_path / "models" / name)
    (tmp_path / "acme").mkdir()
    monkeypatch.chdir(tmp_path / "acme")
    (code,) = (text for language, text in blocks("docs/component.md") if language == "python")
    names: dict[str, Any] = {}
    exec(code, names)
    assert len(names["defs"].resolve_asset_graph().get_all_asset_keys()) == 2 * len(ASSETS)


@pytest.mark.slow
def test_a_named_gate_cannot_promote_in_prod_here(
    tmp_path: Path, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs the identity of the project's workflow, as without a name. Nothing in the Dagster
    project's working directory counts."""
    settings = project(tmp_path / "p", pyproject='registry = "registry"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    run_id = tracking.run({"model": bundle(tmp_path / "model")})
    gate = {"name": "tutor", "project": str(settings.root)}
    config = {"ops": {"tutor__promotion_decision": {"config": {"semver": "v0.1.0"}}}}
    with loaded(gate) as defs, DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("tutor_candidates", [run_id])
        evaluated = defs.resolve_job_def("tutor_evaluate").execute_in_process(
            instance=instance, partition_key=run_id
        )
        assert evaluated.success
        monkeypatch.setenv("LYNX_ENV", "prod")
        refused = defs.resolve_job_def("tutor_promote").execute_in_process(
            instance=instance, partition_key=run_id, run_config=config, raise_on_error=False
        )
        assert not refused.success
        (failure,) = (it for it in refused.all_events if it.is_step_failure)
    error = failure_of_step(failure)
    assert isinstance(error, Refused)
    assert "identity" in str(error)
    assert not (settings.root / "registry").exists()


@pytest.mark.slow
def test_the_component_is_found_without_the_extra_gate() -> None:
    """Dagster imports the module to list components, also beside the light client."""
    found = imported("lynx_pipeline.component") - imported("dagster")
    assert "lynx_pipeline" in found
    assert found & GATE_MODULES == set()
