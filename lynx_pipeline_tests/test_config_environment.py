"""The environment variables that change the settings."""

from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline.config import (
    load_settings,
    read_env,
)
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.builders import project
from lynx_pipeline_tests.test_config import REQUIRED, write


@pytest.mark.parametrize(
    "value", ["Prod", "PROD", "prod ", " prod", "", "production", "Dev", "dev\n", "staging", "0"]
)
def test_an_unknown_environment_is_an_error(tmp_path: Path, value: str) -> None:
    """An unknown value is never read as dev."""
    for read in (read_env, lambda e: load_settings(write(tmp_path, REQUIRED), e)):
        with pytest.raises(BadInput, match="LYNX_ENV"):
            read({"LYNX_ENV": value})


def test_dev_and_prod_are_read() -> None:
    """Unset means dev."""
    assert read_env({}) is Env.DEV
    assert read_env({"LYNX_ENV": "dev"}) is Env.DEV
    assert read_env({"LYNX_ENV": "prod"}) is Env.PROD


@pytest.mark.parametrize("name", ["LYNX_HOME", "LYNX_REGISTRY", "MLFLOW_TRACKING_URI"])
@pytest.mark.parametrize("value", ["", "  "])
def test_a_variable_that_is_set_but_empty_is_an_error(
    tmp_path: Path, name: str, value: str
) -> None:
    """A shell script probably lost the value."""
    with pytest.raises(BadInput, match=f"{name} is set but empty"):
        load_settings(write(tmp_path, REQUIRED), {name: value})


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
            "",
            {"LYNX_ENV": "prod", "LYNX_REGISTRY": "/r", "LYNX_HOME": "/h"},
            None,
            id="prod, from the environment",
        ),
        pytest.param(
            'registry = "r"',
            {"LYNX_ENV": "prod", "LYNX_REGISTRY": "/r"},
            "r",
            id="prod, configured",
        ),
    ],
)
def test_in_prod_the_registry_comes_from_the_project(
    tmp_path: Path, configured: str, environ: dict[str, str], expected: str | None
) -> None:
    """LYNX_REGISTRY is ignored in prod."""
    found = load_settings(write(tmp_path, REQUIRED + configured), environ).registry
    assert found == (None if expected is None else tmp_path / expected)


def test_two_checkouts_share_nothing(tmp_path: Path) -> None:
    """Each keeps its state in its own folders."""
    one, two = (project(tmp_path / name) for name in ("one", "two"))

    def places(settings: Any) -> set[object]:
        return {settings.home, settings.registry, settings.tracking_uri, settings.candidates}

    assert not places(one) & places(two)
