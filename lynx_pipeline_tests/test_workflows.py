"""What the deploy workflow may never become: rules over its text, and changes that break them."""

import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from lynx_pipeline.domain.request import LABEL

REPO = Path(__file__).parents[1]
WORKFLOWS = REPO / ".github/workflows"
DEPLOY = WORKFLOWS / "deploy-grammar-tutor.yml"
ALL = sorted(WORKFLOWS.iterdir())

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
# Of the whole file. Whoever changes it goes through the threat model in docs/ci.md first.
REVIEWED = "fdd7411e63c920ea78adb7f8f453839e8ae73e31e76189d24b11e18ab9469e58"


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
    yield from _unpinned(text)


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


def _unpinned(text: str) -> Iterator[str]:
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


def test_the_deploy_workflow_keeps_every_rule() -> None:
    """As it is."""
    assert list(findings(DEPLOY.read_text())) == []


def test_the_deploy_workflow_is_the_one_that_was_reviewed() -> None:
    """There are more ways to weaken it than rules."""
    found = sha256(DEPLOY.read_bytes()).hexdigest()
    assert found == REVIEWED, (
        "The deploy workflow has changed. Go through the threat model in docs/ci.md; if all of it "
        f"still holds, put {found} here."
    )


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
    """No write permission but in the deploy workflow, no expression in a script, time-outs."""
    text = path.read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    assert list(_unpinned(text)) == []
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 120
        assert path == DEPLOY or "write" not in job["permissions"].values()
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")


def test_there_are_no_other_workflows() -> None:
    """By whatever ending."""
    assert [path.name for path in ALL] == ["baseline.yml", DEPLOY.name, "test.yml"]


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
