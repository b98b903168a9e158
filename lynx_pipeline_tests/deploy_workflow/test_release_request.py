"""Who may approve changes of the gate inputs, with a real checkout and a fake GitHub API."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lynx_pipeline.adapters.github import GitHub
from lynx_pipeline.cli import main
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline_tests.simulators.actions import fake_github
from lynx_pipeline_tests.simulators.actions.fake_github import FakeGitHub
from lynx_pipeline_tests.simulators.actions.github_records import Commit, PullRequest, Review
from lynx_pipeline_tests.support.builders import project
from lynx_pipeline_tests.support.fake_issuer import REPOSITORY
from lynx_pipeline_tests.support.places import GIT_ENV, git

HEAD, OLD = "a" * 40, "b" * 40
NAME = "a name"
READ, WRITE = "ghs_1234567890", "ghs_0987654321"


@pytest.fixture
def github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    """A fake API, and the variables of a job with read access to pull requests."""
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": 7}}))
    with fake_github.running() as it:
        it.pulls[7] = PullRequest(7, head=HEAD, commits=[Commit()])
        it.collaborators |= {"octocat": "admin", "hubot": "maintain", "reader": "triage"}
        it.tokens[READ] = {"pull-requests": "read"}
        it.tokens[WRITE] = {"pull-requests": "write"}
        for name, value in {
            "GITHUB_TOKEN": READ,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_API_URL": it.url,
            "GITHUB_EVENT_NAME": "pull_request",
            "GITHUB_EVENT_PATH": str(event),
            **GIT_ENV,
        }.items():
            monkeypatch.setenv(name, value)
        yield it


@pytest.fixture
def commit(
    tmp_path: Path, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str, str], None]:
    """Commits a change in a checkout. The baseline has three owners, one of them without write
    access."""
    root = project(tmp_path / "project").root

    def change(name: str, old: str, new: str) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new, 1))
        git(root, "commit", "--quiet", "--all", "--message", "x")

    (root / ".github").mkdir()
    (root / ".github/CODEOWNERS").write_text("/eval_baseline.json @octocat @hubot @reader\n")
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "x")
    monkeypatch.chdir(root)
    return change


Commits = Callable[[str, str, str], None]


def run_approved() -> int:
    """Run the workflow's step."""
    return main(["ci", "approved", "--base", "HEAD^1"])


def test_an_unrelated_change_needs_no_approval(
    github: FakeGitHub, commit: Commits, capsys: pytest.CaptureFixture[str]
) -> None:
    """GitHub is not contacted."""
    commit(".github/CODEOWNERS", "@reader", "@mallory")
    assert run_approved() == 0
    assert "no approval is needed" in capsys.readouterr().out
    assert github.requests == []


@pytest.mark.parametrize(
    "change",
    [
        ("eval_baseline.json", '"accuracy"', ' "accuracy"'),
        ("data/eval.jsonl.dvc", "size: ", "size: 1"),
        ("pyproject.toml", 'model = "tiny"', 'model = "other"'),
        ("pyproject.toml", 'model = "tiny"', 'model = "tiny"\nrequests_per_day = 99'),
    ],
    ids=lambda change: change[0],
)
def test_a_change_of_a_gate_input_needs_approval(
    change: tuple[str, str, str],
    github: FakeGitHub,
    commit: Commits,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An owner who did not write the change has to approve the current commit."""
    commit(*change)
    assert run_approved() == 1
    assert "nobody has reviewed it" in capsys.readouterr().err
    github.pulls[7].reviews.append(Review("hubot", commit=HEAD))
    assert run_approved() == 0
    assert f"{change[0]}" in capsys.readouterr().out


def test_the_removal_of_a_model_needs_approval(github: FakeGitHub, commit: Commits) -> None:
    """Of an owner of its baseline. The same pull request could loosen it."""
    other = '\n[[tool.lynx_pipeline.models]]\nname = "other"\n'
    commit("pyproject.toml", 'model = "tiny"\n', "")
    file = Path("pyproject.toml")
    one = file.read_text() + '\n[[tool.lynx_pipeline.models]]\nname = "tiny"\n'
    file.write_text(one + other)
    git(Path(), "commit", "--quiet", "--all", "--message", "two models")
    file.write_text(one)
    git(Path(), "commit", "--quiet", "--all", "--message", "one model")
    assert run_approved() == 1
    github.pulls[7].reviews.append(Review("hubot", commit=HEAD))
    assert run_approved() == 0


@pytest.mark.parametrize(
    ("review", "message"),
    [
        (Review("octocat", commit=HEAD), "octocat wrote part of it"),
        (Review("hubot", commit=OLD), "hubot approved bbbbbbbbbbbb, not aaaaaaaaaaaa"),
        (Review("reader", commit=HEAD), "reader cannot write to this repository"),
        (Review("mallory", commit=HEAD), "mallory is not an owner of eval_baseline.json"),
        (Review("hubot", "DISMISSED", HEAD), "hubot's latest review is DISMISSED"),
    ],
)
def test_an_approval_that_does_not_count_is_refused(
    review: Review,
    message: str,
    github: FakeGitHub,
    commit: Commits,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The error says why the review does not count."""
    commit("eval_baseline.json", '"accuracy"', ' "accuracy"')
    github.pulls[7].reviews.append(review)
    assert run_approved() == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("commits", "message"),
    [
        ([Commit(), Commit(author=None)], "belongs to no GitHub account"),
        ([Commit()] * 250, "GitHub lists only the first 250 commits"),
    ],
    ids=["no account", "too many"],
)
def test_the_author_of_every_commit_must_be_known(
    commits: list[Commit],
    message: str,
    github: FakeGitHub,
    commit: Commits,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Otherwise an author could approve their own change."""
    commit("eval_baseline.json", '"accuracy"', ' "accuracy"')
    github.pulls[7].reviews.append(Review("hubot", commit=HEAD))
    github.pulls[7].commits = commits
    assert run_approved() == 1
    assert message in capsys.readouterr().err


def test_a_pull_request_cannot_choose_its_own_approvers(
    github: FakeGitHub, commit: Commits, capsys: pytest.CaptureFixture[str]
) -> None:
    """The CODEOWNERS file of the base commit decides."""
    github.collaborators["mallory"] = "write"
    Path(".github/CODEOWNERS").write_text("* @mallory\n")
    commit("eval_baseline.json", '"accuracy"', ' "accuracy"')
    github.pulls[7].reviews.append(Review("mallory", commit=HEAD))
    assert run_approved() == 1
    assert "CODEOWNERS lists hubot, octocat, reader" in capsys.readouterr().err


# ----- the API --------------------------------------------------------------------------------


def test_all_pages_of_comments_are_read(github: FakeGitHub) -> None:
    """The newest comment is on the last page. Its dates show that it was edited."""
    for number in range(250):
        github.comment(7, "octocat", f"comment {number}")
    github.comments[-1].edit("comment 249", "2030-01-01T00:00:00Z")
    found = GitHub().comments(7)
    assert [comment.body for comment in found] == [f"comment {n}" for n in range(250)]
    assert [comment.edited for comment in found] == [False] * 249 + [True]


def test_a_single_comment_is_kept_up_to_date(
    github: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older run does not overwrite a newer one's comment, and other users' comments are
    untouched."""
    monkeypatch.setenv("GITHUB_TOKEN", WRITE)
    mark = f"<!-- {NAME}, run "
    github.comment(7, "mallory", f"{mark}99 -->\nmine")
    first = GitHub().upsert_comment(7, NAME, 41, "one")
    assert (
        GitHub().upsert_comment(7, NAME, 41, "two")
        == GitHub().upsert_comment(7, NAME, 42, "three")
        == first
    )
    assert GitHub().upsert_comment(7, NAME, 41, "four") is None
    assert [c.body for c in github.comments] == [f"{mark}99 -->\nmine", f"{mark}42 -->\nthree"]
    assert GitHub().upsert_comment(7, NAME, 41, "five", overwrite_later=True) == first
    assert github.comments[-1].body == f"{mark}41 -->\nfive"
    github.comments[-1].edit(f"{mark}forged -->\nPromoted v9.9.9")
    assert GitHub().upsert_comment(7, NAME, 40, "six") == first


def test_an_edit_within_the_same_second_is_detected(github: FakeGitHub) -> None:
    """The dates of the comment do not show such an edit."""
    comment = github.comment(7, "octocat", "as written")
    [found] = GitHub().comments(7)
    assert not GitHub().was_edited(found)
    comment.edit("as edited", comment.created_at)
    [found] = GitHub().comments(7)
    assert not found.edited
    assert GitHub().was_edited(found)
    github.comments.clear()
    with pytest.raises(SystemFailed, match="whether comment 1001 was edited"):
        GitHub().was_edited(found)


def test_a_missing_permission_is_a_system_failure(github: FakeGitHub) -> None:
    """The error quotes GitHub and does not show the token."""
    with pytest.raises(SystemFailed, match="status 403, 'Resource not accessible") as caught:
        GitHub().upsert_comment(7, NAME, 42, "text")
    assert READ not in str(caught.value)
    with pytest.raises(SystemFailed, match="status 404"):
        GitHub().pull_request(8)


def test_a_missing_token_is_bad_input(github: FakeGitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable."""
    monkeypatch.delenv("GITHUB_TOKEN")
    with pytest.raises(BadInput, match="GITHUB_TOKEN: "):
        GitHub()
