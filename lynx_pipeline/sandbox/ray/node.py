"""What runs on a node of a Ray cluster: an actor around one worker process.

The node looks for itself: whether it has the same software, what isolation works on it, and
whether the bundle that arrived is the one that was hashed. All it keeps lies in one folder, which
goes when the actor does, even if that is killed.
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
from lynx_pipeline.sandbox.isolation import choose_isolation
from lynx_pipeline.sandbox.workers import Answered, Batch, serve

_CHUNK = 32 << 20
_INSTALLERS = {"pip", "setuptools", "wheel", "uv"}  # they answer no question

Shipped = list[tuple[str, list[Any]]]  # a file's path in the bundle, and Ray's objects with it


@dataclass(frozen=True, slots=True)
class Task:
    """What every node is told of an evaluation."""

    canonical_sha: str
    env: Env
    hidden: tuple[Path, ...]
    limits: Limits


class Ready(NamedTuple):
    """A node's name, and what it warns of."""

    node: str
    warnings: list[str]


def software() -> dict[str, str]:
    """What is installed here, by name: versions, and the digest of our own code. Python and Ray
    are compared by Ray."""
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
    """Put the bundle's files into the cluster, a piece at a time."""
    shipped: Shipped = []
    try:
        for path in sorted(path for path in bundle.rglob("*") if path.is_file()):
            pieces = []
            with path.open("rb") as file:
                while piece := file.read(_CHUNK):
                    pieces.append(ray.put(piece))
            shipped.append((path.relative_to(bundle).as_posix(), pieces))
    except OSError as error:
        raise SystemFailed(f"{bundle} can't be read: {error}.") from None
    return shipped


class Node:
    """The actor. Its methods give an error of ours back, since Ray would wrap what is raised."""

    def __init__(self) -> None:
        self._given: deque[Batch | None] = deque()
        self._answers: Iterator[Answered] = iter(())
        self._first = True

    def check(self, expected: Mapping[str, str]) -> LynxError | None:
        """Whether what both sides have is the same: other software may give other answers."""
        found = software()
        differing = sorted(k for k in expected.keys() & found.keys() if expected[k] != found[k])
        if not differing:
            return None
        some = ", ".join(f"{k} {found[k]} (here: {expected[k]})" for k in differing[:5])
        return SystemFailed(
            f"the Ray node {platform.node()} has other software: {some}"
            f"{', …' if differing[5:] else ''}. Install the same on all nodes and where the "
            "evaluation is started, best from one image or one lock file."
        )

    def prepare(self, task: Task, files: Shipped, seconds: float) -> Ready | LynxError:
        """Unpack the bundle and make sure of it, for an evaluation that has ``seconds`` left."""
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
        """Hand in the next batch; None: there are no more. The answer is to the batch before, so
        that the process has the next one when it has answered one."""
        self._given.append(batch)
        if self._first:
            self._first = False
            return None
        return self._next()

    def finish(self) -> Answered | LynxError | None:
        """Let the process end, and say how it did if not well."""
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
        found = read_bundle(bundle).canonical_sha
        if found != task.canonical_sha:
            raise SystemFailed(
                f"the bundle that arrived has the canonical sha {found}, expected "
                f"{task.canonical_sha}: its files were changed meanwhile. Run this again."
            )
        tempfile.tempdir = str(folder)  # what the worker process writes goes the same way
        take, never = self._given.popleft, threading.Event()
        self._answers = serve(bundle, isolation, task.limits, take, end, never)
        return warnings


def _unpack(files: Shipped, bundle: Path) -> None:
    import ray

    for name, pieces in files:
        path = bundle / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for piece in pieces:
                file.write(ray.get(piece))


def _folder_while_this_lives() -> Path:
    """A private folder. A shell makes it, waits for this process to end, in whatever way, and
    removes it; it is nobody's child, or Ray would kill it with the actor. It survives that nobody
    hears the folder's name, and tries again while a worker still writes into the folder."""
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
        raise SystemFailed(f"no folder can be made in {tempfile.gettempdir()}.")
    return Path(folder)


_held: list["subprocess.Popen[bytes]"] = []  # whose standard input must stay open
