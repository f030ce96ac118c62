"""Processes that train together: how they are started, and how all of them end when one fails.

torchrun and SLURM's srun start the processes themselves. Without either, a configuration that asks for several
devices makes `python -m train` the launcher: it starts one process a device with torchrun's own agent.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from edgebnn.errors import UserError

PATIENCE = 10.0
"""Seconds for which a process waits to be ended by its launcher, after another one has failed."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends the processes together with their launcher."""


@dataclass(frozen=True)
class Place:
    """Where a launcher has put this process.

    Attributes:
        rank: its number among all processes.
        world_size: number of all processes.
        local_size: number of processes on this machine, as on every other.
        nodes: number of machines.
        launcher: torchrun or srun.
    """

    rank: int
    world_size: int
    local_size: int
    nodes: int
    launcher: str


def place() -> Place | None:
    """This process' place, if a launcher has started it.

    Raises:
        UserError: the launcher says it in a way that does not add up.
    """
    try:
        if "TORCHELASTIC_RUN_ID" in os.environ:
            rank, size, local = (int(os.environ[key]) for key in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"))
            found = Place(rank, size, local, size // local, "torchrun")
        # Only srun gives a step's number: a batch script that starts Python by itself is one process.
        elif "SLURM_STEP_ID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1:
            size, nodes = int(os.environ["SLURM_NTASKS"]), int(os.environ["SLURM_NNODES"])
            found = Place(int(os.environ["SLURM_PROCID"]), size, size // nodes, nodes, "srun")
        else:
            return None
    except (KeyError, ValueError) as error:
        raise UserError(f"the launcher's environment is not whole ({error}); start with torchrun or srun") from None
    if found.local_size * found.nodes != found.world_size:
        raise UserError(
            f"{found.world_size} processes do not spread evenly over the machines; give each as many "
            "(torchrun --nproc_per_node, srun --ntasks-per-node)"
        )
    return found


def is_first() -> bool:
    """Returns whether this process is the one that prints and writes, also before the processes know each other."""
    here = place()
    return here is None or here.rank == 0


def start(processes: int, arguments: list[str]) -> None:
    """Runs `edgebnn train ARGUMENTS` in so many processes on this machine and waits for them.

    Raises:
        UserError: a process was killed.
        SystemExit: a process ended with an error, which it has told itself.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        # The agent otherwise leaves a folder of (empty) logs in the system's temporary one.
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
        signals_to_handle=",".join(number.name for number in SIGNALS),
        run_id=uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    # As torchrun does, but with all cores in use: every process would otherwise start a thread for each of them.
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = threads or str(max(1, cores() // processes))
    # The agent keeps signals to itself, even when it is done.
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    # It reports every process that it stops; the one that failed has said why.
    logging.disable(logging.CRITICAL)
    try:
        elastic_launch(config, sys.executable)("-m", "edgebnn.train", *arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            raise UserError(
                f"process {rank} of {processes} was killed by signal {-failure.exitcode}; if memory ran out, lower "
                "data.batch_size or data.workers, then go on with --ckpt_path RUN/last.ckpt"
            ) from None
        raise SystemExit(failure.exitcode) from None
    except SignalException:
        raise KeyboardInterrupt from None
    finally:
        logging.disable(logging.NOTSET)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if threads is None:
            del os.environ["OMP_NUM_THREADS"]


def cores() -> int:
    """Processors that this process may use, which under SLURM or in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class SisterError(UserError):
    """Another process of the run has ended, and said why."""


@contextmanager
def one_voice() -> Iterator[None]:
    """Lets an error that several processes meet be told once, by the first that meets it."""
    here = place()
    try:
        yield
    except SisterError:
        # The launcher ends this process presently, and says so if the other was killed.
        time.sleep(PATIENCE)
        raise
    except UserError as error:
        if here is None:
            raise
        if not _is_first(here):
            raise SystemExit(2) from None
        raise UserError(f"process {here.rank}: {error}" if here.rank else str(error)) from None
    except KeyboardInterrupt:
        if here is not None:
            # The launcher was told, too.
            raise SystemExit(130) from None
        raise
    except Exception:
        if here is not None and not _is_first(here):
            raise SystemExit(1) from None
        raise


def _is_first(here: Place) -> bool:
    """Whether no other process has told its error yet."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        from torch.distributed import TCPStore

        try:
            # The agent's own store outlives the processes.
            address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=PATIENCE))
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            return store.add(f"edgebnn/errors/{attempt}", 1) == 1
        except Exception:  # whatever became of the store, silence would be worse
            return True
    if here.rank > 0:
        time.sleep(PATIENCE)
    return True
