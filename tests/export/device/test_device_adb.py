"""Measuring through the real adb client; a stand-in speaks for its server and the device. No phone was at hand."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgebnn import records
from edgebnn.export.cli import main
from edgebnn.export.device import session as device_session
from edgebnn.export.device.target import Adb
from tests.export import adb_server
from tests.export.adb_server import Server
from tests.export.stand_ins import PRINTED, alive, fails, hang, prints, wait_for, write_program
from tests.runtime.models import write_onnx

needs_client = pytest.mark.skipif(adb_server.CLIENT is None, reason="no adb; Debian: apt-get install adb")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with adb_server.running() as found:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(found.server_address[1]))
        yield found


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """Bytes of a plain TFLite file that holds no operator: what stands in for the program does not read it."""
    flatbuffers = pytest.importorskip("flatbuffers")
    builder = flatbuffers.Builder(64)
    builder.StartObject(7)
    builder.Finish(builder.EndObject(), file_identifier=b"TFL3")
    path = tmp_path / "it's; -a file.tflite"
    path.write_bytes(bytes(builder.Output()))
    return path


@needs_client
def test_a_phone_is_measured(
    server: Server, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, program = tmp_path / "there", tmp_path / "benchmark_model"
    there.mkdir()
    write_program(program, prints(PRINTED))
    given = ["device", str(artifact), "--target", "adb://emulator-5554", "--folder", str(there), "--rounds", "2"]
    main([*given, "--push-runner", str(program), "--record", str(tmp_path / "run")])
    assert " 32.000 " in capsys.readouterr().out
    assert not list(there.iterdir())
    (latency,) = [each for each in records.read_records(tmp_path / "run") if each.kind == "latency"]
    assert (latency.context["target"], latency.context["runtime"]) == ("adb", "benchmark_model")
    assert latency.context["artifact"] == artifact.name
    shells = [request for request in server.requests if request.startswith("shell,v2")]
    assert shells
    assert all(",raw:sh -c " in request for request in shells)
    assert all(artifact.name not in request for request in shells)


@needs_client
def test_a_hanging_program_is_killed_there(
    server: Server, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, program, marker = tmp_path / "there", tmp_path / "benchmark_model", tmp_path / "marker"
    there.mkdir()
    write_program(program, hang(marker))
    given = ["device", str(artifact), "--target", "adb", "--folder", str(there), "--limit", "2"]
    assert "did not finish in 2 s on the Android device" in fails(capsys, [*given, "--runner", str(program)])
    assert wait_for(lambda: not alive(marker), 5)
    assert not list(there.iterdir())


@needs_client
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"refusal": "no devices/emulators found"}, "adb sees no device; connect one"),
        ({"refusal": "more than one device/emulator"}, "name one with adb://SERIAL"),
        ({"refusal": "device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set"}, "confirm the question"),
        ({"refusal": "device offline"}, "is offline"),
        ({"serial": "other"}, "does not see emulator-5554"),
        ({"features": "cmd"}, "older than Android 7"),
    ],
)
def test_what_adb_refuses_is_explained(options: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with adb_server.running(**options) as found:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(found.server_address[1]))
        with pytest.raises(ValueError, match=says), device_session.open_device(Adb("emulator-5554")):
            pass


def test_no_adb_at_all(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    line = fails(capsys, ["device", str(artifact), "--target", "adb"])
    assert "there is no program adb; install it" in line


@needs_client
def test_what_a_phone_without_python_is_told(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_onnx(tmp_path / "m.onnx")
    given = ["device", str(model), "--target", "adb", "--folder", str(tmp_path), "--python", "/nowhere/python3"]
    assert "there is no Python '/nowhere/python3'" in fails(capsys, given)
