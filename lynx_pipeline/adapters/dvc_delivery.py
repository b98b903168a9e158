"""DVC: asks a remote why it did not deliver an object.

For a server that can't be reached, a missing bucket and a missing folder, DVC may say the same as
for an object that nobody pushed: that it exists neither locally nor in the remote. So the storage
is asked once more, without DVC's layers that take every failure for "not found".
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from lynx_pipeline.domain.text import one_line

_BUCKETS = {"s3": "bucket", "gs": "bucket", "oss": "bucket", "azure": "container"}
_FOLDERS = ("local", "ssh", "hdfs", "webdav", "webdavs")


def named(repo: Any, remote: str | None) -> str:
    """``remote``, or the default remote, with its URL; empty if there is none."""
    name = remote or repo.config["core"].get("remote")
    url = repo.config["remote"].get(name, {}).get("url")
    return f"the remote {name!r} ({one_line(url)})" if url else ""


def why_not_delivered(repo: Any, remote: str | None, hashes: Iterable[str]) -> str:
    """Why ``remote``, or the default remote, did not deliver the objects with these hashes, as a
    sentence without its full stop. It does not name the remote."""
    found = repo.cloud.get_remote(remote)
    if found.fs.version_aware:  # it names objects by path
        return _missing_place(found) or "it did not arrive"
    for md5 in hashes:
        try:
            if has_object(found, md5):
                continue
        except Exception as error:  # each storage's library raises its own
            return f"the remote can't be read: {_described(error)}"
        return _missing_place(found) or (
            f"the remote does not have the object {md5}. If it was never pushed, run 'dvc push' "
            "where the file exists"
        )
    return "the remote has it, but it did not arrive"


def has_object(remote: Any, md5: str) -> bool:
    """Whether the remote has the object, in the layout of DVC 3 or 2. Reading is asked for, because
    the libraries' other questions take a failed connection for a no."""
    for store in (remote.odb, remote.legacy_odb):
        with suppress(FileNotFoundError):
            store.fs.cat_file(store.oid_to_path(md5), start=0, end=1)
            return True
    return False


def missing_bucket(remote: Any) -> str:
    """That the remote's bucket is missing; empty if it is there, or the remote has none. For the
    libraries, an object in a bucket that does not exist is just not found."""
    kind, bucket = remote.fs.protocol, str(remote.path).partition("/")[0]
    with suppress(Exception):  # objects may be readable, and not allow this question
        if kind in _BUCKETS and not remote.fs.exists(bucket):
            return f"the {_BUCKETS[kind]} {bucket!r} does not exist"
    return ""


def _missing_place(remote: Any) -> str:
    """That the remote's bucket or folder is missing; empty if it is there."""
    with suppress(Exception):
        if remote.fs.protocol in _FOLDERS and not remote.fs.exists(remote.path):
            return "its folder does not exist"
    return missing_bucket(remote)


def _described(error: Exception) -> str:
    """The error in one line. Some libraries' errors have no text, but a cause."""
    return f"{type(error).__name__}: {one_line(error) or one_line(error.__cause__ or 'no details')}"
