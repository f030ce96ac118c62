"""Supervised training on labels, on a teacher's outputs (ReActNet: Liu et al., ECCV 2020), or on both."""

from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from edgebnn.errors import UserError
from edgebnn.hints import Hints
from edgebnn.ssl.losses import float32_at_least, soft_cross_entropy

from ..data.module import Images
from ..engine.optim import OptimizerConfig
from .base import check_class_order
from .measured import ClassifyingMethod, check_single_label
from .student import Student, load_initial_weights
from .teacher import load_teacher

ADAM = OptimizerConfig(lr=5e-4, decay_on="weights")


class Supervised(ClassifyingMethod):
    """Trains a classifier and measures its accuracy on the held-out images.

        (1 - share) * cross-entropy(labels) + share * cross-entropy(teacher's softmax)

    The second term is `edgebnn.ssl.losses.soft_cross_entropy` (equation 6 of the paper).

    Args:
        student: the network. Its head is a linear classifier.
        teacher: checkpoint of a classifier of the same classes. It stays in eval mode. None trains on labels alone.
        init_checkpoint: checkpoint with the student's start weights (stage 2). None starts from random weights.
        optimizer: the default is ReActNet's: Adam 5e-4, linear decay. Weight decay is on weights alone: 1e-5 in stage 1
            and 0 in stage 2.
        teacher_share: share of the teacher's term in the loss. 1 is ReActNet's distributional loss. It has no effect
            without a teacher.
        teacher_hints: what a published teacher file does not say (docs/reference/checkpoints.md).
        init_checkpoint_hints: the same for `init_checkpoint`.
    """

    external: ClassVar[tuple[str, ...]] = ("teacher.",)
    protocol = "supervised"
    takes_partial: ClassVar[bool] = False

    def __init__(
        self,
        student: Student,
        teacher: str | None = None,
        init_checkpoint: str | None = None,
        optimizer: OptimizerConfig = ADAM,
        teacher_share: float = 1.0,
        teacher_hints: Hints | None = None,
        init_checkpoint_hints: Hints | None = None,
    ) -> None:
        super().__init__(optimizer)
        self.student = student
        self.method = "supervised"
        self.teacher_path = teacher
        self.init_checkpoint = init_checkpoint
        self.teacher_hints = teacher_hints
        self.init_checkpoint_hints = init_checkpoint_hints
        self.teacher_share = teacher_share

    def prepare(self, data: Images) -> None:
        check_single_label(data)
        classes = len(data.labels)
        if not 0 <= self.teacher_share <= 1:
            raise UserError(f"a teacher_share of {self.teacher_share} is not from 0 to 1; ReActNet has 1")
        if self.teacher_path is not None:
            # Another share is another method in records.
            self.method = f"supervised, {self.teacher_share:.0%} teacher's answers"
            self.teacher = load_teacher(self.teacher_path, data, self.teacher_hints)
            if self.teacher.outputs != classes:
                raise UserError(
                    f"teacher {self.teacher_path} has {self.teacher.outputs} outputs, the data have {classes} "
                    "classes; give a classifier trained on them"
                )
        for path, what in ((self.teacher_path, "teacher"), (self.init_checkpoint, "initial checkpoint")):
            if path is not None:
                check_class_order(path, data, f"{what} {path}")
        self.network = self.student.with_head((classes,))
        self.network.check_resolution(data.resolution)
        if self.init_checkpoint is not None:
            load_initial_weights(self.network, self.init_checkpoint, data, self.init_checkpoint_hints)

    def training_step(self, batch: tuple[list[Tensor], Tensor]) -> Tensor:
        (images,), labels = batch
        outputs = self.network(images)
        share = 0.0 if self.teacher_path is None else self.teacher_share
        loss = outputs.new_zeros(())
        if share < 1:
            loss = loss + (1 - share) * F.cross_entropy(float32_at_least(outputs), labels)
        if share > 0:
            loss = loss + share * soft_cross_entropy(outputs, self.teacher(images))
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def origin(self) -> dict[str, Any]:
        """Returns the origin of the network in records: this run trained it, and it comes from no checkpoint."""
        return {"method": self.method, "checkpoint": None, "sha256": None, "pretrained_on": None}
