"""Downloads from MLflow's server without MLflow's package, from servers that misbehave.

A real one is in ``registry/test_fetching_from_a_server.py``.
"""

from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline.adapters import mlflow_models, mlflow_server
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline_tests.support.fake_mlflow import FILES, MODEL, ROOT, Mlflow, listing, row
from lynx_pipeline_tests.support.http_server import Answer


def test_files_and_folders_are_downloaded_by_their_names(url: str, tmp_path: Path) -> None:
    """Names may contain what a URL has to escape. A large file comes in blocks."""
    location = mlflow_server.logged_model_location(url, MODEL)
    mlflow_server.download(url, location, tmp_path / "got")
    found = {
        it.relative_to(tmp_path / "got").as_posix(): it.read_bytes()
        for it in (tmp_path / "got").rglob("*")
        if it.is_file()
    }
    assert found == FILES


INVALID = "invalid or duplicate name"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param([row("..")], INVALID, id="parent"),
        pytest.param([row("../x")], INVALID, id="path to parent"),
        pytest.param([row("/etc/passwd")], INVALID, id="absolute"),
        pytest.param([row("a/b")], INVALID, id="path"),
        pytest.param([row("")], INVALID, id="empty"),
        pytest.param([row("a\0")], INVALID, id="NUL"),
        pytest.param([row("\ud800")], INVALID, id="not UTF-8"),
        pytest.param([row(5)], INVALID, id="number"),
        pytest.param([5], INVALID, id="no object"),
        pytest.param([row("a"), row("a")], INVALID, id="twice"),
        pytest.param([row("a", "x")], "invalid size x of a", id="size is text"),
        pytest.param([row("a", -1)], "invalid size -1 of a", id="negative size"),
        pytest.param([row(str(n)) for n in range(50_001)], "more than 50000 files", id="too many"),
        pytest.param([{"path": "d", "is_dir": True}], "more than 64 deep", id="endless"),
    ],
)
def test_an_invalid_listing_is_refused(
    mlflow: Mlflow, url: str, tmp_path: Path, rows: list[Any], message: str
) -> None:
    """No file is written outside the folder, and no listing goes on for ever."""
    mlflow.override = listing(*rows)
    with pytest.raises((SystemFailed, BadInput), match=message):
        mlflow_server.download(url, ROOT, tmp_path / "a" / "got")
    assert [it for it in tmp_path.rglob("*") if not it.is_dir()] == []


def test_a_listing_of_any_length_is_refused(mlflow: Mlflow, url: str, tmp_path: Path) -> None:
    """It would fill the memory."""
    mlflow.override = lambda _: Answer(b"[" * ((32 << 20) + 1))
    with pytest.raises(SystemFailed, match="got more than 32 MiB"):
        mlflow_server.download(url, ROOT, tmp_path / "got")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param(Answer(b"12345"), "more than the listed 4 bytes", id="longer"),
        pytest.param(Answer(b"123"), "got 3 of 4 bytes", id="shorter"),
        pytest.param(
            Answer(b"123", headers={"Content-Length": "4", "Connection": "close"}),
            "got 3 of 4 bytes",
            id="cut off",
        ),
    ],
)
def test_a_file_must_be_as_long_as_listed(
    mlflow: Mlflow, url: str, tmp_path: Path, answer: Answer, message: str
) -> None:
    """Neither more nor less is accepted, whoever downloads: also for an evaluation."""
    mlflow.override = lambda it: listing(row("a", 4))(it) or answer
    for name, download in (("a", mlflow_server.download), ("b", mlflow_models.download)):
        with pytest.raises(SystemFailed, match=message):
            download(url, ROOT, tmp_path / name)


@pytest.mark.parametrize("cut", [Answer(b"123"), Answer(b"1", 503)])
def test_a_transfer_that_breaks_off_is_tried_again(
    mlflow: Mlflow, url: str, tmp_path: Path, cut: Answer
) -> None:
    """The file is complete afterwards."""
    answers = iter([cut, Answer(b"1234")])
    mlflow.override = lambda it: listing(row("a", 4))(it) or next(answers)
    mlflow_server.download(url, ROOT, tmp_path / "got")
    assert (tmp_path / "got/a").read_bytes() == b"1234"


def test_an_empty_folder_means_that_the_model_is_gone(
    mlflow: Mlflow, url: str, tmp_path: Path
) -> None:
    """MLflow lists a folder that does not exist as empty."""
    mlflow.override = listing()
    with pytest.raises(BadInput, match="has no files at 'mlflow-artifacts:/1/model' any more"):
        mlflow_server.download(url, ROOT, tmp_path / "got")


def test_a_disk_error_is_not_taken_for_the_networks(
    mlflow: Mlflow, url: str, tmp_path: Path
) -> None:
    """The file's name is too long. Nothing is tried again."""
    mlflow.override = lambda it: listing(row("x" * 300, 1))(it) or Answer(b"1")
    with pytest.raises(SystemFailed, match=r"xxx: File name too long\. Check that the path"):
        mlflow_server.download(url, ROOT, tmp_path / "got")
    assert len(mlflow.requests) == 2


@pytest.mark.parametrize(
    ("uri", "location", "variables", "expected"),
    [
        ("https://h", ROOT, {}, True),
        ("https://h", "mlflow-artifacts://other/1", {}, False),
        ("https://h", "s3://bucket/1", {}, False),
        ("sqlite:////x", ROOT, {}, False),
        ("databricks", ROOT, {}, False),
        ("https://h", ROOT, {"MLFLOW_TRACKING_AUTH": "kubernetes"}, False),
        ("https://h", ROOT, {"MLFLOW_TRACKING_AWS_SIGV4": "true"}, False),
    ],
)
def test_only_what_the_server_itself_serves(
    monkeypatch: pytest.MonkeyPatch,
    uri: str,
    location: str,
    variables: dict[str, str],
    expected: bool,
) -> None:
    """Everything else is left to MLflow's client, and so are its plug-ins for authentication."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert mlflow_server.serves(uri, location) is expected
