"""The workflows under nektos/act, which is not ours: real jobs, with their real locks."""

from collections.abc import Callable

import pytest

from lynx_pipeline_tests.simulators.act import pull_requests
from lynx_pipeline_tests.simulators.act.runner import ActRun
from lynx_pipeline_tests.simulators.act.scenarios import ALL
from lynx_pipeline_tests.simulators.actions.stage import Stage

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scenario", ALL, ids=lambda it: str(it.__name__))
def test_the_workflow_under_act_has_the_expected_result(
    scenario: Callable[[Stage], tuple[ActRun, str]], stage: Stage
) -> None:
    """Each scenario asserts its results. Whoever may deploy always gets a comment."""
    done, text = scenario(stage)
    assert (done.jobs.get("report") == "success") == bool(text)


@pytest.mark.parametrize("scenario", pull_requests.ALL, ids=lambda it: str(it.__name__))
def test_baseline_under_act_has_the_expected_result(
    scenario: Callable[[Stage], ActRun], stage: Stage
) -> None:
    """A required check runs on every pull request, and installs little if there is nothing to
    check."""
    scenario(stage)
