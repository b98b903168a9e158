"""What the gate reads, as it was committed: prod judges by nothing else.

An edit on disk that was not committed counts for nothing, nor do floors from a commit that
the branch has since left behind: a workflow run that is started anew weeks later runs on its
old commit.
"""

import hashlib
import tomllib
from pathlib import Path
from typing import Any

from lynx_pipeline.adapters import git_files
from lynx_pipeline.adapters.dvc_data import dvc_file, tracked_hash
from lynx_pipeline.adapters.files import read_bytes
from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.domain.ledger.chain import Fact
from lynx_pipeline.errors import Refused

_EDITED = "it was edited and not committed. prod judges by what is committed; restore it with git."
_COMMITTED = (
    *("model", "eval_set", "baseline", "registry", "identity", "price_per_hour"),
    "artifact_locations",
)

# In the repository of the workflow: who may ask, what runs, and by which packages.
_JUDGES = (".github", "dev", "lynx_pipeline", "requirements.lock")
_NAMED = 5


def check_committed(settings: Settings, commit: str) -> None:
    """That baseline, eval set and settings are those of the checked-out ``commit``: the files on
    disk, and the settings in use.

    Raises:
        Refused: a file was changed, or is not committed.
    """
    pyproject = settings.root / "pyproject.toml"
    for path in (*_inputs(settings), pyproject):
        name = path.relative_to(settings.root)
        if git_files.file_at(settings.root, commit, path) != read_bytes(path, str(name)):
            raise Refused(f"{name} is not what the commit {commit[:12]} holds: {_EDITED}")
    raw = git_files.file_at(settings.root, commit, pyproject) or b""
    committed = load_settings(settings.root, {"LYNX_ENV": settings.env.value}, pyproject=raw)
    for key in _COMMITTED:
        if getattr(settings, key) != getattr(committed, key):
            raise Refused(f"{key!r} is not what the commit {commit[:12]} holds: {_EDITED}")


def check_judged(settings: Settings, commit: str, fact: Fact) -> None:
    """That ``fact`` was judged by the baseline and on the eval set of ``commit``.

    Raises:
        Refused: by others, which were there only while it was judged.
    """
    baseline, tracked = (
        git_files.file_at(settings.root, commit, path) or b"" for path in _inputs(settings)
    )
    where, name = str(_inputs(settings)[1]), settings.eval_set.name
    committed = {
        "baseline_sha256": hashlib.sha256(baseline).hexdigest(),
        "eval_set_dvc_hash": tracked_hash(tracked, where, name),
    }
    for key, value in committed.items():
        if (fact.evidence or {}).get(key) != value:
            raise Refused(f"{key} is not of what the commit {commit[:12]} holds: {_EDITED}")


def check_current(settings: Settings, commit: str, ref: str) -> None:
    """That baseline, eval set and settings are still the same on ``ref`` of the remote, and so is
    what judges and says who may ask: a run of weeks ago, started again, has the code and the
    CODEOWNERS of then.

    Raises:
        Refused: they changed there since ``commit``.
        SystemFailed: the remote could not be asked.
    """
    tip = git_files.tip(settings.root, ref)
    if tip == commit:
        return
    changed = changes(settings, commit, tip)
    changed += git_files.changed(settings.root, commit, tip, _JUDGES)
    if changed:
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        raise Refused(
            f"{ref} has moved from {commit[:12]} to {tip[:12]}, which changes "
            f"{', '.join(changed[:_NAMED])}{more}: the verdict would be by what counts no more. "
            "Start the workflow anew."
        )


def changes(settings: Settings, old: str, new: str) -> list[str]:
    """What of that which verdicts are by differs between two commits."""
    root, pyproject = settings.root, settings.root / "pyproject.toml"
    changed = [
        str(path.relative_to(root))
        for path in _inputs(settings)
        if git_files.file_at(root, new, path) != git_files.file_at(root, old, path)
    ]
    if _table(root, new, pyproject) != _table(root, old, pyproject):
        changed.append("[tool.lynx_pipeline] in pyproject.toml")
    return changed


def _inputs(settings: Settings) -> tuple[Path, Path]:
    return settings.baseline, dvc_file(settings.eval_set)


def _table(root: Path, commit: str, path: Path) -> Any:
    raw = git_files.file_at(root, commit, path)
    try:
        return tomllib.loads((raw or b"").decode())["tool"]["lynx_pipeline"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
