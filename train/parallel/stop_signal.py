"""Signals that announce the end of a job: SIGTERM (preemption, `docker stop`) and SIGUSR1 (SLURM's `--signal`)."""

import signal
from typing import Any

from lightning.pytorch import Trainer

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

ASK_STEPS = 10
"""Most optimizer steps between two questions whether another process got a signal. A question takes a wait."""

GRACE_SECONDS = 60
"""Longest time that a loading process outlives SIGTERM, while the training process takes its last step."""


class StoppedBySignalError(Exception):
    """The training has saved its state and stops because of a signal.

    Args:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class StopSignal:
    """Remembers a signal that arrives during training, so that the training can save at the end of the step.

    Attributes:
        number: the signal. None before one arrives.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def listen(self) -> None:
        """Installs the handlers. The trainer restores the earlier handlers when it ends."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._remember)

    def stop_listening(self) -> None:
        """Lets the signals end the process at once."""
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    def raise_if_received(self) -> None:
        """Raises `StoppedBySignalError` if a signal has arrived."""
        if self.number is not None:
            raise StoppedBySignalError(self.number)

    def agree(self, trainer: Trainer) -> bool:
        """Returns whether any process got a signal. All processes must call it together, and then have the signal."""
        for number in STOP_SIGNALS:
            mine = self.number == number
            if trainer.strategy.reduce_boolean_decision(mine, all=False) if trainer.world_size > 1 else mine:
                self.number = number
        return self.number is not None

    def _remember(self, number: int, frame: Any) -> None:
        self.number = number


def outlive_stop_signals(worker: int) -> None:
    """Keeps a loading process alive when a signal goes to all processes of a job, as SLURM sends it.

    The training process ends it. A second SIGTERM ends it too, and so does the time.

    Args:
        worker: number of the loading process. torch passes it.
    """

    def wait(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.alarm(GRACE_SECONDS)

    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, wait)
