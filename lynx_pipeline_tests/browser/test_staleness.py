"""What a person sees of an evaluation that is out of date. When it is: defs/test_staleness.py."""

import pytest
from dagster import AssetMaterialization

from lynx_pipeline_tests.browser.conftest import Screen

pytestmark = pytest.mark.slow


def test_an_evaluation_that_is_out_of_date_says_why(screen: Screen) -> None:
    """Once Dagster has seen another baseline, the candidate's page says that it is the baseline.
    The list of candidates and the graph don't: Dagster works it out for one partition at a time."""
    before = screen.place.latest("eval_baseline")
    seen(screen, AssetMaterialization("eval_baseline", tags={"dagster/data_version": "another"}))
    screen.partition("candidate_eval", screen.demo.bad)
    screen.says("Unsynced (1)", exact=True).hover()
    screen.says("1 upstream data version change", exact=True)
    screen.says("has a new data version", exact=True)
    screen.picture("out-of-date")
    seen(screen, before)  # the server is other tests' as well


def seen(screen: Screen, event: AssetMaterialization) -> None:
    """Have Dagster see that there is something now."""
    with screen.place.instance() as instance:
        instance.report_runless_asset_event(event)
