"""`python -m train fit`: Lightning's command line, with a run folder and one-line errors."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from edgebnn import records
from edgebnn.errors import UserError
from edgebnn.files import existing_file, write_bytes
from train.burn import BURN
from train.burn_code import BURNCode
from train.callbacks import CONFIG, AtomicCheckpointIO, SaveModel, last_checkpoint
from train.data import Cifar10, Digits, ImageFolder, Images, Mnist5k
from train.distill import Distill
from train.linear import LinearEvaluation
from train.method import Method
from train.moco import MoCoV2
from train.moco_distill import MoCoV2Distill

METHODS = (MoCoV2, MoCoV2Distill, Distill, BURN, BURNCode, LinearEvaluation)
DATA = (Digits, Mnist5k, Cifar10, ImageFolder)
"""Imported so that a configuration may name them shortly: `class_path: Distill`."""

DEFAULTS = {
    "num_sanity_val_steps": 0,
    # MoCo's keys are not gathered over processes yet, nor are views drawn apart in each.
    "devices": 1,
    "log_every_n_steps": 10,
    "enable_model_summary": False,
    # Each epoch's loader is seeded anew (Images.train_dataloader), so that resuming repeats nothing.
    "reload_dataloaders_every_n_epochs": 1,
}
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
)


# TensorBoard imports all of TensorFlow to write its files, unless it finds this module (tensorboard/compat).
sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))


class Cli(LightningCLI):
    """Reads a configuration and builds what it names.

    Added to Lightning's keys: `run`, the folder of everything the run writes; `name`, the model's name in
    records and files; `ckpt_path`, a `last.ckpt` to go on from.
    """

    def __init__(self, arguments: list[str]) -> None:
        super().__init__(
            Method,
            Images,
            save_config_callback=None,
            trainer_defaults=DEFAULTS,
            seed_everything_default=0,
            parser_kwargs={"exit_on_error": False},
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=arguments,
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--run", type=str, required=True, help="folder of everything the run writes")
        parser.add_argument("--name", type=str, default="model", help="the model's name in records and files")
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="a last.ckpt to go on from")
        parser.link_arguments("seed_everything", "data.init_args.seed")

    def resolved(self) -> dict[str, Any]:
        """The whole configuration, defaults included, without `ckpt_path`: it says how, not what."""
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False, skip_link_targets=False))
        del config["ckpt_path"]
        return config

    def saved(self) -> str:
        """The text of `config.yaml`."""
        return yaml.safe_dump(self.resolved(), sort_keys=False)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        run = Path(self.config.run)
        chosen = self.config_init.trainer
        logger = chosen.logger
        if logger in (None, True):
            logger = [CSVLogger(run / "logs", "csv"), TensorBoardLogger(run / "logs", "tensorboard")]
        callbacks = [SaveModel(run, self.config.name, self.saved())]
        if logger:
            callbacks.append(LearningRateMonitor("epoch"))  # type: ignore[arg-type]
        return super().instantiate_trainer(
            default_root_dir=run,
            logger=logger,
            callbacks=[*(chosen.callbacks or []), *callbacks, last_checkpoint(run)],
            plugins=[*(chosen.plugins or []), AtomicCheckpointIO()],
        )


class Reader(Cli):
    """Reads and checks a configuration, and builds nothing of it."""

    def instantiate_classes(self) -> None:
        pass


def fit(arguments: list[str]) -> None:
    """Trains what the arguments configure, and writes what it measured.

    Raises:
        UserError: the configuration, a file it names, or the fit between network and data is wrong.
    """
    with one_line_errors():
        cli = Cli(arguments)
        check_trainer(cli.trainer)
        model, data, trainer, start = cli.model, cli.datamodule, cli.trainer, cli.config.ckpt_path
        if start is not None:
            check_resumable(start)
        # The trainer opens its logs before it sets up the data, so mistakes are looked for here: they leave
        # nothing behind.
        data.check()
        model.optimizer_config.check()
        data.setup("fit")
        data.train_dataloader()
        model.prepare(data)
        model.to(memory_format=torch.channels_last)
        # The first thing written, so that a run folder that cannot be is found in one line.
        write_bytes(Path(cli.config.run) / CONFIG, cli.saved().encode())
        try:
            trainer.fit(model, datamodule=data, ckpt_path=start)
            epochs = trainer.current_epoch
            if type(model).validation_step is not Method.validation_step:
                trainer.validate(model, datamodule=data, verbose=False)
        except SystemExit:
            # Lightning's answer to Ctrl+C.
            raise KeyboardInterrupt from None
        for record in model.records(cli.config.name, epochs):
            records.write(record, cli.config.run)


def check_trainer(trainer: Trainer) -> None:
    """Raises `UserError` if the trainer would train otherwise than its configuration reads."""
    if trainer.world_size > 1:
        raise UserError("training runs in one process so far; give trainer.devices 1 and trainer.num_nodes 1")
    if trainer.max_epochs is None or trainer.max_epochs < 1:
        raise UserError("the learning rate's schedule counts epochs; give trainer.max_epochs, 1 or more")


def check_resumable(path: str) -> None:
    """Raises `UserError` unless the file can be gone on from."""
    existing_file(path, "ckpt_path")
    try:
        found = torch.load(path, map_location="meta", weights_only=True)
        complete = isinstance(found, dict) and "loops" in found and "optimizer_states" in found
    except Exception:  # torch.load raises whatever the bytes lead it to
        complete = False
    if not complete:
        raise UserError(f"ckpt_path {path} is damaged or no last.ckpt of a run; delete it and start the run anew")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns what a wrong configuration raises into `UserError`, and keeps Lightning's hints quiet."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message)
        try:
            yield
        except (ArgumentError, MisconfigurationException, UnicodeDecodeError) as error:
            raise UserError(f"configuration: {error}; see `python -m train fit --help`") from None
        except UserError as error:
            # A loader's worker hands on an error as the text of its traceback, whose last line says it.
            raise UserError(str(error).strip().splitlines()[-1].removeprefix("edgebnn.errors.UserError: ")) from None
