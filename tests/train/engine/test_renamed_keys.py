"""Keys under their old names are refused by one line, and runs that stored them resume."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import ArgumentError

from edgebnn.errors import UserError
from edgebnn.train.__main__ import main
from edgebnn.train.cli import DATA, METHODS, ConfigReader
from edgebnn.train.engine.failures import one_line_errors
from edgebnn.train.engine.renamed_keys import NEW_NAMES, current_key
from edgebnn.train.engine.resume import check_start
from edgebnn.train.methods.supervised import Supervised
from tests.train.conftest import WIDTH
from tests.train.runs import write_config

HELP = {"model": METHODS, "data": DATA}


def refusal(*arguments: object) -> str:
    """The line with which the arguments are refused."""
    with pytest.raises(UserError) as error, one_line_errors():
        ConfigReader([str(argument) for argument in arguments])
    return str(error.value)


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("model.init", "model.init_checkpoint"),
        ("model.init_args.init", "model.init_args.init_checkpoint"),
        ("model.init_args.init_hints.stem_stride", "model.init_args.init_checkpoint_hints.stem_stride"),
        ("model.init_args.optimizer.warmup", "model.init_args.optimizer.warmup_epochs"),
        ("data.init_args.subset.files", "data.init_args.subset.file_list"),
        ("data.classes", "data.class_names"),
        # These were never renamed.
        ("model.init_args.init_checkpoint", "model.init_args.init_checkpoint"),
        ("model.init_args.student.width", "model.init_args.student.width"),
        ("trainer.max_epochs", "trainer.max_epochs"),
    ],
)
def test_a_key_is_renamed_at_its_own_place_alone(key: str, shown: str) -> None:
    assert current_key(key) == shown


@pytest.mark.parametrize("old", NEW_NAMES)
def test_every_new_name_is_an_argument_and_no_old_name_is_one(old: str) -> None:
    import inspect

    from edgebnn.train.data.subset import Subset
    from edgebnn.train.engine.optim import OptimizerConfig

    part, *middle, last = old.split(".")
    inner = {"optimizer": OptimizerConfig, "subset": Subset}
    kinds = [inner[middle[0]]] if middle else HELP[part]
    arguments = [set(inspect.signature(kind.__init__).parameters) for kind in kinds]  # type: ignore[misc]
    assert any(NEW_NAMES[old] in names for names in arguments)
    assert not any(last in names for names in arguments)


def test_an_old_name_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    line = "configuration: the key {} has a new name; write {}"
    config = write_config(tmp_path / "new.yaml", "Supervised", student={"width": WIDTH})
    in_file = write_config(tmp_path / "old.yaml", "Supervised", student={"width": WIDTH}, optimizer={"decay": "all"})
    decay = line.format("model.init_args.optimizer.decay", "model.init_args.optimizer.decay_on")
    assert refusal("--config", in_file) == decay
    assert refusal(f"--config={in_file}") == decay
    assert refusal("--config", config, "--model.init_args.optimizer.decay", "all") == decay
    assert refusal("--config", config, "--model.init_args.optimizer.decay=all") == decay
    assert refusal("--config", config, "--model.init_args.optimizer", "{decay: all}") == decay
    assert refusal("--config", config, "--model.init", "a.pth") == line.format("model.init", "model.init_checkpoint")
    data = "{class_path: Digits, init_args: {subset: {files: list.txt}}}"
    assert refusal("--config", config, "--data", data) == line.format(
        "data.init_args.subset.files", "data.init_args.subset.file_list"
    )


def test_an_old_name_in_a_recipe_is_refused(tmp_path: Path) -> None:
    write_config(tmp_path / "stage.yaml", "Supervised", student={"width": WIDTH})
    stage = {"config": "stage.yaml", "set": {"model.init_args.init": "${run}/before/model.safetensors"}}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"stages": {"only": stage}}))
    with pytest.raises(UserError, match=r"^stage only: configuration: the key model.init_args.init has a new name; "):
        main(["recipe", str(recipe), "--runs", str(tmp_path)])


class WithOldName(Supervised):
    """A class outside of edgebnn, with an argument of its own that has an old name."""

    def __init__(self, queue: int = 3, **options: Any) -> None:
        super().__init__(**options)


def test_other_mistakes_and_other_classes_are_left_alone(tmp_path: Path) -> None:
    config = write_config(tmp_path / "new.yaml", "Supervised", student={"width": WIDTH})
    with pytest.raises(ArgumentError, match="nonsense"):
        ConfigReader(["--config", str(config), "--model.init_args.nonsense", "1"])
    own = write_config(tmp_path / "own.yaml", f"{__name__}.WithOldName", queue=5, student={"width": WIDTH})
    assert ConfigReader(["--config", str(own)]).resolved()["model"]["init_args"]["queue"] == 5


def test_a_run_with_old_names_resumes_and_a_changed_value_is_still_found(tmp_path: Path) -> None:
    optimizer = {"lr": 0.1, "decay": "all", "warmup": 2}
    old = {"model": {"init_args": {"init": None, "optimizer": optimizer}}, "data": {"init_args": {"val": "test"}}}
    state = {"state_dict": {}, "loops": {}, "optimizer_states": [], "global_step": 3}
    path = tmp_path / "last.ckpt"
    torch.save({**state, "config": yaml.safe_dump(old)}, path)

    def now(epochs: int) -> dict[str, Any]:
        optimizer = {"lr": 0.1, "decay_on": "all", "warmup_epochs": epochs}
        model = {"init_args": {"init_checkpoint": None, "optimizer": optimizer}}
        return {"model": model, "data": {"init_args": {"val_split": "test"}}}

    check_start("run", str(path), now(2), -1)
    with pytest.raises(UserError, match=r"another model.init_args.optimizer.warmup_epochs \(was 2, is 3\); give"):
        check_start("run", str(path), now(3), -1)


def test_a_stopped_run_with_old_names_ends_like_a_run_that_was_never_stopped(tmp_path: Path) -> None:
    config = write_config(tmp_path / "s.yaml", "Supervised", {"max_epochs": 1}, student={"width": WIDTH})
    options = ["fit", "--config", str(config)]
    main([*options, "--trainer.max_steps", "1"])
    path = tmp_path / "s/last.ckpt"
    stored = torch.load(path, weights_only=True)
    for old, new in (("decay", "decay_on"), ("init", "init_checkpoint"), ("by", "cosine_by")):
        assert f" {new}:" in stored["config"]
        stored["config"] = stored["config"].replace(f" {new}:", f" {old}:")
    torch.save(stored, path)
    main([*options, "--ckpt_path", str(path)])
    assert torch.load(path, weights_only=True)["global_step"] == 4
