"""Linear evaluation: how well a linear classifier on frozen features does."""

from collections.abc import Iterable
from dataclasses import replace

from torch import nn

from edgebnn.errors import UserError
from edgebnn.hints import Hints
from edgebnn.nn import Network

from ..data.sources import Images
from ..engine.optim import OptimizerConfig
from ..methods.student import Student
from .base import Classification

SGD = OptimizerConfig(name="sgd", lr=0.1, schedule="steps", milestones=(60, 80))
BURN_SGD = OptimizerConfig(name="sgd", lr=0.01, schedule="steps", milestones=(60, 80))


class LinearEvaluation(Classification):
    """Trains a linear classifier on a frozen network and measures its accuracy (MoCo's strict protocol).

    The backbone is frozen and in eval, so neither its weights nor its BatchNorm statistics move; the
    head it was trained with is dropped; the classifier's weights start as N(0, 0.01).

    Args:
        checkpoint, student, method, checkpoint_hints: as `Evaluation` has them.
        optimizer: S2-BNN's: SGD 0.1, momentum 0.9, a tenth of it from epoch 60 and again from 80.
    """

    protocol = "linear, frozen features"

    def __init__(
        self,
        checkpoint: str | None = None,
        student: Student | None = None,
        optimizer: OptimizerConfig = SGD,
        method: str = "unknown",
        checkpoint_hints: Hints | None = None,
    ) -> None:
        super().__init__(checkpoint, student, optimizer, method, checkpoint_hints)

    def prepare(self, data: Images) -> None:
        self.network = with_classifier(self.backbone(data), len(data.labels))
        self.network.requires_grad_(False).head.requires_grad_(True)

    def frozen(self) -> Iterable[nn.Module]:
        return (self.network,)


class BurnLinearEvaluation(LinearEvaluation):
    """Linear evaluation as BURN's public code does it: its extra layer after pooling is trained as well.

    The backbone is frozen and in eval. BURN's layer (features -> as many, ReLU) keeps the weights of
    its pretraining and is trained together with the classifier, so this is a classifier of two layers:
    its accuracy is not to be set against the strict protocol's.

    Args:
        checkpoint, method, checkpoint_hints: as `Evaluation` has them.
        optimizer: BURN's: SGD 0.01, momentum 0.9, a tenth of it from epoch 60 and again from 80.
    """

    protocol = "linear, BURN's fc trained"

    def __init__(
        self,
        checkpoint: str,
        optimizer: OptimizerConfig = BURN_SGD,
        method: str = "unknown",
        checkpoint_hints: Hints | None = None,
    ) -> None:
        super().__init__(checkpoint, None, optimizer, method, checkpoint_hints)

    def prepare(self, data: Images) -> None:
        found = self.backbone(data)
        assert self.found is not None  # it takes no untrained student
        # A published file of BURN's linear evaluation has the layer and a classifier, its pretraining the layer alone.
        alone = len(found.config.head) == 1 and found.config.head_relu
        if not alone and not (self.found.layout == "burn" and len(found.config.head) == 2):
            raise UserError(
                f"checkpoint {self.checkpoint} has no fc of BURN's (its head is {list(found.config.head)}); "
                "give a checkpoint of Burn's pretraining, or use LinearEvaluation"
            )
        self.network = with_classifier(found, len(data.labels), keep=found.config.head[:1])
        self.network.requires_grad_(False).head.requires_grad_(True)


def with_classifier(network: Network, classes: int, keep: tuple[int, ...] = ()) -> Network:
    """A copy of `network` whose head is a new linear layer with `classes` outputs.

    Args:
        network: its backbone is kept.
        classes: outputs of the new layer; its weights start as N(0, 0.01), its bias as 0.
        keep: widths of the first layers of the head that stay before it, with a ReLU after each.
    """
    result = type(network)(replace(network.config, head=(*keep, classes), head_relu=False))
    # Layers and ReLUs take turns in a head.
    new = f"head.{2 * len(keep)}."
    kept = {key for key in result.state_dict() if not key.startswith(new)}
    result.load_state_dict(
        {**result.state_dict(), **{key: value for key, value in network.state_dict().items() if key in kept}}
    )
    classifier = result.head[-1]
    assert isinstance(classifier, nn.Linear)
    nn.init.normal_(classifier.weight, std=0.01)
    nn.init.zeros_(classifier.bias)
    return result
