"""Describes where a device is: this machine, a machine behind ssh, or an Android device behind adb.

A target returns the command line that runs a POSIX sh script there, and explains failures of ssh and adb. This module
runs nothing itself.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import urlsplit

from edgebnn.errors import UserError, check

FORMS = "local, ssh://user@host[:port] or adb[://serial]"

OLD_ANDROID = "the device is older than Android 7, and its adb returns no exit status; use a newer device"

SSH_OPTIONS = {
    # ssh asks no question. If it needs a password, a passphrase or a new host key, the command fails.
    "BatchMode": "yes",
    "ConnectTimeout": "20",
    # A lost device is noticed within 20 s.
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "4",
    # A user's configuration may set these, but a measurement must not have them.
    "RequestTTY": "no",
    "RemoteCommand": "none",
    "PermitLocalCommand": "no",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "ControlPersist": "no",
    # Messages about failures are read. DEBUG messages would fill a pipe that nobody reads.
    "LogLevel": "INFO",
}


class Target(Protocol):
    """A machine on which programs can be run."""

    @property
    def kind(self) -> Literal["local", "ssh", "adb"]:
        """The kind of target, for records."""

    @property
    def folder(self) -> str:
        """Shell text for the folder in which the private folder is made."""

    def command(self, script: str, link: Path, *, opening: bool = False) -> list[str]:
        """Returns the command line that runs a script in the device's sh.

        The script's input, outputs and exit status are those of the command line.

        Args:
            script: a POSIX sh script.
            link: a path in a private folder of this machine, for a connection that several commands share.
            opening: whether this command opens the shared connection. It stays open while the command runs.
        """

    def failure(self, code: int, said: str) -> str | None:
        """Returns what is wrong and what to do if a command failed because of the connection, else None.

        Args:
            code: the command's exit status.
            said: the command's stderr.
        """


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
    """A machine behind the system's own ssh client, with the user's configuration, keys and agent.

    The first command opens a connection, and later commands share it (ControlMaster in ssh_config(5)). A new connection
    costs a small device's processor more time than running many a network.
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
        # The account's login shell reads the line first, and it may be another shell than sh.
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
                f"the host key of {self} is not the one ssh knows: another machine may be answering. If it was "
                f"installed again, remove the old key with {forget}, then check the new key with {by_hand}"
            )
        copy = f"ssh-copy-id{port} {shlex.quote(login)}"
        known = {
            "Host key verification failed": f"ssh does not know {self} yet; check its host key once with {by_hand}",
            "Permission denied": f"{self} accepts none of your keys; add one with {copy}",
            "Could not resolve hostname": f"there is no host {self}; check the name",
            "Connection refused": f"{self} refuses ssh; check the port, and that its ssh server runs",
            "Connection timed out": f"{self} does not answer; check that it is on and can be reached",
            "No route to host": f"{self} cannot be reached; check the network",
        }
        return next((text for mark, text in known.items() if mark in said), None)


@dataclass(frozen=True)
class Adb:
    """An Android device behind the program `adb`. Without a serial number it is the only connected device."""

    serial: str | None = None
    kind: Literal["adb"] = "adb"
    # Android has no /tmp, and /sdcard does not let programs run.
    folder: str = "/data/local/tmp"

    def __str__(self) -> str:
        return self.serial or "the Android device"

    def command(self, script: str, link: Path, *, opening: bool = False) -> list[str]:
        chosen = [] if self.serial is None else ["-s", self.serial]
        # -T: no terminal, so bytes pass unchanged. Since Android 7 adb also returns the exit status.
        return ["adb", *chosen, "shell", "-T", in_sh(script)]

    def failure(self, code: int, said: str) -> str | None:
        known = {
            "no devices": "adb sees no device; connect one with USB debugging enabled, and check with adb devices",
            "more than one device": "adb sees several devices; name one with adb://SERIAL, as adb devices lists them",
            "unauthorized": f"{self} has not accepted this computer; confirm the question on its screen",
            "offline": f"{self} is offline; connect it again, or run adb reconnect",
            "not found": f"adb does not see {self}; check with adb devices",
            "cannot connect to daemon": "adb cannot start its server; try adb start-server",
            # Messages of different adb versions about a device that lacks the second shell protocol.
            "only supports allocating a pty": OLD_ANDROID,
            "doesn't support PTY args": OLD_ANDROID,
        }
        own = "\n".join(re.findall(r"^(?:adb|error): .*", said, re.MULTILINE))
        return next((text for mark, text in known.items() if code and mark in own), None)


def in_sh(script: str) -> str:
    """Returns the line with which any login shell runs a script in sh.

    Backslashes are doubled and put outside the quotes: fish, unlike sh, interprets them within single quotes.
    """
    return "sh -c " + shlex.quote(script).replace("\\", "'\\\\'")


def parse_target(text: str) -> Target:
    """Returns the target that a user names, see `FORMS`.

    Raises:
        UserError: the text has none of the forms, or contains a password.
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
    check(scheme == "ssh" and rest, f"target {text!r} is not one of {FORMS}")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UserError(f"target {text!r} cannot be read ({error}); give ssh://user@host[:port]") from None
    check(parts.password is None, "a target must not contain a password; copy your key to the device with ssh-copy-id")
    plain = r"[A-Za-z0-9_][A-Za-z0-9._:%-]*"
    sound = host and re.fullmatch(plain, host) and re.fullmatch(plain, parts.username or "x")
    extra = parts.path.strip("/") or parts.query or parts.fragment
    check(sound and not extra and port != 0, f"target {text!r} is not ssh://user@host[:port]; check it")
    assert host is not None
    # The host may be a name in ssh's configuration, where upper and lower case differ.
    shown = re.search(re.escape(host), text, re.IGNORECASE)
    return Ssh(shown[0] if shown else host, parts.username, port)
