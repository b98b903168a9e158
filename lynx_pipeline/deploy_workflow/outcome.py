"""The outcome of a deploy workflow run, from the outputs of its jobs and the evidence.

Job outputs are shown, not trusted: the registry's entry says whether anything was promoted, and
the verdict is computed again from the evidence.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lynx_pipeline.adapters.actions import this_run_url
from lynx_pipeline.config import Settings
from lynx_pipeline.deploy_workflow.comment import Outcome, comment
from lynx_pipeline.domain.ledger.chain import Entry, read_entry
from lynx_pipeline.domain.strict_json import parse_object
from lynx_pipeline.errors import BadInput, LynxError
from lynx_pipeline.evaluation.evidence import EVAL, PRINTED, check_handed_over
from lynx_pipeline.evaluation.judgement import judge_evidence
from lynx_pipeline.reports.report import build_report

REQUEST, EVALUATE, PROMOTE = JOBS = ("request", "evaluate", "promote")
_SUCCESS = "success"
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


def render_comment(settings: Settings, needs: Needs, evidence: Path, announced: str) -> str:
    """The comment's text. ``evidence`` is the evidence folder, which may not exist; ``announced``
    is the announcement step's outcome, empty if there was none."""
    requested, promoted = needs.outputs[REQUEST], needs.outputs[PROMOTE]
    notes = []
    if announced not in ("", _SUCCESS, "skipped"):
        notes.append(
            "The announcement failed; the log says why. The version is promoted nevertheless."
        )
    report = None
    if (evidence / EVAL).is_file():
        try:
            digest = needs.outputs[EVALUATE].get("evidence_sha256", "")
            check_handed_over(evidence, digest, requested.get("candidate", ""))
            report = build_report(settings, judge_evidence(settings, evidence))
        except LynxError as error:
            notes.append(f"No report: {error}")
    entry: Entry | None = None
    try:
        if line := promoted.get("entry"):
            entry = read_entry(line.encode("utf-8", "surrogatepass"), "entry")
    except LynxError as error:
        notes.append(f"The registry's entry can't be shown: {error}")
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
            f"The job ended with the result {needs.results[failed]!r} and no error message; see "
            "its log. A promotion is all or nothing, so running the failed jobs again is safe."
        )
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
