"""Stores that send more than they list: no file of a download gets longer than listed."""

import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from lynx_pipeline.adapters.mlflow_models import with_client
from lynx_pipeline.domain.bundle import Tally
from lynx_pipeline.errors import SystemFailed
from lynx_pipeline_tests.conftest import Tracking

pytestmark = pytest.mark.slow

_FILES = {"MLmodel": 20, "weights": 3 << 20, "zebra": 1}


def _listing(files: Mapping[str, int]) -> bytes:
    rows = "".join(
        f"<Contents><Key>root/{name}</Key><Size>{size}</Size></Contents>"
        for name, size in files.items()
    )
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode()


class _Endless(BaseHTTPRequestHandler):
    """Lists :data:`_FILES` as S3 does, and sends ``weights`` without end."""

    protocol_version = "HTTP/1.1"
    sent = 0

    def do_HEAD(self) -> None:
        self._answer(b"", _FILES[urlsplit(self.path).path.rpartition("/")[2]])

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        name = url.path.rpartition("/")[2]
        if "list-type" in parse_qs(url.query):
            self._answer(_listing(_FILES))
        elif name != "weights":
            self._answer(bytes(_FILES[name]))
        else:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            chunk = bytes(1 << 20)
            try:
                while True:
                    self.wfile.write(b"100000\r\n" + chunk + b"\r\n")
                    type(self).sent += len(chunk)
            except OSError:
                self.close_connection = True

    def _answer(self, body: bytes, size: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) if size is None else size))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def _endless() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Endless)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*"))


def test_an_endless_object_ends_at_its_listed_size(
    tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _endless() as url:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # it keeps another test's credentials
        with pytest.raises(SystemFailed) as caught:
            with_client(tracking.uri, "s3://team/root", tmp_path / "to")
    assert str(caught.value) == (
        "the model at 's3://team/root' changed while it was downloaded: 'weights' is longer than "
        f"the {3 << 20} bytes that were listed. Run this again."
    )
    assert _size(tmp_path / "to") <= 20 + (3 << 20)
    assert not (tmp_path / "to/zebra").exists()
    assert _Endless.sent > 3 << 20  # more was on its way


@pytest.mark.parametrize("what", ["device", "pipe"])
def test_a_link_in_a_folder_to_an_endless_file_is_refused(
    tracking: Tracking, tmp_path: Path, what: str
) -> None:
    """A pipe would block whoever opens it."""
    source = tmp_path / "model"
    source.mkdir()
    os.mkfifo(tmp_path / "pipe")
    (source / "MLmodel").write_text("flavors: {}\n")
    (source / "weights").symlink_to("/dev/zero" if what == "device" else tmp_path / "pipe")
    with pytest.raises(SystemFailed, match="weights is not a regular file"):
        with_client(tracking.uri, os.fspath(source), tmp_path / "to")
    assert _size(tmp_path / "to") == len("flavors: {}\n")


@pytest.mark.parametrize("late", [False, True])
def test_a_link_out_of_a_local_store_is_refused(
    tracking: Tracking, tmp_path: Path, late: bool
) -> None:
    """Whoever can write to the store could otherwise have any file of ours put into a bundle, and
    so into the sandbox. It may also be made after the listing, of a folder. A link within is fine.
    """
    secret = tmp_path / "secrets/key"
    secret.parent.mkdir()
    secret.write_text("secret")
    source = tmp_path / "model"
    (source / "sub").mkdir(parents=True)
    (source / "MLmodel").write_text("flavors: {}\n")
    (source / "copy").symlink_to("MLmodel")
    target = source / "sub/key"
    target.write_text("public") if late else target.symlink_to(secret)

    def exchange(_: Tally) -> None:
        if late:
            shutil.rmtree(source / "sub")
            (source / "sub").symlink_to(secret.parent)

    with pytest.raises(SystemFailed, match="key is outside the model's artifacts"):
        with_client(tracking.uri, os.fspath(source), tmp_path / "to", listed=exchange)
    assert (tmp_path / "to/copy").read_text() == "flavors: {}\n"
    assert "secret" not in "".join(
        it.read_text() for it in (tmp_path / "to").rglob("*") if it.is_file()
    )


def test_a_file_that_shrank_is_named(tracking: Tracking, tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.mkdir()
    (source / "MLmodel").write_bytes(bytes(10))

    def shrink(_: Tally) -> None:
        (source / "MLmodel").write_bytes(bytes(4))

    with pytest.raises(SystemFailed, match="'MLmodel' has 4 of the 10 bytes that were listed"):
        with_client(tracking.uri, os.fspath(source), tmp_path / "to", listed=shrink)
