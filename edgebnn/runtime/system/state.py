"""How hot and how fast a machine is at one moment, and whether it was throttled between two."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgebnn.runtime.system.facts import Facts

FIRMWARE_FLAGS = ("voltage too low", "frequency capped", "throttled", "soft temperature limit")
"""Bits 0 to 3 of what a Raspberry Pi's firmware says; 16 to 19: it happened since it was switched on
(https://www.raspberrypi.com/documentation/computers/os.html#get_throttled)."""

BUSY_SCRIPT = "head -n 1 /proc/stat; sleep 2; head -n 1 /proc/stat"
"""sh: the processors' time before and after two seconds of doing nothing, for `busy_share`."""

FIRMWARE_FILE = "/sys/devices/platform/soc/soc:firmware/get_throttled"


@dataclass(frozen=True)
class State:
    """A machine at one moment; what the system does not tell is None, or empty.

    Attributes:
        mhz: each processor's clock.
        limit_mhz: the highest clock each may be given now; falls when the system cools by slowing down.
        temperature_c: of the hottest zone of the processor, or of all where none is named so.
        load: processes that wanted to run, over the last minute.
        cooling: sum of the states of cooling devices that slow the processor; 0 is none.
        throttle_count: times the processors (x86) say they were throttled since they were switched on.
        firmware: a Raspberry Pi's flags, see `FIRMWARE_FLAGS`.
    """

    mhz: tuple[float, ...] = ()
    limit_mhz: tuple[float, ...] = ()
    temperature_c: float | None = None
    load: float | None = None
    cooling: int | None = None
    throttle_count: int | None = None
    firmware: int | None = None

    @property
    def telling(self) -> bool:
        """Whether this machine gives any sign of throttling."""
        return bool(self.limit_mhz) or not self.cooling == self.throttle_count == self.firmware is None


def state(facts: Facts) -> State:
    """The state that the facts tell."""
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
    """Signs that the machine was throttled between the first and the last state: "" for none, None if it gives none."""
    first = states[0]
    if not any(each.telling for each in states):
        return None
    signs = []
    for each in states[1:]:
        if each.firmware is not None:
            # What is now, and what has been since `first` and had not been before.
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
    """What a Raspberry Pi's firmware has noted since it was switched on, and would not note a second time."""
    return [flag for bit, flag in enumerate(FIRMWARE_FLAGS) if (first.firmware or 0) >> 16 >> bit & 1]


def busy_share(text: str) -> float | None:
    """What `BUSY_SCRIPT` printed: the share of all processors' time that was not idle between; None if it is not that.

    The line "cpu" of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal, guests (proc(5)).
    """
    lines = re.findall(r"^cpu ((?: +\d{1,19}){5,})", text, re.MULTILINE)
    if len(lines) != 2:
        return None
    # Guests' time is in user's already.
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
    """MHz of each processor, by its number; Linux gives kHz."""
    found = {}
    for path, text in facts.items():
        place = re.fullmatch(rf"/sys/devices/system/cpu/cpu(\d+)/cpufreq/{file}", path)
        if place and (khz := _number(text)) is not None:
            found[int(place[1])] = khz / 1e3
    return tuple(found[number] for number in sorted(found))


def _pairs(facts: Facts, folder: str, file: str) -> list[tuple[str, str]]:
    """The type of each thermal `folder`, and the text of its `file`."""
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
        # By the kernel's documentation thousandths; not everywhere.
        value = value / 1000 if abs(value) > 1000 else value
        if 0 < value < 150:
            of_processor = re.search(r"cpu|soc|x86_pkg|core", name, re.IGNORECASE) is not None
            degrees.append((of_processor, value))
    return max(degrees)[1] if degrees else None


def _firmware(*texts: str) -> int | None:
    """The flags from the first text that holds them: `vcgencmd` prints what is wrong where a user may not ask."""
    found = (re.fullmatch(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})", text.strip()) for text in texts)
    return next((int(each[1], 16) for each in found if each), None)
