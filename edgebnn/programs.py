"""The programs of a full installation, as commands of `edgebnn`: train, export, app.

A device installs none of the packages that they need, so a program is imported when it is asked for.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from edgebnn.errors import UserError


class Program(NamedTuple):
    """A program.

    Attributes:
        module: where its `main` lies, which takes the arguments.
        text: what it does, for the help.
    """

    module: str
    text: str


PROGRAMS = {
    "train": Program("edgebnn.train.command", "train networks, run recipes, measure accuracies"),
    "export": Program("edgebnn.export.cli", "write and verify ONNX and TFLite files, measure them on devices"),
    "app": Program("edgebnn.app.command", "open the dashboard of all records"),
}
"""By name. `pip install 'edgebnn[NAME]'` brings the packages that the program NAME needs."""


def run_program(name: str, arguments: Sequence[str]) -> None:
    """Runs the program `name`.

    Args:
        name: a key of `PROGRAMS`.
        arguments: its command line.

    Raises:
        UserError: a package that the program needs is not installed, or the program says what is wrong.
    """
    try:
        import_module(PROGRAMS[name].module).main(list(arguments))
    except ModuleNotFoundError as error:
        missing = (error.name or "a package").split(".")[0]
        if missing == "edgebnn":
            raise  # a fault of ours, whose traceback is needed
        raise UserError(f"`edgebnn {name}` needs {missing}; pip install 'edgebnn[{name}]'") from None
