"""What a person sees in Dagster's UI, and that its buttons do what they say."""

import re

import pytest
from playwright.sync_api import FloatRect, ViewportSize, expect

from lynx_pipeline_tests.browser.conftest import LOCATION, MILLISECONDS, USUAL, Screen
from lynx_pipeline_tests.end_to_end.conftest import files_in

pytestmark = pytest.mark.slow

JOB = f"/locations/{LOCATION}/jobs/eval_and_promote"
NOBODY = "f" * 32
WIDE: ViewportSize = {"width": 2200, "height": 1320}
GRAPH: FloatRect = {"x": 560, "y": 120, "width": 1560, "height": 1150}


def launch(screen: Screen, run_id: str, *, new: bool = False) -> None:
    """Launch the job for a candidate by its buttons, and open the run."""
    page = screen.page
    screen.open(JOB)
    page.get_by_text("Materialize all").first.click()
    if new:
        page.get_by_text("Add a partition").click()
        page.get_by_placeholder("name").fill(run_id)
        page.get_by_role("button", name="Save").click()
    else:
        page.get_by_text("Select a partition or create one").click()
        page.get_by_text(run_id).locator("visible=true").last.click()
        page.get_by_text("Launch runs to materialize").click()  # closes the list
    screen.says("1 partition", exact=True)
    screen.picture("launch-new" if new else "launch")
    page.get_by_role("button", name=re.compile("^Launch")).click()
    page.get_by_role("button", name="View", exact=True).or_(
        page.get_by_role("link", name="View", exact=True)
    ).first.click()


def test_the_graph_shows_the_flow_in_its_groups(screen: Screen) -> None:
    """Inputs, candidate, promotion, and opened all six assets."""
    screen.page.set_viewport_size(WIDE)  # where it has no room it leaves out what is in an asset
    screen.open("/asset-groups")
    for group in ("inputs", "candidate", "promotion"):
        screen.says(group, exact=True)
    screen.page.keyboard.press("Alt+KeyE")
    for asset in ("eval_set", "eval_baseline", "candidate_bundle", "candidate_eval",
                  "promotion_decision", "production_alias"):  # fmt: skip
        screen.says(asset, exact=True)
    screen.picture("graph", part=GRAPH)
    screen.page.set_viewport_size(USUAL)


def test_a_refusal_shows_why(screen: Screen) -> None:
    """Which buckets, by how much, and the numbers of every bucket."""
    screen.open("/assets/candidate_eval?view=checks&checkDetail=no_bucket_regression")
    screen.says("of 28 buckets fell below their floor")
    screen.says(screen.demo.bad)
    expect(
        screen.page.get_by_role("listitem").get_by_text("tense.past_simple: fell")
    ).to_be_visible()
    row = screen.page.locator("tr", has=screen.page.get_by_text("tense.past_simple", exact=True))
    expect(row.last).to_contain_text("FAILED")
    screen.picture("refused-check")


def test_an_evaluation_shows_its_figure(screen: Screen) -> None:
    """The verdict in numbers, and a picture of every bucket that the UI does show."""
    screen.partition("candidate_eval", screen.demo.bad)
    expect(screen.value("verdict")).to_contain_text("refused")
    expect(screen.value("dagster/row_count")).to_contain_text("1200")
    screen.value("figure").get_by_text("Show Markdown").click()
    picture = screen.page.get_by_role("dialog").locator("img")
    expect(picture).to_be_visible()
    assert picture.evaluate("it => it.complete && it.naturalWidth") >= 800
    screen.picture("figure")


def test_numbers_are_plotted(screen: Screen) -> None:
    """Accuracy, worst margin and speed, candidate by candidate."""
    screen.open("/assets/candidate_eval")
    screen.page.get_by_text("Plots", exact=True).click()
    for number in ("accuracy", "worst_margin_points", "items_per_second"):
        screen.page.get_by_text(number, exact=True).first.scroll_into_view_if_needed()
        screen.says(number, exact=True)
    expect(screen.page.locator("canvas").first).to_be_visible()


def test_a_promotion_shows_what_the_ledger_says(screen: Screen) -> None:
    """Version, bundle, who, and the entry; of the refused candidate that it failed."""
    screen.partition("promotion_decision", screen.demo.good)
    (line,) = (screen.place.registry / "index.jsonl").read_text().splitlines()
    sha = re.search(r'"canonical_sha":"([0-9a-f]{64})"', line)
    assert sha
    expect(screen.value("semver")).to_contain_text("v0.1.0-dev")
    expect(screen.value("canonical_sha")).to_contain_text(sha[1])
    expect(screen.value("actor")).to_contain_text("unverified")
    screen.says("Materialized (1)")
    screen.picture("promotion")
    screen.value("entry").get_by_text("Show JSON").click()
    expect(screen.page.get_by_role("dialog")).to_contain_text("worst_margin")


def test_a_run_is_launched_without_typing(screen: Screen) -> None:
    """Choose the candidate, launch, and it ends well: the run's tag says the version."""
    before = files_in(screen.place.registry)
    launch(screen, screen.demo.good)
    done = screen.page.get_by_text("Success", exact=True).first
    expect(done).to_be_visible(timeout=3 * MILLISECONDS)
    assert files_in(screen.place.registry) == before  # it was promoted before


def test_a_candidate_that_is_not_there_says_what_to_do(screen: Screen) -> None:
    """A partition added by hand with a wrong run id."""
    launch(screen, NOBODY, new=True)
    expect(screen.page.get_by_text("Failure", exact=True).first).to_be_visible()
    screen.says("Check the run id and MLFLOW_TRACKING_URI")
    screen.picture("failure")
