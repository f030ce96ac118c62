"""Finds the library of the packed kernels, and calls its C functions in tests and benchmarks (kernels/core/c_api.h).

A *path* is the code for one instruction set. Two environment variables change the choice:

- EDGEBNN_LIBRARY names another build of the library, such as one with sanitizers or for another processor.
- EDGEBNN_ISA forces a path.
"""

import ctypes
import os
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np

import edgebnn
from edgebnn.errors import UserError, check
from edgebnn.graph import Stem, Unit, bits

MAX_CHANNELS = 1 << 14
MAX_TERMS = (1 << 15) - 1
"""The limits of unit.h: channels, and products per accumulator (kernel * kernel * inputs)."""


def library_path() -> Path:
    """Returns the path of the library for `SessionOptions.register_custom_ops_library`.

    Raises:
        UserError: the package was installed without the library, or EDGEBNN_LIBRARY names no file.
    """
    named = os.environ.get("EDGEBNN_LIBRARY")
    if named:
        check(Path(named).is_file(), f"EDGEBNN_LIBRARY is {named}, which is no file; name a built library or unset it")
        return Path(named)
    suffix = {"darwin": "dylib"}.get(sys.platform, "so")
    path = Path(edgebnn.__file__).parent / "kernels" / f"libedgebnn.{suffix}"
    check(path.is_file(), f"the kernels are not built: {path} is missing; install the wheel, or run 'make kernels'")
    return path


def isa() -> str:
    """Returns the path that units run on: "scalar", "avx2", "avx512" or "neon".

    Raises:
        UserError: EDGEBNN_ISA names a path that this build or this processor does not have.
    """
    name = _library().edgebnn_isa()
    check(name, _error)
    return name.decode()


def isas() -> tuple[str, ...]:
    """Returns all paths that this build and this processor have."""
    return tuple(_library().edgebnn_isas().decode().split())


def popcount_ceiling(isa: str) -> float:
    """Measures how many binary multiply-accumulates per second one core computes in registers on a path.

    Raises:
        UserError: the path is not available here.
    """
    rate = _library().edgebnn_popcount_ceiling(isa.encode())
    check(rate > 0, _error)
    return rate


class KernelUnit:
    """A binary unit that is prepared for one path.

    Args:
        unit: the unit, binary, with float32 constants.
        isa: the path, or None for the path that `isa()` returns.
        next_threshold: (outputs,): the thresholds of the next unit. With them the unit also writes the bits that the
            next unit reads.
        given_pooled: whether a unit with the pool shortcut reads the 2x2 average of x in place of x. It then also
            reads the bits of x.

    Raises:
        UserError: the path is not available here, or the kernels cannot run such a unit.
    """

    def __init__(
        self,
        unit: Unit,
        *,
        isa: str | None = None,
        next_threshold: np.ndarray | None = None,
        given_pooled: bool = False,
    ) -> None:
        check(
            unit.binary,
            "the kernels run only units with binary activations and weights; run other units in reference.py",
        )
        check(not given_pooled or unit.shortcut == "pool", f"a unit with shortcut '{unit.shortcut}' reads no average")
        outputs, inputs, kernel, _ = unit.weight.shape
        weight = bits.pack_weight(unit.weight)
        constants = [_floats(getattr(unit, name)) for name in ("threshold", "scale", "bias", "slope")]
        following = None if next_threshold is None else _floats(next_threshold)
        check(following is None or following.shape == (outputs,), f"next_threshold must have {outputs} values")
        self._library, self._inputs, self._outputs, self._stride = _library(), inputs, outputs, unit.stride
        self._writes_bits, self._given_pooled = following is not None, given_pooled
        self._handle = self._library.edgebnn_unit_create(
            isa.encode() if isa else None,
            *(inputs, outputs, kernel, unit.stride),
            *(unit.padding.encode(), b"pooled" if given_pooled else unit.shortcut.encode()),
            *map(_pointer, (weight, *constants, following)),
        )
        check(self._handle, _error)

    @property
    def isa(self) -> str:
        """The path that it is prepared for."""
        return self._library.edgebnn_unit_isa(self._handle).decode()

    def __call__(
        self, x: np.ndarray, packed: np.ndarray | None = None, *, threads: int = 1, in_place: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Runs the unit.

        Args:
            x: (N, H, W, inputs), float32.
            packed: the packed bits of x, or None to compare x with the thresholds first.
            threads: number of threads.
            in_place: whether y overwrites a copy of x, as ONNX Runtime lets it. The shapes must be equal.

        Returns:
            y (N, H / stride, W / stride, outputs), and the packed bits of y or None.
        """
        y, _, next_bits = self.run(x, packed, threads=threads, in_place=in_place)
        assert y is not None
        return y, next_bits

    def run(
        self,
        x: np.ndarray,
        packed: np.ndarray | None = None,
        *,
        y: bool = True,
        pooled: bool = False,
        threads: int = 1,
        in_place: bool = False,
    ) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
        """Runs the unit like a call, with a choice of outputs.

        Args:
            x, packed, threads, in_place: as in a call.
            y: whether to write y.
            pooled: whether to write the 2x2 average of y, (N, H / stride / 2, W / stride / 2, outputs).

        Returns:
            y or None, its average or None, and the packed bits of y or None.
        """
        check(y or not in_place, "only y can be written in place; ask for y too")
        x = _floats(x)
        check(x.ndim == 4 and x.shape[3] == self._inputs, f"x is {x.shape}; it must be (N, H, W, {self._inputs})")
        batch, height, width, _ = x.shape
        if self._given_pooled:
            height, width = 2 * height, 2 * width
        if packed is not None:
            packed = np.ascontiguousarray(packed, np.uint8)
            fits = packed.shape == (batch, height, width, bits.size(self._inputs))
            check(fits, f"the bits of x {x.shape} are {packed.shape}; use edgebnn.graph.bits.pack_activations")
        side = height // self._stride, width // self._stride
        sizes = [(batch, *side, self._outputs)] * y + [(batch, side[0] // 2, side[1] // 2, self._outputs)] * pooled
        maps = [np.empty(size, np.float32) for size in sizes]
        if in_place:
            check(sizes[0] == x.shape, f"{sizes[0]} cannot be written over x {x.shape}")
            x = maps[0] = x.copy()
        next_bits = np.empty((batch, *side, bits.size(self._outputs)), np.uint8) if self._writes_bits else None
        given_y, given_pooled = maps[0] if y else None, maps[-1] if pooled else None
        status = self._library.edgebnn_unit_run(
            *(self._handle, _pointer(x), _pointer(packed), batch, height, width),
            *(_pointer(given_y), _pointer(given_pooled), _pointer(next_bits), threads),
        )
        check(status == 0, _error)
        return given_y, given_pooled, next_bits

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.edgebnn_unit_destroy(self._handle)


class KernelImageConv:
    """A stem with a 3x3 kernel and without a pool, prepared for one path.

    Args:
        stem: the stem, with float32 constants.
        isa: the path, or None for the path that `isa()` returns.
        next_threshold: (outputs,): the thresholds of the first unit. With them the stem also writes the bits that the
            first unit reads.

    Raises:
        UserError: the path is not available here, or the kernels cannot run such a stem.
    """

    def __init__(self, stem: Stem, *, isa: str | None = None, next_threshold: np.ndarray | None = None) -> None:
        outputs, channels, kernel, _ = stem.weight.shape
        check(
            kernel == 3 and not stem.pool,
            "the kernels run only stems with a 3x3 kernel and without a pool; run other stems in ONNX",
        )
        weight, bias = _floats(stem.weight), _floats(stem.bias)
        following = None if next_threshold is None else _floats(next_threshold)
        check(following is None or following.shape == (outputs,), f"next_threshold must have {outputs} values")
        self._library, self._channels, self._outputs, self._stride = _library(), channels, outputs, stem.stride
        self._writes_bits = following is not None
        self._handle = self._library.edgebnn_image_conv_create(
            isa.encode() if isa else None, channels, outputs, stem.stride, *map(_pointer, (weight, bias, following))
        )
        check(self._handle, _error)

    @property
    def isa(self) -> str:
        """The path that it is prepared for."""
        return self._library.edgebnn_image_conv_isa(self._handle).decode()

    def __call__(self, images: np.ndarray, *, threads: int = 1) -> tuple[np.ndarray, np.ndarray | None]:
        """Runs the stem on images (N, channels, H, W).

        Returns:
            y (N, H / stride, W / stride, outputs), and the packed bits of y or None.
        """
        images = _floats(images)
        fits = images.ndim == 4 and images.shape[1] == self._channels
        check(fits, f"images are {images.shape}; they must be (N, {self._channels}, H, W)")
        batch, _, height, width = images.shape
        y = np.empty((batch, height // self._stride, width // self._stride, self._outputs), np.float32)
        next_bits = np.empty((*y.shape[:3], bits.size(self._outputs)), np.uint8) if self._writes_bits else None
        pointers = [_pointer(array) for array in (images, y, next_bits)]
        status = self._library.edgebnn_image_conv_run(
            self._handle, pointers[0], batch, height, width, *pointers[1:], threads
        )
        check(status == 0, _error)
        return y, next_bits

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.edgebnn_image_conv_destroy(self._handle)


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(library_path()))
    except OSError as error:
        raise UserError(f"the kernels cannot be loaded ({error}); install the wheel for this machine") from None
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    size = ctypes.c_int64
    declare = {
        "edgebnn_isa": (text, []),
        "edgebnn_isas": (text, []),
        "edgebnn_error": (text, []),
        "edgebnn_unit_create": (pointer, [text, *[number] * 4, *[text] * 2, *[pointer] * 6]),
        "edgebnn_unit_isa": (text, [pointer]),
        "edgebnn_unit_run": (number, [pointer] * 3 + [size] * 3 + [pointer] * 3 + [number]),
        "edgebnn_unit_destroy": (None, [pointer]),
        "edgebnn_image_conv_create": (pointer, [text, *[number] * 3, *[pointer] * 3]),
        "edgebnn_image_conv_isa": (text, [pointer]),
        "edgebnn_image_conv_run": (number, [pointer] * 2 + [size] * 3 + [pointer] * 2 + [number]),
        "edgebnn_image_conv_destroy": (None, [pointer]),
        "edgebnn_popcount_ceiling": (ctypes.c_double, [text]),
    }
    for name, (result, arguments) in declare.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _error() -> str:
    return _library().edgebnn_error().decode()


def _floats(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)


def _pointer(array: np.ndarray | None) -> int | None:
    return None if array is None else array.ctypes.data
