"""The deploy workflow under nektos/act in a repository that ``lynx-pipeline init`` set up."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lynx_pipeline_tests.simulators.act import elsewhere
from lynx_pipeline_tests.simulators.act.runner import ActRun
from lynx_pipeline_tests.simulators.actions.stage import Stage, staged
from lynx_pipeline_tests.support.package_index import cache
from lynx_pipeline_tests.support.wheels import our_wheel

pytestmark = pytest.mark.slow


@contextmanager
def elsewhere_in(folder: Path, *, with_wheel: bool) -> Iterator[Stage]:
    """The services of a team whose repository is another one."""
    with staged(folder / "stage") as it:
        it.uv_cache = cache()
        elsewhere.move(it, our_wheel(folder / "wheel") if with_wheel else None)
        yield it


@pytest.fixture(scope="module")
def with_wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The repository contains the wheel, and nothing else of ours."""
    with elsewhere_in(tmp_path_factory.mktemp("elsewhere"), with_wheel=True) as it:
        yield it


@pytest.fixture(scope="module")
def with_action(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The repository contains nothing of ours but the workflows."""
    with elsewhere_in(tmp_path_factory.mktemp("elsewhere"), with_wheel=False) as it:
        yield it


@pytest.mark.slow(seconds=120)
@pytest.mark.parametrize("scenario", elsewhere.WITH_WHEEL, ids=lambda it: str(it.__name__))
def test_the_workflow_with_the_wheel_has_the_expected_result(
    scenario: Callable[[Stage], tuple[ActRun, str]], with_wheel: Stage
) -> None:
    """Each scenario asserts its results; jobs install the wheel and the lock files there."""
    _check(*scenario(with_wheel))


@pytest.mark.slow(seconds=120)
@pytest.mark.parametrize("scenario", elsewhere.WITH_ACTION, ids=lambda it: str(it.__name__))
def test_the_workflow_with_the_action_has_the_expected_result(
    scenario: Callable[[Stage], tuple[ActRun, str]], with_action: Stage
) -> None:
    """act runs the action itself, from a clone of this project."""
    _check(*scenario(with_action))


def _check(done: ActRun, text: str) -> None:
    assert done.jobs["report"] == "success"
    assert text
    install = [it.result for it in done.steps if it.name == "Install"]
    assert len(install) == len(done.jobs)
    assert {*install} == {"success"}
