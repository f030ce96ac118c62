"""Where a device is: this machine, one behind ssh, or an Android one behind adb.

A target says how to run a line of POSIX sh there, as an argument list for this machine, and what its program
means when it fails. Nothing here runs anything.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import urlsplit

from edgebnn.errors import UserError, check

FORMS = "local, ssh://user@host[:port] or adb[://serial]"

OLD_ANDROID = "the device is older than Android 7, and its adb gives no exit status; use a newer one"

SSH_OPTIONS = {
    # Never a question: a password, a passphrase or an unknown host key ends the command.
    "BatchMode": "yes",
    "ConnectTimeout": "20",
    # A device that has gone is noticed within 20 s.
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "4",
    # What a user's configuration may ask for, and a measurement must not have.
    "RequestTTY": "no",
    "RemoteCommand": "none",
    "PermitLocalCommand": "no",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "ControlPersist": "no",
    # What ssh says of failures is read; what it says at DEBUG would fill a pipe that nobody empties.
    "LogLevel": "INFO",
}


class Target(Protocol):
    """A place where programs can be run."""

    @property
    def kind(self) -> Literal["local", "ssh", "adb"]:
        """What sort of target it is, for records."""

    @property
    def folder(self) -> str:
        """sh for the folder in which a private one is made."""

    def command(self, script: str, link: Path, *, opening: bool = False) -> list[str]:
        """The arguments that run `script` in the device's sh, its input, outputs and exit status passed through.

        Args:
            script: POSIX sh.
            link: a path in a private folder of this machine, for a connection that several commands share.
            opening: whether this command opens that connection, and keeps it as long as it runs.
        """

    def failure(self, code: int, said: str) -> str | None:
        """If a command ended so because of the connection: what is wrong and what to do. Else None."""


@dataclass(frozen=True)
class Local:
    """This machine."""

    kind: Literal["local"] = "local"
    folder: str = '"${TMPDIR:-/tmp}"'

    def __str__(self) -> str:
        return "this machine"

    def command(self, script: str, link: Path, *, opening: bool = False) -> list[str]:
        return ["sh", "-c", script]

    def failure(self, code: int, said: str) -> str | None:
        return None


@dataclass(frozen=True)
class Ssh:
    """A machine behind the system's own ssh client, with its configuration, keys and agent.

    The first command opens one connection and later ones go through it (ControlMaster in ssh_config(5)): each
    connection costs a small device's processor more than many a network does.
    """

    host: str
    user: str | None = None
    port: int | None = None
    kind: Literal["ssh"] = "ssh"
    folder: str = '"${TMPDIR:-/tmp}"'

    def __str__(self) -> str:
        return self.host

    def command(self, script: str, link: Path, *, opening: bool = False) -> list[str]:
        options = SSH_OPTIONS | {"ControlMaster": "yes" if opening else "no", "ControlPath": str(link)}
        arguments = ["ssh", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
        if self.user is not None:
            arguments += ["-l", self.user]
        if self.port is not None:
            arguments += ["-p", str(self.port)]
        # The account's login shell reads the line first; it may be another than sh.
        return [*arguments, "--", self.host, in_sh(script)]

    def failure(self, code: int, said: str) -> str | None:
        if code != 255:  # ssh(1): 255 if an error occurred
            return None
        port = "" if self.port is None else f" -p {self.port}"
        name = self.host if self.port in (None, 22) else f"[{self.host}]:{self.port}"
        login = self.host if self.user is None else f"{self.user}@{self.host}"
        by_hand = f"ssh{port} {shlex.quote(login)}"
        if "REMOTE HOST IDENTIFICATION HAS CHANGED" in said:
            forget = f"ssh-keygen -R {shlex.quote(name)}"
            return (
                f"the host key of {self} is not the one ssh knows: another machine may be answering. If it was set up "
                f"anew, forget the old key with {forget}, then check the new one with {by_hand}"
            )
        copy = f"ssh-copy-id{port} {shlex.quote(login)}"
        known = {
            "Host key verification failed": f"ssh does not know {self} yet; check its host key once with {by_hand}",
            "Permission denied": f"{self} lets none of your keys in; add one with {copy}",
            "Could not resolve hostname": f"there is no host {self}; check the name",
            "Connection refused": f"{self} refuses ssh; check the port, and that its ssh server runs",
            "Connection timed out": f"{self} does not answer; check that it is on and can be reached",
            "No route to host": f"{self} cannot be reached; check the network",
        }
        return next((text for mark, text in known.items() if mark in said), None)


@dataclass(frozen=True)
class Adb:
    """An Android device behind the `adb` program; without a serial number the only one connected."""

    serial: str | None = None
    kind: Literal["adb"] = "adb"
    # /tmp is not there, and /sdcard does not let programs run.
    folder: str = "/data/local/tmp"

    def __str__(self) -> str:
        return self.serial or "the Android device"

    def command(self, script: str, link: Path, *, opening: bool = False) -> list[str]:
        chosen = [] if self.serial is None else ["-s", self.serial]
        # -T: no terminal, so bytes pass unchanged. Since Android 7 the exit status comes back too.
        return ["adb", *chosen, "shell", "-T", in_sh(script)]

    def failure(self, code: int, said: str) -> str | None:
        known = {
            "no devices": "adb sees no device; connect one with USB debugging on, and look at adb devices",
            "more than one device": "adb sees several devices; name one with adb://SERIAL, as adb devices lists them",
            "unauthorized": f"{self} has not allowed this computer; confirm the question on its screen",
            "offline": f"{self} is offline; connect it anew, or adb reconnect",
            "not found": f"adb does not see {self}; look at adb devices",
            "cannot connect to daemon": "adb cannot start its server; try adb start-server",
            # What versions of adb say of a device without the shell's second protocol.
            "only supports allocating a pty": OLD_ANDROID,
            "doesn't support PTY args": OLD_ANDROID,
        }
        own = "\n".join(re.findall(r"^(?:adb|error): .*", said, re.MULTILINE))
        return next((text for mark, text in known.items() if code and mark in own), None)


def in_sh(script: str) -> str:
    """The line with which a login shell runs `script` in sh.

    A backslash stands outside the quotes and doubled: within single quotes it is itself in sh, and not in fish.
    """
    return "sh -c " + shlex.quote(script).replace("\\", "'\\\\'")


def parse(text: str) -> Target:
    """The target that a user names, see `FORMS`.

    Raises:
        UserError: it has none of the forms, or asks for what is not done (a password).
    """
    scheme, _, rest = text.partition("://")
    if text == "local":
        return Local()
    if text == "adb" or scheme == "adb":
        check(
            text == "adb" or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:\[\]-]*", rest),
            f"target {text!r} names no serial number; take one from adb devices",
        )
        return Adb(rest or None)
    check(scheme == "ssh" and rest, f"target {text!r} is none of {FORMS}")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UserError(f"target {text!r} cannot be read ({error}); give ssh://user@host[:port]") from None
    check(parts.password is None, "a target holds no password; let the device know your key with ssh-copy-id")
    plain = r"[A-Za-z0-9_][A-Za-z0-9._:%-]*"
    sound = host and re.fullmatch(plain, host) and re.fullmatch(plain, parts.username or "x")
    extra = parts.path.strip("/") or parts.query or parts.fragment
    check(sound and not extra and port != 0, f"target {text!r} is not ssh://user@host[:port]; check it")
    assert host is not None
    # A name may stand in ssh's configuration, where capitals count.
    shown = re.search(re.escape(host), text, re.IGNORECASE)
    return Ssh(shown[0] if shown else host, parts.username, port)
