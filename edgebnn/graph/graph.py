"""The inference graph: the one description that every exporter and kernel starts from.

    stem    convolution, 3x3 or 7x7, zero padding of half the kernel; BatchNorm folded in; perhaps a max pool
    unit    bit = +1 where x >= threshold, else -1
            acc = convolution of the bits with the weights
            z   = acc * scale + bias + shortcut(x)
            y   = z where z >= 0, else slope * z
    head    global average pool, + offset, linear layers

Arrays are float32 (or float64 for checks); the weights of a binary unit are int8, +1 and -1.
"""

from dataclasses import dataclass

import numpy as np

from edgebnn.errors import check
from edgebnn.graph.info import ModelInfo
from edgebnn.graph.ops import NetworkShape
from edgebnn.graph.shapes import Padding, Shortcut, UnitShape, check_resolution


@dataclass(frozen=True, eq=False)
class Stem:
    """The first convolution. Its output has the side of the image divided by the stride.

    Attributes:
        weight: (outputs, image channels, kernel, kernel), the kernel 3 or 7.
        bias: (outputs,).
        stride: 1 or 2.
        pool: whether a 3x3 max pool of stride 2 follows. Its padding is never the largest value.
    """

    weight: np.ndarray
    bias: np.ndarray
    stride: int
    pool: bool = False

    def __post_init__(self) -> None:
        kernel = self.weight.shape[2:]
        check(kernel in ((3, 3), (7, 7)), f"the stem's kernel is {kernel}; it must be 3x3 or 7x7")
        outputs = len(self.weight)
        check(self.bias.shape == (outputs,), f"the stem's bias has shape {self.bias.shape} for {outputs} outputs")

    @property
    def border(self) -> int:
        """Pixels of padding on each side."""
        return self.weight.shape[2] // 2

    @property
    def reduction(self) -> int:
        """Side of the image over the side of the stem's output."""
        return self.stride * (2 if self.pool else 1)


@dataclass(frozen=True, eq=False)
class Unit:
    """One unit: binarise, convolve, scale, add the shortcut, PReLU.

    The same class describes networks that are only partly binary. Float weights mark real-valued weights. In a
    real-valued twin `binary_input` is false, and the convolution sees `x - threshold` in place of bits.

    Attributes:
        threshold: (inputs,).
        weight: (outputs, inputs, kernel, kernel); int8 of +1 and -1, or floats.
        scale, bias, slope: (outputs,).
        stride: 1 or 2.
        padding: the value around the map that a 3x3 convolution sees: "zero" for 0, "one" for +1.
        shortcut: "identity" adds the input, "pool" its 2x2 average, "repeat" its channels twice over, and "downsample"
            a 1x1 convolution of its 2x2 average, whose bias is part of `bias`. "none" adds nothing.
        binary_input: whether the convolution sees bits.
        downsample: (outputs, inputs), floats: weights of the shortcut's 1x1 convolution; None with other shortcuts.
    """

    threshold: np.ndarray
    weight: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    slope: np.ndarray
    stride: int
    padding: Padding
    shortcut: Shortcut
    binary_input: bool = True
    downsample: np.ndarray | None = None

    def __post_init__(self) -> None:
        outputs, inputs, kernel, width = self.weight.shape
        check(kernel == width and kernel in (1, 3), f"a unit's kernel is {kernel}x{width}; it must be 1x1 or 3x3")
        check(self.threshold.shape == (inputs,), f"{self.threshold.shape} thresholds for {inputs} input channels")
        for name in ("scale", "bias", "slope"):
            shape = getattr(self, name).shape
            check(shape == (outputs,), f"{name} has shape {shape} for {outputs} output channels")
        fitting = {
            "identity": (inputs, 1), "pool": (inputs, 2), "repeat": (2 * inputs, 1), "downsample": (outputs, 2),
            "none": (outputs, self.stride),
        }  # fmt: skip
        check(self.shortcut in fitting, f"Unknown shortcut '{self.shortcut}'. Valid shortcuts are {', '.join(fitting)}")
        check(
            (outputs, self.stride) == fitting[self.shortcut],
            f"shortcut '{self.shortcut}' does not fit {inputs} -> {outputs} channels at stride {self.stride}",
        )
        check(self.stride in (1, 2), f"a unit's stride is {self.stride}; it must be 1 or 2")
        found = None if self.downsample is None else self.downsample.shape
        wanted = (outputs, inputs) if self.shortcut == "downsample" else None
        check(found == wanted, f"downsample has shape {found}, and shortcut '{self.shortcut}' needs {wanted}")
        check(self.padding in ("zero", "one"), f"Unknown padding '{self.padding}'. Valid paddings are zero, one")

    @property
    def binary_weight(self) -> bool:
        return self.weight.dtype == np.int8

    @property
    def binary(self) -> bool:
        """Whether activations and weights are both binary, so that the convolution is XNOR and popcount."""
        return self.binary_input and self.binary_weight

    @property
    def floats(self) -> str:
        """Returns the part that is not binary, for messages: "activations", "weights", both, or ""."""
        names = {"activations": self.binary_input, "weights": self.binary_weight}
        return " and ".join(name for name, binary in names.items() if not binary)

    @property
    def border(self) -> int:
        """Pixels of padding on each side."""
        return self.weight.shape[2] // 2

    @property
    def shape(self) -> UnitShape:
        outputs, inputs, kernel, _ = self.weight.shape
        return UnitShape(inputs, outputs, kernel, self.stride, self.shortcut)


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear layer: weight (outputs, inputs), bias (outputs,), and whether a ReLU follows."""

    weight: np.ndarray
    bias: np.ndarray
    relu: bool = False


@dataclass(frozen=True, eq=False)
class Head:
    """Global average pool, then the addition of `offset`, then the linear layers.

    Attributes:
        offset: (channels,); zero wherever it could be folded into the first layer's bias.
        layers: none for a feature extractor, one for a classifier, two for a projection.
    """

    offset: np.ndarray
    layers: tuple[Linear, ...]


@dataclass(frozen=True, eq=False)
class InferenceGraph:
    """A stem, units, a head, and the facts that a user of the network needs (`info`)."""

    stem: Stem
    units: tuple[Unit, ...]
    head: Head
    info: ModelInfo

    def __post_init__(self) -> None:
        channels = self.stem.weight.shape[0]
        for number, unit in enumerate(self.units):
            check(
                unit.shape.in_channels == channels,
                f"unit {number} takes {unit.shape.in_channels} channels but is given {channels}",
            )
            channels = unit.shape.out_channels
        check(self.head.offset.shape == (channels,), f"the head's offset is {self.head.offset.shape} for {channels}")
        for number, layer in enumerate(self.head.layers):
            check(layer.weight.shape[1] == channels, f"head layer {number} takes {layer.weight.shape[1]} of {channels}")
            channels = layer.weight.shape[0]
        labels = len(self.info.labels)
        check(labels in (0, channels), f"{labels} labels for {channels} outputs; give one a line for each output")
        image_channels = self.stem.weight.shape[1]
        check(
            len(self.info.mean) == len(self.info.std) == image_channels,
            f"mean {self.info.mean} and std {self.info.std} for {image_channels} image channels; give one of each",
        )
        check(all(map(_finite, self._parts())), "the folded network is not finite; the training diverged")
        check_resolution(self.info.resolution, self.stem.reduction, tuple(unit.shape for unit in self.units))

    def _parts(self) -> list[Stem | Unit | Linear | Head]:
        return [self.stem, *self.units, self.head, *self.head.layers]

    @property
    def binary(self) -> bool:
        """Whether activations and weights of every unit are binary."""
        return all(unit.binary for unit in self.units)

    @property
    def outputs(self) -> int:
        """Returns the length of the output vector of one image."""
        return self.head.layers[-1].weight.shape[0] if self.head.layers else len(self.head.offset)

    @property
    def shape(self) -> NetworkShape:
        """Returns the network's shape, for counting operations (`edgebnn.graph.ops`)."""
        return NetworkShape(
            stem_channels=self.stem.weight.shape[0],
            stem_stride=self.stem.stride,
            stem_kernel=self.stem.weight.shape[2],
            stem_pool=self.stem.pool,
            units=tuple(unit.shape for unit in self.units),
            binary=tuple(unit.binary for unit in self.units),
            head=tuple(layer.weight.shape[0] for layer in self.head.layers),
            image_channels=self.stem.weight.shape[1],
        )


def _finite(part: Stem | Unit | Linear | Head) -> bool:
    return all(np.isfinite(array).all() for array in vars(part).values() if isinstance(array, np.ndarray))
