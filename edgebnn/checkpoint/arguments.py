"""The options by which a command asks what a published file does not say, and the lines in which it reports that file.

A command that takes a checkpoint calls `add_arguments` on its parser and `load_checkpoint` on what it parsed.
"""

import argparse
import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from edgebnn import checkpoint as checkpoints
from edgebnn.checkpoint import NORMALISATION, RESOLUTION, Checkpoint
from edgebnn.checkpoint.source import Hints
from edgebnn.errors import check
from edgebnn.text import printable

OPTIONS = {
    "stage": "--stage",
    "stem stride": "--stem-stride",
    RESOLUTION: "--resolution",
    NORMALISATION: "--mean/--std",
}
"""The option that says otherwise, by how the words of `Checkpoint.assumed` begin."""

NUMBERED = re.compile(r"(.*?)((?<![^.])\d+(?=\.)|$)(.*)")
"""What stands before, in and after the first number of a module's name."""


def add_arguments(
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
    """Returns what the user says by the options of `add_arguments`.

    Raises:
        UserError: one of --mean and --std is given, and the other is not.
    """
    said = {name: tuple(value) for name in ("mean", "std") if (value := getattr(args, name, None)) is not None}
    check(len(said) != 1, "--mean and --std belong together; give both or neither")
    return Hints(
        stage=args.stage, stem_stride=args.stem_stride, resolution=getattr(args, RESOLUTION, None), ema=args.ema, **said
    )


def load_checkpoint(path: str | Path, args: argparse.Namespace) -> Checkpoint:
    """Reads a checkpoint with the user's hints and prints what `report` prints.

    Args:
        path: the file.
        args: parsed by a parser with the options of `add_arguments`.

    Raises:
        UserError: as `edgebnn.checkpoint.load` does.
    """
    found = checkpoints.load(path, hints=read_hints(args))
    if not hasattr(args, RESOLUTION):
        # The command needs to know nothing of the images.
        found = replace(found, assumed=not_assumed(found.assumed, RESOLUTION, NORMALISATION))
    report(path, found, keys=args.keys)
    return found


def report(path: str | Path, found: Checkpoint, *, keys: bool = False) -> None:
    """Prints on stderr how a published file was read and what was assumed of it.

    Args:
        path: the file.
        found: what was read from it.
        keys: whether to list the keys that were not used.
    """
    lines = []
    if found.layout != "edgebnn":
        unused = f", {len(found.ignored)} keys of it unused" if found.ignored else ""
        more = " (--keys lists them)" if found.ignored and not keys else ""
        lines.append(f"read {path} as a file in {found.layout} layout{unused}{more}")
    if keys:
        lines += unused_keys(found.ignored) or [f"every key of {path} is used"]
    if found.assumed:
        lines.append(f"assumed of {path}: {', '.join(found.assumed)}{_say_otherwise(found.assumed)}")
    for line in lines:
        print(printable(line), file=sys.stderr)


def not_assumed(assumed: Iterable[str], *known: str) -> tuple[str, ...]:
    """Returns `assumed` without the words that begin like one of `known`."""
    return tuple(words for words in assumed if not words.startswith(known))


def unused_keys(ignored: dict[str, str]) -> list[str]:
    """Returns lines that name every key under its reason.

    Keys of one module share a line, and so do modules that differ in their first number alone, as in a shell:
    `feature.{1,2}.bn.{weight,bias}` stands for four keys.

    Args:
        ignored: reasons by key (`Checkpoint.ignored`).
    """
    lines = []
    for reason in dict.fromkeys(ignored.values()):
        keys = [key for key, why in ignored.items() if why == reason]
        lines += [f"unused, {reason} ({len(keys)}):", *(f"  {line}" for line in _braced(keys))]
    return lines


def _braced(keys: list[str]) -> list[str]:
    modules: dict[str, list[str]] = {}
    for key in keys:
        module, dot, name = key.rpartition(".")
        modules.setdefault(module + dot, []).append(name)
    alike: dict[tuple[str, str, str], list[str]] = {}
    for module, names in modules.items():
        found = NUMBERED.match(module)
        assert found is not None  # at its end every text matches
        before, number, after = found.groups()
        alike.setdefault((before, after, _alternatives(names)), []).append(number)
    return [f"{before}{_alternatives(numbers)}{after}{names}" for (before, after, names), numbers in alike.items()]


def _alternatives(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{{{','.join(words)}}}"


def _say_otherwise(assumed: Iterable[str]) -> str:
    options = [option for words in assumed for start, option in OPTIONS.items() if words.startswith(start)]
    return f" ({', '.join(options)} {'says' if len(options) == 1 else 'say'} otherwise)" if options else ""
