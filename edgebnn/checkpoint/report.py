"""Reports how a command read a published file: its layout, the assumptions, and the unused keys.

A command calls `edgebnn.hints.add_hint_arguments` on its parser, and `load_and_report` on the parsed arguments.
"""

import argparse
import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from edgebnn import checkpoint as checkpoints
from edgebnn.checkpoint import NORMALISATION, RESOLUTION, Checkpoint
from edgebnn.hints import read_hints
from edgebnn.text import printable

OPTIONS = {
    "stage": "--stage",
    "stem stride": "--stem-stride",
    RESOLUTION: "--resolution",
    NORMALISATION: "--mean/--std",
}
"""The option that overrides an assumption, by the first words of the assumption in `Checkpoint.assumed`."""

NUMBERED = re.compile(r"(.*?)((?<![^.])\d+(?=\.)|$)(.*)")
"""Matches the text before the first number of a module's name, the number, and the text after it."""


def load_and_report(path: str | Path, args: argparse.Namespace) -> Checkpoint:
    """Loads a checkpoint with the user's hints, and prints the report of `report_checkpoint`.

    Args:
        path: the file.
        args: the parsed arguments, with the options of `add_hint_arguments`.

    Raises:
        UserError: `edgebnn.checkpoint.load_checkpoint` refuses the file or the hints.
    """
    found = checkpoints.load_checkpoint(path, hints=read_hints(args))
    if not hasattr(args, RESOLUTION):
        # The command does not use images, so assumptions about them do not matter.
        found = replace(found, assumed=not_assumed(found.assumed, RESOLUTION, NORMALISATION))
    report_checkpoint(path, found, keys=args.keys)
    return found


def report_checkpoint(path: str | Path, found: Checkpoint, *, keys: bool = False) -> None:
    """Prints on stderr how a published file was read and what was assumed.

    Args:
        path: the file.
        found: the checkpoint that was read from it.
        keys: whether to list the unused keys.
    """
    lines = []
    if found.layout != "edgebnn":
        unused = f", {len(found.ignored)} keys unused" if found.ignored else ""
        more = " (--keys lists them)" if found.ignored and not keys else ""
        lines.append(f"read {path} as a file in {found.layout} layout{unused}{more}")
    if keys:
        lines += unused_keys(found.ignored) or [f"every key of {path} is used"]
    if found.assumed:
        lines.append(f"assumed for {path}: {', '.join(found.assumed)}{_override_options(found.assumed)}")
    for line in lines:
        print(printable(line), file=sys.stderr)


def not_assumed(assumed: Iterable[str], *known: str) -> tuple[str, ...]:
    """Returns the assumptions without those that begin with one of the words `known`."""
    return tuple(words for words in assumed if not words.startswith(known))


def unused_keys(ignored: dict[str, str]) -> list[str]:
    """Returns lines that list every unused key under its reason.

    Keys of one module share a line. So do modules that differ only in their first number, in the notation of a shell:
    `feature.{1,2}.bn.{weight,bias}` stands for four keys.

    Args:
        ignored: the reasons by key (`Checkpoint.ignored`).
    """
    lines = []
    for reason in dict.fromkeys(ignored.values()):
        keys = [key for key, why in ignored.items() if why == reason]
        lines += [f"unused, {reason} ({len(keys)}):", *(f"  {line}" for line in _braced(keys))]
    return lines


def _braced(keys: list[str]) -> list[str]:
    """Returns the keys in shell notation, one line per group of modules."""
    modules: dict[str, list[str]] = {}
    for key in keys:
        module, dot, name = key.rpartition(".")
        modules.setdefault(module + dot, []).append(name)
    alike: dict[tuple[str, str, str], list[str]] = {}
    for module, names in modules.items():
        found = NUMBERED.match(module)
        assert found is not None  # the pattern matches every text
        before, number, after = found.groups()
        alike.setdefault((before, after, _alternatives(names)), []).append(number)
    return [f"{before}{_alternatives(numbers)}{after}{names}" for (before, after, names), numbers in alike.items()]


def _alternatives(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{{{','.join(words)}}}"


def _override_options(assumed: Iterable[str]) -> str:
    options = [option for words in assumed for start, option in OPTIONS.items() if words.startswith(start)]
    return f" (to change: {', '.join(options)})" if options else ""
