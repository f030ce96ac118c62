"""`python -m train fit`: Lightning's command line with a run folder and one-line errors."""

import re
import signal
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError
from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt, restricted_number_type
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from edgebnn import records
from edgebnn.errors import UserError
from edgebnn.files import write_bytes
from edgebnn.progress import LOG_SECONDS

from .data.hugging_face import HuggingFace
from .data.sources import Cifar10, Cifar100, Digits, ImageFolder, Images, Mnist5k
from .data.voc import Voc2007
from .engine.callbacks import CONFIG, LAST, MODEL, AtomicCheckpointIO, FiniteCheck, LastCheckpoint, SaveModel
from .engine.changes import ResumeWithChanges, Start
from .engine.failures import one_line_errors
from .engine.log_lines import LogLines
from .engine.monitor import OutputSpread, Throughput, WeightFlips
from .engine.renamed_keys import flatten_config, refuse_old_names
from .engine.resume import check_start, input_hashes
from .evaluation.finetune import FineTune
from .evaluation.knn import KNN
from .evaluation.linear import BurnLinearEvaluation, LinearEvaluation
from .evaluation.probe import NeighbourProbe
from .evaluation.svm import LowShotSVM
from .evaluation.voc_svm import VocSVM
from .methods.base import Method, check_class_order
from .methods.burn import BURN
from .methods.burn_code import BURNCode
from .methods.byol import BYOL
from .methods.checks import check_batchnorms, check_limits, measures
from .methods.distill import Distill
from .methods.measured import ClassifyingMethod
from .methods.moco import MoCoV2
from .methods.moco_distill import MoCoV2Distill
from .methods.supervised import Supervised
from .methods.swav import SwAV
from .parallel import launch
from .parallel.distributed import as_single_process
from .parallel.processes import choose_strategy, cluster_environment, devices_and_nodes
from .parallel.stop_signal import StoppedBySignalError
from .parallel.sync_batchnorm import BatchNormSync

METHODS = (
    *(MoCoV2, MoCoV2Distill, Distill, BURN, BURNCode, BYOL, SwAV, Supervised),
    *(LinearEvaluation, BurnLinearEvaluation, KNN, FineTune, LowShotSVM, VocSVM),
)
DATA = (Digits, Mnist5k, Cifar10, Cifar100, ImageFolder, HuggingFace, Voc2007)
"""Imported here, so that a configuration can name them without their modules: `class_path: Distill`."""

TRAINER_DEFAULTS = {
    "num_sanity_val_steps": 0,
    # Each process takes its own part of a batch (train/data/order.py).
    "use_distributed_sampler": False,
    "log_every_n_steps": 10,
    "enable_model_summary": False,
}

# Without this module, TensorBoard imports all of TensorFlow to write its files (tensorboard/compat).
sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))


Seed = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**32)])


class TrainCli(LightningCLI):
    """Reads a configuration and builds its trainer, method and data.

    It adds keys to Lightning's:

    - `run` is the folder of everything that the run writes.
    - `name` is the model's name in records and files.
    - `ckpt_path` is a `last.ckpt` to resume from.
    - `resume_with_changes` accepts some other values than those of `ckpt_path`'s run (`train.engine.changes`).
    - `checkpoint_minutes` and `checkpoint_steps` say how often `last.ckpt` is written within an epoch.
    - `probe_epochs` says how often a pretraining measures its features (`train.evaluation.probe`).
    - `progress_seconds` says how often a line of progress appears where the output is no terminal.

    Args:
        arguments: the options of the command.

    Raises:
        UserError: the arguments use a key under an old name.
        ArgumentError: jsonargparse refuses the configuration.
    """

    def __init__(self, arguments: list[str]) -> None:
        super().__init__(
            Method,
            Images,
            save_config_callback=None,
            trainer_defaults=TRAINER_DEFAULTS,
            parser_kwargs={"exit_on_error": False},
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=arguments,
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        try:
            super().parse_arguments(parser, args)
        except ArgumentError:
            refuse_old_names(args)
            raise
        # jsonargparse completes the start of an option: `--optimizer.decay` becomes `--optimizer.decay_on`.
        refuse_old_names(args, accepted=self.config.keys())

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # Lightning's own option also takes true and false, but `data.seed` must be a number.
        parser.add_argument("--seed_everything", type=Seed, default=0, help="seed of everything that is random")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--run", type=str, required=True, help="folder of everything that the run writes")
        parser.add_argument("--name", type=str, default="model", help="the model's name in records and files")
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="a last.ckpt to resume from")
        parser.add_argument(
            "--resume_with_changes",
            type=bool,
            default=False,
            help="accept another learning rate, batch, precision, accumulation or number of epochs than ckpt_path's",
        )
        parser.add_argument(
            "--checkpoint_minutes", type=float | None, default=10, help="minutes between two writes of last.ckpt"
        )
        parser.add_argument(
            "--checkpoint_steps",
            type=PositiveInt | None,
            default=None,
            help="optimizer steps between two writes of last.ckpt",
        )
        parser.add_argument(
            "--progress_seconds",
            type=PositiveFloat,
            default=LOG_SECONDS,
            help="seconds between two progress lines where the output is no terminal",
        )
        parser.add_argument(
            "--probe_epochs",
            type=NonNegativeInt | None,
            default=None,
            help="epochs between two kNN probes of a pretraining; 0: none; null: at most 5%% of the images",
        )
        # YAML can write a plain int, and not jsonargparse's own type.
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except UserError:
            raise
        except ValueError as error:
            # jsonargparse lists what is wrong with every type that the value could have. The class's own error counts.
            found = re.search(r"Problem with given class_path '([\w.]+)':\s*(.+)", str(error))
            if found is None:
                raise
            raise UserError(f"{found[1]}: {found[2]}; correct its values, or install what it needs") from None

    def resolved(self) -> dict[str, Any]:
        """Returns the whole configuration with all defaults.

        `ckpt_path` and `resume_with_changes` are left out, because they are different when the run resumes.
        """
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False, skip_link_targets=False))
        del config["ckpt_path"], config["resume_with_changes"]
        return config

    def saved(self) -> str:
        """Returns the text of `config.yaml`."""
        return yaml.safe_dump(self.resolved(), sort_keys=False)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        run = Path(self.config.run)
        chosen = self.config_init.trainer
        logger = chosen.logger
        if logger in (None, True):
            logger = [CSVLogger(run / "logs", "csv"), TensorBoardLogger(run / "logs", "tensorboard")]
        callbacks: list[Callback] = [FiniteCheck(), SaveModel(run, self.config.name, self.saved())]
        if logger:
            callbacks += [LearningRateMonitor(), OutputSpread(), WeightFlips(), Throughput()]
            callbacks += [NeighbourProbe(self.config.probe_epochs)]
        bar = chosen.enable_progress_bar
        if bar is None and not sys.stdout.isatty():
            bar = any(isinstance(callback, ProgressBar) for callback in as_list(chosen.callbacks))
            callbacks += [] if bar else [LogLines(self.config.progress_seconds)]
        last = LastCheckpoint(run, self.config.checkpoint_minutes, self.config.checkpoint_steps)
        devices, nodes = devices_and_nodes(chosen.devices, chosen.num_nodes)
        return super().instantiate_trainer(
            default_root_dir=run,
            logger=logger,
            enable_progress_bar=bar,
            callbacks=[*as_list(chosen.callbacks), *callbacks, last],
            plugins=[
                *as_list(chosen.plugins),
                AtomicCheckpointIO(),
                cluster_environment(),
                BatchNormSync(everywhere=bool(chosen.sync_batchnorm)),
            ],
            # `BatchNormSync` does it. Lightning refuses its own plugin beside another one.
            sync_batchnorm=False,
            # All steps have the same shapes, so cuDNN searches for the fastest convolutions once.
            benchmark=not chosen.deterministic if chosen.benchmark is None else chosen.benchmark,
            strategy=choose_strategy(chosen.strategy),
            devices=devices,
            num_nodes=nodes,
        )


def as_list(chosen: Any) -> list[Any]:
    """Returns a list of the values of a key that may hold a list, one value, or nothing."""
    return chosen if isinstance(chosen, list) else [] if chosen is None else [chosen]


class ConfigReader(TrainCli):
    """Reads and checks a configuration without building its objects."""

    def instantiate_classes(self) -> None:
        pass


def fit(arguments: list[str]) -> None:
    """Runs one training or one evaluation, and writes its files and records.

    Args:
        arguments: the options of the command.

    Raises:
        UserError: the configuration or a file that it names is wrong, or the network does not fit the data.
    """
    begin = Start()
    with one_line_errors():
        cli = TrainCli(arguments)
        model, data, trainer, start = cli.model, cli.datamodule, cli.trainer, cli.config.ckpt_path
        if trainer.world_size > 1 and launch.process_place() is None:
            return launch.start_processes(trainer.world_size, ["fit", *arguments])
        check_trainer(trainer)
        if model.trains:
            begin = check_start(
                cli.config.run, start, cli.resolved(), trainer.max_steps, with_changes=cli.config.resume_with_changes
            )
            callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
            if begin.changed:
                callbacks.insert(0, ResumeWithChanges(begin))
            for callback in callbacks:
                if isinstance(callback, SaveModel):
                    callback.history = begin.history
                    if trainer.is_global_zero:
                        callback.inputs = input_hashes(flatten_config(cli.resolved()))
        # The trainer opens its logs before it sets up the data. The data are set up here, so that a mistake leaves no
        # files behind.
        data.check(trainer.world_size, trainer.accumulate_grad_batches, model.small_views, model.takes_partial)
        model.optimizer_config.check()
        data.setup("fit")
        check_limits(trainer, model)
        if measures(model) and trainer.limit_val_batches:
            data.check_held_out()
        torch.manual_seed(data.seed)
        with as_single_process():
            if model.trains:
                data.train_dataloader()
            model.prepare(data)
        if model.trains:
            check_batchnorms(model, data, trainer, everywhere=bool(cli.config.trainer.sync_batchnorm))
        if start and isinstance(model, ClassifyingMethod):
            check_class_order(Path(start).parent / MODEL, data, f"ckpt_path {start}")
        # Converted before a checkpoint is loaded. Otherwise float64 weights would be rounded to float32.
        trainer.precision_plugin.convert_module(model)
        model.to(memory_format=torch.channels_last)
        # The first file that is written. If the run folder cannot be written, the error is one line.
        if trainer.is_global_zero:
            if begin.changed:
                keep_config(Path(cli.config.run), begin.old_config)
            write_bytes(Path(cli.config.run) / CONFIG, cli.saved().encode())
        if model.trains and trainer.is_global_zero:
            warn_of_milestones(model, trainer)
        epochs = run_trainer(trainer, model, data, start)
        found = model.records(cli.config.name, epochs) if trainer.limit_val_batches else []
        if begin.history:
            found = [replace(record, context=record.context | {"changes": begin.history}) for record in found]
        for record in found if trainer.is_global_zero else ():
            records.write_record(record, cli.config.run)


def keep_config(run: Path, text: str) -> None:
    """Writes the configuration that a run had so far to `config.N.yaml`, N counting from 1."""
    stem, _, suffix = CONFIG.partition(".")
    number = next(number for number in count(1) if not (run / f"{stem}.{number}.{suffix}").exists())
    write_bytes(run / f"{stem}.{number}.{suffix}", text.encode())


def warn_of_milestones(model: Method, trainer: Trainer) -> None:
    """Prints a warning if the run does not reach a milestone of the learning rate."""
    assert trainer.max_epochs
    unreached = model.optimizer_config.unreached(trainer.max_epochs)
    if unreached:
        print(
            f"warning: milestones {unreached} lie beyond trainer.max_epochs {trainer.max_epochs}: the learning rate "
            "does not fall there; give smaller model.optimizer.milestones",
            file=sys.stderr,
            flush=True,
        )


def run_trainer(trainer: Trainer, model: Method, data: Images, start: str | None) -> int:
    """Trains and validates the model, or only validates it.

    Args:
        trainer: the trainer.
        model: the method, after `prepare`.
        data: the images, after `setup`.
        start: checkpoint to resume from.

    Returns:
        The number of finished epochs.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl+C.
        SystemExit: SIGTERM or SIGUSR1 stopped the training. The exit code is 128 + the signal's number.
    """
    epochs = 0
    try:
        if model.trains:
            trainer.fit(model, datamodule=data, ckpt_path=start)
            epochs = trainer.current_epoch
        if measures(model) and trainer.limit_val_batches:
            trainer.validate(model, datamodule=data, verbose=False)
    except StoppedBySignalError as stop:
        if trainer.is_global_zero:
            last = Path(trainer.default_root_dir) / LAST
            print(
                f"stopped by {signal.Signals(stop.number).name} after step {trainer.global_step}, which {last} holds; "
                f"resume with --ckpt_path {last}, or start the recipe again",
                file=sys.stderr,
                flush=True,
            )
        raise SystemExit(128 + stop.number) from None
    except SystemExit:
        # Lightning exits so after Ctrl+C.
        raise KeyboardInterrupt from None
    return epochs


def check_trainer(trainer: Trainer) -> None:
    """Raises `UserError` if the number of epochs is missing."""
    if trainer.max_epochs is None or trainer.max_epochs < 1:
        raise UserError("the learning-rate schedule counts epochs; give trainer.max_epochs, 1 or more")
