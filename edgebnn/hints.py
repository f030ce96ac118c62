"""What a user says about a published file because the file does not say it, and the options to say it by.

Without torch, so that a command's help and its mistakes need not wait for torch.
"""

import argparse
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from edgebnn.errors import check


@dataclass(frozen=True)
class Hints:
    """What a user says about a published file because the file does not say it. None: the user did not say.

    Attributes:
        stage: 1 where the weights are real-valued, 2 where they are binary.
        stem_stride: stride of the first convolution, 1 or 2.
        resolution: side of the input images in pixels.
        mean: normalisation, per channel, of images scaled to [0, 1].
        std: as `mean`.
        ema: whether to read the averaged weights (EMA) that the file holds beside the trained ones.
    """

    stage: Literal[1, 2] | None = None
    stem_stride: Literal[1, 2] | None = None
    resolution: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    ema: bool = False

    def check(self) -> None:
        """Raises `UserError` if a value makes no sense."""
        check(self.stage in (None, 1, 2), f"stage {self.stage} is no stage; give 1 (real weights) or 2 (binary)")
        check(self.stem_stride in (None, 1, 2), f"stem stride {self.stem_stride} is none a network has; give 1 or 2")
        check((self.mean is None) == (self.std is None), "a normalisation is a mean and a std; give both or neither")
        values = (*(self.mean or ()), *(self.std or ()))
        sound = len(values) in (0, 6) and all(map(isfinite, values)) and all(value > 0 for value in self.std or ())
        check(sound, f"mean {self.mean} and std {self.std} normalise no image; give three numbers each, std above 0")


NO_HINTS = Hints()


def add_hint_arguments(
    command: argparse.ArgumentParser,
    *,
    images: bool = True,
    otherwise: str | None = None,
) -> None:
    """Adds the options to a command's parser.

    Args:
        command: the parser.
        images: whether the command needs to know the images' resolution and normalisation.
        otherwise: whose resolution and normalisation are taken where neither the file nor the user says them, in the
            help; None: 224 pixels and ImageNet's.
    """
    if images:
        text = f"side of the images in pixels (default: the checkpoint's, or {otherwise or '224'})"
        command.add_argument("--resolution", type=int, help=text)
    group = command.add_argument_group("what a published CHECKPOINT does not say (edgebnn's own says it)")
    text = "1: real weights, 2: binary weights (default: as the weights tell, or as is usual for the layout)"
    group.add_argument("--stage", type=int, choices=[1, 2], help=text)
    text = "stride of the first convolution (default: as its shape tells, or 2)"
    group.add_argument("--stem-stride", type=int, choices=[1, 2], help=text)
    for name in ("mean", "std") if images else ():
        usual = otherwise or "ImageNet's"
        text = f"{name} that normalises images scaled to [0, 1] (default: {usual})"
        group.add_argument(f"--{name}", nargs=3, type=float, metavar=("R", "G", "B"), help=text)
    text = "take the averaged weights (EMA) that the file holds beside the trained ones"
    group.add_argument("--ema", action="store_true", help=text)
    text = "list every key of CHECKPOINT that is not used, with the reason"
    command.add_argument("--keys", action="store_true", help=text)


def read_hints(args: argparse.Namespace) -> Hints:
    """Returns what the user says by the options of `add_hint_arguments`.

    Raises:
        UserError: one of --mean and --std is given, and the other is not.
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
