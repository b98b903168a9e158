"""The bundle store in a folder: lets each system call that keeps a bundle fail."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.adapters.bundle_store import BundleStore, Folder
from lynx_pipeline.errors import NotFound, Refused
from lynx_pipeline_tests.simulators.faults.disk import KILLS, Disk, failpoints, parts_below
from lynx_pipeline_tests.simulators.faults.trial import ChildResult, Table, forked


class StoreDisk(Disk):
    """Intercepts the system calls of a bundle store."""

    def role(self, path: object) -> str | None:
        """See :meth:`Disk.role`."""
        match parts_below(self.folder, path):
            case None:
                return None
            case ():
                return "folder"
            case (".lock",):
                return "lock"
            case (name,) if name != ".new":
                return "object folder"
        return "object"


def _bundle(folder: Path) -> Path:
    """A bundle of two files."""
    folder.mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n" * 300)
    (folder / "text").write_text("text")
    return folder


def empty(store: Path, bundle: Path) -> None:
    """No folder yet."""


def damaged(store: Path, bundle: Path) -> None:
    """The same bundle, with a damaged file."""
    BundleStore(Folder(store)).keep(bundle, read_bundle(bundle))
    name = hashlib.sha256((bundle / "text").read_bytes()).hexdigest()
    (store / name[:2] / name[2:]).write_bytes(b"damage")


STATES: tuple[Callable[[Path, Path], None], ...] = (empty, damaged)


def bundle_store_fails(tmp: Path, fault: str) -> Table:
    """Inject ``fault`` at every system call that keeps a bundle, from every state of the store."""
    table: Table = {}
    for state in STATES:
        start = tmp / state.__name__ / "start"
        bundle = _bundle(tmp / state.__name__ / "bundle")
        state(start, bundle)
        trace = _keep(start, bundle, StoreDisk(start.with_name("0"))).trace
        for number, name in failpoints(trace, fault):
            disk = StoreDisk(start.with_name(str(number)), number, fault)
            result = _keep(start, bundle, disk)
            result.check_end(fault in KILLS, name)
            outcome = _check_recovery(disk.folder, bundle)
            result.check_outcome(outcome)
            table.setdefault((name, fault), set()).add(outcome)
    return table


def _keep(start: Path, bundle: Path, disk: StoreDisk) -> ChildResult:
    """Keep the bundle in a copy of ``start``."""
    if start.exists():
        shutil.copytree(start, disk.folder)

    def work(trace: list[str]) -> None:
        disk.trace = trace
        identity = read_bundle(bundle)
        with disk.in_place():
            BundleStore(Folder(disk.folder)).keep(bundle, identity)

    return forked(work)


def _check_recovery(folder: Path, bundle: Path) -> str:
    """Whether the store has the bundle; also checks that keeping it again leaves it complete, with
    nothing damaged and nothing else."""
    store, identity = BundleStore(Folder(folder)), read_bundle(bundle)
    outcome = "new"
    try:
        store.restore(identity.digest, folder.with_name("restored"))
    except (NotFound, Refused):
        outcome = "old"
    store.keep(bundle, identity)
    shutil.rmtree(folder.with_name("restored"))
    store.restore(identity.digest, folder.with_name("restored"))
    assert read_bundle(folder.with_name("restored")) == identity
    shutil.rmtree(folder.with_name("restored"))
    for path in folder.rglob("*"):
        if path.is_file() and path.name != ".lock":
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            assert path.parent.name + path.name == content, path
    return outcome
