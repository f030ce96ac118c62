"""The command `edgebnn train`, or `python -m train` in a clone."""

import gc
import os
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

from edgebnn.errors import UserError
from edgebnn.files import existing_file

from .options import evaluate_parser, read_values, recipe_parser
from .parallel.launch import print_error_once
from .shipped import config_paths, find_shipped, shipped_names, with_shipped_configs

# By default, OpenMP's threads spin while they wait. If another program uses a core, each of the hundreds of small
# operations of a step then waits for the scheduler. This was 100 times slower when measured. OpenMP reads the variable
# when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

USAGE = """usage: edgebnn train fit --config FILE.yaml [--key value ...]        train one stage
       edgebnn train recipe FILE.yaml [--runs FOLDER] [--set NAME=VALUE ...]
                                                             run stages in order; finished stages are skipped
       edgebnn train evaluate FILE... --data DATA            measure checkpoints and exported files

FILE.yaml may be the name of a file that comes with edgebnn, as in `edgebnn train recipe demo`.
`edgebnn train COMMAND --help` lists the options of a command."""

FIT_USAGE = """usage: edgebnn train fit --config FILE.yaml [--key value ...]

Runs one training or one evaluation, and writes everything into its run folder. Every key of the configuration can also
be an option: --trainer.max_epochs 10, --data.init_args.root FOLDER.

  --config FILE          a configuration, or the name of one that comes with edgebnn:
{configs}
  --run FOLDER           folder of everything that the run writes
  --name NAME            the model's name in records and files
  --ckpt_path LAST       the last.ckpt of a stopped run, to resume from
  --resume_with_changes true
                         resume with another learning rate, batch, precision, accumulation or number of epochs
  --seed_everything N    seed of everything that is random
  --checkpoint_minutes N, --checkpoint_steps N
                         minutes or optimizer steps between two writes of last.ckpt
  --probe_epochs N       epochs between two kNN probes of a pretraining (val/knn_top1). 0: none
  --progress_seconds N   seconds between two progress lines where the output is no terminal

The keys of each part, with their defaults and meanings:
  edgebnn train fit --model.help METHOD        such as Distill, BURN, MoCoV2, LinearEvaluation
  edgebnn train fit --data.help DATA           such as ImageFolder, HuggingFace, Cifar10, Mnist5k
  edgebnn train fit --help=all                 all other keys, with the trainer's
  edgebnn train fit --config FILE.yaml --print_config      the whole configuration"""


def main(arguments: list[str]) -> None:
    """Runs a command of `edgebnn train`.

    The options are read first, because torch takes seconds to import.

    Args:
        arguments: the command and its options.

    Raises:
        UserError: there is no such command, or the command fails.
    """
    command, *rest = arguments or [""]
    with print_error_once():
        if command == "fit":
            _fit(rest)
        elif command == "recipe":
            _recipe(rest)
        elif command == "evaluate":
            _evaluate(rest)
        elif command in ("-h", "--help"):
            print(USAGE)
        else:
            raise UserError(f"unknown command '{command}'; use `edgebnn train fit`, `recipe` or `evaluate`")


def _fit(arguments: list[str]) -> None:
    if not {"-h", "--help"}.isdisjoint(arguments):
        names = ", ".join(shipped_names("configs"))
        indent = " " * 25
        listed = textwrap.fill(names, 110, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
        return print(FIT_USAGE.format(configs=listed))
    given = with_shipped_configs(["--help" if argument == "--help=all" else argument for argument in arguments])
    for path in config_paths(given):
        existing_file(path, "configuration")
    with uncollected():
        from .cli import fit
    fit(given)


def _recipe(arguments: list[str]) -> None:
    chosen = recipe_parser().parse_args(arguments)
    values = read_values(chosen.set)
    path = existing_file(find_shipped(chosen.recipe, "recipes"), "recipe")
    with uncollected():
        from .pipeline.recipe import run_recipe
    run_recipe(path, chosen.runs, values, with_changes=chosen.resume_with_changes)


def _evaluate(arguments: list[str]) -> None:
    chosen = evaluate_parser().parse_args(arguments)
    for path in chosen.files:
        existing_file(path, "model")
    with uncollected():
        from .evaluate import main as evaluate
    evaluate(chosen)


@contextmanager
def uncollected() -> Iterator[None]:
    """Turns garbage collection off in its block.

    Imported modules stay in memory. Searching them for garbage took 1.7 of the 10.5 CPU seconds of the start.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
