"""What all pages share: the options of the command line, the records, and notes made of plain text."""

import argparse
import html
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from .data.store import Snapshot, Store

LOOK_AGAIN_S = 5
FRESH_S = 1.0
NAMED = 20
LOCAL = ("localhost", "127.0.0.1", "::1")
NO_RUNS = (
    "Files are not run here, because the dashboard listens beyond this machine. Start it with --allow-run to allow it."
)
DEMO = Path(__file__).with_name("demo")
"""Records of `make demo`, which `edgebnn app --demo` shows."""

# The deploy button of Streamlit's own cloud has no use here. Notes take their colours from the theme's text.
STYLE = """<style>
.stAppDeployButton {display: none;}
.block-container {max-width: 1500px; padding-top: 4.5rem;}
.note {border-left: 4px solid #d9772b; background: rgba(217, 119, 43, .12); padding: .6rem .9rem; border-radius: 4px;}
.note.info {border-color: #3b7ddd; background: rgba(59, 125, 221, .12);}
.note p {margin: 0;} .note ul {margin: .2rem 0 0 1.1rem; padding: 0;} .note li {overflow-wrap: anywhere;}
[data-testid="stCaptionContainer"] code {color: inherit;}
[data-testid="stMultiSelect"] span[title], button[kind="primary"] * {color: light-dark(#fff, #0b1a33) !important;}
[data-testid="stMetricValue"] {font-size: 1.6rem;}
h1.plain {font-size: 2rem; padding: 0; margin: 0; overflow-wrap: anywhere;}
</style>"""


@dataclass(frozen=True)
class Options:
    """How the dashboard was started.

    Attributes:
        runs: the folder of the runs.
        allow_run: whether pages may run files though the dashboard listens beyond this machine.
    """

    runs: Path
    allow_run: bool = False


def options() -> Options:
    """Returns the options behind the `--` of the command line."""
    parser = argparse.ArgumentParser(prog="streamlit run app/main.py --")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    parser.add_argument("--demo", action="store_true", help="show the demo's records, which come with edgebnn")
    parser.add_argument("--allow-run", action="store_true", help="let whoever sees the page run files")
    given, _ = parser.parse_known_args(sys.argv[1:])
    return Options(DEMO if given.demo else given.runs, given.allow_run)


@st.cache_resource(show_spinner=False)
def store(root: str) -> Store:
    """Returns the records under `root`, shared by all visitors."""
    return Store(Path(root))


def snapshot() -> Snapshot:
    """Returns the records as they are now, or were a second ago: a page asks several times."""
    return store(os.fspath(options().runs)).look(age_s=FRESH_S)


@st.fragment(run_every=LOOK_AGAIN_S)
def follow(shown: int) -> None:
    """Shows the page again once there are other records than those of the snapshot `shown`."""
    if snapshot().number != shown:
        st.rerun()


def note(text: str, lines: Sequence[str] = (), *, kind: str = "") -> None:
    """Shows a note. Text of records may stand in it: unlike Streamlit's own notes, it is not Markdown.

    Args:
        text: the first line.
        lines: a list under it.
        kind: "info" for what is no warning.
    """
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    listed = f"<ul>{items}</ul>" if items else ""
    st.html(f'<div class="note {kind}" role="note"><p>{html.escape(text)}</p>{listed}</div>')


def plain(text: str) -> None:
    """Shows a line of text that is no Markdown."""
    st.html(f"<p>{html.escape(text)}</p>")


def may_run() -> bool:
    """Returns whether pages may run files, measure and export: only this machine reaches them, or --allow-run."""
    address = st.get_option("server.address")
    return address in LOCAL or options().allow_run


def title(text: str) -> None:
    """Shows a page's heading. Text of records may stand in it."""
    st.html(f'<h1 class="plain">{html.escape(text)}</h1>')


def complain(found: Snapshot) -> None:
    """Names the files that are no records."""
    count = len(found.complaints)
    if count:
        with st.expander(f"{count} file{'s' * (count > 1)} skipped: not a record", icon=":material/broken_image:"):
            more = [f"and {count - NAMED} more"] if count > NAMED else []
            note("These files are no records. All others are shown.", [*found.complaints[:NAMED], *more])


def no_records() -> None:
    """Says what to run where there are no records."""
    title("edgebnn")
    note(f"There are no records under {options().runs} yet.", kind="info")
    st.write("This runs the whole path on bundled data and fills the page:")
    st.code("make demo", language="bash", wrap_lines=True)
    st.write("This times model files that you have:")
    st.code("edgebnn bench model.onnx model.tflite --record runs/bench", language="bash", wrap_lines=True)
    st.write("This shows the records of a finished demo, which come with edgebnn:")
    st.code("edgebnn app --demo", language="bash", wrap_lines=True)


def go(page: str, **parameters: str | list[str]) -> None:
    """Opens another page.

    Args:
        page: its name in the address.
        parameters: of the address.
    """
    st.switch_page(st.session_state["pages"][page], query_params=parameters)
