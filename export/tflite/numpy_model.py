"""A model of LCE's arithmetic in NumPy: runs the files of `export.tflite.lce` where LCE has no package.

It knows the operators that our files contain, and computes a binary convolution as LCE 0.16 does, with the same
roundings in the same order. The tests compare it with LCE's interpreter bit for bit. It is slow, and it is not LCE:
`export verify` names it in the report and in the record.

Maps are (H, W, channels): a file's batch is 1.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flatbuffers import flexbuffers

from edgebnn.errors import check

from .file import constants, operator_kinds, unpack

Values = list[np.ndarray]
"""The inputs of an operator; those that the file leaves out are not among them."""


class NumpyModel:
    """Runs a TFLite file of `export`.

    Args:
        data: the file.

    Raises:
        UserError: the data is no TFLite file, or it has an operator that no file of `export` has.
    """

    def __init__(self, data: bytes) -> None:
        model = unpack(data)
        self._graph = model.subgraphs[0]
        self._kinds = operator_kinds(model)
        self._constants = constants(model)
        foreign = sorted(set(self._kinds) - OPERATORS.keys())
        check(not foreign, f"the NumPy model of LCE has no operator {', '.join(foreign)}; verify the file with LCE")

    def predict(self, image: np.ndarray) -> list[np.ndarray]:
        """Returns the file's outputs for one float32 image (1, H, W, channels), each with its batch of 1."""
        tensors: dict[int, np.ndarray] = {**self._constants, self._graph.inputs[0]: image[0]}
        for kind, operator in zip(self._kinds, self._graph.operators):
            inputs = [tensors[number] for number in operator.inputs if number >= 0]
            options = operator.builtinOptions
            if operator.customOptions is not None and len(operator.customOptions):
                options = flexbuffers.Loads(bytes(operator.customOptions))
            tensors[operator.outputs[0]] = OPERATORS[kind](inputs, options)
        return [tensors[number][None] for number in self._graph.outputs]


def _reverse(inputs: Values, options: Any) -> np.ndarray:
    return inputs[0][::-1, ::-1]


def _conv_2d(inputs: Values, options: Any) -> np.ndarray:
    x, weight, bias = inputs
    return _convolve(x, weight, stride=options.strideW, same=options.padding == 0, pad=0) + bias


def _average_pool(inputs: Values, options: Any) -> np.ndarray:
    # LCE's kernel adds the pixels of a window in reading order.
    above, below = inputs[0][0::2], inputs[0][1::2]
    total = ((above[:, 0::2] + above[:, 1::2]) + below[:, 0::2]) + below[:, 1::2]
    return total / np.float32(4)


def _max_pool(inputs: Values, options: Any) -> np.ndarray:
    windows = _windows(inputs[0], options.filterWidth, options.strideW, same=True, pad=-np.inf)
    return windows.max(axis=(2, 3))


def _add(inputs: Values, options: Any) -> np.ndarray:
    return inputs[0] + inputs[1]


def _prelu(inputs: Values, options: Any) -> np.ndarray:
    x, slope = inputs
    return np.where(x >= 0, x, slope * x)


def _concatenate(inputs: Values, options: Any) -> np.ndarray:
    return np.concatenate(inputs, axis=-1)


def _reshape(inputs: Values, options: Any) -> np.ndarray:
    return inputs[0].reshape(inputs[1][1:])


def _second_pixels(inputs: Values, options: Any) -> np.ndarray:
    return inputs[0][1::2, 1::2]


def _mean(inputs: Values, options: Any) -> np.ndarray:
    x = inputs[0].reshape(-1, inputs[0].shape[-1])
    return x.sum(axis=0, dtype=np.float32) / np.float32(len(x))


def _linear(inputs: Values, options: Any) -> np.ndarray:
    x, weight, bias = inputs
    out = weight @ x + bias
    return np.maximum(out, 0) if options.fusedActivationFunction else out


def _quantize(inputs: Values, options: Any) -> np.ndarray:
    """Returns +1 and -1. A file stores bits in words; here a channel keeps its own number."""
    return np.where(inputs[0] < 0, np.float32(-1), np.float32(1))


def _binary_convolution(inputs: Values, options: Mapping[str, int]) -> np.ndarray:
    bits, words, scale, bias = inputs
    channels, stride, same = options["channels_in"], options["stride_width"], options["padding"] == 0
    packed = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=3, bitorder="little")
    weight = np.where(packed[..., :channels], np.float32(-1), np.float32(1))
    count = weight[0].size
    # LCE counts the bits that differ, and folds the number of weights into the bias when it loads the file.
    acc = _convolve(bits, weight, stride=stride, same=same, pad=1)
    base = (bias.astype(np.float64) + count * scale.astype(np.float64)).astype(np.float32)
    out = (count - acc) * -scale + base
    if options["pad_values"] == 0 and weight.shape[1] == 3:
        # A padding bit is +1. Zero padding takes back what the weights over the padding have added.
        ones = np.ones_like(bits)
        outside = _convolve(ones, weight, stride=stride, same=same, pad=1)
        outside = outside - _convolve(ones, weight, stride=stride, same=same, pad=0)
        out = out - scale * outside
    return out


def _convolve(x: np.ndarray, weight: np.ndarray, *, stride: int, same: bool, pad: float) -> np.ndarray:
    """Convolves (H, W, inputs) with (outputs, kernel, kernel, inputs). Sums of whole numbers are exact."""
    outputs, kernel = weight.shape[:2]
    windows = _windows(x, kernel, stride, same=same, pad=pad)
    height, width = windows.shape[:2]
    out = windows.reshape(height * width, -1) @ weight.reshape(outputs, -1).T
    return np.ascontiguousarray(out).reshape(height, width, outputs)


def _windows(x: np.ndarray, kernel: int, stride: int, *, same: bool, pad: float) -> np.ndarray:
    """Returns the windows (out, out, kernel, kernel, channels) of a map, with TFLite's SAME padding or none."""
    side = x.shape[0]
    if same:
        missing = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        before = missing // 2
        sides = (before, missing - before)
        x = np.pad(x, (sides, sides, (0, 0)), constant_values=np.float32(pad))
    view = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel, x.shape[2]))[:, :, 0]
    return view[::stride, ::stride]


OPERATORS: Mapping[str, Callable[[Values, Any], np.ndarray]] = {
    "REVERSE_V2": _reverse,
    "CONV_2D": _conv_2d,
    "AVERAGE_POOL_2D": _average_pool,
    "MAX_POOL_2D": _max_pool,
    "ADD": _add,
    "PRELU": _prelu,
    "CONCATENATION": _concatenate,
    "RESHAPE": _reshape,
    "STRIDED_SLICE": _second_pixels,
    "MEAN": _mean,
    "FULLY_CONNECTED": _linear,
    "LceQuantize": _quantize,
    "LceBconv2d": _binary_convolution,
}
"""The operators of our LCE files."""
