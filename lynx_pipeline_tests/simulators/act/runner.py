"""One run of a workflow under act, and its result."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lynx_pipeline_tests.deploy_workflow.pins import PINS
from lynx_pipeline_tests.simulators.actions.actions import INPUTS
from lynx_pipeline_tests.simulators.actions.github_records import Comment
from lynx_pipeline_tests.simulators.actions.stage import NUMBER, OWNER, WORKFLOW, Stage
from lynx_pipeline_tests.support import REPO
from lynx_pipeline_tests.support.builders import JsonObject
from lynx_pipeline_tests.support.fake_issuer import MAIN, REPOSITORY
from lynx_pipeline_tests.support.package_index import index
from lynx_pipeline_tests.support.places import GIT_ENV
from lynx_pipeline_tests.support.signing import private_pem

BASELINE = ".github/workflows/baseline.yml"
# act has one token for all jobs; what each job may do is tested with the home-made runner.
TOKEN = "ghs_of_every_job_under_act"
_ACTION = """\
name: A replacement
inputs: {inputs}
runs:
  using: composite
  steps:
    - shell: bash
      run: '"$REPLACEMENTS" -m lynx_pipeline_tests.simulators.act.replacement {action}'
      env:
        INPUTS: ${{{{ toJSON(inputs) }}}}
        GITHUB_CONTEXT: ${{{{ toJSON(github) }}}}
        PYTHONPATH: {repo}
"""
# Makes the environment of a job of the deploy workflow where the same job of later runs finds it
# unpacked and compiled. pip and uv check there that it has what its lock file lists. Its programs
# name the workspace of the first run.
_PYTHON = """\
#!/bin/sh
set -eu
if [ "$*" != "-m venv --without-pip .venv" ] || [ "$GITHUB_JOB" = baseline ]; then
    exec {python} "$@"
fi
own={shared}/"$GITHUB_JOB"
if [ -d "$own" ]; then
    grep -lI '^#!' "$own"/bin/* | xargs sed -i "1,2s|[^ '!]*/[.]venv/bin/python|$own/bin/python|"
else
    mkdir -p {shared}
    {python} -m venv --without-pip "$own"
fi
ln -s "$own" .venv
"""


@dataclass(frozen=True)
class Step:
    """A step that ran, with its time in seconds."""

    job: str
    name: str
    result: str
    seconds: float


@dataclass(frozen=True)
class ActRun:
    """A finished run. ``jobs`` has the result of each job that ran, and ``names`` its name;
    ``artifacts`` is the folder of what they kept."""

    code: int
    jobs: Mapping[str, str]
    names: Mapping[str, str]
    steps: tuple[Step, ...]
    seconds: float
    log: str
    artifacts: Path

    def failed(self) -> list[str]:
        """The failed steps, as ``job/step``."""
        return [f"{it.job}/{it.name}" for it in self.steps if it.result == "failure"]


def run(stage: Stage, comment: Comment, mlflow: str = "", label: str = "", **env: str) -> ActRun:
    """Run the deploy workflow as GitHub would for this comment, or for ``label`` if its author sets
    it afterwards. ``env`` is added to all steps."""
    by, github = comment.login or "", stage.github
    if label:
        payload = github.labeled(NUMBER, label, by)
        payload["pull_request"]["base"]["sha"] = stage.sha  # act checks it out
        return _run(stage, WORKFLOW, "pull_request_target", payload, by, mlflow, env)
    return _run(stage, WORKFLOW, "issue_comment", github.created(comment), by, mlflow, env)


def check_pull_request(stage: Stage) -> ActRun:
    """Run the workflow *Baseline* on the commit that the team has checked out, which merges the
    pull request."""
    payload = stage.github.labeled(NUMBER, "", OWNER) | {"action": "synchronize"}
    return _run(stage, BASELINE, "pull_request", payload, OWNER, "", {})


def _run(
    stage: Stage,
    workflow: str,
    kind: str,
    payload: JsonObject,
    by: str,
    mlflow: str,
    env: Mapping[str, str],
) -> ActRun:
    stage.runs += 1
    folder = stage.folder / f"act-{stage.runs}"
    for name in ("home", "artifacts", "cache", "actions"):
        (folder / name).mkdir(parents=True)
    event = folder / "event.json"
    event.write_text(json.dumps(payload))
    number = str(2_000_000 + stage.runs)
    listed = stage.github.start(number, by)
    variables = {
        **_environ(stage, folder),
        "GITHUB_RUN_ID": number,
        "GITHUB_RUN_NUMBER": str(listed.number),
        "GITHUB_RUN_ATTEMPT": "1",
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_TRIGGERING_ACTOR": by,
        "GITHUB_API_URL": stage.github.url,
        **env,
    }
    command = [
        *("act", kind, "--json", "--no-skip-checkout", "--no-cache-server"),
        *("--directory", str(stage.folder / "team"), "--workflows", workflow),
        *("--eventpath", str(event), "--actor", by, "--defaultbranch", "main"),
        *("--platform", "ubuntu-24.04=-self-hosted", "--concurrent-jobs", "1"),
        *("--action-cache-path", str(folder / "cache")),
        *("--var", f"MLFLOW_TRACKING_URI={mlflow or stage.mlflow}"),
        *("--secret", f"GITHUB_TOKEN={TOKEN}", "--secret", f"APPRISE_URLS={stage.channel.url}"),
        *("--secret", f"LYNX_SIGNING_KEY={private_pem()}"),
    ]
    for name, value in variables.items():
        command += ["--env", f"{name}={value}"]
    for action, place in {**_replacements(folder / "actions"), **stage.actions}.items():
        command += ["--local-repository", f"{action}={place}"]
    with _known(stage, kind, number, by):
        began = datetime.now()
        # No file of settings in a home folder is read.
        done = subprocess.run(
            command,
            env={"PATH": os.environ["PATH"], "HOME": str(folder / "home")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        seconds = (datetime.now() - began).total_seconds()
    listed.conclusion = "completed"
    return _result(done.returncode, done.stdout, seconds, folder / "artifacts")


def _environ(stage: Stage, folder: Path) -> dict[str, str]:
    """The environment of every step: that of a fresh machine, except for uv's cache, and what
    comes with it."""
    ours = str(Path(sys.executable).parent)
    path = [it for it in os.environ["PATH"].split(os.pathsep) if it != ours]
    reach = ("SSL_CERT_", "UV_", "PIP_", "HTTP_", "HTTPS_", "NO_PROXY")
    return {
        # How this machine reaches its package index.
        **{name: it for name, it in os.environ.items() if name.upper().startswith(reach)},
        **index(),
        "PATH": os.pathsep.join([str(stage.folder / "tools"), *path]),
        "HOME": str(folder / "home"),
        "LANG": "C.UTF-8",
        **GIT_ENV,
        "GIT_SSL_CAINFO": str(stage.git.pem),
        **({"UV_CACHE_DIR": str(stage.uv_cache)} if stage.uv_cache else {"UV_NO_CACHE": "1"}),
        "PIP_NO_CACHE_DIR": "1",
        **({"PYTHON_BIN": str(_sharing(stage.folder / "shared"))} if stage.uv_cache else {}),
        "REPLACEMENTS": sys.executable,
        "ARTIFACTS": str(folder / "artifacts"),
        "ORIGIN": f"{stage.git.url}/origin.git",
        **{name: it for name, it in stage.issuer.job.items() if name.startswith("ACTIONS_")},
    }


def _sharing(folder: Path) -> Path:
    """A folder with a ``python3`` in place of the real one; see :data:`_PYTHON`."""
    tool = folder / "bin" / "python3"
    if not tool.exists():
        tool.parent.mkdir(parents=True)
        real = Path(sys.base_prefix) / "bin" / "python3"
        tool.write_text(_PYTHON.format(python=real, shared=folder / "jobs"))
        tool.chmod(0o755)
    return tool.parent


def _replacements(folder: Path) -> dict[str, Path]:
    """A replacement of each pinned action, by ``OWNER/NAME@COMMIT``."""
    made = {}
    for action, inputs in INPUTS.items():
        commit = PINS[action].partition(" ")[0]
        place = folder / action.replace("/", "-")
        place.mkdir()
        names = ", ".join(f"{name}: {{}}" for name in inputs)
        text = _ACTION.format(inputs=f"{{{names}}}", action=action, repo=REPO)
        (place / "action.yml").write_text(text)
        made[f"{action}@{commit}"] = place
    return made


@contextmanager
def _known(stage: Stage, event: str, number: str, by: str) -> Iterator[None]:
    """Register the token with GitHub, and the run's claims with the issuer."""
    workflow = f"{REPOSITORY}/{WORKFLOW}@{MAIN}"
    before = stage.issuer.changes
    stage.issuer.changes = {
        "ref": MAIN,
        "sha": stage.sha,
        "run_id": number,
        "run_attempt": "1",
        "actor": by,
        "event_name": event,
        "environment": "production",
        "workflow_ref": workflow,
        "workflow_sha": stage.sha,
        "job_workflow_ref": workflow,
        "job_workflow_sha": stage.sha,
    }
    stage.github.tokens[TOKEN] = {
        "actions": "read",
        "contents": "write",
        "pull-requests": "write",
    }
    try:
        yield
    finally:
        del stage.github.tokens[TOKEN]
        stage.issuer.changes = before


def _result(code: int, log: str, seconds: float, artifacts: Path) -> ActRun:
    jobs, names, steps = dict[str, str](), dict[str, str](), []
    for line in log.splitlines():
        try:
            entry: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        job = entry.get("jobID", "")
        if "jobResult" in entry:
            jobs[job] = entry["jobResult"]
            names[job] = entry["job"].partition("/")[2].strip()
        # The steps of a composite action have longer ids.
        if "stepResult" in entry and entry.get("stage") == "Main" and len(entry["stepID"]) == 1:
            took = entry.get("executionTime", 0) / 1e9
            steps.append(Step(job, entry["step"], entry["stepResult"], took))
    return ActRun(code, jobs, names, tuple(steps), seconds, log, artifacts)
