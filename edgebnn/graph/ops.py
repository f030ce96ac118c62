"""Counts operations, parameters and bytes of a network as the binary-network papers do.

    FLOPs  multiply-accumulates of the real-valued convolutions and linear layers
    BOPs   multiply-accumulates of the binary convolutions
    OPs    FLOPs + BOPs / 64

Only convolutions and linear layers count (Bi-Real-Net, Liu et al., ECCV 2018, section 4.3; ReActNet's published table
follows it). Thresholds, shortcuts, PReLUs and pooling do not count, but they take time. Compare latency, not OPs, to
choose a network for a device.
"""

from dataclasses import dataclass

from edgebnn.graph.shapes import UnitShape, check_resolution, reactnet_channels, reactnet_units, resnet18_units

BINARY_PER_FLOP = 64


@dataclass(frozen=True)
class LayerOps:
    """Figures of one layer for one image.

    Attributes:
        name: "stem", "unit_00"..., "linear_0"....
        kind: a description of the layer, for people.
        output: its output's shape, channels first.
        flops, bops: multiply-accumulates, real-valued and binary.
        binary_weights: weights kept as one bit each.
        floats: parameters kept as float32, BatchNorms and shifts folded.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    flops: int
    bops: int
    binary_weights: int
    floats: int

    @property
    def bytes(self) -> int:
        """Returns the size with eight binary weights per byte and four bytes per float."""
        return (self.binary_weights + 7) // 8 + 4 * self.floats

    @property
    def parameters(self) -> int:
        return self.binary_weights + self.floats

    @property
    def ops(self) -> float:
        return self.flops + self.bops / BINARY_PER_FLOP


@dataclass(frozen=True)
class NetworkShape:
    """The shape of a network, without weights: all that counting needs.

    Attributes:
        stem_channels: outputs of the stem.
        stem_stride: stride of the stem.
        units: shapes of the units.
        binary: for each unit, whether its activations and weights are both binary.
        head: widths of the head's linear layers, one after the other.
        image_channels: channels of the image.
        stem_kernel: height and width of the stem's convolution.
        stem_pool: whether a max pool of stride 2 follows it.
    """

    stem_channels: int
    stem_stride: int
    units: tuple[UnitShape, ...]
    binary: tuple[bool, ...]
    head: tuple[int, ...]
    image_channels: int = 3
    stem_kernel: int = 3
    stem_pool: bool = False


def reactnet_a(*, width: float = 1.0, stem_stride: int = 2, classes: int = 1000, binary: bool = True) -> NetworkShape:
    """Returns the shape of ReActNet-A, or of its real-valued twin if `binary` is false."""
    units = reactnet_units(width)
    return NetworkShape(reactnet_channels(width)[0], stem_stride, units, (binary,) * len(units), (classes,))


def resnet18(*, width: float = 1.0, stem_stride: int = 2, classes: int = 1000) -> NetworkShape:
    """Returns the shape of Bi-Real-Net-18 and ReActNet-18.

    A stem of stride 1 suits small images. It is a 3x3 convolution without a pool; other stems are 7x7 with a pool.
    """
    units = resnet18_units(width)
    small = stem_stride == 1
    return NetworkShape(
        units[0].in_channels,
        stem_stride,
        units,
        (True,) * len(units),
        (classes,),
        stem_kernel=3 if small else 7,
        stem_pool=not small,
    )


def count(network: NetworkShape, resolution: int) -> list[LayerOps]:
    """Returns the figures of every layer for an image of `resolution` x `resolution` pixels.

    Raises:
        UserError: the network cannot take that resolution.
    """
    pool = 2 if network.stem_pool else 1
    check_resolution(resolution, network.stem_stride * pool, network.units)
    side = resolution // network.stem_stride
    kernel = network.stem_kernel
    weights = network.stem_channels * network.image_channels * kernel**2
    work = weights * side * side
    side //= pool
    shape = (network.stem_channels, side, side)
    stem_kind = f"{kernel}x{kernel} convolution, stride {network.stem_stride}{', max pool' if pool == 2 else ''}"
    layers = [LayerOps("stem", stem_kind, shape, work, 0, 0, weights + network.stem_channels)]
    for number, (unit, binary) in enumerate(zip(network.units, network.binary)):
        side //= unit.stride
        weights = unit.out_channels * unit.in_channels * unit.kernel**2
        work = weights * side * side
        # A folded unit has one threshold per input, and one scale, bias and slope per output.
        floats = unit.in_channels + 3 * unit.out_channels
        down = unit.in_channels * unit.out_channels if unit.shortcut == "downsample" else 0
        layers.append(
            LayerOps(
                name=f"unit_{number:02d}",
                kind=f"{'binary' if binary else 'float'} {unit.kernel}x{unit.kernel}"
                f"{', stride 2' if unit.stride == 2 else ''}, {unit.shortcut} shortcut",
                output=(unit.out_channels, side, side),
                flops=down * side * side + (0 if binary else work),
                bops=work if binary else 0,
                binary_weights=weights if binary else 0,
                floats=floats + down + (0 if binary else weights),
            )
        )
    inputs = network.units[-1].out_channels if network.units else network.stem_channels
    for number, outputs in enumerate(network.head):
        work = inputs * outputs
        layers.append(LayerOps(f"linear_{number}", "linear layer", (outputs,), work, 0, 0, work + outputs))
        inputs = outputs
    return layers


def totals(layers: list[LayerOps]) -> dict[str, int | float]:
    """Returns the sums over the layers: flops, bops, ops, parameters, binary_weights, bytes."""
    names = ("flops", "bops", "ops", "parameters", "binary_weights", "bytes")
    sums = {name: sum(getattr(layer, name) for layer in layers) for name in names}
    return {name: int(value) if value == int(value) else value for name, value in sums.items()}
