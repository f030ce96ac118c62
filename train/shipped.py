"""The configurations and recipes that come with edgebnn, found by their names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

Kind = Literal["configs", "recipes"]

HOME = Path(__file__).parent
OPTION = "--config"


def shipped_names(kind: Kind) -> list[str]:
    """Returns the names of the files of that kind that come with edgebnn."""
    return sorted(path.stem for path in (HOME / kind).glob("*.yaml"))


def find_shipped(given: str, kind: Kind) -> str:
    """Returns the path of the configuration or recipe that a user means.

    Args:
        given: a path, or the name of a file that comes with edgebnn, without its ending.
        kind: what it is.

    Returns:
        The path of the file of that name if one comes with edgebnn and no file here has that path; else `given`.
    """
    named = Path(given).name == given and not Path(given).exists() and given in shipped_names(kind)
    return str(HOME / kind / f"{given}.yaml") if named else given


def with_shipped_configs(arguments: list[str]) -> list[str]:
    """Returns the command line with the names after `--config` replaced by paths."""
    found = list(arguments)
    for number, start, given in _configs(arguments):
        found[number] = start + find_shipped(given, "configs")
    return found


def config_paths(arguments: list[str]) -> list[str]:
    """Returns what stands after `--config` on a command line."""
    return [given for _, _, given in _configs(arguments)]


def _configs(arguments: list[str]) -> Iterator[tuple[int, str, str]]:
    """The place, what stands before it in the argument, and the value of every `--config`."""
    for number, argument in enumerate(arguments):
        if argument.startswith(f"{OPTION}="):
            yield number, f"{OPTION}=", argument.removeprefix(f"{OPTION}=")
        elif number and arguments[number - 1] == OPTION:
            yield number, "", argument
