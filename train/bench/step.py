"""`make bench-train`: compares our distillation step with the same step as S2-BNN's public code computes it.

    python -m train.bench [--device cpu|cuda] [--batch N] [--precision 32|bf16|16] [--runs N] [--profile] [--quick]

The student is ReActNet-A with binary activations and weights. The teacher is ResNet-50 with MoCo v2's head and random
weights. Both are equal on the two sides. A step is forward, backward and Adam on one batch of noise.

The command first checks that both sides compute the same loss and gradients. It then times their steps alternately in
one process, and measures the peak memory of each side in a process of its own. docs/notes/training-speed.md explains
the figures.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn

from edgebnn import checkpoint, records
from edgebnn.errors import check, exit_on_user_error
from edgebnn.graph import ModelInfo
from edgebnn.graph.info import IMAGENET_MEAN, IMAGENET_STD
from edgebnn.nn import BinaryUnit, ReActNet, ResNetConfig
from edgebnn.records import Record
from edgebnn.runtime.system import machine
from edgebnn.text import columns

from ..data.sources import Images
from ..methods.distill import Distill
from ..methods.student import Student
from ..methods.teacher import FrozenTeacher
from .baseline import BaselineStep
from .memory import peak_memory, reset_peak_memory

Side = Literal["ours", "baseline"]
SIDES: tuple[Side, ...] = ("ours", "baseline")
SIDE_NAMES = {"ours": "edgebnn", "baseline": "as S2-BNN's code"}
PRECISIONS = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}

TOLERANCE = 1e-10
"""Largest relative difference of the two sides in float64: of the loss, and of a gradient to its largest element."""


@dataclass(frozen=True)
class StepSetting:
    """The measured step.

    Attributes:
        width: width of the student, a ReActNet-A.
        teacher: architecture of the teacher.
        resolution: side of the images in pixels.
        batch: images per step.
        runs: measured steps of each side.
        device: "cpu" or "cuda".
        precision: key of PRECISIONS for our side. The public code trains in float32.
    """

    width: float
    teacher: Literal["resnet-18", "resnet-50"]
    resolution: int
    batch: int
    runs: int
    device: str
    precision: str


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark. Exits with code 2 on a user's mistake.

    Args:
        arguments: the arguments of the command. None takes those of the process.
    """
    parser = argparse.ArgumentParser(prog="python -m train.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, help="images per step (default 16, on a GPU 64)")
    parser.add_argument("--precision", choices=PRECISIONS, help="precision of our side (default 32, on a GPU bf16)")
    parser.add_argument("--runs", type=int, help="measured steps of each side (default 5, on a GPU 30)")
    parser.add_argument("--profile", action="store_true", help="print the time of a step by kind of operator")
    parser.add_argument("--record", metavar="RUN", type=Path, help="folder to write a record to")
    parser.add_argument("--quick", action="store_true", help="use small networks, to check that the command works")
    parser.add_argument("--peak", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--teacher", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    with exit_on_user_error():
        gpu = args.device == "cuda"
        check(not gpu or torch.cuda.is_available(), "this torch sees no GPU; give --device cpu")
        batch, runs = args.batch or (64 if gpu else 16), args.runs or (30 if gpu else 5)
        check(
            batch >= 2 and runs >= 1,
            f"--batch {batch} --runs {runs} cannot be measured; give --batch 2 or more and --runs 1 or more",
        )
        precision = args.precision or ("bf16" if gpu else "32")
        setting = StepSetting(1, "resnet-50", 224, batch, runs, args.device, precision)
        if args.quick:
            setting = StepSetting(1 / 8, "resnet-18", 64, min(batch, 8), min(runs, 2), args.device, precision)
        torch.backends.cudnn.benchmark = True  # as the public code sets it
        # The method logs its loss, and without a trainer Lightning warns about that.
        warnings.filterwarnings("ignore", ".*self.trainer. reference is not registered.*")
        if args.peak:
            print(json.dumps(step_peak(setting, args.peak, args.teacher)))
            return
        with tempfile.TemporaryDirectory() as folder:
            teacher = str(Path(folder) / "teacher.safetensors")
            write_teacher(setting, teacher)
            run_benchmark(setting, teacher, list(arguments or sys.argv[1:]), profile=args.profile, folder=args.record)


def run_benchmark(
    setting: StepSetting, teacher: str, arguments: list[str], *, profile: bool, folder: Path | None = None
) -> None:
    """Checks that both sides are equal, measures them and prints the results.

    Args:
        setting: the measured step.
        teacher: path of the teacher.
        arguments: the arguments of the command, for the processes that measure memory.
        profile: whether to print a profile of each side.
        folder: run folder for a record. None writes no record.

    Raises:
        UserError: the two sides differ.
    """
    loss, gradient = relative_differences(setting, teacher)
    check(
        max(loss, gradient) <= TOLERANCE,
        f"the two sides differ by {loss:.2g} in loss and {gradient:.2g} in gradients; report this",
    )
    print(f"same loss and gradients in float64: they differ by {loss:.1g} and {gradient:.1g} (limit {TOLERANCE:g})")
    times = step_times(setting, teacher)
    peaks = {side: _peak_elsewhere(side, teacher, arguments) for side in SIDES}
    print(result_table(setting, times, peaks))
    if folder is not None:
        records.write_record(to_record(setting, times, peaks), folder)
    size = setting.resolution
    print(f"{size}x{size}, batch {setting.batch}, {_where(setting)}, torch {torch.__version__}")
    if profile:
        from .profile import profile_table

        for side in SIDES:
            print(f"\n{SIDE_NAMES[side]}, one step by kind of operator")
            print(profile_table(make_step(setting, side, teacher)[0]))


def write_teacher(setting: StepSetting, path: str) -> None:
    """Writes a teacher with random weights.

    Args:
        setting: the measured step.
        path: the file.
    """
    torch.manual_seed(0)
    config = ResNetConfig(arch=setting.teacher)
    features = config.num_features
    network = ResNetConfig(arch=setting.teacher, head=(features, 128)).build().eval()
    # Without BatchNorm statistics of some images, random features would grow with depth.
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.train().momentum = 1.0
    with torch.no_grad():
        network(torch.randn(4, 3, 64, 64))
    checkpoint.save_checkpoint(
        path, network, ModelInfo("random-teacher", setting.resolution, IMAGENET_MEAN, IMAGENET_STD)
    )


def make_method(setting: StepSetting, teacher: str) -> Distill:
    """Returns our method, prepared as in `train fit`. Its weights are the same in every call.

    Args:
        setting: the measured step.
        teacher: path of the teacher.
    """
    torch.manual_seed(1)
    data = Images(
        resolution=setting.resolution, mean=IMAGENET_MEAN, std=IMAGENET_STD, batch_size=setting.batch, workers=0
    )
    method = Distill(Student(width=setting.width), teacher)
    method.prepare(data)
    method.to(memory_format=torch.channels_last)
    return method


def make_step(setting: StepSetting, side: Side, teacher: str) -> tuple[Callable[[], Tensor], nn.Module]:
    """Returns a function that runs one step on a batch of noise and returns the loss, and the trained network.

    Args:
        setting: the measured step.
        side: whose step.
        teacher: path of the teacher.
    """
    images = torch.randn(setting.batch, 3, setting.resolution, setting.resolution).to(setting.device)
    method = make_method(setting, teacher)
    if side == "ours":
        method.to(setting.device).train()
        network: nn.Module = method.network
        images = images.contiguous(memory_format=torch.channels_last)
        optimizer = method.optimizer_config.build(list(network.parameters()), 1, 1)["optimizer"]
    else:
        baseline = _baseline(method, teacher).to(setting.device)
        network = baseline.student
        optimizer = torch.optim.Adam(network.parameters(), 3e-4)
    dtype = PRECISIONS[setting.precision] if side == "ours" else None
    # As in Lightning for fp16: the loss is scaled up, so that small gradients are not rounded to 0.
    scaler = torch.amp.GradScaler(setting.device, enabled=dtype == torch.float16)
    labels = torch.zeros(setting.batch, dtype=torch.long)

    def step() -> Tensor:
        context = torch.autocast(setting.device, dtype) if dtype else contextlib.nullcontext()
        with context:
            loss = method.training_step(([images], labels)) if side == "ours" else baseline(images)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    return step, network


def _baseline(method: Distill, teacher: str) -> BaselineStep:
    step = BaselineStep(cast(ReActNet, method.network), checkpoint.load_checkpoint(teacher).model).train()
    step.teacher.eval()
    return step


def relative_differences(setting: StepSetting, teacher: str) -> tuple[float, float]:
    """Returns the relative difference of the two losses, and the largest relative difference of two gradients.

    It uses float64 and two small images. Rounding then flips no sign. One flipped sign would change every later unit.
    The two sides define sign(0) differently, so weights that are exactly 0 are changed. (torch draws 0 once in 2^24
    numbers.)

    Args:
        setting: the measured step.
        teacher: path of the teacher.
    """
    method = make_method(setting, teacher)
    method.double().train()
    # The BatchNorms of this teacher are also folded in float64.
    method.teacher = FrozenTeacher(checkpoint.load_checkpoint(teacher).model.double(), setting.resolution)
    with torch.no_grad():
        for unit in cast(ReActNet, method.network).units:
            weight = cast(BinaryUnit, unit).conv.weight
            weight.masked_fill_(weight == 0, 1e-6)
    baseline = _baseline(method, teacher).double()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    losses = [method.training_step(([images], torch.zeros(2))), baseline(images)]
    for loss in losses:
        loss.backward()
    worst = 0.0
    for here, there, part in baseline.student.pairs(cast(ReActNet, method.network)):
        found, wanted = cast(Tensor, there.grad)[part].view_as(here), cast(Tensor, here.grad)
        worst = max(worst, float((found - wanted).abs().max() / wanted.abs().max()))
    return float((losses[0] / losses[1] - 1).detach().abs()), worst


def step_times(setting: StepSetting, teacher: str) -> dict[Side, list[float]]:
    """Returns the seconds of each measured step. The sides alternate.

    Args:
        setting: the measured step.
        teacher: path of the teacher.
    """
    steps = {side: make_step(setting, side, teacher)[0] for side in SIDES}
    times: dict[Side, list[float]] = {side: [] for side in SIDES}
    for number in range(setting.runs + 2):
        for side, step in steps.items():
            begin = time.perf_counter()
            float(step())  # reading the loss waits for a GPU
            if setting.device == "cuda":
                torch.cuda.synchronize()
            if number >= 2:
                times[side].append(time.perf_counter() - begin)
    return times


def step_peak(setting: StepSetting, side: Side, teacher: str) -> int:
    """Returns the peak bytes of a step, with networks and optimizer. Call it in a process that did nothing else.

    Args:
        setting: the measured step.
        side: whose step.
        teacher: path of the teacher.
    """
    before = reset_peak_memory(setting.device)
    step, _ = make_step(setting, side, teacher)
    for _ in range(2):  # the first step creates Adam's state
        float(step())
    return peak_memory(setting.device) - before


def _peak_elsewhere(side: Side, teacher: str, arguments: list[str]) -> int:
    command = [sys.executable, "-m", "edgebnn.train.bench", *arguments, "--peak", side, "--teacher", teacher]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
    check(
        done.returncode == 0, f"the memory of {SIDE_NAMES[side]} could not be measured ({done.stderr.strip()[-300:]})"
    )
    return int(done.stdout)


def result_table(setting: StepSetting, times: dict[Side, list[float]], peaks: dict[Side, int]) -> str:
    """Returns a table with one row per side and a row of ratios.

    Args:
        setting: the measured step.
        times: seconds of each step.
        peaks: peak memory in bytes.
    """
    rows = [["", "images/s", "s a step", "least", "most", "peak GB"]]
    for side in SIDES:
        middle = statistics.median(times[side])
        spread = [f"{value:.3f}" for value in (middle, min(times[side]), max(times[side]))]
        rows.append([SIDE_NAMES[side], f"{setting.batch / middle:.2f}", *spread, f"{peaks[side] / 1e9:.2f}"])
    middles, least = ([f(times[side]) for side in SIDES] for f in (statistics.median, min))
    speed = middles[1] / middles[0]
    rows.append(
        ["ratio", f"{speed:.2f}", "", f"{least[1] / least[0]:.2f}", "", f"{peaks['ours'] / peaks['baseline']:.2f}"]
    )
    return columns(rows, "lrrrrr")


def to_record(setting: StepSetting, times: dict[Side, list[float]], peaks: dict[Side, int]) -> Record:
    """Returns a record of kind `training`: speed of the median step, and peak memory in bytes, of both sides.

    Args:
        setting: the measured step.
        times: seconds of each step.
        peaks: peak memory in bytes.
    """
    middles = {side: statistics.median(times[side]) for side in SIDES}
    values = {
        "images_per_s": setting.batch / middles["ours"],
        "baseline_images_per_s": setting.batch / middles["baseline"],
        "speed_ratio": middles["baseline"] / middles["ours"],
        "peak_bytes": peaks["ours"],
        "baseline_peak_bytes": peaks["baseline"],
        "memory_ratio": peaks["ours"] / peaks["baseline"],
    }
    gpu = torch.cuda.get_device_name() if setting.device == "cuda" else None
    context = {"setting": asdict(setting), "torch": torch.__version__, "gpu": gpu, "machine": machine.describe()}
    return Record("training", f"reactnet-a width {setting.width:g}", values, context)


def _where(setting: StepSetting) -> str:
    if setting.device == "cuda":
        return f"{setting.precision} against float32, on {torch.cuda.get_device_name()}"
    return (
        f"precision {setting.precision}, {torch.get_num_threads()} threads, on {machine.one_line(machine.describe())}"
    )
