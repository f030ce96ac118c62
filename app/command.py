"""`edgebnn app`: starts the dashboard in Streamlit."""

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from edgebnn.errors import UserError

TEXT = """Shows the records of all runs in a browser. `edgebnn app report OUT.html` writes a comparison as one file that
opens without network; `edgebnn app report --help` lists its options."""
MAIN = Path(__file__).with_name("main.py")


def main(arguments: list[str]) -> None:
    """Runs the dashboard in place of this process, or writes a report.

    Raises:
        UserError: Streamlit is not installed, or the report cannot be written.
    """
    if arguments[:1] == ["report"]:
        from .report import main as write_report

        return write_report(arguments[1:])
    chosen = _parser().parse_args(arguments)
    if find_spec("streamlit") is None:
        raise UserError("`edgebnn app` needs streamlit; pip install 'edgebnn[app]'")
    os.execv(sys.executable, command(chosen))  # noqa: S606 - no shell


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edgebnn app", description=TEXT)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    parser.add_argument("--demo", action="store_true", help="show the demo's records, which come with edgebnn")
    parser.add_argument("--port", type=int, default=8501, help="port to listen on (default: 8501)")
    text = (
        "address to listen on (default: localhost). Beyond this machine, everyone who reaches it can read the records"
    )
    parser.add_argument("--address", default="localhost", help=text)
    text = "let pages run files although the dashboard listens beyond this machine: whoever reaches it can then do so"
    parser.add_argument("--allow-run", action="store_true", help=text)
    return parser


def command(chosen: argparse.Namespace) -> list[str]:
    """Returns the command line of Streamlit. Everything else stands in .streamlit/config.toml beside main.py."""
    server = ["--server.port", str(chosen.port), "--server.address", chosen.address]
    if chosen.address not in ("localhost", "127.0.0.1", "::1"):
        # Other machines call this one by names that are not known here.
        server += ["--server.allowedHosts", "*"]
    options = ["--runs", str(chosen.runs), *(["--demo"] if chosen.demo else [])]
    options += ["--allow-run"] if chosen.allow_run else []
    return [sys.executable, "-m", "streamlit", "run", str(MAIN), *server, "--", *options]
