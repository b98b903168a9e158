"""The note on a merge request, with a fake GitLab API."""

from collections.abc import Iterator

import pytest

from lynx_pipeline.adapters.gitlab import GitLab, pipeline_id
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline_tests.support import fake_gitlab
from lynx_pipeline_tests.support.fake_gitlab import BOT, READ_TOKEN, TOKEN, FakeGitLab

NAME = "a name"
MARK = f"<!-- {NAME}, run "
PERSON = 12


@pytest.fixture
def gitlab(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitLab]:
    """A fake API, and the variables of a job that may write notes."""
    with fake_gitlab.running() as it:
        for name, value in it.job.items():
            monkeypatch.setenv(name, value)
        yield it


def upsert(pipeline: int, text: str) -> str | None:
    """Write the note, as a new process would."""
    return GitLab().upsert_note(7, NAME, pipeline, text)


def test_a_single_note_is_kept_up_to_date(gitlab: FakeGitLab) -> None:
    """A pipeline does not overwrite a later one's note. Other people's notes are untouched, even
    with the same first line."""
    gitlab.note(PERSON, f"{MARK}99 -->\nmine")
    first = upsert(41, "one")
    assert first == "https://gitlab.example.com/octo-org/octo-repo/-/merge_requests/7#note_2"
    assert upsert(41, "two") == upsert(42, "three") == first
    assert upsert(41, "four") is None
    assert [it.body for it in gitlab.notes] == [f"{MARK}99 -->\nmine", f"{MARK}42 -->\nthree"]
    gitlab.notes[1].body = f"{MARK}forged -->\nPromoted v9.9.9"
    assert upsert(40, "five") == first
    assert gitlab.notes[1].body == f"{MARK}40 -->\nfive"


def test_the_note_is_found_among_hundreds(gitlab: FakeGitLab) -> None:
    """It is on the third page."""
    for number in range(230):
        gitlab.note(PERSON, f"note {number}")
    gitlab.note(BOT, "something else by the same token")
    first = upsert(41, "one")
    gitlab.note(PERSON, "a last word")
    assert upsert(42, "two") == first
    assert len(gitlab.notes) == 233
    assert gitlab.notes[231].body == f"{MARK}42 -->\ntwo"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        pytest.param("GITLAB_TOKEN", "glpat-x", "status 401, '401 Unauthorized'", id="revoked"),
        pytest.param("GITLAB_TOKEN", READ_TOKEN, "status 403, 'insufficient_scope'", id="scope"),
        pytest.param("CI_PROJECT_ID", "75", "status 404, '404 Not Found'", id="project"),
        pytest.param("GITLAB_TOKEN", "glpat\nx", "InvalidHeader", id="two lines"),
        pytest.param("CI_API_V4_URL", "http://127.0.0.1:1", "ConnectionError", id="unreachable"),
        pytest.param("CI_SERVER_TLS_CA_FILE", "/nonexistent", "", id="authority"),
    ],
)
def test_a_refused_request_is_a_system_failure(
    gitlab: FakeGitLab, monkeypatch: pytest.MonkeyPatch, name: str, value: str, why: str
) -> None:
    """The error quotes GitLab and does not show the token."""
    if name == "CI_SERVER_TLS_CA_FILE":
        monkeypatch.setenv("CI_API_V4_URL", gitlab.url.replace("http:", "https:"))
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemFailed, match="writing a note on merge request 7 failed") as caught:
        upsert(42, "text")
    assert why in str(caught.value)
    assert not any(it in str(caught.value) for it in (TOKEN, READ_TOKEN, "glpat"))
    assert gitlab.notes == []


def test_a_short_outage_is_waited_for(gitlab: FakeGitLab) -> None:
    """Reading is repeated, and so is an update. A new note is not: it could be there twice."""
    gitlab.down = 2
    assert upsert(42, "text")
    assert len(gitlab.notes) == 1


def test_malformed_output_is_a_system_failure(
    gitlab: FakeGitLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gitlab.note(PERSON, "x"), "body", None)
    assert upsert(42, "text")
    monkeypatch.setattr(gitlab.notes[0], "author", None)
    monkeypatch.setattr(type(gitlab.notes[0]), "to_json", lambda _: {"body": "x"})
    with pytest.raises(SystemFailed, match="malformed output: KeyError"):
        upsert(43, "text")


@pytest.mark.parametrize("name", ["GITLAB_TOKEN", "CI_API_V4_URL", "CI_PROJECT_ID"])
def test_a_missing_variable_is_bad_input(
    gitlab: FakeGitLab, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The error names the variable."""
    monkeypatch.delenv(name)
    with pytest.raises(BadInput, match=f"{name} is not set"):
        GitLab()


@pytest.mark.parametrize("value", ["", "x", "9" * 5_000])
def test_the_pipelines_id_must_be_a_number(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CI_PIPELINE_ID", value)
    with pytest.raises(BadInput, match="CI_PIPELINE_ID is"):
        pipeline_id()
