"""The report as one HTML page: a figure of every bucket, the table, the flipped answers.

Self-contained: no script, no external font or picture, so it can be attached to a run and opened
years later. The template escapes everything from outside.
"""

from functools import cache
from typing import TYPE_CHECKING

from lynx_pipeline.reports.figure import COLOURS, figure
from lynx_pipeline.reports.report import (
    CORPUS_TITLE,
    FLIP_COLUMNS,
    Report,
    columns,
    notes,
    row,
    shown_answer,
    summary,
)

if TYPE_CHECKING:
    from jinja2 import Template


def page(report: Report) -> str:
    """The report as a complete HTML document."""
    verdict, comparison = report.verdict, report.comparison
    return _template().render(
        summary=summary(verdict),
        passed=verdict.passed,
        facts=report.facts,
        colours=COLOURS,
        figure=figure(report),
        notes=notes(report, power=True),
        columns=columns(report, power=True),
        rows=[(bucket.passed, row(report, bucket, power=True)) for bucket in report.buckets],
        flip_columns=FLIP_COLUMNS,
        lost=comparison.lost if comparison else (),
        gained=comparison.gained if comparison else (),
        corpus_title=CORPUS_TITLE,
        corpus=report.corpus.texts if report.corpus else (),
    )


@cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        loader=PackageLoader("lynx_pipeline.reports"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters["shown"] = shown_answer
    return environment.get_template("report.html.j2")
