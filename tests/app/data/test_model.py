"""Curves, layers, lineage and files of a model, against files written here."""

import hashlib
from pathlib import Path

import pandas as pd
import pytest
import yaml

from edgebnn.app.data.curves import MOST_POINTS, curves
from edgebnn.app.data.layers import layers, measured_layers
from edgebnn.app.data.lineage import artifacts, commands, stages
from edgebnn.app.data.store import Store
from edgebnn.records import Record, write_record
from tests.app.sample import SERVER, date


def configure(folder: Path, name: str, method: str, **arguments: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model = {"class_path": f"edgebnn.train.methods.{method}", "init_args": arguments}
    (folder / "config.yaml").write_text(yaml.safe_dump({"name": name, "model": model, "trainer": {"max_epochs": 8}}))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe's runs folder: a teacher, a student in two steps, and its evaluation."""
    root = tmp_path / "runs"
    run = root / "demo"
    configure(run / "teacher", "t", "MoCoV2")
    configure(run / "step1", "s1", "Distill", teacher="runs/demo/teacher/model.safetensors")
    step1, teacher = "runs/demo/step1/model.safetensors", "runs/demo/teacher/model.safetensors"
    configure(run / "step2", "s2", "Distill", teacher=teacher, init=step1)
    configure(run / "linear", "student", "LinearEvaluation", checkpoint="runs/demo/step2/model.safetensors")
    write_record(Record("accuracy", "student", {"top1": 70.0}, {"protocol": "linear, frozen features"}), run / "linear")
    return root


def test_lineage_goes_back_to_the_teacher(recipe: Path) -> None:
    found = stages(Store(recipe).look(), "student")
    assert [(stage.name, stage.method, stage.epochs) for stage in found] == [
        ("demo/teacher", "MoCoV2", "8"),
        ("demo/step1", "Distill", "8"),
        ("demo/step2", "Distill", "8"),
        ("demo/linear", "LinearEvaluation", "8"),
    ]
    assert found[2].parents == (
        ("starts from", "runs/demo/step1/model.safetensors"),
        ("learns from", "runs/demo/teacher/model.safetensors"),
    )


def test_lineage_stays_under_the_runs_folder_and_ends(recipe: Path, tmp_path: Path) -> None:
    configure(tmp_path / "outside", "secret", "MoCoV2")
    linear = recipe / "demo" / "linear"
    configure(linear, "student", "LinearEvaluation", checkpoint=str(tmp_path / "outside" / "model.safetensors"))
    assert [stage.name for stage in stages(Store(recipe).look(), "student")] == ["demo/linear"]
    # A circle, and files that are no configuration.
    configure(linear, "student", "LinearEvaluation", checkpoint="runs/demo/linear/model.safetensors")
    assert len(stages(Store(recipe).look(), "student")) == 1
    for damage in (b"\xff", b"- a", b"model: 5", b"{" * 5000, b"x: !!python/object/apply:os.system [ls]"):
        (linear / "config.yaml").write_bytes(damage)
        assert stages(Store(recipe).look(), "student") == []


def test_files_are_those_whose_digest_a_record_names(recipe: Path, tmp_path: Path) -> None:
    run = recipe / "demo"
    content = b"the model"
    digest = hashlib.sha256(content).hexdigest()
    for name in ("a.onnx", "copy.txt"):
        (run / name).write_bytes(content)
    (run / "other.onnx").write_bytes(b"another")
    (tmp_path / "secret.onnx").write_bytes(content)
    (run / "link.onnx").symlink_to(tmp_path / "secret.onnx")
    context = {"artifact": "../../secret.onnx", "sha256": digest, "format": "onnx-packed"}
    write_record(Record("size", "student", {"bytes": 9}, context), run)
    (file,) = artifacts(Store(recipe).look(), "student")
    assert (file.path, file.name, file.bytes, file.sha256) == (run / "a.onnx", "a.onnx", 9, digest)


def test_commands_quote_names(recipe: Path) -> None:
    context = {"artifact": "a b; rm -rf $HOME.onnx", "format": "onnx-packed"}
    write_record(Record("size", "student", {"bytes": 9}, context), recipe / "demo")
    lines = dict(commands(Store(recipe).look(), "student"))
    checkpoint = recipe / "demo" / "linear" / "model.safetensors"
    assert lines["Stage demo/step1"] == f"edgebnn train fit --config {recipe}/demo/step1/config.yaml"
    assert lines["Export a b; rm -rf $HOME.onnx"] == (
        f"edgebnn export onnx {checkpoint} 'a b; rm -rf $HOME.onnx' --packed --record {recipe}/demo"
    )


def test_curves_are_the_logs_values(tmp_path: Path) -> None:
    for version, rows in enumerate(["9,0,0.001,\n9,0,,5.5\n19,0,,4.5\n", "19,0,,4.0\n29,1,,3.0\n"]):
        log = tmp_path / "logs" / "csv" / f"version_{version}"
        log.mkdir(parents=True)
        (log / "metrics.csv").write_text("step,epoch,lr-Adam,train/loss\n" + rows)
    found = curves(tmp_path, "step1")
    loss = found[found["metric"] == "Loss"]
    # The resumed run did step 19 again.
    assert list(zip(loss["step"], loss["value"])) == [(9, 5.5), (19, 4.0), (29, 3.0)]
    assert list(found[found["metric"] == "Learning rate"]["value"]) == [0.001]
    assert set(found["stage"]) == {"step1"}


def test_long_curves_are_thinned_and_damaged_logs_are_none(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "csv" / "version_0"
    log.mkdir(parents=True)
    (log / "metrics.csv").write_text("step,train/loss\n" + "".join(f"{n},{n}\n" for n in range(10_000)))
    found = curves(tmp_path, "long")
    assert len(found) == MOST_POINTS
    assert (found["value"].iloc[0], found["value"].iloc[-1]) == (0, 9999)
    for damage in (b"", b"\xff\xfe", b"a,b\n1,2\n", b'step,"x\n'):
        (log / "metrics.csv").write_bytes(damage)
        assert curves(tmp_path, "bad").empty


def kernels(day: int, **context: object) -> Record:
    told = {"artifact": "a.onnx", "isa": "avx2", "threads": 1, "machine": SERVER}
    return Record("kernels", "m", {"median_ms": 2.0, "ceiling_ms": 1.0}, told | context, created=date(day))


def test_layers_are_the_newest_records_with_their_shares() -> None:
    given = [
        {"name": "stem", "kind": "float", "ms": 1.5, "ops": 100.0, "bytes": 40, "least_ms": 0.5},
        {"name": "unit_00", "kind": "binary", "ms": 0.5, "ops": 2.5, "bytes": 8, "least_ms": 0.1},
        {"name": "broken", "ms": "fast"},
        "no table",
    ]
    old, new = kernels(1, nodes={"stem": 9.0}), kernels(2, layers=given)
    other = kernels(1, isa="neon", nodes={"stem": 3.0, "head": 1.0})
    assert measured_layers([old, other, new, kernels(3)]) == [new, other]
    table = layers(new)
    assert list(table["layer"]) == ["stem", "unit_00"]
    assert list(table["share"]) == [75.0, 25.0]
    assert list(table["ops"]) == [100.0, 2.5]
    nodes = layers(other)
    assert (list(nodes["ms"]), list(nodes["share"]), nodes["ops"].isna().all()) == ([3.0, 1.0], [75.0, 25.0], True)
    assert isinstance(nodes, pd.DataFrame)
