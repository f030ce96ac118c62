"""Reads what the dashboard's pages show: tables, charts, text."""

from playwright.sync_api import Page


def settle(tab: Page) -> None:
    """Waits until the page has nothing left to compute."""
    tab.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    tab.wait_for_timeout(300)


def grid(tab: Page, name: str) -> list[dict[str, str]]:
    """Returns the rows of a data table by heading.

    The table is drawn on a canvas. Beside the drawing it keeps a table for screen readers, which is read here.
    """
    frame = tab.locator("[data-testid=stDataFrame]").filter(has=tab.locator(f"[aria-label='Search: {name}']"))
    table = frame.locator("table[role=grid]")
    table.wait_for(state="attached")
    # In one call: between two, the page may draw the table anew.
    texts = "(table, cells) => [...table.querySelectorAll(cells)].map(cell => cell.textContent)"
    heads = table.evaluate(texts, "thead th")
    rows = table.evaluate(f"table => [...table.querySelectorAll('tbody tr')].map(row => ({texts})(row, 'td'))")
    return [dict(zip(heads, row)) for row in rows]


def points(tab: Page) -> list[dict[str, str]]:
    """Returns the points of the page's scatter chart, which Vega describes to screen readers by their encodings."""
    marks = tab.locator("svg.marks [aria-roledescription=point]")
    marks.first.wait_for(state="attached")
    labels = [str(mark.get_attribute("aria-label")) for mark in marks.all()]
    return [dict(part.split(": ", 1) for part in label.split("; ")) for label in labels]
