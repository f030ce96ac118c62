"""BURN (Kim & Choi, CVPR 2022, arXiv 2110.08851), as its abstract describes it.

A frozen real-valued network, the extractor, carries a classifier that starts from random weights. This target
classifier is trained jointly with the binary network. The binary network learns to predict the target classifier's
distribution for another view. A feature similarity loss keeps the two from agreeing on a constant answer.

The paper's equations were not available, and its public code trains nothing (`train.methods.burn_code`).
docs/reference/methods.md lists the source of each part.
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


class ViewOutputs(NamedTuple):
    """The outputs of the student or of the target for one view.

    Attributes:
        features: pooled features (N, width).
        outputs: outputs of the classifier (N, classifier_dim).
    """

    features: Tensor
    outputs: Tensor


class BURN(HeadedMethod):
    """Trains a student, and jointly the target's classifier on a frozen extractor.

    s(v) and t(v) are the outputs of the student's and the target's classifier for view v. f(v) and g(v) are the
    features below them. M is a linear map, and a hat divides a vector by its length. The loss is

        mean_n (1 - l) || M f(v)^ - g(w)^ ||^2 + l KL( softmax(t(w) / T) || softmax(s(v) / T) )

    It is computed for both assignments of v and w to the two views, and the two losses are added.

    Args:
        student: the network. A linear layer as wide as its features and a ReLU follow its pooling, as in BURN's code.
            Both layers are saved with it.
        teacher: checkpoint of the extractor. Its pooled features are used, and its head is not.
        init_checkpoint: `model.safetensors` of stage 1, which has its classifiers beside it, or a file of BURN's public
            code, which holds them. None starts from random weights.
        optimizer: the default is BURN's: Adam 3e-4, 10 epochs of warm-up, then cosine by epoch.
        classifier_dim: width of both classifiers.
        temperature: T of the divergence.
        kl_weight: weight l of the KL divergence at the first and at the last optimizer step. It changes by half a
            cosine.
        teacher_hints: what a published teacher file does not say (docs/reference/checkpoints.md).
        init_checkpoint_hints: the same for `init_checkpoint`.
        weight_init: how convolutions and classifiers start without `init_checkpoint`. kaiming: as in stage 1 of the
            public code. torch: torch's own start, as in the public code's single stage.
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
                "are out of range; "
                "give a classifier_dim of 1 or more, a positive temperature, and a kl_weight from 0 to 1"
            )
        self.extractor = load_teacher(self.teacher_path, data, self.teacher_hints)
        width, target_width = self.student.num_features, self.extractor.num_features
        self.network = self.student.with_head((width,), head_relu=True)
        self.network.check_resolution(data.resolution)
        self.classifier = build_classifier(width, self.classifier_dim)
        self.target_classifier = build_classifier(target_width, self.classifier_dim)
        # The linear layer after pooling keeps torch's own start under both values of `weight_init`.
        convolutions = [layer for layer in self.network.modules() if isinstance(layer, (nn.Conv2d, BinaryConv2d))]
        heads = [*self.classifier, *self.target_classifier]
        draw_weights([*convolutions, *(layer for layer in heads if isinstance(layer, nn.Linear))], self.weight_init)
        # The map is applied to the student. Applied to the target, it could make the target constant.
        self.match = nn.Identity() if width == target_width else nn.Linear(width, target_width, bias=False)
        self.load_initial_state(self.init_checkpoint, data, self.init_checkpoint_hints)

    def synchronised(self) -> tuple[nn.Module, ...]:
        """Returns both classifiers: their BatchNorms always cover the batch of all processes."""
        return (self.classifier, self.target_classifier)

    def training_step(self, batch: tuple[list[Tensor], Tensor]) -> Tensor:
        views, _ = batch
        first, second = (self.student_outputs(view) for view in views)
        target_first, target_second = (self.target_outputs(view) for view in views)
        share = half_cosine(self.progress, *self.kl_weight)
        loss = self.crossing_loss(first, target_second, share) + self.crossing_loss(second, target_first, share)
        self.log("train/balance", share)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def student_outputs(self, images: Tensor) -> ViewOutputs:
        """Returns the student's features and classifier outputs for images (N, 3, H, W)."""
        features = self.network(images)
        return ViewOutputs(features, self.classifier(features))

    def target_outputs(self, images: Tensor) -> ViewOutputs:
        """Returns the target's features and classifier outputs for images (N, 3, H, W).

        A gradient reaches the classifier and not the extractor.
        """
        features = self.extractor.features(images)
        return ViewOutputs(features, self.target_classifier(features))

    def crossing_loss(self, student: ViewOutputs, target: ViewOutputs, share: float) -> Tensor:
        """Returns the loss of one assignment of the views, with `share` as the weight l of the divergence."""
        similar = self.similarity_loss(student, target)
        return (1 - share) * similar + share * divergence(student.outputs, target.outputs, self.temperature)

    def similarity_loss(self, student: ViewOutputs, target: ViewOutputs) -> Tensor:
        """Returns the mean squared distance of the features, each divided by its length."""
        return unit_distance(self.match(student.features), target.features)


def build_classifier(inputs: int, classes: int) -> nn.Sequential:
    """Returns BURN's classifier: linear, BatchNorm, ReLU, linear, all `classes` wide."""
    return nn.Sequential(nn.Linear(inputs, classes), nn.BatchNorm1d(classes), nn.ReLU(), nn.Linear(classes, classes))


def draw_weights(layers: Iterable[nn.Conv2d | BinaryConv2d | nn.Linear], weight_init: WeightInit) -> None:
    """Draws the start weights and biases of the layers, in place.

    n is the number of inputs of one output.

    Args:
        layers: the layers.
        weight_init: kaiming draws weights from N(0, 2 / n) and sets biases to 0. torch draws both uniformly from
            -1 / sqrt(n) to 1 / sqrt(n).
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
