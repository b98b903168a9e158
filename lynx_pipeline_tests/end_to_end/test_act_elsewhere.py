"""The deploy workflow under nektos/act in a repository that ``lynx-pipeline init`` set up."""

from collections.abc import Callable, Iterator

import pytest

from lynx_pipeline_tests.simulators.act import elsewhere
from lynx_pipeline_tests.simulators.act.runner import ActRun
from lynx_pipeline_tests.simulators.actions.stage import Stage, staged
from lynx_pipeline_tests.support.wheels import our_wheel

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The services of a team whose repository contains the wheel, and nothing else of ours."""
    folder = tmp_path_factory.mktemp("elsewhere")
    with staged(folder / "stage") as it:
        elsewhere.move(it, our_wheel(folder / "wheel"))
        yield it


@pytest.mark.slow(seconds=120)
@pytest.mark.parametrize("scenario", elsewhere.ALL, ids=lambda it: str(it.__name__))
def test_the_workflow_in_another_repository_has_the_expected_result(
    scenario: Callable[[Stage], tuple[ActRun, str]], stage: Stage
) -> None:
    """Each scenario asserts its results; jobs install the wheel and the lock files there."""
    done, text = scenario(stage)
    assert done.jobs["report"] == "success"
    assert text
    install = [it.result for it in done.steps if it.name == "Install"]
    assert len(install) == len(done.jobs)
    assert {*install} == {"success"}
