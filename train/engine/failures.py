"""What goes wrong in a run, as one line: the thing, then the remedy."""

import errno
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jsonargparse import ArgumentError
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from edgebnn.errors import UserError

from ..data.loader import worker_error
from ..parallel.launch import SisterError, place

HARMLESS = (
    ".*does not have many workers.*",
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
    ".*you defined a `validation_step`.*",
    ".*passed in a `val_dataloader` but have no `validation_step`.*",
    ".*number of training batches .* is smaller than the logging interval.*",
    ".*LightningCLI's args parameter is intended to run from within Python.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*GPU available but not used.*",
    "(?s).*deprecated in v4.*removed in v5.*",
    ".*module\\(s\\) in eval mode at the start of training.*",
    ".*Trying to infer the `batch_size`.*",
    ".*The `srun` command is available on your system but is not used.*",
    # Of ImageNet's files some have; what is wanted of them is their pixels.
    ".*[Cc]orrupt EXIF data.*",
    # A 1x1 kernel's memory may be called channels_last or not: it is the same.
    "(?s).*Grad strides do not match bucket view strides.*",
    ".*It is recommended to use .*sync_dist=True.*",
)
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SISTER = re.compile(r"gloo|NCCL|[Cc]onnection (closed|reset)|[Bb]roken pipe|store->get|TCPStore", re.DOTALL)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns what a configuration, a machine or a sister process can do into `UserError`, and keeps hints quiet."""
    # The latter two are the same library under its other names, which lightly imports and which then speaks for both.
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message)
        try:
            yield
        except (ArgumentError, MisconfigurationException, UnicodeDecodeError) as error:
            raise UserError(f"configuration: {error}; see `python -m train fit --help`") from None
        except torch.OutOfMemoryError:
            raise UserError(
                "the GPU's memory is too small for this batch; raise trainer.accumulate_grad_batches or give "
                "trainer.precision bf16-mixed"
            ) from None
        except OSError as error:
            if error.errno not in DISK:
                raise
            raise UserError(
                f"no room left on the disk ({error.strerror}); free some and go on with --ckpt_path RUN/last.ckpt"
            ) from None
        except RuntimeError as error:
            if (died := worker_error(error)) is not None:
                raise died from None
            # What the others see when a process ends depends on the backend; their launcher ends them soon. Should all
            # of them see it, as when the network between them fails, what it says is all there is.
            if place() is not None and SISTER.search(str(error)):
                said = str(error).strip().splitlines()[0]
                raise SisterError(
                    f"another process of the run has ended or cannot be reached ({said}); if no other line says why, "
                    "look at the network between the machines"
                ) from None
            raise
