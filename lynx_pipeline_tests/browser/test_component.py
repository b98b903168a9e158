"""Two gates of somebody else's Dagster project in the UI."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import FloatRect, Page, ViewportSize, expect

from lynx_pipeline_tests.browser.conftest import USUAL, picture, wait_for_text
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.end_to_end.webserver import Webserver, running
from lynx_pipeline_tests.support.builders import GOOD, bundle, project
from lynx_pipeline_tests.support.dagster_project import DagsterProject

pytestmark = pytest.mark.slow

LARGE: ViewportSize = {"width": 2400, "height": 2450}
GRAPH: FloatRect = {"x": 560, "y": 120, "width": 1760, "height": 2260}
GATES = {"tutor": GOOD, "quiz": "return ['wrong' for _ in prompts]"}


@pytest.fixture
def acme(tmp_path: Path, tracking: Tracking) -> Iterator[Webserver]:
    """The UI of a project whose gate ``tutor`` has promoted a candidate and whose gate ``quiz`` has
    refused one."""
    acme = DagsterProject.new(tmp_path / "acme", MLFLOW_TRACKING_URI=tracking.uri)
    for gate, body in GATES.items():
        settings = project(tmp_path / gate)
        acme.add_gate(gate, str(settings.root))
        run_id = tracking.run({"model": bundle(tmp_path / f"model-{gate}", body=body)})
        with acme.instance() as instance:
            instance.add_dynamic_partitions(f"{gate}_candidates", [run_id])
        config = tmp_path / "config.json"
        promotion = {"config": {"semver": "v0.1.0-dev"}}
        config.write_text(json.dumps({"ops": {f"{gate}__promotion_decision": promotion}}))
        done = acme.run(
            *("dagster", "job", "execute", "-m", "acme.definitions", "-c", str(config)),
            *("-j", f"{gate}_eval_and_promote"),
            *("--tags", json.dumps({"dagster/partition": run_id})),
        )
        assert done.returncode == (body != GOOD), done.stderr
    with running(acme, tmp_path / "log", "acme.definitions") as it:
        yield it


@pytest.mark.slow(seconds=90)
def test_the_graph_shows_each_gate_in_its_group(window: Page, acme: Webserver) -> None:
    """Beside the project's own assets, which keep their names and group."""
    window.set_viewport_size(LARGE)
    window.goto(f"http://127.0.0.1:{acme.port}/asset-groups")
    for group in ("tutor", "quiz", "default"):
        wait_for_text(window, group, exact=True)
    window.keyboard.press("Alt+KeyE")
    # One gate has promoted its candidate, the other has refused.
    for text in ("promotion_decision", "100% filled", "0% filled (1 failed)"):
        wait_for_text(window, text, exact=True)
    expect(window.get_by_text("Loading...")).to_have_count(0)
    picture(window, "two-gates", part=GRAPH)
    window.set_viewport_size(USUAL)
