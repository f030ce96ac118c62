"""Takes a picture of every page of the dashboard, light and dark, wide and narrow: `make screenshots`.

    python -m tools.screenshots OUT [--runs FOLDER] [--only PAGE ...]

Without --runs, the pictures show the demo's records. The tool needs Chromium, and playwright from the extra `dev`.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode

from playwright.sync_api import Page, sync_playwright

from edgebnn.app.shell import DEMO
from tests.app.server import CHROMIUM, FLAGS, dashboard

WIDTHS = (1280, 390)
SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")
DEVICE = "1 thread, AMD EPYC"
VIEWS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "choose": ("", {}),
    "compare": (
        "compare",
        {
            "files": [
                f"demo-binary, binary.tflite, lce, {DEVICE}",
                f"demo-binary, binary-packed.onnx, onnxruntime, packed for avx512, {DEVICE}",
                f"demo-binary, binary.onnx, onnxruntime, {DEVICE}",
            ]
        },
    ),
    "model": ("model", {"name": "demo-binary"}),
    "layers": ("model", {"name": "demo-binary", "part": "Layers"}),
    "training": ("model", {"name": "demo-binary", "part": "Training"}),
    "files": ("model", {"name": "demo-binary", "part": "Files"}),
    "history": ("history", {}),
    "runs": ("runs", {}),
}
"""By the picture's name: the page and what stands in its address."""
SETTLED_MS = 1500
"""After the page says that it is done, charts still draw."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=Path, default=DEMO)
    parser.add_argument("--only", nargs="+", choices=list(VIEWS), default=list(VIEWS))
    parser.add_argument("--widths", nargs="+", type=int, default=WIDTHS)
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=SCHEMES)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with dashboard(given.runs) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for scheme in given.schemes:
            for width in given.widths:
                context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
                tab = context.new_page()
                for name, path in pictures(tab, address, given.only):
                    tab.screenshot(path=given.out / f"{name}-{scheme}-{width}.png")
                    print(f"{name}-{scheme}-{width}.png: {path}")
                context.close()
        browser.close()


def pictures(tab: Page, address: str, names: list[str]) -> Iterator[tuple[str, str]]:
    """Opens each page, waits until it is drawn, and makes the window as tall as the page."""
    for name in names:
        page, parameters = VIEWS[name]
        path = f"/{page}?{urlencode(parameters, doseq=True)}"
        tab.goto(address + path)
        tab.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        tab.wait_for_timeout(SETTLED_MS)
        tall = tab.evaluate("document.querySelector('.block-container').scrollHeight + 80")
        tab.set_viewport_size({"width": tab.viewport_size["width"], "height": min(max(900, tall), 4000)})  # type: ignore[index]
        tab.wait_for_timeout(SETTLED_MS)
        yield name, path


if __name__ == "__main__":
    main()
