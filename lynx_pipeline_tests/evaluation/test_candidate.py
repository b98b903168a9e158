"""Handing a candidate over to another machine, byte for byte."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.config import Settings
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation.candidate import candidate, hand_over, take_over
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support.builders import RUN, bundle, project

Handed = tuple[str, Path]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A project on the machine that takes the candidate over."""
    return project(tmp_path / "project")


def with_modes(folder: Path) -> Path:
    """A bundle with an empty folder and an executable file."""
    made = bundle(folder)
    (made / "empty").mkdir()
    (made / "run.sh").write_text("#!/bin/sh\n")
    (made / "run.sh").chmod(0o755)
    return made


@pytest.fixture
def handed(tmp_path: Path) -> Handed:
    """A bundle's digest, and the handed over folder after it lost its empty folder and all file
    modes, as in GitHub's artifacts."""
    folder = tmp_path / "handed"
    identity = read_bundle(with_modes(folder / "bundle"))
    (folder / "manifest.json").write_bytes(identity.manifest)
    (folder / "bundle/run.sh").chmod(0o644)
    (folder / "bundle/empty").rmdir()
    return identity.digest, folder


@pytest.mark.slow
def test_what_is_handed_over_is_what_is_stored(tracking: Tracking, tmp_path: Path) -> None:
    """The folder can be taken over as it is."""
    stored = with_modes(tmp_path / "bundle")
    settings = project(tmp_path / "project", environ={"MLFLOW_TRACKING_URI": tracking.uri})
    key = tracking.run({"model": stored})
    handed = hand_over(settings, key, tmp_path / "handed")
    assert handed == read_bundle(stored)
    take_over(settings, key, tmp_path / "handed", handed.digest)
    assert read_bundle(candidate(settings, key).bundle) == handed


def test_empty_folders_and_modes_that_were_lost_are_restored(
    settings: Settings, handed: Handed
) -> None:
    """A bundle of an earlier evaluation is replaced."""
    digest, folder = handed
    target = candidate(settings, RUN).bundle
    target.mkdir(parents=True)
    (target / "old").write_text("x")
    take_over(settings, RUN, folder, digest)
    assert read_bundle(target).digest == digest
    assert (target / "run.sh").stat().st_mode & 0o777 == 0o755


def _manifest(folder: Path) -> None:
    rows = json.loads((folder / "manifest.json").read_bytes())
    rows[0]["sha256"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(rows))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda it: (it / "bundle/MLmodel").open("a").write("# x\n"), "'MLmodel' was changed"),
        (lambda it: (it / "bundle/run.sh").write_text("x"), "'run.sh' was changed"),
        (lambda it: (it / "bundle/more").write_text("x"), "'more' was added"),
        (lambda it: (it / "bundle/run.sh").unlink(), "'run.sh' is missing"),
        (_manifest, "its manifest is not the requested one"),
        (lambda it: (it / "manifest.json").unlink(), "the candidate was not handed over"),
        (lambda it: shutil.rmtree(it / "bundle"), "there is no MLmodel file"),
    ],
    ids=["MLmodel", "file", "added", "removed", "manifest", "no manifest", "no bundle"],
)
def test_any_other_difference_is_refused(
    settings: Settings, handed: Handed, change: Callable[[Path], object], says: str
) -> None:
    """The candidate's folder stays as it is."""
    digest, folder = handed
    change(folder)
    with pytest.raises(BadInput, match=says):
        take_over(settings, RUN, folder, digest)
    assert not candidate(settings, RUN).bundle.exists()


@pytest.mark.slow
def test_a_name_that_github_refuses_is_reported_before_the_upload(
    tracking: Tracking, tmp_path: Path
) -> None:
    """The upload's own error would not reach the pull request."""
    (bundle(tmp_path / "bundle") / "a:b").write_text("x")
    settings = project(tmp_path / "project", environ={"MLFLOW_TRACKING_URI": tracking.uri})
    with pytest.raises(BadInput, match="'a:b', and GitHub's artifacts can't contain ':'"):
        hand_over(settings, tracking.run({"model": tmp_path / "bundle"}), tmp_path / "handed")
    assert not (tmp_path / "handed").exists()


def test_another_digest_is_refused(settings: Settings, handed: Handed) -> None:
    """It is the one that the job with the request reported."""
    with pytest.raises(BadInput, match="its manifest is not the requested one"):
        take_over(settings, RUN, handed[1], "0" * 64)


def test_a_folder_with_something_in_it_is_not_used(settings: Settings, tmp_path: Path) -> None:
    """A file of somebody else's would become part of what is handed over."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="is not empty"):
        hand_over(settings, RUN, tmp_path)
