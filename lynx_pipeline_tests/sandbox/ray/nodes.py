"""A Ray cluster of several nodes, all on this machine."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


class Nodes:
    """A cluster whose head has no CPU, and each other node has one."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self.folder = folder
        self.cluster = Cluster(initialize_head=True, head_node_args=_small(0))
        self.open: list[Any] = []
        self.isolated: list[Any] = []

    def scale_to(self, *, open: int = 0, isolated: int = 0) -> None:
        """Add and remove nodes until there are this many of each kind."""
        for nodes, count, path in ((self.open, open, ""), (self.isolated, isolated, os.defpath)):
            while len(nodes) > count:
                self.lose(nodes[-1])
            while len(nodes) < count:
                nodes.append(self.add(PATH=path))

    def add(self, **environ: str) -> Any:
        """Add a node whose processes have these environment variables."""
        return self.cluster.add_node(**_small(1), env_vars={"TMPDIR": str(self.folder), **environ})

    def lose(self, node: Any) -> None:
        """Remove a node abruptly, as when its power fails."""
        self.cluster.remove_node(node, allow_graceful=False)
        self.cluster.wait_for_nodes()  # until then, actors may be scheduled on it
        for nodes in (self.open, self.isolated):
            if node in nodes:
                nodes.remove(node)

    def actors(self) -> list[int]:
        """The processes of living actors."""
        processes = _processes(f"TMPDIR={self.folder}")
        return [pid for pid, title in processes if title.startswith("ray::Node")]

    def drivers(self) -> list[int]:
        """The driver processes of this cluster."""
        processes = _processes(f"RAY_ADDRESS={self.cluster.address}")
        return [pid for pid, title in processes if "driver.main" in title]

    def assert_nothing_left(self) -> None:
        """No actor, and no file of ours on any node."""
        assert_soon(lambda: not self.actors() and not list(self.folder.iterdir()))


def _small(cpus: int) -> dict[str, Any]:
    return {"num_cpus": cpus, "object_store_memory": 80 << 20, "include_dashboard": False}


def _processes(variable: str) -> Iterator[tuple[int, str]]:
    """Processes with this variable, and their titles. Other tests may have a cluster, too."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if variable.encode() in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name), (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue


def assert_soon(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert holds()
