"""DVC: the versioned data file that a ``.dvc`` file names, pulled if need be and verified.

DVC trusts a cached file that is marked read-only without reading it, so the bytes on disk
are hashed here, every time. DVC itself is imported only when something has to be pulled.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lynx_pipeline.adapters.files import read_bytes
from lynx_pipeline.errors import BadInput, SystemFailed

PULL_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file's bytes and their two digests, in hex. ``dvc_hash`` is DVC's, an MD5."""

    raw: bytes
    dvc_hash: str
    sha256: str


def digest(raw: bytes) -> DataFile:
    """``raw`` with its digests."""
    md5 = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    return DataFile(raw, md5, hashlib.sha256(raw).hexdigest())


def read_versioned(root: Path, path: Path) -> DataFile:
    """The bytes of ``path`` that its ``.dvc`` file names, pulled first if they aren't there.

    Raises:
        BadInput: there is no usable ``.dvc`` file, or the bytes on disk are others.
        SystemFailed: DVC could not pull.
    """
    expected = _tracked_hash(path)
    if not path.exists():
        with _one_at_a_time(root):
            if not path.exists():
                pull(root, path)
    data = digest(read_bytes(path, "the versioned data"))
    if data.dvc_hash != expected:
        raise BadInput(
            f"{path}: its bytes have the MD5 {data.dvc_hash}, but {path.name}.dvc says "
            f"{expected}: the file was changed. To get the versioned one back, run "
            f"'dvc checkout --force {path.name}.dvc'; if that does not help, the cache is "
            "damaged: remove .dvc/cache and run 'dvc pull'."
        )
    return data


def pull(root: Path, path: Path) -> None:
    """Fetch ``path`` from the project's DVC remote.

    Raises:
        SystemFailed: DVC says it can't.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import SCMError

    try:
        with Repo(str(root)) as repo:
            repo.pull(targets=[f"{path}.dvc"])
    except (DvcException, SCMError, OSError) as error:
        raise SystemFailed(
            f"{path}: DVC could not pull it: {' '.join(str(error).split())}. "
            "Check the remote with 'dvc remote list', then run 'dvc pull'."
        ) from None


def track(root: Path, path: Path) -> None:
    """Put ``path`` under DVC and push it to the project's default remote.

    Raises:
        SystemFailed: DVC says it can't.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import SCMError

    try:
        with _one_at_a_time(root), Repo(str(root)) as repo:
            repo.add([str(path)])
            repo.push(targets=[f"{path}.dvc"])
    except (DvcException, SCMError, OSError) as error:
        raise SystemFailed(
            f"{path}: DVC could not take it in: {' '.join(str(error).split())}. Check the remote "
            "with 'dvc remote list'."
        ) from None


@contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """DVC gives up when another process holds its lock; two runs that start together wait."""
    from filelock import FileLock, Timeout

    try:
        (root / ".dvc" / "tmp").mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".dvc" / "tmp" / "lynx-pull.lock", timeout=PULL_SECONDS):
            yield
    except Timeout:
        raise SystemFailed(
            f"{root}: another process has been pulling data for {PULL_SECONDS:.0f} seconds. "
            "Wait for it, then run this again."
        ) from None


def _tracked_hash(path: Path) -> str:
    import yaml

    dvc_file = path.with_name(path.name + ".dvc")
    raw = read_bytes(dvc_file, "the data is not under DVC")
    try:
        outs = yaml.safe_load(raw)["outs"]
        (out,) = outs
        md5, name = out["md5"], out["path"]
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        raise BadInput(f"{dvc_file}: expected one output with an md5 and a path.") from None
    if name != path.name or not re.fullmatch(r"[0-9a-f]{32}", str(md5)):
        raise BadInput(f"{dvc_file}: expected the md5 (32 hex digits) of {path.name}.")
    return str(md5)
