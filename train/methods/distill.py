"""S2-BNN's distillation (Shen et al., CVPR 2021): the student imitates the outputs of a real-valued teacher.

This is S2-BNN's method without a queue and without a contrastive loss. Stage 1 trains a student with binary activations
and real-valued weights. Stage 2 binarises both and starts from stage 1 (`init_checkpoint`). Training in one stage is
stage 2 without `init_checkpoint`.
"""

from typing import ClassVar

from torch import Tensor

from edgebnn.errors import check
from edgebnn.hints import Hints
from edgebnn.ssl.losses import distillation

from ..data.sources import Images
from ..engine.optim import OptimizerConfig
from .base import Method
from .student import Student, load_initial_weights
from .teacher import load_teacher

ADAM = OptimizerConfig()


class Distill(Method):
    """Trains a student to predict the outputs of a frozen teacher for the same view.

    The loss is `edgebnn.ssl.losses.distillation` (section 3.3 of the paper).

    Args:
        student: the network. Its head is MoCo v2's MLP, with as many outputs as the teacher.
        teacher: the teacher's checkpoint, with its projection head. The teacher stays in eval mode.
        init_checkpoint: checkpoint with the student's start weights. None starts from random weights.
        optimizer: the default is S2-BNN's: Adam 3e-4, linear decay, no weight decay. It starts anew in every stage.
        temperature: T of the loss.
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
        temperature: float = 0.2,
        teacher_hints: Hints | None = None,
        init_checkpoint_hints: Hints | None = None,
    ) -> None:
        super().__init__(optimizer)
        self.student = student
        self.teacher_path = teacher
        self.init_checkpoint = init_checkpoint
        self.teacher_hints = teacher_hints
        self.init_checkpoint_hints = init_checkpoint_hints
        self.temperature = temperature

    def prepare(self, data: Images) -> None:
        check(self.temperature > 0, f"a temperature of {self.temperature} is not positive; S2-BNN has 0.2")
        self.teacher = load_teacher(self.teacher_path, data, self.teacher_hints, projection=True)
        self.network = self.student.with_projection(self.teacher.outputs)
        self.network.check_resolution(data.resolution)
        if self.init_checkpoint is not None:
            load_initial_weights(self.network, self.init_checkpoint, data, self.init_checkpoint_hints)

    def training_step(self, batch: tuple[list[Tensor], Tensor]) -> Tensor:
        (images,), _ = batch
        loss = distillation(self.network(images), self.teacher(images), self.temperature)
        self.log("train/loss", loss, prog_bar=True)
        return loss
