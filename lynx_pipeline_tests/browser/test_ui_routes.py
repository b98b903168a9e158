"""However Dagster's UI launches a promotion, the gate refuses it.

The test is here to share the browser tests' server. It runs after them, because it leaves failed
runs. end_to_end/test_refusal.py covers the commands and the library.
"""

import pytest

from lynx_pipeline_tests.end_to_end.conftest import Demo, Place, files_in
from lynx_pipeline_tests.end_to_end.webserver import Webserver

pytestmark = pytest.mark.slow


def test_the_ui_promotes_no_refused_candidate(place: Place, demo: Demo, server: Webserver) -> None:
    """A backfill, the promotion asset without checks, and a retry from failure: all fail."""
    before = files_in(place.registry)
    backfill = server.backfill("promotion_decision", demo.bad)
    alone = server.launch("eval_and_promote", demo.bad, "promotion_decision")
    assert server.ended(alone) == "FAILURE"
    assert server.ended(server.retry(alone)) == "FAILURE"
    assert server.ended(server.backfilled(backfill)) == "FAILURE"
    assert files_in(place.registry) == before
