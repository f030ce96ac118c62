"""The programs train, export and app, as commands of `edgebnn`.

A device does not have the packages that they need. So a program is imported only when it is called.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from edgebnn.errors import UserError


class Program(NamedTuple):
    """A program.

    Attributes:
        module: the module that has its `main(arguments)`.
        text: what the program does, for the help.
    """

    module: str
    text: str


PROGRAMS = {
    "train": Program("edgebnn.train.command", "train networks, run recipes, measure accuracies"),
    "export": Program("edgebnn.export.cli", "write and verify ONNX and TFLite files, measure them on devices"),
    "app": Program("edgebnn.app.command", "open the dashboard of all records"),
}
"""The programs by name. `pip install 'edgebnn[NAME]'` installs the packages that the program NAME needs."""


def run_program(name: str, arguments: Sequence[str]) -> None:
    """Runs a program.

    Args:
        name: a key of `PROGRAMS`.
        arguments: its command line.

    Raises:
        UserError: a package that the program needs is not installed, or the program raises it.
    """
    try:
        import_module(PROGRAMS[name].module).main(list(arguments))
    except ModuleNotFoundError as error:
        missing = (error.name or "a package").split(".")[0]
        if missing == "edgebnn":
            raise  # a bug of edgebnn, for which the traceback is needed
        raise UserError(f"`edgebnn {name}` needs {missing}; pip install 'edgebnn[{name}]'") from None
