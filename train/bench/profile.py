"""Profiles a step with torch, and sums its time by kind of operator."""

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
"""Parts of operator names by kind. Operators that match none are elementwise, sums or copies."""

OTHER_KIND = "elementwise, sums, copies"
PRODUCT_KINDS = ("convolution", "matrix product")


def profile_table(step: Callable[[], Tensor]) -> str:
    """Returns a table of one step's time by kind of operator. On a GPU, it counts kernels.

    Args:
        step: runs one step and returns its loss.
    """
    for _ in range(2):
        step()
    gpu = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with profile(activities=activities) as seen:
        float(step())
    times: Counter[str] = Counter()
    for event in seen.key_averages():
        # The list has GPU kernels as own entries. Counting the operators that launch them would count them twice.
        if (event.device_type == DeviceType.CUDA) == gpu:
            times[_kind(event.key)] += (event.self_device_time_total if gpu else event.self_cpu_time_total) / 1e6
    total = sum(times.values())
    products = sum(times[kind] for kind in PRODUCT_KINDS)
    rows = [["kind", "s", "share"]]
    rows += [[kind, f"{spent:.3f}", f"{spent / total:.0%}"] for kind, spent in times.most_common() if spent]
    rows.append(["all", f"{total:.3f}", f"{total / products:.2f} x its products"])
    return columns(rows, "lrr")


def _kind(name: str) -> str:
    lowered = name.lower()
    for kind, parts in KINDS.items():
        if any(part in lowered for part in parts):
            return kind
    return OTHER_KIND
