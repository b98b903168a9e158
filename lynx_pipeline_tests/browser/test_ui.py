"""The content of Dagster's UI, and the effect of its buttons."""

import re

import pytest
from playwright.sync_api import FloatRect, ViewportSize, expect

from lynx_pipeline_tests.browser.conftest import LOCATION, MILLISECONDS, USUAL, Screen
from lynx_pipeline_tests.end_to_end.conftest import Demo, files_in
from lynx_pipeline_tests.end_to_end.webserver import Webserver

pytestmark = pytest.mark.slow

JOB = f"/locations/{LOCATION}/jobs/eval_and_promote"
UNKNOWN_RUN = "f" * 32
WIDE: ViewportSize = {"width": 2200, "height": 1320}
LIST: ViewportSize = {"width": 1600, "height": 760}
GRAPH: FloatRect = {"x": 560, "y": 120, "width": 1560, "height": 1150}


def launch(screen: Screen, run_id: str, picture: str) -> None:
    """Launch the job for a candidate with the UI's buttons, and open the run."""
    page = screen.page
    screen.open(JOB)
    page.get_by_text("Materialize all").first.click()
    page.get_by_text("Select a partition or create one").click()
    page.get_by_text(run_id).locator("visible=true").last.click()
    page.get_by_text("Launch runs to materialize").click()  # closes the list
    screen.wait_for_text("1 partition", exact=True)
    screen.picture(picture)
    page.get_by_role("button", name=re.compile("^Launch")).click()
    page.get_by_role("button", name="View", exact=True).or_(
        page.get_by_role("link", name="View", exact=True)
    ).first.click()


def add_partition(screen: Screen, run_id: str) -> None:
    """Add a partition with the UI's buttons. Dagster's dialog selects it, but may lose the
    selection again when it loads the partitions anew, so `launch` starts with a new page."""
    page = screen.page
    screen.open(JOB)
    page.get_by_text("Materialize all").first.click()
    page.get_by_text("Add a partition").click()
    page.get_by_placeholder("name").fill(run_id)
    with page.expect_response(lambda it: "AddDynamicPartition" in (it.request.post_data or "")):
        page.get_by_role("button", name="Save").click()


@pytest.fixture(scope="module")
def refused_again(server: Webserver, demo: Demo) -> str:
    """A second run of the refused candidate, launched by the server."""
    run = server.launch("eval_and_promote", demo.bad)
    assert server.ended(run) == "FAILURE"
    return run


def test_the_runs_list_tells_outcomes_apart(screen: Screen, refused_again: str) -> None:
    """Each run has its outcome, version and candidate as tags, also one that the server ran."""
    screen.page.set_viewport_size(LIST)  # a narrow window cuts off the tags
    screen.open("/runs")
    for tag in ("lynx.outcome: promoted", "lynx.outcome: refused", "lynx.run_name: regressed",
                "lynx.semver: v0.1.1-dev"):  # fmt: skip
        screen.wait_for_text(tag, exact=True)
    screen.picture("runs")
    screen.page.set_viewport_size(USUAL)
    screen.open("/runs?q[0]=tag:lynx.outcome=promoted")
    screen.wait_for_text("lynx.outcome: promoted", exact=True)
    expect(screen.page.get_by_text("lynx.outcome: refused", exact=True)).to_have_count(0)


def test_the_page_of_a_refused_run_ends_with_the_refusal(
    screen: Screen, refused_again: str
) -> None:
    """In words, with the worst bucket, and without a stack trace."""
    screen.open(f"/runs/{refused_again}")
    screen.wait_for_text(f"Refused: candidate {screen.demo.bad} (regressed by ")
    screen.wait_for_text("Execution of run for")
    expect(screen.page.get_by_text("Stack Trace")).to_have_count(0)
    screen.picture("refused-run")


def test_the_graph_shows_the_flow_in_its_groups(screen: Screen, refused_again: str) -> None:
    """The groups are inputs, candidate and promotion; expanded, they show all six assets. A refusal
    leaves the alias green."""
    screen.page.set_viewport_size(WIDE)  # a narrow window hides the assets' content
    screen.open("/asset-groups")
    for group in ("inputs", "candidate", "promotion"):
        screen.wait_for_text(group, exact=True)
    screen.page.keyboard.press("Alt+KeyE")
    for asset in ("eval_set", "eval_baseline", "candidate_bundle", "candidate_eval",
                  "promotion_decision", "production_alias"):  # fmt: skip
        screen.wait_for_text(asset, exact=True)
    expect(screen.page.get_by_text("Failed", exact=True)).to_have_count(0)
    screen.picture("graph", part=GRAPH)
    screen.page.set_viewport_size(USUAL)


def test_a_refusal_shows_the_reason(screen: Screen) -> None:
    """The check shows the failed buckets with their drops, and the numbers of every bucket."""
    screen.open("/assets/candidate_eval?view=checks&checkDetail=no_bucket_regression")
    screen.wait_for_text("of 28 buckets fell below their floor")
    screen.wait_for_text(screen.demo.bad)
    expect(
        screen.page.get_by_role("listitem").get_by_text("tense.past_simple: fell")
    ).to_be_visible()
    row = screen.page.locator("tr", has=screen.page.get_by_text("tense.past_simple", exact=True))
    expect(row.last).to_contain_text("FAILED")
    screen.picture("refused-check")


def test_the_report_page_needs_no_server(screen: Screen) -> None:
    """It opens from the state folder, shows verdict, figure and table, and loads nothing else."""
    report = screen.place.home / "candidates" / screen.demo.bad / "report.html"
    requested: list[str] = []
    screen.page.on("request", lambda request: requested.append(request.url))
    screen.page.goto(report.as_uri())
    screen.wait_for_text("12 of 28 buckets fell below their floor.")
    expect(screen.page.locator("svg").first).to_be_visible()
    row = screen.page.locator("tr", has=screen.page.get_by_text("tense.past_simple", exact=True))
    expect(row.first).to_contain_text("FAILED")
    assert requested == [report.as_uri()]
    screen.picture("report-page")


def test_an_evaluation_shows_its_figure(screen: Screen) -> None:
    """The page shows the measured numbers, and the figure of all buckets. It shows no verdict,
    because Dagster marks every evaluation green."""
    screen.partition("candidate_eval", screen.demo.bad)
    expect(screen.value("run_name")).to_contain_text("regressed")
    expect(screen.value("worst_margin_points")).to_contain_text("-38")
    expect(screen.page.get_by_text("verdict", exact=True)).to_have_count(0)
    expect(screen.value("dagster/row_count")).to_contain_text("1200")
    screen.value("figure").get_by_text("Show Markdown").click()
    picture = screen.page.get_by_role("dialog").locator("img")
    expect(picture).to_be_visible()
    assert picture.evaluate("it => it.complete && it.naturalWidth") >= 800
    screen.picture("figure")


def test_numbers_are_plotted(screen: Screen) -> None:
    """Accuracy, worst margin and speed are plotted by candidate."""
    screen.open("/assets/candidate_eval")
    screen.page.get_by_text("Plots", exact=True).click()
    for number in ("accuracy", "worst_margin_points", "items_per_second"):
        screen.page.get_by_text(number, exact=True).first.scroll_into_view_if_needed()
        screen.wait_for_text(number, exact=True)
    expect(screen.page.locator("canvas").first).to_be_visible()


def test_a_promotion_shows_its_ledger_entry(screen: Screen) -> None:
    """The page shows version, bundle, actor and the complete entry."""
    screen.partition("promotion_decision", screen.demo.good)
    (line,) = (screen.place.registry / "index.jsonl").read_text().splitlines()
    sha = re.search(r'"canonical_sha":"([0-9a-f]{64})"', line)
    assert sha
    expect(screen.value("semver")).to_contain_text("v0.1.0-dev")
    expect(screen.value("canonical_sha")).to_contain_text(sha[1])
    expect(screen.value("actor")).to_contain_text("unverified")
    screen.wait_for_text("Materialized (1)")
    screen.picture("promotion")
    screen.value("entry").get_by_text("Show JSON").click()
    expect(screen.page.get_by_role("dialog")).to_contain_text("worst_margin")


def test_a_run_is_launched_without_typing(screen: Screen) -> None:
    """Choosing the candidate is enough, because the run's tag names the version."""
    before = files_in(screen.place.registry)
    launch(screen, screen.demo.good, "launch")
    done = screen.page.get_by_text("Success", exact=True).first
    expect(done).to_be_visible(timeout=3 * MILLISECONDS)
    assert files_in(screen.place.registry) == before  # it was promoted before
    screen.partition("promotion_decision", screen.demo.good)
    expect(screen.value("semver")).to_contain_text("v0.1.0-dev")  # from the run's tag


def test_an_unknown_candidate_fails_with_advice(screen: Screen) -> None:
    """A partition is added by hand with a wrong run id."""
    add_partition(screen, UNKNOWN_RUN)
    launch(screen, UNKNOWN_RUN, "launch-unknown")
    failed = screen.page.get_by_text("Failure", exact=True).first
    expect(failed).to_be_visible(timeout=3 * MILLISECONDS)
    screen.wait_for_text("Check the run id and MLFLOW_TRACKING_URI")
    screen.picture("failure")
