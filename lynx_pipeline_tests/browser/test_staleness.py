"""What a person sees of an evaluation that is out of date. When it is: defs/test_staleness.py."""

import pytest
from dagster import AssetMaterialization

from lynx_pipeline_tests.browser.conftest import Screen

pytestmark = pytest.mark.slow


def test_an_evaluation_that_is_out_of_date_says_why(screen: Screen) -> None:
    """Once Dagster has seen another baseline, the candidate's page says that it is the baseline.
    The list of candidates and the graph don't: Dagster works it out for one partition at a time."""
    with screen.place.instance() as instance:
        other = AssetMaterialization("eval_baseline", tags={"dagster/data_version": "another"})
        instance.report_runless_asset_event(other)
    screen.partition("candidate_eval", screen.demo.bad)
    screen.says("Unsynced (1)", exact=True).hover()
    screen.says("1 upstream data version change", exact=True)
    screen.says("has a new data version", exact=True)
    screen.picture("out-of-date")
