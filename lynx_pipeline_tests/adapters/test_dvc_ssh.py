"""Data in a remote that is reached with SSH, on a real server."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lynx_pipeline.adapters.dvc_data import read_versioned, track
from lynx_pipeline.adapters.dvc_versions import read_object
from lynx_pipeline.errors import SystemFailed
from lynx_pipeline_tests.adapters.test_dvc_data import RAW, dvc
from lynx_pipeline_tests.support import ssh_server
from lynx_pipeline_tests.support.builders import md5
from lynx_pipeline_tests.support.ssh_server import SSH

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSH]:
    """A server."""
    with ssh_server.serving(tmp_path_factory.mktemp("ssh")) as running:
        yield running


@pytest.fixture
def root(tmp_path: Path, ssh: SSH) -> Path:
    """A repository that has pushed one data file to the server, and has it no more."""
    root, store = tmp_path / "root", tmp_path / "store"
    root.mkdir()
    store.mkdir()
    dvc(root, "init", "-q", "--no-scm")
    dvc(root, "remote", "add", "-q", "-d", "team", ssh.url(store))
    dvc(root, "remote", "modify", "-q", "--local", "team", "keyfile", str(ssh.key))
    (root / "eval.jsonl").write_bytes(RAW)
    track(root / "eval.jsonl", None)
    (pushed,) = (path for path in store.rglob("*") if path.is_file())
    assert pushed.read_bytes() == RAW
    (root / "eval.jsonl").unlink()
    shutil.rmtree(root / ".dvc/cache")
    return root


def test_data_is_pulled_and_looked_up(root: Path) -> None:
    """What was pushed arrives."""
    assert read_object(root / "eval.jsonl", md5(RAW)) == RAW
    assert read_object(root / "eval.jsonl", md5(b"never pushed")) is None
    assert read_versioned(root / "eval.jsonl").raw == RAW


def test_a_refused_key_is_a_system_failure(root: Path, ssh: SSH) -> None:
    """The message names the server and the user."""
    dvc(root, "remote", "modify", "-q", "--local", "team", "keyfile", str(ssh.other))
    for read in (read_versioned, lambda path: read_object(path, md5(RAW))):
        with pytest.raises(SystemFailed, match="Permission denied for user team on host 127"):
            read(root / "eval.jsonl")
    with pytest.raises(SystemFailed, match=f"from the remote 'team' .ssh://{ssh.host}:{ssh.port}/"):
        read_versioned(root / "eval.jsonl")
    assert not (root / "eval.jsonl").exists()


def test_a_missing_folder_is_not_the_same_as_data_that_was_never_pushed(
    root: Path, tmp_path: Path, ssh: SSH
) -> None:
    """DVC has the same words for both."""
    dvc(root, "remote", "modify", "-q", "team", "url", ssh.url(tmp_path / "none"))
    with pytest.raises(SystemFailed, match="its folder does not exist"):
        read_versioned(root / "eval.jsonl")
    (tmp_path / "empty").mkdir()
    dvc(root, "remote", "modify", "-q", "team", "url", ssh.url(tmp_path / "empty"))
    with pytest.raises(SystemFailed, match=f"does not have the object {md5(RAW)}"):
        read_versioned(root / "eval.jsonl")


@pytest.mark.parametrize(
    ("host", "reason"),
    [("127.0.0.1:9", "Connect call failed"), ("nowhere.invalid", "Name or service not known")],
)
def test_a_server_that_is_not_there_is_a_system_failure(root: Path, host: str, reason: str) -> None:
    """The message names it."""
    dvc(root, "remote", "modify", "-q", "team", "url", f"ssh://{host}/store")
    with pytest.raises(SystemFailed, match=rf"'team' \(ssh://{host}/store\): .*{reason}"):
        read_versioned(root / "eval.jsonl")
