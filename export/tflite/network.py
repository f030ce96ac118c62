"""What LCE files and plain TFLite files share: stem, shortcuts, PReLU and head.

TFLite's SAME padding pads a stride-2 convolution at the bottom and right alone, where the network pads at the top and
left too: the output would be shifted by a pixel. Seen from the opposite corner, SAME pads what the network needs. So
the file rotates the image by 180 degrees once, every kernel is rotated with it, and global pooling forgets the
rotation.
"""

from collections.abc import Callable

import numpy as np

from edgebnn.graph import Head, InferenceGraph, Stem, Unit
from edgebnn.graph.info import METADATA_KEY

from .builder import Tensor, TFLiteBuilder
from .file import STEM_SCOPE, UNIT_SCOPE

Convolution = Callable[[TFLiteBuilder, Unit, Tensor, bool], Tensor]
"""(builder, unit, x, positive_zero) -> acc * scale + bias, (1, H, W, outputs), of the rotated map x (1, H, W, inputs).

`positive_zero` says that no x is -0.0, as behind a PReLU it may be.
"""


def write_network(graph: InferenceGraph, convolution: Convolution) -> bytes:
    """Returns a TFLite file: float32 image (1, resolution, resolution, channels) to outputs (1, outputs).

    The metadata entry "edgebnn" holds `graph.info` as JSON.

    Args:
        graph: the network.
        convolution: adds the convolution of a unit; the rest is the same in every file.
    """
    builder = TFLiteBuilder()
    image = builder.image(graph.info.resolution, graph.stem.weight.shape[1])
    with builder.scope(STEM_SCOPE):
        x = _stem(builder, graph.stem, image)
    for number, unit in enumerate(graph.units):
        with builder.scope(f"{UNIT_SCOPE}{number:02d}"):
            z = convolution(builder, unit, x, number == 0)
            if unit.shortcut != "none":
                z = builder.add(z, _shortcut(builder, unit, x))
            # Bi-Real-Net has no PReLU, which is slope 1.
            x = z if bool((unit.slope == 1).all()) else builder.prelu(z, floats(unit.slope))
    output = _head(builder, graph.head, x)
    return builder.finish(image, output, output_name="logits", metadata={METADATA_KEY: graph.info.to_json()})


def floats(array: np.ndarray) -> np.ndarray:
    """Returns the array as float32 in C order."""
    return np.ascontiguousarray(array, np.float32)


def rotated(weight: np.ndarray) -> np.ndarray:
    """Returns a kernel (outputs, inputs, H, W) rotated by 180 degrees, as (H, W, inputs, outputs)."""
    return floats(weight[:, :, ::-1, ::-1].transpose(2, 3, 1, 0))


def padding_before(stride: int) -> int:
    """Returns how many pixels SAME padding of a 3x3 kernel adds at the top and left of a map of even side."""
    return 1 if stride == 1 else 0


def _stem(builder: TFLiteBuilder, part: Stem, image: Tensor) -> Tensor:
    # A bias of -0.0 could give outputs of -0.0, whose sign bit LCE's ARM kernel would take for -1.
    bias = floats(part.bias) + np.float32(0)
    x = builder.conv_2d(builder.reverse(image), rotated(part.weight), bias, stride=part.stride)
    # On the rotated map SAME is the pool's padding as well, and TFLite pads with nothing that could be the largest.
    return builder.max_pool(x, 3, 2) if part.pool else x


def _shortcut(builder: TFLiteBuilder, part: Unit, x: Tensor) -> Tensor:
    if part.shortcut == "repeat":
        return builder.concatenate(x, x)
    if part.shortcut in ("pool", "downsample"):
        pooled = builder.average_pool(x)
        if part.downsample is None:
            return pooled
        kernel = floats(part.downsample.T)[None, None]
        return builder.conv_2d(pooled, kernel, np.zeros(kernel.shape[3], np.float32), same=False)
    return x


def _head(builder: TFLiteBuilder, part: Head, x: Tensor) -> Tensor:
    features = builder.mean(x)
    if part.offset.any():
        features = builder.add(features, floats(part.offset))
    for layer in part.layers:
        features = builder.linear(features, floats(layer.weight), floats(layer.bias), relu=layer.relu)
    return features
