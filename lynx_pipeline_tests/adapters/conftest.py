"""Fixtures of the adapters' tests. git never prompts and reads only the tests' configuration."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lynx_pipeline.adapters import mlflow_http, oidc
from lynx_pipeline_tests.support.builders import bundle
from lynx_pipeline_tests.support.fake_issuer import FakeIssuer, jwk, running
from lynx_pipeline_tests.support.fake_mlflow import Mlflow
from lynx_pipeline_tests.support.http_server import serving
from lynx_pipeline_tests.support.places import GIT_ENV

CI = ("GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "CIRCLECI", "GOOGLE_SERVICE_ACCOUNT_NAME")


@pytest.fixture(autouse=True)
def isolated_git_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep this machine's git configuration out of the tests."""
    for name, value in GIT_ENV.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle to log."""
    return bundle(tmp_path / "bundle")


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start with an empty key cache and outside any CI job."""
    monkeypatch.setattr(oidc, "_known", {})
    for name in (*CI, "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    # The file in which the library checks whether this machine is Google's.
    monkeypatch.setattr("id._internal.oidc.ambient._GCP_PRODUCT_NAME_FILE", "/nonexistent")


@pytest.fixture
def evil() -> Iterator[FakeIssuer]:
    """An attacker's issuer, with its own key."""
    with running() as it:
        it.keys = [jwk("evil")]
        yield it


@pytest.fixture
def mlflow() -> Mlflow:
    """A small MLflow server."""
    return Mlflow()


@pytest.fixture
def url(mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The server's URL, below a path as behind a reverse proxy. One retry, without a pause."""
    monkeypatch.setattr(mlflow_http, "_PAUSE", 0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving(mlflow.answer) as it:
        yield it
