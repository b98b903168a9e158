"""What the deploy workflow may never become, as rules over its text: all that it may consist of."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

TRIGGERS = {"issue_comment": {"types": ["created"]}, "pull_request_target": {"types": ["labeled"]}}
READ = {"contents": "read"}
PERMISSIONS = {
    "request": {**READ, "pull-requests": "read"},
    "evaluate": READ,
    "promote": {"contents": "write", "id-token": "write", "pull-requests": "read"},
    "report": {**READ, "pull-requests": "write"},
}
NEEDS = {
    "request": None,
    "evaluate": "request",
    "promote": ["request", "evaluate"],
    "report": ["request", "evaluate", "promote"],
}
PINS = {
    "actions/checkout": "3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1",
    "actions/setup-python": "5fda3b95a4ea91299a34e894583c3862153e4b97 # v7.0.0",
    "actions/upload-artifact": "cf430e030ddbb5b0abf93d22962f4752f3646cd9 # v7.0.2",
    "actions/download-artifact": "9000827ccba6bdab643e8b6fd33ac0654aef8333 # v8.0.2",
}
OURS = "./dev run lynx-pipeline"
COMMANDS = {
    "request": ["./dev install", f"{OURS} ci request"],
    "evaluate": [
        "./dev install",
        "sudo apt-get install --yes --no-install-recommends bubblewrap "
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        f'{OURS} ci prepare "$RUN_ID" --output lynx-home/evaluate.json',
        "./dev run dagster job execute -m lynx_pipeline.definitions -j evaluate "
        '--tags "$TAGS" -c lynx-home/evaluate.json',
        f'{OURS} ci outcome "$RUN_ID"',
    ],
    "promote": [
        "./dev install",
        f'{OURS} ci promote --pull-request "$PULL_REQUEST" --comment "$COMMENT" '
        '--run-id "$RUN_ID" --semver "$SEMVER" --sha "$SHA" '
        '--evidence evidence --evidence-sha256 "$EVIDENCE_SHA256"',
    ],
    "report": [
        "./dev install",
        f'{OURS} announce "$SEMVER"',
        f"{OURS} ci report --evidence evidence",
    ],
}
_ASKED = {f"needs.request.outputs.{name}" for name in ("pull_request", "comment", "run_id")}
_ASKED |= {"needs.request.outputs.semver", "needs.request.outputs.canonical_sha"}
_MLFLOW = {"vars.MLFLOW_TRACKING_URI", "secrets.MLFLOW_TRACKING_TOKEN"}
_REGISTRY = "secrets.LYNX_REGISTRY_TOKEN || github.token"
# All that a job's text may be made of, but for its conditions.
EXPRESSIONS = {
    "request": {name.replace("needs.request", "steps.request") for name in _ASKED}
    | {"steps.request.outputs.error", "github.token", *_MLFLOW},
    "evaluate": {
        "needs.request.outputs.run_id",
        "github.server_url",
        "github.repository",
        "needs.request.outputs.pull_request",
        "steps.outcome.outputs.evidence_sha256",
        "steps.outcome.outputs.error",
    },
    "promote": {f"steps.promote.outputs.{name}" for name in ("entry", "new", "error")}
    | {"needs.evaluate.outputs.evidence_sha256", "github.token", _REGISTRY, *_ASKED, *_MLFLOW},
    "report": {"toJSON(needs)", "steps.announce.outcome", "needs.request.outputs.semver"}
    | {"secrets.APPRISE_URLS", "github.token", _REGISTRY},
}
_GIT = {"REGISTRY_TOKEN", "GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_0", "GIT_CONFIG_VALUE_0"}
VARIABLES = {
    "request": {"GITHUB_TOKEN", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN"},
    "evaluate": {"RUN_ID", "TAGS"},
    "promote": {"PULL_REQUEST", "COMMENT", "RUN_ID", "SEMVER", "SHA", "EVIDENCE_SHA256"}
    | {"MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN", "GITHUB_TOKEN", *_GIT},
    "report": {"SEMVER", "APPRISE_URLS", "NEEDS", "ANNOUNCED", "GITHUB_TOKEN", *_GIT},
}
FOR_ALL = {"LYNX_ENV": "prod", "LYNX_HOME": "lynx-home"}
_HOME = "lynx-home/candidates"
ARTIFACTS = {
    "request": [("candidate", f"{_HOME}/${{{{ steps.request.outputs.run_id }}}}/bundle")],
    "evaluate": [
        ("candidate", f"{_HOME}/${{{{ needs.request.outputs.run_id }}}}/bundle"),
        ("evidence", f"{_HOME}/${{{{ needs.request.outputs.run_id }}}}/evidence"),
    ],
    "promote": [("evidence", "evidence")],
    "report": [("evidence", "evidence")],
}
# Jobs and steps that run under something else than that all went well so far.
CONDITIONS = {
    "request": "(github.event_name == 'pull_request_target' && "
    "github.event.label.name == 'deploy-candidate') || "
    "(github.event_name == 'issue_comment' && github.event.issue.pull_request && "
    "contains(github.event.issue.labels.*.name, 'deploy-candidate') && "
    "contains(github.event.comment.body, 'mlflow_run_id'))",
    "evaluate": None,
    "promote": None,
    "report": "${{ always() && needs.request.outputs.pull_request != '' }}",
    "evaluate/Say how it ended": "${{ !cancelled() }}",
    "evaluate/Keep the evidence for the next jobs": "${{ !cancelled() && "
    "steps.outcome.outputs.evidence_sha256 != '' }}",
    "report/Take the evidence": "${{ needs.evaluate.outputs.evidence_sha256 != '' }}",
    "report/Announce": "${{ needs.promote.outputs.new == 'true' }}",
}
FORGIVEN = {"report/Take the evidence", "report/Announce"}


def findings(text: str) -> Iterator[str]:
    """What is wrong with a deploy workflow."""
    workflow = yaml.safe_load(text)
    jobs = workflow["jobs"]
    if workflow[True] != TRIGGERS:  # "on" is true in YAML 1.1
        yield "other triggers"
    if workflow["permissions"] != {} or workflow.keys() != {"name", True, "permissions", "jobs"}:
        yield "something holds for all jobs"
    if list(jobs) != list(PERMISSIONS):
        yield "other jobs"
    for name, job in jobs.items():
        yield from (f"{name}: {what}" for what in _of_job(name, job))
        for step in job["steps"]:
            yield from (f"{name}: {what}" for what in _of_step(name, step))
    yield from unpinned(text)


def _of_job(name: str, job: dict[str, Any]) -> Iterator[str]:
    if job.get("permissions") != PERMISSIONS.get(name):
        yield "other permissions"
    if job.get("needs") != NEEDS.get(name):
        yield "needs other jobs"
    if job.get("environment") != ("production" if name == "promote" else None):
        yield "another environment"
    if job.get("runs-on") != "ubuntu-24.04" or not 0 < job.get("timeout-minutes", 0) <= 120:
        yield "another runner, or no time-out"
    if job.keys() & {"container", "services", "strategy", "uses", "continue-on-error", "defaults"}:
        yield "more than steps"
    if name == "promote" and job.get("concurrency", {}).get("cancel-in-progress") is not False:
        yield "a promotion can be cancelled by another"
    if job.get("if") != CONDITIONS[name]:
        yield "another condition"
    if {k: v for k, v in job["env"].items() if k != "RUN_ID"} != FOR_ALL:
        yield "other settings"
    rest = {key: value for key, value in job.items() if key not in ("if", "steps")}
    if found := set(_expressions(rest)) - EXPRESSIONS[name]:
        yield f"another expression: {found}"
    commands = [" ".join(step["run"].split()) for step in job["steps"] if "run" in step]
    if commands != COMMANDS[name]:
        yield "other commands"
    given = [step.get("with", {}) for step in job["steps"] if "-artifact" in step.get("uses", "")]
    if [(it.get("name"), it.get("path")) for it in given] != ARTIFACTS[name]:
        yield "other artifacts"


def _of_step(job: str, step: dict[str, Any]) -> Iterator[str]:
    where = f"{job}/{step['name']}"
    rest = {key: value for key, value in step.items() if key != "if"}
    if found := set(_expressions(rest)) - EXPRESSIONS[job]:
        yield f"another expression: {found}"
    if "${{" in step.get("run", ""):
        yield "an expression in a script"
    if found := step.get("env", {}).keys() - VARIABLES[job]:
        yield f"other variables: {found}"
    if step.get("if") != CONDITIONS.get(where) or "shell" in step or "working-directory" in step:
        yield "another condition, shell or folder"
    if step.get("continue-on-error", False) != (where in FORGIVEN):
        yield "another failure is forgiven"
    uses, given = step.get("uses", "").partition("@")[0], step.get("with", {})
    if uses == "actions/checkout" and given != {"persist-credentials": False}:
        yield "another checkout"
    if uses == "actions/setup-python" and given != {"python-version": "3.11"}:
        yield "another Python, or a cache"
    if given.keys() - {
        *("name", "path", "if-no-files-found", "retention-days", "include-hidden-files"),
        *("persist-credentials", "python-version"),
    }:
        yield "another input of an action"


def _expressions(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield from re.findall(r"\$\{\{\s*(.*?)\s*\}\}", value, re.DOTALL)
    elif isinstance(value, dict):
        for pair in value.items():
            yield from _expressions(list(pair))
    elif isinstance(value, list):
        for it in value:
            yield from _expressions(it)


def unpinned(text: str) -> Iterator[str]:
    """Actions at anything but the known commits, with their versions beside them."""
    known = {f"{name}@{pin}" for name, pin in PINS.items()}
    lines = [line.partition("uses: ")[2] for line in text.splitlines() if "uses" in line]
    used = [
        step["uses"]
        for job in yaml.safe_load(text)["jobs"].values()
        for step in job["steps"]
        if "uses" in step
    ]
    written = [line.partition(" #")[0] for line in lines if line in known]
    if used != written:
        yield f"not pinned to a known commit: {set(used) - set(written) or lines}"
