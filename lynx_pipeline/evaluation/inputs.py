"""The eval set and the baseline, verified against each other before anything runs."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from lynx_pipeline.adapters.dvc_data import (
    DataFile,
    check_hash,
    digest,
    digests,
    pulled,
    read_object,
    read_versioned,
)
from lynx_pipeline.adapters.files import read_bytes
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.eval_set import EvalSet, Questions, bucket_sizes, parse_eval_set
from lynx_pipeline.domain.gate.baseline import Baseline, parse_baseline
from lynx_pipeline.domain.scorers import Scorer
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation.answers import AnyEvalSet
from lynx_pipeline.evaluation.storage.large import LARGE, LargeEvalSet, build


def read_eval_set(settings: Settings) -> AnyEvalSet:
    """The versioned eval set, pulled if it isn't there.

    Raises:
        BadInput: the bytes are not those that DVC recorded, or are no eval set.
        SystemFailed: DVC could not deliver it.
    """
    path = settings.eval_set
    expected = pulled(settings.root, path)
    if path.is_file() and path.stat().st_size > LARGE:
        dvc_hash, sha256 = digests(path)
        check_hash(path, dvc_hash, expected)
        keep = _keep(settings, sha256, settings.scorer)
        return _large(path, dvc_hash, sha256, settings.scorer, keep)
    return _parsed(read_versioned(settings.root, path), path, settings.scorer)


def read_eval_file(path: Path, scorer: Scorer) -> AnyEvalSet:
    """An eval set from a plain file, identified by its bytes alone."""
    if path.is_file() and path.stat().st_size > LARGE:
        return _large(path, *digests(path), scorer, None)
    return _parsed(digest(read_bytes(path, "the eval set")), path, scorer)


def read_eval_set_of(settings: Settings, dvc_hash: str, sha256: str, scorer: Scorer) -> AnyEvalSet:
    """The eval set with these digests, from disk or from DVC's cache or remote, whichever
    version is checked out, for ``scorer``, whichever is configured.

    Raises:
        BadInput: it is nowhere, or what is there under its MD5 has other bytes.
        SystemFailed: DVC could not be asked.
    """
    path, wanted = settings.eval_set, (dvc_hash, sha256)
    data = None
    if path.is_file() and path.stat().st_size > LARGE:
        if digests(path) == wanted:
            return _large(path, dvc_hash, sha256, scorer, _keep(settings, sha256, scorer))
    elif path.is_file():
        data = digest(read_bytes(path, "the eval set"))
    if data is None or (data.dvc_hash, data.sha256) != wanted:
        data = digest(read_object(settings.root, dvc_hash))
    if (data.dvc_hash, data.sha256) != wanted:
        raise BadInput(
            f"the eval set {dvc_hash} was to have the SHA-256 {sha256}, and what DVC keeps under "
            f"this name has {data.sha256}: it was changed. Restore it from a copy."
        )
    if len(data.raw) > LARGE:
        lines, keep = data.raw.split(b"\n"), _keep(settings, sha256, scorer)
        return build(lines, str(path), dvc_hash, sha256, scorer, keep)
    return _parsed(data, path, scorer)


def read_baseline(path: Path) -> Baseline:
    """The baseline.

    Raises:
        BadInput: there is none, or it is not what the format says.
    """
    return parse_baseline(read_bytes(path, "no baseline, so nothing can be promoted"), str(path))


def check_match(eval_set: Questions, baseline: Baseline) -> None:
    """That the baseline was measured on this eval set.

    Raises:
        BadInput: a digest, the scorer or a bucket's size differs.
    """
    if baseline.eval_set_dvc_hash != eval_set.dvc_hash:
        raise BadInput(
            f"the baseline was measured on the eval set {baseline.eval_set_dvc_hash}, the one "
            f"here is {eval_set.dvc_hash}. Check out the one it names, or propose a new baseline."
        )
    if baseline.eval_set_sha256 not in (None, eval_set.sha256):
        raise BadInput(
            f"the eval set has the MD5 that the baseline names but the SHA-256 {eval_set.sha256} "
            f"instead of {baseline.eval_set_sha256}: its bytes were forged. Pull it again."
        )
    if baseline.scorer is not eval_set.scorer:
        raise BadInput(
            f"the baseline was counted by the scorer {baseline.scorer.name}, the project's is "
            f"{eval_set.scorer.name}. Set 'scorer' back, or propose a new baseline."
        )
    sizes = bucket_sizes(eval_set)
    for name, score in baseline.buckets.items():
        if name in sizes and sizes[name] != score.n:
            raise BadInput(
                f"bucket {name!r} has {sizes[name]} items in the eval set and n = {score.n} in "
                "the baseline. Propose a new baseline from an evaluation on this eval set."
            )


def matched_inputs(settings: Settings) -> tuple[AnyEvalSet, Baseline]:
    """Eval set and baseline, each verified and both about the same bytes."""
    baseline = read_baseline(settings.baseline)
    eval_set = read_eval_set(settings)
    check_match(eval_set, baseline)
    return eval_set, baseline


def _parsed(data: DataFile, path: Path, scorer: Scorer) -> EvalSet:
    items = tuple(parse_eval_set(data.raw.split(b"\n"), str(path), scorer))
    return EvalSet(items, data.dvc_hash, data.sha256, scorer)


def _large(
    path: Path, dvc_hash: str, sha256: str, scorer: Scorer, keep: Path | None
) -> LargeEvalSet:
    """Read again, and what is read is what was hashed."""
    return build(_checked_lines(path, sha256), str(path), dvc_hash, sha256, scorer, keep)


def _checked_lines(path: Path, sha256: str) -> Iterator[bytes]:
    seen = hashlib.sha256()
    with path.open("rb") as file:
        for line in file:
            seen.update(line)
            yield line
    if seen.hexdigest() != sha256:
        raise BadInput(f"{path}: was changed while it was read. Run this again.")


def _keep(settings: Settings, sha256: str, scorer: Scorer) -> Path | None:
    """Where a large eval set is kept after it was read. In prod nothing is kept: whoever can write
    to the state folder could change questions there."""
    if settings.env is Env.PROD:
        return None
    return settings.home / "eval_sets" / f"{sha256}.{scorer.name.replace('/', '-')}.parquet"
