"""Judges: what a verdict depends on beside the gate inputs. That is the workflow, who may request a
release, the packages that a job installs, and any code of the project's own.

The setting ``judges`` names their paths, from the root of the git repository. In prod a promotion
is refused if one of them has changed on the branch since the workflow's commit. A list that leaves
something out would protect less than people think, so it is refused, too.
"""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from lynx_pipeline.adapters import git_files
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.release.identity import Policy
from lynx_pipeline.errors import Refused

_GITLAB_OWNERS = ".gitlab/CODEOWNERS"
# The lock files of pip, uv, Poetry, PDM and pipenv, and PEP 751's.
_LOCK = re.compile(r"(?!dvc\.lock$)(?:.+\.lock|requirements.*\.txt|pylock(?:\..+)?\.toml)")


def check_judges(settings: Settings, policy: Policy, commit: str) -> None:
    """Check that ``judges`` covers everything that it must, and that ``commit`` has all it names.

    Raises:
        Refused: it does not. The message has the line for the settings.
        SystemFailed: git failed.
    """
    named = settings.judges
    required = _required(settings, policy, commit)
    known = git_files.existing(settings.root, commit, named)
    unknown = [it for it in named if it not in known]
    missing = [it for it in required if not _covers(known, it)]
    if not (unknown or missing):
        return
    if not named:
        problem = "is missing"
    elif unknown:
        problem = f"names {unknown[0]!r}, which the commit {commit[:12]} does not have"
    else:
        problem = f"does not cover {missing[0]!r}"
    line = ", ".join(f'"{it}"' for it in (*known, *missing))
    raise Refused(
        f"[tool.lynx_pipeline] in pyproject.toml: 'judges' {problem}: prod needs the paths whose "
        "change must stop a promotion, from the root of the repository. Write judges = "
        f"[{line}], add your own code that the jobs run, and commit it."
    )


def _required(settings: Settings, policy: Policy, commit: str) -> list[str]:
    """The workflow, the owners, and the lock files beside ``pyproject.toml`` and at the root."""
    from lynx_pipeline.domain.release.owners import PLACES  # the light client can't import it

    beside = git_files.beside(settings.root, commit)
    locks = [it for it in beside if is_lock_file(PurePosixPath(it).name)]
    owners = git_files.existing(settings.root, commit, (*PLACES, _GITLAB_OWNERS))
    return [policy.workflow, *owners, *locks]


def is_lock_file(name: str) -> bool:
    """Whether a file with this name says which packages are installed."""
    return _LOCK.fullmatch(name) is not None


def _covers(judges: Iterable[str], path: str) -> bool:
    parents = {path, *map(str, PurePosixPath(path).parents)}
    return any(it in parents for it in judges)
