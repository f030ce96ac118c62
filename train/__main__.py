"""The command line of training: `python -m train fit | recipe | evaluate`."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from edgebnn.train.parallel.launch import one_voice

from edgebnn.errors import UserError, exit_on_user_error

# OpenMP's threads otherwise wait by spinning, and where another program has a core, each of the hundreds of small
# operations of a step waits for the scheduler: 100 times slower, measured. It is read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

USAGE = """usage: python -m train fit --config FILE.yaml [--key value ...]     train one stage
       python -m train recipe FILE.yaml [--runs FOLDER] [--set NAME=VALUE ...]
                                                                    run stages in order; goes on where it stopped
       python -m train evaluate FILE... --data DATA                measure checkpoints and exported files as they are
       python -m train fit --help                                  all keys"""


def main(arguments: list[str]) -> None:
    """Runs the command in `arguments`; Lightning is imported only where it is needed."""
    command, *rest = arguments or [""]
    if command == "fit":
        with uncollected():
            from edgebnn.train.cli import fit
        fit(rest)
    elif command == "recipe":
        with uncollected():
            from edgebnn.train.pipeline.recipe import main as recipe
        recipe(rest)
    elif command == "evaluate":
        with uncollected():
            from edgebnn.train.evaluate import main as evaluate
        evaluate(rest)
    elif command in ("-h", "--help"):
        print(USAGE)
    else:
        raise UserError(f"unknown command '{command}'; use `python -m train fit`, `recipe` or `evaluate`")


@contextmanager
def uncollected() -> Iterator[None]:
    """For imports: what they make stays, and looking for garbage in it took 1.7 of the start's 10.5 CPU seconds."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


if __name__ == "__main__":
    with exit_on_user_error(), one_voice():
        main(sys.argv[1:])
