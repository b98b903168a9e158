"""Dagster's newer command, ``dg``, which replaces ``dagster job execute``."""

from pathlib import Path

import pytest

from lynx_pipeline_tests.end_to_end.conftest import Demo, Place, files_in
from lynx_pipeline_tests.support.commands import Done

pytestmark = pytest.mark.slow


def launch(place: Place, candidate: str, semver: str, config: Path) -> Done:
    """Request the version, and launch the job that promotes it."""
    request = ("request", "--run-id", candidate, "--semver", semver, "--output", str(config))
    done = place.lynx(*request)
    assert done.returncode == 0, done.stderr
    job = ("--job", "eval_and_promote", "--partition", candidate, "--config", str(config))
    return place.cold.run("dg", "launch", *job)


def test_a_job_is_launched(demo: Demo, tmp_path: Path) -> None:
    """It promotes a good candidate and refuses a bad one, in the project's own instance."""
    place = demo.copy(tmp_path / "home")
    done = launch(place, demo.good, "v0.2.0-dev", tmp_path / "run.json")
    assert done.returncode == 0, done.stderr
    assert "Promoted: grammar-tutor v0.2.0-dev, ledger entry 2." in done.stderr
    assert "superseded" not in done.stderr
    registry = files_in(place.registry)
    assert place.lynx("registry", "resolve").stdout.splitlines()[1] == "semver: v0.2.0-dev"

    done = launch(place, demo.bad, "v0.3.0-dev", tmp_path / "run.json")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "REFUSED: 12 of 28 buckets fell below their floor." in done.stderr
    assert files_in(place.registry) == registry
