"""BYOL (Grill et al., NeurIPS 2020): predict the projection that a moving-average network makes of another view."""

from copy import deepcopy
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from edgebnn.errors import UserError
from edgebnn.hints import Hints
from edgebnn.ssl.losses import unit_distance
from edgebnn.ssl.momentum import follow
from edgebnn.ssl.schedules import half_cosine

from ..data.module import Images
from ..engine.optim import OptimizerConfig
from .heads import HeadedMethod
from .student import Student, duplicate

LARS = OptimizerConfig(
    name="lars",
    lr=4.8,
    weight_decay=1e-6,
    decay_on="weights",
    schedule="cosine",
    warmup_epochs=10,
    warmup_start_factor=1e-4,
)


class BYOL(HeadedMethod):
    """Trains a network, a projector z and a predictor q. The target z' is a moving average of network and projector.

        mean_n || q(z(v))^ - z'(w)^ ||^2

    It is computed for both assignments of v and w to the two views, and the two losses are added.

    Args:
        student: the network. It is saved without a head.
        init_checkpoint: `model.safetensors` of an earlier stage, which has its heads beside it. None starts from
            random weights.
        optimizer: the default is that of the baselines in BURN's repository: LARS 4.8, weight decay 1e-6 on weights
            alone, 10 epochs of warm-up, cosine by epoch, for 8192 images per optimizer step.
        hidden_dim: width of the heads' hidden layers.
        dim: width of the projections that are compared.
        momentum: m of the moving average at the start. It rises to 1 by half a cosine over all optimizer steps.
        init_checkpoint_hints: what a published `init_checkpoint` does not say (docs/reference/checkpoints.md).
    """

    views: ClassVar[int] = 2
    heads: ClassVar[tuple[str, ...]] = ("projector", "predictor")

    def __init__(
        self,
        student: Student,
        init_checkpoint: str | None = None,
        optimizer: OptimizerConfig = LARS,
        hidden_dim: int = 4096,
        dim: int = 256,
        momentum: float = 0.99,
        init_checkpoint_hints: Hints | None = None,
    ) -> None:
        super().__init__(optimizer)
        self.student = student
        self.init_checkpoint = init_checkpoint
        self.init_checkpoint_hints = init_checkpoint_hints
        self.hidden_dim = hidden_dim
        self.dim = dim
        self.momentum = momentum

    def prepare(self, data: Images) -> None:
        from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead

        if not (0 <= self.momentum <= 1 and self.hidden_dim >= 1 and self.dim >= 1):
            raise UserError(
                f"momentum {self.momentum}, hidden_dim {self.hidden_dim}, dim {self.dim} are out of range; "
                "give a momentum from 0 to 1 and widths of 1 or more"
            )
        self.network = self.student.with_head(())
        self.network.check_resolution(data.resolution)
        self.projector = BYOLProjectionHead(self.network.num_features, self.hidden_dim, self.dim)
        self.predictor = BYOLPredictionHead(self.dim, self.hidden_dim, self.dim)
        self.load_initial_state(self.init_checkpoint, data, self.init_checkpoint_hints)
        self.target = nn.Sequential(duplicate(self.network), deepcopy(self.projector)).requires_grad_(False)

    def synchronised(self) -> tuple[nn.Module, ...]:
        """Returns the heads: their BatchNorms always cover the batch of all processes."""
        return (self.projector, self.predictor, self.target[1])

    def training_step(self, batch: tuple[list[Tensor], Tensor]) -> Tensor:
        (first, second), _ = batch
        with torch.no_grad():
            aim_first, aim_second = self.target(first), self.target(second)
        loss = self.crossing_loss(first, aim_second) + self.crossing_loss(second, aim_first)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def crossing_loss(self, view: Tensor, aim: Tensor) -> Tensor:
        """Returns the loss between the prediction for a view (N, 3, H, W) and the target projection (N, dim)."""
        return unit_distance(self.predictor(self.projector(self.network(view))), aim)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        # Once per optimizer step, even if its gradient comes from several accumulated batches.
        momentum = half_cosine(self.progress, self.momentum, 1)
        super().optimizer_step(*args, **kwargs)
        follow(self.target, nn.Sequential(self.network, self.projector), momentum)
