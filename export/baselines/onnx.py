"""What a user would pick instead of a binary network: torchvision's small networks in ONNX Runtime, float and int8,
and as plain TFLite (`export.baselines.tflite`).

The weights are random (`export.baselines.random_networks`): these files are for timing.

Float: BatchNorms folded into the convolutions by torch's exporter. It is the one based on TorchScript, since the newer
one needs a further package.

Int8: ONNX Runtime's own static quantisation as its documentation advises for convolutional networks: pre-processed,
calibrated, quantise-dequantise pairs (QDQ), a scale an output channel. Activations are uint8, weights int8 of 7 bits
(U8S8, `reduce_range`). Of the ten combinations of {QDQ, QOperator} with {U8S8, U8S8 of 7 bits, S8S8, S8S8 of 7 bits,
U8U8} none was faster beyond noise on a processor with AVX2 and no VNNI (ResNet-18: 22 ms, others 22 to 200); U8S8 of
8 bits is wrong there: its sums of two products saturate in int16.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn
from torchvision import models

from edgebnn.errors import check
from edgebnn.files import existing_file, temporary_folder, write_bytes

from ..onnx.portable import INPUT, OPSET, OUTPUT
from . import tflite as baselines_tflite
from .random_networks import settle

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "resnet18": models.resnet18,
    "mobilenet_v2": models.mobilenet_v2,
    "mobilenet_v3_small": models.mobilenet_v3_small,
}
CALIBRATION_IMAGES = 8


def network(name: str, resolution: int, *, seed: int = 0) -> nn.Module:
    """A network of `NETWORKS` with 1000 classes and random weights, in eval mode.

    Raises:
        UserError: there is none of that name.
    """
    check(name in NETWORKS, f"Unknown baseline '{name}'. Valid baselines are {', '.join(NETWORKS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = NETWORKS[name](weights=None)
    return settle(model, resolution, seed=seed)


def convert_module_to_onnx(model: nn.Module, resolution: int) -> bytes:
    """`model`, in eval mode, as ONNX: `image` float32 (batch, 3, resolution, resolution) -> `logits`."""
    with temporary_folder() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        path = Path(folder, "model.onnx")
        torch.onnx.export(
            model,
            (torch.zeros(1, 3, resolution, resolution),),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
        )
        return path.read_bytes()


def quantise(data: bytes, images: np.ndarray) -> bytes:
    """The float ONNX model `data` in int8, its activations' ranges calibrated on `images` (N, 3, H, W)."""
    with temporary_folder() as folder:
        given, prepared, quantised = (Path(folder, f"{name}.onnx") for name in ("given", "prepared", "quantised"))
        given.write_bytes(data)
        quant_pre_process(str(given), str(prepared))
        quantize_static(
            str(prepared),
            str(quantised),
            _Images(images),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )
        return quantised.read_bytes()


def write(name: str, folder: Path, resolution: int) -> Path:
    """Writes baseline `name` as NAME.onnx into `folder` and gives its path. Raises `UserError` as `network` does."""
    path = folder / f"{name}.onnx"
    write_bytes(path, convert_module_to_onnx(network(name, resolution), resolution))
    return path


def write_tflite(name: str, folder: Path, resolution: int) -> Path:
    """Writes baseline `name` as NAME.tflite into `folder` and gives its path. Raises `UserError` as `network` does."""
    path = folder / f"{name}.tflite"
    write_bytes(path, baselines_tflite.convert_module_to_tflite(network(name, resolution), name, resolution))
    return path


def write_int8(name: str, folder: Path, resolution: int) -> Path:
    """Writes NAME-int8.onnx from the NAME.onnx that `write` left in `folder`, calibrated on noise."""
    shape = (CALIBRATION_IMAGES, 3, resolution, resolution)
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    path = folder / f"{name}-int8.onnx"
    write_bytes(path, quantise(existing_file(folder / f"{name}.onnx", "baseline").read_bytes(), images))
    return path


class _Images(CalibrationDataReader):
    """One image at a time, as ONNX Runtime's calibration asks for them."""

    def __init__(self, images: np.ndarray) -> None:
        self._rest = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._rest, None)
        return None if image is None else {INPUT: image[None]}
