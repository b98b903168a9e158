"""One run of a workflow for one event: its jobs in order, each on its own machine."""

import json
import secrets as random
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lynx_pipeline_tests.simulators.actions.commands import Masks
from lynx_pipeline_tests.simulators.actions.commands import parse_env_file as parse_env_file
from lynx_pipeline_tests.simulators.actions.expressions import as_text, condition, interpolate
from lynx_pipeline_tests.simulators.actions.fake_github import FakeGitHub
from lynx_pipeline_tests.simulators.actions.github_records import HTML
from lynx_pipeline_tests.simulators.actions.github_records import Job as ListedJob
from lynx_pipeline_tests.simulators.actions.job import (
    CANCELLED,
    FAILURE,
    SKIPPED,
    SUCCESS,
    Cancelled,
    Hooks,
    JobResult,
    Machine,
)
from lynx_pipeline_tests.simulators.actions.workflow import Job, Workflow, load
from lynx_pipeline_tests.support.builders import JsonObject
from lynx_pipeline_tests.support.fake_issuer import BEARER, MAIN, REMOVED, REPOSITORY, FakeIssuer


@dataclass(frozen=True)
class Event:
    """The event that starts a run, and its actor."""

    name: str
    payload: Mapping[str, Any]
    by: str = "octocat"


@dataclass(frozen=True)
class RunResult:
    """The result of an attempt: its jobs in order, or no jobs if the event does not start the
    workflow. ``artifacts`` is the folder of this attempt's artifacts."""

    jobs: Mapping[str, JobResult]
    artifacts: Path
    attempt: int

    def only(self, *names: str) -> "RunResult":
        """This result with these jobs only, for a run that continues after them."""
        return replace(self, jobs={name: self.jobs[name] for name in names})


@dataclass
class _Progress:
    """The progress of a run."""

    done: dict[str, JobResult]
    cancelled: bool = False


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Runs ``workflow`` at commit ``sha`` of ``origin``, under ``work``.

    A job gets the environment ``environ`` (at least a PATH) and the workflow's, a new token of
    ``github``, and an identity from ``issuer`` if its permissions allow that.
    """

    workflow: Path
    event: Event
    github: FakeGitHub
    issuer: FakeIssuer
    origin: str
    sha: str
    work: Path
    environ: Mapping[str, str]
    vars: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    # The secrets of environments, by name; they override the repository's.
    environment_secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    hooks: Hooks = field(default_factory=Hooks)
    ref: str = MAIN
    # Who re-ran it; if empty, the actor of the event.
    again_by: str = ""
    run_id: str = "9876543210"
    run_attempt: int = 1
    # What download-artifact does by default if the digest differs; "warn" up to version 7.
    digest_mismatch: str = "error"

    @property
    def folder(self) -> Path:
        """The folder of this attempt, with ``artifacts`` and ``jobs``."""
        return self.work / f"attempt-{self.run_attempt}"

    @property
    def artifacts(self) -> Path:
        """The artifacts of this attempt."""
        return self.folder / "artifacts"

    def workspace(self, job: str) -> Path:
        """A job's workspace."""
        return self._place(job) / "workspace"

    def _place(self, job: str) -> Path:
        return self.folder / "jobs" / job

    def run(self, given: RunResult | None = None) -> RunResult:
        """Run all jobs, or those missing in ``given``, starting with its artifacts."""
        workflow = load(self.workflow)
        if unknown := self.hooks.keys() - workflow.keys():
            raise ValueError(f"hooks for unknown jobs or steps: {sorted(unknown)}")
        (self.folder / "jobs").mkdir(parents=True)
        if given is None:
            self.artifacts.mkdir()
        else:
            shutil.copytree(given.artifacts, self.artifacts)
        if not workflow.wants(self.event.name, self.event.payload):
            return RunResult({}, self.artifacts, self.run_attempt)
        by = self.again_by or self.event.by
        listed = self.github.start(
            self.run_id, self.event.by, again_by=by, attempt=self.run_attempt
        )
        progress = _Progress(dict(given.jobs if given else {}))
        for job in workflow.jobs.values():
            if job.name not in progress.done:
                progress.done[job.name] = self._job(workflow, job, progress, listed.jobs)
        ordered = {name: progress.done[name] for name in workflow.jobs}
        ran = {job.result for job in ordered.values()} != {SKIPPED}
        listed.conclusion = "completed" if ran else "skipped"
        return RunResult(ordered, self.artifacts, self.run_attempt)

    def rerun_failed(self, previous: RunResult) -> RunResult:
        """Run the next attempt: the jobs that did not succeed, and those that need one of them."""
        workflow = load(self.workflow)
        again = {name for name, job in previous.jobs.items() if job.result != SUCCESS}
        kept = [
            name for name, job in workflow.jobs.items() if not again & {name, *workflow.before(job)}
        ]
        return replace(self, run_attempt=previous.attempt + 1).run(previous.only(*kept))

    # ----- a job ----------------------------------------------------------------------------

    def _job(
        self, workflow: Workflow, job: Job, progress: _Progress, listed: list[ListedJob]
    ) -> JobResult:
        try:
            self.hooks.before.get(job.name, lambda: None)()
        except Cancelled:
            progress.cancelled = True
        results = {progress.done[name].result for name in workflow.before(job)}
        status = {
            SUCCESS: results <= {SUCCESS} and not progress.cancelled,
            FAILURE: FAILURE in results,
            CANCELLED: progress.cancelled,
        }
        needs = {name: progress.done[name] for name in job.needs}
        contexts = {
            "github": self._github(workflow, job),
            "needs": {n: {"result": it.result, "outputs": it.outputs} for n, it in needs.items()},
            "vars": self.vars,
        }
        if not condition(job.condition, contexts, status):
            was_next = progress.cancelled and results <= {SUCCESS}
            result = CANCELLED if was_next else SKIPPED
            # Its name is shown as it is written.
            listed.append(ListedJob(job.title, self.run_attempt, result))
            return JobResult(result)
        listed.append(ListedJob(interpolate(job.title, contexts), self.run_attempt))
        token = f"ghs_{random.token_hex(18)}"
        with self._known(job, token), self._identity(workflow, job, contexts) as identity:
            machine = self._machine(workflow, job, contexts, token, identity)
            done = machine.run()
            progress.cancelled |= machine.cancelled
            listed[-1].conclusion = done.result
            return done

    def _github(self, workflow: Workflow, job: Job) -> JsonObject:
        """The ``github`` context without the token."""
        return {
            "event": self.event.payload,
            "event_name": self.event.name,
            "event_path": str(self._place(job.name).with_suffix(".json")),
            "workspace": str(self.workspace(job.name)),
            "job": job.name,
            "workflow": workflow.name,
            "workflow_ref": self._workflow_ref,
            "workflow_sha": self.sha,
            "repository": REPOSITORY,
            "repository_owner": REPOSITORY.split("/")[0],
            "repository_id": "74",
            "repository_owner_id": "65",
            "sha": self.sha,
            "ref": self.ref,
            "ref_name": self.ref.removeprefix("refs/heads/"),
            "ref_type": "branch",
            "actor": self.event.by,
            "triggering_actor": self.again_by or self.event.by,
            "run_id": self.run_id,
            "run_number": str(next(r.number for r in self.github.runs if r.id == self.run_id)),
            "run_attempt": str(self.run_attempt),
            "server_url": HTML,
            "api_url": self.github.url,
        }

    @property
    def _workflow_ref(self) -> str:
        return f"{REPOSITORY}/.github/workflows/{self.workflow.name}@{self.ref}"

    def _machine(
        self,
        workflow: Workflow,
        job: Job,
        contexts: JsonObject,
        token: str,
        identity: Mapping[str, str],
    ) -> Machine:
        github: JsonObject = contexts["github"]
        of_its = self.environment_secrets.get(interpolate(job.environment or "", contexts), {})
        secrets = {**self.secrets, **of_its, "GITHUB_TOKEN": token}
        masks = Masks()
        for secret in (*secrets.values(), BEARER):
            masks.add(secret)
        Path(github["event_path"]).write_text(json.dumps(self.event.payload, indent=2))
        defaults = {f"GITHUB_{name.upper()}": it for name, it in github.items() if name != "event"}
        known = {**contexts, "github": {**github, "token": token}, "secrets": secrets}
        of_all = {name: it for name, it in known.items() if name != "needs"}
        return Machine(
            job=job,
            folder=self._place(job.name),
            contexts=known,
            env={name: interpolate(as_text(it), of_all) for name, it in workflow.env.items()},
            environ=self.environ,
            variables={
                **defaults,
                "GITHUB_ACTIONS": "true",
                "RUNNER_OS": "Linux",
                "RUNNER_ARCH": "X64",
                "RUNNER_NAME": "rehearsal",
                "RUNNER_ENVIRONMENT": "github-hosted",
                **identity,
            },
            hooks=self.hooks,
            masks=masks,
            artifacts=self.artifacts,
            attempt=self.run_attempt,
            origin=self.origin,
            digest_mismatch=self.digest_mismatch,
        )

    @contextmanager
    def _known(self, job: Job, token: str) -> Iterator[None]:
        """Register the job's token with GitHub while the job runs."""
        may = {name: level for name, level in job.permissions.items() if name != "id-token"}
        self.github.tokens[token] = may
        try:
            yield
        finally:
            del self.github.tokens[token]

    @contextmanager
    def _identity(
        self, workflow: Workflow, job: Job, contexts: JsonObject
    ) -> Iterator[Mapping[str, str]]:
        """The variables for requesting an identity token; empty without that permission."""
        if job.permissions.get("id-token") != "write":
            yield {}
            return
        environment = job.environment and interpolate(job.environment, contexts)
        names = ("ref", "sha", "actor", "run_id", "run_attempt", "event_name", "workflow")
        claims = {
            **{name: contexts["github"][name] for name in names},
            "workflow_ref": self._workflow_ref,
            "workflow_sha": self.sha,
            "job_workflow_ref": self._workflow_ref,
            "job_workflow_sha": self.sha,
            "environment": environment or REMOVED,
            "sub": f"repo:{REPOSITORY}:"
            + (f"environment:{environment}" if environment else f"ref:{self.ref}"),
        }
        before = self.issuer.changes
        # A test's own changes take precedence.
        self.issuer.changes = {**claims, **before}
        try:
            yield {n: it for n, it in self.issuer.job.items() if n.startswith("ACTIONS_")}
        finally:
            self.issuer.changes = before
