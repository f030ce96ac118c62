"""Reads published files of ReActNet-A as `edgebnn.nn.ReActNet`.

    reactnet   Liu et al.: `weights` as one (N, 1) column in stage 2, and 4-D `weight` in stage 1.
    s2-bnn     Shen et al.: 4-D `weight`. Every block has three pointwise convolutions with BatchNorms, but it runs
               only the first, or only the other two. `fc` is a classifier after linear evaluation, and a projection of
               two layers after pretraining.
    burn       Kim & Choi: 4-D `weight`. `fc.0` with a ReLU follows the pooling. The classifier is outside the backbone.

The layout does not always show the stage of training:

- S2-BNN and BURN use the same names in both stages. Their files are read as stage 2 (activations and weights binary),
  unless the user says stage 1.
- Some forks of ReActNet have a 4-D `weight` in stage 2 too. If the weights are signs, the file is read as stage 2.
Other
  files are read as stage 1, unless the user says stage 2.

No file shows the stride of the first convolution.
"""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from edgebnn.checkpoint.hints import find_binary_weights, find_stem_stride, has_columns
from edgebnn.checkpoint.source import Published, Source
from edgebnn.graph.shapes import REACTNET_A_CHANNELS
from edgebnn.nn import ReActNetConfig

_BLOCKS = range(1, len(REACTNET_A_CHANNELS))
_DEAD = [
    (f"feature.{block}.{name}", "a pointwise convolution or its BatchNorm that this block never runs")
    for block in _BLOCKS
    for name in ("binary_pw.", "binary_pw_down1.", "binary_pw_down2.", "bn2.", "bn2_1.", "bn2_2.")
]


def read_reactnet(source: Source) -> Published:
    """Reads the network. Raises `UserError` as `edgebnn.checkpoint.layouts.read_published` does."""
    layout, config = _describe(source)
    columns = has_columns(source, "feature.1.binary_3x3")
    state = {"stem.weight": source.take("feature.0.conv1.weight")} | source.norm("stem_norm", "feature.0.bn1")
    for block in _BLOCKS:
        state |= _block(source, block)
    weights = (state[f"units.{number}.conv.weight"] for number in range(2 * len(_BLOCKS)))
    # In stage 1 ReActNet trains ordinary convolutions with a 4-D weight. Its stage 2 has none.
    usual: Literal[1, 2] = 1 if layout == "reactnet" else 2
    config = replace(
        config,
        binary_weights=find_binary_weights(source, weights, columns=columns, usual=usual),
        stem_stride=find_stem_stride(source),
    )
    state |= _head(source)
    return Published(config, state, layout, source.rest(_DEAD), tuple(source.assumed))


def _describe(source: Source) -> tuple[str, ReActNetConfig]:
    width = source.peek("feature.0.conv1.weight").shape[0] / REACTNET_A_CHANNELS[0]
    if "fc.0.weight" in source and "fc.2.weight" not in source:
        classifier = _find_classifier(source)
        widths = [len(source.peek("fc.0.weight"))] + ([len(source.outside[classifier])] if classifier else [])
        return "burn", ReActNetConfig(
            width=width,
            head=tuple(widths),
            head_relu=classifier is None,
            activation_gradient="clipped",
            weight_gradient="scaled-identity",
        )
    if "fc.2.weight" in source:
        head: tuple[int, ...] = (len(source.peek("fc.0.weight")), len(source.peek("fc.2.weight")))
    else:
        head = (len(source.peek("fc.weight")),) if "fc.weight" in source else ()
    if "feature.1.binary_pw.weight" in source and "feature.1.binary_pw_down1.weight" in source:
        return "s2-bnn", ReActNetConfig(width=width, head=head)
    return "reactnet", ReActNetConfig(width=width, head=head)


def _find_classifier(source: Source) -> str | None:
    return next((key for key in source.outside if key.endswith("head.fc_cls.weight")), None)


def _block(source: Source, block: int) -> dict[str, Tensor]:
    old, first, second = f"feature.{block}", 2 * block - 2, 2 * block - 1
    inputs = source.peek(f"{old}.move11.bias").numel()
    outputs = source.peek(f"{old}.move22.bias").numel()
    expands = inputs != outputs
    pointwise = [f"{old}.binary_pw_down1", f"{old}.binary_pw_down2"] if expands else [f"{old}.binary_pw"]
    norms = [f"{old}.bn2_1", f"{old}.bn2_2"] if expands else [f"{old}.bn2"]
    moves = [[f"{old}.{name}" for name in ("move11", "move12", "prelu1", "move13")]]
    moves += [[f"{old}.{name}" for name in ("move21", "move22", "prelu2", "move23")]]
    return (
        source.reacting(f"units.{first}", *moves[0])
        | {f"units.{first}.conv.weight": source.convolution(f"{old}.binary_3x3", (inputs, inputs, 3, 3))}
        | source.norm(f"units.{first}.norm", f"{old}.bn1")
        | source.reacting(f"units.{second}", *moves[1])
        | {
            f"units.{second}.conv.weight": torch.cat(
                [source.convolution(name, (outputs // len(pointwise), inputs, 1, 1)) for name in pointwise]
            )
        }
        | source.norm(f"units.{second}.norm", *norms)
    )


def _head(source: Source) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for old, new in (("fc", "head.0"), ("fc.0", "head.0"), ("fc.2", "head.2")):
        if f"{old}.weight" in source:
            state |= source.linear(new, old)
    classifier = _find_classifier(source)
    if classifier and "head.2.weight" not in state and "head.0.weight" in state:
        for part in ("weight", "bias"):
            state[f"head.2.{part}"] = source.outside.pop(classifier[: -len("weight")] + part).float()
    return state
