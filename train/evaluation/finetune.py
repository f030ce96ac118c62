"""Fine-tuning: trains the whole network on labels. Semi-supervised evaluation uses a share of the labels."""

from collections.abc import Iterable

from torch import nn

from edgebnn.errors import UserError
from edgebnn.hints import Hints

from ..data.sources import Images
from ..engine.optim import Group, OptimizerConfig
from ..methods.student import Student
from .base import Classification
from .linear import with_classifier

SGD = OptimizerConfig(name="sgd", lr=0.01, weight_decay=1e-4, schedule="steps", milestones=(12, 16), step_factor=0.2)


class FineTune(Classification):
    """Trains a pretrained network and a new classifier on labels.

    All parameters and BatchNorm statistics change. Binary weights and activations stay binary. With `data.subset` a
    share of each class's labels is used: the semi-supervised protocol with 1% and 10% (Zhai et al., ICCV 2019). The
    settings are OpenSelfSup's, on which BURN's code builds.

    Args:
        checkpoint: the network to evaluate, binary or real-valued. None for the untrained baseline.
        student: shape of the untrained network, in place of a checkpoint.
        optimizer: the default is SGD 0.01, momentum 0.9, weight decay 1e-4, times 0.2 at epochs 12 and 16.
        head_lr_factor: factor on the classifier's learning rate.
        method: how the network was trained, for the record.
        checkpoint_hints: what a published checkpoint does not say (docs/reference/checkpoints.md).
    """

    protocol = "fine-tuned"

    def __init__(
        self,
        checkpoint: str | None = None,
        student: Student | None = None,
        optimizer: OptimizerConfig = SGD,
        head_lr_factor: float = 10.0,
        method: str = "unknown",
        checkpoint_hints: Hints | None = None,
    ) -> None:
        super().__init__(checkpoint, student, optimizer, method, checkpoint_hints)
        self.head_lr_factor = head_lr_factor

    def prepare(self, data: Images) -> None:
        if not self.head_lr_factor > 0:
            raise UserError(f"head_lr_factor {self.head_lr_factor} is not positive; give more than 0")
        self.network = with_classifier(self.backbone(data), len(data.labels))

    def trained(self) -> Iterable[nn.Parameter | Group]:
        head = list(self.network.head.parameters())
        rest = [parameter for name, parameter in self.network.named_parameters() if not name.startswith("head.")]
        return [{"params": rest}, {"params": head, "lr": self.head_lr_factor * self.optimizer_config.lr}]
