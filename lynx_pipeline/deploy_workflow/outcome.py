"""The outcome of a deploy workflow run, from what its jobs left: on GitHub their outputs and the
evidence, on GitLab files.

Job outputs are shown, not trusted: the registry's entry says whether anything was promoted, and
the verdict is computed again from the evidence.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lynx_pipeline.adapters.actions import this_run_url
from lynx_pipeline.adapters.files import read_bytes
from lynx_pipeline.adapters.gitlab import pipeline_id, pipeline_url
from lynx_pipeline.config import Settings
from lynx_pipeline.deploy_workflow.comment import Outcome, comment
from lynx_pipeline.domain.ledger.chain import Entry, read_entry
from lynx_pipeline.domain.ledger.facts import Actor
from lynx_pipeline.domain.strict_json import LONGEST, canonical, parse_object
from lynx_pipeline.errors import BadInput, LynxError
from lynx_pipeline.evaluation.evidence import EVAL, PRINTED, check_handed_over
from lynx_pipeline.evaluation.judgement import judge_evidence
from lynx_pipeline.reports.report import Report, build_report

REQUEST, EVALUATE, PROMOTE = JOBS = ("request", "evaluate", "promote")
_SUCCESS = "success"
_SEE_LOG = "see its log. A promotion is all or nothing, so running the failed jobs again is safe."
_ENTITY = re.compile(r"&#\d+;")
_EXPRESSION = re.compile(r"\$\{\{.*\}\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Needs:
    """The earlier jobs' results and outputs by job name, as in GitHub's ``needs`` context. An empty
    output is absent: GitHub reports none for a skipped job, other runners report empty texts, or
    the expressions that they did not evaluate."""

    results: Mapping[str, str]
    outputs: Mapping[str, Mapping[str, str]]

    @property
    def pull_request(self) -> int:
        """The pull request that gets the comment.

        Raises:
            BadInput: the job ``request`` did not output it.
        """
        number = self.outputs[REQUEST].get("pull_request", "")
        if not re.fullmatch("[0-9]{1,18}", number):
            raise BadInput(
                f"output 'pull_request' of the job {REQUEST!r}: expected a number, found "
                f"{number!r:.40}."
            )
        return int(number)


def read_needs(text: str) -> Needs:
    """The ``needs`` context of the workflow, as JSON.

    Raises:
        BadInput: a job is missing, or the text has another form.
    """
    jobs = parse_object(text.encode("utf-8", "surrogatepass"), "NEEDS")
    results, outputs = {}, {}
    for name in JOBS:
        job = jobs.get(name)
        if not isinstance(job, dict) or not isinstance(job.get("result"), str):
            raise BadInput(
                f"NEEDS: {name!r}: expected a job with a result. Set NEEDS to toJSON(needs)."
            )
        found: Any = job.get("outputs", {})
        if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
            raise BadInput(f"NEEDS: {name!r}: expected outputs that are text.")
        results[name] = job["result"]
        outputs[name] = {
            key: value for key, value in found.items() if value and not _EXPRESSION.fullmatch(value)
        }
    return Needs(results, outputs)


def in_force(needs: Needs, announced: str) -> bool:
    """Whether this run promoted the latest version: only that is announced."""
    return needs.outputs[PROMOTE].get("new") == "true" and announced == _SUCCESS


def has_evaluated(needs: Needs) -> bool:
    """Whether the job ``evaluate`` succeeded, or left evidence."""
    return needs.results[EVALUATE] == _SUCCESS or "evidence_sha256" in needs.outputs[EVALUATE]


def render_comment(settings: Settings, needs: Needs, evidence: Path, announced: str) -> str:
    """The comment's text. ``evidence`` is the evidence folder, which may not exist; ``announced``
    is the announcement step's outcome, empty if there was none."""
    requested, promoted = needs.outputs[REQUEST], needs.outputs[PROMOTE]
    notes = []
    if announced not in ("", _SUCCESS, "skipped"):
        notes.append(
            "The announcement failed; the log says why. The version is promoted nevertheless."
        )
    digest = needs.outputs[EVALUATE].get("evidence_sha256", "")
    report = _report(settings, evidence, digest, requested.get("candidate", ""), notes)
    line = promoted.get("entry", "")
    entry = _entry(line.encode("utf-8", "surrogatepass"), notes)
    failed = next((job for job in JOBS if needs.results[job] != _SUCCESS), None)
    if failed is None and entry is None:
        failed = PROMOTE  # it has to name an entry
    message = needs.outputs[failed].get("error") if failed else None
    if failed == EVALUATE and PRINTED in (message or ""):
        notes.append(
            f"{PRINTED} is in the artifact candidate-output, on the page of the workflow run."
        )
    if failed and not message:
        message = (
            f"The job ended with the result {needs.results[failed]!r} and no error message; "
            f"{_SEE_LOG if failed == PROMOTE else 'see its log.'}"
        )
    if failed in (REQUEST, EVALUATE) and (report is None or report.verdict.passed):
        notes.append("To try again, write a new comment, because this job can't be re-run.")
    return comment(
        Outcome(
            run_url=this_run_url(),
            semver=requested.get("semver") or None,
            candidate=requested.get("candidate") or None,
            entry=entry,
            new=promoted.get("new") == "true",
            failed=failed,
            error=message,
            report=report,
            notes=tuple(notes),
            shows=settings.pull_request_shows,
        )
    )


def render_note(
    settings: Settings, candidate: str, semver: str, evidence: Path, entry_file: Path
) -> str:
    """The text of the note on GitLab. ``evidence`` is the folder that the job ``evaluate`` left,
    and ``entry_file`` what ``registry promote --json`` printed. A job that failed left neither:
    GitLab keeps the files of a job only if it succeeds.

    Raises:
        BadInput: this is not a job of a pipeline.
    """
    notes: list[str] = []
    report = _report(settings, evidence, None, candidate, notes)
    entry: Entry | None = None
    if entry_file.is_file():
        try:
            raw = read_bytes(entry_file, "nothing was promoted", LONGEST)
            line = canonical(parse_object(raw, str(entry_file), number=float))
            entry = _entry(line, notes)
        except LynxError as error:
            notes.append(f"The registry's entry can't be shown: {error}")
    failed = None
    if entry is None:
        failed = PROMOTE if (evidence / EVAL).is_file() else EVALUATE
    text = comment(
        Outcome(
            run="pipeline",
            run_url=pipeline_url(),
            semver=semver,
            candidate=candidate,
            entry=entry,
            new=entry is not None and _is_of_pipeline(entry),
            failed=failed,
            error=f"The job has not succeeded; {_SEE_LOG}" if failed else None,
            report=report,
            notes=tuple(notes),
            shows=settings.pull_request_shows,
        )
    )
    # GitLab looks for mentions, references and links in the text that entities stand for, so an
    # invisible character (a word joiner) follows each.
    return _ENTITY.sub(r"\g<0>&#8288;", text)


def _is_of_pipeline(entry: Entry) -> bool:
    actor = getattr(entry.fact, "actor", None)  # a registration has none
    return isinstance(actor, Actor) and actor.run_id == str(pipeline_id())


def _report(
    settings: Settings, evidence: Path, digest: str | None, candidate: str, notes: list[str]
) -> Report | None:
    """The report on the evidence in the folder, if there is any. What is wrong with it is added to
    ``notes``."""
    if not (evidence / EVAL).is_file():
        return None
    try:
        check_handed_over(evidence, digest, candidate)
        return build_report(settings, judge_evidence(settings, evidence))
    except LynxError as error:
        notes.append(f"No report: {error}")
        return None


def _entry(line: bytes, notes: list[str]) -> Entry | None:
    """The registry's entry in ``line``, which may be empty. What is wrong with it is added to
    ``notes``."""
    try:
        return read_entry(line, "entry") if line else None
    except LynxError as error:
        notes.append(f"The registry's entry can't be shown: {error}")
        return None
