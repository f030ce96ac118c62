"""Configuration keys that have a new name: the old name is refused by one line, and an old run still resumes.

A key is listed by its place in a configuration, without the levels `init_args`. `model.optimizer.decay` stands for
`model.init_args.optimizer.decay` in a file and for `--model.optimizer.decay` on the command line.
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from edgebnn.errors import UserError

NEW_NAMES = {
    "model.init": "init_checkpoint",
    "model.init_hints": "init_checkpoint_hints",
    "model.initial": "weight_init",
    "model.classes": "classifier_dim",
    "model.balance": "kl_weight",
    "model.hidden": "hidden_dim",
    "model.queue": "queue_size",
    "model.queue_from": "queue_start_epoch",
    "model.epsilon": "sinkhorn_epsilon",
    "model.iterations": "sinkhorn_iterations",
    "model.frozen_steps": "freeze_prototypes_steps",
    "model.head_lr": "head_lr_factor",
    "model.optimizer.decay": "decay_on",
    "model.optimizer.by": "cosine_by",
    "model.optimizer.decay_from": "cosine_from",
    "model.optimizer.final": "cosine_final_factor",
    "model.optimizer.warmup": "warmup_epochs",
    "model.optimizer.warmup_from": "warmup_start_factor",
    "data.train": "train_split",
    "data.val": "val_split",
    "data.config": "config_name",
    "data.image": "image_column",
    "data.label": "label_column",
    "data.classes": "class_names",
    "data.subset.files": "file_list",
}
"""The new last part of each old key."""

CONFIG_OPTION = "config"


def current_key(key: str) -> str:
    """Returns a dotted key under its new name. Keys that were never renamed are returned unchanged."""
    parts = key.split(".")
    place: list[str] = []
    for number, part in enumerate(parts):
        if part == "init_args":
            continue
        place.append(part)
        if new := NEW_NAMES.get(".".join(place)):
            return ".".join([*parts[:number], new, *parts[number + 1 :]])
    return key


def with_current_keys(stored: dict[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Returns the flat configuration of an older run under the keys that its classes have now.

    Args:
        stored: values by dotted key, as the older run wrote them.
        known: the dotted keys of the new run. A key that the new run has too keeps its name, because a class outside
            of edgebnn may use the old name.
    """
    return {key if key in known else current_key(key): value for key, value in stored.items()}


def refuse_old_names(arguments: list[str], accepted: Iterable[str] = ()) -> None:
    """Raises `UserError` if the arguments of `train fit` use a key under its old name.

    Args:
        arguments: options and values, as on the command line. The files after `--config` are read too.
        accepted: the dotted keys of the parsed configuration. A key among them is a key of its class, because a class
            outside of edgebnn may have an argument with an old name.
    """
    own = set(map(_place, accepted))
    for key in _keys_in_arguments(arguments):
        new = current_key(key)
        if new != key and _place(key) not in own:
            raise UserError(f"configuration: the key {key} has a new name; write {new}")


def _place(key: str) -> str:
    return ".".join(part for part in key.split(".") if part != "init_args")


def flatten_config(config: Any, prefix: str = "") -> dict[str, Any]:
    """Returns the leaves of nested dictionaries by their dotted keys."""
    if not isinstance(config, dict) or not config:
        return {prefix: config}
    return {
        name: leaf
        for key, value in config.items()
        for name, leaf in flatten_config(value, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def _keys_in_arguments(arguments: list[str]) -> Iterator[str]:
    for number, argument in enumerate(arguments):
        if not argument.startswith("--"):
            continue
        name, equals, value = argument[2:].partition("=")
        if not equals:
            value = arguments[number + 1] if number + 1 < len(arguments) else ""
        if name == CONFIG_OPTION:
            yield from flatten_config(_read_yaml(Path(value).read_text(encoding="utf-8")))
        else:
            # jsonargparse marks an item that is added to a list with a plus.
            yield from flatten_config(_read_yaml(value), name.removesuffix("+"))


def _read_yaml(text: str) -> Any:
    """Returns what the text means as YAML, or the text itself."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
