"""ONNX files through ONNX Runtime on the CPU."""

from pathlib import Path

import numpy as np
import onnxruntime

from edgebnn.errors import UserError, check
from edgebnn.graph.info import METADATA_KEY
from edgebnn.runtime.model import Model, image_input, make_info

FATAL = 4
"""The log level at which a failure reaches the user once, as an exception, and not on stderr too."""


def load(path: Path, threads: int) -> Model:
    """Loads an ONNX image classifier; see `edgebnn.runtime.load`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        metadata = session.get_modelmeta().custom_metadata_map
    except Exception as error:  # its exceptions share no base of their own
        raise UserError(
            f"model {path} is damaged, or uses what onnxruntime {onnxruntime.__version__} does not know "
            f"({_reason(error)}); export it again"
        ) from None

    inputs = session.get_inputs()
    check(
        len(inputs) == 1 and inputs[0].type == "tensor(float)",
        f"model {path} takes {', '.join(f'{i.name}: {i.type}' for i in inputs) or 'nothing'}; "
        "only one float32 image can be given",
    )
    # A free size is given as a name or as None.
    shape = [size if isinstance(size, int) else None for size in inputs[0].shape]
    batch, channels, side = image_input(shape, path)
    output = session.get_outputs()[0].name

    def infer(images: np.ndarray) -> np.ndarray:
        try:
            return session.run([output], {inputs[0].name: images})[0]
        except Exception as error:  # as above
            raise UserError(f"onnxruntime cannot run model {path} ({_reason(error)}); export it again") from None

    text = metadata.get(METADATA_KEY)
    return Model(
        path=path,
        format="onnx",
        runtime="onnxruntime",
        runtime_version=onnxruntime.__version__,
        threads=threads,
        info=make_info(text, path, side, channels),
        described=text is not None,
        channels=channels,
        batch=batch,
        _infer=infer,
    )


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
