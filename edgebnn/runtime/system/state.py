"""Reads a machine's temperature and clock, and tells whether the machine was throttled between two moments."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgebnn.runtime.system.facts import Facts

FIRMWARE_FLAGS = ("voltage too low", "frequency capped", "throttled", "soft temperature limit")
"""The meaning of bits 0 to 3 of a Raspberry Pi's firmware flags, for the present. Bits 16 to 19 have the same meaning
for the whole time since the board was switched on.
Source: https://www.raspberrypi.com/documentation/computers/os.html#get_throttled
"""

BUSY_SCRIPT = "head -n 1 /proc/stat; sleep 2; head -n 1 /proc/stat"
"""Shell commands that print the processors' times before and after two idle seconds, for `busy_share`."""

FIRMWARE_FILE = "/sys/devices/platform/soc/soc:firmware/get_throttled"


@dataclass(frozen=True)
class State:
    """The state of a machine at one moment. A value that the system does not report is None or empty.

    Attributes:
        mhz: the clock of each processor.
        limit_mhz: the highest clock that each processor may have now. It falls when the system slows down to cool.
        temperature_c: temperature of the processor's hottest zone. If no zone is named after the processor, of the
            hottest zone.
        load: average number of processes that wanted to run, over the last minute.
        cooling: sum of the states of the cooling devices that slow the processor; 0 means that none does.
        throttle_count: how often x86 processors were throttled since they were switched on.
        firmware: a Raspberry Pi's firmware flags, see `FIRMWARE_FLAGS`.
    """

    mhz: tuple[float, ...] = ()
    limit_mhz: tuple[float, ...] = ()
    temperature_c: float | None = None
    load: float | None = None
    cooling: int | None = None
    throttle_count: int | None = None
    firmware: int | None = None

    @property
    def reports_throttling(self) -> bool:
        """Whether this machine reports anything that would show throttling."""
        return bool(self.limit_mhz) or not self.cooling == self.throttle_count == self.firmware is None


def read_state(facts: Facts) -> State:
    """Returns the machine's state according to its facts."""
    return State(
        mhz=_frequencies(facts, "scaling_cur_freq"),
        limit_mhz=_frequencies(facts, "scaling_max_freq"),
        temperature_c=_temperature(facts),
        load=_number(facts.get("/proc/loadavg", "").partition(" ")[0]),
        cooling=_sum(value for name, value in _pairs(facts, "cooling_device", "cur_state") if _slows(name)),
        throttle_count=_sum(text for path, text in facts.items() if path.endswith("/core_throttle_count")),
        firmware=_firmware(facts.get("firmware", ""), facts.get(FIRMWARE_FILE, "")),
    )


def throttling(states: Sequence[State]) -> str | None:
    """Returns the signs that the machine was throttled between the first and the last state, joined by semicolons.

    "" means that there is no sign. None means that the machine reports nothing that would show throttling.
    """
    first = states[0]
    if not any(each.reports_throttling for each in states):
        return None
    signs = []
    for each in states[1:]:
        if each.firmware is not None:
            # What is true now, and what has happened since `first` but not before it.
            happened = each.firmware & 15 | (each.firmware & ~(first.firmware or 0)) >> 16 & 15
            signs += [f"firmware: {flag}" for bit, flag in enumerate(FIRMWARE_FLAGS) if happened >> bit & 1]
        if each.cooling:
            signs.append("the system cools by slowing the processor")
        if (each.throttle_count or 0) > (first.throttle_count or 0):
            signs.append("the processor counts times it was throttled")
        if any(now < before for now, before in zip(each.limit_mhz, first.limit_mhz)):
            signs.append("the highest clock allowed has fallen")
    return "; ".join(dict.fromkeys(signs))


def happened_before(first: State) -> list[str]:
    """Returns the flags that a Raspberry Pi's firmware has set since it was switched on. It does not set them twice."""
    return [flag for bit, flag in enumerate(FIRMWARE_FLAGS) if (first.firmware or 0) >> 16 >> bit & 1]


def busy_share(text: str) -> float | None:
    """Returns the share of all processors' time that was busy, from the output of `BUSY_SCRIPT`.

    Returns None if the text is not such an output. The numbers in the "cpu" line of /proc/stat are user, nice, system,
    idle, iowait, irq, softirq, steal and guests (proc(5)).
    """
    lines = re.findall(r"^cpu ((?: +\d{1,19}){5,})", text, re.MULTILINE)
    if len(lines) != 2:
        return None
    # The time of guests is already part of the user time.
    first, last = ([int(each) for each in line.split()[:8]] for line in lines)
    spent = [after - before for before, after in zip(first, last)]
    return min(1, max(0, 1 - (spent[3] + spent[4]) / sum(spent))) if sum(spent) > 0 else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _sum(texts: Iterable[str]) -> int | None:
    numbers = [int(text) for text in texts if re.fullmatch(r"\d{1,18}", text)]
    return sum(numbers) if numbers else None


def _frequencies(facts: Facts, file: str) -> tuple[float, ...]:
    """Returns the clock of each processor in MHz, ordered by its number. Linux reports kHz."""
    found = {}
    for path, text in facts.items():
        place = re.fullmatch(rf"/sys/devices/system/cpu/cpu(\d+)/cpufreq/{file}", path)
        if place and (khz := _number(text)) is not None:
            found[int(place[1])] = khz / 1e3
    return tuple(found[number] for number in sorted(found))


def _pairs(facts: Facts, folder: str, file: str) -> list[tuple[str, str]]:
    """Returns the type of each thermal folder of a kind, with the text of one of its files."""
    return [
        (facts.get(path.rpartition("/")[0] + "/type", ""), text)
        for path, text in facts.items()
        if path.startswith(f"/sys/class/thermal/{folder}") and path.endswith(f"/{file}")
    ]


def _slows(cooling_type: str) -> bool:
    return re.search(r"cpu|processor", cooling_type, re.IGNORECASE) is not None and "fan" not in cooling_type.lower()


def _temperature(facts: Facts) -> float | None:
    degrees = []
    for name, text in _pairs(facts, "thermal_zone", "temp"):
        value = _number(text)
        if value is None:
            continue
        # The kernel documents thousandths of a degree, but some drivers report degrees.
        value = value / 1000 if abs(value) > 1000 else value
        if 0 < value < 150:
            of_processor = re.search(r"cpu|soc|x86_pkg|core", name, re.IGNORECASE) is not None
            degrees.append((of_processor, value))
    return max(degrees)[1] if degrees else None


def _firmware(*texts: str) -> int | None:
    """Returns the flags from the first text that holds them. `vcgencmd` prints an error if the user has no access."""
    found = (re.fullmatch(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})", text.strip()) for text in texts)
    return next((int(each[1], 16) for each in found if each), None)
