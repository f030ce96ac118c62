"""`python -m train fit`: Lightning's command line, with a run folder and one-line errors."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml
from jsonargparse.typing import PositiveInt, restricted_number_type
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from edgebnn import records
from edgebnn.errors import UserError
from edgebnn.files import write_bytes

from .data.hugging_face import HuggingFace
from .data.sources import Cifar10, Cifar100, Digits, ImageFolder, Images, Mnist5k
from .data.voc import Voc2007
from .engine.callbacks import CONFIG, MODEL, AtomicCheckpointIO, Finite, LastCheckpoint, SaveModel
from .engine.failures import one_line_errors
from .engine.monitor import Flips, Spread, Throughput
from .engine.resume import check_start
from .evaluation.finetune import FineTune
from .evaluation.knn import KNN
from .evaluation.linear import BurnLinearEvaluation, LinearEvaluation
from .evaluation.svm import LowShotSVM
from .evaluation.voc_svm import VocSVM
from .methods.base import Method, match_classes
from .methods.burn import BURN
from .methods.burn_code import BURNCode
from .methods.byol import BYOL
from .methods.distill import Distill
from .methods.measured import Counted
from .methods.moco import MoCoV2
from .methods.moco_distill import MoCoV2Distill
from .methods.supervised import Supervised
from .methods.swav import SwAV
from .parallel import launch
from .parallel.distributed import alone
from .parallel.processes import EndAtOnce, cluster, devices_and_nodes, strategy
from .parallel.sync_batchnorm import BatchNormSync

METHODS = (
    *(MoCoV2, MoCoV2Distill, Distill, BURN, BURNCode, BYOL, SwAV, Supervised),
    *(LinearEvaluation, BurnLinearEvaluation, KNN, FineTune, LowShotSVM, VocSVM),
)
DATA = (Digits, Mnist5k, Cifar10, Cifar100, ImageFolder, HuggingFace, Voc2007)
"""Imported so that a configuration may name them shortly: `class_path: Distill`."""

DEFAULTS = {
    "num_sanity_val_steps": 0,
    # Each process takes its part of a batch itself (train/data/sources.py).
    "use_distributed_sampler": False,
    "log_every_n_steps": 10,
    "enable_model_summary": False,
}

# TensorBoard imports all of TensorFlow to write its files, unless it finds this module (tensorboard/compat).
sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))


Seed = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**32)])


class Cli(LightningCLI):
    """Reads a configuration and builds what it names.

    Added to Lightning's keys: `run`, the folder of everything the run writes; `name`, the model's name in
    records and files; `ckpt_path`, a `last.ckpt` to go on from; `checkpoint_minutes` and `checkpoint_steps`, how
    often that file is written within an epoch.
    """

    def __init__(self, arguments: list[str]) -> None:
        super().__init__(
            Method,
            Images,
            save_config_callback=None,
            trainer_defaults=DEFAULTS,
            parser_kwargs={"exit_on_error": False},
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=arguments,
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # Lightning's own takes true and false as well; `data.seed` has to be a number.
        parser.add_argument("--seed_everything", type=Seed, default=0, help="what all that is drawn is drawn from")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--run", type=str, required=True, help="folder of everything the run writes")
        parser.add_argument("--name", type=str, default="model", help="the model's name in records and files")
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="a last.ckpt to go on from")
        parser.add_argument(
            "--checkpoint_minutes", type=float | None, default=10, help="last.ckpt within an epoch, so often"
        )
        parser.add_argument(
            "--checkpoint_steps", type=PositiveInt | None, default=None, help="last.ckpt every so many steps"
        )
        # As a plain number, which YAML can write.
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)

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
        callbacks: list[Callback] = [Finite(), SaveModel(run, self.config.name, self.saved())]
        if logger:
            callbacks += [LearningRateMonitor(), Spread(), Flips(), Throughput()]
        last = LastCheckpoint(run, self.config.checkpoint_minutes, self.config.checkpoint_steps)
        devices, nodes = devices_and_nodes(chosen.devices, chosen.num_nodes)
        return super().instantiate_trainer(
            default_root_dir=run,
            logger=logger,
            callbacks=[*listed(chosen.callbacks), *callbacks, last, EndAtOnce()],
            plugins=[
                *listed(chosen.plugins),
                AtomicCheckpointIO(),
                cluster(),
                BatchNormSync(everywhere=bool(chosen.sync_batchnorm)),
            ],
            # Lightning takes its own plugin or another's, not both.
            sync_batchnorm=False,
            # Every step has the same shapes, so it pays to look for the fastest convolutions once.
            benchmark=not chosen.deterministic if chosen.benchmark is None else chosen.benchmark,
            strategy=strategy(chosen.strategy),
            devices=devices,
            num_nodes=nodes,
        )


def listed(chosen: Any) -> list[Any]:
    """What a configuration may give as a list, as one thing or not at all."""
    return chosen if isinstance(chosen, list) else [] if chosen is None else [chosen]


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
        model, data, trainer, start = cli.model, cli.datamodule, cli.trainer, cli.config.ckpt_path
        if trainer.world_size > 1 and launch.place() is None:
            return launch.start(trainer.world_size, ["fit", *arguments])
        check_trainer(trainer)
        if model.trains:
            check_start(cli.config.run, start, cli.resolved(), trainer.max_steps)
        # The trainer opens its logs before it sets up the data, so mistakes are looked for here: they leave
        # nothing behind.
        data.check(trainer.world_size, trainer.accumulate_grad_batches, model.small_views, model.takes_partial)
        model.optimizer_config.check()
        data.setup("fit")
        torch.manual_seed(data.seed)
        with alone():
            if model.trains:
                data.train_dataloader()
            model.prepare(data)
        if start and isinstance(model, Counted):
            match_classes(Path(start).parent / MODEL, data, f"ckpt_path {start}")
        # Before a checkpoint is read into it, or float64 weights would be rounded on their way.
        trainer.precision_plugin.convert_module(model)
        model.to(memory_format=torch.channels_last)
        # The first thing written, so that a run folder that cannot be is found in one line.
        if trainer.is_global_zero:
            write_bytes(Path(cli.config.run) / CONFIG, cli.saved().encode())
        if model.trains and trainer.is_global_zero:
            warn_of_milestones(model, trainer)
        epochs = run(trainer, model, data, start)
        found = model.records(cli.config.name, epochs)
        for record in found if trainer.is_global_zero else ():
            records.write_record(record, cli.config.run)


def warn_of_milestones(model: Method, trainer: Trainer) -> None:
    """Says which milestones of the learning rate the run does not come to."""
    assert trainer.max_epochs
    unreached = model.optimizer_config.unreached(trainer.max_epochs)
    if unreached:
        print(
            f"warning: milestones {unreached} lie beyond trainer.max_epochs {trainer.max_epochs}: the rate does "
            "not fall there; give model.optimizer.milestones that fit",
            file=sys.stderr,
            flush=True,
        )


def run(trainer: Trainer, model: Method, data: Images, start: str | None) -> int:
    """Trains and validates, or validates alone; gives the number of finished epochs."""
    epochs = 0
    try:
        if model.trains:
            trainer.fit(model, datamodule=data, ckpt_path=start)
            epochs = trainer.current_epoch
        if type(model).validation_step is not Method.validation_step:
            trainer.validate(model, datamodule=data, verbose=False)
    except SystemExit:
        # Lightning's answer to Ctrl+C.
        raise KeyboardInterrupt from None
    return epochs


def check_trainer(trainer: Trainer) -> None:
    """Raises `UserError` if the trainer would train otherwise than its configuration reads."""
    if trainer.max_epochs is None or trainer.max_epochs < 1:
        raise UserError("the learning rate's schedule counts epochs; give trainer.max_epochs, 1 or more")
