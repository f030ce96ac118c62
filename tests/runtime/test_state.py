import shutil
import subprocess
from dataclasses import replace

import pytest

from edgebnn.runtime.system import facts, machine
from edgebnn.runtime.system.state import BUSY_SCRIPT, FIRMWARE_FILE, State, busy_share, read_state, throttling

# A Raspberry Pi 5 as it describes itself (files shortened), with 32-bit programs.
PI_5 = {
    "/proc/cpuinfo": "\n\n".join(
        f"processor\t: {number}\nFeatures\t: fp asimd asimdhp asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b"
        for number in range(4)
    )
    + "\n\nRevision\t: c04170\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0",
    "/proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0",
    "/proc/loadavg": "0.31 0.20 0.11 1/180 3205",
    "/etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"',
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand",
    "/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "ondemand",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000",
    "/sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "2400000",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "2400000",
    "/sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "/sys/class/thermal/thermal_zone0/temp": "50750",
    "/sys/class/thermal/cooling_device0/type": "pwm-fan",
    "/sys/class/thermal/cooling_device0/cur_state": "2",
    "firmware": "throttled=0x50000",
    "system": "Linux 6.6.31+rpt-rpi-2712",
    "architecture": "aarch64",
    "elf_class": " 127  69  76  70   1",
    "cores": "4",
}
# A phone of big and small cores, as much as its shell may read.
PHONE = {
    "/proc/cpuinfo": "\n\n".join(
        f"processor : {number}\nFeatures : asimd asimddp i8mm\nCPU implementer : 0x41\nCPU part : {part}"
        for number, part in enumerate(["0xd46"] * 4 + ["0xd47"] * 3 + ["0xd48"])
    )
    + "\n\nHardware\t: Some, Inc SM8450",
    "/sys/class/thermal/thermal_zone0/type": "battery",
    "/sys/class/thermal/thermal_zone0/temp": "99000",
    "/sys/class/thermal/thermal_zone7/type": "cpu-1-0",
    "/sys/class/thermal/thermal_zone7/temp": "61",
    "/sys/class/thermal/thermal_zone8/type": "cpu-1-1",
    "/sys/class/thermal/thermal_zone8/temp": "-274000",
    "/sys/class/thermal/cooling_device3/type": "thermal-cpufreq-0",
    "/sys/class/thermal/cooling_device3/cur_state": "0",
    "android": "14",
    "product": "Google\nPixel 7",
    "architecture": "aarch64",
    "elf_class": "127 69 76 70 2",
    "system": "Linux 5.15",
}


def test_a_raspberry_pi() -> None:
    found = machine.hardware(PI_5)
    assert found == {
        "cpu": "Raspberry Pi 5 Model B Rev 1.0",
        "cores": 4,
        "features": ["neon", "dotprod"],
        "core_types": {"Cortex-A76": 4},
        "architecture": "aarch64",
        "bits": 32,
        "governor": "ondemand",
        "os": "Debian GNU/Linux 12 (bookworm)",
    }
    assert "4 cores (4 Cortex-A76), aarch64 (32-bit), neon dotprod, governor ondemand" in machine.one_line(found)
    assert read_state(PI_5) == State((1500, 2400), (2400,), 50.75, 0.31, None, None, 0x50000)


def test_a_phone() -> None:
    found = machine.hardware(PHONE)
    assert (found["cpu"], found["cores"], found["os"]) == ("Google Pixel 7", 8, "Android 14")
    assert found["core_types"] == {"Cortex-A510": 4, "Cortex-A710": 3, "Cortex-X2": 1}
    assert (found["bits"], found["governor"]) == (64, None)
    # Degrees instead of thousandths; the battery is not the processor; nothing is below absolute zero.
    assert read_state(PHONE) == State((), (), 61, None, 0, None, None)


@pytest.mark.parametrize(
    ("change", "known"),
    [
        # Who is not in the group video is told so, in words; the kernel may know.
        ({"firmware": "VCHI initialization failed"}, {"firmware": None}),
        ({"firmware": "VCHI initialization failed", FIRMWARE_FILE: "50005"}, {"firmware": 0x50005}),
        ({"/proc/loadavg": "nan 1 1"}, {"load": None}),
        ({"/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "inf"}, {"mhz": (2400,)}),
        ({"/sys/class/thermal/thermal_zone0/temp": "nan"}, {"temperature_c": None}),
    ],
)
def test_odd_answers_are_left_out(change: dict[str, str], known: dict[str, object]) -> None:
    assert read_state(PI_5 | change) == replace(read_state(PI_5), **known)


@pytest.mark.parametrize("cores", ["²", "0", "-4", "4 5", "9" * 5000])
def test_an_odd_number_of_cores_is_counted_elsewhere(cores: str) -> None:
    assert machine.hardware(PI_5 | {"cores": cores})["cores"] == 4


STAT = "cpu  100 0 50 {idle} 10 0 5 0 999 0"


@pytest.mark.parametrize(
    ("text", "share"),
    [
        (f"{STAT.format(idle=800)}\ncpu  190 0 55 {'900'} 10 0 10 0 9999 0\n", 0.5),
        (f"Welcome!\n{STAT.format(idle=800)}\n{STAT.format(idle=1000)}", 0.0),
        # It stands still in some emulators.
        (f"{STAT.format(idle=800)}\n{STAT.format(idle=800)}", None),
        (STAT.format(idle=800), None),
        ("head: /proc/stat: Permission denied", None),
        ("cpu  1 2\ncpu  3 4", None),
    ],
)
def test_how_busy_others_are(text: str, share: float | None) -> None:
    assert busy_share(text) == share


def test_this_machine_says_how_busy_it_is() -> None:
    share = busy_share(subprocess.run(["sh", "-c", BUSY_SCRIPT], capture_output=True, text=True).stdout)
    assert share is not None
    assert 0 <= share <= 1


def test_nothing_known() -> None:
    assert machine.hardware({})["cores"] == 1
    assert read_state({}) == State()
    assert throttling([State(), State(temperature_c=90, load=3)]) is None


@pytest.mark.parametrize(
    ("before", "after", "sign"),
    [
        (State(firmware=0), State(firmware=0), ""),
        (State(firmware=0x50000), State(firmware=0x50000), ""),
        (State(firmware=0x50000), State(firmware=0x50005), "firmware: voltage too low; firmware: throttled"),
        (State(firmware=0), State(firmware=0x20000), "firmware: frequency capped"),
        (State(firmware=0x10000), State(firmware=0x90000), "firmware: soft temperature limit"),
        (State(cooling=0), State(cooling=0), ""),
        (State(cooling=0), State(cooling=3), "the system cools by slowing the processor"),
        (State(throttle_count=7), State(throttle_count=7), ""),
        (State(throttle_count=7), State(throttle_count=8), "the processor counts times it was throttled"),
        (State(limit_mhz=(1800, 1800)), State(limit_mhz=(1800, 1800)), ""),
        (State(limit_mhz=(1800, 1800)), State(limit_mhz=(1800, 1400)), "the highest clock allowed has fallen"),
        # A clock of its own accord is what governors are for.
        (State(mhz=(1800,), limit_mhz=(1800,)), State(mhz=(600,), limit_mhz=(1800,)), ""),
    ],
)
def test_signs_of_throttling(before: State, after: State, sign: str) -> None:
    assert throttling([before, after]) == sign
    # In the middle counts too, for what lasts no longer than it is.
    if sign and after.firmware is None:
        assert throttling([before, after, before]) == sign


@pytest.mark.parametrize(
    "shell", [["sh"], ["bash", "--posix"], ["busybox", "sh"], ["mksh"]], ids=lambda shell: shell[0]
)
def test_a_shell_reads_what_python_reads(shell: list[str]) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]}")
    done = subprocess.run([*shell, "-c", facts.SCRIPT], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    told = facts.parse_facts("Welcome!\nLast login: today\n" + done.stdout.replace("\n", "\r\n"))
    read = facts.read_facts()
    assert told is not None
    moving = ("/proc/loadavg", "_freq", "/temp", "cur_state")
    assert {path for path in told if path.startswith("/")} == {
        path for path, text in read.items() if path[0] == "/" and text
    }
    # /proc/cpuinfo of x86 tells the clock, which moves.
    still = [
        path for path in read if read[path] and not path.endswith(moving) and path not in ("/proc/cpuinfo", "elf_class")
    ]
    assert {path: told[path].strip() for path in still} == {path: read[path] for path in still}
    assert {**machine.hardware(told), "os": "", "cores": 0} == {**machine.hardware(read), "os": "", "cores": 0}


@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "OMP_THREAD_LIMIT"])
@pytest.mark.parametrize("number", ["1", "64"])
def test_openmps_variables_change_no_count_of_cores(
    variable: str, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, number)
    done = subprocess.run(["/bin/sh", "-c", facts.SCRIPT], capture_output=True, text=True, check=True)
    told = facts.parse_facts(done.stdout)
    assert told is not None
    assert machine.hardware(told)["cores"] == machine.describe()["cores"]


def test_an_answer_cut_off_is_none() -> None:
    assert facts.parse_facts("=a\n b\n") is None
    assert facts.parse_facts("") is None
    assert facts.parse_facts("=a\n b\n  c\n\n=empty\n\n=end\n") == {"a": "b\n c"}
