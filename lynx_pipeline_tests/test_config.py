"""Settings: strict, read from one table, and in prod deaf to most of the environment."""

from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline.config import EvaluationSettings, Limits, NoProject, load_settings, read_env
from lynx_pipeline.domain.scorers import NUMERIC
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.builders import project

LEAST = '[tool.lynx_pipeline]\nmodel = "m"\neval_set = "e"\nbaseline = "b"\n'


def write(folder: Path, text: str) -> Path:
    """A project with this ``pyproject.toml``."""
    (folder / "pyproject.toml").write_text(text)
    return folder


def test_the_least_is_enough(tmp_path: Path) -> None:
    """Everything else has a default, below the project."""
    found = load_settings(write(tmp_path, LEAST), {})
    assert (found.root, found.home) == (tmp_path, tmp_path / ".lynx")
    assert (found.env, found.model) == (Env.DEV, "m")
    assert (found.eval_set, found.baseline) == (tmp_path / "e", tmp_path / "b")
    assert found.registry == tmp_path / ".lynx" / "registry"
    assert found.tracking_uri == f"sqlite:///{tmp_path}/.lynx/mlflow.db"
    assert (found.price_per_hour, found.evaluation) == (0.05, EvaluationSettings())
    assert not found.home.exists()


def test_the_project_is_found_from_below(tmp_path: Path) -> None:
    """A pyproject.toml without our table is another project's."""
    write(tmp_path, LEAST)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    write(below, "[tool.other]\nx = 1\n")
    assert load_settings(below, {}).root == tmp_path


def test_no_project_is_said(tmp_path: Path) -> None:
    """With where was looked."""
    with pytest.raises(NoProject, match="no project here"):
        load_settings(tmp_path, {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("[tool", "not TOML", id="no TOML"),
        pytest.param("tool = 5", "no project", id="tool no table"),
        pytest.param("[tool]\nlynx_pipeline = 5", "to be a table", id="ours no table"),
        pytest.param("[[tool.lynx_pipeline]]\nx = 1", "to be a table", id="ours a list"),
        pytest.param("[tool.lynx_pipeline]", "'model' is missing", id="empty"),
        pytest.param(LEAST + "force = true", "unknown key 'force'", id="force"),
        pytest.param(LEAST + "tolerance = 0.5", "unknown key 'tolerance'", id="tolerance"),
        pytest.param(LEAST.replace('"m"', '""'), "'model'", id="no model name"),
        pytest.param(LEAST.replace('"m"', '"a b"'), "'model'", id="model with a space"),
        pytest.param(LEAST.replace('"m"', '"a/b"'), "'model'", id="model a path"),
        pytest.param(LEAST.replace('"m"', "\"a' OR '1\""), "'model'", id="model a filter"),
        pytest.param(LEAST.replace('"m"', "5"), "'model': expected str", id="model a number"),
        pytest.param(LEAST + "registry = 5", "'registry'", id="registry a number"),
        pytest.param(LEAST + 'price_per_hour = "5"', "'price_per_hour'", id="price text"),
        pytest.param(LEAST + "price_per_hour = true", "'price_per_hour'", id="price true"),
        pytest.param(LEAST + "price_per_hour = nan", "'price_per_hour'", id="price NaN"),
        pytest.param(LEAST + "price_per_hour = inf", "'price_per_hour'", id="price infinite"),
        pytest.param(LEAST + "price_per_hour = -1.0", "'price_per_hour'", id="price negative"),
        pytest.param(LEAST + "price_per_hour = -1", "'price_per_hour'", id="price below nothing"),
        pytest.param(LEAST + 'artifact_locations = "s3://x"', "expected list", id="one place"),
        pytest.param(LEAST + "artifact_locations = [5]", "such as s3://", id="a place a number"),
        pytest.param(LEAST + 'artifact_locations = ["/"]', "such as s3://", id="every place"),
        pytest.param(LEAST + 'artifact_locations = ["s3://"]', "such as s3://", id="every bucket"),
        pytest.param(LEAST + 'scorer = "exact"', "scorer 'exact' is unknown", id="no scorer"),
        pytest.param(LEAST + "evaluation = 5", "'evaluation'", id="limits a number"),
        pytest.param(LEAST + "evaluation.x = 5", "unknown key 'x'", id="unknown limit"),
        pytest.param(LEAST + "evaluation.batch_size = 0", "more than 0", id="no batch"),
        pytest.param(LEAST + "evaluation.batch_size = 1.5", "'batch_size'", id="half a batch"),
        pytest.param(LEAST + "evaluation.batch_size = true", "'batch_size'", id="batch true"),
        pytest.param(LEAST + "evaluation.total_seconds = 0.0", "more than 0", id="no time"),
        pytest.param(LEAST + "evaluation.total_seconds = nan", "total_seconds", id="NaN time"),
        pytest.param(LEAST + "evaluation.load_seconds = inf", "load_seconds", id="endless time"),
        pytest.param(LEAST + "evaluation.memory_mib = -1", "more than 0", id="negative memory"),
        pytest.param(LEAST + "evaluation.workers = -1", "0 or more", id="negative workers"),
        pytest.param(LEAST + 'evaluation.engine = "Ray"', "local or ray", id="no engine"),
        pytest.param(LEAST + "evaluation.engine = 1", "'engine'", id="engine a number"),
        pytest.param(
            LEAST + 'evaluation.env_manager = "conda"', "expected local or uv", id="conda"
        ),
        pytest.param(LEAST + "evaluation.env_manager = true", "'env_manager'", id="manager true"),
        pytest.param(
            LEAST + 'evaluation.env_manager = "uv"\nevaluation.engine = "ray"',
            "expected local with the engine ray",
            id="own environment on Ray",
        ),
    ],
)
def test_a_setting_that_is_none_is_refused(tmp_path: Path, text: str, says: str) -> None:
    """By name; a misspelt limit must not leave the default in force."""
    with pytest.raises(BadInput, match=says):
        load_settings(write(tmp_path, text), {})


def test_what_is_set_is_read(tmp_path: Path) -> None:
    """Whole numbers where seconds are meant, too."""
    text = LEAST + "price_per_hour = 2\nscorer = 'numeric/1'\n"
    text += "evaluation.total_seconds = 5\nevaluation.batch_size = 3\n"
    text += 'evaluation.engine = "ray"\nevaluation.workers = 7\n'
    found = load_settings(write(tmp_path, text), {})
    assert (found.price_per_hour, found.scorer) == (2.0, NUMERIC)
    limits = Limits(total_seconds=5.0, batch_size=3)
    assert found.evaluation == EvaluationSettings(limits, engine="ray", workers=7)
    assert found.evaluation.environments is None
    found = load_settings(write(tmp_path, LEAST + 'evaluation.env_manager = "uv"\n'), {})
    assert found.evaluation.environments == found.home / "environments"


@pytest.mark.parametrize(
    "value", ["Prod", "PROD", "prod ", " prod", "", "production", "Dev", "dev\n", "staging", "0"]
)
def test_an_environment_that_is_neither_is_an_error(tmp_path: Path, value: str) -> None:
    """It is never read as dev."""
    for ask in (read_env, lambda e: load_settings(write(tmp_path, LEAST), e)):
        with pytest.raises(BadInput, match="LYNX_ENV"):
            ask({"LYNX_ENV": value})


def test_dev_and_prod_are_read() -> None:
    """And nothing said means dev."""
    assert read_env({}) is Env.DEV
    assert read_env({"LYNX_ENV": "dev"}) is Env.DEV
    assert read_env({"LYNX_ENV": "prod"}) is Env.PROD


@pytest.mark.parametrize("name", ["LYNX_HOME", "LYNX_REGISTRY", "MLFLOW_TRACKING_URI"])
@pytest.mark.parametrize("value", ["", "  "])
def test_a_variable_that_is_set_but_empty_is_an_error(
    tmp_path: Path, name: str, value: str
) -> None:
    """Somebody's shell script lost a value."""
    with pytest.raises(BadInput, match=f"{name} is set but empty"):
        load_settings(write(tmp_path, LEAST), {name: value})


@pytest.mark.parametrize(
    ("configured", "environ", "expected"),
    [
        pytest.param("", {}, ".lynx/registry", id="dev, nothing set"),
        pytest.param("", {"LYNX_HOME": "/h"}, "/h/registry", id="dev, other home"),
        pytest.param("", {"LYNX_REGISTRY": "/r"}, "/r", id="dev, from the environment"),
        pytest.param('registry = "r"', {}, "r", id="dev, configured"),
        pytest.param('registry = "r"', {"LYNX_REGISTRY": "/r"}, "/r", id="dev, both"),
        pytest.param("", {"LYNX_ENV": "prod"}, None, id="prod, nothing set"),
        pytest.param(
            "", {"LYNX_ENV": "prod", "LYNX_REGISTRY": "/r", "LYNX_HOME": "/h"}, None, id="prod, no"
        ),
        pytest.param(
            'registry = "r"',
            {"LYNX_ENV": "prod", "LYNX_REGISTRY": "/r"},
            "r",
            id="prod, configured",
        ),
    ],
)
def test_in_prod_the_registry_is_what_the_project_says(
    tmp_path: Path, configured: str, environ: dict[str, str], expected: str | None
) -> None:
    """The environment can't name one."""
    found = load_settings(write(tmp_path, LEAST + configured), environ).registry
    assert found == (None if expected is None else tmp_path / expected)


def test_two_checkouts_share_nothing(tmp_path: Path) -> None:
    """Every place where state is kept differs."""
    one, two = (project(tmp_path / name) for name in ("one", "two"))

    def places(settings: Any) -> set[object]:
        return {settings.home, settings.registry, settings.tracking_uri, settings.candidates}

    assert not places(one) & places(two)
