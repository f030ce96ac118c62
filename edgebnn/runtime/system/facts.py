"""What Linux says of the machine, as text: read here, or by a shell script on a device that has no Python.

`FILES` are the files that are read, by their paths. `SCRIPT` prints the same, and what only programs tell, for
`parse`. It is POSIX sh with the programs that BusyBox and Android's toybox have too.
"""

import glob
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

Facts = Mapping[str, str]
"""Texts by the path of a file, or by a name of `COMMANDS`."""

FILES = (
    "/proc/cpuinfo",
    "/proc/device-tree/model",
    "/proc/loadavg",
    "/etc/os-release",
    "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor",
    "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq",
    "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_max_freq",
    "/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count",
    "/sys/class/thermal/thermal_zone[0-9]*/type",
    "/sys/class/thermal/thermal_zone[0-9]*/temp",
    "/sys/class/thermal/cooling_device[0-9]*/type",
    "/sys/class/thermal/cooling_device[0-9]*/cur_state",
    "/sys/devices/platform/soc/soc:firmware/get_throttled",
)

COMMANDS = {
    "system": "uname -s -r",
    "architecture": "uname -m",
    # The fifth byte of the program that runs this: 1 of 32 bits, 2 of 64 (elf(5)). A kernel may be of 64, they of 32.
    "elf_class": "head -c 5 /proc/self/exe | od -A n -t u1",
    "cores": "nproc || getconf _NPROCESSORS_ONLN",
    "firmware": "vcgencmd get_throttled",
    "android": "getprop ro.build.version.release",
    "product": "getprop ro.product.manufacturer; getprop ro.product.model",
}

SCRIPT = "\n".join(
    [
        """show() { echo; echo "=$1"; sed 's/^/ /'; }""",
        f'for f in {" ".join(FILES)}; do [ -r "$f" ] && show "$f" <"$f"; done 2>/dev/null',
        *(f"({command}) 2>/dev/null | show {name}" for name, command in COMMANDS.items()),
        "echo; echo =end",
    ]
)


def read() -> dict[str, str]:
    """This machine's facts. `bits` is of this process, `cores` what it may use."""
    facts = {
        path: text for pattern in FILES for path in sorted(glob.glob(pattern)) if (text := read_file(path)) is not None
    }
    system = f"{platform.system()} {platform.release()}"
    elf_class = "2" if sys.maxsize > 2**32 else "1"
    return facts | {"system": system, "architecture": platform.machine(), "elf_class": elf_class}


def read_file(path: str) -> str | None:
    """The text of a file without its last newlines and NULs, None where it cannot be read."""
    try:
        return Path(path).read_bytes().decode(errors="replace").replace("\0", "").rstrip()
    except OSError:
        return None


def parse(output: str) -> dict[str, str] | None:
    """What `SCRIPT` printed, texts that are empty left out; None if it did not get to its end.

    What stands before the first fact is passed over: a login shell may greet.
    """
    texts: dict[str, list[str]] = {}
    name = ""
    for line in output.replace("\r", "").replace("\0", "").split("\n"):
        if line.startswith("="):
            name = line[1:]
            texts[name] = []
        elif name and line.startswith(" "):
            texts[name].append(line[1:])
    if "end" not in texts:
        return None
    return {name: text for name, lines in texts.items() if (text := "\n".join(lines).rstrip())}
