"""A stand-in for adb's server and the Android device behind it, for the real `adb` client to talk to.

It speaks their protocol as adb's own documents give it: requests are four hexadecimal digits of length and a text
(packages/modules/adb/OVERVIEW.TXT, SERVICES.TXT); a shell's streams are packets of a kind, a length and data
(shell_protocol.h). The shell is this machine's mksh, which is Android's too, or else sh.
"""

import os
import re
import shutil
import socket
import socketserver
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

CLIENT = shutil.which("adb")
SHELL = shutil.which("mksh") or "/bin/sh"
SERVER_VERSION = 41
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)


class Server(socketserver.ThreadingTCPServer):
    """The server; `requests` are all that it was asked, in order."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, serial: str, *, refusal: str | None = None, features: str = "cmd,shell_v2") -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.serial, self.refusal, self.features = serial, refusal, features
        self.requests: list[str] = []


class _Connection(socketserver.BaseRequestHandler):
    server: Server
    request: socket.socket

    def handle(self) -> None:
        try:
            while self._answer(self._text()):
                pass
        except (ConnectionError, EOFError):
            pass

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.request.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def _text(self) -> str:
        text = self._exactly(int(self._exactly(4), 16)).decode()
        self.server.requests.append(text)
        return text

    def _send(self, status: str, text: str | None = None, raw: bytes = b"") -> None:
        body = b"" if text is None else f"{len(text):04x}{text}".encode()
        self.request.sendall(status.encode() + raw + body)

    def _answer(self, request: str) -> bool:
        """Answers one request; whether another may follow on this connection."""
        if request == "host:version":
            self._send("OKAY", f"{SERVER_VERSION:04x}")
            return False
        if request.startswith("shell,v2"):
            self._send("OKAY")
            self._shell(request.partition(":")[2])
            return False
        if self.server.refusal is not None:
            self._send("FAIL", self.server.refusal)
            return False
        named = re.match(r"host-serial:(.+):features$|host:tport:serial:(.+)$|host:transport:(.+)$", request)
        serial = next((each for each in named.groups() if each), None) if named else None
        if serial not in (None, self.server.serial):
            self._send("FAIL", f"device '{serial}' not found")
            return False
        if request.endswith("features"):
            self._send("OKAY", self.server.features)
            return False
        if request.startswith("host:tport:"):
            self._send("OKAY", raw=struct.pack("<Q", 1))
            return True
        if request.startswith("host:transport"):
            self._send("OKAY")
            return True
        self._send("FAIL", f"unknown host service {request}")
        return False

    def _shell(self, script: str) -> None:
        process = subprocess.Popen(
            [SHELL, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        lock = threading.Lock()

        def send(kind: int, data: bytes) -> None:
            with lock, suppress(OSError):
                self.request.sendall(struct.pack("<BI", kind, len(data)) + data)

        def copy(kind: int, pipe: Any) -> None:
            while data := os.read(pipe.fileno(), 4096):
                send(kind, data)

        def feed() -> None:
            assert process.stdin is not None
            try:
                while True:
                    kind, size = struct.unpack("<BI", self._exactly(5))
                    data = self._exactly(size)
                    if kind == STDIN:
                        process.stdin.write(data)
                    elif kind == CLOSE_STDIN:
                        process.stdin.close()
            except (EOFError, OSError, ValueError):
                # The client has gone: what the device's side does then.
                if not process.stdin.closed:
                    process.stdin.close()

        threads = [
            threading.Thread(target=copy, args=(STDOUT, process.stdout)),
            threading.Thread(target=copy, args=(STDERR, process.stderr)),
        ]
        threading.Thread(target=feed, daemon=True).start()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        send(EXIT, bytes([process.wait() & 255]))


@contextmanager
def running(serial: str = "emulator-5554", **options: Any) -> Iterator[Server]:
    """Serves in a thread. Clients find it by ANDROID_ADB_SERVER_PORT."""
    with Server(serial, **options) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
