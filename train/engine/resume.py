"""Going on where a run stopped: whether it still is the same run."""

from pathlib import Path
from typing import Any

import torch
import yaml

from edgebnn.errors import UserError
from edgebnn.files import existing_file

from .callbacks import LAST
from .renamed_keys import flatten_config, with_current_keys

DECIDES = (
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
"""Keys, or the starts of keys, that decide what a run learns."""

FREE = tuple(f"data.init_args.{key}" for key in ("workers", "root", "path", "download"))
"""Keys among them that only say how it gets there."""

NEW = {"data.init_args.drop_last": True, "model.init_args.weight_init": "kaiming"}
"""Keys that runs of older versions do not have, and the values that those runs went by."""


OWN = ("train.", "edgebnn.train.")
"""How the modules of this program are called, by older versions and now."""


def check_start(run: str, start: str | None, config: dict[str, Any], max_steps: int) -> None:
    """Raises `UserError` unless the run folder is unused, or `start` is a checkpoint of the same run.

    Args:
        run: the run folder.
        start: `ckpt_path`.
        config: the whole configuration, as nested dictionaries.
        max_steps: `trainer.max_steps`; -1 for none.
    """
    if start is None:
        last = Path(run) / LAST
        if last.exists():
            raise UserError(f"{run} holds a run already; give --ckpt_path {last} to go on, or another folder as --run")
        return
    existing_file(start, "ckpt_path")
    damaged = UserError(f"ckpt_path {start} is damaged or no last.ckpt of a run; delete it and start the run anew")
    try:
        found = torch.load(start, map_location="meta", weights_only=True)
        was = flatten_config(yaml.safe_load(found["config"])) if "config" in found else {}
        complete = found.keys() >= {"state_dict", "loops", "optimizer_states", "global_step"}
    except Exception:  # torch.load raises whatever the bytes lead it to
        raise damaged from None
    if not complete:
        raise damaged
    now = flatten_config(config)
    changed = {key: shown for key, shown in differences(was, now).items() if decides(key)}
    if was and changed:
        shown = ", ".join(changed.values())
        raise UserError(f"ckpt_path {start} is of a run with another {shown}; give it the same, or start a new run")
    if 0 <= max_steps <= found["global_step"]:
        raise UserError(
            f"ckpt_path {start} has taken {found['global_step']} steps, trainer.max_steps ends at {max_steps}; raise it"
        )


def differences(was: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """Returns the keys whose values differ between two flat configurations, in order, each with words that say how.

    A configuration that an older version wrote lacks the keys in `NEW`, and means their values. It may name a class
    where the class lay then: `train.distill.Distill` is `edgebnn.train.methods.distill.Distill`.
    """
    was = with_current_keys(was, known=now.keys())
    meant = {key: value for key, value in NEW.items() if key in was or key in now}
    was, now = meant | was, meant | now
    return {
        key: f"{key} (was {was.get(key)}, is {now.get(key)})"
        for key in sorted(was.keys() | now.keys())
        if _without_module(key, was.get(key)) != _without_module(key, now.get(key))
    }


def _without_module(key: str, value: Any) -> Any:
    own = key.endswith("class_path") and isinstance(value, str) and value.startswith(OWN)
    return value.rpartition(".")[2] if own else value


def decides(key: str) -> bool:
    """Whether the value of a configuration's key decides what a run learns."""
    return key.startswith(DECIDES) and key not in FREE
