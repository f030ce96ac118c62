"""Finds the configurations and recipes that come with edgebnn by their names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

Kind = Literal["configs", "recipes"]

HOME = Path(__file__).parent
OPTION = "--config"


def shipped_names(kind: Kind) -> list[str]:
    """Returns the names of the configurations or of the recipes that come with edgebnn."""
    return sorted(path.stem for path in (HOME / kind).glob("*.yaml"))


def find_shipped(given: str, kind: Kind) -> str:
    """Returns the path of the configuration or recipe that a user means.

    Args:
        given: a path, or the name of a file that comes with edgebnn, without its suffix.
        kind: whether it is a configuration or a recipe.

    Returns:
        `given` if it is a path or an existing file. Otherwise the path of the file with this name.
    """
    named = Path(given).name == given and not Path(given).exists() and given in shipped_names(kind)
    return str(HOME / kind / f"{given}.yaml") if named else given


def with_shipped_configs(arguments: list[str]) -> list[str]:
    """Returns the command line with every name after `--config` replaced by a path."""
    found = list(arguments)
    for number, start, given in _configs(arguments):
        found[number] = start + find_shipped(given, "configs")
    return found


def config_paths(arguments: list[str]) -> list[str]:
    """Returns the values of `--config` on a command line."""
    return [given for _, _, given in _configs(arguments)]


def _configs(arguments: list[str]) -> Iterator[tuple[int, str, str]]:
    """Yields the position of each value of `--config`, the text before it in its argument, and the value."""
    for number, argument in enumerate(arguments):
        if argument.startswith(f"{OPTION}="):
            yield number, f"{OPTION}=", argument.removeprefix(f"{OPTION}=")
        elif number and arguments[number - 1] == OPTION:
            yield number, "", argument
