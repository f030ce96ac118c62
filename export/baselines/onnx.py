"""Writes the baselines that a user could choose instead of a binary network: torchvision's small networks.

They are ONNX files in float and int8, and plain TFLite files (`export.baselines.tflite`). The weights are random
(`export.baselines.random_networks`), because the files are only for timing.

Float: torch's exporter folds the BatchNorms into the convolutions. It is the exporter based on TorchScript, because the
newer one needs another package.

Int8: ONNX Runtime's static quantisation, as its documentation advises for convolutional networks. The model is
pre-processed and calibrated, and gets quantise-dequantise pairs (QDQ) with one scale per output channel. Activations
are uint8, and weights are int8 with 7 bits (U8S8 with `reduce_range`). With 8 bits, processors without VNNI saturate
sums of two products in int16. No other combination of format and types was faster on such a processor.
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


def build_network(name: str, resolution: int, *, seed: int = 0) -> nn.Module:
    """Returns a network of `NETWORKS` with 1000 classes and random weights, in eval mode.

    Raises:
        UserError: no network has that name.
    """
    check(name in NETWORKS, f"Unknown baseline '{name}'. Valid baselines are {', '.join(NETWORKS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = NETWORKS[name](weights=None)
    return settle(model, resolution, seed=seed)


def convert_module_to_onnx(model: nn.Module, resolution: int) -> bytes:
    """Returns a network in eval mode as ONNX: `image` float32 (batch, 3, resolution, resolution) -> `logits`."""
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


def quantise_model(data: bytes, images: np.ndarray) -> bytes:
    """Returns a float ONNX model quantised to int8.

    The ranges of its activations are measured on images (N, 3, H, W).
    """
    with temporary_folder() as folder:
        original, prepared, quantised = (Path(folder, f"{name}.onnx") for name in ("original", "prepared", "quantised"))
        original.write_bytes(data)
        quant_pre_process(str(original), str(prepared))
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


def write_onnx(name: str, folder: Path, resolution: int) -> Path:
    """Writes a baseline as NAME.onnx into a folder and returns its path. Raises `UserError` as `build_network` does."""
    path = folder / f"{name}.onnx"
    write_bytes(path, convert_module_to_onnx(build_network(name, resolution), resolution))
    return path


def write_tflite(name: str, folder: Path, resolution: int) -> Path:
    """Writes a baseline as NAME.tflite into a folder and returns its path.

    Raises `UserError` as `build_network` does.
    """
    path = folder / f"{name}.tflite"
    write_bytes(path, baselines_tflite.convert_module_to_tflite(build_network(name, resolution), name, resolution))
    return path


def write_int8(name: str, folder: Path, resolution: int) -> Path:
    """Writes NAME-int8.onnx from the NAME.onnx that `write_onnx` wrote. It is calibrated on noise."""
    shape = (CALIBRATION_IMAGES, 3, resolution, resolution)
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    path = folder / f"{name}-int8.onnx"
    write_bytes(path, quantise_model(existing_file(folder / f"{name}.onnx", "baseline").read_bytes(), images))
    return path


class _Images(CalibrationDataReader):
    """Hands out one image at a time, as ONNX Runtime's calibration expects."""

    def __init__(self, images: np.ndarray) -> None:
        self._rest = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._rest, None)
        return None if image is None else {INPUT: image[None]}
