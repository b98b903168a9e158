"""The eval set and the baseline, verified against each other before anything runs."""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from lynx_pipeline.adapters import git_files
from lynx_pipeline.adapters.dvc_data import (
    DataFile,
    check_hash,
    digest,
    digests,
    pulled,
    read_versioned,
)
from lynx_pipeline.adapters.dvc_versions import read_version
from lynx_pipeline.adapters.files import read_bytes, read_json_bytes
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.eval_set import Questions, bucket_sizes, parse_eval_set
from lynx_pipeline.domain.file_kinds import quoted
from lynx_pipeline.domain.gate.baseline import Baseline, parse_baseline
from lynx_pipeline.domain.scorers import Scorer
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline.evaluation.storage import StoredEvalSet
from lynx_pipeline.evaluation.storage.large import LARGE, LargeEvalSet, build
from lynx_pipeline.evaluation.storage.memory import SmallEvalSet


def read_eval_set(settings: Settings) -> StoredEvalSet:
    """The versioned eval set, pulled if it is missing.

    Raises:
        BadInput: the bytes are not the ones that DVC recorded, or are not an eval set.
        SystemFailed: DVC could not deliver it.
    """
    path = settings.eval_set
    tracked = pulled(path)
    if path.is_file() and path.stat().st_size > LARGE:
        dvc_hash, sha256 = digests(path)
        check_hash(tracked, dvc_hash)
        cache = _cache_file(settings, sha256, settings.scorer)
        return _large(path, dvc_hash, sha256, settings.scorer, cache)
    return _small(read_versioned(path), path, settings.scorer)


def read_eval_file(path: Path, scorer: Scorer) -> StoredEvalSet:
    """An eval set from a plain file, identified by its bytes alone."""
    if path.is_file() and path.stat().st_size > LARGE:
        return _large(path, *digests(path), scorer, None)
    return _small(digest(read_bytes(path, "the eval set")), path, scorer)


def read_eval_set_of(
    settings: Settings, dvc_hash: str, sha256: str, scorer: Scorer
) -> StoredEvalSet:
    """The eval set with these digests, from disk or from DVC's cache or remote. It may be another
    version than the one checked out, and ``scorer`` another one than the configured.

    Raises:
        BadInput: it can't be found, or the file with its MD5 has other bytes.
        SystemFailed: DVC could not be reached.
    """
    path, expected = settings.eval_set, (dvc_hash, sha256)
    data = None
    if path.is_file() and path.stat().st_size > LARGE:
        if digests(path) == expected:
            return _large(path, dvc_hash, sha256, scorer, _cache_file(settings, sha256, scorer))
    elif path.is_file():
        data = digest(read_bytes(path, "the eval set"))
    if data is None or (data.dvc_hash, data.sha256) != expected:
        data = digest(read_version(path, dvc_hash, sha256, "the eval set"))
    if len(data.raw) > LARGE:
        lines, cache = data.raw.split(b"\n"), _cache_file(settings, sha256, scorer)
        return build(lines, str(path), dvc_hash, sha256, scorer, cache)
    return _small(data, path, scorer)


def read_baseline(path: Path) -> Baseline:
    """The baseline.

    Raises:
        BadInput: it is missing or malformed.
    """
    try:
        raw = read_json_bytes(path, "no baseline, so nothing can be promoted")
    except BadInput:
        _check_encoding(path)
        raise
    return parse_baseline(raw, str(path))


def _check_encoding(path: Path) -> None:
    """Check that git does not convert a file to another encoding at checkout: to convert it back by
    hand would not help.

    Raises:
        BadInput: it does.
    """
    with suppress(SystemFailed):  # there may be no git repository
        attribute = git_files.conversion(path.parent, path) or ""
        if attribute.startswith("working-tree-encoding"):
            raise BadInput(
                f"{path}: its git attribute {attribute!r} changes it at checkout, and JSON has to "
                "be UTF-8. Remove the attribute from .gitattributes, delete the file, and run 'git "
                f"checkout {quoted(str(path))}'."
            )


def check_match(eval_set: Questions, baseline: Baseline) -> None:
    """Check that the baseline was measured on this eval set.

    Raises:
        BadInput: a digest, the scorer or a bucket's size differs.
    """
    if baseline.eval_set_dvc_hash != eval_set.dvc_hash:
        raise BadInput(
            f"the baseline was measured on the eval set {baseline.eval_set_dvc_hash}, but this "
            f"one is {eval_set.dvc_hash}. Check out the one it names, or propose a new baseline."
        )
    if baseline.eval_set_sha256 not in (None, eval_set.sha256):
        raise BadInput(
            f"the eval set has the MD5 that the baseline names, but its SHA-256 is "
            f"{eval_set.sha256}, expected {baseline.eval_set_sha256}: its bytes were forged. Pull "
            "it again."
        )
    if baseline.scorer is not eval_set.scorer:
        raise BadInput(
            f"the baseline was measured with the scorer {baseline.scorer.name}, but the project "
            f"uses {eval_set.scorer.name}. Set 'scorer' back, or propose a new baseline."
        )
    sizes = bucket_sizes(eval_set)
    for name, score in baseline.buckets.items():
        if name in sizes and sizes[name] != score.n:
            raise BadInput(
                f"bucket {name!r} has {sizes[name]} items in the eval set and n = {score.n} in "
                "the baseline. Propose a new baseline from an evaluation on this eval set."
            )


def matched_inputs(settings: Settings) -> tuple[StoredEvalSet, Baseline]:
    """Eval set and baseline, each verified, and the baseline measured on this eval set.

    Raises:
        BadInput: one is invalid, or they don't match.
        SystemFailed: DVC could not deliver the eval set.
    """
    baseline = read_baseline(settings.baseline)
    eval_set = read_eval_set(settings)
    check_match(eval_set, baseline)
    return eval_set, baseline


@lru_cache(maxsize=1)  # by all of its bytes: the steps of a run read and hash the same file
def _small(data: DataFile, path: Path, scorer: Scorer) -> SmallEvalSet:
    items = tuple(parse_eval_set(data.raw.split(b"\n"), str(path), scorer))
    return SmallEvalSet(items, data.dvc_hash, data.sha256, scorer)


def _large(
    path: Path, dvc_hash: str, sha256: str, scorer: Scorer, cache: Path | None
) -> LargeEvalSet:
    """Read the file a second time, and check that its bytes are the ones that were hashed."""
    return build(_checked_lines(path, sha256), str(path), dvc_hash, sha256, scorer, cache)


def _checked_lines(path: Path, sha256: str) -> Iterator[bytes]:
    actual = hashlib.sha256()
    with path.open("rb") as file:
        for line in file:
            actual.update(line)
            yield line
    if actual.hexdigest() != sha256:
        raise BadInput(f"{path}: it changed while it was being read. Run this again.")


def _cache_file(settings: Settings, sha256: str, scorer: Scorer) -> Path | None:
    """Where a large eval set is cached. In prod nothing is cached: anybody who can write to the
    state folder could change the right answers there."""
    if settings.env is Env.PROD:
        return None
    return settings.home / "eval_sets" / f"{sha256}.{scorer.name.replace('/', '-')}.parquet"
