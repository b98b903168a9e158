"""The real steps of the deploy workflow, in scenarios of success and failure."""

from collections.abc import Callable

import pytest

from lynx_pipeline_tests.simulators.actions.scenario import Seen
from lynx_pipeline_tests.simulators.actions.scenarios import ALL
from lynx_pipeline_tests.simulators.actions.stage import Stage

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scenario", ALL, ids=lambda it: str(it.__name__))
def test_a_scenario_has_the_expected_result(
    scenario: Callable[[Stage], list[Seen]], stage: Stage
) -> None:
    """Each scenario asserts its results. Every case has an exit code, a message and a state."""
    for seen in scenario(stage):
        assert seen.what
        assert seen.ended == "no run" or "exit code" in seen.ended
        assert seen.registry
        if "exit code 0" not in seen.ended and seen.ended != "no run":
            assert seen.message
