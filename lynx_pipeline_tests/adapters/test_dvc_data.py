"""Versioned data with a real DVC repository and a real remote folder."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lynx_pipeline.adapters.dvc_data import digest, read_versioned, track
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline_tests.support.builders import md5, sha256

pytestmark = pytest.mark.slow

RAW = b'{"id": "1"}\n{"id": "2"}\n'


def dvc(root: Path, *arguments: str) -> None:
    """Run DVC's own command line in ``root``."""
    subprocess.run([sys.executable, "-m", "dvc", *arguments, "-q"], cwd=root, check=True)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one data file, which is in the cache and in the remote."""
    root = tmp_path_factory.mktemp("dvc") / "root"
    root.mkdir()
    dvc(root, "init", "--no-scm")
    dvc(root, "config", "core.analytics", "false")
    dvc(root, "remote", "add", "-d", "here", "remote")
    (root / "eval.jsonl").write_bytes(RAW)
    track(root / "eval.jsonl", None)
    return root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    """A copy of the template that a test may damage."""
    shutil.copytree(template, tmp_path / "root", symlinks=True)
    return tmp_path / "root"


@pytest.mark.slow
def test_tracking_adds_and_pushes_the_file(root: Path) -> None:
    """Tracking writes the ``.dvc`` file and pushes the bytes to the remote."""
    assert (root / "eval.jsonl.dvc").exists()
    (pushed,) = (path for path in (root / "remote").rglob("*") if path.is_file())
    assert pushed.read_bytes() == RAW


def test_an_existing_file_is_read_without_dvc(root: Path) -> None:
    """The result has its MD5, as in the ``.dvc`` file, and its SHA-256."""
    shutil.rmtree(root / ".dvc")
    data = read_versioned(root / "eval.jsonl")
    assert (data.raw, data.dvc_hash, data.sha256) == (RAW, md5(RAW), sha256(RAW))


def test_a_missing_file_is_pulled(root: Path) -> None:
    """The remote has the file, as in a fresh clone."""
    (root / "eval.jsonl").unlink()
    shutil.rmtree(root / ".dvc" / "cache")
    assert read_versioned(root / "eval.jsonl").raw == RAW
    assert (root / "eval.jsonl").read_bytes() == RAW


@pytest.mark.parametrize("mode", [0o644, 0o444], ids=["writable", "read-only"])
def test_one_changed_byte_is_refused(root: Path, mode: int) -> None:
    """Even in a read-only file, which DVC trusts without reading it."""
    file = root / "eval.jsonl"
    file.unlink()
    file.write_bytes(RAW.replace(b"2", b"3"))
    file.chmod(mode)
    with pytest.raises(BadInput, match=r"the file was changed: .*dvc checkout"):
        read_versioned(file)
    file.chmod(0o644)


def test_a_damaged_cache_is_refused(root: Path) -> None:
    """DVC links a read-only cache file without reading it; we hash the bytes."""
    (cached,) = (path for path in (root / ".dvc/cache/files").rglob("*") if path.is_file())
    cached.chmod(0o644)
    cached.write_bytes(RAW.replace(b"2", b"3"))
    cached.chmod(0o444)
    (root / "eval.jsonl").unlink()
    with pytest.raises(BadInput, match=r"damaged: remove .dvc/cache"):
        read_versioned(root / "eval.jsonl")


def test_damaged_data_in_the_remote_is_refused(root: Path) -> None:
    """Either DVC or our own check finds the damage."""
    (pushed,) = (path for path in (root / "remote").rglob("*") if path.is_file())
    pushed.chmod(0o644)
    pushed.write_bytes(RAW.replace(b"2", b"3"))
    (root / "eval.jsonl").unlink()
    shutil.rmtree(root / ".dvc" / "cache")
    with pytest.raises((BadInput, SystemFailed)):
        read_versioned(root / "eval.jsonl")


GOOD = f"outs:\n- md5: {md5(RAW)}\n  path: eval.jsonl\n"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("outs: [", id="not YAML"),
        pytest.param("\x00", id="not text"),
        pytest.param("x: !!timestamp y", id="odd YAML"),
        pytest.param("[1]", id="a list"),
        pytest.param("outs: []", id="no output"),
        pytest.param("outs:\n- path: eval.jsonl\n", id="no md5"),
        pytest.param(GOOD + f"- md5: {md5(b'')}\n  path: other\n", id="two outputs"),
        pytest.param(GOOD.replace("eval.jsonl", "other.jsonl"), id="different file"),
        pytest.param(GOOD.replace("eval.jsonl", "../eval.jsonl"), id="path outside the folder"),
        pytest.param(GOOD.replace(md5(RAW), md5(RAW)[:-1]), id="31 digits"),
        pytest.param(GOOD.replace(md5(RAW), md5(RAW).upper()), id="upper case"),
        pytest.param(GOOD.replace(md5(RAW), md5(RAW) + ".dir"), id="a folder"),
        pytest.param(GOOD.replace(md5(RAW), "null"), id="null"),
        pytest.param("<<<<<<< HEAD\n" + GOOD, id="merge conflict"),
    ],
)
def test_a_damaged_dvc_file_is_refused(root: Path, text: str) -> None:
    """The message names the ``.dvc`` file, even though the data beside it is intact."""
    (root / "eval.jsonl.dvc").write_text(text)
    with pytest.raises(BadInput, match=r"eval\.jsonl\.dvc: expected"):
        read_versioned(root / "eval.jsonl")


def test_data_that_is_not_under_dvc_is_refused(root: Path) -> None:
    """Without a ``.dvc`` file the version of the data is unknown."""
    (root / "eval.jsonl.dvc").unlink()
    with pytest.raises(BadInput, match=r"not under DVC.*eval\.jsonl\.dvc"):
        read_versioned(root / "eval.jsonl")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda root: shutil.rmtree(root / "remote"), id="missing remote"),
        pytest.param(lambda root: (root / ".dvc/config").write_text(""), id="no remote configured"),
        pytest.param(lambda root: (root / ".dvc/config").write_text("["), id="invalid config"),
        pytest.param(lambda root: shutil.rmtree(root / ".dvc"), id="no repository"),
    ],
)
def test_a_failed_pull_is_a_system_failure(root: Path, damage: Callable[[Path], object]) -> None:
    """The message is one line and quotes DVC."""
    (root / "eval.jsonl").unlink()
    shutil.rmtree(root / ".dvc" / "cache")
    damage(root)
    with pytest.raises(SystemFailed, match="DVC could not pull it") as caught:
        read_versioned(root / "eval.jsonl")
    assert "\n" not in str(caught.value)


def test_digests_of_empty_data_are_the_known_ones() -> None:
    """The MD5 and the SHA-256 of the empty input."""
    data = digest(b"")
    assert data.dvc_hash == "d41d8cd98f00b204e9800998ecf8427e"
    assert data.sha256.startswith("e3b0c44298fc1c149afbf4c8996fb924")
