"""The trainer's arguments for several processes, taken from the launcher or the configuration."""

from inspect import signature
from typing import Any

from lightning.pytorch.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from edgebnn.errors import UserError

from .launch import process_place


def devices_and_nodes(devices: Any, nodes: int) -> tuple[Any, int]:
    """Returns the trainer's `devices` and `num_nodes`: the launcher's, or without a launcher the configuration's.

    Args:
        devices: `trainer.devices` of the configuration.
        nodes: `trainer.num_nodes` of the configuration.

    Raises:
        UserError: the launcher and the configuration contradict each other, or several machines have no launcher.
    """
    here = process_place()
    if here is None:
        if nodes > 1:
            raise UserError(
                f"trainer.num_nodes {nodes} needs a launcher on each machine; start with torchrun or srun "
                "(docs/how-to/distributed.md)"
            )
        return devices, nodes
    # A list, or "2,3", names the devices. Lightning assigns one of them to this process.
    named = devices.strip(",").split(",") if isinstance(devices, str) and "," in devices else devices
    which = isinstance(named, list)
    count = len(named) if which else named
    if str(count) not in ("auto", "-1", str(here.local_size)) or nodes not in (1, here.nodes):
        raise UserError(
            f"{here.launcher} started {here.local_size} processes on each of {here.nodes} machines, the configuration "
            f"says trainer.devices {devices}, trainer.num_nodes {nodes}; leave both out, the launcher decides"
        )
    return devices if which else here.local_size, here.nodes


def cluster_environment() -> ClusterEnvironment:
    """Returns the object from which Lightning learns about the other processes.

    Raises:
        UserError: an option of srun is missing.
    """
    here = process_place()
    if here is None:
        return LightningEnvironment()
    if here.launcher == "torchrun":
        return TorchElasticEnvironment()
    try:
        # A job that SLURM starts again resumes by its recipe, or by --ckpt_path in its script.
        return SLURMEnvironment(auto_requeue=False)
    except RuntimeError:
        raise UserError("srun was started without the number of tasks per machine; give it --ntasks-per-node") from None


def choose_strategy(chosen: Any) -> Any:
    """Returns the trainer's strategy: DistributedDataParallel if there are several processes.

    Args:
        chosen: `trainer.strategy` of the configuration.

    Raises:
        UserError: the configuration names another strategy than auto or ddp.
    """
    if chosen not in ("auto", "ddp"):
        raise UserError(f"trainer.strategy {chosen} is not supported; leave it out (auto), or give ddp")
    here = process_place()
    if here is None or here.world_size == 1:
        return "auto"
    # Buffers are not exchanged before every step. BatchNorm's running statistics are those of the first process, or are
    # synchronised. Queues get the keys of all processes in every process. Every trained parameter has a gradient in
    # every step, so DDP need not search for unused parameters.
    names = signature(DistributedDataParallel).parameters
    # Newer versions of torch have renamed this argument.
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
    options: dict[str, Any] = {buffers: False}
    return DDPStrategy(find_unused_parameters=False, gradient_as_bucket_view=True, **options)
