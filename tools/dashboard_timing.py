"""Times the dashboard on many records: `python -m tools.dashboard_timing [--models 500] [--records 10000]`.

Prints the seconds that reading takes, and what a browser waits for: the first page of each of several sessions (the
server reads all records in the first one), and the page after a filter.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from edgebnn.app.data.store import Store
from tests.app.server import CHROMIUM, FLAGS, dashboard
from tests.app.synthetic import write_many

TURNS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--records", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{write_many(folder, given.models, given.records)} records of {given.models} models")
        store = Store(folder)
        for text, action in (
            ("read all", store.look),
            ("look again", store.look),
            ("table", lambda: store.look().table),
        ):
            start, cpu = time.perf_counter(), time.process_time()
            action()
            print(f"{text:28} {time.perf_counter() - start:6.2f} s  ({time.process_time() - cpu:.2f} s of CPU)")
        everything = f"{given.models} of {given.models} models"
        with dashboard(folder) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            for turn in range(TURNS):
                tab = browser.new_page()
                tab.set_default_timeout(120_000)
                _report(f"first page, session {turn + 1}", partial(tab.goto, address), tab, everything)
                if turn < TURNS - 1:
                    tab.close()
            for turn in range(TURNS):
                word, shows = (("model-1", "100 of 500 models"), ("model-12", "10 of 500 models"))[turn % 2]
                _report(f"search '{word}'", partial(_search, tab, word), tab, shows)
                tab.wait_for_timeout(1000)
            browser.close()


def _search(tab: Page, text: str) -> None:
    field = tab.get_by_label("Search", exact=True)
    field.fill(text)
    field.press("Enter")


def _report(text: str, action: Callable[[], object], tab: Page, shows: str) -> None:
    start = time.perf_counter()
    action()
    tab.get_by_text(shows).wait_for()
    print(f"{text:28} {time.perf_counter() - start:6.2f} s")
    tab.locator("canvas").first.wait_for()


if __name__ == "__main__":
    main()
