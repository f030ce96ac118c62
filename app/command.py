"""`edgebnn app`: starts the dashboard in Streamlit."""

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from edgebnn.errors import UserError

SETTINGS = ("--server.headless", "true", "--browser.gatherUsageStats", "false")


def main(arguments: list[str]) -> None:
    """Runs the dashboard in place of this process.

    Raises:
        UserError: Streamlit is not installed.
    """
    parser = argparse.ArgumentParser(prog="edgebnn app", description="Shows the records of all runs in a browser.")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    parser.add_argument("--port", type=int, default=8501, help="port to listen on (default: 8501)")
    parser.add_argument("--address", default="localhost", help="address to listen on (default: localhost)")
    chosen = parser.parse_args(arguments)
    if find_spec("streamlit") is None:
        raise UserError("`edgebnn app` needs streamlit; pip install 'edgebnn[app]'")
    server = ("--server.port", str(chosen.port), "--server.address", chosen.address, *SETTINGS)
    command = (sys.executable, "-m", "streamlit", "run", str(Path(__file__).with_name("main.py")), *server)
    os.execv(sys.executable, [*command, "--", "--runs", str(chosen.runs)])  # noqa: S606 - no shell
