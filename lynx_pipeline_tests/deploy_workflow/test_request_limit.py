"""Too many requests by one person are refused before anything is downloaded, and too many for one
candidate before it is evaluated. A real checkout and a fake GitHub API; nothing listens where
MLflow should be."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lynx_pipeline.adapters.github import GitHub
from lynx_pipeline.cli import main
from lynx_pipeline.config import load_settings
from lynx_pipeline.deploy_workflow.release_request import check_limit_per_candidate
from lynx_pipeline.domain.release.request_limit import RecentRuns
from lynx_pipeline.errors import Refused, SystemFailed
from lynx_pipeline_tests.simulators.actions import fake_github
from lynx_pipeline_tests.simulators.actions.fake_github import FakeGitHub
from lynx_pipeline_tests.simulators.actions.github_records import Job, PullRequest, Run
from lynx_pipeline_tests.support.builders import RUN, project
from lynx_pipeline_tests.support.fake_issuer import REPOSITORY, policy, policy_table
from lynx_pipeline_tests.support.places import GIT_ENV, git

FILE = "deploy-grammar-tutor.yml"
WORKFLOW = f".github/workflows/{FILE}"
TOKEN = "ghs_1234567890"
LIMIT = 3
YESTERDAY = (datetime.now(UTC) - timedelta(hours=25)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    """A fake API with a request by an owner, and the variables of the job that reads it."""
    settings = f"requests_per_day = {LIMIT}\n{policy_table(policy(workflow=WORKFLOW))}"
    root = project(tmp_path / "project", pyproject=settings).root
    (root / ".github").mkdir()
    (root / ".github/CODEOWNERS").write_text("* @octocat @hubot\n")
    event = tmp_path / "event.json"
    with fake_github.running() as it:
        it.pulls[7] = PullRequest(7, labels=["deploy-candidate"])
        it.collaborators |= {"octocat": "admin", "hubot": "write"}
        it.tokens[TOKEN] = {"actions": "read", "contents": "read", "pull-requests": "read"}
        comment = it.comment(7, "octocat", f"mlflow_run_id={RUN} semver=v0.1.0-dev")
        event.write_text(json.dumps({"issue": {"number": 7}, "comment": {"id": comment.id}}))
        for name, value in {
            "GITHUB_TOKEN": TOKEN,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_API_URL": it.url,
            "GITHUB_EVENT_NAME": "issue_comment",
            "GITHUB_EVENT_PATH": str(event),
            "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            **GIT_ENV,
        }.items():
            monkeypatch.setenv(name, value)
        git(root, "init", "--quiet")
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "--message", "x")
        monkeypatch.chdir(root)
        yield it


def run_request(github: FakeGitHub, id: str = "99", by: str = "octocat") -> int:
    """Run the workflow's step in a new run, or in the next attempt of the run with this id."""
    run = github.start(id, "octocat", again_by=by)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_TRIGGERING_ACTOR", by)
        patch.setenv("GITHUB_RUN_NUMBER", str(run.number))
        patch.setenv("GITHUB_RUN_ATTEMPT", str(run.attempt))
        code = main(["ci", "request", "--output", "candidate"])
    run.conclusion = "failure"
    return code


Capsys = pytest.CaptureFixture[str]


def test_requests_beyond_the_limit_are_refused(github: FakeGitHub, capsys: Capsys) -> None:
    """Before that, they get as far as MLflow. Older runs, runs without a job, and other people's do
    not count."""
    github.start("50", created_at=YESTERDAY, conclusion="failure")
    for number in range(4):
        github.start(f"6{number}", conclusion="skipped")
        github.start(f"7{number}", "mallory", conclusion="failure")
    for number in range(LIMIT):
        assert run_request(github, str(number)) == 3
        shown = capsys.readouterr().err
        assert f"This is request {number + 1} of at most 3 by octocat in 24 hours." in shown
        assert "127.0.0.1:9" in shown
    for number in (LIMIT, LIMIT + 1):
        assert run_request(github, str(number)) == 1
        shown = capsys.readouterr().err
        assert f"octocat made {number} requests in the 24 hours before this one" in shown
        assert "127.0.0.1:9" not in shown
    assert not Path("candidate").exists()


def test_a_re_run_makes_no_request(github: FakeGitHub, capsys: Capsys) -> None:
    """Otherwise one run could try a candidate often, and be deleted. The job that evaluates refuses
    it as well, because it can be re-run alone."""
    assert run_request(github) == 3
    assert "127.0.0.1:9" in capsys.readouterr().err
    expected = (
        "this is attempt 2 of a workflow run, and only the first one may evaluate a candidate, so "
        "that every try is counted. Write a new comment."
    )
    assert run_request(github) == 1
    shown = capsys.readouterr().err
    assert expected in shown
    assert "127.0.0.1:9" not in shown
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_RUN_ATTEMPT", "2")
        digest = ("--bundle-digest", "a" * 64)
        assert main(["ci", "prepare", RUN, "--from", "x", *digest, "--output", "y"]) == 1
    assert expected in capsys.readouterr().err


def test_a_deleted_run_counts(github: FakeGitHub, capsys: Capsys) -> None:
    """Everybody with write access can delete runs, but not make their numbers disappear."""
    for number in range(LIMIT):
        assert run_request(github, str(number)) == 3
    for run in [*github.runs]:
        github.delete_run(run)
    assert run_request(github) == 1
    assert "3 of them are deleted runs" in capsys.readouterr().err


def test_a_stranger_is_refused_first(github: FakeGitHub, capsys: Capsys) -> None:
    """The limit is for people who may make requests."""
    assert run_request(github, by="mallory") == 1
    assert "mallory is not an owner" in capsys.readouterr().err
    assert not any(it.path.endswith("/runs") for it in github.requests)


def test_a_job_that_cannot_read_runs_makes_no_request(github: FakeGitHub, capsys: Capsys) -> None:
    """As a workflow from before the limit: the error says which permission is missing."""
    github.tokens[TOKEN] = {"contents": "read", "pull-requests": "read"}
    assert run_request(github) == 3
    shown = capsys.readouterr().err
    assert f"reading the runs of {FILE}, which needs 'actions: read', failed: status 403" in shown


def test_all_pages_of_runs_are_read(github: FakeGitHub) -> None:
    """GitHub lists at most 1000. What is older is not missed as deleted."""
    since = datetime.now(UTC) - timedelta(hours=24)
    assert GitHub().runs(FILE, since) == RecentRuns((), 0)
    github.start("2000", created_at=YESTERDAY)
    for number in range(250):
        github.start(f"{number}", None)
    found = GitHub().runs(FILE, since)
    assert sorted(it.number for it in found.runs) == [*range(2, 252)]
    assert found.before == 1
    assert {it.by for it in found.runs} == {""}
    for number in range(250, 1250):
        github.start(f"{number}")
    found = GitHub().runs(FILE, since)
    assert sorted(it.number for it in found.runs) == [*range(252, 1252)]
    assert found.before == 251
    with pytest.raises(SystemFailed, match="404"):
        GitHub().runs("other.yml", since)


# ----- one candidate ------------------------------------------------------------------------

SHA, OTHER = "a" * 64, "b" * 64
OWNERS = ("octocat", "hubot")
FIRST = Job("Read the request", 1, "success")


def earlier(github: FakeGitHub, *jobs: Job, by: str | None = "octocat") -> Run:
    """A run with these jobs after the first one."""
    return github.start(str(100 + len(github.runs)), by, conclusion="failure", jobs=[FIRST, *jobs])


def evaluating(sha: str, conclusion: str = "failure", attempt: int = 1) -> Job:
    """The job that evaluated the candidate with this canonical sha."""
    return Job(f"Evaluate {sha}", attempt, conclusion)


def check_candidate(github: FakeGitHub, sha: str = SHA) -> None:
    """The check of the candidate with this canonical sha, in a new run."""
    run = github.start("1000", jobs=[Job("Read the request")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_RUN_NUMBER", str(run.number))
        try:
            check_limit_per_candidate(load_settings(), GitHub(), sha)
        finally:
            github.runs.remove(run)


def asked_for_jobs(github: FakeGitHub) -> int:
    """How often a run was asked for its jobs."""
    return sum(it.path.endswith("/jobs") for it in github.requests)


def test_requests_for_one_candidate_are_limited(github: FakeGitHub) -> None:
    """Whoever makes them. Those for other candidates, and those that evaluated nothing, do not
    count."""
    for number in range(4):
        earlier(github, evaluating(OTHER), by=OWNERS[number % 2])
        earlier(github, evaluating("${{ needs.request.outputs.canonical_sha }}", "skipped"))
    for number in range(LIMIT - 1):
        earlier(github, evaluating(SHA), by=OWNERS[number % 2])
    check_candidate(github)
    earlier(github, evaluating(SHA, "success"))
    expected = (
        f"for this candidate (bundle {SHA[:12]}) there were 3 requests in the 24 hours before this "
        "one, and 'requests_per_day' in pyproject.toml allows 3. The next one is possible after"
    )
    with pytest.raises(Refused) as caught:
        check_candidate(github)
    assert str(caught.value).startswith(expected)
    with pytest.raises(Refused, match="there were 4 requests"):
        check_candidate(github, OTHER)
    check_candidate(github, "c" * 64)


def test_strangers_use_up_no_candidates_requests(github: FakeGitHub) -> None:
    """Anybody can start a run with a comment, and it waits for a machine before it is refused."""
    for _ in range(LIMIT):
        earlier(github, by="mallory")
    check_candidate(github)
    assert asked_for_jobs(github) == 0


def test_few_runs_are_not_asked_for_their_jobs(github: FakeGitHub) -> None:
    """A candidate can't have had more requests than there were."""
    for _ in range(LIMIT - 1):
        earlier(github, evaluating(SHA))
    check_candidate(github)
    assert asked_for_jobs(github) == 0
    earlier(github, evaluating(OTHER))
    check_candidate(github)
    assert asked_for_jobs(github) == LIMIT


@pytest.mark.parametrize(
    "jobs",
    [
        pytest.param([], id="not evaluated yet"),
        pytest.param([Job("Evaluate the candidate", 1, "success")], id="an older workflow"),
        pytest.param([evaluating(OTHER, attempt=2)], id="another attempt"),
    ],
)
def test_an_unknown_candidate_counts_for_all(github: FakeGitHub, jobs: list[Job]) -> None:
    """So the limit can't be avoided by several requests at once."""
    for number in range(LIMIT):
        earlier(github, *jobs, by=[*OWNERS, None][number])
    with pytest.raises(Refused, match="3 of them count for every candidate"):
        check_candidate(github)


def test_a_deleted_run_counts_for_every_candidate(github: FakeGitHub) -> None:
    """Nobody can see what it evaluated."""
    for _ in range(LIMIT):
        earlier(github, evaluating(OTHER))
    for run in [*github.runs]:
        github.delete_run(run)
    with pytest.raises(Refused, match="3 of them are deleted runs"):
        check_candidate(github)
