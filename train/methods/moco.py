"""MoCo v2 (He et al., CVPR 2020; Chen et al., 2020) with a binary or a real-valued network.

With a binary student it is S2-BNN's baseline, and with other settings S2-BNN's enhanced MoCo v2. With a real-valued
network it trains a teacher.
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
from .student import Student, duplicate, load_initial_weights

SGD = OptimizerConfig(name="sgd", lr=0.03, weight_decay=1e-4, schedule="cosine")


class MoCoV2(Method):
    """Trains a network to find the other view of an image among the keys of other images, which a queue holds.

    The loss is `edgebnn.ssl.losses.info_nce` (equation 1 of He et al.).

    Args:
        student: the network. Its head is the MLP features -> features -> ReLU -> dim.
        init_checkpoint: checkpoint with the student's start weights (stage 2). None starts from random weights.
        optimizer: the default is MoCo v2's: SGD 0.03, momentum 0.9, weight decay 1e-4, cosine by epoch.
        dim: width of the outputs that are compared.
        queue_size: number of negatives K, a multiple of the batch.
        momentum: m of the key encoder's moving average: k <- m k + (1 - m) q after every optimizer step.
        temperature: T of the loss.
        key_groups: number of random groups in which the keys of a batch are computed. Each group has its own BatchNorm
            statistics. MoCo gets the same effect by shuffling a batch over as many GPUs. Without it, a query could
            recognise its key by the BatchNorm statistics of their common batch. Processes share the groups, so keys
            and queue are equal for every number of processes that divides the groups.
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
        check_key_groups(self.key_groups, data.batch_size)
        self.network = self.student.with_projection(self.dim)
        self.network.check_resolution(data.resolution)
        if self.init_checkpoint is not None:
            load_initial_weights(self.network, self.init_checkpoint, data, self.init_checkpoint_hints)
        self.key_encoder = build_key_encoder(self.network)
        self.queue = KeyQueue(self.queue_size, self.dim)

    def unsynchronised(self) -> tuple[nn.Module, ...]:
        """Returns the key encoder: its BatchNorms stay local to each process."""
        return (self.key_encoder,)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        data: Images = self.trainer.datamodule  # type: ignore[attr-defined]
        check_key_groups(self.key_groups, data.batch_size, self.trainer.accumulate_grad_batches, world_size())

    def training_step(self, batch: tuple[list[Tensor], Tensor]) -> Tensor:
        (query_view, key_view), _ = batch
        loss = self.contrast(self.network(query_view), key_view)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def contrast(self, queries: Tensor, key_view: Tensor) -> Tensor:
        """Returns the InfoNCE loss of one view and pushes the keys of the other view into the queue.

        Args:
            queries: the student's outputs (N, dim) for the first view.
            key_view: images (N, 3, H, W) of the other view.
        """
        keys = self.encode_keys(key_view)
        # A copy, because `push` changes the queue before the backward pass has used it.
        negatives = self.queue.keys.clone()
        self.queue.push(keys)
        own = keys.unflatten(0, (world_size(), len(queries)))[rank()]
        return info_nce(queries, own, negatives, self.temperature)

    @torch.no_grad()
    def encode_keys(self, images: Tensor) -> Tensor:
        """Returns the keys (world_size * N, dim) of the images of all processes.

        Args:
            images: the images (N, 3, H, W) of this process.
        """
        images = gather(images)
        order = torch.randperm(len(images), generator=self.generator()).to(images.device)
        shared = self.key_groups // world_size()
        mine = order.unflatten(0, (world_size(), shared, -1))[rank()]
        keys = [self.key_encoder(images[group].contiguous(memory_format=torch.channels_last)) for group in mine]
        return gather(torch.cat(keys))[order.argsort()]

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        # Once per optimizer step, even if its gradient comes from several accumulated batches. MoCo's code updates
        # before the next step's forward pass, which has the same result.
        super().optimizer_step(*args, **kwargs)
        follow(self.key_encoder, self.network, self.momentum)


def build_key_encoder(network: Network) -> Network:
    """Returns a copy of `network` without gradients and without running statistics in its BatchNorms.

    Keys are always normalised by the statistics of their group, so nothing would read the running statistics. They
    would also differ between processes, because each process has its own groups.
    """
    copied = duplicate(network)
    for norm in copied.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.track_running_stats = False
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None
    return copied.requires_grad_(False)


def check_key_groups(groups: int, batch: int, accumulated: int = 1, processes: int = 1) -> None:
    """Checks that keys can be computed in groups of equal size, with two images or more per group.

    Args:
        groups: number of groups.
        batch: images per optimizer step.
        accumulated: accumulated batches per optimizer step.
        processes: processes that share the groups.

    Raises:
        UserError: the images do not divide into such groups.
    """
    at_once = batch // accumulated
    fitting = [n for n in range(processes, at_once // 2 + 1, processes) if at_once % n == 0]
    if groups not in fitting:
        raise UserError(
            f"{groups} key groups do not divide {at_once} images and {processes} process(es) evenly, two or more "
            f"per group; use model.key_groups {', '.join(map(str, fitting)) or 'of another data.batch_size'}"
        )
