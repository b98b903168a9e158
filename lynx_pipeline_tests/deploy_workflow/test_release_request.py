"""Who may decide, asked of a real checkout and GitHub's API."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lynx_pipeline.adapters.github import GitHub
from lynx_pipeline.cli import main
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline_tests.simulators.actions import fake_github
from lynx_pipeline_tests.simulators.actions.fake_github import (
    Commit,
    FakeGitHub,
    PullRequest,
    Review,
)
from lynx_pipeline_tests.support.builders import project
from lynx_pipeline_tests.support.fake_issuer import REPOSITORY
from lynx_pipeline_tests.support.places import GIT_ENV, git

HEAD, OLD = "a" * 40, "b" * 40
NAME = "a name"
READ, WRITE = "ghs_1234567890", "ghs_0987654321"


@pytest.fixture
def github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    """An API, and the variables of a job that may read pull requests."""
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
    """A checkout whose baseline is owned by three, of whom one can't write; commits changes."""
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


def approved() -> int:
    """The workflow's step."""
    return main(["ci", "approved", "--base", "HEAD^1"])


def test_a_change_of_something_else_needs_no_approval(
    github: FakeGitHub, commit: Commits, capsys: pytest.CaptureFixture[str]
) -> None:
    """And GitHub isn't asked."""
    commit(".github/CODEOWNERS", "@reader", "@mallory")
    assert approved() == 0
    assert "no approval is needed" in capsys.readouterr().out
    assert github.requests == []


@pytest.mark.parametrize(
    "change",
    [
        ("eval_baseline.json", '"accuracy"', ' "accuracy"'),
        ("data/eval.jsonl.dvc", "size: ", "size: 1"),
        ("pyproject.toml", 'model = "tiny"', 'model = "other"'),
    ],
    ids=lambda change: change[0],
)
def test_a_change_of_what_verdicts_are_by_needs_one(
    change: tuple[str, str, str],
    github: FakeGitHub,
    commit: Commits,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of an owner who did not write it, for the commit as it is."""
    commit(*change)
    assert approved() == 1
    assert "nobody has reviewed it" in capsys.readouterr().err
    github.pulls[7].reviews.append(Review("hubot", commit=HEAD))
    assert approved() == 0
    assert f"{change[0]}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("review", "says"),
    [
        (Review("octocat", commit=HEAD), "octocat wrote part of it"),
        (Review("hubot", commit=OLD), "hubot approved bbbbbbbbbbbb, not aaaaaaaaaaaa"),
        (Review("reader", commit=HEAD), "reader cannot write to this repository"),
        (Review("mallory", commit=HEAD), "mallory is not an owner of eval_baseline.json"),
        (Review("hubot", "DISMISSED", HEAD), "hubot's latest review is DISMISSED"),
    ],
)
def test_not_everybody_can_approve(
    review: Review,
    says: str,
    github: FakeGitHub,
    commit: Commits,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 1, with what kept them from counting."""
    commit("eval_baseline.json", '"accuracy"', ' "accuracy"')
    github.pulls[7].reviews.append(review)
    assert approved() == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("commits", "says"),
    [
        ([Commit(), Commit(author=None)], "belongs to no GitHub account"),
        ([Commit()] * 250, "GitHub lists only the first 250 commits"),
    ],
    ids=["nobody's", "too many"],
)
def test_who_wrote_a_change_has_to_be_known(
    commits: list[Commit],
    says: str,
    github: FakeGitHub,
    commit: Commits,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Or its author could approve it."""
    commit("eval_baseline.json", '"accuracy"', ' "accuracy"')
    github.pulls[7].reviews.append(Review("hubot", commit=HEAD))
    github.pulls[7].commits = commits
    assert approved() == 1
    assert says in capsys.readouterr().err


def test_a_pull_request_does_not_name_its_own_judges(
    github: FakeGitHub, commit: Commits, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who owns the baseline is what it was before."""
    github.collaborators["mallory"] = "write"
    Path(".github/CODEOWNERS").write_text("* @mallory\n")
    commit("eval_baseline.json", '"accuracy"', ' "accuracy"')
    github.pulls[7].reviews.append(Review("mallory", commit=HEAD))
    assert approved() == 1
    assert "CODEOWNERS lists hubot, octocat, reader" in capsys.readouterr().err


# ----- the API --------------------------------------------------------------------------------


def test_all_pages_of_comments_are_read(github: FakeGitHub) -> None:
    """The newest is on the last; an edited one is known by its dates."""
    for number in range(250):
        github.comment(7, "octocat", f"comment {number}")
    github.comments[-1].edit("comment 249", "2030-01-01T00:00:00Z")
    found = GitHub().comments(7)
    assert [comment.body for comment in found] == [f"comment {n}" for n in range(250)]
    assert [comment.edited for comment in found] == [False] * 249 + [True]


def test_one_comment_is_kept(github: FakeGitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written anew each time, never by an older run; somebody else's is left alone."""
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


def test_an_edit_is_seen_also_within_the_second(github: FakeGitHub) -> None:
    """Which the dates don't show."""
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


def test_what_the_token_may_not_do_is_an_error(github: FakeGitHub) -> None:
    """Exit code 3, with GitHub's own words, and without the token."""
    with pytest.raises(SystemFailed, match="status 403, 'Resource not accessible") as caught:
        GitHub().upsert_comment(7, NAME, 42, "text")
    assert READ not in str(caught.value)
    with pytest.raises(SystemFailed, match="status 404"):
        GitHub().pull_request(8)


def test_no_token_is_bad_input(github: FakeGitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what the step lacks."""
    monkeypatch.delenv("GITHUB_TOKEN")
    with pytest.raises(BadInput, match="GITHUB_TOKEN: "):
        GitHub()
