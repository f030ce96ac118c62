"""SwAV (Caron et al., NeurIPS 2020): predict the cluster assignment of one view from another view."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from edgebnn.errors import UserError
from edgebnn.hints import Hints
from edgebnn.ssl.losses import float32_at_least
from edgebnn.ssl.queue import KeyQueue, check_queue

from ..data.module import Images
from ..engine.optim import OptimizerConfig
from ..parallel.distributed import gather, rank, world_size
from .heads import HeadedMethod
from .student import Student

LARS = OptimizerConfig(
    name="lars",
    lr=4.8,
    weight_decay=1e-6,
    schedule="cosine",
    cosine_by="step",
    warmup_epochs=10,
    warmup_start_factor=0.0625,
    cosine_from="warmup",
    cosine_final_factor=0.001,
)


class SwAV(HeadedMethod):
    """Trains a network and prototypes so that all views of an image are assigned to the same prototypes.

    Sinkhorn-Knopp iterations compute the assignments of the two large views, so that all prototypes get equally many
    images of the batch of all processes. Every other view predicts these assignments. The loss is lightly's
    `SwaVLoss` (section 3.1 of the paper).

    Args:
        student: the network. It is saved without a head.
        init_checkpoint: `model.safetensors` of an earlier stage, which has its heads beside it. None starts from
            random weights.
        optimizer: the default is SwAV's, for 4096 images per optimizer step: LARS 4.8, weight decay 1e-6, 10 epochs of
            warm-up from 0.3, cosine by step.
        small_views: number of small views, which only predict. SwAV has 6.
        hidden_dim: width of the projector's hidden layer.
        dim: width of the projections.
        prototypes: number of prototypes.
        temperature: T of the predictions.
        sinkhorn_epsilon: smoothness of the assignments.
        sinkhorn_iterations: number of Sinkhorn-Knopp iterations.
        freeze_prototypes_steps: optimizer steps at the start in which the prototypes do not change.
        queue_size: number of earlier projections that take part in the assignments, for small batches. It is a
            multiple of the batch. 0 turns the queue off.
        queue_start_epoch: epoch from which the queue is filled. It is used when it is full.
        init_checkpoint_hints: what a published `init_checkpoint` does not say (docs/reference/checkpoints.md).
    """

    views: ClassVar[int] = 2
    heads: ClassVar[tuple[str, ...]] = ("projector", "prototypes")
    pushed: Tensor

    def __init__(
        self,
        student: Student,
        init_checkpoint: str | None = None,
        optimizer: OptimizerConfig = LARS,
        small_views: int = 6,
        hidden_dim: int = 2048,
        dim: int = 128,
        prototypes: int = 3000,
        temperature: float = 0.1,
        sinkhorn_epsilon: float = 0.05,
        sinkhorn_iterations: int = 3,
        freeze_prototypes_steps: int = 313,
        queue_size: int = 0,
        queue_start_epoch: int = 15,
        init_checkpoint_hints: Hints | None = None,
    ) -> None:
        super().__init__(optimizer)
        self.student = student
        self.init_checkpoint = init_checkpoint
        self.init_checkpoint_hints = init_checkpoint_hints
        self.small_views = small_views
        self.hidden_dim = hidden_dim
        self.dim = dim
        self.clusters = prototypes
        self.temperature = temperature
        self.sinkhorn_epsilon = sinkhorn_epsilon
        self.sinkhorn_iterations = sinkhorn_iterations
        self.freeze_prototypes_steps = freeze_prototypes_steps
        self.queue_size = queue_size
        self.queue_start_epoch = queue_start_epoch

    def prepare(self, data: Images) -> None:
        from lightly.loss import SwaVLoss
        from lightly.models.modules.heads import SwaVProjectionHead

        sizes = (self.hidden_dim, self.dim, self.clusters, self.sinkhorn_iterations)
        if min(sizes) < 1 or self.small_views < 0 or min(self.temperature, self.sinkhorn_epsilon) <= 0:
            raise UserError(
                f"hidden_dim, dim, prototypes, sinkhorn_iterations {sizes}, small_views {self.small_views}, "
                f"temperature {self.temperature}, sinkhorn_epsilon {self.sinkhorn_epsilon} are out of range; "
                "give sizes of 1 or more and positive values"
            )
        self.network = self.student.with_head(())
        self.network.check_resolution(data.resolution)
        if self.small_views and data.small_resolution is not None:
            self.network.check_resolution(data.small_resolution)
        self.projector = SwaVProjectionHead(self.network.num_features, self.hidden_dim, self.dim)
        self.prototypes = nn.Linear(self.dim, self.clusters, bias=False)
        self.load_initial_state(self.init_checkpoint, data, self.init_checkpoint_hints)
        self.criterion = SwaVLoss(
            self.temperature, self.sinkhorn_iterations, self.sinkhorn_epsilon, sinkhorn_gather_distributed=True
        )
        self.register_buffer("pushed", torch.zeros((), dtype=torch.long))
        if self.queue_size:
            check_queue(self.queue_size, data.batch_size)
            self.first_queue = KeyQueue(self.queue_size, self.dim)
            self.second_queue = KeyQueue(self.queue_size, self.dim)

    def synchronised(self) -> tuple[nn.Module, ...]:
        """Returns the projector: its BatchNorms always cover the batch of all processes."""
        return (self.projector,)

    def training_step(self, batch: tuple[list[Tensor], Tensor]) -> Tensor:
        views, _ = batch
        with torch.no_grad():
            self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))
        # Views of one size go through the network in one batch, as in SwAV's code: BatchNorm normalises them together.
        large = self.project(views[: self.views])
        small = self.project(views[self.views :]) if len(views) > self.views else []
        remembered = self.push_and_score(large) if self.queue_size else None
        loss = self.criterion([*map(self.scores, large)], [*map(self.scores, small)], remembered).squeeze()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def project(self, views: list[Tensor]) -> list[Tensor]:
        """Returns the projections (N, dim) of length 1 of each view (N, 3, R, R). All views have one size."""
        outputs = self.projector(self.network(torch.cat(views)))
        return list(F.normalize(float32_at_least(outputs), dim=1).chunk(len(views)))

    def scores(self, projections: Tensor) -> Tensor:
        """Returns the cosines (N, prototypes) of projections (N, dim) and prototypes.

        They are float32, because they are divided by epsilon and exponentiated.
        """
        with torch.autocast(projections.device.type, enabled=False):
            return self.prototypes(projections)

    @torch.no_grad()
    def push_and_score(self, projections: list[Tensor]) -> list[Tensor] | None:
        """Pushes projections (N, dim) into the queues, and returns the scores of this process's part of the queues.

        Returns None while the queues are not full.
        """
        if self.current_epoch < self.queue_start_epoch:
            return None
        queues = (self.first_queue, self.second_queue)
        remembered = None
        if self.pushed >= self.queue_size:
            parts = [queue.keys.unflatten(0, (world_size(), -1))[rank()] for queue in queues]
            remembered = [self.scores(part) for part in parts]
        for queue, rows in zip(queues, projections):
            queue.push(gather(rows))
        self.pushed += len(projections[0]) * world_size()
        return remembered

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if self.global_step < self.freeze_prototypes_steps:
            self.prototypes.weight.grad = None
