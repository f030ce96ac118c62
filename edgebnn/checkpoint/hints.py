"""What a published file may leave open: the stage of its training, and the stride of its first convolution.

The file's tensors count first, then what the user says (`Hints`), and then what is usual. What is taken because it is
usual is noted in `Source.assumed`. A hint that contradicts the tensors is an error.
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
    """Returns whether the file holds the weights of `convolution` as one (N, 1) column, or by the column's name.

    Only the published codes' binary convolutions do so, and those of stage 1 are ordinary convolutions.
    """
    return f"{convolution}.weights" in source or source.peek(f"{convolution}.weight").ndim == 2


def find_binary_weights(source: Source, weights: Iterable[Tensor], *, columns: bool, usual: Literal[1, 2]) -> bool:
    """Returns whether the network's weights are binary (stage 2) or real-valued (stage 1).

    Args:
        source: the file, with what the user says about it.
        weights: the weights (outputs, inputs, H, W) of all binary convolutions that the network runs.
        columns: whether the file holds them as columns (`has_columns`).
        usual: the stage to assume where neither the file nor the user says it.

    Raises:
        UserError: the user says stage 1, and the file's weights are binary.
    """
    said = source.hints.stage
    if columns or all(_is_binary(weight) for weight in weights):
        held = "in one column (N, 1), which stage 2 alone does" if columns else "as signs already, so it is of stage 2"
        check(said != 1, f"{source.what} holds its binary weights {held}; leave stage 1 out")
        return True
    if said is None:
        source.assumed.append(f"stage {usual}")
    return (said or usual) == 2


def find_stem_stride(source: Source) -> int:
    """Returns the stride of a first convolution whose shape does not tell it."""
    if source.hints.stem_stride is None:
        source.assumed.append(f"stem stride {STEM_STRIDE}")
    return source.hints.stem_stride or STEM_STRIDE


def check_hints(config: Any, hints: Hints, what: str) -> None:
    """Raises `UserError` where the network that was read is another than the user says.

    Args:
        config: the network's configuration, one of `edgebnn.nn`.
        hints: what the user says.
        what: the file, for messages.
    """
    if hints.stage is not None and not hasattr(config, "binary_weights"):
        raise UserError(f"{what} holds a real-valued {config.arch}, which has no stage; leave the stage out")
    check(
        hints.stem_stride in (None, config.stem_stride),
        f"{what} has a first convolution whose shape says stem stride {config.stem_stride}, not {hints.stem_stride}; "
        "leave the stem stride out",
    )


def _is_binary(weight: Tensor) -> bool:
    """Whether each output channel holds two values, +a and -a: binarised again, such weights stay what they are."""
    sizes = weight.abs().flatten(1)
    return bool((sizes == sizes[:, :1]).all() and (sizes > 0).all())
