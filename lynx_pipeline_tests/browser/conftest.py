"""Dagster's UI in a real browser, with the demonstration's results: a promotion and a refusal.

``SCREENSHOTS=FOLDER`` saves screenshots, as for ``docs/images``.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import FloatRect, Locator, Page, ViewportSize, expect, sync_playwright

from lynx_pipeline_tests.end_to_end.conftest import Demo, Place
from lynx_pipeline_tests.end_to_end.conftest import demo as demo
from lynx_pipeline_tests.end_to_end.webserver import Webserver, running

CHROMIUM = "/usr/bin/chromium"
LOCATION = "lynx_pipeline.definitions"
MILLISECONDS = 30_000
USUAL: ViewportSize = {"width": 1280, "height": 860}

expect.set_options(timeout=MILLISECONDS)


def wait_for_text(page: Page, text: str, *, exact: bool = False) -> Locator:
    """Wait until this text is visible."""
    found = page.get_by_text(text, exact=exact).first
    expect(found).to_be_visible()
    return found


def picture(page: Page, name: str, part: FloatRect | None = None) -> None:
    """Save a screenshot of the window, or of a part, if ``SCREENSHOTS`` is set."""
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        page.wait_for_timeout(1_000)  # animations
        page.screenshot(path=Path(folder) / f"{name}.png", clip=part)


@dataclass(frozen=True)
class Screen:
    """A browser window that shows the UI."""

    page: Page
    server: Webserver
    place: Place
    demo: Demo

    def open(self, path: str) -> None:
        """Go to a page of the UI."""
        self.page.goto(f"http://127.0.0.1:{self.server.port}{path}")

    def partition(self, asset: str, run_id: str) -> None:
        """Go to a candidate's partition of an asset."""
        self.open(f"/assets/{asset}?view=partitions&partition={run_id}")

    def wait_for_text(self, text: str, *, exact: bool = False) -> Locator:
        """Wait until this text is visible."""
        return wait_for_text(self.page, text, exact=exact)

    def value(self, key: str) -> Locator:
        """The row with this key in a metadata table."""
        row = self.page.locator("tr", has=self.page.get_by_text(key, exact=True)).last
        expect(row).to_be_visible()
        return row

    def picture(self, name: str, part: FloatRect | None = None) -> None:
        """Save a screenshot of the window, or of a part, if ``SCREENSHOTS`` is set."""
        picture(self.page, name, part)


@pytest.fixture(scope="session")
def place(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A copy of the demo's state."""
    return demo.copy(tmp_path_factory.mktemp("browser") / "home")


@pytest.fixture(scope="session")
def server(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webserver]:
    """The UI and its daemon."""
    with running(place, tmp_path_factory.mktemp("ui") / "log") as it:
        yield it


@pytest.fixture(scope="module")
def window() -> Iterator[Page]:
    """One browser for a module: Debian's, so none is downloaded. While it runs, this thread has an
    event loop, so other modules' tests can't start one."""
    assert Path(CHROMIUM).exists(), f"{CHROMIUM} is missing: apt install chromium"
    with sync_playwright() as playwright:
        # Chromium's own sandbox does not start as root, the usual user in a container.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = browser.new_page(viewport=USUAL)
        page.set_default_timeout(MILLISECONDS)
        yield page
        browser.close()


@pytest.fixture
def screen(window: Page, server: Webserver, place: Place, demo: Demo) -> Screen:
    """The browser window."""
    return Screen(window, server, place, demo)
