"""The lines in which a command reports a published file: how it was read, what was assumed, which keys are unused.

A command calls `edgebnn.hints.add_hint_arguments` on its parser and `load_checkpoint` on what it parsed.
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
"""The option that says otherwise, by how the words of `Checkpoint.assumed` begin."""

NUMBERED = re.compile(r"(.*?)((?<![^.])\d+(?=\.)|$)(.*)")
"""What stands before, in and after the first number of a module's name."""


def load_checkpoint(path: str | Path, args: argparse.Namespace) -> Checkpoint:
    """Reads a checkpoint with the user's hints and prints what `report` prints.

    Args:
        path: the file.
        args: parsed by a parser with the options of `add_hint_arguments`.

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
