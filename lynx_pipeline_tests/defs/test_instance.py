"""Where Dagster keeps its state, and errors about that: one paragraph, also from Dagster's own
commands."""

import os
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from dagster._cli import create_dagster_cli

from lynx_pipeline.config import Settings
from lynx_pipeline.defs.instance import open_instance
from lynx_pipeline.errors import BadInput, LynxError, SystemFailed
from lynx_pipeline_tests.support.builders import project


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A project without a ``dagster.yaml``, as the working directory."""
    monkeypatch.chdir(tmp_path)
    made = project(tmp_path / "project")
    monkeypatch.chdir(made.root)
    return made


def dagster(*arguments: str) -> Result:
    """Run a command of Dagster."""
    cli: click.Command = create_dagster_cli()  # type: ignore[no-untyped-call]
    return CliRunner().invoke(cli, arguments)


def failure(kind: type[LynxError]) -> str:
    """The error of opening the instance."""
    with pytest.raises(kind) as caught, open_instance():
        pass
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_dagster_yaml(root: Path) -> None:
    """Follow the advice of the error about a missing file."""
    message = failure(BadInput)
    file, _, line = message.partition("Create ")[2].partition(" with this line: ")
    assert Path(file) == root / "dagster.yaml"
    Path(file).write_text(f"{line}\n")


@pytest.mark.slow
def test_what_the_error_says_to_write_works(settings: Settings) -> None:
    """Afterwards our commands and Dagster's share the state under LYNX_HOME."""
    write_dagster_yaml(settings.root)
    with pytest.warns(match="superseded"):
        done = dagster(
            *("asset", "materialize", "--select", "eval_baseline"),
            *("-m", "lynx_pipeline.definitions"),
        )
    assert done.exit_code == 0, done.output
    assert (settings.home / "dagster").is_dir()
    with open_instance() as instance:
        assert instance.get_runs_count() == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("a: [", "while parsing", id="not YAML"),
        pytest.param("storag: {}", "storag", id="unknown key"),
        pytest.param(
            "instance_class: {module: lynx_pipeline.defs.instance, class: Lynx}", "Lynx", id="class"
        ),
    ],
)
def test_a_dagster_yaml_that_dagster_refuses_is_named(
    settings: Settings, text: str, says: str
) -> None:
    """The error is Dagster's, on one line."""
    (settings.root / "dagster.yaml").write_text(text)
    message = failure(BadInput)
    assert message.startswith(f"{settings.root}/dagster.yaml: Dagster can't use it: ")
    assert says in message


@pytest.mark.parametrize("value", ["/nonexistent/folder", "relative", "FILE", "BROKEN"])
def test_a_dagster_home_that_dagster_refuses_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """It wins over the project's dagster.yaml, also if it is wrong."""
    broken = settings.root.parent / "BROKEN"
    broken.mkdir()
    (broken / "dagster.yaml").write_text("storag: {}")
    broken.with_name("FILE").touch()
    home = str(broken.with_name(value)) if value.isupper() else value
    monkeypatch.setenv("DAGSTER_HOME", home)
    message = failure(BadInput)
    assert message.startswith(f"DAGSTER_HOME is {home!r}: Dagster can't use it: ")
    assert message.endswith("or unset DAGSTER_HOME.")


def _break_identity(settings: Settings) -> None:
    with (settings.root / "pyproject.toml").open("a") as file:
        file.write("[tool.lynx_pipeline.identity]\nissuer = 5\n")


def _break_environment(_: Settings) -> None:
    os.environ["LYNX_ENV"] = "Prod"


def _break_home(settings: Settings) -> None:
    (settings.root / "file").touch()
    os.environ["LYNX_HOME"] = str(settings.root / "file" / "home")


@pytest.mark.parametrize(
    ("change", "says", "error"),
    [
        pytest.param(_break_identity, "'issuer': expected an https", BadInput, id="identity"),
        pytest.param(_break_environment, "LYNX_ENV is 'Prod'", BadInput, id="environment"),
        pytest.param(_break_home, "Not a directory", SystemFailed, id="state folder"),
    ],
)
def test_dagsters_commands_report_invalid_settings_in_one_paragraph(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Settings], None],
    says: str,
    error: type[LynxError],
) -> None:
    """They load our instance before our definitions, and have our exit codes then."""
    write_dagster_yaml(settings.root)
    for name in ("LYNX_ENV", "LYNX_HOME"):
        monkeypatch.setenv(name, "")  # restored afterwards
        del os.environ[name]
    change(settings)
    with pytest.warns(match="superseded"):
        done = dagster("job", "execute", "-m", "lynx_pipeline.definitions", "-j", "evaluate")
    assert done.exit_code == error.exit_code
    assert done.stdout == ""
    assert says in done.stderr
    assert done.stderr.startswith("lynx-pipeline: ")
    assert len(done.stderr.splitlines()) == 1
    assert says in failure(error)
