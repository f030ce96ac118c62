"""Runs ONNX files in ONNX Runtime on the CPU. Packed files use edgebnn's own operators."""

import re
import time
from pathlib import Path

import numpy as np
import onnxruntime

from edgebnn.errors import UserError, check
from edgebnn.graph.info import METADATA_KEY
from edgebnn.runtime import kernels
from edgebnn.runtime.formats import onnx_file
from edgebnn.runtime.model import Model, make_info, parse_image_shape

DOMAIN, DOMAIN_VERSION = "ai.edgebnn", 2
FATAL = 4
"""The log level at which a failure is reported only as an exception, and not on stderr as well."""


def load_onnx_model(path: Path, threads: int) -> Model:
    """Loads an ONNX image classifier. See `edgebnn.runtime.load_model` for arguments and errors."""
    begin = time.perf_counter_ns()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin between two runs would take the cores from other work.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = FATAL
    isa = register_kernels(path, options)
    try:
        # ONNX Runtime's fallback would try the same provider again and print messages.
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"], enable_fallback=0)
        init_ms = (time.perf_counter_ns() - begin) / 1e6
        metadata = session.get_modelmeta().custom_metadata_map
        # In a damaged file these can fail too: a name may be no valid text.
        inputs = [(each.name, each.type, each.shape) for each in session.get_inputs()]
        outputs = [each.name for each in session.get_outputs()]
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        raise UserError(
            f"model {path} is damaged, or uses features that onnxruntime {onnxruntime.__version__} lacks "
            f"({error_reason(error)}); export it again"
        ) from None

    check(
        len(inputs) == 1 and inputs[0][1] == "tensor(float)",
        f"model {path} takes {', '.join(f'{name}: {kind}' for name, kind, _ in inputs) or 'nothing'}; "
        "only a model that takes one float32 image can be run",
    )
    input_name, _, sizes = inputs[0]
    # ONNX Runtime shows a free size as a name or as None.
    shape = [size if isinstance(size, int) else None for size in sizes]
    batch, channels, side = parse_image_shape(shape, path)
    check(outputs, f"model {path} has no output; export it again")

    def infer(images: np.ndarray) -> np.ndarray:
        try:
            return session.run(outputs[:1], {input_name: images})[0]
        except Exception as error:  # as above
            raise UserError(f"onnxruntime cannot run model {path} ({error_reason(error)}); export it again") from None

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
        _run_once(model)
    return model


def register_kernels(path: Path, options: onnxruntime.SessionOptions) -> str | None:
    """Registers the packed kernels in `options` if the file uses them.

    Returns:
        The path that the kernels run on, such as "avx2"; None if the file does not use them.

    Raises:
        UserError: the file needs a newer version of the operators, the kernels are not installed, or EDGEBNN_ISA names
            a path that is not available.
    """
    version = onnx_file.operator_sets(path).get(DOMAIN)
    if version is None:
        return None
    # ONNX Runtime would run operators of a newer version as the newest version that it knows.
    check(
        version <= DOMAIN_VERSION,
        f"model {path} needs version {version} of the operators {DOMAIN}, but this edgebnn has {DOMAIN_VERSION} and "
        "needs a newer edgebnn; pip install --upgrade edgebnn",
    )
    isa = kernels.isa()
    try:
        options.register_custom_ops_library(str(kernels.library_path()))
    except Exception as error:  # as in `load_onnx_model`
        raise UserError(f"the kernels do not load ({error_reason(error)}); install edgebnn again") from None
    return isa


def _run_once(model: Model) -> None:
    """Runs the model once. The operators check sizes that depend on the image only in a run."""
    try:
        model.run(np.zeros((model.batch or 1, *model.image_shape), np.float32))
    except UserError:
        raise
    except (MemoryError, ValueError):
        raise UserError(f"model {model.path} takes images too large for this machine; export it again") from None


def error_reason(error: Exception) -> str:
    """Returns the first line of an ONNX Runtime error without its codes. The middle of a long line is left out."""
    said = (str(error).splitlines() or [""])[0]
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Exception during initialization: )?", "", said)
    text = text if len(text) <= 240 else f"{text[:100]} ... {text[-135:]}"
    return text or type(error).__name__
