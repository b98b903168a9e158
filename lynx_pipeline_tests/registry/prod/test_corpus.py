"""In prod, blocking corpus checks use the committed corpus and the committed setting."""

from collections.abc import Callable

import pytest

from lynx_pipeline.domain.corpus import CorpusFindings
from lynx_pipeline.domain.ledger.facts import Evidence
from lynx_pipeline.errors import BadInput, LynxError, Refused
from lynx_pipeline.evaluation import corpus
from lynx_pipeline.evaluation.corpus import CorpusRefused
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.audit import audit
from lynx_pipeline_tests.registry.prod.conftest import PYPROJECT, Prod
from lynx_pipeline_tests.registry.prod.judging import after_judging
from lynx_pipeline_tests.support.builders import md5
from lynx_pipeline_tests.support.corpora import FILE, LEAKED, LINES, configure_corpus, write_corpus

pytestmark = pytest.mark.slow

V = "v0.1.0"


@pytest.fixture
def prod(prod: Prod, monkeypatch: pytest.MonkeyPatch) -> Prod:
    """A project whose committed corpus contains a question, with blocking checks."""
    monkeypatch.setattr(corpus, "_scans", {})
    write_corpus(prod.root, [*LINES, LEAKED])
    configure_corpus(prod.root, "blocking")
    prod.edit(".gitignore", "data/eval.jsonl\n", f"data/eval.jsonl\n{FILE}\n")
    prod.commit()
    prod.issue_tokens_for_head()
    return prod


def clean(prod: Prod) -> None:
    """Commit a corpus without the question."""
    write_corpus(prod.root)
    prod.commit()
    prod.issue_tokens_for_head()


def test_a_leaked_question_is_refused(prod: Prod) -> None:
    """With the committed corpus replaced, the same candidate is promoted, and the audit passes."""
    good = prod.candidate("good")
    with pytest.raises(CorpusRefused, match="1 of the 12 questions are in the corpus"):
        prod.promote(good, V)
    assert prod.place.all() == {}
    clean(prod)
    promotion = prod.promote(good, V).fact
    assert isinstance(promotion.evidence, Evidence)
    assert promotion.evidence.corpus_dvc_hash == md5((prod.root / FILE).read_bytes())
    assert audit(Registry.open(prod.prod), V).findings == ()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda p: write_corpus(p.root), Refused, rf"^{FILE}\.dvc differs from the commit"),
        (
            lambda p: configure_corpus(p.root, "warn"),
            Refused,
            rf"^{PYPROJECT} differs from the commit",
        ),
        (
            lambda p: p.edit(PYPROJECT, 'corpus_checks = "blocking"\n', ""),
            Refused,
            rf"^{PYPROJECT} differs from the commit",
        ),
        (lambda p: p.write(FILE, '{"prompt": "x"}\n'), BadInput, "the file was changed"),
        (lambda p: (p.root / f"{FILE}.dvc").unlink(), LynxError, rf"{FILE}\.dvc"),
    ],
    ids=["another corpus", "only warn", "default", "other bytes", "no .dvc file"],
)
def test_what_is_not_committed_does_not_count(
    prod: Prod, change: Callable[[Prod], object], error: type[LynxError], message: str
) -> None:
    """Nobody can replace the corpus, or switch its checks off, on the machine that promotes."""
    good = prod.candidate("good")
    change(prod)
    with pytest.raises(error, match=message):
        prod.promote(good, V)
    assert prod.place.all() == {}


def test_a_corpus_swapped_in_for_judging_is_refused(
    prod: Prod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry names the corpus that was checked, and that has to be the committed one."""
    good = prod.candidate("good")
    real = corpus.read_corpus

    def swap(*arguments: object) -> object:
        write_corpus(prod.root)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(corpus, "read_corpus", swap)
    after_judging(monkeypatch, lambda: write_corpus(prod.root, [*LINES, LEAKED]))
    with pytest.raises(Refused, match=r"^corpus_dvc_hash differs from the commit"):
        prod.promote(good, V)
    assert prod.place.all() == {}


def test_a_corpus_that_the_branch_has_replaced_is_a_refusal(prod: Prod) -> None:
    """A workflow run that is repeated later would use the old one."""
    clean(prod)
    good = prod.candidate("good")
    colleague = prod.colleague
    write_corpus(colleague.root, LINES[1:])
    colleague.commit()
    with pytest.raises(Refused, match=rf"which changes {FILE}\.dvc: "):
        prod.promote(good, V)
    assert prod.place.all() == {}


def test_the_audit_repeats_blocking_checks(prod: Prod, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that they should have refused is a finding, and so is a corpus that is gone."""
    good = prod.candidate("good")
    with monkeypatch.context() as patch:
        patch.setattr(CorpusFindings, "objections", ())
        prod.promote(good, V)
    (finding,) = audit(Registry.open(prod.prod), V).findings
    assert finding.startswith("1 of the 12 questions are in the corpus of 11 lines")
    (prod.root / FILE).unlink()
    (finding,) = audit(Registry.open(prod.prod), V).findings
    assert finding.startswith("the comparison with the corpus can't be repeated: ")
