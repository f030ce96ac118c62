"""ONNX files through ONNX Runtime on the CPU; packed ones with the project's own operator."""

import re
import time
from pathlib import Path

import numpy as np
import onnxruntime

from edgebnn.errors import UserError, check
from edgebnn.graph.info import METADATA_KEY
from edgebnn.runtime import kernels
from edgebnn.runtime.formats import onnx_file
from edgebnn.runtime.model import Model, image_input, make_info

DOMAIN, DOMAIN_VERSION = "ai.edgebnn", 2
FATAL = 4
"""The log level at which a failure reaches the user once, as an exception, and not on stderr too."""


def load(path: Path, threads: int) -> Model:
    """Loads an ONNX image classifier; see `edgebnn.runtime.load`."""
    begin = time.perf_counter_ns()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait for the next run by spinning would take the cores from whatever runs in between.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = FATAL
    isa = register_kernels(path, options)
    try:
        # To "fall back" would be to try the same again and to print.
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"], enable_fallback=0)
        init_ms = (time.perf_counter_ns() - begin) / 1e6
        metadata = session.get_modelmeta().custom_metadata_map
        # Names in a damaged file may be no text.
        inputs = [(each.name, each.type, each.shape) for each in session.get_inputs()]
        outputs = [each.name for each in session.get_outputs()]
    except Exception as error:  # its exceptions share no base of their own
        raise UserError(
            f"model {path} is damaged, or uses what onnxruntime {onnxruntime.__version__} does not know "
            f"({reason(error)}); export it again"
        ) from None

    check(
        len(inputs) == 1 and inputs[0][1] == "tensor(float)",
        f"model {path} takes {', '.join(f'{name}: {kind}' for name, kind, _ in inputs) or 'nothing'}; "
        "only one float32 image can be given",
    )
    given, _, sizes = inputs[0]
    # A free size is given as a name or as None.
    shape = [size if isinstance(size, int) else None for size in sizes]
    batch, channels, side = image_input(shape, path)
    check(outputs, f"model {path} gives no output; export it again")

    def infer(images: np.ndarray) -> np.ndarray:
        try:
            return session.run(outputs[:1], {given: images})[0]
        except Exception as error:  # as above
            raise UserError(f"onnxruntime cannot run model {path} ({reason(error)}); export it again") from None

    text = metadata.get(METADATA_KEY)
    model = Model(
        path=path,
        format="onnx" if isa is None else "onnx-packed",
        runtime="onnxruntime",
        runtime_version=onnxruntime.__version__,
        threads=threads,
        info=make_info(text, path, side, channels),
        described=text is not None,
        channels=channels,
        batch=batch,
        _infer=infer,
        isa=isa,
        init_ms=init_ms,
    )
    if isa is not None:
        _try(model)
    return model


def register_kernels(path: Path, options: onnxruntime.SessionOptions) -> str | None:
    """Gives `options` the packed kernels if the file needs them; the name of the path they run on, or None.

    Raises:
        UserError: the file is for a newer version of the operators, the kernels are not installed, or
            EDGEBNN_ISA names a path that is not to be had.
    """
    version = onnx_file.operator_sets(path).get(DOMAIN)
    if version is None:
        return None
    # ONNX Runtime would take operators of a newer version for the newest it knows.
    check(
        version <= DOMAIN_VERSION,
        f"model {path} needs version {version} of the operators {DOMAIN}, this edgebnn has {DOMAIN_VERSION}: "
        "it needs a newer edgebnn; pip install --upgrade edgebnn",
    )
    isa = kernels.isa()
    try:
        options.register_custom_ops_library(str(kernels.library_path()))
    except Exception as error:  # as in `load`
        raise UserError(f"the kernels do not load ({reason(error)}); install edgebnn again") from None
    return isa


def _try(model: Model) -> None:
    """Runs the model once: sizes that depend on the image are checked by the operators themselves, in a run."""
    try:
        model.run(np.zeros((model.batch or 1, *model.image_shape), np.float32))
    except UserError:
        raise
    except (MemoryError, ValueError):
        raise UserError(f"model {model.path} takes images too large for this machine; export it again") from None


def reason(error: Exception) -> str:
    """One line of what ONNX Runtime says, without its codes; the middle is the part to do without."""
    said = (str(error).splitlines() or [""])[0]
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Exception during initialization: )?", "", said)
    text = text if len(text) <= 240 else f"{text[:100]} ... {text[-135:]}"
    return text or type(error).__name__
