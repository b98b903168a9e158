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

RAW = b'{"id": "1"}\n{"id": "2"}\n'


def dvc(root: Path, *arguments: str) -> None:
    """Run DVC's own command line in ``root``."""
    subprocess.run([sys.executable, "-m", "dvc", *arguments, "-q"], cwd=root, check=True)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose one data file is in cache and remote."""
    root = tmp_path_factory.mktemp("dvc") / "root"
    root.mkdir()
    dvc(root, "init", "--no-scm")
    dvc(root, "config", "core.analytics", "false")
    dvc(root, "remote", "add", "-d", "here", "remote")
    (root / "eval.jsonl").write_bytes(RAW)
    track(root, root / "eval.jsonl")
    return root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may break."""
    shutil.copytree(template, tmp_path / "root", symlinks=True)
    return tmp_path / "root"


def test_tracking_writes_what_reading_expects(root: Path) -> None:
    """DVC's own file, cache and remote."""
    assert (root / "eval.jsonl.dvc").exists()
    (pushed,) = (path for path in (root / "remote").rglob("*") if path.is_file())
    assert pushed.read_bytes() == RAW


def test_the_file_on_disk_is_read_without_dvc(root: Path) -> None:
    """With its MD5, which DVC names, and its SHA-256."""
    shutil.rmtree(root / ".dvc")
    data = read_versioned(root, root / "eval.jsonl")
    assert (data.raw, data.dvc_hash, data.sha256) == (RAW, md5(RAW), sha256(RAW))


def test_a_missing_file_is_pulled(root: Path) -> None:
    """From the remote, as in a fresh clone."""
    (root / "eval.jsonl").unlink()
    shutil.rmtree(root / ".dvc" / "cache")
    assert read_versioned(root, root / "eval.jsonl").raw == RAW
    assert (root / "eval.jsonl").read_bytes() == RAW


@pytest.mark.parametrize("mode", [0o644, 0o444], ids=["writable", "read-only"])
def test_one_changed_byte_is_refused(root: Path, mode: int) -> None:
    """Whatever DVC thinks of a file that nobody may write."""
    file = root / "eval.jsonl"
    file.unlink()
    file.write_bytes(RAW.replace(b"2", b"3"))
    file.chmod(mode)
    with pytest.raises(BadInput, match=r"the file was changed.*dvc checkout"):
        read_versioned(root, file)
    file.chmod(0o644)


def test_damage_in_the_cache_does_not_get_through(root: Path) -> None:
    """DVC links a read-only cache file without reading it; the bytes are hashed here."""
    (cached,) = (path for path in (root / ".dvc/cache/files").rglob("*") if path.is_file())
    cached.chmod(0o644)
    cached.write_bytes(RAW.replace(b"2", b"3"))
    cached.chmod(0o444)
    (root / "eval.jsonl").unlink()
    with pytest.raises(BadInput, match=r"damaged: remove .dvc/cache"):
        read_versioned(root, root / "eval.jsonl")


def test_damage_in_the_remote_does_not_get_through(root: Path) -> None:
    """However DVC takes it."""
    (pushed,) = (path for path in (root / "remote").rglob("*") if path.is_file())
    pushed.chmod(0o644)
    pushed.write_bytes(RAW.replace(b"2", b"3"))
    (root / "eval.jsonl").unlink()
    shutil.rmtree(root / ".dvc" / "cache")
    with pytest.raises((BadInput, SystemFailed)):
        read_versioned(root, root / "eval.jsonl")


GOOD = f"outs:\n- md5: {md5(RAW)}\n  path: eval.jsonl\n"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("outs: [", id="no YAML"),
        pytest.param("\x00", id="no text"),
        pytest.param("x: !!timestamp y", id="odd YAML"),
        pytest.param("[1]", id="a list"),
        pytest.param("outs: []", id="no output"),
        pytest.param("outs:\n- path: eval.jsonl\n", id="no md5"),
        pytest.param(GOOD + f"- md5: {md5(b'')}\n  path: other\n", id="two outputs"),
        pytest.param(GOOD.replace("eval.jsonl", "other.jsonl"), id="another file"),
        pytest.param(GOOD.replace("eval.jsonl", "../eval.jsonl"), id="a path"),
        pytest.param(GOOD.replace(md5(RAW), md5(RAW)[:-1]), id="31 digits"),
        pytest.param(GOOD.replace(md5(RAW), md5(RAW).upper()), id="upper case"),
        pytest.param(GOOD.replace(md5(RAW), md5(RAW) + ".dir"), id="a folder"),
        pytest.param(GOOD.replace(md5(RAW), "null"), id="null"),
        pytest.param("<<<<<<< HEAD\n" + GOOD, id="merge conflict"),
    ],
)
def test_a_damaged_dvc_file_is_refused(root: Path, text: str) -> None:
    """By name; the data beside it is no substitute."""
    (root / "eval.jsonl.dvc").write_text(text)
    with pytest.raises(BadInput, match=r"eval\.jsonl\.dvc: expected"):
        read_versioned(root, root / "eval.jsonl")


def test_data_that_is_not_under_dvc_is_refused(root: Path) -> None:
    """Nothing says which version it is."""
    (root / "eval.jsonl.dvc").unlink()
    with pytest.raises(BadInput, match=r"not under DVC.*eval\.jsonl\.dvc"):
        read_versioned(root, root / "eval.jsonl")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda root: shutil.rmtree(root / "remote"), id="remote gone"),
        pytest.param(lambda root: (root / ".dvc/config").write_text(""), id="no remote"),
        pytest.param(lambda root: (root / ".dvc/config").write_text("["), id="no config"),
        pytest.param(lambda root: shutil.rmtree(root / ".dvc"), id="no repository"),
    ],
)
def test_a_pull_that_cannot_be_is_the_system_failing(
    root: Path, damage: Callable[[Path], object]
) -> None:
    """Our error with DVC's words, no traceback."""
    (root / "eval.jsonl").unlink()
    shutil.rmtree(root / ".dvc" / "cache")
    damage(root)
    with pytest.raises(SystemFailed, match="DVC could not pull it") as caught:
        read_versioned(root, root / "eval.jsonl")
    assert "\n" not in str(caught.value)


def test_both_digests_are_of_the_bytes() -> None:
    """The known ones of nothing."""
    data = digest(b"")
    assert data.dvc_hash == "d41d8cd98f00b204e9800998ecf8427e"
    assert data.sha256.startswith("e3b0c44298fc1c149afbf4c8996fb924")
