"""What a hostile record, a hostile page elsewhere or a foreign machine can do to the dashboard: nothing."""

import base64
import json
import os
import re
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Page, Request

from edgebnn.app.command import _parser, command
from tests.app.reading import grid, settle
from tests.app.sample import SERVER, date
from tests.app.server import dashboard

CONFIG = Path(__file__).parents[2] / "app" / ".streamlit" / "config.toml"


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """A server that no page should ask for anything, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, elsewhere: tuple[str, list[str]]) -> Path:
    """Records whose every text tries to be markup, is very long, or cannot be encoded."""
    root, (address, _) = tmp_path_factory.mktemp("hostile"), elsewhere
    folder = root / "run <b>" / "records"
    folder.mkdir(parents=True)
    evil = f'<img src="{address}/html.png" onerror="document.title=1"> ![x]({address}/markdown.png) $x$ :red[r] \ud800'
    machine = SERVER | {"cpu": evil}
    shared = {"artifact": evil, "sha256": evil, "runtime": evil, "machine": machine, "threads": 1, "format": evil}
    shared |= {"data": evil, "protocol": evil, "void": [evil], "layers": [{"name": evil, "kind": evil, "ms": 1.0}]}
    shared |= {"long": "x" * 500_000, "session": evil, "rounds_ms": [evil]}
    latency = {"median_ms": 1.0, "p10_ms": 1.0, "p90_ms": 2.0}
    kinds = {"latency": latency, "accuracy": {"top1": 50.0}, "size": {"bytes": 10}, "parity": {"ok": 0}}
    kinds |= {"kernels": {"median_ms": 1.0, "ceiling_ms": 1.0}}
    for kind, values in kinds.items():
        record = {"kind": kind, "model": evil, "values": values, "context": shared, "created": date(1), "version": 1}
        (folder / f"{kind}.json").write_text(json.dumps(record))
    (folder / os.fsdecode(b"\xff![y](" + address.encode().replace(b"/", b"_") + b").json")).write_text("{}")
    complaint = {"kind": f"![z]({address}/complaint.png)", "model": evil, "values": {}, "version": 1}
    (folder / "bad.json").write_text(json.dumps(complaint))
    return root


@pytest.mark.parametrize(
    "page", ["", "compare", "model", "model?part=Layers", "model?part=Files", "model?part=Records"]
)
def test_nothing_of_a_record_becomes_markup(
    tab: Page, hostile: Path, elsewhere: tuple[str, list[str]], hostile_address: str, page: str
) -> None:
    _, asked = elsewhere
    foreign: list[str] = []

    def note(request: Request) -> None:
        if not request.url.startswith((hostile_address, "data:", "blob:")):
            foreign.append(request.url)

    tab.on("request", note)
    tab.goto(f"{hostile_address}/{page}")
    tab.get_by_text("2 files skipped").click()
    settle(tab)
    tab.wait_for_timeout(1000)
    assert "This app has encountered an error" not in tab.locator("body").inner_text()
    assert tab.locator("img[src*='.png']").count() == 0
    assert tab.locator(".katex").count() == 0
    assert (asked, foreign) == ([], [])
    # The text itself is shown as it is, up to its limit.
    if page in ("", "model"):
        assert "<img src=" in json.dumps(grid(tab, "Rows" if page == "" else "Latencies"))


@pytest.fixture(scope="module")
def hostile_address(hostile: Path, browser: object) -> Iterator[str]:
    with dashboard(hostile) as address:
        yield address


def handshake(address: str, **headers: str) -> str:
    """Returns the first line of the answer to a WebSocket's handshake."""
    port = int(address.rpartition(":")[2])
    told = {"Host": f"localhost:{port}", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    told |= {"Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode()} | headers
    with socket.create_connection(("localhost", port), timeout=30) as connection:
        lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        connection.sendall(f"GET /_stcore/stream HTTP/1.1\r\n{lines}\r\n".encode())
        return connection.recv(4096).split(b"\r\n")[0].decode()


def test_foreign_pages_and_hosts_are_refused(hostile_address: str) -> None:
    port = hostile_address.rpartition(":")[2]
    assert " 101 " in handshake(hostile_address, Origin=hostile_address)
    assert " 403 " in handshake(hostile_address, Origin="http://evil.example")
    assert " 403 " in handshake(hostile_address, Host=f"evil.example:{port}", Origin=f"http://evil.example:{port}")


def test_a_plain_streamlit_run_listens_on_this_machine_alone(hostile_address: str) -> None:
    port = int(hostile_address.rpartition(":")[2])
    listening = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:] if Path(table).exists() else []:
            local, state = line.split()[1], line.split()[3]
            if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                listening.append(local.rpartition(":")[0])
    assert listening
    assert set(listening) <= {"0100007F", "00000000000000000000000001000000"}


def test_the_configuration_is_the_one_that_is_shipped() -> None:
    text = CONFIG.read_text()
    for line in ('address = "localhost"', "enableXsrfProtection = true", "gatherUsageStats = false"):
        assert line in text.splitlines()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], {"--server.address": "localhost"}),
        (["--address", "board"], {"--server.address": "board", "--server.allowedHosts": "*"}),
        (["--port", "9"], {"--server.port": "9"}),
    ],
)
def test_the_command_opens_itself_only_when_told(given: list[str], expected: dict[str, str]) -> None:
    line = command(_parser().parse_args(given))
    options = dict(zip(line, line[1:]))
    assert {name: options.get(name) for name in expected} == expected
    assert ("--server.allowedHosts" in options) == ("--address" in given)
    assert "--allow-run" not in line
    assert re.search("--allow-run$", " ".join(command(_parser().parse_args([*given, "--allow-run"]))))
