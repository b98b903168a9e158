"""Bundles beyond a limit: on disk, and in a real MLflow store. They are refused before anything is
read or downloaded."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from lynx_pipeline.adapters import mlflow_models
from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.adapters.mlflow_candidates import find_model
from lynx_pipeline.adapters.mlflow_models import download
from lynx_pipeline.domain import bundle as domain
from lynx_pipeline.domain.bundle import stable_mlmodel
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support.bounded import refusal
from lynx_pipeline_tests.support.builders import bundle
from lynx_pipeline_tests.support.bundle_bombs import BUNDLE_BOMBS, MIB, nest


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A small bundle."""
    yield bundle(tmp_path / "bundle")
    subprocess.run(["rm", "-rf", str(tmp_path)], check=True)  # Python's rmtree recurses too deep


@pytest.mark.slow
@pytest.mark.parametrize("kind", BUNDLE_BOMBS)
def test_a_bundle_beyond_a_limit_is_refused_before_it_is_read(folder: Path, kind: str) -> None:
    """Within a second and 200 MiB."""
    change, says = BUNDLE_BOMBS[kind]
    change(folder)
    assert says in refusal(read_bundle, folder, MIB)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["an MLmodel with a hole of 4 GiB", "too many bytes in total", "1,500 nested folders"]
)
def test_a_bundle_beyond_a_limit_is_not_downloaded(
    tracking: Tracking, folder: Path, tmp_path: Path, kind: str
) -> None:
    """It is refused by what the store lists."""
    change, says = BUNDLE_BOMBS[kind]
    stored = Path(find_model(tracking.uri, tracking.run({"model": folder})).location)
    change(stored)
    message = refusal(download, tracking.uri, str(stored), tmp_path / "to", MIB)
    assert message.startswith("the model at '/")
    assert says in message
    assert not (tmp_path / "to").exists()
    subprocess.run(["rm", "-rf", str(stored)], check=True)


def test_the_number_of_files_is_limited(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files and folders count, here and in a store."""
    entries = sum(1 for _ in folder.rglob("*"))
    monkeypatch.setattr(domain, "MOST_ENTRIES", entries)
    read_bundle(folder)
    (folder / "more").touch()
    with pytest.raises(BadInput, match=f"more than {entries} files and folders"):
        read_bundle(folder)


@pytest.mark.slow
def test_a_bundle_at_the_limits_is_read(folder: Path) -> None:
    """The largest size, the deepest folder and the most folders are allowed."""
    size = read_bundle(folder).size
    (folder / "rest").touch()
    os.truncate(folder / "rest", (1 << 20) - size)
    nest(folder, domain.DEEPEST)
    for number in range(domain.MOST_FOLDERS - domain.DEEPEST - 1):
        (folder / f"f{number}").mkdir()
    assert read_bundle(folder, 1).size == 1 << 20
    (folder / "one").write_text("x")
    with pytest.raises(BadInput, match=r"1048577 in total, expected at most 1 MiB\. .*bundle_mib"):
        read_bundle(folder, 1)
    read_bundle(folder)


@pytest.mark.slow
def test_a_runs_artifacts_are_listed_within_limits(tracking: Tracking) -> None:
    """The folders of all models and other artifacts together are counted."""
    run_id = tracking.run()
    stored = tracking.artifacts(run_id)
    stored.mkdir(parents=True, exist_ok=True)
    change, says = BUNDLE_BOMBS["1,001 folders"]
    change(stored)
    assert f"the run's artifacts: {says}" in refusal(find_model, tracking.uri, run_id)
    subprocess.run(["rm", "-rf", str(stored)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", ["..", "../x", "/etc/passwd", "", ".", "a/", "a//b", "a/b", "./a", "a\0b"]
)
@pytest.mark.parametrize("is_dir", [False, True])
def test_a_name_that_leaves_its_folder_is_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, is_dir: bool
) -> None:
    """Nor one that is listed where it is not. MLflow's own server lists no such names."""
    listed = [SimpleNamespace(path=path, is_dir=is_dir, file_size=1)]
    store = SimpleNamespace(list_artifacts=lambda _: listed)
    monkeypatch.setattr(mlflow_models, "artifact_repository", lambda *_: store)
    with pytest.raises(BadInput, match="which is not a valid name"):
        download("sqlite:///:memory:", "file:///nowhere", tmp_path / "to")


LEVELS = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))
MERGES = "\n".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 12))

# As long as allowed, where that is what makes them slow.
SLOW = {
    "many values": "a: [" + "1," * 131_000 + "1]",
    "many empty values": "a: {" + "? ," * 87_000 + "}",
    "many pairs": "a: !!pairs [" + "{1: 2}," * 37_000 + "]",
    "brackets in one another": "a: " + "[" * 200_000,
    "brackets again and again": "a: [" + ("[" * 60 + "]" * 60 + ",") * 2000 + "]",
    "a list in a list in a list": "a:\n" + "- " * 100_000 + "1",
    "digits with colons": "a: 1" + ":1" * 131_000,
    "a long number": "a: " + "1" * 262_000,
    "keys with equal hashes": f"a: !!set {{{','.join(str(k * (2**61 - 1)) for k in range(9000))}}}",
    "directives": "%X 1\n" * 52_000 + "---\na: 1",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a0: &a0 [x]\n" + LEVELS, id="lists of lists"),
        pytest.param("run_id: &a0 [x]\n" + LEVELS, id="from an ignored field"),
        pytest.param("a0: &a0 {x: 1}\n" + MERGES, id="merge keys"),
        pytest.param("a0: &a0 {x: 1}\n" + MERGES.replace("<<", "!!merge y"), id="merge by tag"),
        pytest.param(
            f"a: &a {'x' * 1_000_000}\nb: [{', '.join(['*a'] * 50_000)}]", id="long text repeated"
        ),
        pytest.param(
            f"a: &a {{{'x' * 1000}: 1}}\nb: [{', '.join(['*a'] * 50_000)}]",
            id="long key repeated",
        ),
        pytest.param("a: &a [*a, *a]", id="self-reference"),
        pytest.param("a: " + "[1, 2, 3, 4],\n" * 400_000, id="very long"),
        *(pytest.param(text, id=name) for name, text in SLOW.items()),
    ],
)
def test_a_hostile_mlmodel_is_refused_at_once(text: str) -> None:
    """A few lines expand to gigabytes, or take PyYAML a minute."""
    assert refusal(stable_mlmodel, text.encode()).startswith("MLmodel: ")
