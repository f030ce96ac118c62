"""Measures model files on a device: copies them there, runs them in rounds, brings figures back.

In every round each file is measured by one call of its program (`export.device.runners`), in an order drawn anew:
whatever drifts, clock, heat, other programs, meets all of them alike. The single runs of all rounds are pooled.
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
from edgebnn.runtime.model import image_input, make_info
from edgebnn.runtime.ort import DOMAIN
from edgebnn.runtime.system.facts import SCRIPT, parse
from edgebnn.runtime.system.machine import hardware
from edgebnn.runtime.system.state import BUSY_SCRIPT, State, busy_share, state

from .parse import Sample
from .runners import Runner
from .session import Device

LCE_OPERATORS = {"LceQuantize", "LceDequantize", "LceBconv2d", "LceBMaxPool2d"}


@dataclass(frozen=True)
class Subject:
    """A file to measure.

    Attributes:
        path: the file, on this machine.
        model: its model's name, for records.
        resolution: side of its images in pixels.
        format: what it is, as records say it.
        sha256: its content's digest.
        bytes: its size.
        baseline: whether it is one of `--with-baselines`.
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
        """ ".onnx" or ".tflite", which says what can run it."""
        return self.path.suffix.lower()


@dataclass(frozen=True)
class Measured:
    """A subject and what every round's call told, in the order of rounds.

    `watched` is a call before the rounds whose memory counts and whose times do not.
    """

    subject: Subject
    runner: Runner
    watched: Sample
    rounds: tuple[Sample, ...]

    @property
    def latency(self) -> Latency:
        """Of all runs of all rounds."""
        return Latency.of([each for sample in self.rounds for each in sample.runs_ms])

    @property
    def medians(self) -> list[float]:
        """Each round's median in milliseconds."""
        return [median(sample.runs_ms) for sample in self.rounds]

    @property
    def first_ms(self) -> float:
        """The first run after loading, median over rounds."""
        return median(sample.first_ms for sample in self.rounds)

    @property
    def init_ms(self) -> float:
        """Loading, median over rounds."""
        return median(sample.init_ms for sample in self.rounds)

    @property
    def memory(self) -> tuple[str, int] | None:
        """Bytes, and what they are: the process's peak, or else what it grew by; None if nobody tells."""
        calls = (self.watched, *self.rounds)
        for name in ("peak", "growth"):
            held = [value for sample in calls if (value := getattr(sample, f"{name}_bytes")) is not None]
            if held:
                return name, max(held)
        return None

    @property
    def runner_facts(self) -> dict[str, Any]:
        """Runtime, its version and more, for records."""
        return self.runner.facts | self.watched.facts

    def ratio(self, other: "Measured") -> float:
        """Median over rounds of this one's median over the other's in the same round."""
        return median(own / others for own, others in zip(self.medians, other.medians))


@dataclass(frozen=True)
class Findings:
    """What was measured, and where.

    Attributes:
        measured: a file each.
        machine: the device, see `edgebnn.runtime.system.machine.hardware`.
        states: of the device, before the first round and after each.
        threads: threads a run was allowed.
        busy: cores that others kept busy before the first round, None where the device does not tell.
    """

    measured: tuple[Measured, ...]
    machine: dict[str, Any]
    states: tuple[State, ...]
    threads: int
    busy: float | None


def subject(path: str | Path, *, baseline: bool = False) -> Subject:
    """Looks at a file, without running it.

    Raises:
        UserError: it is missing, damaged, or no .onnx or .tflite file of an image classifier.
    """
    path = existing_file(path, "model")
    suffix = path.suffix.lower()
    check(suffix in (".onnx", ".tflite"), f"model {path} is neither .onnx nor .tflite; export it first")
    if suffix == ".tflite":
        data = path.read_bytes()
        lce = tflite.custom_operators(data, f"model {path}") & LCE_OPERATORS
        text = tflite.metadata(data, METADATA_KEY, f"model {path}")
        info = make_info(None if text is None else text.decode(errors="replace"), path, None, 3)
        return _subject(path, info, "lce" if lce else "tflite", baseline)
    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except DecodeError:
        raise UserError(f"model {path} is damaged, or no ONNX file; export it again") from None
    external = any(each.data_location == onnx.TensorProto.EXTERNAL for each in model.graph.initializer)
    check(not external, f"model {path} keeps weights in other files; save it as one file")
    check(len(model.graph.input) >= 1, f"model {path} takes nothing; give an image classifier")
    shape = [size.dim_value or None for size in model.graph.input[0].type.tensor_type.shape.dim]
    _, channels, side = image_input(shape, path)
    text = next((each.value for each in model.metadata_props if each.key == METADATA_KEY), None)
    info = make_info(text, path, side, channels)
    return _subject(path, info, "onnx-packed" if DOMAIN in onnx_file.operator_sets(path) else "onnx", baseline)


def _subject(path: Path, info: ModelInfo, form: str, baseline: bool) -> Subject:
    return Subject(path, info.name, info.resolution, form, sha256(path), path.stat().st_size, baseline)


def facts(device: Device) -> dict[str, str]:
    """What the device says of itself. Raises `UserError` if it does not answer."""
    found = parse(device.sh(SCRIPT).out)
    if found is None:
        raise UserError(f"{device} does not say what it is; see whether its sh works")
    return found


def busy(device: Device, cores: int) -> float | None:
    """Cores of the device's that are busy while nothing of ours runs; None where it does not tell.

    Not its load: that of the last minute holds our own trying, and on many phones threads that only wait.
    """
    share = busy_share(device.sh(BUSY_SCRIPT).out)
    return None if share is None else share * cores


def measure(
    device: Device,
    subjects: Sequence[tuple[Subject, Runner]],
    *,
    threads: int = 1,
    rounds: int = 10,
    seconds: float = 300.0,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> Findings:
    """Copies the files to the device and measures them.

    Args:
        device: the device.
        subjects: files and the programs that run them.
        threads: threads a run may use.
        rounds: calls of each.
        seconds: time limit of a call.
        seed: of the orders.
        say: told what is being done, once a step; `steps` says how often.

    Raises:
        UserError: a file does not fit, a program fails, hangs or prints something else, or the connection is lost.
    """
    # Names of our own: a file's name is anyone's.
    names = [f"a{number}{each.suffix}" for number, (each, _) in enumerate(subjects)]
    for name, (each, _) in zip(names, subjects):
        say(f"copying {each.path.name}")
        device.push(each.path, name)
    watched = []
    for name, (each, runner) in zip(names, subjects):
        say(f"trying {each.path.name}")
        watched.append(runner.call(device, name, threads, seconds, memory=True))
    before = facts(device)
    machine = hardware(before)
    others, states = busy(device, machine["cores"]), [state(before)]
    samples: list[list[Sample]] = [[] for _ in subjects]
    order = list(range(len(subjects)))
    shuffle = random.Random(seed).shuffle
    for number in range(rounds):
        shuffle(order)
        for index in order:
            each, runner = subjects[index]
            say(f"round {number + 1} of {rounds}: {each.path.name}")
            samples[index].append(runner.call(device, names[index], threads, seconds))
        states.append(state(facts(device)))
    measured = [
        Measured(each, runner, first, tuple(own)) for (each, runner), first, own in zip(subjects, watched, samples)
    ]
    return Findings(tuple(measured), machine, tuple(states), threads, others)


def steps(subjects: int, rounds: int) -> int:
    """How often `measure` says what it does."""
    return subjects * (2 + rounds)
