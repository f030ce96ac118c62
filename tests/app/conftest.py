"""Chromium for the tests of the dashboard's pages."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.app.sample import write_all
from tests.app.server import CHROMIUM, FLAGS, dashboard

PATIENCE_MS = 120_000


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    # CI installs Chromium, so there its absence is a failure.
    if not Path(CHROMIUM).exists() and "CI" not in os.environ:
        pytest.skip("no Chromium; Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("dashboard") / "runs"
    write_all(runs)
    return runs


@pytest.fixture(scope="session")
def address(runs: Path, browser: Browser) -> Iterator[str]:
    with dashboard(runs) as address:
        yield address
