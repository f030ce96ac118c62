from pathlib import Path

import pytest

from edgebnn.export.device.measure import DeviceResults, Measured, Subject
from edgebnn.export.device.parse import Sample
from edgebnn.export.device.report import file_names, notes, to_records, to_table, void_reasons
from edgebnn.export.device.runners import Tool
from edgebnn.runtime.system.state import State

MACHINE = {
    "cpu": "Raspberry Pi 4 Model B Rev 1.4",
    "cores": 4,
    "features": ["neon"],
    "core_types": {"Cortex-A72": 4},
    "architecture": "aarch64",
    "bits": 64,
    "governor": "performance",
    "os": "Debian",
}
QUIET = State((1500.0,), (1500.0,), 45.0, 0.2, 0, None, 0)


def measured(tmp_path: Path, name: str, rounds: list[tuple[float, ...]], *, peak: int | None = None) -> Measured:
    path = tmp_path / name
    watched = Sample(rounds[0], 5, 60, peak, 2_000_000)
    samples = tuple(Sample(runs, 5 + number, 60 + number) for number, runs in enumerate(rounds))
    return Measured(
        Subject(path, "m", 224, "lce", "00", 1000), Tool("/x", "lce_benchmark_model", "ab" * 32), watched, samples
    )


def findings(
    *each: Measured,
    states: tuple[State, ...] = (QUIET, QUIET),
    threads: int = 1,
    busy: float | None = 0.1,
    **machine: object,
) -> DeviceResults:
    return DeviceResults(each, MACHINE | machine, states, threads, busy)


STEADY = [(40.0, 40.5, 41.0)] * 6


def test_a_sound_comparison_has_no_doubts(tmp_path: Path) -> None:
    found = findings(measured(tmp_path, "a", STEADY), measured(tmp_path, "b", [(20.0, 20.1, 20.2)] * 6))
    assert void_reasons(found) == []
    assert [each.ratio(found.measured[0]) for each in found.measured] == [1, pytest.approx(20.1 / 40.5)]


def test_the_ratio_is_taken_within_rounds(tmp_path: Path) -> None:
    # The device slows down to half; each round's ratio stays.
    slowing = [1.0, 1.2, 1.5, 1.7, 1.9, 2.0]
    first = measured(tmp_path, "a", [(10 * each,) for each in slowing])
    second = measured(tmp_path, "b", [(30 * each,) for each in slowing])
    assert second.ratio(first) == pytest.approx(3)
    reasons = void_reasons(findings(first, second))
    assert [reason.partition(":")[0] for reason in reasons] == ["a", "a", "b", "b"]
    assert "the last rounds took +77% compared with the first" in reasons[1]


@pytest.mark.parametrize(
    ("rounds", "reason"),
    [
        ([(40.0, 40.0, 49.0)] * 6, "p10 to p90 spans 22% of the median"),
        ([(40.0, 40.0, 47.0)] * 6, None),
        ([(40.0,)] * 4 + [(45.0,)] * 2, "the last rounds took +12% compared with the first"),
        ([(40.0,)] * 4 + [(43.0,)] * 2, None),
        ([(44.0,)] * 2 + [(40.0,)] * 4, None),
        ([(40.0,)] * 4 + [(35.0,)] * 2, "the last rounds took -12% compared with the first"),
        # Too few rounds to tell a drift.
        ([(40.0,), (45.0,)], None),
    ],
)
def test_spread_and_drift(tmp_path: Path, rounds: list[tuple[float, ...]], reason: str | None) -> None:
    said = void_reasons(findings(measured(tmp_path, "a", rounds)))
    assert [reason in each for each in said] == [True] if reason else said == []


def test_throttling_and_load(tmp_path: Path) -> None:
    one = measured(tmp_path, "a", STEADY)
    hot = State((600.0,), (1500.0,), 85.0, 0.2, 0, None, 0xE0008)
    (reason,) = void_reasons(findings(one, states=(QUIET, hot, QUIET)))
    assert "the device throttled (firmware: frequency capped; firmware: throttled; firmware: soft" in reason
    (reason,) = void_reasons(findings(one, busy=3.6))
    assert "other programs used 3.6 of the device's 4 cores" in reason
    # Three other processes have a core each.
    assert void_reasons(findings(one, busy=3.4)) == []
    assert void_reasons(findings(one, busy=None)) == []
    # The load of the minute before holds our own trying, and says nothing.
    assert void_reasons(findings(one, states=(State(load=9), QUIET), threads=4)) == []
    # More threads than cores are not others.
    assert void_reasons(findings(one, threads=8)) == []


def test_notes(tmp_path: Path) -> None:
    one = measured(tmp_path, "a", STEADY, peak=9_000_000)
    assert notes(findings(one)) == []
    assert notes(findings(one, states=(State(), State()))) == ["the device does not report whether it throttled"]
    assert notes(findings(one, threads=5)) == ["5 threads share 4 cores"]
    narrow = ["the programs are 32-bit on a 64-bit processor: a 64-bit system would be faster"]
    assert notes(findings(one, bits=32)) == narrow
    # A 32-bit kernel on a Cortex-A72 calls itself armv7l.
    assert notes(findings(one, bits=32, architecture="armv7l")) == narrow
    assert notes(findings(one, bits=32, architecture="armv7l", core_types={})) == []


def test_what_a_raspberry_pis_firmware_cannot_tell(tmp_path: Path) -> None:
    one = measured(tmp_path, "a", STEADY, peak=9_000_000)
    silent = State(limit_mhz=(1500.0,))
    (note,) = notes(findings(one, states=(silent, silent)))
    assert "the firmware, which knows whether the device throttled, did not answer" in note
    assert notes(findings(one, states=(silent, silent), cpu="Board 9")) == []
    noted = State(limit_mhz=(1500.0,), firmware=0x50000)
    (note,) = notes(findings(one, states=(noted, noted)))
    assert "its firmware has reported: voltage too low, throttled. It reports each only once" in note


def test_a_device_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    text = to_table(findings(measured(tmp_path, "a", STEADY), os="\x1b]0;title\x07\x1b[2J", governor="\x9b1m"))
    assert all(each.isprintable() for each in text.splitlines())
    assert r"\x1b]0;title" in text


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    one, other, third = (measured(tmp_path / folder, name, STEADY) for folder, name in ("xa", "ya", "xb"))
    assert file_names(findings(one, other, third)) == [str(tmp_path / "x" / "a"), str(tmp_path / "y" / "a"), "b"]


def test_table_and_records_say_the_same(tmp_path: Path) -> None:
    first_name, second_name = "a\nb.tflite", "peak.tflite"
    found = findings(measured(tmp_path, first_name, STEADY), measured(tmp_path, second_name, STEADY, peak=9_000_000))
    _, first, second, where, states, note = to_table(found).splitlines()
    assert first.split() == [
        r"a\nb.tflite",
        "lce_benchmark_model",
        "40.500",
        "40.000-41.000",
        "62.50",
        "7.50",
        "+2.0",
        "1.00",
    ]
    assert second.split()[-2] == "9.0"
    assert where == (
        "1 thread, 18 runs each in 6 rounds, on Raspberry Pi 4 Model B Rev 1.4, 4 cores (4 Cortex-A72), "
        "aarch64 (64-bit), neon, governor performance, Debian"
    )
    assert note == "note: memory with a plus is the growth of the program; without a plus it is the peak"
    assert states == "before: 1500 MHz, 45.0 °C, load 0.2; after: 1500 MHz, 45.0 °C, load 0.2"
    latency, size, *_ = to_records(found, "ssh")
    assert size.values == {"bytes": 1000}
    assert latency.values == {
        "median_ms": 40.5,
        "p10_ms": 40.0,
        "p90_ms": 41.0,
        "min_ms": 40.0,
        "first_ms": 62.5,
        "init_ms": 7.5,
        "growth_memory_bytes": 2_000_000,
    }
    assert latency.context["runs"] == 18
    assert latency.context["rounds_ms"] == [round(time, 4) for time in found.measured[0].medians]
    assert {each.context["session"] for each in to_records(found, "ssh") if each.kind == "latency"} != {
        latency.context["session"]
    }
    assert latency.context["runtime_version"] == f"sha256 {'ab' * 6}"
    assert (latency.context["throttled"], latency.context["void"], latency.context["busy_cores"]) == (False, [], 0.1)
    assert latency.context["before"]["temperature_c"] == 45
