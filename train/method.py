"""What every training method shares: a student, an optimiser, and checks before anything is written."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import nn

from edgebnn.errors import UserError
from edgebnn.graph import ModelInfo
from edgebnn.graph.shapes import Padding, check_resolution, reactnet_channels
from edgebnn.nn import ReActNet, ReActNetConfig
from edgebnn.nn.estimators import Gradient
from edgebnn.records import Record
from train.data import Images
from train.optim import OptimizerConfig


@dataclass(frozen=True)
class Student:
    """What a configuration chooses of a ReActNet; its head follows from the method.

    The attributes are those of `edgebnn.nn.ReActNetConfig`. Step 1 is `binary_weights: false`, a
    real-valued network `binary_activations: false` besides.
    """

    width: float = 1.0
    stem_stride: int = 2
    padding: Padding = "zero"
    binary_activations: bool = True
    binary_weights: bool = True
    activation_gradient: Gradient = "polynomial"
    weight_gradient: Gradient = "clipped"

    def with_head(self, head: tuple[int, ...]) -> ReActNet:
        """A new network with that head."""
        return ReActNet(ReActNetConfig(head=head, **asdict(self)))

    def with_projection(self, dim: int) -> ReActNet:
        """A new network with MoCo v2's MLP head: features -> as many -> ReLU -> dim."""
        return self.with_head((reactnet_channels(self.width)[-1], dim))


class Method(LightningModule):
    """A training method. A subclass builds `network` in `prepare`, writes `training_step`, and no loop.

    Its constructor keeps values and opens no file: a configuration can be read without running it.

    Attributes:
        views: how many views of an image `training_step` gets.
        network: the network that leaves training.
    """

    views: ClassVar[int] = 1
    network: ReActNet

    def __init__(self, optimizer: OptimizerConfig) -> None:
        super().__init__()
        self.optimizer_config = optimizer

    def prepare(self, data: Images) -> None:
        """Builds the networks and checks that they fit the data.

        Runs once, after `data.setup()` and before the trainer writes a file.

        Raises:
            UserError: a file cannot be read, or the networks do not fit.
        """
        raise NotImplementedError

    def frozen(self) -> Iterable[nn.Module]:
        """Modules that stay in eval mode: neither their weights nor their BatchNorm statistics move."""
        return ()

    def train(self, mode: bool = True) -> "Method":
        super().train(mode)
        for module in self.frozen():
            module.eval()
        return self

    def on_fit_start(self) -> None:
        # Lightning leaves every module in the mode it finds it in, and a network built in `prepare` is in training.
        self.train()

    def configure_optimizers(self) -> Any:
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        assert self.trainer.max_epochs is not None  # `fit` sees to that
        return self.optimizer_config.build(trained, self.trainer.max_epochs)

    def on_train_epoch_end(self) -> None:
        # Before anything is saved: the last good files stay.
        loss = self.trainer.callback_metrics.get("train/loss")
        if loss is not None and not torch.isfinite(loss):
            raise UserError(f"the loss is {loss:g} in epoch {self.current_epoch}; lower model.optimizer.lr")

    def records(self, name: str, epochs: int) -> list[Record]:
        """The facts that a run of so many finished epochs measured about the model `name`."""
        return []


def check_network(network: ReActNet, data: Images) -> None:
    """Raises `UserError` unless `network` can take images of the data's resolution."""
    check_resolution(data.resolution, network.config.stem_stride, network.shapes)


def check_normalisation(info: ModelInfo, data: Images, what: str) -> None:
    """Raises `UserError` unless a network described by `info` was made for images normalised as `data` does."""
    if (tuple(info.mean), tuple(info.std)) != (data.mean, data.std):
        raise UserError(
            f"{what} expects images normalised by mean {list(info.mean)}, std {list(info.std)}, the data gives "
            f"mean {list(data.mean)}, std {list(data.std)}; set data.mean and data.std to the former"
        )
