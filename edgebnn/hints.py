"""The user's hints about a published file, and the options for them.

This module imports no torch, so that help and error messages of a command appear at once.
"""

import argparse
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from edgebnn.errors import check


@dataclass(frozen=True)
class Hints:
    """The user's hints about a published file that does not state everything. None means that there is no hint.

    Attributes:
        stage: 1 if the weights are real-valued, 2 if they are binary.
        stem_stride: stride of the first convolution, 1 or 2.
        resolution: side of the input images in pixels.
        mean, std: normalisation per channel, of images scaled to [0, 1].
        ema: whether to read the averaged weights (EMA) of the file, and not the trained weights.
    """

    stage: Literal[1, 2] | None = None
    stem_stride: Literal[1, 2] | None = None
    resolution: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    ema: bool = False

    def check(self) -> None:
        """Raises `UserError` if a value is invalid."""
        check(
            self.stage in (None, 1, 2),
            f"stage {self.stage} does not exist; give 1 (real-valued weights) or 2 (binary weights)",
        )
        check(self.stem_stride in (None, 1, 2), f"stem stride {self.stem_stride} does not exist; give 1 or 2")
        check((self.mean is None) == (self.std is None), "a normalisation needs a mean and a std; give both or neither")
        values = (*(self.mean or ()), *(self.std or ()))
        sound = len(values) in (0, 6) and all(map(isfinite, values)) and all(value > 0 for value in self.std or ())
        check(sound, f"mean {self.mean} and std {self.std} are no normalisation; give three numbers each, std above 0")


NO_HINTS = Hints()


def add_hint_arguments(
    command: argparse.ArgumentParser,
    *,
    images: bool = True,
    otherwise: str | None = None,
) -> None:
    """Adds the options for hints to a command's parser.

    Args:
        command: the parser.
        images: whether the command needs the images' resolution and normalisation.
        otherwise: the source of resolution and normalisation if neither the file nor the user states them, as words
            for the help. None stands for 224 pixels and ImageNet's normalisation.
    """
    if images:
        text = f"side of the images in pixels (default: the checkpoint's, or {otherwise or '224'})"
        command.add_argument("--resolution", type=int, help=text)
    group = command.add_argument_group("hints about a published CHECKPOINT (not needed for a checkpoint of edgebnn)")
    text = "1: real-valued weights, 2: binary weights (default: from the weights, or the usual stage of the layout)"
    group.add_argument("--stage", type=int, choices=[1, 2], help=text)
    text = "stride of the first convolution (default: from its shape, or 2)"
    group.add_argument("--stem-stride", type=int, choices=[1, 2], help=text)
    for name in ("mean", "std") if images else ():
        usual = otherwise or "ImageNet's"
        text = f"{name} that normalises images scaled to [0, 1] (default: {usual})"
        group.add_argument(f"--{name}", nargs=3, type=float, metavar=("R", "G", "B"), help=text)
    text = "read the averaged weights (EMA) of the file, and not the trained weights"
    group.add_argument("--ema", action="store_true", help=text)
    text = "list every unused key of CHECKPOINT, with the reason"
    command.add_argument("--keys", action="store_true", help=text)


def read_hints(args: argparse.Namespace) -> Hints:
    """Returns the hints from the options of `add_hint_arguments`.

    Raises:
        UserError: only one of --mean and --std is given.
    """
    said = {name: tuple(value) for name in ("mean", "std") if (value := getattr(args, name, None)) is not None}
    check(len(said) != 1, "--mean and --std belong together; give both or neither")
    return Hints(
        stage=args.stage,
        stem_stride=args.stem_stride,
        resolution=getattr(args, "resolution", None),
        ema=args.ema,
        **said,
    )
