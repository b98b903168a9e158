"""The program: usage, errors and exit codes, help, completion, imports."""

import importlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import click
import pytest

from lynx_pipeline.cli import cli, main
from lynx_pipeline.cli.ci import STEPS, ci
from lynx_pipeline.cli.framework import Shared
from lynx_pipeline.config import Settings
from lynx_pipeline.registry import Registry
from lynx_pipeline_tests.cli.helpers import Capsys, one_paragraph, write_files
from lynx_pipeline_tests.reference import commands
from lynx_pipeline_tests.support.builders import RUN, SHA, baseline_json, candidate_json, project

# The function main hides its module as an attribute of the package.
COMMANDS: Mapping[str, tuple[str, str]] = importlib.import_module("lynx_pipeline.cli.main").COMMANDS


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["nothing"], ["compare-baseline"], ["compare-baseline", "--force"], ["registry"]),
        *(["registry", "promote", SHA], ["registry", "list", "--env", "staging"]),
        *(["registry", "promote", SHA, "v0.1.0-dev", "--force"], ["minieval"]),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(capsys: Capsys, arguments: list[str]) -> None:
    """The usage goes to standard error. There is no force flag."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: lynx-pipeline ")


def test_version_prints_the_packages_version(capsys: Capsys) -> None:
    """The version is that of the installed package."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lynx-pipeline {metadata.version('lynx-pipeline')}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare"], "No such command 'compare'. Did you mean 'compare-baseline'?"),
        (["registry", "resolv"], "No such command 'resolv'. Did you mean 'resolve'?"),
        (["ci", "outcom"], "No such command 'outcom'. Did you mean 'outcome'?"),
        (["xyzzy"], "No such command 'xyzzy'.\n"),
    ],
    ids=["top", "group", "lazy group", "no near name"],
)
def test_an_unknown_command_suggests_the_nearest_name(
    capsys: Capsys, arguments: list[str], message: str
) -> None:
    """There is no suggestion if no name is near."""
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["--json", "registry", "resolve"], ["registry", "resolve", "--json"]],
    ids=" ".join,
)
def test_json_goes_before_or_after_the_command(
    promoted: Settings, capsys: Capsys, arguments: list[str]
) -> None:
    """The result is the same."""
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["semver"] == "v0.2.0-dev"


def test_json_before_a_command_without_json_is_a_usage_error(
    promoted: Settings, capsys: Capsys
) -> None:
    """The flag is not silently ignored, and the command does not run."""
    assert main(["--json", "registry", "verify"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "'lynx-pipeline registry verify' has no --json" in err


@pytest.mark.parametrize("position", [0, 1, 5], ids=["before", "after", "last"])
def test_debug_shows_the_traceback(capsys: Capsys, position: int) -> None:
    """The flag goes before or after the command's name, and the exit code is the same."""
    arguments = ["compare-baseline", "--candidate", "x", "--baseline", "y"]
    arguments.insert(position, "--debug")
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert "\nlynx-pipeline: no baseline: " in err


def test_an_unexpected_exception_shows_its_traceback_and_exits_with_3(
    promoted: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    """Python would exit with 1, which means that the gate refused."""

    def broken(_: Registry, version: str) -> None:
        raise ZeroDivisionError(version)

    monkeypatch.setattr(Registry, "resolve", broken)
    assert main(["registry", "resolve"]) == 3
    assert "ZeroDivisionError: latest" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["registry", "register", RUN],
        ["request", "--run-id", RUN, "--semver", "v0.1.0-dev"],
    ],
    ids=" ".join,
)
def test_a_state_folder_that_cannot_be_created_is_a_system_failure(
    folder: Path, command: list[str]
) -> None:
    """Apart from warnings, the output is one paragraph that names the folder."""
    project(folder / "p")
    (folder / "p" / "dagster.yaml").write_text("")
    (folder / "file").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "lynx_pipeline", *command],
        cwd=folder / "p",
        env={**os.environ, "LYNX_HOME": str(folder / "file" / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    errors = [line for line in done.stderr.splitlines() if "WARNING" not in line]
    assert len(errors) == 1
    assert errors[0].startswith(f"lynx-pipeline: the folder {folder}/file/home")
    assert "Not a directory" in errors[0]


def test_an_error_of_the_operating_system_is_a_system_failure(folder: Path, capsys: Capsys) -> None:
    """The message names the file, the system's error and what to do."""
    name = "e" * 300
    command = ["minieval", "--bundle", "b", "--eval-set", name, "--output", "o"]
    assert main(command) == 3
    assert f"{folder}/{name}: File name too long. Check that" in one_paragraph(capsys)
    folder.rmdir()
    assert main(["registry", "list"]) == 3
    assert "No such file or directory" in one_paragraph(capsys)


@pytest.mark.parametrize("value", ["Prod", "prod ", "", "staging"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["registry", "resolve"],
        ["registry", "list"],
        ["registry", "verify"],
        ["registry", "promote", SHA, "v0.1.0-dev"],
        ["registry", "register", RUN],
        ["registry", "rollback", "v0.1.0-dev"],
        ["request", "--run-id", RUN, "--semver", "v0.1.0-dev"],
        ["minieval", "--bundle", "b", "--eval-set", "e", "--output", "o"],
        ["gate", "power"],
        ["demo"],
    ],
    ids=" ".join,
)
def test_an_unknown_environment_is_bad_input(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys, value: str, arguments: list[str]
) -> None:
    """The error is reported before anything else happens."""
    project(folder / "p")
    monkeypatch.chdir(folder / "p")
    monkeypatch.setenv("LYNX_ENV", value)
    assert main(arguments) == 2
    assert "LYNX_ENV" in one_paragraph(capsys)


def test_a_command_that_needs_a_project_fails_outside_one(capsys: Capsys) -> None:
    """The message says that there is no project."""
    assert main(["registry", "list"]) == 2
    assert "no project here" in one_paragraph(capsys)


def test_the_module_runs_as_a_program(promoted: Settings) -> None:
    """``python -m lynx_pipeline`` does the same as the console script, with its exit codes."""
    command = [sys.executable, "-m", "lynx_pipeline", "registry", "resolve", "v9.9.9-dev"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("lynx-pipeline: 'v9.9.9-dev' was never promoted")


def test_an_interrupt_exits_with_3(
    promoted: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    """The message says that the command can be repeated."""

    def interrupted(_: Registry, version: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Registry, "resolve", interrupted)
    assert main(["registry", "resolve"]) == 3
    assert "interrupted. A promotion is all or nothing" in one_paragraph(capsys)


def test_a_closed_pipe_on_standard_output_exits_with_3(promoted: Settings) -> None:
    """No error is printed. Exit code 1 would mean that the gate refused."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "lynx_pipeline", "registry", "list"],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (3, b"")


# ----- help and completion ------------------------------------------------------------------


def test_the_bash_completion_script_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    """The help names the variable."""
    monkeypatch.setenv("_LYNX_PIPELINE_COMPLETE", "bash_source")
    assert main([]) == 0
    assert "complete -o nosort -F _lynx_pipeline_completion lynx-pipeline" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("lynx-pipeline co", ["compare-baseline"]),
        ("lynx-pipeline registry re", ["register", "repair", "resolve"]),
        ("lynx-pipeline ci pr", ["prepare", "promote"]),
        ("lynx-pipeline --ver", ["--version"]),
        ("lynx-pipeline registry resolve --j", ["--json"]),
        ("lynx-pipeline nothing re", ["registry", "request"]),
    ],
)
def test_names_of_commands_and_options_are_completed(
    monkeypatch: pytest.MonkeyPatch, capsys: Capsys, words: str, expected: list[str]
) -> None:
    """Completion also works below a group, and skips an unknown command."""
    monkeypatch.setenv("_LYNX_PIPELINE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert main([]) == 0
    names = [line.removeprefix("plain,") for line in capsys.readouterr().out.splitlines()]
    assert sorted(names) == sorted(expected)


@pytest.mark.parametrize(
    ("group", "lazy"),
    [(cli, COMMANDS), (ci, STEPS)],
    ids=["lynx-pipeline", "ci"],
)
def test_a_groups_help_line_is_the_first_line_of_the_commands_help(
    group: click.Group, lazy: Mapping[str, tuple[str, str]]
) -> None:
    """The group repeats the line, so that its help need not import the command."""
    context = click.Context(group)
    for name, (_, line) in lazy.items():
        command = group.get_command(context, name)
        assert command is not None
        assert (command.help or "").partition("\n")[0] == line


def test_every_command_has_an_example_that_it_accepts() -> None:
    """The example starts with the program's name, and it parses."""
    found = list(commands(click.Context(cli, info_name="lynx-pipeline", obj=Shared())))
    assert len(found) > 15
    for context, command in found:
        path = context.command_path
        assert command.example.split()[0] == "lynx-pipeline"
        assert command.example.startswith(path)
        arguments = shlex.split(command.example.removeprefix(path))
        command.make_context(command.name, arguments, parent=context.parent)


# ----- imports ------------------------------------------------------------------------------

HEAVY = {
    *("dagster", "mlflow", "dvc", "duckdb", "pandas", "numpy", "pyarrow", "scipy", "yaml", "rich"),
    "jinja2",
}


def imported(arguments: list[str]) -> set[str]:
    """Run a command in a new process. Returns the names of the modules that it imported."""
    code = (
        "import sys\nfrom lynx_pipeline.cli import main\n"
        f"assert main({arguments!r}) == 0\nprint(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "arguments",
    [["registry", "resolve"], ["registry", "list"], ["registry", "verify"]],
    ids=" ".join,
)
def test_reading_the_registry_imports_nothing_heavy(
    promoted: Settings, arguments: list[str]
) -> None:
    """A serving process waits for this at every start."""
    assert imported(arguments) & HEAVY == set()


def test_compare_baseline_imports_nothing_heavy() -> None:
    """The command needs only the two files, so it imports no settings and no evaluation either."""
    write_files(baseline_json(), candidate_json())
    files = ["--candidate", "c.json", "--baseline", "b.json"]
    found = imported(["compare-baseline", *files, "--json"])
    others = {"lynx_pipeline.config", "lynx_pipeline.evaluation"}
    assert found & (HEAVY | others) == set()


def test_help_imports_no_command() -> None:
    """The list of commands is a map with their help lines."""
    ours = {name for name in imported(["--help"]) if name.startswith("lynx_pipeline.cli")}
    assert ours == {f"lynx_pipeline.cli{name}" for name in ("", ".framework", ".main", ".output")}
