"""Collects Linux's texts about a machine: on this machine in Python, or on a device with a shell script.

The script serves devices without Python. It prints the files of `FILES` and the output of `COMMANDS`, and `parse_facts`
reads what it printed. It is POSIX sh, and needs only programs that BusyBox and Android's toybox have too.
"""

import glob
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

Facts = Mapping[str, str]
"""The texts: each file's by its path, and each command's output by its name in `COMMANDS`."""

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
    # The fifth byte of the shell's program file: 1 means 32 bits, 2 means 64 (elf(5)). `uname` would tell the kernel's.
    "elf_class": "head -c 5 /proc/self/exe | od -A n -t u1",
    # GNU's nproc prints these variables' numbers if they are set.
    "cores": "unset OMP_NUM_THREADS OMP_THREAD_LIMIT; nproc || getconf _NPROCESSORS_ONLN",
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


def read_facts() -> dict[str, str]:
    """Returns the facts about this machine. `elf_class` is that of this process."""
    facts = {
        path: text for pattern in FILES for path in sorted(glob.glob(pattern)) if (text := read_file(path)) is not None
    }
    system = f"{platform.system()} {platform.release()}"
    elf_class = "2" if sys.maxsize > 2**32 else "1"
    return facts | {"system": system, "architecture": platform.machine(), "elf_class": elf_class}


def read_file(path: str) -> str | None:
    """Returns the text of a file without trailing newlines and NULs, or None if the file cannot be read."""
    try:
        return Path(path).read_bytes().decode(errors="replace").replace("\0", "").rstrip()
    except OSError:
        return None


def parse_facts(output: str) -> dict[str, str] | None:
    """Returns the facts that `SCRIPT` printed, without empty texts. Returns None if the script did not reach its end.

    Text before the first fact is skipped: a login shell may print a greeting.
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
