"""Starts training processes, and reports an error of several processes once.

torchrun and SLURM's srun start the processes themselves. Without them, `python -m train` is the launcher if the
configuration asks for several devices. It starts one process per device with torchrun's own agent.
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

WAIT_SECONDS = 10.0
"""Seconds that a process waits for its launcher to end it, after another process has failed."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Signals that end the launcher and its processes together."""


@dataclass(frozen=True)
class ProcessPlace:
    """The place of this process among all processes, as its launcher says it.

    Attributes:
        rank: number of this process among all processes.
        world_size: number of all processes.
        local_size: number of processes on this machine. It is the same on every machine.
        nodes: number of machines.
        launcher: torchrun or srun.
    """

    rank: int
    world_size: int
    local_size: int
    nodes: int
    launcher: str


def process_place() -> ProcessPlace | None:
    """Returns the place of this process, or None if no launcher has started it.

    Raises:
        UserError: the launcher's environment variables are missing or contradict each other.
    """
    try:
        if "TORCHELASTIC_RUN_ID" in os.environ:
            rank, size, local = (int(os.environ[key]) for key in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"))
            found = ProcessPlace(rank, size, local, size // local, "torchrun")
        # Only srun sets SLURM_STEP_ID. A batch script that starts Python without srun is one process.
        elif "SLURM_STEP_ID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1:
            size, nodes = int(os.environ["SLURM_NTASKS"]), int(os.environ["SLURM_NNODES"])
            found = ProcessPlace(int(os.environ["SLURM_PROCID"]), size, size // nodes, nodes, "srun")
        else:
            return None
    except (KeyError, ValueError) as error:
        raise UserError(f"the launcher's environment is incomplete ({error}); start with torchrun or srun") from None
    if found.local_size * found.nodes != found.world_size:
        raise UserError(
            f"{found.world_size} processes do not divide evenly over the machines; start equally many on each "
            "(torchrun --nproc_per_node, srun --ntasks-per-node)"
        )
    return found


def is_first() -> bool:
    """Returns whether this process prints and writes. It works before the processes are connected."""
    here = process_place()
    return here is None or here.rank == 0


def start_processes(processes: int, arguments: list[str]) -> None:
    """Runs `edgebnn train ARGUMENTS` in several processes on this machine and waits for them.

    Args:
        processes: number of processes.
        arguments: the arguments of the command.

    Raises:
        UserError: a process was killed.
        SystemExit: a process ended with an error, which it has printed itself. Or the launcher got SIGTERM or SIGUSR1
            and passed it on, and the exit code is 128 + the signal's number.
        KeyboardInterrupt: the launcher got another signal.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from .stop_signal import STOP_SIGNALS

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        # Otherwise the agent leaves a folder of empty logs in the system's temporary folder.
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
        signals_to_handle=",".join(number.name for number in SIGNALS),
        run_id=uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    # Otherwise every process would start one thread per core. torchrun sets one thread. Here the processes divide the
    # cores.
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = threads or str(max(1, usable_cores() // processes))
    # The agent replaces the signal handlers and does not restore them.
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    # The agent logs every process that it stops. The process that failed has already printed its error.
    logging.disable(logging.CRITICAL)
    try:
        elastic_launch(config, sys.executable)("-m", "edgebnn.train", *arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            raise UserError(
                f"process {rank} of {processes} was killed by signal {-failure.exitcode}; if memory ran out, lower "
                "data.workers, then resume with --ckpt_path RUN/last.ckpt; a lower data.batch_size also needs "
                "--resume_with_changes true"
            ) from None
        raise SystemExit(failure.exitcode) from None
    except SignalException as stop:
        if stop.sigval in STOP_SIGNALS:
            raise SystemExit(128 + stop.sigval) from None
        raise KeyboardInterrupt from None
    finally:
        logging.disable(logging.NOTSET)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if threads is None:
            del os.environ["OMP_NUM_THREADS"]


def usable_cores() -> int:
    """Returns the number of cores that this process may use. SLURM and containers may allow fewer than all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class OtherProcessError(UserError):
    """Another process of the run has ended and has printed why."""


@contextmanager
def print_error_once() -> Iterator[None]:
    """Lets only the first process that meets an error print it, if several processes meet it.

    Raises:
        UserError: this process is the first, or the only one.
        SystemExit: another process has printed the error.
    """
    here = process_place()
    try:
        yield
    except OtherProcessError:
        # The launcher soon ends this process. If the other process was killed, the launcher says so.
        time.sleep(WAIT_SECONDS)
        raise
    except UserError as error:
        if here is None:
            raise
        if not _is_first(here):
            raise SystemExit(2) from None
        raise UserError(f"process {here.rank}: {error}" if here.rank else str(error)) from None
    except KeyboardInterrupt:
        if here is not None:
            # The launcher got the signal too and reports it.
            raise SystemExit(130) from None
        raise
    except Exception:
        if here is not None and not _is_first(here):
            raise SystemExit(1) from None
        raise


def _is_first(here: ProcessPlace) -> bool:
    """Returns whether no other process has printed its error yet."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        from torch.distributed import TCPStore

        try:
            # The store of the agent outlives the processes.
            address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=WAIT_SECONDS))
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            return store.add(f"edgebnn/errors/{attempt}", 1) == 1
        except Exception:  # without the store, a repeated message is better than none
            return True
    if here.rank > 0:
        time.sleep(WAIT_SECONDS)
    return True
