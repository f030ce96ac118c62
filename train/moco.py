"""MoCo v2 (He et al., CVPR 2020; Chen et al., 2020) with a ReActNet of any precision.

S2-BNN's baseline with a binary student; with a real-valued one it makes a teacher.
"""

from copy import deepcopy
from typing import ClassVar

import torch
from torch import Tensor

from edgebnn.errors import UserError
from edgebnn.ssl.losses import info_nce
from edgebnn.ssl.queue import KeyQueue
from train.data import Images
from train.method import Method
from train.optim import OptimizerConfig
from train.student import Student

ADAM = OptimizerConfig(weight_decay=1e-4)


class MoCoV2(Method):
    """Contrasts two views of an image against a queue of other images' keys.

    Args:
        student: the network; its head is the MLP features -> features -> ReLU -> dim.
        optimizer: S2-BNN's: Adam 3e-4, linear decay, weight decay 1e-4.
        dim: size of the outputs compared.
        queue: number of negatives K.
        momentum: m, how slowly the key encoder follows: k <- m k + (1 - m) q, every step.
        temperature: T of the loss.
        key_groups: the keys of a batch are computed in that many random groups, each normalised by its
            own BatchNorm statistics. It is what shuffling over as many devices does in MoCo: without it
            a query tells its key by the statistics of the batch they share.
    """

    views: ClassVar[int] = 2

    def __init__(
        self,
        student: Student,
        optimizer: OptimizerConfig = ADAM,
        dim: int = 128,
        queue: int = 65536,
        momentum: float = 0.999,
        temperature: float = 0.2,
        key_groups: int = 8,
    ) -> None:
        super().__init__(optimizer)
        self.student = student
        self.dim = dim
        self.queue_size = queue
        self.momentum = momentum
        self.temperature = temperature
        self.key_groups = key_groups

    def prepare(self, data: Images) -> None:
        most = data.batch_size // 2
        if not 1 <= self.key_groups <= most:
            raise UserError(f"{self.key_groups} key groups for batches of {data.batch_size}; use 1 to {most}")
        if not 0 <= self.momentum <= 1:
            raise UserError(f"a momentum of {self.momentum} is not from 0 to 1; MoCo v2 has 0.999")
        self.network = self.student.with_projection(self.dim)
        self.network.check_resolution(data.resolution)
        self.key_encoder = deepcopy(self.network).requires_grad_(False)
        self.queue = KeyQueue(self.queue_size, self.dim)

    def training_step(self, batch: tuple[list[Tensor], Tensor]) -> Tensor:
        (query_view, key_view), _ = batch
        self.follow()
        keys = self.encode_keys(key_view)
        # A copy, since the push changes the queue before backward has used it.
        negatives = self.queue.keys.clone()
        loss = info_nce(self.network(query_view), keys, negatives, self.temperature)
        self.queue.push(keys)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    @torch.no_grad()
    def follow(self) -> None:
        """Moves the key encoder's parameters towards the student's; BatchNorm statistics are its own."""
        for key, query in zip(self.key_encoder.parameters(), self.network.parameters()):
            key.lerp_(query, 1 - self.momentum)

    @torch.no_grad()
    def encode_keys(self, images: Tensor) -> Tensor:
        """Keys (N, dim) of images (N, 3, H, W)."""
        order = torch.randperm(len(images), device=images.device)
        groups = images[order].chunk(self.key_groups)
        return torch.cat([self.key_encoder(group) for group in groups])[order.argsort()]
