"""Runs and the mirror in a real MLflow store, and restoring MLflow's global state."""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline.adapters.mlflow_tracking import (
    connected,
    mirror_alias,
    run_info,
    run_page,
    tag_run,
)
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support.builders import bundle
from lynx_pipeline_tests.support.mlflow_runs import log_model_of

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle to log."""
    return bundle(tmp_path / "bundle")


def test_an_unknown_run_is_bad_input_and_a_broken_server_is_a_system_failure(
    tracking: Tracking, tmp_path: Path
) -> None:
    """The user can fix the run id, but not a broken server."""
    with pytest.raises(BadInput, match="not found in MLflow at"):
        run_info(tracking.uri, "0" * 32)
    (tmp_path / "broken.db").write_text("no database at all" * 100)
    with pytest.raises(SystemFailed, match=r"MLflow at sqlite.* failed"):
        run_info(f"sqlite:///{tmp_path / 'broken.db'}", "0" * 32)


@pytest.fixture
def callers_server() -> Iterator[str]:
    """A tracking server that the caller has set for its own use."""
    import mlflow

    other = "http://127.0.0.1:1/other"
    mlflow.set_tracking_uri(other)
    yield other
    mlflow.set_tracking_uri(None)
    os.environ.pop("MLFLOW_TRACKING_URI", None)


def test_the_callers_tracking_server_is_restored(tracking: Tracking, callers_server: str) -> None:
    """The environment variable that MLflow sets is restored too, also after an error."""
    import mlflow

    variable = os.environ.get("MLFLOW_TRACKING_URI")
    run_info(tracking.uri, tracking.run())
    with pytest.raises(BadInput):
        run_info(tracking.uri, "0" * 32)
    assert mlflow.get_tracking_uri() == callers_server
    assert os.environ.get("MLFLOW_TRACKING_URI") == variable


def test_an_unset_tracking_server_stays_unset(tracking: Tracking) -> None:
    """No environment variable is left that a child process would inherit."""
    import mlflow

    run_id = tracking.run()
    tag_run(tracking.uri, run_id, "lynx.semver", "v0.1.0-dev")
    assert run_info(tracking.uri, run_id).tags["lynx.semver"] == "v0.1.0-dev"
    assert not mlflow.tracking.is_tracking_uri_set()
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_a_tracking_server_from_the_environment_is_not_kept(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the variable is gone, the process has no tracking server."""
    import mlflow

    run_id = tracking.run()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    run_info(tracking.uri, run_id)
    assert mlflow.get_tracking_uri() == os.environ["MLFLOW_TRACKING_URI"] == tracking.uri
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert not mlflow.tracking.is_tracking_uri_set()


def test_garbage_is_collected_again_after_the_first_import(tmp_path: Path) -> None:
    """Only MLflow's import does without."""
    code = (
        "import gc; from lynx_pipeline.adapters.mlflow_tracking import connected\n"
        f"with connected('sqlite:///{tmp_path / 'mlflow.db'}'):\n"
        "    assert gc.isenabled() and gc.get_freeze_count() > 100_000"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_mirroring_twice_changes_nothing(tracking: Tracking, folder: Path) -> None:
    """The first call creates a version and an alias. Other promotions move the alias, also back."""
    tags = [{"lynx.semver": f"v0.{k}.0-dev", "lynx.canonical_sha": f"{k}"} for k in range(2)]
    runs = [tracking.run({"model": folder}) for _ in range(2)]

    def mirror(k: int) -> tuple[str, int, str]:
        """The returned version, how many versions there are, and where the alias points."""
        version = mirror_alias(
            tracking.uri,
            model="mirrored",
            alias="dev",
            uri=f"runs:/{runs[k]}/model",
            run_id=runs[k],
            tags=tags[k],
            about={},
            metrics={},
        )
        with connected(tracking.uri) as client:
            found = client.search_model_versions("name = 'mirrored'")
            alias = client.get_registered_model("mirrored").aliases["dev"]
        return version, len(found), str(alias)

    assert mirror(0) == mirror(0) == ("1", 1, "1")
    assert mirror(1) == mirror(1) == ("2", 2, "2")
    assert mirror(0) == ("1", 2, "1")


def test_a_logged_model_gets_the_accuracies_once(tracking: Tracking, folder: Path) -> None:
    """More than MLflow takes in a request, with names that it does not take. Repeating it adds
    none, and a deleted run does not matter."""
    run_id = tracking.run()
    model_id = log_model_of(tracking, run_id, folder)
    metrics = {"lynx/topic.a (b)": 0.25, **{f"lynx/id.{k}": k / 2000 for k in range(2000)}}

    def mirror() -> None:
        mirror_alias(
            tracking.uri,
            model="with-metrics",
            alias="champion",
            uri=f"models:/{model_id}",
            run_id=run_id,
            tags={"lynx.semver": "v0.1.0-dev"},
            about={"lynx.verdict": "passed"},
            metrics=metrics,
        )

    for _ in range(2):
        mirror()
        with connected(tracking.uri) as client:
            found = client.get_logged_model(model_id).metrics
            version = client.get_model_version_by_alias("with-metrics", "champion")
        assert len(found) == 2001
        expected = {key.replace("(", "_").replace(")", "_"): it for key, it in metrics.items()}
        assert {metric.key: metric.value for metric in found} == expected
        assert version.tags == {"lynx.semver": "v0.1.0-dev", "lynx.verdict": "passed"}
    with connected(tracking.uri) as client:
        client.delete_run(run_id)
    metrics["lynx/new"] = 1.0
    mirror()


# ----- the mirror converges from any state ----------------------------------------------------

MIRRORED = {"lynx.semver": "v0.1.0-dev", "lynx.canonical_sha": "a"}
ABOUT = {"lynx.verdict": "passed"}


@pytest.fixture
def mirrored(tracking: Tracking, folder: Path) -> Callable[[], tuple[Any, ...]]:
    """A function that mirrors one promotion, checks the version that the alias then points to, and
    returns model, run, source and the number of versions."""
    run_id, model = tracking.run({"model": folder}), f"m{uuid.uuid4().hex}"
    uri = f"runs:/{run_id}/model"

    def mirror() -> tuple[Any, ...]:
        version = mirror_alias(
            tracking.uri,
            model=model,
            alias="dev",
            uri=uri,
            run_id=run_id,
            tags=MIRRORED,
            about=ABOUT,
            metrics={},
        )
        with connected(tracking.uri) as client:
            found = client.get_model_version_by_alias(model, "dev")
            number = len(client.search_model_versions(f"name = '{model}'"))
        assert version == str(found.version)
        assert (found.run_id, found.source, dict(found.tags)) == (
            run_id,
            uri,
            {**MIRRORED, **ABOUT},
        )
        return model, run_id, uri, number

    return mirror


CALLS = ("create_registered_model", "create_model_version", "set_registered_model_alias")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_interrupted_mirror_is_completed_by_the_next_one(
    mirrored: Callable[[], tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    after: bool,
) -> None:
    """An interruption before or after any call that writes leaves one version in the end."""
    from mlflow import MlflowClient

    real = getattr(MlflowClient, call)

    def broken(*args: Any, **kwargs: Any) -> Any:
        if after:
            real(*args, **kwargs)
        raise ConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, call, broken)
        with pytest.raises(SystemFailed):
            mirrored()
    assert mirrored()[3] == 1
    assert mirrored()[3] == 1


def test_changes_by_others_to_the_mirror_are_repaired(
    mirrored: Callable[[], tuple[Any, ...]], tracking: Tracking, folder: Path
) -> None:
    """The alias moved or deleted, versions deleted, tags edited, or a version with our tags and
    run that points to a different model."""
    model, run_id, uri, _ = mirrored()
    other = tracking.run({"model": folder})
    with connected(tracking.uri) as client:
        client.delete_registered_model_alias(model, "dev")
        mirrored()
        evil = client.create_model_version(
            model, f"runs:/{other}/model", run_id=run_id, tags=MIRRORED
        )
        client.set_registered_model_alias(model, "dev", evil.version)
        mirrored()
        found = client.get_model_version_by_alias(model, "dev").version
        client.set_model_version_tag(model, found, "lynx.semver", "v9.9.9")
        mirrored()
        for version in client.search_model_versions(f"name = '{model}'"):
            client.delete_model_version(model, version.version)
    assert mirrored() == (model, run_id, uri, 1)


@pytest.mark.parametrize(
    ("uri", "page"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/#/runs/abc"),
        (
            "https://me:s3cret@mlflow.example/base/?token=s3cret#s3cret",
            "https://mlflow.example/base/#/runs/abc",
        ),
        ("https://me:s3cr@et@mlflow.example", "https://mlflow.example/#/runs/abc"),
        ("sqlite:////tmp/mlflow.db", None),
        ("databricks", None),
    ],
)
def test_a_link_to_a_run_contains_no_secret(uri: str, page: str | None) -> None:
    """The link contains server, path and run, but no user, password, query or fragment."""
    assert run_page(uri, "abc") == page
