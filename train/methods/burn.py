"""BURN (Kim & Choi, CVPR 2022, arXiv 2110.08851), as its abstract describes it.

A randomly initialised classifier on a frozen real-valued extractor is trained jointly with the binary network. The
network learns to predict that classifier's distribution for another view. A feature similarity loss keeps the two from
agreeing on a constant answer. The paper's equations were not at hand, and its public code trains nothing
(`train.methods.burn_code`). docs/reference/methods.md says which part comes from which source.
"""

from collections.abc import Iterable
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from edgebnn.errors import UserError
from edgebnn.hints import Hints
from edgebnn.nn.layers import BinaryConv2d
from edgebnn.ssl.losses import divergence, unit_distance
from edgebnn.ssl.schedules import half_cosine

from ..data.sources import Images
from ..engine.optim import OptimizerConfig
from .heads import HeadedMethod
from .student import Student
from .teacher import load_teacher

WeightInit = Literal["kaiming", "torch"]

ADAM = OptimizerConfig(schedule="cosine", warmup_epochs=10, warmup_start_factor=1e-4)


class Seen(NamedTuple):
    """What one side makes of a view: features (N, width), and the outputs (N, classes) of its classifier."""

    features: Tensor
    outputs: Tensor


class BURN(HeadedMethod):
    """Trains a student and, jointly, the target's classifier on a frozen extractor.

    With s(v) and t(v) the student's and the target's classifier outputs for view v, f and g the features
    below them, M a linear map and hats for length 1, the loss is

        mean_n (1 - l) || M f(v)^ - g(w)^ ||^2 + l KL( softmax(t(w) / T) || softmax(s(v) / T) )

    for both ways of taking v and w from the two views, added.

    Args:
        student: the network; a linear layer of its features' width and a ReLU follow its pooling, as in
            BURN's code, and leave training with it.
        teacher: checkpoint of the extractor; its pooled features are used, its head is not.
        init_checkpoint: `model.safetensors` of stage 1, which has its classifiers beside it, or a file of BURN's public
            code, which holds them. None starts from random weights.
        optimizer: BURN's: Adam 3e-4, cosine by epoch, after 10 epochs of warm-up.
        classifier_dim: width of both classifiers.
        temperature: T of the divergence.
        kl_weight: l at the first and at the last step; it moves by half a cosine.
        teacher_hints: what the teacher's file, if it is a published one, does not say (docs/reference/checkpoints.md).
        init_checkpoint_hints: the same of `init_checkpoint`.
        weight_init: how convolutions and classifiers start without `init_checkpoint`. kaiming: as in stage 1 of the public
            code. torch: torch's own start, as in its single stage, which skips the code's initialisation.
    """

    views: ClassVar[int] = 2
    external: ClassVar[tuple[str, ...]] = ("extractor.",)
    heads: ClassVar[tuple[str, ...]] = ("classifier", "target_classifier", "match")
    unpublished: ClassVar[tuple[str, ...]] = ("match",)

    def __init__(
        self,
        student: Student,
        teacher: str,
        init_checkpoint: str | None = None,
        optimizer: OptimizerConfig = ADAM,
        classifier_dim: int = 2000,
        temperature: float = 0.2,
        kl_weight: tuple[float, float] = (0.1, 0.3),
        teacher_hints: Hints | None = None,
        init_checkpoint_hints: Hints | None = None,
        weight_init: WeightInit = "kaiming",
    ) -> None:
        super().__init__(optimizer)
        self.student = student
        self.teacher_path = teacher
        self.init_checkpoint = init_checkpoint
        self.teacher_hints = teacher_hints
        self.init_checkpoint_hints = init_checkpoint_hints
        self.classifier_dim = classifier_dim
        self.temperature = temperature
        self.kl_weight = kl_weight
        self.weight_init = weight_init

    def prepare(self, data: Images) -> None:
        if not (self.classifier_dim >= 1 and self.temperature > 0 and all(0 <= share <= 1 for share in self.kl_weight)):
            raise UserError(
                f"classifier_dim {self.classifier_dim}, temperature {self.temperature}, kl_weight {self.kl_weight} "
                "make no loss; "
                "give 1 class or more, a positive temperature, and a balance from 0 to 1"
            )
        self.extractor = load_teacher(self.teacher_path, data, self.teacher_hints)
        width, target_width = self.student.num_features, self.extractor.num_features
        self.network = self.student.with_head((width,), head_relu=True)
        self.network.check_resolution(data.resolution)
        self.classifier = classifier(width, self.classifier_dim)
        self.target_classifier = classifier(target_width, self.classifier_dim)
        # The layer after pooling starts as torch has it in both.
        convolutions = [layer for layer in self.network.modules() if isinstance(layer, (nn.Conv2d, BinaryConv2d))]
        heads = [*self.classifier, *self.target_classifier]
        draw_weights([*convolutions, *(layer for layer in heads if isinstance(layer, nn.Linear))], self.weight_init)
        # From the student to the target: the other way round the map could make the target constant.
        self.match = nn.Identity() if width == target_width else nn.Linear(width, target_width, bias=False)
        self.start_from(self.init_checkpoint, data, self.init_checkpoint_hints)

    def synchronised(self) -> tuple[nn.Module, ...]:
        """Modules whose BatchNorms see the whole batch, whatever the trainer's setting."""
        return (self.classifier, self.target_classifier)

    def training_step(self, batch: tuple[list[Tensor], Tensor]) -> Tensor:
        views, _ = batch
        first, second = (self.see(view) for view in views)
        target_first, target_second = (self.aim(view) for view in views)
        share = half_cosine(self.progress, *self.kl_weight)
        loss = self.compare(first, target_second, share) + self.compare(second, target_first, share)
        self.log("train/kl_weight", share)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def see(self, images: Tensor) -> Seen:
        """The student's view of images (N, 3, H, W)."""
        features = self.network(images)
        return Seen(features, self.classifier(features))

    def aim(self, images: Tensor) -> Seen:
        """The target's view of images (N, 3, H, W); a gradient reaches its classifier."""
        features = self.extractor.features(images)
        return Seen(features, self.target_classifier(features))

    def compare(self, student: Seen, target: Seen, share: float) -> Tensor:
        """The loss of one crossing, the divergence weighing `share` of it."""
        similar = self.dissimilarity(student, target)
        return (1 - share) * similar + share * divergence(student.outputs, target.outputs, self.temperature)

    def dissimilarity(self, student: Seen, target: Seen) -> Tensor:
        """Squared distance of the features, each of length 1."""
        return unit_distance(self.match(student.features), target.features)


def classifier(inputs: int, classes: int) -> nn.Sequential:
    """BURN's classifier: linear, BatchNorm, ReLU, linear, all `classes` wide."""
    return nn.Sequential(nn.Linear(inputs, classes), nn.BatchNorm1d(classes), nn.ReLU(), nn.Linear(classes, classes))


def draw_weights(layers: Iterable[nn.Conv2d | BinaryConv2d | nn.Linear], weight_init: WeightInit) -> None:
    """Draws the weights and biases that the layers start with; n inputs meet in an output.

    kaiming: weights from N(0, 2 / n), biases 0. torch: both uniform within 1 / sqrt(n).
    """
    for layer in layers:
        biases = [tensor for name, tensor in layer.named_parameters() if name == "bias"]
        if weight_init == "kaiming":
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            for bias in biases:
                nn.init.zeros_(bias)
        else:
            bound = layer.weight[0].numel() ** -0.5
            for tensor in (layer.weight, *biases):
                nn.init.uniform_(tensor, -bound, bound)
