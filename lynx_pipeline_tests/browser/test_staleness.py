"""How the UI shows an outdated evaluation. defs/test_staleness.py tests when it is outdated."""

import pytest
from dagster import AssetMaterialization

from lynx_pipeline_tests.browser.conftest import Screen

pytestmark = pytest.mark.slow


def test_an_outdated_evaluation_shows_the_reason(screen: Screen) -> None:
    """After Dagster observes a changed baseline, the candidate's page names it. The list of all
    candidates and the graph don't, because Dagster computes this for one partition at a time."""
    before = screen.place.latest("eval_baseline")
    observe(screen, AssetMaterialization("eval_baseline", tags={"dagster/data_version": "another"}))
    screen.partition("candidate_eval", screen.demo.bad)
    screen.wait_for_text("Unsynced (1)", exact=True).hover()
    screen.wait_for_text("1 upstream data version change", exact=True)
    screen.wait_for_text("has a new data version", exact=True)
    screen.picture("out-of-date")
    observe(screen, before)  # other tests share the server


def observe(screen: Screen, event: AssetMaterialization) -> None:
    """Report that Dagster has observed this data version."""
    with screen.place.instance() as instance:
        instance.report_runless_asset_event(event)
