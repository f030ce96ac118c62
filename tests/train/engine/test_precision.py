"""Training in bfloat16: the loss falls, and what is trained stays float32."""

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from edgebnn.train.data.sources import Digits
from edgebnn.train.engine.optim import OptimizerConfig
from edgebnn.train.methods.base import Method
from edgebnn.train.methods.burn import BURN
from edgebnn.train.methods.distill import Distill
from edgebnn.train.methods.moco import MoCoV2
from edgebnn.train.methods.moco_distill import MoCoV2Distill
from tests.train.conftest import BINARY, train_one_step

FAST = OptimizerConfig(lr=3e-3)
METHODS = {
    "Distill": lambda teacher: Distill(BINARY, teacher, optimizer=FAST),
    "MoCoV2": lambda teacher: MoCoV2(BINARY, optimizer=FAST, dim=16, queue_size=64, key_groups=2),
    "MoCoV2Distill": lambda teacher: MoCoV2Distill(BINARY, teacher, optimizer=FAST, queue_size=64, key_groups=2),
    "BURN": lambda teacher: BURN(BINARY, teacher, optimizer=FAST, classifier_dim=16),
}


class Losses(Callback):
    """Keeps every loss, and the types that the first convolution gave."""

    def __init__(self) -> None:
        self.losses: list[torch.Tensor] = []
        self.types: set[torch.dtype] = set()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.network.stem.register_forward_hook(lambda module, inputs, outputs: self.types.add(outputs.dtype))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(outputs["loss"])


@pytest.mark.parametrize("name", METHODS)
def test_bfloat16_trains_float32_weights(name: str, teacher: str, digits: Digits) -> None:
    method: Method = METHODS[name](teacher)
    method.prepare(digits)
    seen = Losses()
    train_one_step(method, digits, precision="bf16-mixed", max_steps=16, callbacks=[seen])
    assert seen.types == {torch.bfloat16}
    assert {loss.dtype for loss in seen.losses} == {torch.float32}
    losses = torch.stack(seen.losses)
    assert losses.isfinite().all()
    if name in ("Distill", "BURN"):
        # Of the others the queue's content, so the task, changes in so few steps.
        assert losses[-4:].mean() < losses[:4].mean()
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    assert {parameter.dtype for parameter in trained} == {torch.float32}
    # More digits than bfloat16 has: the optimiser's steps are not rounded away.
    weight = method.network.stem.weight
    assert not torch.equal(weight.bfloat16().float(), weight)
