import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from edgebnn import records
from edgebnn.cli import main
from tests.runtime.models import CLASSES, INFO, logits, write_onnx


def edgebnn(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgebnn", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def counted(resolution: int, width: float, stem_stride: int, classes: int) -> dict[str, int]:
    """Figures of ReActNet-A by its table of blocks, with none of the library's code."""
    stem = int(32 * width)
    blocks = [
        (1, 2, 1),
        (2, 4, 2),
        (4, 4, 1),
        (4, 8, 2),
        (8, 8, 1),
        (8, 16, 2),
        *[(16, 16, 1)] * 5,
        (16, 32, 2),
        (32, 32, 1),
    ]
    pixels = (resolution // stem_stride) ** 2
    flops, bops, bits, floats = 27 * stem * pixels, 0, 0, 28 * stem
    for inner, outer, stride in blocks:
        i, o = inner * stem, outer * stem
        pixels //= stride**2
        bops += (9 * i * i + i * o) * pixels
        bits += 9 * i * i + i * o
        floats += (i + 3 * i) + (i + 3 * o)
    last = 32 * stem
    flops += last * classes
    floats += last * classes + classes
    return {
        "flops": flops,
        "bops": bops,
        "ops": flops + bops // 64,
        "parameters": bits + floats,
        "binary_weights": bits,
    }


def test_ops_of_the_published_network(capsys: pytest.CaptureFixture[str]) -> None:
    main(["ops", "--arch", "reactnet-a", "--resolution", "224", "--json"])
    figures = json.loads(capsys.readouterr().out)
    assert list(figures) == ["flops", "bops", "ops", "parameters", "binary_weights", "bytes", "layers"]
    # ReActNet's table 1: 0.12 x 10^8 FLOPs, 4.82 x 10^9 BOPs, 0.87 x 10^8 OPs.
    assert (figures["flops"], figures["bops"], figures["ops"]) == (11862016, 4816896000, 87126016)
    assert all(isinstance(figures[name], int) for name in ("flops", "bops", "ops", "parameters", "bytes"))
    assert figures["binary_weights"] == 28253184


@pytest.mark.parametrize(
    ("resolution", "width", "stem_stride", "classes"), [(224, 1.0, 2, 1000), (32, 0.25, 1, 10), (96, 0.5, 2, 37)]
)
def test_ops_match_the_blocks_table(
    capsys: pytest.CaptureFixture[str], resolution: int, width: float, stem_stride: int, classes: int
) -> None:
    options = {"resolution": resolution, "width": width, "stem-stride": stem_stride, "classes": classes}
    main(["ops", "--json", *(f"--{name}={value}" for name, value in options.items())])
    figures = json.loads(capsys.readouterr().out)
    expected = counted(resolution, width, stem_stride, classes)
    assert {name: figures[name] for name in expected} == expected
    floats = expected["parameters"] - expected["binary_weights"]
    # Every layer here has a multiple of eight bits.
    assert figures["bytes"] == expected["binary_weights"] // 8 + 4 * floats
    layers = figures["layers"]
    assert [layer["name"] for layer in layers] == ["stem", *(f"unit_{n:02d}" for n in range(26)), "linear_0"]
    for name in (*expected, "bytes"):
        assert sum(layer[name] for layer in layers) == figures[name]


def test_ops_table_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    main(["ops"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 28 + 1
    assert len({len(line) for line in lines}) == 1
    assert lines[-1].split() == ["total", "11,862,016", "4,816,896,000", "87,126,016", "29,321,736", "7,805,856"]


def test_mistakes_end_with_code_2_and_one_line(tmp_path: Path) -> None:
    for arguments, words in (
        (["ops", "--resolution", 100], "error: resolution 100 does not divide"),
        (["bench", tmp_path / "absent.onnx"], "error: model"),
        (["predict", write_onnx(tmp_path / "m.onnx"), __file__], "is no image"),
    ):
        done = edgebnn(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["ops", "--arch", "vgg"],
        ["ops", "--resolution", "0"],
        ["ops", "--resolution", "x"],
        ["bench"],
        ["predict", "m.onnx"],
    ],
)
def test_a_wrong_command_line_ends_with_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: edgebnn" in capsys.readouterr().err


def test_bench_prints_and_records_the_same_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write_onnx(tmp_path / "first.onnx", info=INFO.to_json())
    second = write_onnx(tmp_path / "second.onnx", batch=1)
    main(
        ["bench", str(first), str(second), "--runs", "7", "--threads", "2", "--record", str(tmp_path / "run"), "--json"]
    )
    printed = json.loads(capsys.readouterr().out)
    assert [result["model"] for result in printed["results"]] == ["hand", "second"]
    found = {(record.kind, record.model): record for record in records.read_records(tmp_path)}
    assert set(found) == {("latency", "hand"), ("latency", "second"), ("size", "hand"), ("size", "second")}
    for path, result in zip((first, second), printed["results"]):
        latency, size = found["latency", result["model"]], found["size", result["model"]]
        assert latency.values == {name: result[name] for name in ("median_ms", "p10_ms", "p90_ms", "min_ms")}
        assert size.values == {"bytes": path.stat().st_size}
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert size.context == {"artifact": path.name, "sha256": digest, "format": "onnx"}
        assert latency.context["sha256"] == digest
        assert latency.context["machine"] == printed["machine"]
        shared = ("artifact", "runtime", "runtime_version", "threads", "batch", "runs")
        assert {name: latency.context[name] for name in shared} == {name: result[name] for name in shared}
        assert (result["artifact"], result["threads"], result["runs"]) == (path.name, 2, 7)
        assert latency.context["rounds_ms"] == [round(time, 4) for time in result["milliseconds"]]
    sessions = {found["latency", model].context["session"] for model in ("hand", "second")}
    assert len(sessions) == 1


def test_weights_in_another_file_are_timed_and_not_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """torch.onnx writes them so, and the record would hold the size and the digest of the rest."""
    whole, split = write_onnx(tmp_path / "whole.onnx"), tmp_path / "split.onnx"
    onnx.save(onnx.load(whole), split, save_as_external_data=True, location="weights", size_threshold=0)
    main(["bench", str(split), "--runs", "1"])
    assert "split.onnx" in capsys.readouterr().out
    main(["bench", str(whole), "--runs", "1", "--record", str(tmp_path / "run")])
    with pytest.raises(SystemExit):
        main(["bench", str(whole), str(split), "--runs", "1", "--record", str(tmp_path / "other")])
    assert "split.onnx has weights in external files" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_bench_table_names_the_fastest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(write_onnx(tmp_path / f"{name}.onnx")) for name in "ab"]
    main(["bench", *paths, "--runs", "5"])
    header, *rows, machine = capsys.readouterr().out.splitlines()
    assert header.split() == ["model", "artifact", "runtime", "median", "ms", "p10-p90", "ms", "ratio", "runs"]
    medians = [float(row.split()[4]) for row in rows]
    ratios = [float(row.split()[6].rstrip("x")) for row in rows]
    assert min(ratios) == 1
    # Three decimals of a millisecond are printed, of figures that may be some hundredths.
    np.testing.assert_allclose(ratios, np.array(medians) / min(medians), rtol=0.2)
    assert machine.startswith("1 thread on ")


def test_predict_gives_the_formulas_probabilities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_onnx(tmp_path / "m.onnx", info=INFO.to_json())
    colours = {"red": (250, 10, 20), "green": (30, 240, 10), "blue": (0, 20, 230)}
    for name, colour in colours.items():
        Image.new("RGB", (20, 10), colour).save(tmp_path / f"{name}.png")
    main(["predict", str(model), *(str(tmp_path / f"{name}.png") for name in colours), "--top", "2", "--json"])
    answers = json.loads(capsys.readouterr().out)
    for answer, (name, colour) in zip(answers, colours.items()):
        pixel = (np.array(colour) / 255 - INFO.mean) / INFO.std
        scores = np.exp(logits(pixel.reshape(1, 3, 1, 1))[0])
        best = np.argsort(-scores)[:2]
        assert [entry["label"] for entry in answer["classes"]] == [INFO.labels[i] for i in best]
        assert answer["classes"][0]["label"] == name
        shares = [entry["probability"] for entry in answer["classes"]]
        np.testing.assert_allclose(shares, (scores / scores.sum())[best], rtol=1e-4)


def test_predict_says_what_it_assumes_of_a_strangers_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "p.png")
    main(["predict", str(write_onnx(tmp_path / "m.onnx")), str(tmp_path / "p.png")])
    captured = capsys.readouterr()
    assert "ImageNet's is assumed" in captured.err
    lines = captured.out.splitlines()
    assert lines[0] == str(tmp_path / "p.png")
    assert [line.split()[1] for line in lines[1:]] == ["0", "2", "1"]
    assert len(lines) == 1 + CLASSES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--width", "nan"], "width nan"),
        (["--width", "1e300"], "up to 64"),
        (["--resolution", "99999999999999999999"], "more than 8192"),
    ],
)
def test_sizes_beyond_reason_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["ops", *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
