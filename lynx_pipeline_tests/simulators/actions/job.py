"""One job on its own machine: its steps in order, and their results."""

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lynx_pipeline_tests.simulators.actions import actions
from lynx_pipeline_tests.simulators.actions.commands import (
    Annotation,
    Listener,
    MalformedFile,
    Masks,
    lines,
    parse_env_file,
)
from lynx_pipeline_tests.simulators.actions.expressions import (
    as_text,
    condition,
    interpolate,
    truthy,
    value,
)
from lynx_pipeline_tests.simulators.actions.workflow import Job, NotModelled, Step

SUCCESS, FAILURE, CANCELLED, SKIPPED = "success", "failure", "cancelled", "skipped"

_SHELLS = {
    None: ("bash", "-e"),
    "bash": ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail"),
}
_FILES = ("OUTPUT", "ENV", "PATH", "STATE", "STEP_SUMMARY")
_SUMMARY_LIMIT = 1024 * 1024
# The time that a timed-out job gets for steps that always run.
_GRACE = 300.0


class Cancelled(Exception):
    """Raised by a hook to cancel the run."""


@dataclass(frozen=True)
class Hooks:
    """Interventions of a scenario in a run, by ``job`` or by ``job/step`` (the step's id or name).

    ``before`` is called before a job or step, even if it is skipped. ``wrap`` is prepended to the
    command of a step's shell. ``extra_env`` overrides all other environment variables.
    """

    before: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    wrap: Mapping[str, Sequence[str]] = field(default_factory=dict)
    extra_env: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def keys(self) -> set[str]:
        """All jobs and steps that it names."""
        return {*self.before, *self.wrap, *self.extra_env}


@dataclass(frozen=True)
class StepResult:
    """A step's result: ``outcome`` is before ``continue-on-error``, ``conclusion`` after it. The
    exit code is None if nothing ran, or if it timed out."""

    name: str
    id: str | None
    outcome: str
    conclusion: str
    exit_code: int | None = None
    log: str = ""
    summary: str = ""
    annotations: tuple[Annotation, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JobResult:
    """A job's result. ``token`` was its GitHub token, which is no longer valid."""

    result: str
    outputs: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[StepResult, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    token: str = ""

    def step(self, key: str) -> StepResult:
        """The step with this id or name."""
        (found,) = (step for step in self.steps if key in (step.id, step.name))
        return found

    @property
    def log(self) -> str:
        """The logs of all steps."""
        return "".join(step.log for step in self.steps)

    @property
    def summary(self) -> str:
        """The summaries of all steps."""
        return "".join(step.summary for step in self.steps)


@dataclass
class Machine:
    """A fresh machine in ``folder``, for one job.

    ``contexts`` are github, needs, vars and secrets. ``environ`` is the machine's environment;
    ``variables`` are set by the runner, and no step can change them. ``cancelled``: a hook has
    cancelled the run.
    """

    job: Job
    folder: Path
    contexts: Mapping[str, Any]
    env: dict[str, str]
    environ: Mapping[str, str]
    variables: Mapping[str, str]
    hooks: Hooks
    masks: Masks
    artifacts: Path
    attempt: int
    origin: str
    digest_mismatch: str
    cancelled: bool = False
    _timed_out: bool = False
    _failed: bool = False
    _path: list[str] = field(default_factory=list)
    _steps: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.workspace, self._temp = self.folder / "workspace", self.folder / "temp"
        for folder in (self.workspace, self._temp, self.folder / "home"):
            folder.mkdir(parents=True)
        self._tracking = f"github_{uuid.uuid4()}"
        self._deadline = time.monotonic() + 60 * float(value(self.job.minutes, self.contexts))

    def run(self) -> JobResult:
        """Run all steps."""
        self.env |= self._texts(self.job.env, {**self.contexts, "env": self.env})
        try:
            steps = tuple(self._step(step) for step in self.job.steps)
        finally:
            self._end_orphans()
        annotations = [it for step in steps for it in step.annotations]
        outputs = {}
        for name, text in self._texts(self.job.outputs, self._context()).items():
            if self.masks.hide(text) != text:
                message = f"Skip output '{name}' since it may contain secret."
                annotations.append(Annotation("warning", message))
            elif text:
                outputs[name] = text
        token = self.contexts["github"]["token"]
        return JobResult(self._result(), outputs, steps, tuple(annotations), token)

    def _result(self) -> str:
        if self.cancelled or self._timed_out:
            return CANCELLED
        return FAILURE if self._failed else SUCCESS

    def _context(self) -> dict[str, Any]:
        return {
            **self.contexts,
            "env": self.env,
            "steps": self._steps,
            "job": {"status": self._result()},
            "runner": {"os": "Linux", "arch": "X64", "temp": str(self._temp)},
        }

    def _texts(self, settings: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, str]:
        return {name: interpolate(as_text(text), known) for name, text in settings.items()}

    # ----- a step ---------------------------------------------------------------------------

    def _step(self, step: Step) -> StepResult:
        keys = {f"{self.job.name}/{key}" for key in step.keys}
        try:
            for key in keys & self.hooks.before.keys():
                self.hooks.before[key]()
        except Cancelled:
            self.cancelled = True
        known = self._context()
        env = self._texts(step.env, known)
        known["env"] = {**self.env, **env}
        status = {name: self._result() == name for name in (SUCCESS, FAILURE, CANCELLED)}
        without_secrets = {name: it for name, it in known.items() if name != "secrets"}
        if condition(step.condition, without_secrets, status):
            result = self._run(step, keys, env, known)
        else:
            result = StepResult(step.name, step.id, SKIPPED, SKIPPED)
        self._failed |= result.conclusion == FAILURE
        if step.id:
            fields = ("outputs", "outcome", "conclusion")
            self._steps[step.id] = {name: getattr(result, name) for name in fields}
        return result

    def _run(
        self, step: Step, keys: set[str], env: Mapping[str, str], known: Mapping[str, Any]
    ) -> StepResult:
        listener, files = Listener(self.masks), self._files()
        environ = self._environ(env, files, keys)
        seconds = 60 * float(value(step.minutes, known))
        code: int | None = None
        if step.uses is not None:
            code = self._use(step, environ, known, listener)
        elif (folder := self.workspace / interpolate(step.folder or "", known)).is_dir():
            wrap = [word for key in keys for word in self.hooks.wrap.get(key, ())]
            script = self._temp / f"{uuid.uuid4()}.sh"
            script.write_text(interpolate(step.run or "", known))
            left = max(0.0, self._deadline - time.monotonic())
            command = [*wrap, *self._shell(step), str(script)]
            code = self._execute(command, folder, environ, min(seconds, left), listener)
            if code is None:
                self._out_of_time(step, seconds, left, listener)
        else:
            code = 1
            listener.error(f"No such file or directory: '{folder}'")
        well_formed = self._take(files, listener)
        outcome = SUCCESS if code == 0 and well_formed and not listener.broken else FAILURE
        outcome = CANCELLED if self._timed_out and code is None else outcome
        forgiven = outcome == FAILURE and truthy(value(step.continue_on_error, known))
        return StepResult(
            name=step.name,
            id=step.id,
            outcome=outcome,
            conclusion=SUCCESS if forgiven else outcome,
            exit_code=code,
            log=listener.text,
            summary=self._summary(files["GITHUB_STEP_SUMMARY"], listener),
            annotations=tuple(listener.annotations),
            outputs=listener.outputs,
        )

    def _environ(
        self, env: Mapping[str, str], files: Mapping[str, Path], keys: set[str]
    ) -> dict[str, str]:
        environ = {
            **self.environ,
            "HOME": str(self.folder / "home"),
            "CI": "true",
            **self.env,
            **env,
            **self.variables,
            **{name: str(file) for name, file in files.items()},
            "RUNNER_TEMP": str(self._temp),
            "RUNNER_TRACKING_ID": self._tracking,
        }
        environ["PATH"] = os.pathsep.join([*self._path, environ["PATH"]])
        for key in (self.job.name, *keys):
            environ |= self.hooks.extra_env.get(key, {})
        return environ

    def _use(
        self, step: Step, environ: Mapping[str, str], known: Mapping[str, Any], listener: Listener
    ) -> int:
        call = actions.Call(
            inputs=self._texts(step.inputs, known),
            workspace=self.workspace,
            artifacts=self.artifacts,
            attempt=self.attempt,
            github=self.contexts["github"],
            origin=self.origin,
            environ=environ,
            digest_mismatch=self.digest_mismatch,
            log=listener.read,
        )
        try:
            listener.outputs |= actions.use(step.uses or "", call)
        except actions.ActionFailed as failure:
            listener.error(str(failure))
            return 1
        return 0

    def _shell(self, step: Step) -> Sequence[str]:
        if step.shell not in _SHELLS:
            raise NotModelled(f"a shell: {step.shell}")
        return _SHELLS[step.shell]

    def _execute(
        self,
        command: Sequence[str],
        folder: Path,
        environ: Mapping[str, str],
        seconds: float,
        listener: Listener,
    ) -> int | None:
        """The exit code, or None after a timeout. Background processes keep running."""
        log = self._temp / f"{uuid.uuid4()}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(seconds)
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                return None
            finally:
                listener.read(log.read_text(errors="replace"))
        # The exit code of a shell for a signal.
        code = code if code >= 0 else 128 - code
        if code:
            listener.error(f"Process completed with exit code {code}.")
        return code

    def _out_of_time(self, step: Step, seconds: float, left: float, listener: Listener) -> None:
        if seconds <= left:
            listener.error(
                f"The action '{step.name}' has timed out after {seconds / 60:g} minutes."
            )
            return
        listener.error("The job has exceeded the maximum execution time.")
        self._timed_out, self._deadline = True, time.monotonic() + _GRACE

    # ----- a step's results -----------------------------------------------------------------

    def _files(self) -> dict[str, Path]:
        folder = self._temp / "_runner_file_commands" / str(uuid.uuid4())
        folder.mkdir(parents=True)
        files = {f"GITHUB_{name}": folder / name.lower() for name in _FILES}
        for file in files.values():
            file.touch()
        return files

    def _take(self, files: Mapping[str, Path], listener: Listener) -> bool:
        """Read outputs, variables and paths; returns whether all files were well-formed."""
        well = True
        for name, into in (("OUTPUT", listener.outputs), ("ENV", self.env), ("STATE", {})):
            try:
                into |= parse_env_file(_read(files[f"GITHUB_{name}"]))
            except MalformedFile as error:
                listener.error(f"Unable to process file command '{name.lower()}' successfully.")
                listener.error(str(error))
                well = False
        for line in filter(None, lines(_read(files["GITHUB_PATH"]))):
            self._path = [line, *(known for known in self._path if known != line)]
        return well

    def _summary(self, file: Path, listener: Listener) -> str:
        text = _read(file)
        if len(text.encode()) > _SUMMARY_LIMIT:
            listener.error("$GITHUB_STEP_SUMMARY upload aborted, supports content up to 1024k")
            return ""
        return self.masks.hide(text)

    def _end_orphans(self) -> None:
        """Kill processes that steps left running, as a runner does at the end of a job."""
        mark = f"RUNNER_TRACKING_ID={self._tracking}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    os.kill(int(process.name), signal.SIGKILL)


def _read(file: Path) -> str:
    # A step may have removed it or written anything to it.
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
