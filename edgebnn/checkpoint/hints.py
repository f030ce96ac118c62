"""Finds what a published file may not state: the stage of its training, and the stride of its first convolution.

The file's tensors have priority, then the user's hints (`Hints`), and then the usual value. A usual value is noted in
`Source.assumed`. A hint that contradicts the tensors is an error.
"""

from collections.abc import Iterable
from typing import Any, Literal

from torch import Tensor

from edgebnn.checkpoint.source import Source
from edgebnn.errors import UserError, check
from edgebnn.hints import Hints

STEM_STRIDE = 2
"""The stride of the first convolution in every published network."""


def has_columns(source: Source, convolution: str) -> bool:
    """Returns whether the file stores the weights of a convolution as one (N, 1) column, or under the column's name.

    Only binary convolutions of the published code do so. Stage 1 has ordinary convolutions.
    """
    return f"{convolution}.weights" in source or source.peek(f"{convolution}.weight").ndim == 2


def find_binary_weights(source: Source, weights: Iterable[Tensor], *, columns: bool, usual: Literal[1, 2]) -> bool:
    """Returns whether the network's weights are binary (stage 2) or real-valued (stage 1).

    Args:
        source: the file, with the user's hints.
        weights: the weights (outputs, inputs, H, W) of all binary convolutions that the network runs.
        columns: whether the file stores them as columns (`has_columns`).
        usual: the stage to assume if neither the file nor the user says it.

    Raises:
        UserError: the user says stage 1, but the file's weights are binary.
    """
    said = source.hints.stage
    if columns or all(_is_binary(weight) for weight in weights):
        form = "in one column (N, 1), which only stage 2 does" if columns else "as signs, so it is of stage 2"
        check(said != 1, f"{source.what} stores its binary weights {form}; leave stage 1 out")
        return True
    if said is None:
        source.assumed.append(f"stage {usual}")
    return (said or usual) == 2


def find_stem_stride(source: Source) -> int:
    """Returns the stride of a first convolution whose shape does not show it."""
    if source.hints.stem_stride is None:
        source.assumed.append(f"stem stride {STEM_STRIDE}")
    return source.hints.stem_stride or STEM_STRIDE


def check_hints(config: Any, hints: Hints, what: str) -> None:
    """Checks that the network agrees with the user's hints.

    Args:
        config: the network's configuration, of `edgebnn.nn`.
        hints: the user's hints.
        what: the name of the file in messages.

    Raises:
        UserError: a hint contradicts the network.
    """
    if hints.stage is not None and not hasattr(config, "binary_weights"):
        raise UserError(f"{what} contains a real-valued {config.arch}, which has no stage; leave the stage out")
    check(
        hints.stem_stride in (None, config.stem_stride),
        f"{what} has a first convolution whose shape means stem stride {config.stem_stride}, not {hints.stem_stride}; "
        "leave the stem stride out",
    )


def _is_binary(weight: Tensor) -> bool:
    """Returns whether each output channel has only the values +a and -a.

    Binarising such weights does not change them.
    """
    sizes = weight.abs().flatten(1)
    return bool((sizes == sizes[:, :1]).all() and (sizes > 0).all())
