"""axe-core on every page, light and dark: no serious finding."""

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from edgebnn.app.shell import DEMO
from tests.app.reading import settle
from tests.app.server import dashboard
from tools.screenshots import VIEWS


@pytest.fixture(scope="module")
def demo(browser: Browser) -> Iterator[str]:
    with dashboard(DEMO) as address:
        yield address


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_serious(browser: Browser, demo: str, view: str, scheme: str) -> None:
    page, parameters = VIEWS[view]
    context = browser.new_context(color_scheme="dark" if scheme == "dark" else "light")
    context.set_default_timeout(120_000)
    tab = context.new_page()
    tab.goto(f"{demo}/{page}?{urlencode(parameters, doseq=True)}")
    tab.locator("h1").first.wait_for()
    settle(tab)
    tab.wait_for_timeout(1500)
    found = Axe().run(tab).response["violations"]
    context.close()
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in serious] == []
