"""Runs the inference graph slowly and plainly: the oracle of every exporter and kernel.

Floats are computed in the order of the formulas, one operation at a time, in the type of the graph's arrays.
Accumulators of binary units are whole numbers. All arrays are NCHW.
"""

import numpy as np

from edgebnn.graph.floats import fused_multiply_add
from edgebnn.graph.graph import Head, InferenceGraph, Stem, Unit


def run(graph: InferenceGraph, images: np.ndarray) -> np.ndarray:
    """Returns the logits (N, outputs) of normalised images (N, channels, height, width)."""
    x = stem(graph.stem, images)
    for part in graph.units:
        x = unit(part, x)
    return head(graph.head, x)


def stem(part: Stem, images: np.ndarray) -> np.ndarray:
    """Returns the stem's output (N, outputs, H / reduction, W / reduction) for images (N, channels, H, W).

    The products are added to the bias one after the other, by channel, row and column of the kernel. Products with
    padding zeros are added like all others. In float32 a product and its addition are rounded once, together, as in
    the kernels (edgebnn/kernels/core/image_conv.h).
    """
    windows = _windows(images, part.weight.shape[2], part.stride, part.border, fill=0)
    outputs, *taps = part.weight.shape
    x = np.empty((len(images), outputs, *windows.shape[2:4]), np.result_type(images, part.weight))
    x[:] = part.bias[:, None, None]
    for channel, row, column in np.ndindex(*taps):
        weight, image = part.weight[:, channel, row, column, None, None], windows[:, channel, None, :, :, row, column]
        x = fused_multiply_add(weight, image, x) if x.dtype == np.float32 else weight * image + x
    return _windows(x, 3, 2, border=1, fill=-np.inf).max(axis=(4, 5)) if part.pool else x


def unit(part: Unit, x: np.ndarray) -> np.ndarray:
    """Returns the output of one unit for x (N, inputs, H, W). A NaN in x makes the bit -1."""
    acc = accumulate(part, seen(part, x))
    z = acc * part.scale[:, None, None] + part.bias[:, None, None]
    if part.shortcut != "none":  # adding 0 would turn -0.0 into 0
        z = z + shortcut(part, x)
    return np.where(z >= 0, z, part.slope[:, None, None] * z)


def seen(part: Unit, x: np.ndarray) -> np.ndarray:
    """Returns the input of a unit's convolution: bits as +1 and -1, or x - threshold."""
    threshold = part.threshold[:, None, None]
    return np.where(x >= threshold, 1, -1).astype(x.dtype) if part.binary_input else x - threshold


def accumulate(part: Unit, values: np.ndarray) -> np.ndarray:
    """Returns the unit's convolution of `values` (the result of `seen`), padding included."""
    fill = 0 if part.padding == "zero" else 1
    return _convolve(values, part.weight.astype(values.dtype), part.stride, part.border, fill)


def shortcut(part: Unit, x: np.ndarray) -> np.ndarray:
    """Returns the values that the unit's shortcut adds to its convolution."""
    if part.shortcut == "repeat":
        return np.concatenate([x, x], axis=1)
    if part.shortcut in ("pool", "downsample"):
        pooled = pool(x)
        if part.downsample is None:
            return pooled
        return _convolve(pooled, part.downsample[:, :, None, None], stride=1, border=0, fill=0)
    return x


def pool(x: np.ndarray) -> np.ndarray:
    """Returns the 2x2 average (N, channels, H / 2, W / 2) of x (N, channels, H, W)."""
    # Pixels are added row by row. The order decides the last bit: ONNX Runtime 1.31 adds so, 1.23 did not.
    total = x[:, :, 0::2, 0::2] + x[:, :, 0::2, 1::2] + x[:, :, 1::2, 0::2] + x[:, :, 1::2, 1::2]
    pooled: np.ndarray = total * x.dtype.type(0.25)
    return pooled


def head(part: Head, x: np.ndarray) -> np.ndarray:
    """Returns the head's outputs (N, outputs) for x (N, channels, H, W)."""
    features = x.mean(axis=(2, 3)) + part.offset
    for layer in part.layers:
        features = features @ layer.weight.T + layer.bias
        if layer.relu:
            features = np.maximum(features, 0)
    return features


def _convolve(x: np.ndarray, weight: np.ndarray, stride: int, border: int, fill: float) -> np.ndarray:
    """Returns a plain convolution. On bits it is exact: an accumulator is a whole number far below 2**24."""
    kernel = weight.shape[2]
    windows = _windows(x, kernel, stride, border, fill)
    n, channels, height, width = windows.shape[:4]
    columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * height * width, channels * kernel * kernel)
    out = columns @ weight.reshape(len(weight), -1).T
    return out.reshape(n, height, width, -1).transpose(0, 3, 1, 2)


def _windows(x: np.ndarray, kernel: int, stride: int, border: int, fill: float) -> np.ndarray:
    """Returns the window of each output pixel (N, channels, H', W', kernel, kernel) of x (N, channels, H, W)."""
    padded: np.ndarray = np.pad(x, ((0, 0), (0, 0), (border, border), (border, border)), constant_values=fill)
    windows: np.ndarray = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))  # type: ignore[call-overload]
    return windows[:, :, ::stride, ::stride]
