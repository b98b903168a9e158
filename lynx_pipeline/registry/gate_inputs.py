"""Gate inputs: baseline, eval set, corpus and settings. In prod the gate uses only committed ones.

A promotion with an uncommitted edit is refused. So is one with a baseline that the branch has
replaced since: a workflow run that is repeated weeks later uses its old commit.
"""

import hashlib
import os
import tomllib
from operator import attrgetter
from pathlib import Path
from typing import Any

from lynx_pipeline.adapters import git_files
from lynx_pipeline.adapters.dvc import repository
from lynx_pipeline.adapters.dvc_data import recorded_md5
from lynx_pipeline.adapters.dvc_files import AtCommit, OnDisk, find, find_if_tracked
from lynx_pipeline.adapters.files import read_bytes
from lynx_pipeline.config import Settings, load_committed, load_each, load_each_committed
from lynx_pipeline.config.models import tables
from lynx_pipeline.domain.ledger.facts import Evidence, Promoted
from lynx_pipeline.errors import BadInput, Refused

_UNCOMMITTED = (
    "it was edited and not committed. prod uses committed files only; restore it with git."
)
_SETTINGS = (
    *("model", "eval_set", "baseline", "registry", "identity", "price_per_hour"),
    *("artifact_locations", "bundle_store", "corpus", "corpus_checks"),
    *("scorer", "judges", "signatures", "witnesses", "evaluation.answer_column"),
    "requests_per_day",
)
_LISTED = 5


def check_committed(settings: Settings, commit: str) -> None:
    """Check that baseline, eval set, corpus and settings, on disk and in use, are those of the
    checked-out ``commit``.

    Raises:
        Refused: one of them was changed, or is not committed.
    """
    pyproject = settings.root / "pyproject.toml"
    files = AtCommit(settings.root, commit)
    data = {path: find(path, OnDisk()) for path in _data(settings)}
    records = [tracked.record for tracked in data.values()]
    for path in (settings.baseline, *records, pyproject, *_dvc_config(settings)):
        _check_file(settings.root, commit, path)
    for path, tracked in data.items():
        if find_if_tracked(path, files) != tracked:
            raise Refused(
                f"DVC's record of {path.name} differs from the commit {commit[:12]}: {_UNCOMMITTED}"
            )
    raw = git_files.file_at(settings.root, commit, pyproject) or b""
    committed = load_committed(settings, raw)
    for key in _SETTINGS:
        value = attrgetter(key)
        if value(settings) != value(committed):
            raise Refused(f"{key!r} differs from the commit {commit[:12]}: {_UNCOMMITTED}")


def check_judged(settings: Settings, commit: str, promotion: Promoted) -> None:
    """Check that the promotion was judged with the baseline, eval set and corpus of ``commit``.

    Raises:
        Refused: it was judged by other ones, for example by a file that was edited meanwhile.
    """
    files = AtCommit(settings.root, commit)
    baseline = files.read(settings.baseline) or b""
    corpus = settings.corpus
    committed: dict[str, list[str | None]] = {
        "baseline_sha256": [
            hashlib.sha256(raw).hexdigest() for raw in git_files.checked_out(baseline)
        ],
        "eval_set_dvc_hash": [recorded_md5(find(settings.eval_set, files))],
        "corpus_dvc_hash": [None if corpus is None else recorded_md5(find(corpus, files))],
    }
    evidence = promotion.evidence
    for key, values in committed.items():
        if not isinstance(evidence, Evidence) or getattr(evidence, key) not in values:
            raise Refused(f"{key} differs from the commit {commit[:12]}: {_UNCOMMITTED}")


def check_current(settings: Settings, commit: str, ref: str) -> None:
    """Check that the gate inputs and the judges are unchanged on ``ref`` of the remote since
    ``commit``.

    Raises:
        Refused: they have changed.
        SystemFailed: the remote could not be reached.
    """
    tip = git_files.tip(settings.root, ref)
    if tip == commit:
        return
    changed = changes(settings, commit, tip)
    changed += git_files.changed(settings.root, commit, tip, settings.judges)
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
    before, after = AtCommit(root, old), AtCommit(root, new)
    changed = [settings.baseline, *_dvc_config(settings)]
    changed = [it for it in changed if before.read(it) != after.read(it)]
    for path in _data(settings):
        records = [find_if_tracked(path, files) for files in (before, after)]
        # dvc.lock changes with every stage, so only its record of this file counts.
        own = {it.record for it in records if it is not None and it.stage is None}
        own = {it for it in own if before.read(it) != after.read(it)}
        if records[0] != records[1]:
            own |= {it.record for it in records if it is not None}
        changed += sorted(own)
    names = [os.path.relpath(path, root) for path in dict.fromkeys(changed)]
    if _table(settings, new, pyproject) != _table(settings, old, pyproject):
        names.append("[tool.lynx_pipeline] in pyproject.toml")
    return names


def reviewed_changes(base: str) -> list[tuple[Settings, list[str]]]:
    """The gate inputs that differ between ``base`` and the checkout, for each model of either. A
    model that was removed counts: its baseline could be changed unseen, and the model added again.
    So does a baseline whose file is not the commit's, because git converts it, or a link leads to
    it: the checks read the file.

    Raises:
        BadInput: ``base`` is not a commit, or the settings are invalid.
    """
    found = []
    models = load_each()
    for settings in models:
        changed = changes(settings, base, "HEAD")
        try:
            _check_file(settings.root, "HEAD", settings.baseline)
        except Refused:
            name = os.path.relpath(settings.baseline, settings.root)
            changed += [] if name in changed else [name]
        found.append((settings, changed))
    return found + [(it, changes(it, base, "HEAD")) for it in _removed(models, base)]


def _removed(models: list[Settings], base: str) -> list[Settings]:
    """The models that the project had at ``base``, and has no longer."""
    one, names = models[0], {it.model for it in load_each({})}
    raw = git_files.file_at(one.root, base, one.root / "pyproject.toml")
    try:
        before = load_each_committed(one, raw or b"")
    except BadInput:  # no settings, or not today's form: then each model's table has changed
        return []
    return [it for it in before if it.model not in names]


def _check_file(root: Path, commit: str, path: Path) -> None:
    """Check that the file on disk is the committed one. Only its line endings may differ, which
    mean nothing in JSON, YAML and TOML. Other conversions at checkout are not followed: what a
    filter program makes of a file is up to whoever configured it."""
    name = os.path.relpath(path, root)
    on_disk, committed = read_bytes(path, name), AtCommit(root, commit).read(path)
    if committed is not None and on_disk in git_files.checked_out(committed):
        return
    attribute = git_files.conversion(repository(path) or root, path)
    if committed is None or attribute is None:
        raise Refused(f"{name} differs from the commit {commit[:12]}: {_UNCOMMITTED}")
    raise Refused(
        f"{name} differs from the commit {commit[:12]}: either it was edited and not committed, or "
        f"its git attribute {attribute!r} changes it at checkout. prod uses files exactly as they "
        f"are committed: in {root}, add the line '{name} -filter -ident -working-tree-encoding' to "
        f"the end of .gitattributes, run 'git add --renormalize {name}', and commit both."
    )


def _data(settings: Settings) -> tuple[Path, ...]:
    """The data files that DVC tracks."""
    return (settings.eval_set, *([settings.corpus] if settings.corpus else []))


def _dvc_config(settings: Settings) -> list[Path]:
    """DVC's configuration, if it says where promoted bundles are kept. Otherwise it only says where
    data comes from, whose hashes are committed."""
    root = repository(settings.root / "pyproject.toml")
    named = str(settings.bundle_store).startswith("remote://")
    return [root / ".dvc" / "config"] if root is not None and named else []


def _table(settings: Settings, commit: str, path: Path) -> Any:
    """The table of this model; another model's may change."""
    raw = git_files.file_at(settings.root, commit, path)
    try:
        table = tomllib.loads((raw or b"").decode())["tool"]["lynx_pipeline"]
        return tables(table, str(path)).get(settings.model if settings.gate else "")
    except (ValueError, KeyError, TypeError, RecursionError, BadInput):
        return None
