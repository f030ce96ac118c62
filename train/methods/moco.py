"""MoCo v2 (He et al., CVPR 2020; Chen et al., 2020) with a network of any kind and precision.

S2-BNN's baseline with a binary student, and with other settings its enhanced MoCo v2; with a real-valued
network it makes a teacher.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from edgebnn.errors import UserError, check
from edgebnn.hints import Hints
from edgebnn.nn import Network
from edgebnn.ssl.losses import info_nce
from edgebnn.ssl.momentum import follow
from edgebnn.ssl.queue import KeyQueue, check_queue

from ..data.sources import Images
from ..engine.optim import OptimizerConfig
from ..parallel.distributed import gather, rank, world_size
from .base import Method
from .student import Student, duplicate, start_from

SGD = OptimizerConfig(name="sgd", lr=0.03, weight_decay=1e-4, schedule="cosine")


class MoCoV2(Method):
    """Contrasts two views of an image against a queue of other images' keys.

    Args:
        student: the network; its head is the MLP features -> features -> ReLU -> dim.
        init_checkpoint: checkpoint to take the student's weights from (step 2); None starts at random.
        optimizer: MoCo v2's: SGD 0.03, momentum 0.9, weight decay 1e-4, cosine by epoch.
        dim: size of the outputs compared.
        queue_size: number of negatives K; a multiple of the batch.
        momentum: m, how slowly the key encoder follows: k <- m k + (1 - m) q, every step.
        temperature: T of the loss.
        key_groups: the keys of a batch are computed in that many random groups, each normalised by its
            own BatchNorm statistics. It is what shuffling over as many devices does in MoCo: without it
            a query tells its key by the statistics of the batch they share. Processes share the groups
            out, so keys and queue are the same for any number of them that divides the groups.
        init_checkpoint_hints: what a published `init_checkpoint` does not say (docs/reference/checkpoints.md).
    """

    views: ClassVar[int] = 2

    def __init__(
        self,
        student: Student,
        init_checkpoint: str | None = None,
        optimizer: OptimizerConfig = SGD,
        dim: int = 128,
        queue_size: int = 65536,
        momentum: float = 0.999,
        temperature: float = 0.2,
        key_groups: int = 8,
        init_checkpoint_hints: Hints | None = None,
    ) -> None:
        super().__init__(optimizer)
        self.student = student
        self.init_checkpoint = init_checkpoint
        self.init_checkpoint_hints = init_checkpoint_hints
        self.dim = dim
        self.queue_size = queue_size
        self.momentum = momentum
        self.temperature = temperature
        self.key_groups = key_groups

    def prepare(self, data: Images) -> None:
        check(0 <= self.momentum <= 1, f"a momentum of {self.momentum} is not from 0 to 1; MoCo v2 has 0.999")
        check(self.temperature > 0, f"a temperature of {self.temperature} is not positive; MoCo v2 has 0.2")
        check_queue(self.queue_size, data.batch_size)
        check_groups(self.key_groups, data.batch_size)
        self.network = self.student.with_projection(self.dim)
        self.network.check_resolution(data.resolution)
        if self.init_checkpoint is not None:
            start_from(self.network, self.init_checkpoint, data, self.init_checkpoint_hints)
        self.key_encoder = key_encoder_of(self.network)
        self.queue = KeyQueue(self.queue_size, self.dim)

    def unsynchronised(self) -> tuple[nn.Module, ...]:
        """Modules whose BatchNorms stay each process' own."""
        return (self.key_encoder,)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        data: Images = self.trainer.datamodule  # type: ignore[attr-defined]
        check_groups(self.key_groups, data.batch_size, self.trainer.accumulate_grad_batches, world_size())

    def training_step(self, batch: tuple[list[Tensor], Tensor]) -> Tensor:
        (query_view, key_view), _ = batch
        loss = self.contrast(self.network(query_view), key_view)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def contrast(self, queries: Tensor, key_view: Tensor) -> Tensor:
        """InfoNCE of the student's outputs (N, dim) for one view; the other view's keys join the queue."""
        keys = self.encode_keys(key_view)
        # A copy, since the push changes the queue before backward has used it.
        negatives = self.queue.keys.clone()
        self.queue.push(keys)
        own = keys.unflatten(0, (world_size(), len(queries)))[rank()]
        return info_nce(queries, own, negatives, self.temperature)

    @torch.no_grad()
    def encode_keys(self, images: Tensor) -> Tensor:
        """Keys (world_size * N, dim) of all processes' images, each process giving its (N, 3, H, W)."""
        images = gather(images)
        order = torch.randperm(len(images), generator=self.generator()).to(images.device)
        shared = self.key_groups // world_size()
        mine = order.unflatten(0, (world_size(), shared, -1))[rank()]
        keys = [self.key_encoder(images[group].contiguous(memory_format=torch.channels_last)) for group in mine]
        return gather(torch.cat(keys))[order.argsort()]

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        # Once a step, however many batches its gradient comes from. MoCo's code has it before the next step's
        # forward pass, which is the same.
        super().optimizer_step(*args, **kwargs)
        follow(self.key_encoder, self.network, self.momentum)


def key_encoder_of(network: Network) -> Network:
    """A copy of `network` that no gradient reaches, and whose BatchNorms keep no running statistics.

    Keys are normalised by their own group's statistics always, so nothing would read the running ones; and as
    each process sees its own groups, they would differ from process to process.
    """
    copied = duplicate(network)
    for norm in copied.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.track_running_stats = False
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None
    return copied.requires_grad_(False)


def check_groups(groups: int, batch: int, accumulated: int = 1, processes: int = 1) -> None:
    """Raises `UserError` unless keys can be computed in that many groups of equal size, two images at least.

    Args:
        groups: number of groups of what is computed at once.
        batch: images of an optimiser step.
        accumulated: times a step's gradient is gathered from.
        processes: that share the groups out.
    """
    at_once = batch // accumulated
    fitting = [n for n in range(processes, at_once // 2 + 1, processes) if at_once % n == 0]
    if groups not in fitting:
        raise UserError(
            f"{groups} key groups do not share out {at_once} images at once over {processes} process(es), two or more "
            f"a group; use model.key_groups {', '.join(map(str, fitting)) or 'of another data.batch_size'}"
        )
