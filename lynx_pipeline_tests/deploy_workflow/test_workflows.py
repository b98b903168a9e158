"""The deploy workflow follows every rule, and changes that weaken it break one."""

import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from lynx_pipeline.domain.release.request import LABEL
from lynx_pipeline_tests.deploy_workflow.pins import PINS, unpinned
from lynx_pipeline_tests.deploy_workflow.workflow_rules import findings, findings_in
from lynx_pipeline_tests.support import REPO

WORKFLOWS = REPO / ".github/workflows"
DEPLOY = WORKFLOWS / "deploy-grammar-tutor.yml"
ALL = sorted(WORKFLOWS.iterdir())
RELEASE = WORKFLOWS / "release.yml"


def test_the_deploy_workflow_follows_every_rule() -> None:
    """The committed workflow has no findings."""
    assert list(findings(DEPLOY.read_text())) == []


def _nodes(node: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every node of a parsed workflow, each with the keys that lead to it."""
    yield path, node
    children = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node if isinstance(node, list) else [])
    )
    for key, child in children:
        yield from _nodes(child, (*path, key))


def _changes(node: Any) -> Iterator[tuple[str, Any]]:
    """The possible changes of a node except removal, each with a description."""
    if isinstance(node, dict):
        yield "additional key", {**node, "another": "x"}
    elif isinstance(node, list):
        yield "additional element", [*node, deepcopy(node[-1])]
        if len(node) > 1:
            yield "reversed order", node[::-1]
    elif isinstance(node, bool):
        yield "opposite", not node
    else:
        yield "different value", 121 if isinstance(node, int) else f"{node} x"


def _replaced(workflow: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The workflow with ``new`` as the node at ``path``. The node is removed if ``new`` is None."""
    if not path:
        return new
    changed = deepcopy(workflow)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    if new is None:
        del parent[path[-1]]
    else:
        parent[path[-1]] = new
    return changed


def test_every_change_of_the_deploy_workflow_breaks_a_rule() -> None:
    """Every node is removed, extended, replaced or reordered. Names that nothing reads are free."""
    workflow = yaml.safe_load(DEPLOY.read_text())
    missed, tried = [], 0
    for path, node in _nodes(workflow):
        changes = [*_changes(node), *([("removed", None)] if path else [])]
        for what, new in changes:
            tried += 1
            if not list(findings_in(_replaced(workflow, path, new))):
                missed.append((path, what))
    names = [("jobs", job, "name") for job in workflow["jobs"] if job != "evaluate"]
    free = [(path, what) for path in names for what in ("different value", "removed")]
    assert missed == [(("name",), "different value"), *free]
    assert tried > 300


MODEL_JOB = """      contents: read # the default branch
    env:
      LYNX_ENV: prod
      LYNX_HOME: lynx-home
      LYNX_GATE"""
CANDIDATE = "      CANDIDATE: ${{ needs.request.outputs.candidate }}\n    outputs"
CHECKOUT = "          persist-credentials: false\n"
PYTHON = '          python-version: "3.11"\n'
OWN = "./ # zizmor: ignore[self-repository]"
SCRIPT = "        run: .venv/bin/lynx-pipeline ci request --output candidate\n"
TOKEN = "          GITHUB_TOKEN: ${{ github.token }}\n"
SEMVER = "          SEMVER: ${{ needs.request.outputs.semver }}\n          SHA"
PIN = f"actions/checkout@{PINS['actions/checkout']}"
BUBBLEWRAP = "sudo apt-get install --yes --no-install-recommends bubblewrap"
EVALUATE = "      - name: Evaluate\n"
CONDITION = re.findall("    if: >-\n(?:      .*\n)+", DEPLOY.read_text())[0]
PROMOTES = "    environment: production\n"


def _secret(expression: str) -> str:
    """The lines that give the model's job this expression as CANDIDATE."""
    return f"      CANDIDATE: ${{{{ {expression} }}}}\n    outputs"


# For each change: the original text, its replacement and the expected finding.
WEAKER = {
    # an identity, a permission or a secret for the model's job
    "an identity token": (
        MODEL_JOB,
        MODEL_JOB.replace("    env", "      id-token: write\n    env", 1),
        "evaluate: unexpected permissions",
    ),
    "write permission": (
        MODEL_JOB,
        MODEL_JOB.replace("read", "write"),
        "evaluate: unexpected permissions",
    ),
    "a secret": (CANDIDATE, _secret("secrets.X"), "evaluate: unexpected expression"),
    "all secrets": (CANDIDATE, _secret("toJSON(secrets)"), "evaluate: unexpected expression"),
    "a secret in capital letters": (
        CANDIDATE,
        _secret("SECRETS['X']"),
        "evaluate: unexpected expression",
    ),
    "the job's token": (CANDIDATE, _secret("github.token"), "evaluate: unexpected expression"),
    "the job's token by subscript": (
        CANDIDATE,
        _secret("github['token']"),
        "unexpected expression",
    ),
    "the whole github context": (CANDIDATE, _secret("toJSON(github)"), "unexpected expression"),
    "a secret on two lines": (
        CANDIDATE,
        '      CANDIDATE: "${{\\n secrets.X }}"\n    outputs',
        "evaluate: unexpected expression",
    ),
    "an environment": (
        "    needs: request\n",
        "    needs: request\n    environment: production\n",
        "evaluate: unexpected environment",
    ),
    "write permission for all jobs": ("permissions: {}", "permissions: write-all", "for all jobs"),
    "a variable for all jobs": (
        "permissions: {}",
        "permissions: {}\nenv: {BASH_ENV: x}",
        "for all",
    ),
    # code or text of somebody else
    "the pull request's head": (
        CHECKOUT,
        CHECKOUT + "          ref: ${{ github.event.pull_request.head.sha }}\n",
        "unexpected checkout",
    ),
    "the pull request's branch": (
        CHECKOUT,
        CHECKOUT + "          ref: ${{ github.head_ref }}\n",
        "unexpected expression",
    ),
    "the pull request's merge commit": (
        CHECKOUT,
        CHECKOUT + "          ref: refs/pull/7/merge\n",
        "unexpected checkout",
    ),
    "a different repository": (
        CHECKOUT,
        CHECKOUT + "          repository: octo-org/other\n",
        "unexpected checkout",
    ),
    "persisted credentials": (CHECKOUT, "          fetch-depth: 0\n", "unexpected checkout"),
    "the comment in a script": (
        SCRIPT,
        SCRIPT.replace("request", 'request "${{ github.event.comment.body }}"'),
        "an expression in a script",
    ),
    "the comment in a variable": (
        TOKEN,
        TOKEN.replace("github.token", "github.event.comment.body"),
        "unexpected expression",
    ),
    "a condition on the title": (
        "contains(github.event.comment.body",
        "startsWith(github.event.issue.title",
        "request: unexpected condition",
    ),
    "no condition": (CONDITION, "", "request: unexpected condition"),
    "edited comments as a trigger": ("types: [created]", "types: [created, edited]", "triggers"),
    "the pull request's workflow": ("  pull_request_target:", "  pull_request:", "triggers"),
    "an unknown action": (
        "uses: actions/download-artifact",
        "uses: someone/download-artifact",
        "not pinned",
    ),
    "an action pinned by tag": (PIN, "actions/checkout@v7", "not pinned"),
    "a quoted key": (f"uses: {PIN}", '"uses" : actions/checkout@v7', "not pinned"),
    "a different commit": (PIN, PIN.replace("3d3c", "4d3c"), "not pinned"),
    "a different version in the comment": (PIN, PIN.replace("v7.0.1", "v7.0.2"), "not pinned"),
    # the commands and their environment
    "a different command": (SCRIPT, "        run: curl x | sh\n", "commands"),
    "a different installation": (
        f"        uses: {OWN}\n        with:\n          lock: requirements.lock\n",
        "        run: curl x | sh\n",
        "evaluate: unexpected steps",
    ),
    "an action of the workspace": (
        f"        uses: {OWN}\n",
        "        uses: ./candidate\n",
        "not pinned to a known commit",
    ),
    "a job that installs more than it needs": (
        "          lock: requirements-promote.lock\n",
        "          lock: requirements.lock\n",
        "promote: installs another lock file",
    ),
    "another lock file in the job that runs the model": (
        "          lock: requirements.lock\n",
        "          lock: requirements-s3.lock\n",
        "evaluate: installs another lock file",
    ),
    "an additional step": (
        EVALUATE,
        "      - name: More\n        run: ./more\n" + EVALUATE,
        "commands",
    ),
    "no bubblewrap": (BUBBLEWRAP, "true", "evaluate: unexpected commands"),
    "a different shell": (SCRIPT, SCRIPT + "        shell: python {0}\n", "shell or folder"),
    "a different folder": (SCRIPT, SCRIPT + "        working-directory: /tmp\n", "shell or folder"),
    "a variable that Python reads": (
        TOKEN,
        TOKEN + "          PYTHONPATH: evidence\n",
        "unexpected variables: {'PYTHONPATH'}",
    ),
    "a variable that bash reads": (
        "      LYNX_HOME: lynx-home\n",
        "      LYNX_HOME: lynx-home\n      BASH_ENV: x\n",
        "unexpected settings",
    ),
    "dev instead of prod": (
        "      LYNX_ENV: prod\n",
        "      LYNX_ENV: dev\n",
        "request: unexpected settings",
    ),
    "a cache": (PYTHON, PYTHON + "          cache: pip\n", "or a cache"),
    "a self-hosted runner": ("runs-on: ubuntu-24.04", "runs-on: self-hosted", "runner"),
    "no time-out": ("    timeout-minutes: 120\n", "", "no time-out"),
    # what jobs pass on, and what is promoted
    "the data unpacked over the code": (
        "          path: .dvc/cache\n",
        "          path: .\n",
        "unexpected artifacts",
    ),
    "the remote's key for the job that runs the model": (
        "          BUNDLE_DIGEST: ${{ needs.request.outputs.bundle_digest }}\n",
        "          DVC_CONFIG_LOCAL: ${{ secrets.DVC_CONFIG_LOCAL }}\n",
        "evaluate: unexpected expression",
    ),
    "the remote's key in a file of the artifact": (
        "          path: data-objects\n",
        "          path: .dvc\n",
        "unexpected artifacts",
    ),
    "evidence unpacked over the code": (
        "          path: evidence\n      - name: Take the data",
        "          path: .\n      - name: Take the data",
        "promote: unexpected artifacts",
    ),
    "an artifact of the whole machine": (
        "path: candidate\n          include",
        "path: ..\n          include",
        "request: unexpected artifacts",
    ),
    "a different run's evidence": (
        "          name: evidence\n          path: evidence\n",
        "          name: evidence\n          path: evidence\n          run-id: 1\n",
        "unexpected action input",
    ),
    "a different job's version": (
        SEMVER,
        SEMVER.replace("request", "evaluate"),
        "promote: unexpected expression",
    ),
    "promotes without an evaluation": (
        "    needs: [request, evaluate]\n",
        "    needs: request\n",
        "promote: needs",
    ),
    "promotes without its environment": (PROMOTES, "", "promote: unexpected environment"),
    "reads MLflow's token outside an environment": (
        "    environment: candidate\n",
        "",
        "request: unexpected environment",
    ),
    "reads the channels in the environment that promotes": (
        "    environment: report\n",
        "    environment: production\n",
        "report: unexpected environment",
    ),
    "promotes after a refusal": (
        PROMOTES,
        PROMOTES + "    if: always()\n",
        "promote: unexpected condition",
    ),
    "promotes after a failure": (
        EVALUATE,
        EVALUATE + "        continue-on-error: true\n",
        "unexpected continue-on-error",
    ),
    "a job that may fail": (
        PROMOTES,
        PROMOTES + "    continue-on-error: true\n",
        "unexpected job keys",
    ),
    "promotions cancel each other": (
        "cancel-in-progress: false",
        "cancel-in-progress: true",
        "be cancelled",
    ),
    "runs cancel each other": (
        "permissions: {}",
        "permissions: {}\nconcurrency: x",
        "for all jobs",
    ),
}


@pytest.mark.parametrize(("old", "new", "expected"), WEAKER.values(), ids=WEAKER)
def test_a_weakening_change_is_found(old: str, new: str, expected: str) -> None:
    """One of the findings is the expected one."""
    text = DEPLOY.read_text()
    assert old in text
    found = list(findings(text.replace(old, new, 1)))
    assert any(expected in finding for finding in found), found


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.stem))
def test_every_workflow_is_pinned_and_has_minimal_permissions(path: Path) -> None:
    """Write permission only to deploy or publish, no expression in a script, and time-outs."""
    text = path.read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    assert list(unpinned(text)) == []
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 120
        if (path, name) == (RELEASE, "publish"):
            assert job["permissions"] == {"id-token": "write"}
        else:
            assert path == DEPLOY or "write" not in job["permissions"].values()
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")


def test_the_publish_job_runs_only_the_publish_action() -> None:
    """The job has an identity, so it runs no code of the repository and takes only what was
    built."""
    workflow = yaml.safe_load(RELEASE.read_text())
    assert list(workflow["jobs"]) == ["build", "publish"]
    publish = workflow["jobs"]["publish"]
    assert workflow[True] == {"push": {"tags": ["v[0-9]*"]}}
    assert (publish["needs"], publish["environment"]) == ("build", "release")
    assert [step["uses"].partition("@")[0] for step in publish["steps"]] == [
        "actions/download-artifact",
        "pypa/gh-action-pypi-publish",
    ]
    assert [step.get("with") for step in publish["steps"]] == [
        {"name": "distributions", "path": "dist/"},
        None,
    ]
    assert not any({"run", "env", "if"} & step.keys() for step in publish["steps"])


def test_there_are_no_other_workflows() -> None:
    """Every file in the folder counts, whatever its suffix."""
    assert [path.name for path in ALL] == ["baseline.yml", DEPLOY.name, RELEASE.name, "test.yml"]


def test_workflow_and_code_use_the_same_label() -> None:
    """The workflow checks the label before it starts a job."""
    assert f"github.event.label.name == '{LABEL}'" in DEPLOY.read_text()
    assert f"labels.*.name, '{LABEL}')" in DEPLOY.read_text()
