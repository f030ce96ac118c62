"""S2-BNN's MoCo v2 with distillation (Shen et al., CVPR 2021): the sum of the contrastive and the distillation loss."""

from typing import ClassVar

from torch import Tensor

from edgebnn.hints import Hints
from edgebnn.ssl.losses import distillation

from ..data.sources import Images
from ..engine.optim import OptimizerConfig
from .moco import MoCoV2
from .student import Student
from .teacher import load_teacher

ADAM = OptimizerConfig()


class MoCoV2Distill(MoCoV2):
    """Trains by MoCo v2's loss, and by the distillation loss from a frozen teacher for the query's view.

    Args:
        student: the network. Its head is MoCo v2's MLP, with as many outputs as the teacher.
        teacher: the teacher's checkpoint, with its projection head. The teacher stays in eval mode and has no queue.
        init_checkpoint: checkpoint with the student's start weights (stage 2). None starts from random weights.
        optimizer: the default is S2-BNN's: Adam 3e-4, linear decay, no weight decay.
        queue_size: number of negatives K, a multiple of the batch.
        momentum: m of the key encoder's moving average, as for `MoCoV2`.
        temperature: T of both losses.
        key_groups: number of random groups in which the keys of a batch are computed, as for `MoCoV2`.
        teacher_hints: what a published teacher file does not say (docs/reference/checkpoints.md).
        init_checkpoint_hints: the same for `init_checkpoint`.
    """

    external: ClassVar[tuple[str, ...]] = ("teacher.",)

    def __init__(
        self,
        student: Student,
        teacher: str,
        init_checkpoint: str | None = None,
        optimizer: OptimizerConfig = ADAM,
        queue_size: int = 65536,
        momentum: float = 0.999,
        temperature: float = 0.2,
        key_groups: int = 8,
        teacher_hints: Hints | None = None,
        init_checkpoint_hints: Hints | None = None,
    ) -> None:
        super().__init__(
            student,
            init_checkpoint=init_checkpoint,
            optimizer=optimizer,
            queue_size=queue_size,
            momentum=momentum,
            temperature=temperature,
            key_groups=key_groups,
            init_checkpoint_hints=init_checkpoint_hints,
        )
        self.teacher_path = teacher
        self.teacher_hints = teacher_hints

    def prepare(self, data: Images) -> None:
        self.teacher = load_teacher(self.teacher_path, data, self.teacher_hints, projection=True)
        self.dim = self.teacher.outputs
        super().prepare(data)

    def training_step(self, batch: tuple[list[Tensor], Tensor]) -> Tensor:
        (query_view, key_view), _ = batch
        outputs = self.network(query_view)
        contrastive = self.contrast(outputs, key_view)
        imitation = distillation(outputs, self.teacher(query_view), self.temperature)
        loss = contrastive + imitation
        self.log_dict({"train/contrastive": contrastive, "train/distillation": imitation})
        self.log("train/loss", loss, prog_bar=True)
        return loss
