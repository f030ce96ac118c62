"""Measures model files on a device: copies the files there, runs them in rounds, and collects the times.

In every round each file is measured by one call of its program (`export.device.runners`), in a new random order. So a
change of clock, temperature or load affects all files alike. The single runs of all rounds are pooled.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from edgebnn.errors import UserError, check
from edgebnn.files import existing_file, sha256
from edgebnn.graph.info import METADATA_KEY, ModelInfo
from edgebnn.runtime import Latency
from edgebnn.runtime.formats import onnx_file, tflite
from edgebnn.runtime.model import make_info, parse_image_shape
from edgebnn.runtime.ort import DOMAIN
from edgebnn.runtime.system.facts import SCRIPT, parse_facts
from edgebnn.runtime.system.machine import hardware
from edgebnn.runtime.system.state import BUSY_SCRIPT, State, busy_share, read_state

from .parse import Sample
from .runners import Runner
from .session import Device

LCE_OPERATORS = {"LceQuantize", "LceDequantize", "LceBconv2d", "LceBMaxPool2d"}


@dataclass(frozen=True)
class Subject:
    """A file to measure.

    Attributes:
        path: the file on this machine.
        model: the model's name, for records.
        resolution: side of the images in pixels.
        format: the file's format, as in records.
        sha256: digest of the file's content.
        bytes: size of the file.
        baseline: whether it is a baseline of `--with-baselines`.
    """

    path: Path
    model: str
    resolution: int
    format: str
    sha256: str
    bytes: int
    baseline: bool = False

    @property
    def suffix(self) -> str:
        """The file's suffix, ".onnx" or ".tflite". It decides which program can run the file."""
        return self.path.suffix.lower()


@dataclass(frozen=True)
class Measured:
    """The measurements of one file.

    Attributes:
        subject: the file.
        runner: the program that ran it.
        watched: a call before the rounds. Its memory counts, and its times do not.
        rounds: the call of each round, in order.
    """

    subject: Subject
    runner: Runner
    watched: Sample
    rounds: tuple[Sample, ...]

    @property
    def latency(self) -> Latency:
        """The latency over all runs of all rounds."""
        return Latency.from_runs([each for sample in self.rounds for each in sample.runs_ms])

    @property
    def medians(self) -> list[float]:
        """The median of each round in milliseconds."""
        return [median(sample.runs_ms) for sample in self.rounds]

    @property
    def first_ms(self) -> float:
        """Milliseconds of the first run after loading, the median over rounds."""
        return median(sample.first_ms for sample in self.rounds)

    @property
    def init_ms(self) -> float:
        """Milliseconds of loading, the median over rounds."""
        return median(sample.init_ms for sample in self.rounds)

    @property
    def memory(self) -> tuple[str, int] | None:
        """What was measured, "peak" or "growth", and its bytes. None if the program reports neither."""
        calls = (self.watched, *self.rounds)
        for name in ("peak", "growth"):
            held = [value for sample in calls if (value := getattr(sample, f"{name}_bytes")) is not None]
            if held:
                return name, max(held)
        return None

    @property
    def runner_facts(self) -> dict[str, Any]:
        """The runtime, its version and more facts, for records."""
        return self.runner.facts | self.watched.facts

    def ratio(self, other: "Measured") -> float:
        """Returns how much slower this file is: the median over rounds of this median / the other median."""
        return median(own / others for own, others in zip(self.medians, other.medians))


@dataclass(frozen=True)
class DeviceResults:
    """The measurements of all files on one device.

    Attributes:
        measured: one entry per file.
        machine: description of the device, see `edgebnn.runtime.system.machine.hardware`.
        states: states of the device before the first round and after each round.
        threads: number of threads that a run could use.
        busy: number of cores that other programs used before the first round; None if the device does not report it.
    """

    measured: tuple[Measured, ...]
    machine: dict[str, Any]
    states: tuple[State, ...]
    threads: int
    busy: float | None


def read_subject(path: str | Path, *, baseline: bool = False) -> Subject:
    """Returns the description of a model file, without running it.

    Raises:
        UserError: the file is missing, damaged, or no .onnx or .tflite file of an image classifier.
    """
    path = existing_file(path, "model")
    suffix = path.suffix.lower()
    check(suffix in (".onnx", ".tflite"), f"model {path} is neither .onnx nor .tflite; export it first")
    if suffix == ".tflite":
        data = path.read_bytes()
        lce = tflite.custom_operators(data, f"model {path}") & LCE_OPERATORS
        text = tflite.read_metadata(data, METADATA_KEY, f"model {path}")
        info = make_info(None if text is None else text.decode(errors="replace"), path, None, 3)
        return _subject(path, info, format_="lce" if lce else "tflite", baseline=baseline)
    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except DecodeError:
        raise UserError(f"model {path} is damaged, or no ONNX file; export it again") from None
    external = any(each.data_location == onnx.TensorProto.EXTERNAL for each in model.graph.initializer)
    check(not external, f"model {path} has weights in external files; save it as one file")
    check(len(model.graph.input) >= 1, f"model {path} has no input; give an image classifier")
    shape = [size.dim_value or None for size in model.graph.input[0].type.tensor_type.shape.dim]
    _, channels, side = parse_image_shape(shape, path)
    text = next((each.value for each in model.metadata_props if each.key == METADATA_KEY), None)
    info = make_info(text, path, side, channels)
    packed = DOMAIN in onnx_file.operator_sets(path)
    return _subject(path, info, format_="onnx-packed" if packed else "onnx", baseline=baseline)


def _subject(path: Path, info: ModelInfo, *, format_: str, baseline: bool) -> Subject:
    return Subject(
        path=path,
        model=info.name,
        resolution=info.resolution,
        format=format_,
        sha256=sha256(path),
        bytes=path.stat().st_size,
        baseline=baseline,
    )


def read_device_facts(device: Device) -> dict[str, str]:
    """Returns the facts about the device (`edgebnn.runtime.system.facts`).

    Raises:
        UserError: the device does not answer.
    """
    found = parse_facts(device.sh(SCRIPT).out)
    if found is None:
        raise UserError(f"{device} does not describe itself; check that its sh works")
    return found


def measure_busy_cores(device: Device, cores: int) -> float | None:
    """Returns how many of the device's cores other programs use, or None if the device does not report it.

    The load of the last minute is no measure of it: it includes our own trial runs, and on many phones also threads
    that only wait.
    """
    share = busy_share(device.sh(BUSY_SCRIPT).out)
    return None if share is None else share * cores


def measure_files(
    device: Device,
    subjects: Sequence[tuple[Subject, Runner]],
    *,
    threads: int = 1,
    rounds: int = 10,
    seconds: float = 300.0,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> DeviceResults:
    """Copies the files to the device and measures them.

    Args:
        device: the device.
        subjects: the files, each with the program that runs it.
        threads: number of threads that a run may use.
        rounds: number of calls per file.
        seconds: time limit of a call.
        seed: seed of the random orders.
        say: called with a description before each step. `count_steps` returns the number of steps.

    Raises:
        UserError: a file does not fit on the device, a program fails, hangs or prints unexpected text, or the
            connection is lost.
    """
    # The files get our own names there, because a user's file name may contain anything.
    names = [f"a{number}{each.suffix}" for number, (each, _) in enumerate(subjects)]
    for name, (each, _) in zip(names, subjects):
        say(f"copying {each.path.name}")
        device.push(each.path, name)
    watched = []
    for name, (each, runner) in zip(names, subjects):
        say(f"trying {each.path.name}")
        watched.append(runner.call(device, name, threads=threads, seconds=seconds, memory=True))
    before = read_device_facts(device)
    machine = hardware(before)
    others, states = measure_busy_cores(device, machine["cores"]), [read_state(before)]
    samples: list[list[Sample]] = [[] for _ in subjects]
    order = list(range(len(subjects)))
    shuffle = random.Random(seed).shuffle
    for number in range(rounds):
        shuffle(order)
        for index in order:
            each, runner = subjects[index]
            say(f"round {number + 1} of {rounds}: {each.path.name}")
            samples[index].append(runner.call(device, names[index], threads=threads, seconds=seconds))
        states.append(read_state(read_device_facts(device)))
    measured = [
        Measured(each, runner, first, tuple(own)) for (each, runner), first, own in zip(subjects, watched, samples)
    ]
    return DeviceResults(tuple(measured), machine, tuple(states), threads, others)


def count_steps(subjects: int, rounds: int) -> int:
    """Returns the number of steps in `measure_files`."""
    return subjects * (2 + rounds)
