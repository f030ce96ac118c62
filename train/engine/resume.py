"""Checks that a resumed run has the same configuration as the run that stopped."""

import os
from pathlib import Path
from typing import Any

import torch
import yaml

from edgebnn.errors import UserError
from edgebnn.files import existing_file, sha256
from edgebnn.progress import LOG_SECONDS

from .callbacks import LAST
from .changes import FLAG, Start, is_changeable
from .renamed_keys import flatten_config, with_current_keys

DECIDING_KEYS = (
    "seed_everything",
    "model.",
    "data.",
    *(
        f"trainer.{key}"
        for key in (
            "max_epochs",
            "limit_train_batches",
            "overfit_batches",
            "accumulate_grad_batches",
            "gradient_clip_val",
            "gradient_clip_algorithm",
            "precision",
            "sync_batchnorm",
        )
    ),
)
"""Keys, or starts of keys, that decide what a run learns."""

NOT_DECIDING_KEYS = tuple(f"data.init_args.{key}" for key in ("workers", "root", "path", "download"))
"""Keys among them that do not change what a run learns."""

ADDED_KEYS = {
    "data.init_args.drop_last": True,
    "model.init_args.weight_init": "kaiming",
    "progress_seconds": LOG_SECONDS,
    "probe_epochs": None,
}
"""Keys that older versions did not have, and the values that these versions used."""


OWN_MODULES = ("train.", "edgebnn.train.")
"""Starts of the names of edgebnn's own modules, in older versions and now."""


def check_start(
    run: str, start: str | None, config: dict[str, Any], max_steps: int, *, with_changes: bool = False
) -> Start:
    """Checks that the run folder is unused, or that `start` is a checkpoint of the same run.

    Args:
        run: the run folder.
        start: the value of `ckpt_path`.
        config: the whole configuration, as nested dictionaries.
        max_steps: the value of `trainer.max_steps`. -1 for no limit.
        with_changes: the value of `resume_with_changes`. True accepts other values of `CHANGEABLE_KEYS`.

    Returns:
        What the run has to know of the checkpoint.

    Raises:
        UserError: `start` is None and the folder holds a run. Or `start` is damaged, belongs to another
            configuration, or has already taken `max_steps` steps.
    """
    if start is None:
        last = Path(run) / LAST
        if last.exists():
            raise UserError(
                f"{run} holds a run already; give --ckpt_path {last} to resume it, or another folder as --run"
            )
        return Start()
    existing_file(start, "ckpt_path")
    damaged = UserError(f"ckpt_path {start} is damaged or no last.ckpt of a run; delete it and start the run anew")
    try:
        found = torch.load(start, map_location="meta", weights_only=True)
        was = flatten_config(yaml.safe_load(found["config"])) if "config" in found else {}
        complete = found.keys() >= {"state_dict", "loops", "optimizer_states", "global_step"}
    except Exception:  # torch.load raises many kinds of errors on damaged files
        raise damaged from None
    if not complete:
        raise damaged
    now = flatten_config(config)
    changed = {key: shown for key, shown in config_differences(was, now).items() if decides_result(key)}
    _compare_inputs(changed, found.get("inputs", {}), now)
    if was and changed:
        _check_changes(f"ckpt_path {start}", changed, with_changes=with_changes)
    if 0 <= max_steps <= found["global_step"]:
        raise UserError(
            f"ckpt_path {start} has taken {found['global_step']} steps, trainer.max_steps ends at {max_steps}; raise it"
        )
    history = list(found.get("changes", ()))
    if not (was and changed):
        return Start(history)
    was = with_current_keys(was, known=now.keys())
    values = {key: [was.get(key), now.get(key)] for key in changed}
    epoch = found["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    history.append({"epoch": epoch, "step": found["global_step"], "changes": values})
    old_batch, old_accumulate = was.get("data.init_args.batch_size"), was.get("trainer.accumulate_grad_batches")
    return Start(history, tuple(changed), found["config"], old_batch or 1, old_accumulate or 1)


def input_hashes(config: dict[str, Any]) -> dict[str, str]:
    """Returns the SHA-256 of each file that a flat configuration names under `model`, such as the teacher, by key."""
    named = {key: value for key, value in config.items() if key.startswith("model.") and isinstance(value, str)}
    return {key: sha256(value) for key, value in named.items() if os.path.isfile(value)}


def _compare_inputs(changed: dict[str, str], was: dict[str, str], now: dict[str, Any]) -> None:
    """Compares files by content in place of their paths, and corrects the changed keys.

    Args:
        changed: the changed keys, with both values in words.
        was: the SHA-256 of the run's files by key. Older versions did not store them, and then the paths count.
        now: the configuration by dotted key.
    """
    for key, hashed in input_hashes({key: now.get(key) for key in was}).items():
        changed.pop(key, None)
        if hashed != was[key]:
            changed[key] = f"{key} ({now[key]} is not the file that the run used)"


def _check_changes(what: str, changed: dict[str, str], *, with_changes: bool) -> None:
    """Raises `UserError` if a resumed run must not have these changes.

    Args:
        what: the checkpoint, for the message.
        changed: the changed keys, with both values in words.
        with_changes: whether the user asked for changes.
    """
    fixed = {key: shown for key, shown in changed.items() if not is_changeable(key)}
    if with_changes and not fixed:
        return
    remedy = "give it the same, or start a new run"
    if not fixed:
        remedy = f"give it the same, or {FLAG} to go on with the new value, or start a new run"
    elif with_changes:
        remedy += (
            f" ({FLAG} changes the optimizer's values, batch_size, epochs, accumulation, clipping and precision alone)"
        )
    shown = ", ".join((fixed or changed).values())
    raise UserError(f"{what} belongs to a run with another {shown}; {remedy}")


def config_differences(was: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """Returns the keys whose values differ between two flat configurations, with both values in words.

    An older version may have stored a key under its old name (`train.engine.renamed_keys`), may lack the keys in
    `ADDED_KEYS`, and may name a class by its old module: `train.distill.Distill` is
    `edgebnn.train.methods.distill.Distill`.

    Args:
        was: the values of the earlier run by dotted key.
        now: the values of this run by dotted key.
    """
    was = with_current_keys(was, known=now.keys())
    meant = {key: value for key, value in ADDED_KEYS.items() if key in was or key in now}
    was, now = meant | was, meant | now
    return {
        key: f"{key} (was {was.get(key)}, is {now.get(key)})"
        for key in sorted(was.keys() | now.keys())
        if _without_module(key, was.get(key)) != _without_module(key, now.get(key))
    }


def _without_module(key: str, value: Any) -> Any:
    own = key.endswith("class_path") and isinstance(value, str) and value.startswith(OWN_MODULES)
    return value.rpartition(".")[2] if own else value


def decides_result(key: str) -> bool:
    """Returns whether this key of a configuration decides what a run learns."""
    return key.startswith(DECIDING_KEYS) and key not in NOT_DECIDING_KEYS
