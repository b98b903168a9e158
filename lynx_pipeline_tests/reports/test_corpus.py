"""What the reports say of the eval set and the corpus."""

import pytest

from lynx_pipeline.domain.corpus import CorpusFindings, Overlap, Shift
from lynx_pipeline.reports.markdown import LONGEST, markdown
from lynx_pipeline.reports.page import page
from lynx_pipeline.reports.report import CORPUS_TITLE, Report
from lynx_pipeline.reports.terminal import print_report
from lynx_pipeline.reports.verdict_json import corpus_json
from lynx_pipeline_tests.reports.test_reports import REFUSED, flipped

HOSTILE = "[red] <img src=x> @team `a`\n\x1b[2J"
FOUND = CorpusFindings(
    items=1200,
    lines=5000,
    overlap=Overlap(12, 7, 5, 3, tuple((f"i{k}", HOSTILE) for k in range(10))),
    shifts=(Shift("verb", 0.31, 0.02, 20, 5000), Shift("tense", 0.04, 0.01, 5, 5000)),
)
OVERLAP = (
    "12 of the 1200 questions are in the corpus of 5000 lines, 7 of them word for word. 5 are there"
)
SHIFT = "verb 0.310 (different shares), tense 0.040 (same shares)"


def test_every_format_has_the_section(capsys: pytest.CaptureFixture[str]) -> None:
    """The terminal, the comment, the UI and the page say the same."""
    report = Report(REFUSED, corpus=FOUND)
    print_report(report)
    texts = [capsys.readouterr().out, page(report)]
    plain = [text.replace("&#40;", "(").replace("&#41;", ")").replace("&#58;", ":") for text in
             (markdown(report), markdown(report, folded=False))]  # fmt: skip
    for text in (*texts, *plain):
        assert OVERLAP in text
        assert SHIFT in text
        assert "and 2 more." in text
    for text in (*plain, texts[1]):
        assert CORPUS_TITLE in text


def test_a_prompt_from_the_corpus_is_only_text(capsys: pytest.CaptureFixture[str]) -> None:
    """It becomes no markup, no mention and no control sequence."""
    report = Report(REFUSED, corpus=FOUND)
    print_report(report)
    assert "\x1b[2J" not in capsys.readouterr().out
    assert "<img" not in page(report) + markdown(report)
    assert "@team" not in markdown(report)


def test_a_comment_stays_short_enough() -> None:
    """Also with many flipped answers and a long list of dimensions."""
    shifts = tuple(Shift(f"{'_' * 60}{k}", 0.3, 0.1, 9, 9) for k in range(500))
    findings = CorpusFindings(9, 9, FOUND.overlap, shifts)
    flips = flipped(3000, prompt="<" * 300)
    report = Report(REFUSED, flips.comparison, 0.25, flips.false_refusal_rates, {}, findings)
    assert len(markdown(report)) < LONGEST


def test_a_report_without_corpus_does_not_mention_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Projects without one see what they always saw."""
    report = Report(REFUSED)
    print_report(report)
    for text in (capsys.readouterr().out, markdown(report), page(report)):
        assert "corpus" not in text.lower()


def test_the_findings_as_json() -> None:
    """Numbers stay numbers."""
    values = corpus_json(FOUND)
    assert (values["not_in_corpus"], values["represents_corpus"]) == (False, False)
    assert values["overlap"]["examples"][0] == {"id": "i0", "prompt": HOSTILE}
    assert values["shifts"][0] == {
        "dimension": "verb",
        "index": 0.31,
        "by_chance": 0.02,
        "values": 20,
        "lines": 5000,
        "result": "different shares",
    }
