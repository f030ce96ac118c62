"""What every training method shares: a student, an optimiser, and checks before anything is written."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import nn

from edgebnn.checkpoint import read_labels
from edgebnn.errors import UserError
from edgebnn.graph import ModelInfo
from edgebnn.nn import Network
from edgebnn.records import Record

from ..data.module import Images
from ..engine.optim import Group, OptimizerConfig
from ..parallel.distributed import take_buffers_of_first


class Method(LightningModule):
    """A training method. A subclass builds `network` in `prepare`, writes `training_step`, and no loop.

    Its constructor keeps values and opens no file: a configuration can be read without running it.

    Attributes:
        views: how many views of an image `training_step` gets.
        small_views: how many small views besides, after the others (SwAV's multi-crop).
        external: prefixes of the state that another file holds, such as a frozen teacher's: it may be many
            times the student and stays out of `last.ckpt`.
        takes_partial: whether `data.drop_last: false` may give it a last step of fewer images, whose weights
            (`Images.weights`) it heeds.
        trains: False where there is nothing to train, as in kNN: `fit` then validates and writes records, no model.
        may_collapse: whether outputs that hardly differ between images are worth a warning (`train.engine.monitor`).
        network: the network that leaves training.

    Whatever a step changes it changes in `training_step` or the optimiser's step, not in `on_train_batch_end`: a
    checkpoint within an epoch is written before that.
    """

    views: ClassVar[int] = 1
    small_views: int = 0
    external: ClassVar[tuple[str, ...]] = ()
    trains: ClassVar[bool] = True
    takes_partial: ClassVar[bool] = False
    may_collapse: ClassVar[bool] = True
    network: Network

    def __init__(self, optimizer: OptimizerConfig) -> None:
        super().__init__()
        self.optimizer_config = optimizer

    def prepare(self, data: Images) -> None:
        """Builds the networks and checks that they fit the data.

        Runs once in every process, after `data.setup()` and before the trainer writes a file. The same random numbers
        are drawn in each, so weights, key encoders and queues start out equal.

        Raises:
            UserError: a file cannot be read, or the networks do not fit.
        """
        raise NotImplementedError

    def frozen(self) -> Iterable[nn.Module]:
        """Modules that stay in eval mode: neither their weights nor their BatchNorm statistics move."""
        return ()

    def unsynchronised(self) -> Iterable[nn.Module]:
        """Modules whose BatchNorm stays each process' own under `trainer.sync_batchnorm`.

        MoCo's key encoder: it normalises random groups on purpose.
        """
        return ()

    def synchronised(self) -> Iterable[nn.Module]:
        """Modules whose BatchNorm is over the batch of all processes, whatever `trainer.sync_batchnorm` says."""
        return ()

    def train(self, mode: bool = True) -> "Method":
        super().train(mode)
        for module in self.frozen():
            module.eval()
        return self

    def on_fit_start(self) -> None:
        # Lightning leaves every module in the mode it finds it in, and a network built in `prepare` is in training.
        self.train()

    def on_validation_start(self) -> None:
        # What is measured is the network that is saved.
        take_buffers_of_first(self.network)

    def configure_optimizers(self) -> Any:
        assert self.trainer.max_epochs is not None  # `fit` sees to that
        return self.optimizer_config.build(self.trained(), self.trainer.max_epochs, self.steps_per_epoch)

    def trained(self) -> Iterable[nn.Parameter | Group]:
        """The parameters to train, or groups of them with rates of their own (`OptimizerConfig.build`)."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @property
    def steps_per_epoch(self) -> int:
        """The optimiser's steps in an epoch; known once the trainer is there."""
        # Lightning counts batches when it loads the data, and asking for the steps of the run makes it load them.
        # That number itself is cut by max_steps, which should stop a run and not bend its schedules.
        _ = self.trainer.estimated_stepping_batches
        return math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)

    @property
    def progress(self) -> float:
        """Share of the run's optimiser steps that are done, for schedules other than the learning rate's."""
        assert self.trainer.max_epochs is not None
        return self.global_step / (self.trainer.max_epochs * self.steps_per_epoch)

    def generator(self) -> torch.Generator:
        """A generator for what this step draws: the same in every process, and in a run that was resumed."""
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
        """The facts that a run of so many finished epochs measured about the model `name`."""
        return []


def match_classes(path: str | Path, data: Images, what: str) -> None:
    """Raises `UserError` if the classifier in one of our checkpoints has the data's classes in another order.

    Class folders named by numbers were in the order of text in older versions.
    """
    labels = read_labels(path)
    if labels != data.labels and sorted(labels) == sorted(data.labels):
        first = next(number for number, pair in enumerate(zip(labels, data.labels)) if len(set(pair)) > 1)
        raise UserError(
            f"{what} calls class {first} {labels[first]}, the data call it {data.labels[first]}: the same classes in "
            "another order, as older versions sorted folders named by numbers; train it again"
        )


def match_normalisation(info: ModelInfo, data: Images, what: str) -> None:
    """Normalises the data as the network described by `info` expects.

    Data whose configuration gives no `mean` and `std` take the network's: a pretrained network so keeps its
    normalisation on other data. Otherwise the two are compared.

    Raises:
        UserError: the configuration, or another network before this one, says otherwise.
    """
    if not data.normalisation_given:
        data.mean, data.std, data.normalisation_given = tuple(info.mean), tuple(info.std), True
    if (tuple(info.mean), tuple(info.std)) != (data.mean, data.std):
        raise UserError(
            f"{what} expects images normalised by mean {list(info.mean)}, std {list(info.std)}, the data gives "
            f"mean {list(data.mean)}, std {list(data.std)}; set data.mean and data.std to the former, or leave them out"
        )
