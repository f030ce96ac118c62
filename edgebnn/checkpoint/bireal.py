"""Reads published files of Bi-Real-Net-18 and ReActNet-18 (Liu et al.) as `edgebnn.nn.BiRealNet`.

    birealnet-18   four blocks per stage: binary_conv with `weights` as one (N, 1) column, and bn1. The first block of a
                   stage also has downsample.1 (1x1 convolution) and downsample.2 (BatchNorm).
    reactnet-18    also move0 before the sign, and move1, prelu, move2 after the shortcut. `weight` is 4-D.

ReActNet's public code uses the same names in both stages of training. A 4-D `weight` is read as stage 2 (activations
and weights binary), unless the user says stage 1.
"""

from dataclasses import replace

from torch import Tensor

from edgebnn.checkpoint.hints import find_binary_weights, has_columns
from edgebnn.checkpoint.source import Published, Source
from edgebnn.graph.shapes import RESNET_CHANNELS, UnitShape, resnet18_units
from edgebnn.nn import BiRealConfig
from edgebnn.nn.bireal import BiRealArch


def read_bireal(source: Source) -> Published:
    """Reads the network. Raises `UserError` as `edgebnn.checkpoint.layouts.read_published` does."""
    width = source.peek("conv1.weight").shape[0] / RESNET_CHANNELS[0]
    head = (len(source.peek("fc.weight")),) if "fc.weight" in source else ()
    reacts = "layer1.0.move0.bias" in source
    arch: BiRealArch = "reactnet-18" if reacts else "birealnet-18"
    config = BiRealConfig(arch=arch, width=width, stem_stride=source.resnet_stem_stride(), head=head)
    columns = has_columns(source, "layer1.0.binary_conv")

    state = {"stem.weight": source.take("conv1.weight")} | source.norm("stem_norm", "bn1")
    for number, shape in enumerate(resnet18_units(width)):
        state |= _unit(source, f"units.{number}", f"layer{number // 4 + 1}.{number % 4}", shape, reacts=reacts)
    weights = (state[f"units.{number}.conv.weight"] for number in range(len(resnet18_units(width))))
    config = replace(config, binary_weights=find_binary_weights(source, weights, columns=columns, usual=2))
    if head:
        state |= source.linear("head.0", "fc")
    return Published(config, state, config.arch, source.rest(), tuple(source.assumed))


def _unit(source: Source, new: str, old: str, shape: UnitShape, *, reacts: bool) -> dict[str, Tensor]:
    weight = (shape.out_channels, shape.in_channels, shape.kernel, shape.kernel)
    state = {f"{new}.conv.weight": source.convolution(f"{old}.binary_conv", weight)}
    state |= source.norm(f"{new}.norm", f"{old}.bn1")
    if reacts:
        state |= source.reacting(new, *(f"{old}.{name}" for name in ("move0", "move1", "prelu", "move2")))
    if shape.shortcut == "downsample":
        pointwise = f"{old}.downsample.1.weight"
        state[f"{new}.downsample.1.weight"] = source.take(pointwise, (shape.out_channels, shape.in_channels, 1, 1))
        state |= source.norm(f"{new}.downsample.2", f"{old}.downsample.2")
    return state
