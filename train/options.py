"""The options of `recipe` and `evaluate`. This module does not import torch, so help and errors appear at once."""

import argparse
from pathlib import Path

from edgebnn.cli import positive
from edgebnn.errors import check
from edgebnn.hints import add_hint_arguments

DATA = (
    "folder with val/CLASS/FILE or CLASS/FILE, folder of Parquet files, hf:NAME (Hugging Face), "
    "cifar10[:ROOT], cifar100[:ROOT], mnist5k, digits"
)


def evaluate_parser() -> argparse.ArgumentParser:
    """Returns the parser of `edgebnn train evaluate`."""
    parser = argparse.ArgumentParser(
        prog="edgebnn train evaluate",
        description="Measures the accuracy of networks with their own classifiers, and of the files made from them.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="checkpoint, ours or published; .onnx; .tflite")
    parser.add_argument("--data", required=True, help=DATA)
    parser.add_argument("--threads", type=positive, help="threads that a network may use (default: torch's)")
    text = "images per batch (default: a number that suits the resolution; a file may fix it)"
    parser.add_argument("--batch", type=positive, help=text)
    parser.add_argument("--workers", type=int, help="processes that load images (default: up to 8 for folders)")
    parser.add_argument("--name", help="the model's name in records (default: what the file says)")
    parser.add_argument("--record", metavar="RUN", type=Path, help="folder to write accuracy records to")
    parser.add_argument("--json", action="store_true", help="print the records as JSON")
    add_hint_arguments(parser)
    return parser


def recipe_parser() -> argparse.ArgumentParser:
    """Returns the parser of `edgebnn train recipe`."""
    parser = argparse.ArgumentParser(prog="edgebnn train recipe", description="Runs the stages of a recipe in order.")
    parser.add_argument("recipe", help="a recipe file, or the name of one that comes with edgebnn")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders lie (default: runs)")
    text = "resume stages whose learning rate, batch, precision, accumulation or number of epochs changed"
    parser.add_argument("--resume_with_changes", action="store_true", help=text)
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="values of the recipe's ${NAME}s")
    return parser


def read_values(given: list[str]) -> dict[str, str]:
    """Returns the values of `--set` by name. Raises `UserError` for a name without a value."""
    for each in given:
        check("=" in each, f"--set {each} lacks a value; write NAME=VALUE")
    return dict(each.split("=", 1) for each in given)
