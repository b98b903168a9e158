"""A runner for a workflow that a test defines."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lynx_pipeline_tests.simulators.actions import fake_github
from lynx_pipeline_tests.simulators.actions.fake_github import FakeGitHub
from lynx_pipeline_tests.simulators.actions.job import JobResult
from lynx_pipeline_tests.simulators.actions.runner import Event, Runner, RunResult
from lynx_pipeline_tests.support import fake_issuer
from lynx_pipeline_tests.support.places import GIT_ENV

Make = Callable[..., Runner]
PIN = "a" * 40
UPLOAD = f"uses: actions/upload-artifact@{PIN}"
DOWNLOAD = f"uses: actions/download-artifact@{PIN}"


@pytest.fixture(scope="module")
def services() -> Iterator[tuple[FakeGitHub, fake_issuer.FakeIssuer]]:
    """A fake GitHub and a fake issuer."""
    with fake_github.running() as github, fake_issuer.running() as issuer:
        yield github, issuer


@pytest.fixture
def make(tmp_path: Path, services: tuple[FakeGitHub, fake_issuer.FakeIssuer]) -> Make:
    """Makes a runner for the jobs in ``text``, which are indented as in a workflow."""

    def made(text: str, **changes: object) -> Runner:
        file = tmp_path / "try.yml"
        file.write_text(f"name: try\non: workflow_dispatch\npermissions: {{}}\njobs:\n{text}")
        runner = Runner(
            workflow=file,
            event=Event("workflow_dispatch", {}),
            github=services[0],
            issuer=services[1],
            origin="http://127.0.0.1:9/nothing",
            sha="c" * 40,
            work=tmp_path / "work",
            environ={"PATH": os.environ["PATH"], **GIT_ENV},
        )
        return replace(runner, **changes)  # type: ignore[arg-type]

    return made


def only(runner: Runner) -> JobResult:
    """Run a workflow with one job; returns that job."""
    (job,) = runner.run().jobs.values()
    return job


def results(run: RunResult) -> dict[str, str]:
    """The result of each job."""
    return {name: job.result for name, job in run.jobs.items()}
