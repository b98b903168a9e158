"""However a promotion is launched, the gate refuses it, even without the check before it."""

import json
import sys

import pytest

from lynx_pipeline_tests.end_to_end import library_routes
from lynx_pipeline_tests.end_to_end.conftest import Demo, Place, asset, files_in, job

pytestmark = pytest.mark.slow

# RUN is replaced by the refused run's id.
COMMANDS = {
    "the whole job again": job("eval_and_promote", "RUN"),
    "the promotion's job": job("promote", "RUN"),
    "the promotion alone": asset("promotion_decision", "RUN"),
    "op selection": [*job("eval_and_promote", "RUN"), "--op-selection", "promotion_decision"],
}


@pytest.fixture(scope="module")
def place(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A copy of the demo's state, for attempts to promote its refused candidate."""
    return demo.copy(tmp_path_factory.mktemp("refusal") / "home")


@pytest.mark.parametrize("route", COMMANDS)
def test_no_command_promotes_a_refused_candidate(place: Place, demo: Demo, route: str) -> None:
    """The command fails with the reason, and no byte of the registry changes."""
    before = files_in(place.registry)
    done = place.dagster(*(part.replace("RUN", demo.bad) for part in COMMANDS[route]))
    assert done.returncode != 0
    assert "the gate refused: " in done.stdout + done.stderr
    assert files_in(place.registry) == before


def test_no_library_call_promotes_a_refused_candidate(place: Place, demo: Demo) -> None:
    """This covers assets without checks and a retry of the failed step in Dagster's Python API."""
    before = files_in(place.registry)
    done = place.run(sys.executable, "-m", library_routes.__name__, demo.bad)
    assert json.loads(done.stdout) == {
        "assets without checks": "the gate refused",
        "retry from failure": "the gate refused",
    }
    assert files_in(place.registry) == before
