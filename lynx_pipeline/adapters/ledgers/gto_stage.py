"""A stage in GTO's form, in a registry on git: annotated tags ``<model>#<stage>#<n>`` at the
commits of versions. The latest one says which version is in the stage.

It is a mirror for people and for GTO. Nothing that reads the ledger fetches these tags.
"""

import re
import tempfile
import time
from pathlib import Path

from lynx_pipeline.adapters.git import ended
from lynx_pipeline.adapters.ledgers.git_branch import Branch
from lynx_pipeline.adapters.ledgers.git_objects import AUTHOR, data
from lynx_pipeline.config import GitRemote
from lynx_pipeline.errors import BadInput, SystemFailed

# How many times to try, if somebody else assigns a stage at the same time.
_TRIES = 3
# An assignment of a stage or, with "!", the end of one. GTO can leave out the number.
_EVENT = re.compile(r"(?P<what>[^#]+#[^#!]+)(?P<ends>!?)(?:#(?P<number>[0-9]{1,18}))?")


def assign_stage(
    remote: GitRemote, model: str, stage: str, semver: str, *, pinned: bool = False
) -> str:
    """Put the version ``semver`` of ``model`` into the stage, unless it is there already. Returns
    the name of the tag that says so. ``pinned`` is as in
    :class:`~lynx_pipeline.adapters.ledgers.git.GitLedger`.

    Raises:
        BadInput: the version has no tag.
        Refused: git's configuration redirects to another remote than the pinned one.
        SystemFailed: git or the remote failed, or the remote rejected the tag.
    """
    error = None
    with tempfile.TemporaryDirectory(prefix="lynx-stage-") as folder:
        branch = Branch(Path(folder), remote, f"{model}@", f"{model}#", pinned=pinned)
        for _ in range(_TRIES):
            branch.fetch()
            commits = {name: commit for name, commit, _ in branch.annotated()}
            target = commits.get(f"{model}@{semver}")
            if not target:
                raise BadInput(
                    f"{remote}: the tag {model}@{semver} is missing or not annotated, so the stage "
                    f"{stage!r} can't be assigned. Run 'lynx-pipeline registry verify'."
                )
            events = {n: found for n in commits if (found := _EVENT.fullmatch(n))}
            # As GTO reads them: the latest tag about the stage counts, and the times, which are
            # whole seconds, say which that is. Lightweight tags have none, and only count.
            times = {name: at for name, at in branch.tag_times().items() if name in events}
            of_stage = [name for name in times if events[name]["what"] == f"{model}#{stage}"]
            current = max(of_stage, key=times.__getitem__, default=None)
            if current and commits[current] == target and not events[current]["ends"]:
                return current
            numbers = (int(found["number"] or 0) for found in events.values())
            name = f"{model}#{stage}#{max(numbers, default=0) + 1}"
            now = max(int(time.time()), *(at + 1 for at in times.values()), 0)
            message = f"Assigning stage {stage} to artifact {model} version {semver}\n"
            head = f"tag {name}\nfrom {target}\ntagger {AUTHOR} {now} +0000\n"
            branch.add(head.encode() + data(message.encode()))
            branch.sign_tag(name)
            # The branch itself is not pushed, so it may be anywhere.
            error = branch.push(None, f"refs/tags/{name}:refs/tags/{name}")
            if error is None:
                return name
    raise SystemFailed(
        f"{remote}: the remote rejected the tag {name}: {ended(str(error))} The stage {stage!r} is "
        "as before. Check the remote's rules and hooks; running this again is safe."
    )
