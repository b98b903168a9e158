"""What runs on a node of a Ray cluster: an actor around one worker process.

Each node checks for itself that it has the same software, which isolation works on it, and that
the bundle it received has the expected hash. All its files are in one folder, which is removed
when the actor ends, even if the actor is killed.
"""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lynx_pipeline
from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.config import Limits
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import LynxError, Refused, SystemFailed
from lynx_pipeline.sandbox.engine import Answered, Batch, Form
from lynx_pipeline.sandbox.isolation import choose_isolation
from lynx_pipeline.sandbox.process import serve

_CHUNK = 32 << 20
_INSTALLERS = {"pip", "setuptools", "wheel", "uv"}  # no influence on answers


class Shipped(NamedTuple):
    """A bundle on its way: its folders, and each file's path, mode and pieces (Ray objects)."""

    folders: list[str]
    files: list[tuple[str, int, list[Any]]]


@dataclass(frozen=True, slots=True)
class Task:
    """What every node needs to know about an evaluation."""

    bundle_digest: str
    env: Env
    hidden: tuple[Path, ...]
    limits: Limits
    form: Form


class Ready(NamedTuple):
    """A node's name and its warnings."""

    node: str
    warnings: list[str]


def software() -> dict[str, str]:
    """The version of each installed package, and for ours the digest of its code. Ray itself
    compares Python and Ray."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = str(distribution.metadata["Name"]).lower().replace("_", "-")
        if name not in _INSTALLERS:
            found.setdefault(name, distribution.version)
    code, root = hashlib.sha256(), Path(lynx_pipeline.__file__).parent
    for path in sorted(root.rglob("*.py")):
        code.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return {**found, "lynx-pipeline": code.hexdigest()[:12]}


def ship(ray: Any, bundle: Path) -> Shipped:
    """Put the bundle's files into Ray's object store, in pieces."""
    shipped = Shipped([], [])
    try:
        for path in sorted(bundle.rglob("*")):
            name = path.relative_to(bundle).as_posix()
            if path.is_dir():
                shipped.folders.append(name)
                continue
            pieces = []
            with path.open("rb") as file:
                while piece := file.read(_CHUNK):
                    pieces.append(ray.put(piece))
            shipped.files.append((name, path.stat().st_mode, pieces))
    except OSError as error:
        raise SystemFailed(f"{bundle} can't be read: {error}.") from None
    return shipped


class Node:
    """The actor. Its methods return our errors instead of raising them, because Ray would wrap
    them."""

    def __init__(self) -> None:
        self._batches: deque[Batch | None] = deque()
        self._answers: Iterator[Answered] = iter(())
        self._first = True

    def check(self, expected: Mapping[str, str]) -> LynxError | None:
        """Compare the packages that both sides have: other versions may give other answers."""
        found = software()
        differing = sorted(k for k in expected.keys() & found.keys() if expected[k] != found[k])
        if not differing:
            return None
        versions = ", ".join(f"{k} {found[k]} (here: {expected[k]})" for k in differing[:5])
        return SystemFailed(
            f"the Ray node {platform.node()} has different software: {versions}"
            f"{', …' if differing[5:] else ''}. Install the same versions on all nodes and on the "
            "machine that starts the evaluation, ideally from one image or lock file."
        )

    def prepare(self, task: Task, files: Shipped, seconds: float) -> Ready | LynxError:
        """Unpack and verify the bundle, for an evaluation that has ``seconds`` left."""
        node, end = platform.node(), time.monotonic() + seconds
        try:
            warnings = self._prepare(task, files, end)
        except Refused as error:
            return Refused(f"on the Ray node {node}: {error}")
        except LynxError as error:
            return SystemFailed(f"on the Ray node {node}: {error}")
        except OSError as error:
            return SystemFailed(f"on the Ray node {node} the bundle can't be unpacked: {error}.")
        return Ready(node, warnings)

    def ask(self, batch: Batch | None) -> Answered | LynxError | None:
        """Add the next batch, or None after the last. Returns the answers to the previous batch,
        so the process never waits for its next one."""
        self._batches.append(batch)
        if self._first:
            self._first = False
            return None
        return self._next()

    def finish(self) -> Answered | LynxError | None:
        """Let the process end. Returns an error if it fails."""
        return self._next()

    def _next(self) -> Answered | LynxError | None:
        try:
            return next(self._answers, None)
        except LynxError as error:
            return error

    def _prepare(self, task: Task, files: Shipped, end: float) -> list[str]:
        warnings: list[str] = []
        isolation = choose_isolation(task.env, task.hidden, warnings.append)
        folder = _folder_while_this_lives()
        bundle = folder / "bundle"
        _unpack(files, bundle)
        digest = read_bundle(bundle, task.limits.bundle_mib).digest
        if digest != task.bundle_digest:
            raise SystemFailed(
                f"the received bundle has the digest {digest}, expected {task.bundle_digest}: its "
                "files have changed. Run this again."
            )
        tempfile.tempdir = str(folder)  # so that the worker's files are removed, too
        take, stop = self._batches.popleft, threading.Event()
        self._answers = serve(bundle, isolation, task.limits, take, end, stop, task.form)
        return warnings


def _unpack(shipped: Shipped, bundle: Path) -> None:
    import ray

    for name in ("", *shipped.folders):
        (bundle / name).mkdir()
    for name, mode, pieces in shipped.files:
        path = bundle / name
        with path.open("wb") as file:
            for piece in pieces:
                file.write(ray.get(piece))
        path.chmod(mode)


def _folder_while_this_lives() -> Path:
    """A private folder that is removed when this process ends, even if it is killed.

    A background shell creates it, waits for our end of its pipe to close, and removes it. The
    shell has no parent, because Ray kills an actor's children with it. It ignores SIGPIPE, in case
    we are killed before reading the name, and retries while a worker still writes into the folder.
    """
    script = (
        'trap "" PIPE; exec 3<&0 2>/dev/null; (d=$(mktemp -d "$0/lynx-ray-XXXXXXXX") || exit; '
        'echo "$d"; exec >/dev/null; cat <&3; '
        'for wait in 0 1 5 25; do sleep $wait; rm -rf -- "$d" && break; done) &'
    )
    shell = subprocess.Popen(
        ["/bin/sh", "-c", script, tempfile.gettempdir()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": os.defpath},
        start_new_session=True,
    )
    assert shell.stdout
    folder = shell.stdout.readline().decode().strip()
    shell.wait()
    _held.append(shell)
    if not folder:
        raise SystemFailed(f"a folder can't be created in {tempfile.gettempdir()}.")
    return Path(folder)


_held: list["subprocess.Popen[bytes]"] = []  # keeps the shells' standard input open
