"""Several models in one project: what each one's settings are, and which one is meant."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from lynx_pipeline.config import (
    GitRemote,
    gate_name,
    load_each,
    load_model,
    load_project,
    load_settings,
)
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.test_config import write
from lynx_pipeline_tests.test_config_identity import IDENTITY

SHARED = '[tool.lynx_pipeline]\nscorer = "numeric/1"\njudges = [".github"]\n'
TUTOR = '[[tool.lynx_pipeline.models]]\nname = "tutor"\neval_set = "t.jsonl"\nbaseline = "t.json"\n'
ROUTER = '[[tool.lynx_pipeline.models]]\nname = "my-router"\neval_set = "r"\nbaseline = "r.json"\n'
BOTH = SHARED + TUTOR + ROUTER
ON_GIT = "git+https://git.example/team/models"


def of(folder: Path, model: str, **environ: str) -> Mapping[str, object]:
    """The settings of one model, as a dictionary."""
    found = load_settings(folder, {"LYNX_GATE": model, **environ})
    return {name: getattr(found, name) for name in found.__slots__}


def test_a_model_has_its_own_settings_and_the_shared_ones(tmp_path: Path) -> None:
    """Except for the tables of the models, they are those of a project with this one model."""
    folder = write(tmp_path, BOTH + "price_per_hour = 2\n")
    alone = tmp_path / "alone"
    alone.mkdir()
    write(alone, SHARED + 'model = "my-router"\neval_set = "r"\nbaseline = "r.json"\n'
          "price_per_hour = 2\n")  # fmt: skip
    router = of(folder, "my-router")
    single = load_settings(alone, {})
    for name, value in router.items():
        if name not in ("root", "home", "registry", "tracking_uri", "gate"):
            expected = getattr(single, name)
            if isinstance(value, Path):
                assert value.relative_to(folder) == expected.relative_to(alone), name
            else:
                assert value == expected, name
    assert of(folder, "tutor")["price_per_hour"] == 0.05


def test_a_subtable_is_merged_key_by_key(tmp_path: Path) -> None:
    """What an entry does not have comes from the shared table."""
    text = f"{SHARED}[tool.lynx_pipeline.evaluation]\nbatch_size = 8\nworkers = 3\n{TUTOR}"
    folder = write(tmp_path, f"{text}evaluation = {{ batch_size = 256 }}\n{ROUTER}")
    tutor, router = (load_settings(folder, {"LYNX_GATE": it}) for it in ("tutor", "my-router"))
    assert (tutor.evaluation.limits.batch_size, tutor.evaluation.workers) == (256, 3)
    assert (router.evaluation.limits.batch_size, router.evaluation.workers) == (8, 3)


@pytest.mark.parametrize(
    ("shared", "own", "environ", "expected"),
    [
        pytest.param("", "", {}, ".lynx/tutor/registry", id="dev"),
        pytest.param("r", "", {}, "r/tutor", id="a shared folder"),
        pytest.param("r", "mine", {}, "mine", id="its own folder"),
        pytest.param(ON_GIT, "", {}, "lynx-registry/tutor", id="a shared repository"),
        pytest.param(f"{ON_GIT}#b", "", {}, "b/tutor", id="a shared branch"),
        pytest.param(f"{ON_GIT}#b", f"{ON_GIT}#c", {}, "c", id="its own branch"),
        pytest.param("r", "mine", {"LYNX_REGISTRY": "/tmp/x"}, "/tmp/x/tutor", id="variable"),
    ],
)
def test_each_model_has_its_own_registry(
    tmp_path: Path, shared: str, own: str, environ: dict[str, str], expected: str
) -> None:
    """A registry contains one model's ledger."""
    shared, own = (f"registry = {json.dumps(it)}\n" if it else "" for it in (shared, own))
    folder = write(tmp_path, SHARED + shared + TUTOR + own + ROUTER)
    tutor, router = (of(folder, it, **environ)["registry"] for it in ("tutor", "my-router"))
    assert tutor != router
    if isinstance(tutor, GitRemote):
        assert tutor.branch == expected
    else:
        assert tutor == tmp_path / expected


def test_models_share_the_project_and_keep_their_state_apart(tmp_path: Path) -> None:
    """The same run may be a candidate of both."""
    folder = write(tmp_path, BOTH)
    tutor, router = (load_settings(folder, {"LYNX_GATE": it}) for it in ("tutor", "my-router"))
    assert tutor.home == router.home == load_project(folder, {}).home == tmp_path / ".lynx"
    assert tutor.tracking_uri == router.tracking_uri
    assert tutor.candidates == tmp_path / ".lynx/tutor/candidates"
    assert router.candidates == tmp_path / ".lynx/my-router/candidates"
    assert (tutor.gate, router.gate) == ("tutor", "my_router")


def test_the_model_has_to_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that a workflow sets to nothing names none."""
    folder = write(tmp_path, BOTH)
    for environ in ({}, {"LYNX_GATE": ""}):
        with pytest.raises(BadInput, match=r"has 2 models: tutor, my-router\. Name one: --gate "):
            load_settings(folder, environ)
    for other in ("my_router", "tutor ", "Tutor", "x"):
        with pytest.raises(BadInput, match=r"one of the project's models \(tutor, my-router\)"):
            load_settings(folder, {"LYNX_GATE": other})
    monkeypatch.chdir(folder)
    assert [it.model for it in load_each({})] == ["tutor", "my-router"]
    assert [it.model for it in load_each({"LYNX_GATE": "tutor"})] == ["tutor"]
    monkeypatch.setenv("LYNX_GATE", "tutor")
    assert load_model("my-router").model == "my-router"


def test_a_project_with_one_model_needs_no_name(tmp_path: Path) -> None:
    """Its own is accepted, so that a job can always pass it."""
    folder = write(tmp_path, '[tool.lynx_pipeline]\nmodel = "m"\n')
    for environ in ({}, {"LYNX_GATE": ""}, {"LYNX_GATE": "m"}):
        assert load_settings(folder, environ).gate == ""
    with pytest.raises(BadInput, match="the project's only model is 'm', found 'tutor'"):
        load_settings(folder, {"LYNX_GATE": "tutor"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(f"{SHARED}models = 1\n", "expected one or more tables", id="a number"),
        pytest.param(f"{SHARED}models = []\n", "expected one or more tables", id="none"),
        pytest.param(f"{SHARED}models = [1]\n", "expected one or more tables", id="numbers"),
        pytest.param(
            f'[tool.lynx_pipeline]\nmodel = "m"\n{TUTOR}',
            "'model' can't be there: each entry of 'models' has a 'name'",
            id="a model beside models",
        ),
        pytest.param(
            f'{SHARED}{TUTOR}model = "m"\n',
            "entry 1: 'model' can't be there",
            id="a model in an entry",
        ),
        pytest.param(
            SHARED + TUTOR + IDENTITY.replace("pipeline.identity", "pipeline.models.identity"),
            "'identity' can't be there: one workflow promotes all models",
            id="an identity in an entry",
        ),
        pytest.param(
            f"{SHARED}{TUTOR}requests_per_day = 5\n",
            "'requests_per_day' can't be there: one workflow promotes all models",
            id="a limit in an entry",
        ),
        pytest.param(
            SHARED + TUTOR.replace('name = "tutor"\n', ""), "'name': expected", id="no name"
        ),
        pytest.param(
            SHARED + TUTOR.replace('"tutor"', '"1st"'), "beginning with a letter", id="a digit"
        ),
        pytest.param(SHARED + TUTOR.replace('"tutor"', '"a/b"'), "'name': expected", id="a slash"),
        pytest.param(
            SHARED + TUTOR.replace('"tutor"', '"a..b"'), "model 'a..b', .*'model'", id="two dots"
        ),
        pytest.param(SHARED + TUTOR + TUTOR, "entry 2: 'name': another model has", id="twice"),
        pytest.param(
            SHARED + ROUTER + TUTOR.replace("tutor", "My.Router"),
            "entry 2: 'name': another model has the name 'My.Router' in Dagster",
            id="the same name in Dagster",
        ),
        pytest.param(
            f'{SHARED}{TUTOR}registry = "r"\n{ROUTER}registry = "r"\n',
            "'tutor' and 'my-router' have the same 'registry'",
            id="one registry",
        ),
        pytest.param(
            f"{BOTH}evalset = 1\n",
            "model 'my-router', .*unknown key 'evalset', did you mean 'eval_set'",
            id="an unknown key",
        ),
    ],
)
def test_a_broken_rule_is_an_error_for_every_model(tmp_path: Path, text: str, message: str) -> None:
    """Also for a model whose own table is right."""
    folder = write(tmp_path, text)
    for environ in ({}, {"LYNX_GATE": "tutor"}):
        with pytest.raises(BadInput, match=message):
            load_settings(folder, environ)


def test_a_gate_has_a_name_that_dagster_accepts() -> None:
    """Only letters, digits and underscores."""
    assert gate_name("My.tutor-2") == "My_tutor_2"
