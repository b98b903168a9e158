"""The bundle store, in a folder and on a web server that DVC writes to with PUT."""

import hashlib
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lynx_pipeline.adapters import files
from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.adapters.bundle_store import BundleStore, Folder
from lynx_pipeline.adapters.dvc_remote import Remote
from lynx_pipeline.domain.bundle import Bundle, BundleFile, bundle_manifest
from lynx_pipeline.errors import BadInput, NotFound, NotInstalled, Refused, SystemFailed
from lynx_pipeline_tests.simulators.faults.trial import forked, kill_self
from lynx_pipeline_tests.support.builders import bundle
from lynx_pipeline_tests.support.http_server import Answer
from lynx_pipeline_tests.support.object_server import ObjectServer, object_server


@dataclass(frozen=True)
class Place:
    """A store, and its objects as a test sees and changes them. ``written`` are their names in the
    order in which they were written."""

    store: BundleStore
    objects: Callable[[], dict[str, bytes]]
    put: Callable[[str, bytes | None], None]
    written: Callable[[], list[str]]


def in_folder(folder: Path) -> Place:
    """A store in a folder."""

    def path(name: str) -> Path:
        return folder / name[:2] / name[2:]

    def objects() -> dict[str, bytes]:
        found = (it for it in folder.rglob("*") if it.is_file() and it.name != ".lock")
        return {it.parent.name + it.name: it.read_bytes() for it in found}

    def put(name: str, raw: bytes | None) -> None:
        path(name).unlink()
        if raw is not None:
            path(name).write_bytes(raw)

    def written() -> list[str]:
        return sorted(objects(), key=lambda name: path(name).stat().st_mtime_ns)

    return Place(BundleStore(Folder(folder)), objects, put, written)


def on_server(server: ObjectServer, root: Path) -> Place:
    """A store on a web server."""

    def name(path: str) -> str:
        return path.removeprefix("/bundles/").replace("/", "")

    def put(name: str, raw: bytes | None) -> None:
        path = f"/bundles/{name[:2]}/{name[2:]}"
        del server.objects[path]
        if raw is not None:
            server.objects[path] = raw

    return Place(
        BundleStore(Remote("remote://web/bundles", root)),
        lambda: {name(path): raw for path, raw in server.objects.items()},
        put,
        lambda: [name(path) for path in server.uploads],
    )


@pytest.fixture(params=["folder", pytest.param("server", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Each kind of store."""
    if request.param == "folder":
        yield in_folder(tmp_path / "store")
    else:
        with object_server(tmp_path / "root") as server:
            yield on_server(server, tmp_path / "root")


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Bundle]:
    """A bundle with an empty folder, an empty file, a large and an executable one."""
    folder = bundle(tmp_path / "made" / "bundle")
    (folder / "empty" / "below").mkdir(parents=True)
    (folder / "zero").write_bytes(b"")
    (folder / "large").write_bytes(os.urandom(3_000_000))
    (folder / "same").write_bytes((folder / "large").read_bytes())
    (folder / "run").write_text("#!/bin/sh\n")
    (folder / "run").chmod(0o755)
    return folder, read_bundle(folder)


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def test_a_kept_bundle_is_restored_to_the_byte(
    place: Place, made: tuple[Path, Bundle], tmp_path: Path
) -> None:
    """Every object is under its own digest, equal files are stored once, and the manifest last."""
    folder, identity = made
    place.store.keep(folder, identity)
    place.store.restore(identity.digest, tmp_path / "models" / "got")
    assert read_bundle(tmp_path / "models" / "got") == identity
    objects = place.objects()
    assert all(sha256(raw) == name for name, raw in objects.items())
    assert len(objects) == len({it.read_bytes() for it in folder.rglob("*") if it.is_file()}) + 1
    assert place.written()[-1] == identity.digest
    assert [it.name for it in folder.parent.iterdir()] == ["bundle"]


def test_what_is_there_is_not_written_again(
    place: Place, made: tuple[Path, Bundle], tmp_path: Path
) -> None:
    """A second bundle adds only what differs."""
    folder, identity = made
    place.store.keep(folder, identity)
    before = place.written()
    place.store.keep(folder, identity)
    assert place.written() == before
    (folder / "more").write_text("x")
    other = read_bundle(folder)
    place.store.keep(folder, other)
    assert place.written() == [*before, sha256(b"x"), other.digest]
    for it in (identity, other):
        place.store.restore(it.digest, tmp_path / it.digest)
        assert read_bundle(tmp_path / it.digest) == it


@pytest.mark.parametrize("which", ["manifest", "file"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda raw: None, "of this bundle", id="missing"),
        pytest.param(lambda raw: raw[:-1], "is damaged", id="truncated"),
        pytest.param(lambda raw: b"", "is damaged", id="empty"),
        pytest.param(lambda raw: b"x" + raw[1:], "is damaged", id="changed"),
        pytest.param(lambda raw: raw + b"x", "is damaged", id="longer"),
    ],
)
def test_a_damaged_object_is_refused_and_repaired(
    place: Place,
    made: tuple[Path, Bundle],
    tmp_path: Path,
    which: str,
    change: Callable[[bytes], bytes | None],
    message: str,
) -> None:
    """Keeping the bundle again writes only that object."""
    folder, identity = made
    place.store.keep(folder, identity)
    loader = (folder / "code/tiny_loader.py").read_bytes()
    name = identity.digest if which == "manifest" else sha256(loader)
    what = "manifest" if which == "manifest" else "'code/tiny_loader.py'"
    place.put(name, change(place.objects()[name]))
    with pytest.raises((NotFound, Refused), match=message) as caught:
        place.store.restore(identity.digest, tmp_path / "got")
    assert what in str(caught.value)
    assert "the bundle store" in str(caught.value)
    place.store.keep(folder, identity)
    assert place.written()[-1] == name
    place.store.restore(identity.digest, tmp_path / "again")
    assert read_bundle(tmp_path / "again") == identity


@pytest.mark.parametrize(
    "paths",
    [["../evil"], ["/evil"], ["a", "a/../../evil"], ["a//evil"], ["b/evil"], ["x", "x"], ["./x"]],
)
def test_a_manifest_that_leaves_the_folder_is_refused(
    place: Place, made: tuple[Path, Bundle], tmp_path: Path, paths: list[str]
) -> None:
    """Whoever can write to the registry and the store can name any manifest."""
    raw = b"evil"
    rows = [BundleFile(path, len(raw), sha256(raw)) for path in paths]
    manifest = bundle_manifest([rows[-1]], [it.path for it in rows[:-1]])
    source = tmp_path / "source"
    for content in (raw, manifest):
        source.write_bytes(content)
        place.store.objects.write(sha256(content), source)
    with pytest.raises(BadInput, match="not a bundle's manifest"):
        place.store.restore(sha256(manifest), tmp_path / "in" / "got")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("raw", [b"", b"[]", b"5", b"[5]", b'[{"path":"a"}] ', b'[{"path":5}]'])
def test_anything_else_than_a_manifest_is_refused(place: Place, tmp_path: Path, raw: bytes) -> None:
    """It has to be exactly what is written for a bundle."""
    source = tmp_path / "source"
    source.write_bytes(raw)
    place.store.objects.write(sha256(raw), source)
    with pytest.raises(BadInput, match=r"not a bundle's manifest|not an MLflow model"):
        place.store.restore(sha256(raw), tmp_path / "got")
        read_bundle(tmp_path / "got")


def test_a_killed_process_leaves_a_store_that_keeping_again_completes(
    made: tuple[Path, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed at each sync. The store has the bundle once it has the manifest."""
    folder, identity = made
    real, ended = files.sync, False
    for step in range(0, 100, 3):
        place = in_folder(tmp_path / f"store{step}")

        def killed(_: list[str], step: int = step, place: Place = place) -> None:
            left = iter(range(step))
            monkeypatch.setattr(
                files, "sync", lambda it: kill_self() if next(left, None) is None else real(it)
            )
            place.store.keep(folder, identity)

        ended = forked(killed).code == 0
        if identity.digest not in place.objects():
            with pytest.raises(NotFound, match="has no manifest of this bundle"):
                place.store.restore(identity.digest, tmp_path / f"early{step}")
        place.store.keep(folder, identity)
        place.store.restore(identity.digest, tmp_path / f"got{step}")
        assert read_bundle(tmp_path / f"got{step}") == identity
        assert all(sha256(raw) == name for name, raw in place.objects().items())
        shutil.rmtree(tmp_path / f"got{step}")
        if ended:
            break
    assert ended
    assert step > 10


def test_a_full_disk_is_a_system_failure(made: tuple[Path, Bundle], tmp_path: Path) -> None:
    """The large file is longer than a process may write. What is kept is not damaged."""
    folder, identity = made
    place = in_folder(tmp_path / "store")

    def limited(_: list[str]) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        place.store.keep(folder, identity)

    result = forked(limited)
    assert result.error == "SystemFailed"
    assert f"the bundle store {tmp_path / 'store'} failed" in result.message
    assert "File too large" in result.message
    assert identity.digest not in place.objects()
    assert all(sha256(raw) == name for name, raw in place.objects().items())
    place.store.keep(folder, identity)
    place.store.restore(identity.digest, tmp_path / "got")


def test_a_store_that_cannot_be_written_is_a_system_failure(
    made: tuple[Path, Bundle], tmp_path: Path
) -> None:
    """A file in its place, and a file system that nobody can write to."""
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", Path("/proc/self/store")):
        store = BundleStore(Folder(folder))
        with pytest.raises(SystemFailed, match=str(folder)):
            store.keep(*made)
        with pytest.raises(NotFound, match="has no manifest of this bundle"):
            store.restore(made[1].digest, tmp_path / "got")
        shutil.rmtree(tmp_path / "got", ignore_errors=True)


def test_a_file_that_changes_while_it_is_kept_is_noticed(
    place: Place, made: tuple[Path, Bundle]
) -> None:
    """The store would have something else than what was judged."""
    folder, identity = made
    (folder / "zero").write_bytes(b"x")
    with pytest.raises(SystemFailed, match="zero has changed since the bundle was hashed"):
        place.store.keep(folder, identity)
    assert identity.digest not in place.objects()


@pytest.mark.parametrize("status", [403, 409])
def test_a_server_that_refuses_is_a_system_failure(
    made: tuple[Path, Bundle], tmp_path: Path, status: int
) -> None:
    """It is reported with the store's URL, for reading and for writing."""
    with object_server(tmp_path / "root") as server:
        place = on_server(server, tmp_path / "root")
        for method in ("GET", "PUT"):
            server.override = lambda it, method=method: (  # type: ignore[misc]
                Answer(status=status) if it.method == method else None
            )
            with pytest.raises(SystemFailed) as caught:
                place.store.keep(*made)
            assert "the bundle store remote://web/bundles failed: " in str(caught.value)
            assert str(status) in str(caught.value)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["remote://nowhere/x", "nonsense://x/y", "http://127.0.0.1:9/x"])
def test_a_url_that_dvc_cannot_use_is_reported(
    made: tuple[Path, Bundle], tmp_path: Path, url: str
) -> None:
    """In one paragraph that names it."""
    store = BundleStore(Remote(url, tmp_path))
    with pytest.raises(SystemFailed, match=f"the bundle store {url} failed: .*dvc remote list"):
        store.keep(*made)


def test_without_dvc_a_url_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "dvc.config", None)
    store = BundleStore(Remote("s3://bucket/bundles", tmp_path))
    with pytest.raises(NotInstalled, match=r"s3://bucket/bundles is not a folder.*'dvc\[s3\]'"):
        store.restore("0" * 64, tmp_path / "got")
