"""A remote with versions (``version_aware``): a bucket of S3 that keeps each version of an object
under the same name. Only DVC's record in a commit says which version is meant."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lynx_pipeline.adapters.dvc_data import hand_on, read_versioned
from lynx_pipeline.adapters.dvc_versions import read_version
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline_tests.adapters.test_dvc_data import dvc
from lynx_pipeline_tests.support import s3_server
from lynx_pipeline_tests.support.builders import md5, sha256
from lynx_pipeline_tests.support.places import git
from lynx_pipeline_tests.support.s3_server import BUCKET, S3

pytestmark = pytest.mark.slow(seconds=20)

# A file, one in a folder, and the output of a stage, each with bytes of its own.
FILES = {"own.jsonl": b"own ", "sets/in.jsonl": b"in ", "made.jsonl": b"made "}
PIPELINE = "stages:\n  make:\n    cmd: cp source made.jsonl\n    deps: [source]\n"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A server whose bucket keeps versions."""
    with (
        s3_server.running(tmp_path_factory.mktemp("s3")) as s3,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in s3.environ.items():
            patch.setenv(name, value)
        status = {"Status": "Enabled"}
        s3.client().put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration=status)
        yield s3


@pytest.fixture(scope="module")
def template(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two versions of each file, in two commits. DVC's repository is a folder of
    git's."""
    top = tmp_path_factory.mktemp("versions") / "top"
    root = top / "project"
    root.mkdir(parents=True)
    git(top, "init", "--quiet")
    dvc(root, "init", "-q", "--subdir")
    dvc(root, "remote", "add", "-q", "-d", "team", f"s3://{BUCKET}/data")
    dvc(root, "remote", "modify", "-q", "team", "version_aware", "true")
    (root / "sets").mkdir()
    (root / "dvc.yaml").write_text(f"{PIPELINE}    outs: [made.jsonl]\n")
    for version in (b"1", b"2"):
        for name, start in FILES.items():
            file = root / name.replace("made.jsonl", "source")
            file.unlink(missing_ok=True)
            file.write_bytes(start + version)
        dvc(root, "add", "-q", "own.jsonl", "sets")
        dvc(root, "repro", "-q")
        dvc(root, "push", "-q")
        git(top, "add", "--all")
        git(top, "commit", "--quiet", "--message", "Data")
    return top


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    """A fresh clone of it."""
    git(tmp_path, "clone", "--quiet", str(template), "top")
    return tmp_path / "top/project"


def _forget(root: Path) -> None:
    shutil.rmtree(root / ".dvc/cache", ignore_errors=True)
    for name in FILES:
        (root / name).unlink(missing_ok=True)


def _read(root: Path, name: str, raw: bytes) -> bytes:
    return read_version(root / name, md5(raw), sha256(raw), "the eval set")


def test_the_current_and_an_older_version_are_found(root: Path, tmp_path: Path) -> None:
    """Without the cache. What is handed on is enough on a machine without the remote."""
    for name, start in FILES.items():
        assert read_versioned(root / name).raw == start + b"2"
        for version in (b"1", b"2"):
            _forget(root)
            assert _read(root, name, start + version) == start + version
        hand_on(root / name, tmp_path / "handed")
    assert git(root, "status", "--porcelain") == ""
    _forget(root)
    shutil.copytree(tmp_path / "handed", root / ".dvc/cache")
    (root / ".dvc/config").unlink()
    for name, start in FILES.items():
        assert read_versioned(root / name).raw == start + b"2"


def test_an_unknown_version_is_invalid_input(root: Path) -> None:
    """No commit of the clone records it."""
    with pytest.raises(BadInput, match=r"no commit in the history of HEAD .*Check out a branch"):
        _read(root, "own.jsonl", b"never pushed")


def test_an_unusable_storage_is_a_system_failure(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no finding about the version."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA00000000")
    with pytest.raises(SystemFailed, match=r"could not read the version that the commit .* record"):
        _read(root, "own.jsonl", b"own 1")
    with pytest.raises(SystemFailed, match="could not pull it"):
        read_versioned(root / "own.jsonl")


def test_a_version_that_was_deleted_is_a_system_failure(root: Path, s3: S3) -> None:
    """A rule of the bucket may delete old versions."""
    listed = s3.client().list_object_versions(Bucket=BUCKET, Prefix="data/own.jsonl")["Versions"]
    (old,) = (it["VersionId"] for it in listed if not it["IsLatest"])
    s3.client().delete_object(Bucket=BUCKET, Key="data/own.jsonl", VersionId=old)
    with pytest.raises(SystemFailed, match=r"could not read the version that the commit .* record"):
        _read(root, "own.jsonl", b"own 1")
    assert _read(root, "own.jsonl", b"own 2") == b"own 2"


IMPORTS = {"version-aware": ("--version-aware",), "plain": ()}


def _imported(root: Path, s3: S3, name: str, *options: str) -> Path:
    """A project with two versions of a file that it imported from a bucket, in two commits."""
    root.mkdir()
    git(root, "init", "--quiet")
    dvc(root, "init", "-q")
    dvc(root, "remote", "add", "-q", "-d", "team", f"s3://{BUCKET}/remote-of-{name}")
    for version in (b"1", b"2"):
        s3.client().put_object(Bucket=BUCKET, Key=f"src/{name}.jsonl", Body=version)
        if version == b"1":
            dvc(root, "import-url", "-q", *options, f"s3://{BUCKET}/src/{name}.jsonl", "own.jsonl")
        else:
            dvc(root, "update", "-q", "own.jsonl.dvc")
        dvc(root, "push", "-q")
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "--message", "Data")
    return root


@pytest.mark.parametrize("name", IMPORTS)
def test_an_import_from_a_bucket_with_versions_is_read_there(
    tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """DVC pushes no copy of it, since the bucket keeps each version."""
    root = _imported(tmp_path / "project", s3, name, *IMPORTS[name])
    for version in (b"1", b"2"):
        _forget(root)
        assert _read(root, "own.jsonl", version) == version
    _forget(root)
    assert read_versioned(root / "own.jsonl").raw == b"2"
    assert git(root, "status", "--porcelain") == ""
    _forget(root)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    with pytest.raises(SystemFailed, match=f"from s3://{BUCKET}/src/{name}.jsonl, where it was"):
        read_versioned(root / "own.jsonl")


@pytest.mark.parametrize("options", [(), ("--version-aware",)], ids=["plain", "version-aware"])
def test_the_commands_after_an_import_without_a_download_work(
    tmp_path: Path, s3: S3, options: tuple[str, ...]
) -> None:
    """Its record has no hash, so there are no versioned bytes yet."""
    root = tmp_path / "the project"
    root.mkdir()
    git(root, "init", "--quiet")
    dvc(root, "init", "-q")
    dvc(root, "remote", "add", "-q", "-d", "team", f"s3://{BUCKET}/partial")
    s3.client().put_object(Bucket=BUCKET, Key="src/partial", Body=b"partial")
    url = f"s3://{BUCKET}/src/partial"
    dvc(root, "import-url", "-q", "--no-download", *options, url, "own.jsonl")
    with pytest.raises(BadInput, match="imported without a download, so no hash") as caught:
        read_versioned(root / "own.jsonl")
    found = re.search("Run '(dvc pull .*)', '(dvc commit .*)' and '(dvc push)'", str(caught.value))
    assert found is not None
    for command in found.groups():
        subprocess.run(command, shell=True, check=True, cwd=root, capture_output=True)
    _forget(root)
    assert read_versioned(root / "own.jsonl").raw == b"partial"
