"""A 64-bit ARM user space under qemu as the device: tests/kernels/aarch64.sh builds it and runs this."""

import json
import os
from pathlib import Path

import pytest

from edgebnn import records
from edgebnn.export.cli import main

PYTHON, MODEL = (os.environ.get(f"EDGEBNN_DEVICE_{name}") for name in ("PYTHON", "MODEL"))


@pytest.mark.skipif(PYTHON is None, reason="run by tests/kernels/aarch64.sh")
@pytest.mark.timeout(900)
def test_the_packed_model_runs_on_arm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = tmp_path / "there"
    there.mkdir()
    given = [MODEL, "--target", "local", "--python", PYTHON, "--folder", there, "--rounds", 1, "--limit", 300]
    main(["device", *map(str, given), "--record", str(tmp_path / "run"), "--json"])
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert len(result["milliseconds"]) == 1
    assert len(result["milliseconds"][0]) == 3
    (latency,) = [each for each in records.read_records(tmp_path / "run") if each.kind == "latency"]
    assert latency.context["isa"] == "neon"
    assert latency.context["machine"]["architecture"] == "aarch64"
    assert latency.context["machine"]["features"] == ["neon"]
    assert latency.context["machine"]["bits"] == 64
    assert 0 < latency.values["min_ms"] <= latency.values["median_ms"]
    assert not list(there.iterdir())
