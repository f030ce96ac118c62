"""Linear evaluation: the accuracy of a linear classifier on frozen features."""

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

    The backbone is frozen and in eval mode, so its weights and BatchNorm statistics do not change. The head of the
    pretraining is dropped. The classifier's weights start as N(0, 0.01^2).

    Args:
        checkpoint: the network to evaluate, binary or real-valued. None for the untrained baseline.
        student: shape of the untrained network, in place of a checkpoint.
        optimizer: the default is S2-BNN's: SGD 0.1, momentum 0.9, times 0.1 at epochs 60 and 80.
        method: how the network was trained, for the record.
        checkpoint_hints: what a published checkpoint does not say (docs/reference/checkpoints.md).
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
    """Linear evaluation as in BURN's public code: it also trains BURN's extra layer after pooling.

    The backbone is frozen and in eval mode. BURN's layer (features -> features, ReLU) keeps its weights from
    pretraining and is trained together with the classifier. The result is a classifier of two layers, so its accuracy
    must not be compared with the strict protocol's.

    Args:
        checkpoint: the network to evaluate. It must have BURN's layer.
        optimizer: the default is BURN's: SGD 0.01, momentum 0.9, times 0.1 at epochs 60 and 80.
        method: how the network was trained, for the record.
        checkpoint_hints: what a published checkpoint does not say (docs/reference/checkpoints.md).
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
        # BURN's files of pretraining have the layer alone. Its files of linear evaluation also have a classifier.
        alone = len(found.config.head) == 1 and found.config.head_relu
        if not alone and not (self.found.layout == "burn" and len(found.config.head) == 2):
            raise UserError(
                f"checkpoint {self.checkpoint} has no fc layer of BURN (its head is {list(found.config.head)}); "
                "give a checkpoint of BURN's pretraining, or use LinearEvaluation"
            )
        self.network = with_classifier(found, len(data.labels), keep=found.config.head[:1])
        self.network.requires_grad_(False).head.requires_grad_(True)


def with_classifier(network: Network, classes: int, keep: tuple[int, ...] = ()) -> Network:
    """Returns a copy of `network` whose head ends in a new linear layer.

    Args:
        network: the network. The copy has its backbone.
        classes: number of outputs. The weights start as N(0, 0.01^2), the bias as 0.
        keep: widths of the first layers of the old head that stay before the new layer, with a ReLU after each.
    """
    result = type(network)(replace(network.config, head=(*keep, classes), head_relu=False))
    # Linear layers and ReLUs alternate in a head.
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
