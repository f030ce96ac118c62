"""The logic of the pages, in Streamlit's own test harness: what is asked for, and what comes of it."""

import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from edgebnn.app import shell
from edgebnn.app.shell import DEMO

PATIENCE = 120


def opened(page: str, runs: Path, monkeypatch: pytest.MonkeyPatch, *options: str, **parameters: object) -> AppTest:
    """Returns a page after its first run."""
    monkeypatch.setattr(sys, "argv", ["main.py", "--runs", str(runs), *options])
    app = AppTest.from_string(f"from edgebnn.app.views import {page}\n{page}.show()", default_timeout=PATIENCE)
    for name, value in parameters.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def test_the_three_questions_have_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    # The fastest file above 75% under 1 MB.
    app = opened("choose", DEMO, monkeypatch, top1="75.0", max_size="1")
    rows = app.dataframe[-1].value
    fastest = rows.sort_values("median_ms").iloc[0]
    assert fastest["artifact"] == "binary-packed.onnx"
    assert (rows["top1"] >= 75).all()
    assert (rows["size_mb"] <= 1).all()
    # Whether packed is faster than LCE, and by how much.
    compare = opened("compare", DEMO, monkeypatch)
    options = compare.multiselect[0].options
    lce = next(name for name in options if "binary.tflite" in name)
    packed = next(name for name in options if "binary-packed.onnx" in name)
    compare.multiselect[0].set_value([lce, packed]).run()
    text = " ".join(html.proto.body for html in compare.get("html"))
    assert "binary-packed.onnx is faster than binary.tflite: " in text
    assert "95% interval" in text
    # Which layer costs most.
    model = opened("model", DEMO, monkeypatch, name="demo-binary", part="Layers")
    table = model.dataframe[-1].value
    text = " ".join(html.proto.body for html in model.get("html"))
    assert f"{table.loc[table['ms'].idxmax(), 'layer']} costs most" in text


@pytest.mark.parametrize("part", ["Evaluations", "Layers", "Training", "Checks", "Files", "Records"])
def test_every_part_of_the_model_page_shows_the_demo(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("model", DEMO, monkeypatch, name="demo-binary", part=part)
    assert len(app.dataframe) >= 1


def test_running_is_off_beyond_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["main.py"])
    for address, allowed in (("localhost", True), ("0.0.0.0", False), (None, False)):  # noqa: S104
        monkeypatch.setattr(shell.st, "get_option", lambda name, address=address: address)
        assert shell.may_run() == allowed
    monkeypatch.setattr(sys, "argv", ["main.py", "--allow-run"])
    assert shell.may_run()
