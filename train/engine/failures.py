"""Turns errors of a run into one line: the thing, what is wrong, what to do."""

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
from ..parallel.launch import OtherProcessError, process_place
from .changes import FLAG

HARMLESS_WARNINGS = (
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
    # Some of ImageNet's files have it. Only their pixels are used.
    ".*[Cc]orrupt EXIF data.*",
    # A 1x1 kernel has the same memory layout in channels_last and in channels first.
    "(?s).*Grad strides do not match bucket view strides.*",
    ".*It is recommended to use .*sync_dist=True.*",
)
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LOST_PROCESS = re.compile(r"gloo|NCCL|[Cc]onnection (closed|reset)|[Bb]roken pipe|store->get|TCPStore", re.DOTALL)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns errors of the configuration, the machine or another process into `UserError`, and hides harmless warnings.

    Raises:
        UserError: an error that the user can correct.
        OtherProcessError: another process of the run ended first.
    """
    # The last two are the same library under its older names. lightly imports them, and they log the same messages.
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in HARMLESS_WARNINGS:
            warnings.filterwarnings("ignore", message)
        try:
            yield
        except (ArgumentError, MisconfigurationException, UnicodeDecodeError) as error:
            raise UserError(f"configuration: {error}; see `python -m train fit --help`") from None
        except ImportError as error:
            raise UserError(f"a package is missing ({error}); install it, or leave out the key that needs it") from None
        except torch.OutOfMemoryError:
            raise UserError(
                "the GPU's memory is too small for this batch; raise trainer.accumulate_grad_batches or give "
                f"trainer.precision bf16-mixed; a run that has begun resumes so with --ckpt_path RUN/last.ckpt {FLAG}"
            ) from None
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            raise UserError(
                f"no space left on the disk ({error.strerror}); free some and resume with --ckpt_path RUN/last.ckpt"
            ) from None
        except RuntimeError as error:
            if (died := worker_error(error)) is not None:
                raise died from None
            # When a process ends, the others see an error that depends on the backend, and their launcher soon ends
            # them. If the network between them fails, all of them see this error, and no other message appears.
            if process_place() is not None and LOST_PROCESS.search(str(error)):
                said = str(error).strip().splitlines()[0]
                raise OtherProcessError(
                    f"another process of the run has ended or cannot be reached ({said}); if no other line says why, "
                    "look at the network between the machines"
                ) from None
            raise
