"""Where a step's time goes: a torch profile, operators gathered by kind."""

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from edgebnn.text import columns

KINDS = {
    "convolution": ("aten::mkldnn_conv", "aten::_slow_conv", "aten::convolution_backward", "cudnn", "conv", "xmma"),
    "matrix product": ("aten::mm", "aten::addmm", "aten::bmm", "gemm", "cutlass", "nvjet"),
    "BatchNorm": ("aten::native_batch_norm", "batch_norm", "bn_fw", "bn_bw"),
    "Adam": ("adam",),
}
"""Parts of an operator's name by the kind it is; what matches none is elementwise, a sum, or a copy."""

REST = "elementwise, sums, copies"
PRODUCTS = ("convolution", "matrix product")


def profiled(step: Callable[[], Tensor]) -> str:
    """A table of one step's time by kind; operators of a GPU are its kernels."""
    for _ in range(2):
        step()
    gpu = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with profile(activities=activities) as seen:
        float(step())
    times: Counter[str] = Counter()
    for event in seen.key_averages():
        # A GPU's kernels stand in the list by themselves; the operators that started them would count them twice.
        if (event.device_type == DeviceType.CUDA) == gpu:
            times[_kind(event.key)] += (event.self_device_time_total if gpu else event.self_cpu_time_total) / 1e6
    total = sum(times.values())
    products = sum(times[kind] for kind in PRODUCTS)
    rows = [["kind", "s", "share"]]
    rows += [[kind, f"{spent:.3f}", f"{spent / total:.0%}"] for kind, spent in times.most_common() if spent]
    rows.append(["all", f"{total:.3f}", f"{total / products:.2f} x its products"])
    return columns(rows, "lrr")


def _kind(name: str) -> str:
    lowered = name.lower()
    for kind, parts in KINDS.items():
        if any(part in lowered for part in parts):
            return kind
    return REST
