"""The comment on a pull request, or the note on a merge request, that says how a run of the deploy
workflow ended. There is one per pull request; each run replaces its text.

Everything that a candidate or a user could have written is escaped.
"""

from dataclasses import dataclass

from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.text import PROMPTS
from lynx_pipeline.reports.markdown import escaped, markdown
from lynx_pipeline.reports.report import Report

NAME = "lynx-pipeline: deploy-candidate"
_LONGEST_ERROR, _LONGEST_NOTE = 500, 300  # an escaped character can take six


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run. ``entry`` is the promotion, ``new`` if this run made it. ``failed`` is
    the job that failed, if any, and ``error`` its message. ``notes`` are further sentences for
    the reader. ``shows`` says how much of the eval set the report shows. ``run`` is what the CI
    system calls a run."""

    run_url: str
    semver: str | None = None
    candidate: str | None = None
    entry: Entry | None = None
    new: bool = True
    failed: str | None = None
    error: str | None = None
    report: Report | None = None
    notes: tuple[str, ...] = ()
    shows: str = PROMPTS
    run: str = "workflow run"


def comment(it: Outcome) -> str:
    """The comment's text, without the marker with :data:`NAME`."""
    parts = [f"### {_title(it)}", ""]
    if it.error and not _gate_refused(it):
        parts += [escaped(it.error, _LONGEST_ERROR), ""]
    if it.entry is not None:
        fact = it.entry.fact
        parts += [
            f"- registry entry {it.entry.seq}, hash `{it.entry.hash}`",
            f"- bundle `{fact.canonical_sha}`",
        ]
    if it.candidate:
        parts.append(f"- candidate `{it.candidate}`")
    parts.append(f"- [{it.run}]({it.run_url})")
    parts += [f"- {escaped(note, _LONGEST_NOTE)}" for note in it.notes]
    if it.report is not None:
        parts += ["", markdown(it.report, shows=it.shows)]
    return "\n".join(parts) + "\n"


def _title(it: Outcome) -> str:
    version = f"`{it.semver}`" if it.semver else "the candidate"
    if it.entry is not None:
        return f"Promoted {version}" if it.new else f"{version} was already promoted"
    if _gate_refused(it):
        return f"Refused {version}: it failed the gate"
    return f"Deployment of {version} stopped in job `{it.failed}`"


def _gate_refused(it: Outcome) -> bool:
    return it.report is not None and not it.report.verdict.passed
