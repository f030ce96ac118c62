"""Faulty TFLite files, made as one would make them by mistake: by TensorFlow and by LCE's own converter."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgebnn.export.tflite.file import load_triton, quietly

SIDE, CHANNELS, UNITS = 16, 32, 2


def where(tf: Any, x: Any) -> Any:
    """The quantiser that LCE's converter knows."""
    return tf.where(x >= 0, 1.0, -1.0)


def sign(tf: Any, x: Any) -> Any:
    return tf.sign(x)


def nothing(tf: Any, x: Any) -> Any:
    return x


def kernel(seed: int, scale: float = 1.0) -> np.ndarray:
    shape = (3, 3, CHANNELS, CHANNELS)
    return (scale * np.random.default_rng(seed).choice((-1, 1), shape)).astype(np.float32)


def constant(tf: Any, weight: np.ndarray, image: Any) -> Any:
    return weight


def computed(tf: Any, weight: np.ndarray, image: Any) -> Any:
    """Weights that depend on the image, so that no converter can work them out beforehand."""
    return where(tf, weight + 0 * tf.reduce_mean(image))


def real_valued(tf: Any, weight: np.ndarray, image: Any) -> Any:
    """As after step 1 of training."""
    return weight * np.linspace(0.5, 1.5, 9, dtype=np.float32).reshape(3, 3, 1, 1)


def network(
    tf: Any,
    image: Any,
    *,
    quantise: Callable[..., Any] = where,
    weights: Callable[..., Any] = constant,
    border: float | None = None,
    stride: int = 1,
    same: bool = False,
    slope_rank: int = 3,
    side: int = SIDE,
) -> Any:
    """A stem and binary units.

    Args:
        tf: the module tensorflow.
        image: (1, side, side, 3).
        quantise: makes bits.
        weights: makes a unit's weights of a constant.
        border: explicit padding of the units; SAME with None.
        stride: of stem and units, whose border of 1 all around is then written out as one would from PyTorch.
        same: whether all units have the same weights.
        slope_rank: 3 makes one PRELU, 1 many operators.
        side: of the image.
    """
    rng = np.random.default_rng(0)
    stem = rng.normal(size=(3, 3, 3, CHANNELS)).astype(np.float32)
    around = [[0, 0], [1, 1], [1, 1], [0, 0]]
    x = (
        tf.nn.conv2d(tf.pad(image, around), stem, stride, "VALID")
        if stride > 1
        else tf.nn.conv2d(image, stem, 1, "SAME")
    )
    for number in range(UNITS):
        threshold, scale, bias, slope = (rng.normal(size=CHANNELS).astype(np.float32) for _ in range(4))
        bits = quantise(tf, x + threshold)
        if border is not None:
            bits = tf.pad(bits, around, constant_values=border)
        weight = weights(tf, kernel(0 if same else number), image)
        z = tf.nn.conv2d(bits, weight, stride, "SAME" if border is None else "VALID") * scale + bias
        z = z + (tf.nn.avg_pool2d(x, 2, 2, "VALID") if stride > 1 else x)
        slope = slope.reshape((1,) * (slope_rank - 1) + (CHANNELS,))
        x = tf.nn.relu(z) + -slope * tf.nn.relu(-z)
    return tf.reduce_mean(x, [1, 2])


FAULTS: dict[str, dict[str, Any]] = {
    "none": {},
    "naive stride-2 export": {"border": 1.0, "stride": 2},
    "tf.sign": {"quantise": sign},
    "explicit zero pad": {"border": 0.0},
    "non-constant weights": {"weights": computed},
    "duplicate weights": {"same": True},
    "explicit zero pad at stride 2": {"border": 0.0, "stride": 2},
    "real-valued weights": {"weights": real_valued},
    "PReLU of rank 1": {"slope_rank": 1},
    "map of 2x2": {"side": 2},
    "no bits at stride 2": {"quantise": nothing, "weights": real_valued, "border": 0.0, "stride": 2},
}


@cache
def lce_file(fault: str) -> bytes:
    """What LCE's converter makes of the network with that fault."""
    load_triton()
    with quietly(), TemporaryDirectory() as folder:
        import tensorflow as tf
        from larq_compute_engine import convert_saved_model

        def run(image: Any) -> Any:
            return network(tf, image, **FAULTS[fault])

        side = FAULTS[fault].get("side", SIDE)
        module = tf.Module()
        module.network = tf.function(run, input_signature=[tf.TensorSpec((1, side, side, 3), tf.float32)])
        tf.saved_model.save(module, folder, signatures=module.network)
        return bytes(convert_saved_model(Path(folder)))
