"""Data that ``dvc import`` and ``dvc import-url`` got, with DVC's own commands."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lynx_pipeline.adapters.dvc_data import read_versioned
from lynx_pipeline.adapters.dvc_versions import read_version
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline_tests.adapters.test_dvc_data import dvc
from lynx_pipeline_tests.support.builders import md5, sha256
from lynx_pipeline_tests.support.places import git

pytestmark = pytest.mark.slow(seconds=10)

OLD, NEW, EDITED = b'{"id": "1"}\n', b'{"id": "2"}\n', b'{"id": "3"}\n'
# Each way has bytes of its own: what one of them pushed would be found for the other.
KINDS = {"import": b"", "import-url": b'{"id": "x"}\n'}


def _start(root: Path) -> None:
    root.mkdir()
    git(root, "init", "--quiet")
    dvc(root, "init", "-q")
    dvc(root, "remote", "add", "-q", "-d", "here", str(root.with_name(f"{root.name}-remote")))


def _publish(source: Path, raw: bytes) -> None:
    for kind, more in KINDS.items():
        file = source / f"{kind}.jsonl"
        file.unlink(missing_ok=True)
        file.write_bytes(raw + more)
        dvc(source, "add", "-q", file.name)
    dvc(source, "push", "-q")
    git(source, "add", "--all")
    git(source, "commit", "--quiet", "--message", "A set")


def _commit(root: Path) -> None:
    dvc(root, "push", "-q")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "Data")


def _forget(root: Path) -> None:
    shutil.rmtree(root / ".dvc/cache", ignore_errors=True)
    for name in KINDS:
        (root / f"{name}.jsonl").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the repository ``root``, which imported a file of the repository ``source`` in
    each of the two ways, and later its new version."""
    folder = tmp_path_factory.mktemp("imports") / "x"
    folder.mkdir()
    source, root = folder / "source", folder / "root"
    _start(source)
    _publish(source, OLD)
    _start(root)
    dvc(root, "import", "-q", str(source), "import.jsonl")
    dvc(root, "import-url", "-q", str(source / "import-url.jsonl"))
    _commit(root)
    _publish(source, NEW)
    dvc(root, "update", "-q", "import.jsonl.dvc", "import-url.jsonl.dvc")
    _commit(root)
    return folder


@pytest.fixture
def root(template: Path) -> Iterator[Path]:
    """The repository, whose data is not there yet. It is restored after the test: DVC's records
    have absolute paths, so a copy would use the original's source."""
    saved = template.with_name("saved")
    shutil.copytree(template, saved, symlinks=True)
    _forget(template / "root")
    yield template / "root"
    shutil.rmtree(template)
    saved.rename(template)


@pytest.mark.parametrize("kind", KINDS)
def test_the_current_and_an_older_version_are_found(root: Path, kind: str) -> None:
    """Those of ``dvc import`` in the source, as each commit says, and the others in the remote."""
    path = root / f"{kind}.jsonl"
    assert read_versioned(path).raw == NEW + KINDS[kind]
    for raw in (OLD + KINDS[kind], NEW + KINDS[kind]):
        _forget(root)
        assert read_version(path, md5(raw), sha256(raw), "the eval set") == raw
    assert git(root, "status", "--porcelain") == ""


def test_without_the_source_an_import_is_a_system_failure(root: Path) -> None:
    """DVC does not push it, so the message does not say 'run dvc push' alone. What was imported
    from a URL is in the remote."""
    path = root / "import.jsonl"
    (root.parent / "source").rename(root.parent / "gone")
    for raw in (OLD, NEW):
        with pytest.raises(SystemFailed, match=r"could not read the version .*imported") as caught:
            read_version(path, md5(raw), sha256(raw), "the eval set")
        assert "\n" not in str(caught.value)
    with pytest.raises(SystemFailed, match=r"could not pull it from .*/source.*imported") as caught:
        read_versioned(path)
    (put, push) = re.findall(r"'((?:rm|dvc push)[^']*)'", str(caught.value))[-2:]
    assert push == "dvc push"
    path.write_bytes(NEW)
    _run(root, put)
    _commit(root)
    _forget(root)
    assert read_versioned(path).raw == NEW
    assert read_versioned(root / "import-url.jsonl").raw == NEW + KINDS["import-url"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_commands_after_an_edit_of_an_import_work(root: Path, kind: str) -> None:
    """The edit is kept in the remote, so another clone has it, or is made in the source, or is
    discarded."""
    path = root / f"{kind}.jsonl"
    read_versioned(path)
    message = _edited(path)
    (discard,) = re.findall(r"'(dvc checkout [^']+)'", message)
    _run(root, discard)
    assert read_versioned(path).raw == NEW + KINDS[kind]

    (update,) = re.findall(r"'(dvc update [^']+)'", _edited(path))
    _publish(root.parent / "source", OLD)
    _run(root, update)
    assert read_versioned(path).raw == OLD + KINDS[kind]

    (keep,) = re.findall(r"'(rm [^']+)'", _edited(path))
    _run(root, keep)
    _commit(root)
    _forget(root)
    assert read_versioned(path).raw == EDITED


def test_the_list_of_an_imported_folder_is_fetched_as_the_message_says(root: Path) -> None:
    """The folder is there and the cache is not. The remote does not have the list."""
    source, path = root.parent / "source", root / "sets/a.jsonl"
    (source / "sets").mkdir()
    (source / "sets/a.jsonl").write_bytes(EDITED)
    dvc(source, "add", "-q", "sets")
    _commit(source)
    dvc(root, "import", "-q", str(source), "sets")
    shutil.rmtree(root / ".dvc/cache")
    with pytest.raises(SystemFailed, match="has the list of files") as caught:
        read_versioned(path)
    (fetch,) = re.findall(r"'(dvc fetch [^']+)'", str(caught.value))
    _run(root, fetch)
    assert read_versioned(path).raw == EDITED


def test_a_version_that_no_commit_has_is_invalid_input(root: Path) -> None:
    """A shallow clone has only one."""
    path = root / "import.jsonl"
    with pytest.raises(BadInput, match=r"no commit in the history of HEAD.*Check out a branch"):
        read_version(path, md5(EDITED), sha256(EDITED), "the eval set")


def _edited(path: Path) -> str:
    """The message about an edit of a file."""
    path.unlink()
    path.write_bytes(EDITED)
    with pytest.raises(BadInput) as caught:
        read_versioned(path)
    return str(caught.value)


def _run(root: Path, command: str) -> None:
    """Run a command of a message: DVC in this process, which saves its start."""
    for part in command.split(" && "):
        first, *others = shlex.split(part)
        if first == "dvc":
            dvc(root, *others)
        else:
            subprocess.run([first, *others], cwd=root, check=True)
