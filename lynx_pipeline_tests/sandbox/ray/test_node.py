"""A node's folder. The rest of a node is tested with a cluster, in ``test_engine.py``."""

import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import pytest

from lynx_pipeline.sandbox.ray import node as ray_node


def _actor(root: Path) -> None:
    tempfile.tempdir = str(root)
    ray_node._folder_while_this_lives()
    time.sleep(60)


@pytest.mark.slow
def test_an_actor_killed_at_any_moment_leaves_no_folder(tmp_path: Path) -> None:
    """The actor may not even have read the folder's name yet."""
    fork = multiprocessing.get_context("fork")
    seen = 0
    for moment in range(60):
        actor = fork.Process(target=_actor, args=(tmp_path,))
        actor.start()
        time.sleep(moment * 0.0005)
        seen += len(os.listdir(tmp_path))
        actor.kill()
        actor.join()
    deadline = time.monotonic() + 20
    while os.listdir(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert os.listdir(tmp_path) == []
    assert seen  # some were killed after their folder was created
