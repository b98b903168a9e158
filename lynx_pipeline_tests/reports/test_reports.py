"""Reports as terminal table, Markdown and HTML: complete, bounded and escaped."""

import html
import html.parser
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, cast
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.domain.eval_set import EvalSet, Item
from lynx_pipeline.domain.gate.baseline import Baseline
from lynx_pipeline.domain.gate.comparison import compare
from lynx_pipeline.domain.gate.power import BucketPower, GatePower
from lynx_pipeline.domain.gate.rule import Verdict, judge
from lynx_pipeline.domain.scorers import EXACT, normalise
from lynx_pipeline.domain.scores import Score, Scores
from lynx_pipeline.reports.figure import figure_file
from lynx_pipeline.reports.markdown import LONGEST, markdown
from lynx_pipeline.reports.page import page
from lynx_pipeline.reports.power import figure as power_figure
from lynx_pipeline.reports.power import print_power
from lynx_pipeline.reports.report import Report
from lynx_pipeline.reports.terminal import print_report
from lynx_pipeline.reports.verdict_json import verdict_json
from lynx_pipeline_tests.support.names import BUCKET_NAMES


def verdict_of(floors: dict[str, int], reached: dict[str, int], n: int = 100) -> Verdict:
    """The verdict for these right answers of ``n`` per bucket, with two points of tolerance."""
    committed = {name: Score.counted(k, n) for name, k in floors.items()}
    candidate = {name: Score.counted(k, n) for name, k in reached.items()}
    baseline = Baseline("s", "h", None, EXACT, "ref", None, Fraction(2, 100), None, None, committed)
    return judge(baseline, Scores("h", None, None, candidate))


REFUSED = verdict_of(
    {"t.kept": 90, "t.bad": 90, "t.worse": 90, "t.gone": 90},
    {"t.kept": 88, "t.bad": 87, "t.worse": 50, "t.new": 10},
)
REFUSED_NAMES = [bucket.name for bucket in REFUSED.buckets]


def flipped(count: int, prompt: str = "He ___ (go).", answer: str = "goed") -> Report:
    """A report of a refusal in which ``count`` answers went right to wrong."""
    items = tuple(Item(str(i), prompt, ("goes",), ("t.bad",)) for i in range(count))
    right = {item.id: "goes" for item in items}
    wrong = {item.id: answer for item in items}
    comparison = compare(EvalSet(items, "h", "s"), right, wrong)
    return Report(
        REFUSED, comparison, 0.25, dict.fromkeys(REFUSED_NAMES, 0.1), {"MLflow run": "abc"}
    )


def test_the_terminal_names_failures_worst_first(capsys: pytest.CaptureFixture[str]) -> None:
    """A missing bucket is worst, then the largest drop; passed buckets follow."""
    print_report(flipped(3), flips=2)
    out = capsys.readouterr().out
    rows = [line.split()[0] for line in out.splitlines() if line.startswith("t.")]
    assert rows == ["t.gone", "t.worse", "t.bad", "t.kept"]
    assert "t.worse: fell 40.00 points, 38.00 below its floor" in out
    assert "t.gone: the candidate has no such bucket" in out
    assert "REFUSED: 3 of 4 buckets" in out
    assert "not gated: t.new" in out
    assert "25% of the time" in out
    assert "3 answers went right to wrong. 2 of them:" in out
    assert out.count("was 'goes', now 'goed'") == 2


def test_a_long_bucket_name_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """The name may be wider than the terminal."""
    name = "topic." + "x" * 150
    print_report(Report(verdict_of({name: 90}, {name: 10})))
    assert name in capsys.readouterr().out


def test_a_bucket_name_is_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    """A name in brackets is printed as it is."""
    print_report(Report(verdict_of({"t.[red]x[/red]": 90}, {"t.[red]x[/red]": 90})))
    assert "t.[red]x[/red]" in capsys.readouterr().out


def test_markdown_folds_passed_buckets() -> None:
    """Failed buckets are visible. Passed buckets and flips are folded."""
    text = markdown(flipped(3))
    opened, folded = text.split("<details>", 1)
    assert "t.worse" in opened.replace("&#", "") or "t.worse" in opened
    assert "1 buckets kept their floor" in folded
    assert "3 answers went right to wrong" in folded
    assert "- MLflow run: `abc`" in opened
    assert "as good as the reference 25% of the time" in text
    assert "10.0%" in opened


@pytest.mark.parametrize(
    ("shows", "seen", "hidden"),
    [
        ("full", ["PROMPT", "EXPECTED", "CANDIDATE", "EXAMPLE"], []),
        ("prompts", ["PROMPT", "CANDIDATE", "EXAMPLE"], ["EXPECTED"]),
        ("counts", [], ["PROMPT", "EXPECTED", "CANDIDATE", "EXAMPLE"]),
    ],
)
def test_answers_are_shown_to_strangers_only_where_allowed(
    shows: str, seen: list[str], hidden: list[str]
) -> None:
    """The reference's answer is the expected one where the candidate lost it. How many changed is
    always shown, and so are the buckets."""
    items = (Item("1", "PROMPT", ("EXPECTED",), ("t.bad",)),)
    comparison = compare(EvalSet(items, "h", "s"), {"1": "EXPECTED"}, {"1": "CANDIDATE"})
    corpus = SimpleNamespace(texts=("12 questions, for example EXAMPLE", "PSI"))
    text = markdown(Report(REFUSED, comparison, corpus=cast("Any", corpus)), shows=shows)
    assert [word for word in seen if word not in text] == []
    assert [word for word in hidden if word in text] == []
    assert "1 answers went right to wrong" in text
    assert "t.worse" in text
    assert ("leaves out the expected answers" in text) == (shows != "full")


@pytest.mark.parametrize("count", [0, 1, 5_000])
@pytest.mark.parametrize("buckets", [1, 2_000])
def test_markdown_stays_under_githubs_limit(count: int, buckets: int) -> None:
    """A long report is cut, and says how many rows are missing."""
    floors = {f"verb.number_{i}_with_a_long_name": 90 for i in range(buckets)}
    for reached in (90, 10):
        verdict = verdict_of(floors, dict.fromkeys(floors, reached))
        report = Report(verdict, flipped(count, "x" * 300).comparison)
        text = markdown(report)
        assert len(text) < LONGEST
        assert ("more." in text) == (count == 5_000 or buckets == 2_000)


HOSTILE = st.text(max_size=60) | st.sampled_from(
    ["<script>alert(1)</script>", "@everyone", "](https://x.example)", "|a|b|", "```", "#1",
     "</details>", "${{ secrets.X }}", "<!--", "\u202e", "a\nb", "![x](y)", "&lt;"]
)  # fmt: skip
WRONG = HOSTILE.filter(lambda text: normalise(text) != "goes")


@given(prompt=HOSTILE, answer=WRONG)
def test_markdown_escapes_the_answers_of_a_model(prompt: str, answer: str) -> None:
    """No answer becomes a link, a mention, HTML, another cell or another line."""
    harmless = markdown(flipped(1, "p", "a"))
    text = markdown(flipped(1, prompt, answer))
    assert text.count("\n") == harmless.count("\n")
    (line,) = [li for li in text.splitlines() if li.endswith("|") and "| goes | goes |" in li]
    assert line.count("|") == 5
    assert not set("<>@`[]$") & set(line)


@given(BUCKET_NAMES)
def test_every_format_shows_a_bucket_with_any_name(name: str) -> None:
    """One row of the Markdown table, one cell of the page, and a well-formed figure."""
    report = Report(verdict_of({name: 90}, {name: 10, f"{name} 2": 10}))
    (line,) = [li for li in markdown(report).splitlines() if li.endswith("| FAILED |")]
    cells = [html.unescape(cell).strip() for cell in line.strip("|").split("|")]
    assert len(cells) == 8
    assert cells[0] == " ".join(name.split())
    shown = _Tags()
    shown.feed(page(report))
    assert name in shown.texts
    figure = ElementTree.fromstring(figure_file(report))  # our own bytes
    assert name in [text.text for text in figure.iter() if text.tag.endswith("text")]
    assert list(verdict_json(report.verdict)["buckets"]) == [name]
    drops = (0.0, 0.1)
    bucket = BucketPower(name, 60, 0.9, 1 / 60, 1, 0.3, None, 609, (0.3, 0.5))
    curves = power_figure(GatePower(0.02, (bucket,), 0.3, drops))
    titles = [it.text for it in ElementTree.fromstring(curves).iter() if it.tag.endswith("title")]
    assert titles == [f"{name}, n = 60"]


class _Tags(html.parser.HTMLParser):
    """Collects the tags, attributes and texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.texts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.outside += [v for k, v in attrs if k in {"src", "href", "onload"} and v]


@given(prompt=HOSTILE, answer=WRONG)
def test_the_page_is_self_contained_and_escaped(prompt: str, answer: str) -> None:
    """A hostile answer adds no tag, and nothing is loaded from elsewhere."""
    harmless, hostile = _Tags(), _Tags()
    harmless.feed(page(flipped(1, "p", "a")))
    hostile.feed(page(flipped(1, prompt, answer)))
    assert hostile.tags == harmless.tags
    assert hostile.outside == []
    assert "script" not in hostile.tags


def test_the_page_escapes_bucket_names_and_facts() -> None:
    """Bucket names and facts may be hostile, too."""
    hostile = "t.</title></svg><script src='x'>&\""
    harmless, escaped = _Tags(), _Tags()
    for name, tags in (("t.a", harmless), (hostile, escaped)):
        verdict = verdict_of({name: 90}, {name: 10, f"{name}.new": 10})
        tags.feed(page(Report(verdict, None, 0.5, {name: 0.5}, {name: name})))
    assert escaped.tags == harmless.tags
    assert escaped.outside == []


def test_the_page_draws_every_bucket() -> None:
    """One group per bucket, with its reason as a tooltip; a missing bucket says so."""
    text = page(flipped(2))
    assert text.count("<g><title>") == 4
    assert ">missing</text>" in text
    assert "prefers-color-scheme: dark" in text


def test_the_json_contains_every_bucket() -> None:
    """Programs can read the floor and the margin of each bucket."""
    data = verdict_json(REFUSED)
    assert data["passed"] is False
    assert data["failed"] == ["t.gone", "t.worse", "t.bad"]
    assert data["buckets"]["t.kept"]["margin"] == 0
    assert data["buckets"]["t.gone"]["candidate"] is None


def test_the_figure_shows_a_candidate_near_zero() -> None:
    """The axis starts below every value that is drawn."""
    text = page(Report(verdict_of({"t.a": 50}, {"t.a": 0})))
    assert ">0%</text>" in text


def test_the_power_table_explains_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """One row per bucket, then the gate's false-refusal rate and what each column means."""
    bucket = BucketPower("t.a", 60, 0.9, 1 / 60, 1, 0.3, None, 609)
    print_power(GatePower(0.02, (bucket,), 0.3))
    heading, row, *text = capsys.readouterr().out.splitlines()
    assert row.split() == ["t.a", "60", "90.00%", "1.67", "1", "30.0%", "never", "609"]
    assert "refuses a model exactly as good as the reference 30.0% of the time" in text[1]
    for column in (
        "smallest visible drop", "tolerated misses", "false-refusal rate", "detectable drop",
        "n needed",
    ):  # fmt: skip
        assert column in heading
        assert any(line.startswith(f"{column}: ") for line in text)
