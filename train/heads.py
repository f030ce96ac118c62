"""Heads that a method trains beside the network, kept for its next stage in a file of their own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import safetensors
import safetensors.torch
from torch import nn

from edgebnn.errors import UserError
from edgebnn.files import atomic_path, existing_file
from edgebnn.layouts_source import Hints
from train.images import Images
from train.method import Method
from train.student import start_from

HEADS = "heads.safetensors"
"""Written beside `model.safetensors`, which holds the network that leaves training."""


class HeadedMethod(Method):
    """A method with classifiers or projections that leave with the run, but not with the network.

    Attributes:
        heads: names of the attributes that are such modules.
    """

    heads: ClassVar[tuple[str, ...]] = ()

    def start_from(self, init: str | None, data: Images, hints: Hints | None = None) -> None:
        """Gives network and heads the weights of an earlier stage, whose `model.safetensors` is `init`."""
        if init is not None:
            start_from(self.network, init, data, hints)
            load_heads(Path(init).parent / HEADS, self._heads())

    def on_fit_start(self) -> None:
        super().on_fit_start()
        data: Images = self.trainer.datamodule  # type: ignore[attr-defined]
        if data.batch_size < 2 * self.trainer.world_size * self.trainer.accumulate_grad_batches:
            raise UserError(
                f"data.batch_size {data.batch_size} leaves the heads' BatchNorm one image at a time; give two or more "
                "to each process and accumulated batch"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self.trainer.is_global_zero:
            save_heads(Path(self.trainer.default_root_dir) / HEADS, self._heads())

    def _heads(self) -> dict[str, nn.Module]:
        return {name: getattr(self, name) for name in self.heads}


def save_heads(path: Path, heads: Mapping[str, nn.Module]) -> None:
    """Writes modules by name, whole or not at all. Raises `UserError` if it cannot."""
    tensors = {
        f"{name}.{key}": tensor.detach().cpu().contiguous()
        for name, head in heads.items()
        for key, tensor in head.state_dict().items()
    }
    with atomic_path(path) as temporary:
        try:
            safetensors.torch.save_file(tensors, temporary)
        except safetensors.SafetensorError as error:
            raise UserError(f"cannot write {path} ({error}); free space or choose another path") from None


def load_heads(path: Path, heads: Mapping[str, nn.Module]) -> None:
    """Gives the modules the weights that `save_heads` wrote.

    Raises:
        UserError: the file is missing or damaged, or its heads have other names or shapes.
    """
    path = existing_file(path, "heads of the stage before")
    try:
        tensors = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"heads {path} are cut off or damaged ({error}); train that stage again") from None
    wanted = {f"{name}.{key}": tensor for name, head in heads.items() for key, tensor in head.state_dict().items()}
    for key in sorted(wanted.keys() | tensors.keys()):
        found, expected = (tuple(part[key].shape) if key in part else "absent" for part in (tensors, wanted))
        if found != expected:
            raise UserError(
                f"heads {path}: {key} is {found}, this stage has it {expected}; "
                "give both stages the same method, student, teacher and sizes"
            )
    for name, head in heads.items():
        head.load_state_dict({key[len(name) + 1 :]: t for key, t in tensors.items() if key.startswith(f"{name}.")})
