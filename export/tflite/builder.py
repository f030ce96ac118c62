"""Builds a TFLite file operator by operator, with the schema that LiteRT ships."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from flatbuffers import flexbuffers

from .file import pack, schema

NEWEST_OLD_CODE = 127
"""The schema keeps operators up to this number in a field of one byte, which old readers look at."""

AXES = np.array([1, 2], np.int32)
"""Height and width of an NHWC tensor."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file.

    Attributes:
        index: its number in the file.
        shape: its shape; batch 1, NHWC.
    """

    index: int
    shape: tuple[int, ...]

    @property
    def side(self) -> int:
        """Height, which is the width too."""
        return self.shape[1]

    @property
    def channels(self) -> int:
        return self.shape[-1]


class TFLiteBuilder:
    """Collects the tensors and operators of one file.

    Every method that adds an operator returns its output. Names begin with the scope that is open (`scope`), which is
    how `export.tflite.file` finds the operators of a part.
    """

    def __init__(self) -> None:
        self._schema = schema()
        self._model = self._schema.ModelT()
        self._graph = self._schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._model.version, self._model.description = 3, "edgebnn"
        # By the schema, buffer 0 is empty and belongs to all tensors that are not constant.
        self._model.buffers, self._model.operatorCodes = [self._schema.BufferT()], []
        self._model.metadata = []
        self._codes: dict[str, int] = {}
        self._constants: dict[tuple[bytes, tuple[int, ...], str], Tensor] = {}
        self._scope = ""

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Names of tensors that are added inside the block begin with `name/`."""
        before, self._scope = self._scope, f"{name}/"
        try:
            yield
        finally:
            self._scope = before

    def image(self, side: int, channels: int) -> Tensor:
        """Adds the file's input, float32 (1, side, side, channels)."""
        return self._tensor("image", (1, side, side, channels), np.dtype(np.float32))

    def constant(self, values: np.ndarray, name: str = "constant") -> Tensor:
        """Adds a constant, float32 or int32; equal constants are stored once."""
        values = np.ascontiguousarray(values)
        key = (values.tobytes(), values.shape, str(values.dtype))
        if key not in self._constants:
            buffer = self._schema.BufferT()
            buffer.data = np.frombuffer(key[0], np.uint8)
            self._model.buffers.append(buffer)
            number = len(self._model.buffers) - 1
            self._constants[key] = self._tensor(name, values.shape, values.dtype, number)
        return self._constants[key]

    def reverse(self, x: Tensor) -> Tensor:
        """Rotates a map by 180 degrees."""
        return self._add("REVERSE_V2", [x, self.constant(AXES)], x.shape, "ReverseV2Options")

    def conv_2d(self, x: Tensor, kernel: np.ndarray, bias: np.ndarray, *, stride: int = 1, same: bool = True) -> Tensor:
        """Adds a float convolution, kernel (H, W, inputs, outputs)."""
        # TFLite's kernels are (outputs, H, W, inputs).
        weight = self.constant(kernel.transpose(3, 0, 1, 2), "weight")
        options = {"strideW": stride, "strideH": stride, "dilationWFactor": 1, "dilationHFactor": 1}
        shape = _pooled(x, kernel.shape[0], stride, same, kernel.shape[3])
        inputs = [x, weight, self.constant(bias, "bias")]
        return self._add("CONV_2D", inputs, shape, "Conv2DOptions", padding=self._padding(same), **options)

    def max_pool(self, x: Tensor, window: int, stride: int) -> Tensor:
        """Adds a max pool with SAME padding."""
        return self._pool("MAX_POOL_2D", x, window, stride, same=True)

    def average_pool(self, x: Tensor) -> Tensor:
        """Adds the average of 2x2 pixels, without padding."""
        return self._pool("AVERAGE_POOL_2D", x, 2, 2, same=False)

    def add(self, x: Tensor, other: Tensor | np.ndarray) -> Tensor:
        """Adds a tensor of the same shape, or a constant (channels,) or ()."""
        second = self.constant(other) if isinstance(other, np.ndarray) else other
        return self._add("ADD", [x, second], x.shape, "AddOptions", potScaleInt16=True)

    def sign(self, x: Tensor) -> Tensor:
        """Adds TFLite's sign, which is 0 at 0."""
        return self._add("SIGN", [x], x.shape)

    def prelu(self, x: Tensor, slope: np.ndarray) -> Tensor:
        """Adds a PReLU of slope (channels,)."""
        return self._add("PRELU", [x, self.constant(slope[None, None], "slope")], x.shape)

    def concatenate(self, x: Tensor, other: Tensor) -> Tensor:
        """Adds a concatenation of two maps' channels."""
        shape = (*x.shape[:3], x.channels + other.channels)
        return self._add("CONCATENATION", [x, other], shape, "ConcatenationOptions", axis=3)

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        given = np.array(shape, np.int32)
        return self._add("RESHAPE", [x, self.constant(given)], shape, "ReshapeOptions", newShape=given)

    def second_pixels(self, x: Tensor) -> Tensor:
        """Adds a slice that takes the second of each two pixels, in both directions."""
        begin, end, step = ([0, 1, 1, 0], list(x.shape), [1, 2, 2, 1])
        numbers = [self.constant(np.array(each, np.int32)) for each in (begin, end, step)]
        shape = (1, x.side // 2, x.side // 2, x.channels)
        return self._add("STRIDED_SLICE", [x, *numbers], shape, "StridedSliceOptions")

    def pad_ones(self, x: Tensor, before: int) -> Tensor:
        """Adds padding of +1: `before` pixels at the top and left, one at the bottom and right."""
        sides = np.array([[0, 0], [before, 1], [before, 1], [0, 0]], np.int32)
        side = x.side + before + 1
        inputs = [x, self.constant(sides), self.constant(np.array(1, np.float32))]
        return self._add("PADV2", inputs, (1, side, side, x.channels), "PadV2Options")

    def mean(self, x: Tensor) -> Tensor:
        """Adds the mean over height and width: (1, channels)."""
        return self._add("MEAN", [x, self.constant(AXES)], (1, x.channels), "ReducerOptions", keepDims=False)

    def linear(self, x: Tensor, weight: np.ndarray, bias: np.ndarray, *, relu: bool) -> Tensor:
        """Adds a linear layer, weight (outputs, inputs), and perhaps a ReLU."""
        activation = self._schema.ActivationFunctionType.RELU if relu else self._schema.ActivationFunctionType.NONE
        inputs = [x, self.constant(weight, "weight"), self.constant(bias, "bias")]
        return self._add(
            "FULLY_CONNECTED", inputs, (1, len(weight)), "FullyConnectedOptions", fusedActivationFunction=activation
        )

    def custom(
        self,
        kind: str,
        inputs: list[Tensor | None],
        shape: tuple[int, ...],
        dtype: np.dtype,
        options: Mapping[str, int] | None = None,
    ) -> Tensor:
        """Adds a custom operator.

        Args:
            kind: its name, such as "LceBconv2d".
            inputs: its inputs; None for one that is left out.
            shape: of its output.
            dtype: of its output.
            options: its options, which become a FlexBuffers map; None for an operator without options.
        """
        operator = self._operator(kind, inputs)
        if options is not None:
            operator.customOptions = np.frombuffer(bytes(flexbuffers.Dumps(dict(options))), np.uint8)
        return self._output(operator, kind, shape, dtype)

    def finish(self, image: Tensor, output: Tensor, *, output_name: str, metadata: Mapping[str, str]) -> bytes:
        """Returns the file.

        Args:
            image: its input.
            output: its output.
            output_name: the output's name in the file's signature.
            metadata: texts to store, by key.
        """
        self._graph.inputs, self._graph.outputs = [image.index], [output.index]
        self._graph.name = "main"
        self._model.subgraphs = [self._graph]
        signature = self._schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs = [self._named("image", image)]
        signature.outputs = [self._named(output_name, output)]
        self._model.signatureDefs = [signature]
        for key, text in metadata.items():
            buffer, entry = self._schema.BufferT(), self._schema.MetadataT()
            buffer.data = np.frombuffer(text.encode(), np.uint8)
            entry.name, entry.buffer = key, len(self._model.buffers)
            self._model.buffers.append(buffer)
            self._model.metadata.append(entry)
        return pack(self._model)

    def _pool(self, kind: str, x: Tensor, window: int, stride: int, *, same: bool) -> Tensor:
        shape = _pooled(x, window, stride, same, x.channels)
        options = {"strideW": stride, "strideH": stride, "filterWidth": window, "filterHeight": window}
        return self._add(kind, [x], shape, "Pool2DOptions", padding=self._padding(same), **options)

    def _padding(self, same: bool) -> int:
        return int(self._schema.Padding.SAME if same else self._schema.Padding.VALID)

    def _add(
        self, kind: str, inputs: list[Tensor], shape: tuple[int, ...], options: str = "", **values: object
    ) -> Tensor:
        """Adds a built-in operator with a float32 output; `options` names its table of options in the schema."""
        operator = self._operator(kind, inputs)
        if options:
            operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(self._schema, f"{options}T")()
            for name, value in values.items():
                setattr(operator.builtinOptions, name, value)
        return self._output(operator, kind, shape, np.dtype(np.float32))

    def _operator(self, kind: str, inputs: list[Tensor] | list[Tensor | None]) -> Any:
        operator = self._schema.OperatorT()
        operator.opcodeIndex = self._code(kind)
        operator.inputs = [-1 if tensor is None else tensor.index for tensor in inputs]
        self._graph.operators.append(operator)
        return operator

    def _output(self, operator: Any, kind: str, shape: tuple[int, ...], dtype: np.dtype) -> Tensor:
        output = self._tensor(kind.lower(), shape, dtype)
        operator.outputs = [output.index]
        return output

    def _code(self, kind: str) -> int:
        if kind not in self._codes:
            code = self._schema.OperatorCodeT()
            builtin = getattr(self._schema.BuiltinOperator, kind, None)
            if builtin is None:
                code.customCode, builtin = kind, self._schema.BuiltinOperator.CUSTOM
            code.builtinCode, code.deprecatedBuiltinCode = builtin, min(builtin, NEWEST_OLD_CODE)
            self._codes[kind] = len(self._model.operatorCodes)
            self._model.operatorCodes.append(code)
        return self._codes[kind]

    def _tensor(self, name: str, shape: tuple[int, ...], dtype: np.dtype, buffer: int = 0) -> Tensor:
        types = {"float32": self._schema.TensorType.FLOAT32, "int32": self._schema.TensorType.INT32}
        tensor = self._schema.TensorT()
        # A constant may serve several parts, so its name belongs to none of them.
        tensor.name = f"{'' if buffer else self._scope}{name}_{len(self._graph.tensors)}"
        tensor.shape, tensor.type, tensor.buffer = list(shape), types[dtype.name], buffer
        self._graph.tensors.append(tensor)
        return Tensor(len(self._graph.tensors) - 1, tuple(shape))

    def _named(self, name: str, tensor: Tensor) -> Any:
        entry = self._schema.TensorMapT()
        entry.name, entry.tensorIndex = name, tensor.index
        return entry


def _pooled(x: Tensor, window: int, stride: int, same: bool, channels: int) -> tuple[int, ...]:
    """Shape after a window with SAME padding or none slid over `x`."""
    side = -(-x.side // stride) if same else (x.side - window) // stride + 1
    return (1, side, side, channels)
