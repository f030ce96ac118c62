"""The trainer's arguments that say in how many processes it trains, taken from whoever started them."""

import signal
from inspect import signature
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from edgebnn.errors import UserError

from .launch import place


def devices_and_nodes(devices: Any, nodes: int) -> tuple[Any, int]:
    """Devices of this machine and number of machines: the launcher's, or the configuration's `devices`, `nodes`.

    Raises:
        UserError: the two contradict each other.
    """
    here = place()
    if here is None:
        if nodes > 1:
            raise UserError(
                f"trainer.num_nodes {nodes} takes a launcher on each machine; start with torchrun or srun "
                "(docs/how-to/distributed.md)"
            )
        return devices, nodes
    # A list, or "2,3", says which devices; Lightning gives this process its one of them.
    named = devices.strip(",").split(",") if isinstance(devices, str) and "," in devices else devices
    which = isinstance(named, list)
    count = len(named) if which else named
    if str(count) not in ("auto", "-1", str(here.local_size)) or nodes not in (1, here.nodes):
        raise UserError(
            f"{here.launcher} started {here.local_size} processes on each of {here.nodes} machines, the configuration "
            f"says trainer.devices {devices}, trainer.num_nodes {nodes}; leave both out, the launcher decides"
        )
    return devices if which else here.local_size, here.nodes


def cluster() -> ClusterEnvironment:
    """How Lightning learns of the other processes. Raises `UserError` if srun was given too little."""
    here = place()
    if here is None:
        return LightningEnvironment()
    if here.launcher == "torchrun":
        return TorchElasticEnvironment()
    try:
        # A job that SLURM starts again goes on by the recipe, or by its script's --ckpt_path.
        return SLURMEnvironment(auto_requeue=False)
    except RuntimeError:
        raise UserError("srun needs to know the tasks of a machine; give it --ntasks-per-node") from None


def strategy(chosen: Any) -> Any:
    """DistributedDataParallel where there are several processes. Raises `UserError` for anything else."""
    if chosen not in ("auto", "ddp"):
        raise UserError(f"trainer.strategy {chosen} is none that training knows; leave it out (auto), or give ddp")
    here = place()
    if here is None or here.world_size == 1:
        return "auto"
    # Buffers are not sent around before every step: running statistics of BatchNorm are those of the first process or
    # synchronised, queues are filled with all processes' keys in each. Every parameter trained has a gradient in every
    # step, so none needs to be looked for.
    names = signature(DistributedDataParallel).parameters
    # torch has renamed it.
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
    options: dict[str, Any] = {buffers: False}
    return DDPStrategy(find_unused_parameters=False, gradient_as_bucket_view=True, **options)


class EndAtOnce(Callback):
    """Lets SIGTERM end a process that a launcher started: another one has failed, or all are to end.

    Lightning would finish the batch, and tell the others by a broadcast: that fails where one of them is gone, in the
    middle of whatever this process does.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.end_at_once()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.end_at_once()

    def end_at_once(self) -> None:
        """After Lightning has put its handler in place, which is before the first of these hooks."""
        if place() is not None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
