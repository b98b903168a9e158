"""Downloading a store's files, none of them longer than listed.

MLflow's client writes whatever a store sends, and only the operating system can stop it. So it runs
in a process of its own, whose files can't be longer (``RLIMIT_FSIZE``). Files in a folder are
copied here instead, without that process.
"""

import errno
import json
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.domain.text import printable, without_secrets
from lynx_pipeline.errors import LynxError, SystemFailed

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

# Bytes. The libraries of a store may write small files of their own, such as renewed credentials.
_SHORTEST_LIMIT = 1 << 20
_CHUNK = 1 << 20


def artifact_repository(tracking_uri: str, root: str) -> "ArtifactRepository":
    """The run's artifacts alone: the client's ``list_artifacts`` mixes in logged models."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(root, tracking_uri=tracking_uri)


def download_files(
    store: "ArtifactRepository",
    tracking_uri: str,
    folder: Path,
    sizes: Mapping[str, int],
    what: str,
) -> None:
    """Download the files with these paths and listed sizes, in bytes, from ``store`` into
    ``folder``, one by one. The folders that they are in must exist. The first file of another size
    ends the download. MLflow has to be connected. ``what`` names the files in an error.

    Raises:
        SystemFailed: a file has another size, or MLflow or its store failed.
    """
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    if isinstance(store, LocalArtifactRepository):
        for path, size in sizes.items():
            _copy(Path(store.artifact_dir), path, folder / path, size)
            _check_size(what, path, size, (folder / path).stat().st_size)
        return
    job = json.dumps([tracking_uri, store.artifact_uri, os.fspath(folder), dict(sizes), what])
    command = [sys.executable, "-P", "-m", __name__]
    done = subprocess.run(command, input=job, capture_output=True, text=True, errors="replace")
    if done.returncode:
        last = without_secrets(printable(" ".join(done.stderr[-500:].split())))
        raise SystemFailed(
            done.stdout
            or f"{what} was not downloaded: the process that does it ended with exit code "
            f"{done.returncode}{f', after: {last}' if last else ''}. Run this again."
        )


def _copy(root: Path, path: str, to: Path, size: int) -> None:
    """Copy the file at ``path`` below ``root`` and its mode, and at most one byte more than
    ``size``. What a link can also point at, a pipe or a device, is not read, and neither is a file
    outside ``root``: the link could be made after the listing, so the opened file is asked."""
    source = root / path
    opened = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(opened, "rb") as file, to.open("xb") as copy:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise SystemFailed(f"{source} is not a regular file. Log the model again.")
        place = Path(f"/proc/self/fd/{file.fileno()}").readlink()
        if not place.is_relative_to(root.resolve()):
            raise SystemFailed(f"{source} is outside the model's artifacts. Log the model again.")
        left = size + 1
        while left and (chunk := file.read(min(left, _CHUNK))):
            copy.write(chunk)
            left -= len(chunk)
        os.fchmod(copy.fileno(), stat.S_IMODE(mode) & 0o777)


def _check_size(what: str, path: str, listed: int, found: int) -> None:
    if found != listed:
        longer = "is longer than" if found > listed else f"has {found} of"
        raise SystemFailed(
            f"{what} changed while it was downloaded: {path!r:.80} {longer} the {listed} bytes "
            "that were listed. Run this again."
        )


def _main() -> None:
    """Do the job on standard input. Write the error of a failure to standard output, where nothing
    else may write, libraries in C included."""
    with os.fdopen(os.dup(1), "w") as result:
        os.dup2(2, 1)
        tracking_uri, location, folder, sizes, what = json.load(sys.stdin)
        try:
            with connected(tracking_uri):
                store = artifact_repository(tracking_uri, location)
                for path, size in sizes.items():
                    _check_size(what, path, size, _download(store, path, Path(folder) / path, size))
        except LynxError as error:
            result.write(str(error))
            sys.exit(error.exit_code)


def _download(store: "ArtifactRepository", path: str, to: Path, size: int) -> int:
    """Download one file, and return its size, in bytes. If it is longer than ``size``, only some of
    it is written."""
    limit = max(size, _SHORTEST_LIMIT)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        # What every store implements, unlike `download_artifacts`, which may list again.
        store._download_file(path, str(to))
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and cause.errno == errno.EFBIG:
                return limit + 1
            cause = cause.__cause__ or cause.__context__
        raise
    return to.stat().st_size


if __name__ == "__main__":
    _main()
