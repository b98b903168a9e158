"""A workflow's YAML as jobs and steps. A key that is not modelled raises an error."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

SCOPES = (
    *("actions", "attestations", "checks", "contents", "deployments", "discussions", "id-token"),
    *("issues", "packages", "pages", "pull-requests", "security-events", "statuses"),
)
# The default activity types of events.
_TYPES = dict.fromkeys(
    ("pull_request", "pull_request_target"), ("opened", "synchronize", "reopened")
)

Mapped = Mapping[str, Any]


class NotModelled(Exception):
    """Something that GitHub may support, but this simulator does not."""


@dataclass(frozen=True)
class Step:
    """One step: a script to ``run``, or an action that it ``uses``."""

    name: str
    id: str | None
    condition: str | bool | None
    uses: str | None
    run: str | None
    inputs: Mapped
    env: Mapped
    shell: str | None
    folder: str | None
    continue_on_error: Any
    minutes: Any

    @property
    def keys(self) -> set[str]:
        """The names by which a scenario may refer to it."""
        return {key for key in (self.name, self.id) if key}


@dataclass(frozen=True)
class Job:
    """One job. ``title`` is the name that GitHub shows; ``permissions`` are all permissions of its
    token."""

    name: str
    title: str
    needs: tuple[str, ...]
    condition: str | bool | None
    permissions: Mapping[str, str]
    environment: str | None
    env: Mapped
    outputs: Mapped
    minutes: Any
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Workflow:
    """A workflow; ``jobs`` are in an order in which they can run."""

    name: str
    events: Mapping[str, Mapped]
    env: Mapped
    jobs: Mapping[str, Job]

    def wants(self, event: str, payload: Mapped) -> bool:
        """Whether this event starts a run."""
        if event not in self.events:
            return False
        types = self.events[event].get("types", _TYPES.get(event))
        return types is None or payload.get("action") in types

    def before(self, job: Job) -> set[str]:
        """The names of all jobs that must end before this one."""
        return set(job.needs).union(*(self.before(self.jobs[name]) for name in job.needs))

    def keys(self) -> set[str]:
        """The names for scenarios: each job, and ``job/step`` by the step's id and name."""
        steps = {f"{j.name}/{key}" for j in self.jobs.values() for s in j.steps for key in s.keys}
        return {*self.jobs, *steps}


def load(file: Path) -> Workflow:
    """The workflow in this file."""
    top = _taken(
        yaml.load(file.read_text(), _Loader),  # a SafeLoader with fewer types
        file.name,
        ("name", "on", "permissions", "env", "jobs", "run-name", "concurrency"),
    )
    jobs = {name: _job(name, it, top.get("permissions")) for name, it in top["jobs"].items()}
    return Workflow(
        name=top.get("name", file.name),
        events=_events(top["on"]),
        env=top.get("env", {}),
        jobs={job.name: job for job in _ordered(jobs)},
    )


class _Loader(yaml.SafeLoader):
    """YAML as GitHub reads it: ``on`` and ``no`` are text, and there are no dates."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, form)
        for tag, form in known
        if not tag.endswith(":timestamp") and (first in "tTfF" or not tag.endswith(":bool"))
    ]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _taken(it: Any, what: str, known: Iterable[str]) -> dict[str, Any]:
    if not isinstance(it, dict) or (unknown := it.keys() - set(known)):
        raise NotModelled(f"{what}: {sorted(map(str, unknown)) if isinstance(it, dict) else it!r}")
    return it


def _events(on: Any) -> dict[str, Mapped]:
    if isinstance(on, str | list):
        return {name: {} for name in ([on] if isinstance(on, str) else on)}
    return {name: _taken(it or {}, f"on: {name}", ("types",)) for name, it in on.items()}


def _job(name: str, it: Any, of_all: Any) -> Job:
    known = (
        *("name", "if", "needs", "runs-on", "timeout-minutes", "permissions", "environment"),
        *("concurrency", "env", "outputs", "steps"),
    )
    job = _taken(it, name, known)
    needs, environment = job.get("needs", ()), job.get("environment")
    if isinstance(environment, dict):
        environment = _taken(environment, f"{name}: environment", ("name", "url"))["name"]
    return Job(
        name=name,
        title=job.get("name", name),
        needs=(needs,) if isinstance(needs, str) else tuple(needs),
        condition=job.get("if"),
        permissions=_permissions(name, job.get("permissions", of_all)),
        environment=environment,
        env=job.get("env", {}),
        outputs=job.get("outputs", {}),
        minutes=job.get("timeout-minutes", 360),
        steps=tuple(_step(name, step) for step in job["steps"]),
    )


def _permissions(job: str, block: Any) -> dict[str, str]:
    # Without a block the repository's setting decides, which is not modelled.
    found = _taken(block, f"permissions of {job}", SCOPES)
    if found.keys() and set(found.values()) - {"read", "write", "none"}:
        raise NotModelled(f"permissions of {job}: {found}")
    return {name: level for name, level in found.items() if level != "none"}


def _step(job: str, it: Any) -> Step:
    known = (
        *("name", "id", "if", "uses", "with", "run", "env", "shell", "working-directory"),
        *("continue-on-error", "timeout-minutes"),
    )
    step = _taken(it, f"a step of {job}", known)
    uses, run = step.get("uses"), step.get("run")
    if (uses is None) == (run is None):
        raise NotModelled(f"a step of {job} needs exactly one of `run` and `uses`: {step}")
    return Step(
        name=step.get("name") or f"Run {uses or str(run).splitlines()[0]}",
        id=step.get("id"),
        condition=step.get("if"),
        uses=uses,
        run=run,
        inputs=step.get("with", {}),
        env=step.get("env", {}),
        shell=step.get("shell"),
        folder=step.get("working-directory"),
        continue_on_error=step.get("continue-on-error", False),
        minutes=step.get("timeout-minutes", 360),
    )


def _ordered(jobs: Mapping[str, Job]) -> Iterator[Job]:
    left = dict(jobs)
    while left:
        ready = [job for job in left.values() if not left.keys() & set(job.needs)]
        if not ready or any(set(job.needs) - jobs.keys() for job in ready):
            raise NotModelled(f"jobs that need each other or an unknown job: {sorted(left)}")
        yield ready[0]
        del left[ready[0].name]
