"""The command line of training: `python -m train`, or `edgebnn train`."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

from edgebnn.errors import UserError

from .parallel.launch import one_voice

# OpenMP's threads otherwise wait by spinning, and where another program has a core, each of the hundreds of small
# operations of a step waits for the scheduler: 100 times slower, measured. It is read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

USAGE = """usage: {0} fit --config FILE.yaml [--key value ...]        train one stage
       {0} recipe FILE.yaml [--runs FOLDER] [--set NAME=VALUE ...]
                                                             run stages in order; finished stages are skipped
       {0} evaluate FILE... --data DATA                    measure checkpoints and exported files as they are
       {0} fit --help                                      all keys

FILE.yaml may be the name of a configuration or recipe that comes with edgebnn, as in `recipe demo`."""


def main(arguments: list[str]) -> None:
    """Runs the command in `arguments`; Lightning is imported only where it is needed.

    Raises:
        UserError: there is no such command, or the command says what is wrong.
    """
    command, *rest = arguments or [""]
    with one_voice():
        if command == "fit":
            with uncollected():
                from .cli import fit
            fit(rest)
        elif command == "recipe":
            with uncollected():
                from .pipeline.recipe import main as recipe
            recipe(rest)
        elif command == "evaluate":
            with uncollected():
                from .evaluate import main as evaluate
            evaluate(rest)
        elif command in ("-h", "--help"):
            print(USAGE.format("edgebnn train"))
        else:
            raise UserError(f"unknown command '{command}'; use `edgebnn train fit`, `recipe` or `evaluate`")


@contextmanager
def uncollected() -> Iterator[None]:
    """For imports: what they make stays, and looking for garbage in it took 1.7 of the start's 10.5 CPU seconds."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
