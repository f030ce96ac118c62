"""Classifiers and projectors that a method trains beside the network, and their file.

The next stage starts from this file. A published file (BURN's) holds them together with the network's weights.
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
from .student import load_initial_weights

HEADS = "heads.safetensors"
"""The file of the heads, beside `model.safetensors`."""


class HeadedMethod(Method):
    """A method with classifiers or projectors that the next stage needs and the saved network does not have.

    Attributes:
        heads: names of the attributes that hold these modules.
        unpublished: names of the heads that published files lack. They start from random weights after such a file.
    """

    heads: ClassVar[tuple[str, ...]] = ()
    unpublished: ClassVar[tuple[str, ...]] = ()

    def load_initial_state(self, checkpoint: str | None, data: Images, hints: Hints | None = None) -> None:
        """Loads the weights of an earlier stage into the network and the heads.

        Args:
            checkpoint: `model.safetensors` of the earlier stage, which has its heads beside it. Or a published file,
                which holds them. None keeps the random weights.
            data: the images that the network is trained on.
            hints: what the user says about a published file.

        Raises:
            UserError: a file is missing or damaged, or its network or heads do not fit.
        """
        if checkpoint is None:
            return
        found = load_initial_weights(self.network, checkpoint, data, hints)
        if found.layout == "edgebnn":
            load_heads(Path(checkpoint).parent / HEADS, self._heads())
        else:
            self._start_from_published(found.heads, f"initial checkpoint {checkpoint}")

    def _start_from_published(self, tensors: Mapping[str, Tensor], what: str) -> None:
        heads = self._heads()
        fresh = [name for name in self.unpublished if heads.pop(name).state_dict()]
        missing = [name for name in heads if not _state_of(name, tensors)]
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
    """Writes the state of the heads into one file, whole or not at all.

    Args:
        path: the file.
        heads: the modules by name.

    Raises:
        UserError: the file cannot be written.
    """
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
    """Loads a file that `save_heads` wrote into the heads.

    Args:
        path: the file.
        heads: the modules by name.

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
    """Loads tensors into the heads.

    Args:
        tensors: the tensors by `HEAD.NAME`, with their names in the head's state.
        heads: the modules by name.
        what: the source of the tensors, for messages.

    Raises:
        UserError: the tensors have other names or shapes than the heads.
    """
    wanted = {f"{name}.{key}": tensor for name, head in heads.items() for key, tensor in head.state_dict().items()}
    for key in sorted(wanted.keys() | tensors.keys()):
        found, expected = (tuple(part[key].shape) if key in part else "absent" for part in (tensors, wanted))
        if found != expected:
            raise UserError(
                f"{what}: {key} is {found}, this stage expects {expected}; "
                "give both stages the same method, student, teacher and sizes"
            )
    for name, head in heads.items():
        head.load_state_dict(_state_of(name, tensors))


def _state_of(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of one head, by their names in the head's state."""
    return {key[len(name) + 1 :]: tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
