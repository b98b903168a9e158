"""A promotion in a project with a corpus: what it records, and what blocking checks refuse."""

import json
from dataclasses import replace

import pytest

from lynx_pipeline.config import load_settings
from lynx_pipeline.domain.corpus import CorpusFindings
from lynx_pipeline.domain.ledger.facts import to_json
from lynx_pipeline.errors import BadInput, LynxError, Refused, SystemFailed
from lynx_pipeline.evaluation.corpus import CorpusRefused
from lynx_pipeline.evaluation.evidence import EVAL
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.audit import Audit, audit
from lynx_pipeline.reports.audit import audit_json, print_audit
from lynx_pipeline_tests.support.builders import JsonObject, md5, sha256
from lynx_pipeline_tests.support.corpora import FILE, LEAKED, LINES, configure_corpus, write_corpus
from lynx_pipeline_tests.support.world import Made, World

V = "v0.1.0-dev"


def with_corpus(world: World, checks: str, lines: list[JsonObject] = LINES) -> World:
    """The project with this corpus."""
    write_corpus(world.settings.root, lines)
    configure_corpus(world.settings.root, checks)
    return replace(
        world,
        settings=load_settings(world.settings.root, {"MLFLOW_TRACKING_URI": world.tracking.uri}),
    )


def name_corpus(made: Made, raw: bytes) -> None:
    """Let the evidence name the corpus with these bytes, as the pipeline's evaluation does."""
    file = made.evidence / EVAL
    corpus = {"corpus_dvc_hash": md5(raw), "corpus_sha256": sha256(raw)}
    file.write_text(json.dumps({**json.loads(file.read_bytes()), **corpus}))


def audited(world: World) -> Audit:
    """The version's audit."""
    return audit(Registry.open(world.settings), V)


@pytest.mark.parametrize("checks", ["warn", "blocking"])
@pytest.mark.parametrize("named", [False, True], ids=["evaluated alone", "evaluated with it"])
def test_a_promotion_records_the_corpus(world: World, checks: str, named: bool) -> None:
    """Also where a folder was evaluated, whose evidence names none. The audit compares again."""
    world = with_corpus(world, checks)
    raw = (world.settings.root / FILE).read_bytes()
    good = world.candidate("good")
    if named:
        name_corpus(good, raw)
    recorded = to_json(world.promote(good, V).fact)["evidence"]
    assert (recorded["corpus_dvc_hash"], recorded["corpus_sha256"]) == (md5(raw), sha256(raw))
    found = audited(world)
    assert found.findings == ()
    assert isinstance(found.corpus, CorpusFindings)
    assert (found.corpus.separate, found.corpus.lines) == (True, len(LINES))


def test_a_project_without_corpus_records_none(world: World) -> None:
    """Its entries have the keys that they always had, and its audits too."""
    entry = world.promote(world.candidate("good"), V)
    assert not any("corpus" in key for key in to_json(entry.fact)["evidence"])
    found = audited(world)
    assert found.corpus is None
    assert "corpus" not in audit_json(found)


def test_warning_checks_promote_whatever_they_find(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """The audit says what was found, and is no less passed for it."""
    world = with_corpus(world, "warn", [*LINES, LEAKED])
    world.promote(world.candidate("good"), V)
    found = audited(world)
    assert found.findings == ()
    print_audit(found)
    printed = capsys.readouterr().out
    assert "1 of the 12 questions are in the corpus of 11 lines" in printed
    assert "Audit passed" in printed
    assert audit_json(found)["corpus"]["overlap"]["pairs"] == 1


LOPSIDED: list[JsonObject] = [{"prompt": f"x{k}", "buckets": {"half": "a"}} for k in range(99)]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([*LINES, LEAKED], "the corpus checks refused: 1 of the 12 questions are in the corpus"),
        (LOPSIDED, r"the corpus checks refused: Population stability index .* half 2\.\d+ \(diff"),
    ],
    ids=["a leaked question", "other shares"],
)
def test_blocking_checks_refuse(world: World, lines: list[JsonObject], message: str) -> None:
    """Where the registry changes, whatever a stored result or a check said."""
    world = with_corpus(world, "blocking", lines)
    good = world.candidate("good")
    before = world.state
    for _ in range(2):  # the second time from the stored result
        with pytest.raises(CorpusRefused, match=message):
            world.promote(good, V)
    assert world.state == before
    # A bad candidate is refused for its answers, as everywhere.
    with pytest.raises(Refused, match="the gate refused"):
        world.promote(world.candidate("bad", wrong=5), V)


@pytest.mark.parametrize(
    ("raw", "error", "message"),
    [
        (None, SystemFailed, "DVC could not pull it"),
        (b'{"prompt": 1}\n', BadInput, "line 1: 'prompt': expected a string"),
        (b'{"prompt": "a", "buckets": {"tense": "x"}}', BadInput, "has no dimension 'tense'"),
        (b"", BadInput, "the corpus contains no lines"),
    ],
    ids=["missing", "not a corpus", "unknown dimension", "empty"],
)
def test_blocking_checks_that_cannot_be_made_stop_the_promotion(
    world: World, raw: bytes | None, error: type[LynxError], message: str
) -> None:
    """And nothing changes."""
    world = with_corpus(world, "blocking")
    good, file = world.candidate("good"), world.settings.root / FILE
    if raw is None:
        file.unlink()
    else:
        file.write_bytes(raw)
        dvc_file = file.with_name(f"{file.name}.dvc")
        dvc_file.write_text(dvc_file.read_text().replace(md5(_raw()), md5(raw)))
    before = world.state
    with pytest.raises(error, match=message):
        world.promote(good, V)
    assert world.state == before


def _raw() -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in LINES)


def test_evidence_beside_another_corpus_is_out_of_date(world: World) -> None:
    """Also if the project has no corpus any more."""
    good = world.candidate("good")
    name_corpus(good, b"another")
    for it in (world, with_corpus(world, "warn")):
        with pytest.raises(BadInput, match="the corpus has changed since the evaluation"):
            it.promote(good, V)


def test_an_audit_says_if_the_corpus_is_gone(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hash stays recorded. The verdict does not depend on it."""
    world = with_corpus(world, "warn")
    world.promote(world.candidate("good"), V)
    write_corpus(world.settings.root, LINES[1:])
    found = audited(world)
    assert found.findings == ()
    print_audit(found)
    printed = capsys.readouterr().out
    assert "Note: the comparison with the corpus can't be repeated: " in printed
    assert f"evidence    corpus_sha256 {sha256(_raw())}" in printed
    assert audit_json(found)["corpus"]["problem"] in printed
