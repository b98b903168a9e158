"""Gate inputs: baseline, eval set, corpus and settings. In prod the gate uses only committed ones.

A promotion with an uncommitted edit is refused. So is one with a baseline that the branch has
replaced since: a workflow run that is repeated weeks later uses its old commit.
"""

import hashlib
import tomllib
from operator import attrgetter
from pathlib import Path
from typing import Any

from lynx_pipeline.adapters import git_files
from lynx_pipeline.adapters.dvc_data import dvc_file, tracked_hash
from lynx_pipeline.adapters.files import read_bytes
from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.domain.ledger.facts import Evidence, Promoted
from lynx_pipeline.errors import Refused

_UNCOMMITTED = (
    "it was edited and not committed. prod uses committed files only; restore it with git."
)
_SETTINGS = (
    *("model", "eval_set", "baseline", "registry", "identity", "price_per_hour"),
    *("artifact_locations", "bundle_store", "corpus", "corpus_checks"),
    *("scorer", "evaluation.answer_column"),
)

# Also inputs of the gate, in the workflow's repository: who may request a release, the code that
# runs, and its packages.
_CODE = (".github", "dev", "lynx_pipeline", "requirements.lock")
_LISTED = 5


def check_committed(settings: Settings, commit: str) -> None:
    """Check that baseline, eval set, corpus and settings, on disk and in use, are those of the
    checked-out ``commit``.

    Raises:
        Refused: one of them was changed, or is not committed.
    """
    pyproject = settings.root / "pyproject.toml"
    for path in (*_files(settings), *_corpus_files(settings), pyproject):
        _check_file(settings.root, commit, path)
    raw = git_files.file_at(settings.root, commit, pyproject) or b""
    committed = load_settings(settings.root, {"LYNX_ENV": settings.env.value}, pyproject=raw)
    for key in _SETTINGS:
        value = attrgetter(key)
        if value(settings) != value(committed):
            raise Refused(f"{key!r} differs from the commit {commit[:12]}: {_UNCOMMITTED}")


def check_judged(settings: Settings, commit: str, promotion: Promoted) -> None:
    """Check that the promotion was judged by the baseline and on the eval set of ``commit``, beside
    its corpus.

    Raises:
        Refused: it was judged by other ones, for example by a file that was edited meanwhile.
    """
    baseline, tracked = (
        git_files.file_at(settings.root, commit, path) or b"" for path in _files(settings)
    )
    where, name = str(_files(settings)[1]), settings.eval_set.name
    committed: dict[str, list[str | None]] = {
        "baseline_sha256": [
            hashlib.sha256(raw).hexdigest() for raw in git_files.checked_out(baseline)
        ],
        "eval_set_dvc_hash": [tracked_hash(tracked, where, name)],
        "corpus_dvc_hash": [_corpus_hash(settings, commit)],
    }
    evidence = promotion.evidence
    for key, values in committed.items():
        if not isinstance(evidence, Evidence) or getattr(evidence, key) not in values:
            raise Refused(f"{key} differs from the commit {commit[:12]}: {_UNCOMMITTED}")


def check_current(settings: Settings, commit: str, ref: str) -> None:
    """Check that the gate inputs, the gate's code and CODEOWNERS are unchanged on ``ref`` of the
    remote since ``commit``.

    Raises:
        Refused: they have changed.
        SystemFailed: the remote could not be reached.
    """
    tip = git_files.tip(settings.root, ref)
    if tip == commit:
        return
    changed = changes(settings, commit, tip)
    changed += git_files.changed(settings.root, commit, tip, _CODE)
    if changed:
        more = f" and {len(changed) - _LISTED} more" if len(changed) > _LISTED else ""
        raise Refused(
            f"{ref} has moved from {commit[:12]} to {tip[:12]}, which changes "
            f"{', '.join(changed[:_LISTED])}{more}: the verdict would use outdated gate inputs. "
            "Start a new workflow run."
        )


def changes(settings: Settings, old: str, new: str) -> list[str]:
    """The gate inputs that differ between two commits."""
    root, pyproject = settings.root, settings.root / "pyproject.toml"
    changed = [
        str(path.relative_to(root))
        for path in (*_files(settings), *_corpus_files(settings))
        if git_files.file_at(root, new, path) != git_files.file_at(root, old, path)
    ]
    if _table(root, new, pyproject) != _table(root, old, pyproject):
        changed.append("[tool.lynx_pipeline] in pyproject.toml")
    return changed


def _check_file(root: Path, commit: str, path: Path) -> None:
    """Check that the file on disk is the committed one. Only its line endings may differ, which
    mean nothing in JSON, YAML and TOML. Other conversions at checkout are not followed: what a
    filter program makes of a file is up to whoever configured it."""
    name = path.relative_to(root)
    on_disk, committed = read_bytes(path, str(name)), git_files.file_at(root, commit, path)
    if committed is not None and on_disk in git_files.checked_out(committed):
        return
    attribute = git_files.conversion(root, path)
    if committed is None or attribute is None:
        raise Refused(f"{name} differs from the commit {commit[:12]}: {_UNCOMMITTED}")
    raise Refused(
        f"{name} differs from the commit {commit[:12]}: either it was edited and not committed, or "
        f"its git attribute {attribute!r} changes it at checkout. prod uses files exactly as they "
        f"are committed: in {root}, add the line '{name} -filter -ident -working-tree-encoding' to "
        f"the end of .gitattributes, run 'git add --renormalize {name}', and commit both."
    )


def _files(settings: Settings) -> tuple[Path, Path]:
    return settings.baseline, dvc_file(settings.eval_set)


def _corpus_files(settings: Settings) -> tuple[Path, ...]:
    return () if settings.corpus is None else (dvc_file(settings.corpus),)


def _corpus_hash(settings: Settings, commit: str) -> str | None:
    if settings.corpus is None:
        return None
    (file,) = _corpus_files(settings)
    raw = git_files.file_at(settings.root, commit, file) or b""
    return tracked_hash(raw, str(file), settings.corpus.name)


def _table(root: Path, commit: str, path: Path) -> Any:
    raw = git_files.file_at(root, commit, path)
    try:
        return tomllib.loads((raw or b"").decode())["tool"]["lynx_pipeline"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
