"""The rules of the deploy workflow: an allowlist of everything that it may contain.

Only comments, the names of three jobs and time-outs of up to two hours are free.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from lynx_pipeline.errors import STORAGES
from lynx_pipeline_tests.deploy_workflow.pins import OWN_ACTION, PINS, unpinned

TRIGGERS = {"issue_comment": {"types": ["created"]}, "pull_request_target": {"types": ["labeled"]}}
READ = {"contents": "read"}
PERMISSIONS = {
    "request": {**READ, "actions": "read", "pull-requests": "read"},
    "evaluate": READ,
    "promote": {"contents": "write", "id-token": "write", "pull-requests": "read"},
    "report": {**READ, "pull-requests": "write"},
}
# Each job that reads a secret has its own environment. A job without one can't read any, and only
# the environment of `promote` is in the policy of the identity.
ENVIRONMENTS = {
    "request": "candidate",
    "evaluate": None,
    "promote": "production",
    "report": "report",
}
NEEDS = {
    "request": None,
    "evaluate": "request",
    "promote": ["request", "evaluate"],
    "report": ["request", "evaluate", "promote"],
}
_CHECKOUT = ("Check out the default branch", None, "actions/checkout")
_SETUP = [
    _CHECKOUT,
    ("Set up Python", None, "actions/setup-python"),
    ("Install", None, OWN_ACTION),
]
_TAKE_DATA = ("Take the data", None, "actions/download-artifact")
# Name, id and action of each step.
STEPS = {
    "request": [
        *_SETUP,
        ("Read the request and fetch the candidate", "request", None),
        ("Keep the candidate for the next job", None, "actions/upload-artifact"),
        ("Fetch the data", "data", None),
        ("Keep the data for the next jobs", None, "actions/upload-artifact"),
    ],
    "evaluate": [
        *_SETUP,
        ("Install bubblewrap, and let it make the namespaces it isolates with", None, None),
        ("Take the candidate", None, "actions/download-artifact"),
        _TAKE_DATA,
        ("Verify the candidate and add its partition", "prepare", None),
        ("Evaluate", None, None),
        ("Record the outcome", "outcome", None),
        ("Keep the evidence for the next jobs", None, "actions/upload-artifact"),
        ("Keep what the candidate printed", None, "actions/upload-artifact"),
    ],
    "promote": [
        *_SETUP,
        ("Take the evidence", None, "actions/download-artifact"),
        _TAKE_DATA,
        ("Promote", "promote", None),
    ],
    "report": [
        *_SETUP,
        ("Take the evidence", None, "actions/download-artifact"),
        _TAKE_DATA,
        ("Announce", "announce", None),
        ("Report", None, None),
    ],
}
CLI = ".venv/bin/lynx-pipeline"
# What each job installs. A job that reaches DVC's remote or MLflow's artifacts may install one of
# STORAGE_LOCKS.
LOCKS = {
    "request": "requirements-request.lock",
    "evaluate": "requirements.lock",
    "promote": "requirements-promote.lock",
    "report": "requirements-report.lock",
}
STORAGE_LOCKS = {f"requirements-{storage}.lock" for storage in STORAGES}
REACHES_STORAGE = {"request", "promote"}
COMMANDS = {
    "request": [
        f"{CLI} ci request --output candidate",
        f"{CLI} ci data --output data-objects",
    ],
    "evaluate": [
        "sudo apt-get install --yes --no-install-recommends bubblewrap\n"
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        f'{CLI} ci prepare "$CANDIDATE" --from candidate --bundle-digest "$BUNDLE_DIGEST" '
        "--output lynx-home/evaluate.json",
        ".venv/bin/dagster job execute -m lynx_pipeline.definitions "
        '-j "$JOB" --tags "$TAGS" -c lynx-home/evaluate.json',
        f'{CLI} ci outcome "$CANDIDATE" --output evidence',
    ],
    "promote": [
        f'{CLI} ci promote --pull-request "$PULL_REQUEST" --comment "$COMMENT" '
        '--candidate "$CANDIDATE" --semver "$SEMVER" --sha "$SHA" '
        '--bundle-digest "$BUNDLE_DIGEST" '
        '--evidence evidence --evidence-sha256 "$EVIDENCE_SHA256"',
    ],
    "report": [
        f'{CLI} announce "$SEMVER"',
        f"{CLI} ci report --evidence evidence",
    ],
}
_REQUESTED = (
    *("pull_request", "comment", "candidate", "semver", "gate"),
    *("canonical_sha", "bundle_digest"),
)
_REQUEST = {f"needs.request.outputs.{name}" for name in _REQUESTED}
_MLFLOW = {"vars.MLFLOW_TRACKING_URI", "secrets.MLFLOW_TRACKING_TOKEN"}
_REQUEST_ERROR = "steps.request.outputs.error || steps.data.outputs.error"
_REGISTRY = "secrets.LYNX_REGISTRY_TOKEN || github.token"
_SIGNING_KEY = "secrets.LYNX_SIGNING_KEY"
_GATE = "needs.request.outputs.gate"
# The expressions that a job may contain outside its conditions.
EXPRESSIONS = {
    "request": {f"steps.request.outputs.{name}" for name in _REQUESTED}
    | {_REQUEST_ERROR, "github.token", "secrets.DVC_CONFIG_LOCAL", *_MLFLOW},
    "evaluate": {
        _GATE,
        "steps.prepare.outputs.job",
        "needs.request.outputs.candidate",
        "needs.request.outputs.bundle_digest",
        "needs.request.outputs.canonical_sha",
        "github.server_url",
        "github.repository",
        "needs.request.outputs.pull_request",
        "steps.outcome.outputs.evidence_sha256",
        "steps.prepare.outputs.error || steps.outcome.outputs.error",
    },
    "promote": {f"steps.promote.outputs.{name}" for name in ("entry", "new", "error")}
    | {"needs.evaluate.outputs.evidence_sha256", "github.token", _REGISTRY, _SIGNING_KEY}
    | {*_REQUEST, *_MLFLOW},
    "report": {"toJSON(needs)", "steps.announce.outcome", "needs.request.outputs.semver"}
    | {"secrets.APPRISE_URLS", "github.token", _GATE, _REGISTRY},
}


def _expression(text: str) -> str:
    return f"${{{{ {text} }}}}"


def _outputs(job_or_step: str, *names: str) -> dict[str, str]:
    return {name: _expression(f"{job_or_step}.outputs.{name}") for name in names}


OUTPUTS: dict[str, dict[str, str] | None] = {
    "request": {
        **_outputs("steps.request", *_REQUESTED),
        "error": _expression(_REQUEST_ERROR),
    },
    "evaluate": {
        **_outputs("steps.outcome", "evidence_sha256"),
        "error": _expression("steps.prepare.outputs.error || steps.outcome.outputs.error"),
    },
    "promote": _outputs("steps.promote", "entry", "new", "error"),
    "report": None,
}
EVALUATE_NAME = f"Evaluate {_expression('needs.request.outputs.canonical_sha')}"
_CANDIDATE = _expression("needs.request.outputs.candidate")
_DIGEST = {"BUNDLE_DIGEST": _expression("needs.request.outputs.bundle_digest")}
_TOKEN = {"GITHUB_TOKEN": _expression("github.token")}
_MLFLOW_SERVER = {
    "MLFLOW_TRACKING_URI": _expression("vars.MLFLOW_TRACKING_URI"),
    "MLFLOW_TRACKING_TOKEN": _expression("secrets.MLFLOW_TRACKING_TOKEN"),
}
_GIT = {
    "REGISTRY_TOKEN": _expression(_REGISTRY),
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "credential.helper",
    "GIT_CONFIG_VALUE_0": "!f() { echo username=x-access-token; "
    "echo password=$REGISTRY_TOKEN; }; f",
}
_PULL_REQUEST = "/".join(
    _expression(part)
    for part in ("github.server_url", "github.repository", "needs.request.outputs.pull_request")
).replace("/${{ needs", "/pull/${{ needs")
VARIABLES = {
    "request/Read the request and fetch the candidate": {**_TOKEN, **_MLFLOW_SERVER},
    "request/Fetch the data": {
        "LYNX_GATE": _expression("steps.request.outputs.gate"),
        "DVC_CONFIG_LOCAL": _expression("secrets.DVC_CONFIG_LOCAL"),
    },
    "evaluate/Verify the candidate and add its partition": _DIGEST,
    "evaluate/Evaluate": {
        "JOB": _expression("steps.prepare.outputs.job"),
        "TAGS": f'{{"dagster/partition": "{_CANDIDATE}", "lynx.pull_request": "{_PULL_REQUEST}"}}',
    },
    "promote/Promote": {
        "PULL_REQUEST": _expression("needs.request.outputs.pull_request"),
        "COMMENT": _expression("needs.request.outputs.comment"),
        "CANDIDATE": _CANDIDATE,
        "SEMVER": _expression("needs.request.outputs.semver"),
        "SHA": _expression("needs.request.outputs.canonical_sha"),
        **_DIGEST,
        "EVIDENCE_SHA256": _expression("needs.evaluate.outputs.evidence_sha256"),
        "LYNX_SIGNING_KEY": _expression(_SIGNING_KEY),
        **_MLFLOW_SERVER,
        **_TOKEN,
        **_GIT,
    },
    "report/Announce": {
        "SEMVER": _expression("needs.request.outputs.semver"),
        "LYNX_GATE": _expression(_GATE),
        "APPRISE_URLS": _expression("secrets.APPRISE_URLS"),
        **_GIT,
    },
    "report/Report": {
        "NEEDS": _expression("toJSON(needs)"),
        "ANNOUNCED": _expression("steps.announce.outcome"),
        **_TOKEN,
    },
}
_PROD = {"LYNX_ENV": "prod", "LYNX_HOME": "lynx-home"}
_MODEL = {**_PROD, "LYNX_GATE": _expression(_GATE)}
SETTINGS = {
    "request": _PROD,
    "evaluate": {**_MODEL, "CANDIDATE": _CANDIDATE},
    "promote": _MODEL,
    "report": _PROD,
}
CONCURRENCY = {
    "promote": {
        "group": f"promote-{_expression('needs.request.outputs.pull_request')}",
        "cancel-in-progress": False,
    }
}
_KEPT = {"if-no-files-found": "error", "retention-days": 7}
_BUNDLE = {"name": "candidate", "path": "candidate"}
_DATA: dict[str, object] = {"name": "data", "path": ".dvc/cache"}
_EVIDENCE = {"name": "evidence", "path": "evidence"}
ARTIFACTS: dict[str, list[dict[str, object]]] = {
    "request": [
        {**_BUNDLE, "include-hidden-files": True, **_KEPT},
        {"name": "data", "path": "data-objects", **_KEPT},
    ],
    "evaluate": [
        {**_BUNDLE},
        _DATA,
        {**_EVIDENCE, **_KEPT},
        {
            "name": "candidate-output",
            "path": "lynx-home/**/candidate_output.txt",
            **_KEPT,
            "if-no-files-found": "ignore",
        },
    ],
    "promote": [{**_EVIDENCE}, _DATA],
    "report": [{**_EVIDENCE}, _DATA],
}
# The conditions of jobs, and of steps that have one.
CONDITIONS = {
    "request": "(github.event_name == 'pull_request_target' && "
    "github.event.label.name == 'deploy-candidate') || "
    "(github.event_name == 'issue_comment' && github.event.issue.pull_request && "
    "contains(github.event.issue.labels.*.name, 'deploy-candidate') && "
    "contains(github.event.comment.body, 'mlflow_run_id'))",
    "evaluate": None,
    "promote": None,
    "report": "${{ always() && needs.request.outputs.pull_request != '' }}",
    "evaluate/Record the outcome": "${{ !cancelled() }}",
    "evaluate/Keep the evidence for the next jobs": "${{ !cancelled() && "
    "steps.outcome.outputs.evidence_sha256 != '' }}",
    "evaluate/Keep what the candidate printed": "${{ failure() }}",
    "report/Take the evidence": "${{ needs.evaluate.outputs.evidence_sha256 != '' }}",
    "report/Take the data": "${{ needs.evaluate.outputs.evidence_sha256 != '' }}",
    "report/Announce": "${{ needs.promote.outputs.new == 'true' }}",
}
MAY_FAIL = {"report/Take the evidence", "report/Take the data", "report/Announce"}
_JOB_KEYS = {"name", "needs", "if", "runs-on", "timeout-minutes", "environment", "concurrency"}
_JOB_KEYS |= {"permissions", "env", "outputs", "steps"}
_STEP_KEYS = {"name", "id", "if", "continue-on-error", "uses", "with", "run", "env"}


def findings(text: str) -> Iterator[str]:
    """The rules that this text of a deploy workflow breaks."""
    yield from findings_in(yaml.safe_load(text))
    yield from unpinned(text)


def findings_in(workflow: dict[Any, Any]) -> Iterator[str]:
    """The rules that a deploy workflow breaks, except for the comments beside the pins."""
    if workflow.get(True) != TRIGGERS:  # "on" is true in YAML 1.1
        yield "unexpected triggers"
    if workflow.get("permissions") != {} or workflow.keys() != {
        *("name", "permissions", "jobs"),
        True,
    }:
        yield "unexpected keys for all jobs"
    jobs = workflow.get("jobs", {})
    if list(jobs) != list(PERMISSIONS):
        yield "unexpected jobs"
        return
    for name, job in jobs.items():
        yield from (f"{name}: {what}" for what in _job_findings(name, job))
        for step in job.get("steps", []):
            yield from (f"{name}: {what}" for what in _step_findings(name, step))


def _job_findings(name: str, job: dict[str, Any]) -> Iterator[str]:
    if job.get("permissions") != PERMISSIONS[name]:
        yield "unexpected permissions"
    if name == "evaluate" and job.get("name") != EVALUATE_NAME:
        yield "unexpected name: requests for its candidate could not be counted"
    if job.get("needs") != NEEDS[name]:
        yield "needs the wrong jobs"
    if job.get("environment") != ENVIRONMENTS[name]:
        yield "unexpected environment"
    if job.get("runs-on") != "ubuntu-24.04" or not 0 < job.get("timeout-minutes", 0) <= 120:
        yield "unexpected runner, or no time-out"
    if job.keys() - _JOB_KEYS:
        yield "unexpected job keys"
    if job.get("concurrency") != CONCURRENCY.get(name):
        yield "unexpected concurrency: promotions could be cancelled, or jobs could wait"
    if job.get("if") != CONDITIONS[name]:
        yield "unexpected condition"
    if job.get("env") != SETTINGS[name]:
        yield "unexpected settings"
    if job.get("outputs") != OUTPUTS[name]:
        yield "unexpected outputs"
    rest = {key: value for key, value in job.items() if key not in ("if", "steps")}
    if found := set(_expressions(rest)) - EXPRESSIONS[name]:
        yield f"unexpected expression: {found}"
    steps = job.get("steps", [])
    if [(it.get("name"), it.get("id"), _action(it)) for it in steps] != STEPS[name]:
        yield "unexpected steps"
    commands = [step["run"].strip() for step in steps if "run" in step]
    if commands != COMMANDS[name]:
        yield "unexpected commands"
    given = [step.get("with") for step in steps if "-artifact" in step.get("uses", "")]
    if given != ARTIFACTS[name]:
        yield "unexpected artifacts"


def _step_findings(job: str, step: dict[str, Any]) -> Iterator[str]:
    where = f"{job}/{step.get('name')}"
    rest = {key: value for key, value in step.items() if key != "if"}
    if found := set(_expressions(rest)) - EXPRESSIONS[job]:
        yield f"unexpected expression: {found}"
    if "${{" in step.get("run", ""):
        yield "an expression in a script"
    variables, expected = step.get("env", {}), VARIABLES.get(where, {})
    if found := {k for k in variables | expected if variables.get(k) != expected.get(k)}:
        yield f"unexpected variables: {found}"
    if step.get("if") != CONDITIONS.get(where) or step.keys() - _STEP_KEYS:
        yield "unexpected condition, shell or folder"
    if step.get("continue-on-error", False) != (where in MAY_FAIL):
        yield "unexpected continue-on-error"
    uses, given = step.get("uses", ""), step.get("with", {})
    locks = {LOCKS[job]} | (STORAGE_LOCKS if job in REACHES_STORAGE else set())
    if uses == OWN_ACTION and given not in [{"lock": it} for it in locks]:
        yield "installs another lock file"
    pin = PINS.get(_action(step) or "", "").partition(" ")[0]
    if uses not in ("", OWN_ACTION) and uses.partition("@")[2] != pin:
        yield "an action that is not pinned to a known commit"
    if _action(step) == "actions/checkout" and given != {"persist-credentials": False}:
        yield "unexpected checkout inputs"
    if _action(step) == "actions/setup-python" and given != {"python-version": "3.11"}:
        yield "unexpected Python, or a cache"
    if given.keys() - {
        *("name", "path", "if-no-files-found", "retention-days", "include-hidden-files"),
        *("persist-credentials", "python-version", "lock"),
    }:
        yield "unexpected action input"


def _action(step: dict[str, Any]) -> str | None:
    return step["uses"].partition("@")[0] if "uses" in step else None


def _expressions(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield from re.findall(r"\$\{\{\s*(.*?)\s*\}\}", value, re.DOTALL)
    elif isinstance(value, dict):
        for pair in value.items():
            yield from _expressions(list(pair))
    elif isinstance(value, list):
        for it in value:
            yield from _expressions(it)
