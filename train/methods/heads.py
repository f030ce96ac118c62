"""Heads that a method trains beside the network, kept for its next stage in a file of their own.

A published file (BURN's) holds them beside the network's weights.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import safetensors
import safetensors.torch
from torch import Tensor, nn

from edgebnn.errors import UserError
from edgebnn.files import atomic_path, existing_file
from edgebnn.hints import Hints

from ..data.module import Images
from ..parallel.launch import is_first
from .base import Method
from .student import start_from

HEADS = "heads.safetensors"
"""Written beside `model.safetensors`, which holds the network that leaves training."""


class HeadedMethod(Method):
    """A method with classifiers or projections that leave with the run, but not with the network.

    Attributes:
        heads: names of the attributes that are such modules.
        unpublished: those of them that published files lack and that start at random after one.
    """

    heads: ClassVar[tuple[str, ...]] = ()
    unpublished: ClassVar[tuple[str, ...]] = ()

    def start_from(self, init: str | None, data: Images, hints: Hints | None = None) -> None:
        """Gives network and heads the weights of an earlier stage.

        Args:
            init: that stage's `model.safetensors`, beside which lie its heads, or a published file, which holds them;
                None leaves all at random.
            data: what the network will see.
            hints: what the user says about a published file.

        Raises:
            UserError: a file is missing or damaged, or its network or heads do not fit.
        """
        if init is None:
            return
        found = start_from(self.network, init, data, hints)
        if found.layout == "edgebnn":
            load_heads(Path(init).parent / HEADS, self._heads())
        else:
            self._start_from_published(found.heads, f"initial checkpoint {init}")

    def _start_from_published(self, tensors: Mapping[str, Tensor], what: str) -> None:
        heads = self._heads()
        fresh = [name for name in self.unpublished if heads.pop(name).state_dict()]
        missing = [name for name in heads if not _of(name, tensors)]
        if missing:
            raise UserError(
                f"{what} holds no {' and no '.join(missing)}; give model.safetensors of this method's stage 1, or, to "
                "burn and burn-code, a checkpoint of BURN's training or what extract_weights_for_multi.py made of one"
            )
        fill_heads(tensors, heads, what)
        if fresh and is_first():
            print(f"note: {what} holds no {', '.join(fresh)}, which starts at random", file=sys.stderr, flush=True)

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
    fill_heads(tensors, heads, f"heads {path}")


def fill_heads(tensors: Mapping[str, Tensor], heads: Mapping[str, nn.Module], what: str) -> None:
    """Gives the modules their weights among `tensors`, which are called by the module's name and their own.

    Raises:
        UserError: the tensors, which come from `what`, have other names or shapes than the modules'.
    """
    wanted = {f"{name}.{key}": tensor for name, head in heads.items() for key, tensor in head.state_dict().items()}
    for key in sorted(wanted.keys() | tensors.keys()):
        found, expected = (tuple(part[key].shape) if key in part else "absent" for part in (tensors, wanted))
        if found != expected:
            raise UserError(
                f"{what}: {key} is {found}, this stage has it {expected}; "
                "give both stages the same method, student, teacher and sizes"
            )
    for name, head in heads.items():
        head.load_state_dict(_of(name, tensors))


def _of(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of the head `name`."""
    return {key[len(name) + 1 :]: tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
