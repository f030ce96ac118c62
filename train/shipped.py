"""The configurations and recipes that come with edgebnn, found by their names."""

from pathlib import Path
from typing import Literal

HOME = Path(__file__).parent


def find_shipped(given: str, kind: Literal["configs", "recipes"]) -> str:
    """Returns the path of the configuration or recipe that a user means.

    Args:
        given: a path, or the name of a file that comes with edgebnn, without its ending.
        kind: what it is.

    Returns:
        The path of the file of that name if one comes with edgebnn and no file here has that path; else `given`.
    """
    ours = HOME / kind / f"{given}.yaml"
    named = Path(given).name == given and not Path(given).exists() and ours.is_file()
    return str(ours) if named else given


def with_shipped_configs(arguments: list[str]) -> list[str]:
    """Returns the command line with the names after `--config` replaced by paths."""
    found = list(arguments)
    for number, argument in enumerate(found):
        if argument.startswith("--config="):
            found[number] = "--config=" + find_shipped(argument.removeprefix("--config="), "configs")
        elif number and found[number - 1] == "--config":
            found[number] = find_shipped(argument, "configs")
    return found
