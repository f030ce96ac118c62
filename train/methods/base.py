"""The base class of training methods: student, optimizer, random numbers and checkpoints."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins import MixedPrecision
from torch import nn

from edgebnn.checkpoint import read_labels
from edgebnn.errors import UserError
from edgebnn.nn import Network
from edgebnn.records import Record

from ..data.module import Images
from ..engine.optim import Group, OptimizerConfig
from ..parallel.distributed import take_buffers_of_first


class Method(LightningModule):
    """The base class of training methods.

    A subclass builds `network` in `prepare` and returns the loss from `training_step`. It writes no loop. Its
    constructor stores values and opens no file, so that a configuration can be read without running it.

    A step may change state in `training_step` and in the optimizer step. It must change nothing in
    `on_train_batch_end`, because a checkpoint within an epoch is written before that hook.

    Attributes:
        views: number of views of an image that `training_step` gets.
        small_views: number of small views that come after them (SwAV's multi-crop).
        external: prefixes of state that belongs to another file, such as a frozen teacher. A teacher may be many times
            larger than the student, so `last.ckpt` leaves this state out.
        takes_partial: whether the method takes a last step with fewer images (`data.drop_last: false`). It then
            multiplies the losses of the images by `Images.weights`.
        trains: whether there is anything to train. If False (kNN, SVM), `fit` validates, writes records and no model.
        classifies: whether the outputs of `network` are the data's classes. Only then does its file name the classes.
        may_collapse: whether to warn when the outputs of different images become nearly equal
            (`train.engine.monitor`).
        network: the network that is saved after training.
    """

    views: ClassVar[int] = 1
    small_views: int = 0
    external: ClassVar[tuple[str, ...]] = ()
    trains: ClassVar[bool] = True
    classifies: ClassVar[bool] = False
    takes_partial: ClassVar[bool] = False
    may_collapse: ClassVar[bool] = True
    network: Network

    def __init__(self, optimizer: OptimizerConfig) -> None:
        super().__init__()
        self.optimizer_config = optimizer

    def prepare(self, data: Images) -> None:
        """Builds the networks and checks that they fit the data.

        It runs once in every process, after `data.setup()` and before the trainer writes a file. Every process draws
        the same random numbers, so weights, key encoders and queues are equal at the start.

        A method that loads a trained network tells the data which normalisation this network needs
        (`Images.use_normalisation`). `load_teacher` and `load_initial_weights` do so for their networks.

        Args:
            data: the images, after `setup`.

        Raises:
            UserError: a file cannot be read, or the networks do not fit the data.
        """
        raise NotImplementedError

    def frozen(self) -> Iterable[nn.Module]:
        """Returns the modules that stay in eval mode: their weights and BatchNorm statistics do not change."""
        return ()

    def unsynchronised(self) -> Iterable[nn.Module]:
        """Returns the modules whose BatchNorm stays local to each process under `trainer.sync_batchnorm`.

        MoCo's key encoder is one: it normalises random groups on purpose.
        """
        return ()

    def synchronised(self) -> Iterable[nn.Module]:
        """Returns the modules whose BatchNorm always covers the batch of all processes.

        `trainer.sync_batchnorm` does not change that.
        """
        return ()

    def train(self, mode: bool = True) -> "Method":
        super().train(mode)
        for module in self.frozen():
            module.eval()
        return self

    def on_fit_start(self) -> None:
        # Lightning does not change the mode of a module, and a frozen network built in `prepare` is in train mode.
        self.train()

    def on_validation_start(self) -> None:
        # The first process saves its network, so all processes must measure that network.
        take_buffers_of_first(self.network)

    def configure_optimizers(self) -> Any:
        assert self.trainer.max_epochs is not None  # `fit` checks it
        mixed = isinstance(self.trainer.precision_plugin, MixedPrecision)
        return self.optimizer_config.build(
            self.trained(),
            self.trainer.max_epochs,
            self.steps_per_epoch,
            fused=not (mixed and self.trainer.gradient_clip_val),
        )

    def trained(self) -> Iterable[nn.Parameter | Group]:
        """Returns the parameters to train, or groups of them with their own rates (`OptimizerConfig.build`)."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimizer steps in an epoch. It needs the trainer."""
        # Lightning counts the batches when it loads the data, and this attribute makes it load them. Its value is of no
        # use here: `max_steps` limits it, and `max_steps` must stop a run without changing its schedules.
        _ = self.trainer.estimated_stepping_batches
        return math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)

    @property
    def progress(self) -> float:
        """Share of the run's optimizer steps that are finished. Schedules of loss weights and momenta use it."""
        assert self.trainer.max_epochs is not None
        return self.global_step / (self.trainer.max_epochs * self.steps_per_epoch)

    def generator(self) -> torch.Generator:
        """Returns a random generator for this step. It is the same in every process and in a resumed run."""
        data: Images = self.trainer.datamodule  # type: ignore[attr-defined]
        seed = np.random.SeedSequence([data.seed, self.global_step]).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(seed) >> 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {key: value for key, value in state.items() if not key.startswith(self.external)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept = {key: value for key, value in self.state_dict().items() if key.startswith(self.external)}
        checkpoint["state_dict"] = {**checkpoint["state_dict"], **kept}

    def records(self, name: str, epochs: int) -> list[Record]:
        """Returns the records of what the run measured.

        Args:
            name: the model's name.
            epochs: number of finished epochs.
        """
        return []


def check_class_order(path: str | Path, data: Images, what: str) -> None:
    """Checks that a classifier in one of our checkpoints numbers the classes as the data do.

    Older versions sorted class folders named by numbers as text.

    Args:
        path: the checkpoint.
        data: the images, after `setup`.
        what: the checkpoint, for the message.

    Raises:
        UserError: the classifier has the data's classes in another order.
    """
    labels = read_labels(path)
    if labels != data.labels and sorted(labels) == sorted(data.labels):
        first = next(number for number, pair in enumerate(zip(labels, data.labels)) if len(set(pair)) > 1)
        raise UserError(
            f"{what} calls class {first} {labels[first]}, the data call it {data.labels[first]}: the same classes in "
            "another order, as older versions sorted folders named by numbers; train it again"
        )
