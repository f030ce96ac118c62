"""S2-BNN's distillation (Shen et al., CVPR 2021): the student imitates a real-valued teacher's outputs.

Distillation only: no queue, no contrastive loss. Step 1 is a student with binary activations and real
weights; step 2 binarises both and starts from step 1 (`init`); one-step training is step 2 without `init`.
"""

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from edgebnn import checkpoint
from edgebnn.errors import UserError
from edgebnn.ssl.losses import distillation
from train.data import Images
from train.method import Method, check_normalisation
from train.optim import OptimizerConfig
from train.student import Student, start_from

ADAM = OptimizerConfig()


class Distill(Method):
    """Trains a student to give the outputs of a frozen teacher for the same view.

    Args:
        student: the network; its head is an MLP as MoCo v2's, with as many outputs as the teacher.
        teacher: the teacher's checkpoint, with its projection head. It stays in eval.
        init: checkpoint to take the student's weights from; None starts at random.
        optimizer: S2-BNN's: Adam 3e-4, linear decay, no weight decay. It starts anew in every step.
        temperature: T of the loss.
    """

    external: ClassVar[tuple[str, ...]] = ("teacher.",)

    def __init__(
        self,
        student: Student,
        teacher: str,
        init: str | None = None,
        optimizer: OptimizerConfig = ADAM,
        temperature: float = 0.2,
    ) -> None:
        super().__init__(optimizer)
        self.student = student
        self.teacher_path = teacher
        self.init = init
        self.temperature = temperature

    def prepare(self, data: Images) -> None:
        found = checkpoint.load(self.teacher_path, what="teacher")
        check_normalisation(found.info, data, "the teacher")
        if len(found.model.config.head) < 2 or found.model.config.head_relu:
            raise UserError(
                f"teacher {self.teacher_path} has no projection head; give the file of its pretraining, "
                "not of its linear evaluation"
            )
        self.teacher = found.model
        # Any network may be a teacher, so its number of outputs is found by asking it.
        with torch.no_grad():
            dim = self.teacher(torch.zeros(1, 3, data.resolution, data.resolution)).shape[1]
        self.network = self.student.with_projection(dim)
        self.network.check_resolution(data.resolution)
        if self.init is not None:
            start_from(self.network, self.init, data)

    def frozen(self) -> Iterable[nn.Module]:
        return (self.teacher,)

    def training_step(self, batch: tuple[list[Tensor], Tensor]) -> Tensor:
        (images,), _ = batch
        with torch.no_grad():
            target = self.teacher(images)
        loss = distillation(self.network(images), target, self.temperature)
        self.log("train/loss", loss, prog_bar=True)
        return loss
