"""Publishes a witness's checkpoint on a git remote: on a branch of its own, as the message of its
only commit, which is replaced each time. So a reader gets it in the fetch of the ledger, and the
branch does not grow.

Whoever can push there can remove it or put back an older one. Readers notice either by its time.
"""

import tempfile
import time
from pathlib import Path

from lynx_pipeline.adapters.ledgers.git_branch import Branch, checkpoint_ref
from lynx_pipeline.adapters.ledgers.git_objects import AUTHOR, data
from lynx_pipeline.config import GitRemote

_NEW = "refs/lynx/checkpoint"


def publish(remote: GitRemote, model: str, name: str, checkpoint: bytes) -> None:
    """Replace what is on the branch of the witness ``name`` by its new ``checkpoint``.

    Raises:
        Refused: git's configuration redirects to another remote.
        SystemFailed: git or the remote failed.
    """
    with tempfile.TemporaryDirectory(prefix="lynx-witness-") as folder:
        branch = Branch(Path(folder), remote, f"{model}@", pinned=True)
        head = f"commit {_NEW}\ncommitter {AUTHOR} {int(time.time())} +0000\n"
        branch.add(head.encode() + data(checkpoint))
        branch.sign_commit(_NEW)
        branch.replace(_NEW, checkpoint_ref(model, name))
