"""The deploy workflow keeps every rule, and changes that weaken it break one."""

import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from lynx_pipeline.domain.release.request import LABEL
from lynx_pipeline_tests.deploy_workflow.workflow_rules import (
    PINS,
    findings,
    findings_in,
    unpinned,
)
from lynx_pipeline_tests.support import REPO

WORKFLOWS = REPO / ".github/workflows"
DEPLOY = WORKFLOWS / "deploy-grammar-tutor.yml"
ALL = sorted(WORKFLOWS.iterdir())
RELEASE = WORKFLOWS / "release.yml"


def test_the_deploy_workflow_keeps_every_rule() -> None:
    """As it is."""
    assert list(findings(DEPLOY.read_text())) == []


def _places(node: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every node of a parsed workflow, with the keys that lead to it."""
    yield path, node
    children = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node if isinstance(node, list) else [])
    )
    for key, child in children:
        yield from _places(child, (*path, key))


def _changes(node: Any) -> Iterator[tuple[str, Any]]:
    """What may become of a node, except that it is removed."""
    if isinstance(node, dict):
        yield "one more key", {**node, "another": "x"}
    elif isinstance(node, list):
        yield "one more element", [*node, deepcopy(node[-1])]
        if len(node) > 1:
            yield "another order", node[::-1]
    elif isinstance(node, bool):
        yield "the opposite", not node
    else:
        yield "another value", 121 if isinstance(node, int) else f"{node} x"


def _replaced(workflow: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The workflow with another node there; without the node if it is None."""
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
    """Whatever is removed, added, replaced or moved, except the names that people read."""
    workflow = yaml.safe_load(DEPLOY.read_text())
    missed, tried = [], 0
    for path, node in _places(workflow):
        changes = [*_changes(node), *([("removed", None)] if path else [])]
        for what, new in changes:
            tried += 1
            if not list(findings_in(_replaced(workflow, path, new))):
                missed.append((path, what))
    names = [("jobs", job, "name") for job in workflow["jobs"]]
    free = [(path, what) for path in names for what in ("another value", "removed")]
    assert missed == [(("name",), "another value"), *free]
    assert tried > 300


MODEL_JOB = """      contents: read # the default branch
    env:
      LYNX_ENV: prod
      LYNX_HOME: lynx-home
      RUN_ID"""
RUN_ID = "      RUN_ID: ${{ needs.request.outputs.run_id }}\n    outputs"
CHECKOUT = "          persist-credentials: false\n"
PYTHON = '          python-version: "3.11"\n'
SCRIPT = "        run: ./dev run lynx-pipeline ci request\n"
TOKEN = "          GITHUB_TOKEN: ${{ github.token }}\n"
SEMVER = "          SEMVER: ${{ needs.request.outputs.semver }}\n          SHA"
PIN = f"actions/checkout@{PINS['actions/checkout']}"
BUBBLEWRAP = "sudo apt-get install --yes --no-install-recommends bubblewrap"
EVALUATE = "      - name: Evaluate\n"
CONDITION = re.findall("    if: >-\n(?:      .*\n)+", DEPLOY.read_text())[0]
PROMOTES = "    environment: production\n"


def _secret(expression: str) -> str:
    """For the model's job."""
    return f"      RUN_ID: ${{{{ {expression} }}}}\n    outputs"


# What is changed, to what, and what is said of it.
WEAKER = {
    # an identity, a right or a secret for the model's job
    "an identity": (
        MODEL_JOB,
        MODEL_JOB.replace("    env", "      id-token: write\n    env", 1),
        "evaluate: other permissions",
    ),
    "write permission": (
        MODEL_JOB,
        MODEL_JOB.replace("read", "write"),
        "evaluate: other permissions",
    ),
    "a secret": (RUN_ID, _secret("secrets.X"), "evaluate: another expression"),
    "all secrets": (RUN_ID, _secret("toJSON(secrets)"), "evaluate: another expression"),
    "a secret in capitals": (RUN_ID, _secret("SECRETS['X']"), "evaluate: another expression"),
    "a token": (RUN_ID, _secret("github.token"), "evaluate: another expression"),
    "a token by its name": (RUN_ID, _secret("github['token']"), "another expression"),
    "the whole context": (RUN_ID, _secret("toJSON(github)"), "another expression"),
    "over two lines": (
        RUN_ID,
        '      RUN_ID: "${{\\n secrets.X }}"\n    outputs',
        "evaluate: another expression",
    ),
    "an environment": (
        "    needs: request\n",
        "    needs: request\n    environment: production\n",
        "evaluate: another environment",
    ),
    "all rights": ("permissions: {}", "permissions: write-all", "for all jobs"),
    "a variable for all": ("permissions: {}", "permissions: {}\nenv: {BASH_ENV: x}", "for all"),
    # code or text of somebody else's
    "their head": (
        CHECKOUT,
        CHECKOUT + "          ref: ${{ github.event.pull_request.head.sha }}\n",
        "another checkout",
    ),
    "their branch": (
        CHECKOUT,
        CHECKOUT + "          ref: ${{ github.head_ref }}\n",
        "another expression",
    ),
    "their merge": (CHECKOUT, CHECKOUT + "          ref: refs/pull/7/merge\n", "another checkout"),
    "another repository": (
        CHECKOUT,
        CHECKOUT + "          repository: octo-org/other\n",
        "another checkout",
    ),
    "a kept token": (CHECKOUT, "          fetch-depth: 0\n", "another checkout"),
    "the comment in a script": (
        SCRIPT,
        SCRIPT.replace("request", 'request "${{ github.event.comment.body }}"'),
        "an expression in a script",
    ),
    "the comment in a variable": (
        TOKEN,
        TOKEN.replace("github.token", "github.event.comment.body"),
        "another expression",
    ),
    "the title decides": (
        "contains(github.event.comment.body",
        "startsWith(github.event.issue.title",
        "request: another condition",
    ),
    "no condition": (CONDITION, "", "request: another condition"),
    "edits count": ("types: [created]", "types: [created, edited]", "triggers"),
    "their workflow": ("  pull_request_target:", "  pull_request:", "triggers"),
    "somebody's action": (
        "uses: actions/download-artifact",
        "uses: someone/download-artifact",
        "not pinned",
    ),
    "an action by its tag": (PIN, "actions/checkout@v7", "not pinned"),
    "quoted": (f"uses: {PIN}", '"uses" : actions/checkout@v7', "not pinned"),
    "another commit": (PIN, PIN.replace("3d3c", "4d3c"), "not pinned"),
    "another version's name": (PIN, PIN.replace("v7.0.1", "v7.0.2"), "not pinned"),
    # what is run
    "another command": ("        run: ./dev install\n", "        run: curl x | sh\n", "commands"),
    "one more": (EVALUATE, "      - name: More\n        run: ./more\n" + EVALUATE, "commands"),
    "no bubblewrap": (BUBBLEWRAP, "true", "evaluate: other commands"),
    "another shell": (SCRIPT, SCRIPT + "        shell: python {0}\n", "shell or folder"),
    "another folder": (SCRIPT, SCRIPT + "        working-directory: /tmp\n", "shell or folder"),
    "a variable that Python reads": (
        TOKEN,
        TOKEN + "          PYTHONPATH: evidence\n",
        "other variables: {'PYTHONPATH'}",
    ),
    "a variable that bash reads": (
        "      LYNX_HOME: lynx-home\n",
        "      LYNX_HOME: lynx-home\n      BASH_ENV: x\n",
        "other settings",
    ),
    "dev": ("      LYNX_ENV: prod\n", "      LYNX_ENV: dev\n", "request: other settings"),
    "a cache": (PYTHON, PYTHON + "          cache: pip\n", "or a cache"),
    "own runner": ("runs-on: ubuntu-24.04", "runs-on: self-hosted", "runner"),
    "no time-out": ("    timeout-minutes: 120\n", "", "no time-out"),
    # what is handed on, and what is promoted
    "evidence over the code": (
        "          path: evidence\n",
        "          path: .\n",
        "promote: other artifacts",
    ),
    "the whole machine": (
        "/bundle\n          include",
        "/..\n          include",
        "request: other artifacts",
    ),
    "another run's": (
        "          name: evidence\n          path: evidence\n",
        "          name: evidence\n          path: evidence\n          run-id: 1\n",
        "another input",
    ),
    "another job's version": (
        SEMVER,
        SEMVER.replace("request", "evaluate"),
        "promote: another expression",
    ),
    "promotes without an evaluation": (
        "    needs: [request, evaluate]\n",
        "    needs: request\n",
        "promote: needs",
    ),
    "promotes without its environment": (PROMOTES, "", "promote: another environment"),
    "promotes after a refusal": (
        PROMOTES,
        PROMOTES + "    if: always()\n",
        "promote: another condition",
    ),
    "promotes after a failure": (
        EVALUATE,
        EVALUATE + "        continue-on-error: true\n",
        "another failure is forgiven",
    ),
    "the whole may fail": (PROMOTES, PROMOTES + "    continue-on-error: true\n", "than steps"),
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


@pytest.mark.parametrize(("old", "new", "says"), WEAKER.values(), ids=WEAKER)
def test_a_change_that_breaks_a_rule_is_found(old: str, new: str, says: str) -> None:
    """Wherever it is made."""
    text = DEPLOY.read_text()
    assert old in text
    found = list(findings(text.replace(old, new, 1)))
    assert any(says in finding for finding in found), found


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.stem))
def test_every_workflow_is_pinned_and_asks_for_what_it_needs(path: Path) -> None:
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


def test_the_job_that_publishes_runs_only_the_action_that_publishes() -> None:
    """It has an identity, so it runs no code of the repository and takes only what was built."""
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
    """Whatever the file's ending."""
    assert [path.name for path in ALL] == ["baseline.yml", DEPLOY.name, RELEASE.name, "test.yml"]


def test_workflow_and_code_name_the_same_label() -> None:
    """The workflow looks at it before it starts anything."""
    assert f"github.event.label.name == '{LABEL}'" in DEPLOY.read_text()
    assert f"labels.*.name, '{LABEL}')" in DEPLOY.read_text()


def test_codeowners_covers_what_the_workflow_trusts() -> None:
    """Every file that decides who deploys, by what, and how."""
    from lynx_pipeline.domain.release.owners import owners_of

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
        "lynx_pipeline/registry/registry.py",
        ".dvc/config",
        "setup.py",  # the install would run it
        ".venv/installed",  # and believe this
        "dagster.yaml",
        "a file nobody thought of",
    ):
        assert owners_of(text, path), path


def test_codeowners_says_apart_who_asks_and_who_approves() -> None:
    """Each has a line of its own, which no other line takes back."""
    from lynx_pipeline.domain.release.owners import owners_of

    lines = (REPO / ".github/CODEOWNERS").read_text().splitlines()
    named = "\n".join(line.replace("@OWNER", f"@{k}") for k, line in enumerate(lines))
    asks, approves, other = (
        owners_of(named, path)
        for path in (f".github/workflows/{DEPLOY.name}", "eval_baseline.json", "dev")
    )
    assert len(asks) == len(approves) == len(other) == 1
    assert len(asks | approves | other) == 3
