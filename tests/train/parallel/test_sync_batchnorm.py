"""BatchNorm over two processes against torch's own over the whole batch in one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn

from edgebnn.train.parallel.sync_batchnorm import BatchNormSync, SyncBatchNorm

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "1d": lambda: nn.BatchNorm1d(5),
    "2d": lambda: nn.BatchNorm2d(5),
    "average": lambda: nn.BatchNorm2d(5, momentum=None, eps=0.1),
    "plain": lambda: nn.BatchNorm2d(5, affine=False, track_running_stats=False),
}
BATCHES, ROWS = 2, 12
Found = dict[str, torch.Tensor]


class Model(nn.Module):
    """Several layers; one stays each process' own."""

    def __init__(self, layer: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.norm = layer()
        self.own = nn.Sequential(layer())

    def unsynchronised(self) -> tuple[nn.Module, ...]:
        return (self.own,)


def images(name: str) -> torch.Tensor:
    """Batches (BATCHES, ROWS, 5, ...) whose halves differ, far from zero in the mean."""
    shape = (BATCHES, ROWS, 5) if name == "1d" else (BATCHES, ROWS, 5, 3, 2)
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drawn[:, ROWS // 2 :] *= 3
    return drawn + 100


def through(norm: nn.Module, batches: torch.Tensor, targets: torch.Tensor) -> Found:
    """What accumulated batches leave: outputs, gradients of inputs and parameters, buffers."""
    batches = batches.clone().requires_grad_()
    outputs = torch.stack([norm(batch) for batch in batches])
    # A mean over images, as every loss here.
    ((outputs * targets).sum() / outputs.shape[1]).backward()
    assert batches.grad is not None
    gradients = {f"grad {name}": parameter.grad for name, parameter in norm.named_parameters()}
    norm.eval()
    return {
        "outputs": outputs.detach(),
        "inputs": batches.grad,
        "evaluated": norm(batches[0]).detach(),
        **{name: gradient.clone() for name, gradient in gradients.items() if gradient is not None},
        **{name: buffer.clone() for name, buffer in norm.named_buffers()},
    }


def work(rank: int, folder: str) -> None:
    """A process: half of each batch through every layer."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = {}
    for name, layer in LAYERS.items():
        model = Model(layer).double()
        norm, own = model.norm, model.own[0]
        plugin = BatchNormSync(everywhere=True)
        plugin.apply(model)
        assert isinstance(model.norm, SyncBatchNorm)
        assert model.own[0] is own
        half = slice(rank * ROWS // 2, (rank + 1) * ROWS // 2)
        data = images(name)
        found[name] = through(model.norm, data[:, half], data[:, half].cos())
        if name == "2d":
            low = data[0, half].bfloat16()
            model.norm.float().train()
            found[name]["bfloat16"] = model.norm(low)
        plugin.revert(model)
        assert model.norm is norm
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Found]]:
    folder = tmp_path_factory.mktemp("halves")
    multiprocessing.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", LAYERS)
def test_two_processes_equal_one(halves: list[dict[str, Found]], name: str) -> None:
    norm = LAYERS[name]().double()
    data = images(name)
    whole = through(norm, data, data.cos())
    one, other = (half[name] for half in halves)
    exact = {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(torch.cat([one["outputs"], other["outputs"]], dim=1), whole["outputs"], **exact)
    # Each half's loss is a mean over half the images: twice the gradient for its own rows, the mean of both for
    # the parameters, as DistributedDataParallel takes it.
    torch.testing.assert_close(torch.cat([one["inputs"], other["inputs"]], dim=1) / 2, whole["inputs"], **exact)
    compared = {"outputs", "inputs"}
    for key in whole.keys() - {"outputs", "inputs", "evaluated"}:
        found = (one[key] + other[key]) / 2 if key.startswith("grad") else one[key]
        torch.testing.assert_close(found, whole[key], msg=lambda text, key=key: f"{key}: {text}", **exact)
        compared.add(key)
    expected = {"1d": 7, "2d": 7, "average": 7, "plain": 2}
    assert len(compared) == expected[name]
    if name != "plain":
        torch.testing.assert_close(other["running_var"], one["running_var"], rtol=0, atol=0)
        evaluated = norm(data[0, : ROWS // 2])
        torch.testing.assert_close(one["evaluated"], evaluated.detach(), **exact)


def test_low_precision_sums_are_not_low(halves: list[dict[str, Found]]) -> None:
    low = images("2d")[0].bfloat16()
    expected = nn.BatchNorm2d(5)(low.float())
    found = torch.cat([half["2d"]["bfloat16"] for half in halves])
    assert found.dtype == torch.bfloat16
    # Weight and bias are still 1 and 0; half a unit of bfloat16's eight bits is lost at the end.
    torch.testing.assert_close(found.float(), expected.detach(), rtol=2**-8, atol=1e-6)


def test_alone_it_is_batch_norm() -> None:
    batch = images("2d")[0]
    ours, theirs = SyncBatchNorm(5).double(), nn.BatchNorm2d(5).double()
    torch.testing.assert_close(ours(batch), theirs(batch), rtol=0, atol=0)
    torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=0, atol=0)


def test_a_method_says_what_is_always_synchronised() -> None:
    class Burn(Model):
        def synchronised(self) -> tuple[nn.Module, ...]:
            return (self.norm,)

    model = Burn(LAYERS["1d"])
    BatchNormSync(everywhere=False).apply(model)
    assert isinstance(model.norm, SyncBatchNorm)
    assert type(model.own[0]) is nn.BatchNorm1d
