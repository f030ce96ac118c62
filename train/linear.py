"""Linear evaluation: how well a linear classifier on frozen features does."""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgebnn import checkpoint as checkpoints
from edgebnn.errors import UserError
from edgebnn.files import sha256
from edgebnn.nn import Network
from edgebnn.records import Record
from train.data import Images
from train.method import Method, check_normalisation
from train.optim import OptimizerConfig
from train.student import Student

SGD = OptimizerConfig(name="sgd", lr=0.1, schedule="steps", milestones=(60, 80))
PROTOCOL = "linear, frozen features"


class LinearEvaluation(Method):
    """Trains a linear classifier on a frozen network and measures its accuracy (MoCo's strict protocol).

    The backbone is frozen and in eval, so neither its weights nor its BatchNorm statistics move; the
    head it was trained with is dropped; the classifier's weights start as N(0, 0.01).

    The baseline that shows what training gave is the same shape with random weights: `checkpoint: null`
    and a `student`. Random features are only comparable if normalised, so BatchNorm's statistics (and
    nothing else) are taken from one pass over the training images before the classifier is trained.

    Args:
        checkpoint: the network to evaluate, binary or real-valued; null for the untrained baseline.
        student: shape of the untrained network.
        optimizer: S2-BNN's: SGD 0.1, momentum 0.9, a tenth of it from epoch 60 and again from 80.
        method: how the backbone was trained, for the record.
    """

    def __init__(
        self,
        checkpoint: str | None = None,
        student: Student | None = None,
        optimizer: OptimizerConfig = SGD,
        method: str = "unknown",
    ) -> None:
        super().__init__(optimizer)
        self.checkpoint = checkpoint
        self.student = student
        self.method = method

    def prepare(self, data: Images) -> None:
        self.network = with_classifier(self._backbone(data), len(data.labels))
        self.network.requires_grad_(False).head.requires_grad_(True)

    def _backbone(self, data: Images) -> Network:
        if (self.checkpoint is None) == (self.student is None):
            raise UserError("linear evaluation takes a checkpoint or an untrained student; give one of the two")
        if self.student is not None:
            network = self.student.with_head(())
            network.check_resolution(data.resolution)
            measure_norms(network, data.fixed_train_dataloader(shuffled=True))
            return network
        found = checkpoints.load(str(self.checkpoint))
        found.model.check_resolution(data.resolution)
        check_normalisation(found.info, data, f"checkpoint {self.checkpoint}")
        return found.model

    def frozen(self) -> Iterable[nn.Module]:
        return (self.network,)

    def training_step(self, batch: tuple[list[Tensor], Tensor]) -> Tensor:
        (images,), labels = batch
        loss = F.cross_entropy(self.network(images), labels)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[list[Tensor], Tensor]) -> None:
        (images,), labels = batch
        ranked = self.network(images).topk(min(5, self.network.config.head[-1]), dim=1).indices
        hits = ranked == labels[:, None]
        self.evaluated += len(labels)
        self.log("val/top1", 100 * hits[:, 0].float().mean(), prog_bar=True, batch_size=len(labels))
        # Among five classes the right one is always within the first five.
        if self.network.config.head[-1] > 5:
            top5 = 100 * hits.any(dim=1).float().mean()
            self.log("val/top5", top5, batch_size=len(labels))

    def on_validation_epoch_start(self) -> None:
        self.evaluated = 0

    def records(self, name: str, epochs: int) -> list[Record]:
        data: Images = self.trainer.datamodule  # type: ignore[attr-defined]
        metrics = {key: round(float(value), 4) for key, value in self.trainer.callback_metrics.items()}
        values = {key.removeprefix("val/"): value for key, value in metrics.items() if key.startswith("val/")}
        context = {
            "protocol": PROTOCOL,
            "data": type(data).__name__,
            "images": self.evaluated,
            "epochs": epochs,
            "seed": data.seed,
            "method": "untrained" if self.checkpoint is None else self.method,
            "checkpoint": self.checkpoint,
            "sha256": None if self.checkpoint is None else sha256(self.checkpoint),
        }
        return [Record("accuracy", name, values, context)]


def with_classifier(network: Network, classes: int) -> Network:
    """A copy of `network` whose head is a new linear layer with `classes` outputs."""
    result = type(network)(replace(network.config, head=(classes,), head_relu=False))
    backbone = {name: value for name, value in network.state_dict().items() if not name.startswith("head.")}
    result.load_state_dict({**result.state_dict(), **backbone})
    weight, bias = result.head.parameters()
    nn.init.normal_(weight, std=0.01)
    nn.init.zeros_(bias)
    return result


@torch.no_grad()
def measure_norms(network: Network, batches: Iterable[tuple[list[Tensor], Tensor]]) -> None:
    """Sets BatchNorm's running statistics to their averages over `batches`; no weight moves."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    network.train()
    for norm in norms:
        norm.reset_running_stats()
        # None is torch's word for a plain average over all batches.
        norm.momentum = None
    for (images,), _ in batches:
        network.features(images)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    network.eval()
