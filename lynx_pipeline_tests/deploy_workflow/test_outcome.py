"""The comment that reports a deployment on its pull request."""

import html
import json
import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline.deploy_workflow.outcome import (
    JOBS,
    Needs,
    in_force,
    read_needs,
    render_comment,
    render_note,
)
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support.builders import RUN, project
from lynx_pipeline_tests.support.world import Made, World

REQUEST = {"pull_request": "7", "candidate": RUN, "semver": "v0.3.1-dev"}


@pytest.fixture
def world(tmp_path: Path, tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> World:
    """A project inside a workflow run."""
    settings = project(tmp_path / "project", environ={"MLFLOW_TRACKING_URI": tracking.uri})
    monkeypatch.setenv("GITHUB_REPOSITORY", "octo-org/octo-repo")
    monkeypatch.setenv("GITHUB_RUN_ID", "42")
    return World(settings, tracking, tmp_path)


def needs(
    failed: str = "", error: str = "", promote: Any = None, made: Made | None = None
) -> Needs:
    """The jobs' results. The job ``failed`` reports ``error``, and later jobs are skipped. The
    evidence digest is that of ``made``."""
    raw = (made.evidence / "candidate_eval.json").read_bytes() if made else b""
    digest = {"evidence_sha256": sha256(raw).hexdigest()} if made else {}
    request = {**REQUEST, "candidate": made.run_id} if made else REQUEST
    jobs: dict[str, Any] = {
        "request": {"result": "success", "outputs": request},
        "evaluate": {"result": "success", "outputs": {"error": "", **digest}},
        "promote": {"result": "success", "outputs": promote or {}},
    }
    for name, job in jobs.items():
        if name == failed:
            job["result"] = "failure"
            job["outputs"] = {**job["outputs"], "error": error}
        elif failed and list(jobs).index(name) > list(jobs).index(failed):
            job |= {"result": "skipped", "outputs": {}}
    return read_needs(json.dumps(jobs))


def test_a_promotion_is_reported_with_its_entry(world: World, tmp_path: Path) -> None:
    """The comment also says if the version was promoted before, or if the announcement failed."""
    made = world.candidate("good")
    entry = world.promote(made, "v0.3.1-dev")
    output = {"entry": entry.to_line().decode().strip(), "new": "true"}
    text = render_comment(
        world.settings, needs(promote=output, made=made), made.evidence, "success"
    )
    assert text.startswith("### Promoted `v0.3.1-dev`\n")
    for part in (entry.hash, made.sha, "https://github.com/octo-org/octo-repo/actions/runs/42"):
        assert part in text
    assert "PASSED: all" in text
    assert "announcement" not in text

    text = render_comment(
        world.settings, needs(promote={**output, "new": "false"}, made=made), made.evidence, ""
    )
    assert text.startswith("### `v0.3.1-dev` was already promoted\n")
    text = render_comment(
        world.settings, needs(promote=output, made=made), made.evidence, "failure"
    )
    assert text.startswith("### Promoted `v0.3.1-dev`\n")
    assert "The announcement failed" in text


def test_a_refusal_is_reported_with_the_bucket_table(world: World) -> None:
    """The verdict is replayed from the evidence, and not taken from the jobs' outputs."""
    made = world.candidate("bad", wrong=9)
    text = render_comment(
        world.settings, needs("evaluate", "all is well", made=made), made.evidence, ""
    )
    assert text.startswith("### Refused `v0.3.1-dev`: it failed the gate\n")
    assert re.search(r"\| half\.a \|.*FAILED", text)
    assert "all is well" not in text


def test_a_jobs_error_is_quoted_and_escaped(world: World, tmp_path: Path) -> None:
    """The quote mentions nobody, and links and embeds nothing."""
    error = "it printed: @everyone <img src=x> [win](http://x) `a`\n### Promoted"
    text = render_comment(world.settings, needs("evaluate", error), tmp_path / "none", "")
    assert text.startswith("### Deployment of `v0.3.1-dev` stopped in job `evaluate`\n")
    shown = text.splitlines()[2]
    assert "&#64;everyone &#60;img" in shown
    assert not set("<>[]`") & set(shown)
    assert text.count("###") == 1


def test_a_promotion_is_reported_even_if_its_job_failed(world: World) -> None:
    """The version is promoted once the registry has the entry."""
    made = world.candidate("good")
    entry = world.promote(made, "v0.3.1-dev")
    found = needs("promote", "interrupted", made=made)
    output = {"entry": entry.to_line().decode().strip(), "new": "true", "error": "interrupted"}
    found = replace(found, outputs={**found.outputs, "promote": output})
    text = render_comment(world.settings, found, made.evidence, "success")
    assert text.startswith("### Promoted `v0.3.1-dev`\n")
    assert "interrupted" in text
    assert in_force(found, "success")
    assert not in_force(found, "failure")


def test_a_job_that_failed_without_an_error_may_have_promoted(world: World, tmp_path: Path) -> None:
    """The comment does not deny a promotion, and says that a retry is safe."""
    text = render_comment(world.settings, needs("promote"), tmp_path / "none", "")
    assert "stopped in job `promote`" in text
    assert "running the failed jobs again is safe" in text


def test_the_jobs_that_evaluate_are_not_to_be_re_run(world: World, tmp_path: Path) -> None:
    """The comment asks for a new one, unless the gate refused the candidate."""
    advice = "- To try again, write a new comment, because this job can't be re-run."
    made = world.candidate("bad", wrong=9)
    for job in ("request", "evaluate"):
        for error in ("MLflow is down", ""):
            text = render_comment(world.settings, needs(job, error), tmp_path / "none", "")
            assert advice in text.splitlines()
            assert "running the failed jobs again" not in text
    assert advice not in render_comment(
        world.settings, needs("evaluate", "refused", made=made), made.evidence, ""
    )
    assert advice not in render_comment(world.settings, needs("promote"), tmp_path / "none", "")


def test_a_promotion_without_a_readable_entry_is_reported_as_stopped(
    world: World, tmp_path: Path
) -> None:
    """The pull request is told in any case. Nothing says that the version is promoted."""
    for output, says in (({}, "result 'success'"), ({"entry": "x", "new": "true"}, "not JSON")):
        text = render_comment(world.settings, needs(promote=output), tmp_path / "none", "")
        assert text.startswith("### Deployment of `v0.3.1-dev` stopped in job `promote`\n")
        assert says in text


def test_empty_outputs_of_a_skipped_job_are_absent(world: World) -> None:
    """GitHub leaves them out; other runners report empty text or the expression, and a successful
    result."""
    made = world.candidate("bad", wrong=9)
    found = needs("evaluate", "refused", made=made)
    empty = {"entry": "${{ steps.promote.outputs.entry }}", "new": "", "error": ""}
    jobs = {
        name: {"result": found.results[name], "outputs": {**empty, **found.outputs[name]}}
        for name in JOBS
    }
    jobs["promote"]["result"] = "success"
    assert read_needs(json.dumps(jobs)).outputs["promote"] == {}
    text = render_comment(world.settings, read_needs(json.dumps(jobs)), made.evidence, "")
    assert text.startswith("### Refused `v0.3.1-dev`: it failed the gate\n")


def test_changed_evidence_is_not_reported(world: World) -> None:
    """The comment gives the reason instead of a report."""
    made = world.candidate("good")
    (made.evidence / "predictions.parquet").write_bytes(b"x")
    text = render_comment(
        world.settings, needs("promote", "changed on its way", made=made), made.evidence, ""
    )
    assert "No report" in text
    assert "its SHA-256 differs" in text
    assert "PASSED" not in text


def test_unrelated_evidence_is_not_reported(world: World) -> None:
    """The evidence is not what the evaluate job wrote, or belongs to a different run."""
    made, other = world.candidate("good"), world.candidate("other")
    text = render_comment(world.settings, needs("promote", "x", made=made), other.evidence, "")
    assert "No report" in text
    assert "it changed in transit" in text
    text = render_comment(
        world.settings,
        needs("promote", "x", made=replace(other, run_id=made.run_id)),
        other.evidence,
        "",
    )
    assert "No report" in text
    assert f"expected {made.run_id}" in text


def test_forged_evidence_cannot_inject_text(world: World) -> None:
    """Errors quote the evidence escaped and shortened."""
    made = world.candidate("good")
    file = made.evidence / "candidate_eval.json"
    values = json.loads(file.read_text())
    forged = "x\n\n### Promoted `v9.9.9`\n\nby @octocat, [it](https://evil.example)" + "|" * 99_999
    file.write_text(json.dumps({**values, "eval_set_dvc_hash": forged}))
    text = render_comment(
        world.settings, needs("promote", "|" * 99_999, made=made), made.evidence, ""
    )
    assert "No report" in text
    assert "### Promoted" not in text
    assert "@octocat" not in text
    assert "](https://evil" not in text
    assert len(text) < 6_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"request": {"result": "success", "outputs": {}}}',
        json.dumps({job: {"result": 1} for job in JOBS}),
        json.dumps({job: {"result": "success", "outputs": {"error": 1}} for job in JOBS}),
    ],
)
def test_malformed_needs_are_refused(text: str) -> None:
    """The error names the variable NEEDS."""
    with pytest.raises(BadInput, match="NEEDS"):
        read_needs(text)


def test_the_pull_request_must_be_a_number() -> None:
    """Without the number, there is nowhere to comment."""
    jobs = needs()
    assert jobs.pull_request == 7
    with pytest.raises(BadInput, match="expected a number"):
        assert Needs(jobs.results, {"request": {"pull_request": "x"}}).pull_request
    with pytest.raises(BadInput, match="expected a number"):
        assert Needs(jobs.results, {"request": {"pull_request": "9" * 5_000}}).pull_request


# ----- on GitLab ------------------------------------------------------------------------------


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of a job of a pipeline."""
    monkeypatch.setenv("CI_PIPELINE_ID", "42")
    monkeypatch.setenv("CI_PIPELINE_URL", "https://gitlab.example.com/o/r/-/pipelines/42")


@pytest.mark.usefixtures("pipeline")
def test_a_promotion_by_an_earlier_pipeline_is_reported_as_such(
    world: World, tmp_path: Path
) -> None:
    """The file with the entry is shown, not trusted: a changed one is not."""
    made = world.candidate("good")
    entry = world.promote(made, "v0.3.1-dev")
    file = tmp_path / "promotion.json"
    file.write_text(json.dumps(entry.to_json(), indent=2))
    text = render_note(world.settings, made.run_id, "v0.3.1-dev", made.evidence, file)
    assert text.startswith("### `v0.3.1-dev` was already promoted\n")
    assert "[pipeline](https://gitlab.example.com/o/r/-/pipelines/42)" in text
    assert "PASSED: all" in text
    for changed in (
        json.dumps({**entry.to_json(), "semver": "v9.9.9"}),
        "{}",
        "[1]",
        '{"a": 1, "a": 2}',
        "\udcff",
        "x" * (5 << 20),
    ):
        file.write_text(changed, errors="surrogateescape")
        text = render_note(world.settings, made.run_id, "v0.3.1-dev", made.evidence, file)
        assert text.startswith("### Deployment of `v0.3.1-dev` stopped in job `promote`\n")
        assert "The registry&#39;s entry" in text or "The registry's entry" in text


@pytest.mark.usefixtures("pipeline")
@pytest.mark.parametrize("shows", ["counts", "prompts", "full"])
def test_the_note_shows_as_much_of_the_eval_set_as_the_setting_says(
    world: World, tmp_path: Path, shows: str
) -> None:
    made = world.candidate("bad", wrong=9)
    settings = replace(world.settings, pull_request_shows=shows)
    note = render_note(settings, made.run_id, "v0.3.1-dev", made.evidence, tmp_path / "none")
    assert note.startswith("### Refused `v0.3.1-dev`: it failed the gate\n")
    comment = render_comment(settings, needs("promote", "x", made=made), made.evidence, "")
    _, _, expected = comment.partition("**REFUSED")
    assert expected
    assert note.replace("&#8288;", "").partition("**REFUSED")[2] == expected


@pytest.mark.usefixtures("pipeline")
def test_escaped_text_mentions_nobody_on_gitlab(world: World, tmp_path: Path) -> None:
    """GitLab reads mentions, references and links in what entities stand for, and runs a line that
    starts with a slash as a command."""
    made = world.candidate("good")
    file = made.evidence / "candidate_eval.json"
    values = json.loads(file.read_text())
    forged = "x\n/close\n@all !1 #1 https://evil.example"
    file.write_text(json.dumps({**values, "eval_set_dvc_hash": forged}))
    text = render_note(world.settings, made.run_id, "v0.3.1-dev", made.evidence, tmp_path / "none")
    assert "No report" in text
    assert not re.search(r"(?m)^\s*/", text)
    shown = html.unescape(text)
    assert "all" in shown
    for bad in ("@all", "!1", "#1", "https://evil"):
        assert bad not in shown.partition("No report")[2]
