"""What the deploy workflow may never become: rules over its text, and changes that break them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lynx_pipeline.domain.request import LABEL

REPO = Path(__file__).parents[1]
WORKFLOWS = REPO / ".github/workflows"
DEPLOY = WORKFLOWS / "deploy-grammar-tutor.yml"
ALL = sorted(WORKFLOWS.glob("*.yml"))

TRIGGERS = {"issue_comment": {"types": ["created"]}, "pull_request_target": {"types": ["labeled"]}}
READ = {"contents": "read"}
PERMISSIONS = {
    "request": {**READ, "pull-requests": "read"},
    "evaluate": READ,
    "promote": {"contents": "write", "id-token": "write", "pull-requests": "read"},
    "report": {**READ, "pull-requests": "write"},
}
SECRETS = {
    "request": {"MLFLOW_TRACKING_TOKEN"},
    "evaluate": set[str](),
    "promote": {"MLFLOW_TRACKING_TOKEN", "LYNX_REGISTRY_TOKEN"},
    "report": {"APPRISE_URLS", "LYNX_REGISTRY_TOKEN"},
}
NEEDS = {
    "request": None,
    "evaluate": "request",
    "promote": ["request", "evaluate"],
    "report": ["request", "evaluate", "promote"],
}
ACTIONS = {
    f"actions/{name}"
    for name in ("checkout", "setup-python", "upload-artifact", "download-artifact")
}
PINNED = re.compile(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
# Of the contexts that a stranger can write into, these and no others are read, and only by an if.
STRANGERS = {"github.event.comment.body", "github.event.label.name", "github.event.issue.labels"}


def findings(text: str) -> Iterator[str]:
    """What is wrong with a deploy workflow."""
    workflow = yaml.safe_load(text)
    jobs = workflow["jobs"]
    if workflow[True] != TRIGGERS:  # "on" is true in YAML 1.1
        yield "other triggers"
    if workflow["permissions"] != {} or "env" in workflow or "defaults" in workflow:
        yield "something holds for all jobs"
    if list(jobs) != list(PERMISSIONS):
        yield "other jobs"
    for name, job in jobs.items():
        yield from (f"{name}: {what}" for what in _of_job(name, job))
    for uses in re.findall(r"uses:\s*(.*)", text):
        if not PINNED.fullmatch(uses):
            yield f"not pinned: {uses}"


def _of_job(name: str, job: dict[str, Any]) -> Iterator[str]:
    dumped = yaml.safe_dump(job, width=10_000)
    if job.get("permissions") != PERMISSIONS.get(name):
        yield "other permissions"
    if job.get("needs") != NEEDS.get(name):
        yield "needs other jobs"
    if set(re.findall(r"secrets\.(\w+)", dumped)) != SECRETS.get(name) or "secrets[" in dumped:
        yield "other secrets"
    if job.get("environment") != ("production" if name == "promote" else None):
        yield "another environment"
    if job.get("runs-on") != "ubuntu-24.04" or not 0 < job.get("timeout-minutes", 0) <= 120:
        yield "another runner, or no time-out"
    if job.keys() & {"container", "services", "strategy", "uses", "continue-on-error", "defaults"}:
        yield "more than steps"
    if name == "evaluate" and re.search("github.token|GITHUB_TOKEN|MLFLOW|vars[.]", dumped):
        yield "the model's job can reach something"
    if name == "promote" and (
        job.get("concurrency", {}).get("cancel-in-progress") is not False or "if" in job
    ):
        yield "a promotion can be cancelled by another, or go on after a refusal"
    if re.search("head_ref|pull_request.head|refs/pull|gh pr checkout|fetch.*pull/", dumped):
        yield "the pull request's head"
    for step in job["steps"]:
        yield from _of_step(step)
    unconditional = {k: v for k, v in job.items() if k != "if"}
    if re.search(r"github\.event|head_commit|\.body|\.title", yaml.safe_dump(unconditional)):
        yield "a stranger's text beyond an if"
    for context in re.findall(r"github\.event\.[\w.]+", str(job.get("if", ""))):
        trusted = "github.event.issue.pull_request"
        if context != trusted and not any(context.startswith(known) for known in STRANGERS):
            yield f"another context: {context}"


def _of_step(step: dict[str, Any]) -> Iterator[str]:
    run, uses = step.get("run", ""), step.get("uses", "@").partition("@")[0]
    if "${{" in run:
        yield "an expression in a script"
    if len([line for line in run.splitlines() if line.strip()]) > 2 or "shell" in step:
        yield "a script of more than two commands"
    if "run" not in step and uses not in ACTIONS:
        yield f"another action: {uses}"
    if uses == "actions/checkout" and step.get("with") != {"persist-credentials": False}:
        yield "another checkout"
    if "cache" in str(step.get("with", "")):
        yield "a cache"


def test_the_deploy_workflow_keeps_every_rule() -> None:
    """As it is."""
    assert list(findings(DEPLOY.read_text())) == []


MODEL_JOB = """      contents: read # the default branch
    env:
      LYNX_ENV: prod
      LYNX_HOME: lynx-home
      RUN_ID"""
CHECKOUT = "          persist-credentials: false\n"
SCRIPT = "        run: ./dev run lynx-pipeline ci request\n"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        pytest.param(
            MODEL_JOB, MODEL_JOB.replace("    env", "      id-token: write\n    env", 1),
            "evaluate: other permissions", id="an identity for the model's job",
        ),
        pytest.param(
            MODEL_JOB, MODEL_JOB.replace("contents: read", "contents: write"),
            "evaluate: other permissions", id="write permission for the model's job",
        ),
        pytest.param(
            "      RUN_ID: ${{ needs.request.outputs.run_id }}\n    outputs",
            "      X: ${{ secrets.MLFLOW_TRACKING_TOKEN }}\n    outputs",
            "evaluate: other secrets", id="a secret for the model's job",
        ),
        pytest.param(
            "      RUN_ID: ${{ needs.request.outputs.run_id }}\n    outputs",
            "      X: ${{ github.token }}\n    outputs",
            "can reach something", id="a token for the model's job",
        ),
        pytest.param("permissions: {}", "permissions: write-all", "for all jobs", id="all rights"),
        pytest.param(
            CHECKOUT, CHECKOUT + "          ref: ${{ github.event.pull_request.head.sha }}\n",
            "the pull request's head", id="checks out the pull request's head",
        ),
        pytest.param(
            CHECKOUT, CHECKOUT + "          ref: ${{ github.head_ref }}\n",
            "the pull request's head", id="checks out the pull request's branch",
        ),
        pytest.param(
            CHECKOUT, CHECKOUT + "          repository: octo-org/other\n",
            "another checkout", id="checks out another repository",
        ),
        pytest.param(CHECKOUT, "          fetch-depth: 0\n", "another checkout", id="keeps it"),
        pytest.param(
            SCRIPT, SCRIPT.replace("request", 'request "${{ github.event.comment.body }}"'),
            "an expression in a script", id="the comment in a script",
        ),
        pytest.param(
            "          GITHUB_TOKEN: ${{ github.token }}\n",
            "          TEXT: ${{ github.event.comment.body }}\n",
            "a stranger's text", id="the comment in a variable",
        ),
        pytest.param(
            "contains(github.event.comment.body", "startsWith(github.event.issue.title",
            "another context", id="the title decides",
        ),
        pytest.param("types: [created]", "types: [created, edited]", "triggers", id="edits count"),
        pytest.param("  pull_request_target:", "  pull_request:", "triggers", id="their workflow"),
        pytest.param("    needs: [request, evaluate]\n", "    needs: request\n", "promote: needs",
                     id="promotes without an evaluation"),
        pytest.param("    environment: production\n", "", "environment", id="no environment"),
        pytest.param("cancel-in-progress: false", "cancel-in-progress: true", "be cancelled",
                     id="promotions cancel each other"),
        pytest.param("    environment: production\n",
                     "    environment: production\n    if: always()\n",
                     "after a refusal", id="promotes after a refusal"),
        pytest.param("actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1",
                     "actions/checkout@v7", "not pinned", id="an action by its tag"),
        pytest.param('          python-version: "3.11"\n',
                     '          python-version: "3.11"\n          cache: pip\n',
                     "a cache", id="a cache"),
        pytest.param("runs-on: ubuntu-24.04", "runs-on: self-hosted", "runner", id="own runner"),
        pytest.param("    timeout-minutes: 120\n", "", "no time-out", id="no time-out"),
        pytest.param("uses: actions/download-artifact", "uses: someone/download-artifact",
                     "another action", id="somebody's action"),
    ],
)  # fmt: skip
def test_a_change_that_breaks_a_rule_is_found(old: str, new: str, says: str) -> None:
    """Wherever it is made."""
    text = DEPLOY.read_text()
    assert old in text
    found = list(findings(text.replace(old, new, 1)))
    assert any(says in finding for finding in found), found


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.stem))
def test_every_workflow_is_pinned_and_asks_for_what_it_needs(path: Path) -> None:
    """No write permission but in the deploy workflow, no expression in a script, time-outs."""
    text = path.read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    assert all(PINNED.fullmatch(uses) for uses in re.findall(r"uses:\s*(.*)", text))
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 120
        assert path == DEPLOY or "write" not in job["permissions"].values()
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")


def test_workflow_and_code_name_the_same_label() -> None:
    """The workflow looks at it before it starts anything."""
    assert f"github.event.label.name == '{LABEL}'" in DEPLOY.read_text()
    assert f"labels.*.name, '{LABEL}')" in DEPLOY.read_text()


def test_codeowners_covers_what_the_workflow_trusts() -> None:
    """Every file that decides who deploys, by what, and how."""
    from lynx_pipeline.domain.owners import owners_of

    text = (REPO / ".github/CODEOWNERS").read_text()
    for path in (
        *(f".github/workflows/{file.name}" for file in ALL),
        ".github/CODEOWNERS",
        ".ci/run",
        "dev",
        "eval_baseline.json",
        "data/eval/phase-20.jsonl.dvc",
        "pyproject.toml",
        "requirements.lock",
        "lynx_pipeline/registry.py",
        ".dvc/config",
        "setup.py",  # the install would run it
        ".venv/installed",  # and believe this
        "dagster.yaml",
        "a file nobody thought of",
    ):
        assert owners_of(text, path), path


def test_codeowners_says_apart_who_asks_and_who_approves() -> None:
    """Each has a line of its own, which no other line takes back."""
    from lynx_pipeline.domain.owners import owners_of

    lines = (REPO / ".github/CODEOWNERS").read_text().splitlines()
    named = "\n".join(line.replace("@OWNER", f"@{k}") for k, line in enumerate(lines))
    asks, approves, other = (
        owners_of(named, path)
        for path in (f".github/workflows/{DEPLOY.name}", "eval_baseline.json", "dev")
    )
    assert len(asks) == len(approves) == len(other) == 1
    assert len(asks | approves | other) == 3
