"""`make bench-train`: our distillation step beside the same step written as S2-BNN's public code writes it.

    python -m train.bench [--device cpu|cuda] [--batch N] [--precision 32|bf16|16] [--runs N] [--profile] [--quick]

Student ReActNet-A, both binary; teacher ResNet-50 with MoCo v2's head, random weights, the same on both sides. A step
is forward, backward and Adam on one batch of noise. Checks first that both sides compute the same loss and gradients,
then times them in turns in one process, then measures the peak memory of each in a process of its own.
docs/notes/training-speed.md says how to read it.
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
from .memory import peak, start

Side = Literal["ours", "baseline"]
SIDES: tuple[Side, ...] = ("ours", "baseline")
NAMES = {"ours": "edgebnn", "baseline": "as S2-BNN's code"}
PRECISIONS = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}

SAME = 1e-10
"""What the sides may differ by in float64: of the loss, and of a gradient's largest element."""


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
        width: of the student, a ReActNet-A.
        teacher: architecture of the teacher.
        resolution: side of the images in pixels.
        batch: images of a step.
        runs: measured steps of each side.
        device: "cpu" or "cuda".
        precision: key of PRECISIONS, of our side; the public code trains in float32.
    """

    width: float
    teacher: Literal["resnet-18", "resnet-50"]
    resolution: int
    batch: int
    runs: int
    device: str
    precision: str


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark. Exits with code 2 on a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m train.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, help="images of a step (default 16, on a GPU 64)")
    parser.add_argument("--precision", choices=PRECISIONS, help="of our side (default 32, on a GPU bf16)")
    parser.add_argument("--runs", type=int, help="measured steps of each side (default 5, on a GPU 30)")
    parser.add_argument("--profile", action="store_true", help="show by operator where a step's time goes")
    parser.add_argument("--record", metavar="RUN", type=Path, help="folder to write a record to")
    parser.add_argument("--quick", action="store_true", help="small networks: to see that it works")
    parser.add_argument("--peak", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--teacher", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    with exit_on_user_error():
        gpu = args.device == "cuda"
        check(not gpu or torch.cuda.is_available(), "this torch sees no GPU; give --device cpu")
        batch, runs = args.batch or (64 if gpu else 16), args.runs or (30 if gpu else 5)
        check(batch >= 2 and runs >= 1, f"--batch {batch} --runs {runs} cannot be measured; give 2 and 1 or more")
        precision = args.precision or ("bf16" if gpu else "32")
        setting = Setting(1, "resnet-50", 224, batch, runs, args.device, precision)
        if args.quick:
            setting = Setting(1 / 8, "resnet-18", 64, min(batch, 8), min(runs, 2), args.device, precision)
        torch.backends.cudnn.benchmark = True  # as the public code sets it
        # The method logs its loss, and there is no trainer here to log it.
        warnings.filterwarnings("ignore", ".*self.trainer. reference is not registered.*")
        if args.peak:
            print(json.dumps(step_peak(setting, args.peak, args.teacher)))
            return
        with tempfile.TemporaryDirectory() as folder:
            teacher = str(Path(folder) / "teacher.safetensors")
            write_teacher(setting, teacher)
            run(setting, teacher, list(arguments or sys.argv[1:]), profile=args.profile, folder=args.record)


def run(setting: Setting, teacher: str, arguments: list[str], *, profile: bool, folder: Path | None = None) -> None:
    """Checks, measures and prints, and writes a record into the run folder `folder` if there is one."""
    loss, gradient = difference(setting, teacher)
    check(
        max(loss, gradient) <= SAME,
        f"the two sides differ by {loss:.2g} in loss and {gradient:.2g} in gradients; report this",
    )
    print(f"same loss and gradients in float64: they differ by {loss:.1g} and {gradient:.1g} (bar {SAME:g})")
    times = step_times(setting, teacher)
    peaks = {side: _peak_elsewhere(side, teacher, arguments) for side in SIDES}
    print(table(setting, times, peaks))
    if folder is not None:
        records.write_record(to_record(setting, times, peaks), folder)
    size = setting.resolution
    print(f"{size}x{size}, batch {setting.batch}, {_where(setting)}, torch {torch.__version__}")
    if profile:
        from .profile import profiled

        for side in SIDES:
            print(f"\n{NAMES[side]}, one step by kind of operator\n{profiled(make_step(setting, side, teacher)[0])}")


def write_teacher(setting: Setting, path: str) -> None:
    """Writes a teacher with random weights, whose BatchNorms know no data either."""
    torch.manual_seed(0)
    config = ResNetConfig(arch=setting.teacher)
    features = config.num_features
    network = ResNetConfig(arch=setting.teacher, head=(features, 128)).build().eval()
    # Random features would grow with depth, were the statistics not those of some images.
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.train().momentum = 1.0
    with torch.no_grad():
        network(torch.randn(4, 3, 64, 64))
    checkpoint.save_checkpoint(
        path, network, ModelInfo("random-teacher", setting.resolution, IMAGENET_MEAN, IMAGENET_STD)
    )


def make_method(setting: Setting, teacher: str) -> Distill:
    """Our method, prepared as `train fit` prepares it; the same weights every time."""
    torch.manual_seed(1)
    data = Images(
        resolution=setting.resolution, mean=IMAGENET_MEAN, std=IMAGENET_STD, batch_size=setting.batch, workers=0
    )
    method = Distill(Student(width=setting.width), teacher)
    method.prepare(data)
    method.to(memory_format=torch.channels_last)
    return method


def make_step(setting: Setting, side: Side, teacher: str) -> tuple[Callable[[], Tensor], nn.Module]:
    """A step on one batch of noise, which gives its loss; and what it trains."""
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
    # As Lightning does for fp16: gradients are scaled up before they are rounded.
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


def difference(setting: Setting, teacher: str) -> tuple[float, float]:
    """The largest relative difference of the sides' losses, and of any parameter's gradients.

    In float64 and on two small images: rounding then flips no sign, and one flipped sign would change every unit after
    it. The two signs differ at 0, so weights that are exactly 0 are moved off it (torch draws one in 2^24 so).
    """
    method = make_method(setting, teacher)
    method.double().train()
    # Folded in float64 as well.
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


def step_times(setting: Setting, teacher: str) -> dict[Side, list[float]]:
    """Seconds of each measured step, the sides in turns."""
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


def step_peak(setting: Setting, side: Side, teacher: str) -> int:
    """Bytes that a step takes at most, with the networks and the optimiser; in a process that did nothing else."""
    before = start(setting.device)
    step, _ = make_step(setting, side, teacher)
    for _ in range(2):  # Adam's state comes with the first
        float(step())
    return peak(setting.device) - before


def _peak_elsewhere(side: Side, teacher: str, arguments: list[str]) -> int:
    command = [sys.executable, "-m", "edgebnn.train.bench", *arguments, "--peak", side, "--teacher", teacher]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
    check(done.returncode == 0, f"the memory of {NAMES[side]} could not be measured ({done.stderr.strip()[-300:]})")
    return int(done.stdout)


def table(setting: Setting, times: dict[Side, list[float]], peaks: dict[Side, int]) -> str:
    """A row a side, and how ours compares."""
    rows = [["", "images/s", "s a step", "least", "most", "peak GB"]]
    for side in SIDES:
        middle = statistics.median(times[side])
        spread = [f"{value:.3f}" for value in (middle, min(times[side]), max(times[side]))]
        rows.append([NAMES[side], f"{setting.batch / middle:.2f}", *spread, f"{peaks[side] / 1e9:.2f}"])
    middles, least = ([f(times[side]) for side in SIDES] for f in (statistics.median, min))
    speed = middles[1] / middles[0]
    rows.append(
        ["ratio", f"{speed:.2f}", "", f"{least[1] / least[0]:.2f}", "", f"{peaks['ours'] / peaks['baseline']:.2f}"]
    )
    return columns(rows, "lrrrrr")


def to_record(setting: Setting, times: dict[Side, list[float]], peaks: dict[Side, int]) -> Record:
    """A record of kind `training`: both sides' speed by their median step, and their peak memory in bytes."""
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


def _where(setting: Setting) -> str:
    if setting.device == "cuda":
        return f"{setting.precision} against float32, on {torch.cuda.get_device_name()}"
    return (
        f"precision {setting.precision}, {torch.get_num_threads()} threads, on {machine.one_line(machine.describe())}"
    )
