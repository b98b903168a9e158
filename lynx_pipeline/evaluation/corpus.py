"""The project's corpus: pulled and hashed with the eval set, and compared with it.

The corpus is read line by line, so it may be larger than the memory. A comparison is computed once
for the same eval set, corpus and scorer. In ``dev`` it is also kept in ``LYNX_HOME/corpus``. In
``prod`` nothing is read from there, because anybody who can write to the state folder could put a
better result there; only this process remembers it.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path

from lynx_pipeline.adapters.dvc_data import check_hash, digests, pulled
from lynx_pipeline.adapters.dvc_versions import read_version
from lynx_pipeline.adapters.files import read_bytes, write_atomic
from lynx_pipeline.config import BLOCKING, Settings
from lynx_pipeline.domain.corpus import (
    BucketCounts,
    CorpusDigests,
    CorpusFindings,
    CorpusScan,
    compare,
    dimensions_of,
    parse_corpus,
    read_scan,
)
from lynx_pipeline.domain.strict_json import LONGEST
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline.evaluation.storage import StoredEvalSet

_BLOCK = 1 << 20
_scans: dict[tuple[str, str, str], CorpusScan] = {}


class CorpusRefused(Refused):
    """The eval set and the corpus fail the corpus checks, and the project lets them block."""

    def __init__(self, findings: CorpusFindings, path: Path) -> None:
        super().__init__(
            f"the corpus checks refused: {' '.join(findings.objections)} The settings say "
            f'corpus_checks = "{BLOCKING}". Change the eval set or {path.name}, and propose a new '
            "baseline if the eval set changes."
        )


def read_corpus(settings: Settings) -> CorpusDigests | None:
    """The digests of the project's corpus, pulled if it is missing; None if it has none.

    Raises:
        BadInput: the bytes are not the ones that DVC recorded.
        SystemFailed: DVC could not deliver it.
    """
    if settings.corpus is None:
        return None
    tracked = pulled(settings.corpus)
    dvc_hash, sha256 = digests(settings.corpus)
    check_hash(tracked, dvc_hash)
    return CorpusDigests(dvc_hash, sha256)


def corpus_findings(settings: Settings, eval_set: StoredEvalSet) -> CorpusFindings | None:
    """The eval set compared with the project's corpus; None if it has none.

    Raises:
        BadInput: the bytes are not the ones that DVC recorded, or are not a corpus.
        SystemFailed: DVC could not deliver it.
    """
    corpus = read_corpus(settings)
    return None if corpus is None else _findings(settings, eval_set, corpus)


def check_corpus(settings: Settings, eval_set: StoredEvalSet) -> CorpusDigests | None:
    """The digests of the project's corpus, as :func:`read_corpus`, after the corpus checks if the
    settings let them block.

    Raises:
        CorpusRefused: they fail.
        BadInput: the bytes are not the ones that DVC recorded, or are not a corpus.
        SystemFailed: DVC could not deliver it.
    """
    corpus = read_corpus(settings)
    if corpus is not None and settings.corpus_checks == BLOCKING:
        findings = _findings(settings, eval_set, corpus)
        if findings.objections:
            assert settings.corpus is not None
            raise CorpusRefused(findings, settings.corpus)
    return corpus


def findings_of(
    settings: Settings, eval_set: StoredEvalSet, corpus: CorpusDigests
) -> CorpusFindings:
    """The eval set compared with the corpus that has these digests. If it is not the one on disk,
    it is read into memory from DVC's cache or remote.

    Raises:
        BadInput: it can't be found, the file with its MD5 has other bytes, or it is not a corpus.
        SystemFailed: DVC could not be reached.
    """
    path = settings.corpus
    if path is not None and path.is_file() and astuple(corpus) == digests(path):
        return _findings(settings, eval_set, corpus)
    # Without the setting, any file says which project's cache and remote to look in.
    raw = read_version(
        path or settings.root / "pyproject.toml", corpus.dvc_hash, corpus.sha256, "the corpus"
    )
    return compare(eval_set, _scan(eval_set, io.BytesIO(raw), f"the corpus {corpus.dvc_hash}"))


def compare_with_file(eval_set: StoredEvalSet, corpus: Path) -> CorpusFindings:
    """The eval set compared with a corpus in a plain file.

    Raises:
        BadInput: there is no such file, or it is not a corpus.
    """
    if not corpus.is_file():
        raise BadInput(f"there is no corpus file {corpus}. Check the path after --corpus.")
    return compare(eval_set, _scan(eval_set, _lines(corpus, None), str(corpus)))


def _findings(settings: Settings, eval_set: StoredEvalSet, corpus: CorpusDigests) -> CorpusFindings:
    key = eval_set.sha256, corpus.sha256, eval_set.scorer.name
    if key not in _scans:
        _scans[key] = _stored_scan(settings, eval_set, corpus)
    return compare(eval_set, _scans[key])


def _stored_scan(settings: Settings, eval_set: StoredEvalSet, corpus: CorpusDigests) -> CorpusScan:
    path = settings.corpus
    assert path is not None
    scorer = eval_set.scorer.name.replace("/", "-")
    file = settings.home / "corpus" / f"{eval_set.sha256}.{corpus.sha256}.{scorer}.json"
    if settings.env is not Env.PROD:
        with suppress(BadInput):  # missing, or written by another version
            return read_scan(read_bytes(file, "the corpus was not scanned", LONGEST), str(file))
    scan = _scan(eval_set, _lines(path, corpus.sha256), str(path))
    if settings.env is not Env.PROD:
        write_atomic(file, json.dumps(scan.to_json()).encode())
    return scan


def _scan(eval_set: StoredEvalSet, raw: Iterable[bytes], where: str) -> CorpusScan:
    counts = BucketCounts()
    lines = parse_corpus(raw, where, dimensions_of(eval_set), eval_set.inputs)
    overlap = eval_set.overlap(counts.counting(lines))
    return CorpusScan(counts.lines, overlap, counts.buckets)


def _lines(path: Path, sha256: str | None) -> Iterator[bytes]:
    """The file's lines, checked at the end to be the bytes that were hashed, if ``sha256`` is
    given. A line that is too long to be parsed is passed on in part."""
    actual, rest = hashlib.sha256(), b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            actual.update(block)
            first, *others = block.split(b"\n")
            rest += first
            for line in others:
                yield rest
                rest = line
            if len(rest) > LONGEST:
                break
    if rest:
        yield rest
    if sha256 not in (None, actual.hexdigest()):
        raise BadInput(f"{path}: it changed while it was being read. Run this again.")
