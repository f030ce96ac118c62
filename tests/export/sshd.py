"""A real ssh server on this machine, as an ordinary program with keys of its own, to stand for a device."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.export.stand_ins import wait_for

SERVER = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
CLIENT = shutil.which("ssh")


@dataclass(frozen=True)
class Sshd:
    """A running server.

    Attributes:
        port: where it listens on 127.0.0.1.
        process: the server.
        folder: its keys, and the client's configuration.
        programs: a folder first in the PATH of who logs in.
    """

    port: int
    process: "subprocess.Popen[bytes]"
    folder: Path
    programs: Path

    @property
    def target(self) -> str:
        return f"ssh://127.0.0.1:{self.port}"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def cut(self) -> None:
        """Breaks all connections, as a device that is switched off would. Programs there go on."""
        mark = self.folder.name
        for entry in Path("/proc").iterdir():
            if (
                entry.name.isdigit()
                and int(entry.name) != self.process.pid
                and is_session(entry, mark, self.process.pid)
            ):
                os.kill(int(entry.name), signal.SIGKILL)


def is_session(entry: Path, mark: str, server: int) -> bool:
    """Whether a folder of /proc is a connection's process: sshd, and a child of the server."""
    try:
        status = (entry / "status").read_text()
    except OSError:
        return False
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return fields["Name"].startswith("sshd") and ancestor(int(fields["PPid"]), server)


def ancestor(pid: int, server: int) -> bool:
    """Whether the process is the server, or comes from it by sshd processes alone."""
    while pid > 1:
        if pid == server:
            return True
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return False
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        if not fields["Name"].startswith("sshd"):
            return False
        pid = int(fields["PPid"])
    return False


def make_key(path: Path) -> str:
    """A key pair at `path`; gives the public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


@contextmanager
def running(folder: Path) -> Iterator[Sshd]:
    """Starts the server with its files in `folder`, and a folder `programs` for what is in its PATH.

    `folder/bin/ssh` is this machine's client, told to read its configuration there and nowhere else.
    """
    assert SERVER is not None
    host, user = make_key(folder / "host"), make_key(folder / "user")
    (folder / "authorized").write_text(user + "\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    programs = folder / "programs"
    programs.mkdir()
    (folder / "config").write_text(
        f"""Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized
PidFile none
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
SetEnv PATH={programs}:/usr/local/bin:/usr/bin:/bin
"""
    )
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host}\n")
    (folder / "client").write_text(
        f"""Host *
  IdentityFile {folder}/user
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile none
"""
    )
    (folder / "bin").mkdir()
    (folder / "bin" / "ssh").write_text(f'#!/bin/sh\nexec {CLIENT} -F {folder}/client "$@"\n')
    (folder / "bin" / "ssh").chmod(0o755)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where a server of root's locks itself in; Debian makes it at boot
    log = (folder / "log").open("wb")
    process = subprocess.Popen([SERVER, "-D", "-e", "-f", str(folder / "config")], stderr=log)
    server = Sshd(port, process, folder, programs)

    def listens() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    try:
        assert wait_for(listens)
        yield server
    finally:
        server.cut()
        process.terminate()
        process.wait()
        log.close()
