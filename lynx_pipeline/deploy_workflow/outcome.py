"""How a run of the deploy workflow ended, put together from what its jobs said and left.

What a job says is shown, not believed: whether anything was promoted is in the entry, which the
job that promotes has from the registry, and the verdict is worked out again from the evidence.
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
from lynx_pipeline.evaluation.evidence import EVAL, check_handed_over
from lynx_pipeline.evaluation.judgement import judge_evidence
from lynx_pipeline.reports.build import build_report

REQUEST, EVALUATE, PROMOTE = JOBS = ("request", "evaluate", "promote")
_SUCCESS = "success"


@dataclass(frozen=True, slots=True)
class Needs:
    """The jobs before, by name: each one's result and outputs, in GitHub's words."""

    results: Mapping[str, str]
    outputs: Mapping[str, Mapping[str, str]]

    @property
    def pull_request(self) -> int:
        """The pull request that is to be told.

        Raises:
            BadInput: the job ``request`` did not say which.
        """
        number = self.outputs[REQUEST].get("pull_request", "")
        if not re.fullmatch("[0-9]{1,18}", number):
            raise BadInput(f"the job {REQUEST!r} names no pull request, but {number!r:.40}.")
        return int(number)


def read_needs(text: str) -> Needs:
    """The ``needs`` context of the workflow, as JSON.

    Raises:
        BadInput: a job lacks, or it is something else.
    """
    jobs = parse_object(text.encode("utf-8", "surrogatepass"), "NEEDS")
    results, outputs = {}, {}
    for name in JOBS:
        job = jobs.get(name)
        if not isinstance(job, dict) or not isinstance(job.get("result"), str):
            raise BadInput(f"NEEDS: {name!r}: expected a job's result. Pass toJSON(needs).")
        found: Any = job.get("outputs", {})
        if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
            raise BadInput(f"NEEDS: {name!r}: expected outputs that are text.")
        results[name], outputs[name] = job["result"], found
    return Needs(results, outputs)


def in_force(needs: Needs, announced: str) -> bool:
    """Whether this run promoted what is in force: only that is announced."""
    return needs.outputs[PROMOTE].get("new") == "true" and announced == _SUCCESS


def told(settings: Settings, needs: Needs, evidence: Path, announced: str) -> str:
    """The comment's text. ``evidence`` is the folder, if it came to that; ``announced`` is the
    outcome of telling people, empty if nobody was to be told."""
    requested, promoted = needs.outputs[REQUEST], needs.outputs[PROMOTE]
    notes = []
    if announced not in ("", _SUCCESS, "skipped"):
        notes.append("The announcement failed; the log says why. The promotion stands.")
    report = None
    if (evidence / EVAL).is_file():
        try:
            given = needs.outputs[EVALUATE].get("evidence_sha256", "")
            check_handed_over(evidence, given, requested.get("run_id", ""))
            report = build_report(settings, judge_evidence(settings, evidence))
        except LynxError as error:
            notes.append(f"No report: {error}")
    entry: Entry | None = None
    if needs.results[PROMOTE] == _SUCCESS or promoted.get("entry"):
        entry = read_entry(promoted.get("entry", "").encode("utf-8", "surrogatepass"), "entry")
    failed = next((job for job in JOBS if needs.results[job] != _SUCCESS), None)
    why = needs.outputs[failed].get("error") if failed else None
    if failed and not why:
        why = (
            f"The job ended as {needs.results[failed]!r} and did not say why; its log does. A "
            "promotion happened wholly or not at all: run the failed jobs again, that is safe."
        )
    return comment(
        Outcome(
            run_url=this_run_url(),
            semver=requested.get("semver") or None,
            run_id=requested.get("run_id") or None,
            entry=entry,
            new=promoted.get("new") == "true",
            failed=failed,
            error=why,
            report=report,
            notes=tuple(notes),
        )
    )
