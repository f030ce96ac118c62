"""`python -m train evaluate`: the top-1 and top-5 accuracy of networks with their own classifiers.

    python -m train evaluate FILE... --data DATA [--record RUN]

A FILE is one of our checkpoints, a published file, or an exported `.onnx` or `.tflite` file. Each file says its
resolution and normalisation. Files with the same values get the same tensors.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from edgebnn import records, runtime
from edgebnn.checkpoint.report import load_and_report
from edgebnn.errors import check
from edgebnn.files import sha256
from edgebnn.hints import read_hints
from edgebnn.records import Record
from edgebnn.runtime.formats import onnx_file
from edgebnn.runtime.load import LOADERS
from edgebnn.text import columns, printable

from .data.by_name import open_data
from .data.colours import one_colour_warning
from .data.module import Images
from .engine.failures import one_line_errors
from .evaluation.class_order import match_classes
from .evaluation.classifier import Classifier, classifier_from_checkpoint, classifier_from_export
from .evaluation.tally import Tally, count_answers
from .methods.measured import data_name

PROTOCOL = "own classifier"
"""Name of this evaluation in records. It trains nothing."""


def main(chosen: argparse.Namespace) -> None:
    """Runs the command.

    Args:
        chosen: the options of `train.options.evaluate_parser`.

    Raises:
        UserError: a file or the data cannot be read, or do not fit each other.
    """
    threads = chosen.threads or torch.get_num_threads()
    with one_line_errors():
        classifiers = [_load(path, chosen, threads) for path in chosen.files]
        for classifier in classifiers if chosen.record else ():
            _check_whole(classifier.path)
        tallies = evaluate(classifiers, chosen.data, batch=chosen.batch, workers=chosen.workers)
    found = [_record(tally, data, tallies[0][0], threads, chosen.name) for tally, data in tallies]
    # Printed before the records are written. If the folder cannot be written, the results of a long run are not lost.
    print(json.dumps([asdict(record) for record in found], indent=1) if chosen.json else _table(tallies, found))
    for record in found if chosen.record else ():
        records.write_record(record, chosen.record)


def evaluate(
    classifiers: Sequence[Classifier], source: str, *, batch: int | None = None, workers: int | None = None
) -> list[tuple[Tally, Images]]:
    """Returns the answers of each classifier on the test images, and the data that it saw.

    Args:
        classifiers: the networks. Networks with the same resolution and normalisation share one pass over the images.
        source: as for `open_data`.
        batch: images per loaded batch. None for the largest batch of the networks in the pass.
        workers: number of loading processes. None for the data's default.

    Raises:
        UserError: the data do not exist, or their classes do not fit a network. All networks are checked before the
            first image is loaded.
    """
    passes: dict[tuple[Any, ...], tuple[Images, list[Tally]]] = {}
    tallies = []
    for classifier in classifiers:
        info = classifier.info
        view = (info.resolution, info.mean, info.std)
        if view not in passes:
            options = {"resolution": info.resolution, "mean": info.mean, "std": info.std}
            options |= {} if workers is None else {"workers": workers}
            passes[view] = open_data(source, **options), []
        data, together = passes[view]
        tally = Tally(classifier, match_classes(classifier, data.labels, f"data {source}"))
        if tally.order.warning:
            _tell(f"warning: {tally.order.warning}")
        together.append(tally)
        tallies.append((tally, data))
    for data, together in passes.values():
        if warning := one_colour_warning(data.images("val"), f"data {source}"):
            _tell(f"warning: {warning}")
        data.batch_size = batch or max(tally.classifier.batch for tally in together)
        count_answers(together, data)
        if skipped := data.skipped():
            total, more = data.count("val"), f" and {len(skipped) - 1} more" * (len(skipped) > 1)
            _tell(f"warning: {len(skipped)} of {total} images cannot be read and are left out: {skipped[0]}{more}")
    return tallies


def _load(path: str, chosen: argparse.Namespace, threads: int) -> Classifier:
    batch = chosen.batch
    if Path(path).suffix.lower() in LOADERS:
        classifier = classifier_from_export(
            runtime.load_model(path, threads=threads), batch=batch, hints=read_hints(chosen)
        )
        if assumed := classifier.described_by["assumed"]:
            _tell(f"assumed of {path}: {', '.join(assumed)}")
        return classifier
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return classifier_from_checkpoint(path, load_and_report(path, chosen), device=device, threads=threads, batch=batch)


def _check_whole(path: Path) -> None:
    """Raises `UserError` if the file keeps its weights elsewhere, because its SHA-256 would not depend on them."""
    whole = path.suffix.lower() != ".onnx" or not onnx_file.has_external_weights(path)
    check(whole, f"model {path} has weights in external files; save it as one file to record it")


def _record(tally: Tally, data: Images, first: Tally, threads: int, name: str | None) -> Record:
    classifier = tally.classifier
    right, right_in_5, images = tally.counts.tolist()
    values = {key: round(value, 4) for key, value in tally.values.items()} | {"right": right}
    context = {
        "protocol": PROTOCOL,
        "data": data_name(data),
        "images": images,
        "skipped": len(data.skipped()),
        "resolution": data.resolution,
        "classes_matched_by": tally.order.by,
        "threads": threads,
        "sha256": sha256(classifier.path),
        **classifier.described_by,
    }
    if "top5" in values:
        values["right_in_5"] = right_in_5
    if tally is not first and tally.images == first.images:
        context["same_top1"] = round(tally.agreement(first), 4)
        context["compared_with"] = sha256(first.classifier.path)
    return Record("accuracy", name or classifier.info.name, values, context)


def _table(tallies: Sequence[tuple[Tally, Images]], found: Sequence[Record]) -> str:
    """Returns a table with one row per file, and a line about the data."""
    header = ["file", "format", "runtime", "images", "right", "top-1", "top-5", "images/s", "same top-1"]
    rows = [
        [
            printable(str(tally.classifier.path)),
            tally.classifier.described_by["format"],
            tally.classifier.runner,
            f"{tally.images:,}",
            f"{record.values['right']:,}",
            f"{record.values['top1']:.2f}",
            f"{record.values['top5']:.2f}" if "top5" in record.values else "-",
            f"{tally.images / tally.seconds:,.0f}",
            f"{record.context['same_top1']:.2f}" if "same_top1" in record.context else "-",
        ]
        for (tally, _), record in zip(tallies, found)
    ]
    # The last column compares a file with the first one. One file alone has no such column.
    shown = 9 if len(rows) > 1 else 8
    text = columns([row[:shown] for row in [header, *rows]], "lllrrrrrr"[:shown])
    context = found[0].context
    sides = " and ".join(dict.fromkeys(f"{data.resolution}x{data.resolution}" for _, data in tallies))
    threads = f"{context['threads']} thread{'s' * (context['threads'] > 1)}"
    about = f"{context['data']} at {sides}, {len(tallies[0][1].labels)} classes, {threads}"
    if len(rows) > 1:
        about += "; same top-1: percent of images on which the first file gives the same answer"
    return f"{text}\n{about}"


def _tell(text: str) -> None:
    print(printable(text), file=sys.stderr)
