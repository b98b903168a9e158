"""What a step reads from GitHub Actions, and what it writes there."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lynx_pipeline.adapters import actions
from lynx_pipeline.adapters.actions import Event
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline_tests.simulators.actions.runner import parse_env_file


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from("abc"), st.text(st.characters(exclude_categories=["Cs"]))))
def test_outputs_read_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, str]
) -> None:
    """No line of a value becomes an output itself."""
    values = {k: v.replace("\r", "") for k, v in values.items()}
    file = tmp_path_factory.mktemp("out") / "output"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_OUTPUT", str(file))
        actions.output(**values)
    assert parse_env_file(file.read_text() if file.exists() else "") == values


def test_outside_a_workflow_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error is plain text on standard error."""
    monkeypatch.chdir(tmp_path)
    actions.output(a="b")
    actions.summary("text")
    actions.fail("it is broken.")
    assert capsys.readouterr().err == "lynx-pipeline: it is broken.\n"
    assert list(tmp_path.iterdir()) == []


def test_an_error_is_an_annotation_and_an_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The annotation is one workflow command, even if the message has line breaks or commands."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    actions.fail("50 % of\n::set-output name=x::y\rit")
    line = "::error title=lynx-pipeline::50 %25 of%0A::set-output name=x::y%0Dit\n"
    assert capsys.readouterr().err == line
    found = parse_env_file((tmp_path / "output").read_text())
    assert list(found) == ["error"]


def test_a_file_that_cannot_be_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the next job would miss the output."""
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "none" / "output"))
    with pytest.raises(SystemFailed, match=r"GITHUB_OUTPUT names can't be written"):
        actions.output(a="b")


@pytest.mark.parametrize(
    ("name", "payload", "expected"),
    [
        ("issue_comment", {"issue": {"number": 7}, "comment": {"id": 5}}, Event(7, 5)),
        ("pull_request_target", {"pull_request": {"number": 7}}, Event(7, None)),
        ("pull_request_review", {"pull_request": {"number": 7}}, Event(7, None)),
    ],
)
def test_the_event_names_the_pull_request(
    name: str, payload: Any, expected: Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a comment started the run, the event names it too."""
    _event(name, json.dumps(payload), tmp_path, monkeypatch)
    assert actions.read_event() == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("issue_comment", '{"issue": {"number": 7}}'),
        ("issue_comment", "[]"),
        ("push", "{}"),
        ("issue_comment", "{"),
        ("issue_comment", "[" * 100_000),
        ("issue_comment", '{"issue": {"number": "x"}, "comment": {"id": 1}}'),
        ("issue_comment", '{"issue": {"number": Infinity}, "comment": {"id": 1}}'),
    ],
)
def test_any_other_event_is_bad_input(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what was expected."""
    _event(name, text, tmp_path, monkeypatch)
    with pytest.raises(BadInput, match="expected the payload"):
        actions.read_event()


def test_outside_a_workflow_the_event_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """The actor and the run id are bad input too. An unreadable event file is a system failure."""
    for read in (actions.read_event, actions.triggering_actor, actions.run_id):
        with pytest.raises(BadInput, match="not running in GitHub Actions"):
            read()
    monkeypatch.setenv("GITHUB_EVENT_NAME", "issue_comment")
    monkeypatch.setenv("GITHUB_EVENT_PATH", "/nonexistent")
    with pytest.raises(SystemFailed, match="can't be read"):
        actions.read_event()


def _event(name: str, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "event.json").write_text(text)
    monkeypatch.setenv("GITHUB_EVENT_NAME", name)
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(folder / "event.json"))


def test_a_run_recognizes_its_own_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a workflow, only an identity without a run id matches."""
    assert actions.is_this_run(None)
    assert not actions.is_this_run("7")
    monkeypatch.setenv("GITHUB_RUN_ID", "7")
    monkeypatch.setenv("GITHUB_REPOSITORY", "acme/tutor")
    assert actions.is_this_run("7")
    assert not actions.is_this_run("8")
    assert not actions.is_this_run(None)
    assert actions.this_run_url() == "https://github.com/acme/tutor/actions/runs/7"
