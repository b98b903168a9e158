"""Which values become links in the UI, and whether they work on another machine."""

from dataclasses import replace
from pathlib import Path
from socket import gethostname

import pytest
from dagster import PathMetadataValue, UrlMetadataValue

from lynx_pipeline.config import load_settings
from lynx_pipeline.defs.known import Known
from lynx_pipeline.defs.metadata import candidate_metadata, file_metadata, pull_request_metadata
from lynx_pipeline.evaluation.candidate import PULL_REQUEST_TAG

PULLS = [
    "https://github.com/acme/tutor/pull/7",
    "https://github.example:8443/acme/my.tutor_2/pull/123",
    "http://127.0.0.1:3000/acme/tutor/pull/1",
]
INVALID = {
    "empty": "",
    "a JavaScript URL": "javascript:alert(1)//pull/7",
    "a password": "https://me:s3cret@github.com/acme/tutor/pull/7",
    "a query": "https://github.com/acme/tutor/pull/7?next=elsewhere",
    "no number": "https://github.com/acme/tutor/pull/",
    "a page below it": "https://github.com/acme/tutor/pull/7/files",
    "a trailing newline": "https://github.com/acme/tutor/pull/7\n",
    "a non-ASCII digit": "https://github.com/acme/tutor/pull/\u0667",
}


@pytest.mark.parametrize("page", PULLS)
def test_a_pull_request_is_a_link(page: str) -> None:
    """The server may be GitHub or a company's own."""
    assert pull_request_metadata({PULL_REQUEST_TAG: page}) == {
        "pull_request": UrlMetadataValue(page)
    }


@pytest.mark.parametrize("page", INVALID.values(), ids=INVALID.keys())
def test_a_tag_that_names_no_pull_request_is_not_shown(page: str) -> None:
    """Anybody who can tag a run controls the value."""
    assert pull_request_metadata({PULL_REQUEST_TAG: page}) == {}
    assert pull_request_metadata({}) == {}


def test_a_path_on_a_server_names_the_machine() -> None:
    """Without a tracking server, people work on this machine."""
    local = load_settings()
    assert file_metadata(local, Path("/a/b")) == PathMetadataValue("/a/b")
    server = replace(local, tracking_uri="http://127.0.0.1:5000")
    assert file_metadata(server, Path("/a/b")) == f"/a/b on {gethostname()}"


def test_a_candidate_is_shown_with_what_people_know_it_by() -> None:
    """The link to its MLflow run leads to where people reach MLflow."""
    server = replace(load_settings(), tracking_uri="http://127.0.0.1:5000")
    run_id, known = "a" * 32, Known("shy-fox-12", "anna", "v1.0.0")
    shown = candidate_metadata(server, run_id, known)
    page = f"http://127.0.0.1:5000/#/runs/{run_id}"
    assert shown == {
        "run_name": "shy-fox-12",
        "author": "anna",
        "requested_version": "v1.0.0",
        "mlflow_run": UrlMetadataValue(page),
    }
    moved = replace(server, mlflow_ui="https://mlflow.example/team/")
    page = f"https://mlflow.example/team/#/runs/{run_id}"
    assert candidate_metadata(moved, run_id, Known()) == {"mlflow_run": UrlMetadataValue(page)}
    assert known.describe(run_id) == f"{run_id} (shy-fox-12 by anna)"
    assert Known().describe(run_id) == run_id
