"""Where a model comes from: the stages that trained it, and the files that were made of it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from shlex import quote
from typing import Any

import yaml

from edgebnn.files import sha256

from .store import Snapshot
from .text import clean, clean_json, clean_path

CONFIG = "config.yaml"
LARGEST_CONFIG = 1_000_000
LARGEST_FILE = 2_000_000_000
MOST_STAGES = 20
SUFFIXES = (".onnx", ".tflite", ".safetensors")
PARENTS = {"checkpoint": "evaluates", "init": "starts from", "teacher": "learns from", "target": "has the target"}
"""Keys of a method's configuration that name another model's file, and what the stage does with it."""


@dataclass(frozen=True)
class Stage:
    """A run folder that took part in making a model.

    Attributes:
        folder: the run folder.
        name: its path under the runs folder.
        model: the name that the run gave its model.
        method: the class that trained it.
        epochs: as configured.
        parents: what it did with which file.
        config: the whole configuration.
    """

    folder: Path
    name: str
    model: str
    method: str
    epochs: str
    parents: tuple[tuple[str, str], ...]
    config: dict[str, Any]


def stages(found: Snapshot, model: str) -> list[Stage]:
    """Returns the stages behind a model, the first one first."""
    own = [
        folder for folder in found.folders(model) if (stage := read_stage(folder, found.root)) and stage.model == model
    ]
    order: dict[Path, Stage] = {}
    for folder in own:
        _walk(folder, found.root, order)
    return list(order.values())


def _walk(folder: Path, root: Path, order: dict[Path, Stage]) -> None:
    stage = read_stage(folder, root)
    if stage is None or folder in order or len(order) >= MOST_STAGES:
        return
    for _, file in stage.parents:
        parent = inside(folder, file, root)
        if parent is not None and parent != folder:
            _walk(parent, root, order)
    order[folder] = stage


def inside(folder: Path, file: str, root: Path) -> Path | None:
    """Returns the run folder under `root` of a file that a configuration names; None for any other place.

    The path in the configuration was relative to where training ran. A stage of the same recipe lies beside the folder.
    """
    name = Path(file).parent.name
    candidates = [Path(file).parent, folder.parent / name]
    for candidate in candidates:
        if name and candidate.resolve().is_relative_to(root.resolve()) and (candidate / CONFIG).is_file():
            return next((known for known in (folder.parent / name, candidate) if known.is_dir()), candidate)
    return None


def read_stage(folder: Path, root: Path) -> Stage | None:
    """Returns what a run folder's configuration says; None where there is none that can be read."""
    path = folder / CONFIG
    try:
        if path.is_symlink() or path.stat().st_size > LARGEST_CONFIG:
            return None
        config = clean_json(yaml.safe_load(path.read_text(encoding="utf-8")))
        model = config["model"]
        arguments = model.get("init_args") or {}
        method = str(model["class_path"]).rpartition(".")[2]
        epochs = str((config.get("trainer") or {}).get("max_epochs", ""))
        parents = tuple(
            (text, str(arguments[key])) for key, text in PARENTS.items() if isinstance(arguments.get(key), str)
        )
        name = clean_path(folder.relative_to(root))
        return Stage(folder, name, str(config.get("name", "")), method, epochs, parents, config)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, yaml.YAMLError):
        return None


@dataclass(frozen=True)
class Artifact:
    """A model file under the runs folder.

    Attributes:
        path: the file.
        name: its name, to show.
        bytes: its size.
        sha256: its digest.
    """

    path: Path
    name: str
    bytes: int
    sha256: str


def artifacts(found: Snapshot, model: str) -> list[Artifact]:
    """Returns the files under the runs folder whose digest a record of the model names."""
    own = [record for record in found.records if record.model == model]
    named = {str(record.context.get("sha256")) for record in own if _is_digest(record.context.get("sha256"))}
    files = []
    for folder in found.folders(model):
        for path in sorted(folder.iterdir() if folder.is_dir() else []):
            if path.suffix.lower() not in SUFFIXES or path.is_symlink() or not path.is_file():
                continue
            status = path.stat()
            if (
                status.st_size <= LARGEST_FILE
                and (digest := _digest(path, status.st_mtime_ns, status.st_size)) in named
            ):
                files.append(Artifact(path, clean_path(path.name), status.st_size, digest))
    return files


@lru_cache(maxsize=1000)
def _digest(path: Path, modified_ns: int, bytes: int) -> str:
    """Returns the file's digest, computed once for each content."""
    return sha256(path)


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def commands(found: Snapshot, model: str) -> Iterator[tuple[str, str]]:
    """Yields what made the model's records, with the command. Names of files and folders are quoted for a shell."""
    trained = stages(found, model)
    for stage in trained:
        config = clean_path(stage.folder / CONFIG)
        yield f"Stage {stage.name}", f"edgebnn train fit --config {quote(config)}"
    checkpoint = quote(clean_path(trained[-1].folder / "model.safetensors")) if trained else "CHECKPOINT"
    options = {"onnx": "onnx {} {}", "onnx-packed": "onnx {} {} --packed", "lce": "lce {} {}", "tflite": "tflite {} {}"}
    seen = set()
    for record, path in found.found:
        form, file = str(record.context.get("format")), str(record.context.get("artifact"))
        run = quote(clean_path(Path(path).parents[1]))
        if record.model != model or (record.kind, file) in seen:
            continue
        seen.add((record.kind, file))
        if record.kind == "size" and form in options:
            yield f"Export {file}", f"edgebnn export {options[form].format(checkpoint, quote(file))} --record {run}"
        elif record.kind == "parity":
            yield f"Verify {file}", f"edgebnn export verify {checkpoint} {quote(file)} --record {run}"
        elif record.kind == "latency" and "target" not in record.context:
            yield f"Time {file}", f"edgebnn bench {quote(file)} --record {run}"
        elif record.kind == "latency":
            target = clean(str(record.context["target"]))
            yield f"Time {file}", f"edgebnn export device {quote(file)} --target {quote(target)} --record {run}"
        elif record.kind == "kernels" and "layers" in record.context:
            yield f"Layers of {file}", f"python -m edgebnn.export.bench.layers {quote(file)} --record {run}"
