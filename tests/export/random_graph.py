"""Random inference graphs whose activations behave like a trained network's."""

import numpy as np

from edgebnn.graph import Head, InferenceGraph, Linear, ModelInfo, Stem, Unit, reference
from edgebnn.graph.shapes import Padding, UnitShape, reactnet_channels, reactnet_units


def random_graph(
    rng: np.random.Generator,
    *,
    width: float,
    resolution: int,
    stem_stride: int = 2,
    padding: Padding = "zero",
    classes: int = 10,
) -> InferenceGraph:
    """A random ReActNet-A, `width` times as wide: see `graph_of`."""
    return graph_of(
        rng,
        reactnet_units(width),
        channels=reactnet_channels(width)[0],
        resolution=resolution,
        stem_stride=stem_stride,
        padding=padding,
        classes=classes,
    )


def graph_of(
    rng: np.random.Generator,
    shapes: tuple[UnitShape, ...],
    *,
    channels: int,
    resolution: int,
    stem_stride: int = 1,
    padding: Padding = "zero",
    classes: int = 10,
) -> InferenceGraph:
    """A random network of the given units behind a stem of `channels` outputs.

    Thresholds lie near the means of what they see, measured on two small random images, so that bits
    are of both signs; scales of both signs make each convolution add about unit variance; slopes are
    below 1 and some are negative.
    """

    def normal(*shape: int, deviation: float = 1.0, mean: float = 0.0) -> np.ndarray:
        return rng.normal(mean, deviation, shape).astype(np.float32)

    stem = Stem(normal(channels, 3, 3, 3, deviation=27**-0.5), normal(channels, deviation=0.3), stem_stride)
    stride = int(np.prod([shape.stride for shape in shapes], dtype=int))
    x = reference.stem(stem, normal(2, 3, 2 * stride * stem_stride, 2 * stride * stem_stride))
    units = []
    for shape in shapes:
        inputs, outputs, taps = shape.in_channels, shape.out_channels, shape.in_channels * shape.kernel**2
        sign = rng.choice((-1, 1), outputs)
        unit = Unit(
            threshold=x.mean(axis=(0, 2, 3)) + normal(inputs, deviation=0.3) * x.std(axis=(0, 2, 3)),
            weight=rng.choice((-1, 1), (outputs, inputs, shape.kernel, shape.kernel)).astype(np.int8),
            scale=(sign * rng.uniform(0.5, 1.5, outputs) / taps**0.5).astype(np.float32),
            bias=normal(outputs, deviation=0.3, mean=-0.2),
            slope=rng.uniform(-0.2, 0.6, outputs).astype(np.float32),
            stride=shape.stride,
            padding=padding,
            shortcut=shape.shortcut,
        )
        units.append(unit)
        x = reference.unit(unit, x)
    features = x.shape[1]
    layer = Linear(normal(classes, features, deviation=features**-0.5), normal(classes))
    info = ModelInfo(name="random", resolution=resolution, labels=tuple(f"class {i}" for i in range(classes)))
    return InferenceGraph(stem, tuple(units), Head(np.zeros(features, np.float32), (layer,)), info)
