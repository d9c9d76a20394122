"""Types of values: what a buffer holds, and the sizes that are known of it.

``f32[n, 784]`` is a tensor, ``f32`` a scalar (a tensor of rank 0), ``f32[*]`` a tensor of unknown
rank in an object slot, ``&f32[n]`` a buffer of the loop level, ``index`` a loop counter or size,
``string`` and
``resource`` objects, ``list<f32[n]>`` a growable list.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from stepforge.ir import dims
from stepforge.ir.dims import Dim
from stepforge.ir.records import record

Shape: TypeAlias = "tuple[Dim, ...] | None"

# name -> (NumPy name, kind, bits); kind: b bool, i signed, u unsigned, f float, c complex
NUMERIC: dict[str, tuple[str, str, int]] = {
    "bool": ("bool", "b", 8),
    "i8": ("int8", "i", 8),
    "i16": ("int16", "i", 16),
    "i32": ("int32", "i", 32),
    "i64": ("int64", "i", 64),
    "u8": ("uint8", "u", 8),
    "u16": ("uint16", "u", 16),
    "u32": ("uint32", "u", 32),
    "u64": ("uint64", "u", 64),
    "f16": ("float16", "f", 16),
    "bf16": ("bfloat16", "f", 16),
    "f32": ("float32", "f", 32),
    "f64": ("float64", "f", 64),
    "c64": ("complex64", "c", 64),
    "c128": ("complex128", "c", 128),
}
OBJECTS = ("string", "resource")
SIGNED = tuple(n for n, (_, kind, _) in NUMERIC.items() if kind == "i")
UNSIGNED = tuple(n for n, (_, kind, _) in NUMERIC.items() if kind == "u")
INTEGERS = SIGNED + UNSIGNED
FLOATS = tuple(n for n, (_, kind, _) in NUMERIC.items() if kind == "f")
COMPLEX = tuple(n for n, (_, kind, _) in NUMERIC.items() if kind == "c")
REAL_NUMBERS = INTEGERS + FLOATS
NUMBERS = REAL_NUMBERS + COMPLEX


@record(frozen=True, slots=True)
class Type:
    """A tensor, buffer, index or object type; ``shape`` is None where the rank is unknown."""

    dtype: str
    shape: Shape = ()
    buffer: bool = False

    def __str__(self) -> str:
        sign = "&" if self.buffer else ""
        if self.shape is None:
            return f"{sign}{self.dtype}[*]"
        if not self.shape:
            return f"{sign}{self.dtype}"
        return f"{sign}{self.dtype}[{', '.join(map(str, self.shape))}]"

    @property
    def ranked(self) -> bool:
        """True where the rank is known."""
        return self.shape is not None

    @property
    def dims(self) -> tuple[Dim, ...]:
        """The shape of a ranked type. Raises: TypeError where the rank is unknown."""
        if self.shape is None:
            raise TypeError(f"{self} has no known rank")
        return self.shape

    @property
    def rank(self) -> int:
        """The number of axes. Raises: TypeError where it is unknown."""
        return len(self.dims)

    @property
    def size(self) -> Dim:
        """The number of elements."""
        return dims.product(self.dims)

    @property
    def kind(self) -> str:
        """``b i u f c`` for numbers, ``o`` for objects, ``x`` for index."""
        if self.dtype in NUMERIC:
            return NUMERIC[self.dtype][1]
        return "x" if self.dtype == "index" else "o"

    @property
    def is_object(self) -> bool:
        """True where a value lives in an object slot: strings, resources, unknown rank."""
        return self.dtype in OBJECTS or self.shape is None

    def with_shape(self, shape: Shape) -> Type:
        """The type with another shape."""
        return replace(self, shape=shape)

    def with_dtype(self, dtype: str) -> Type:
        """The type with another dtype."""
        return replace(self, dtype=dtype)


@record(frozen=True, slots=True)
class ListType:
    """A growable list of values of one type."""

    element: Type

    def __str__(self) -> str:
        return f"list<{self.element}>"


AnyType: TypeAlias = Type | ListType
index = Type("index")
boolean = Type("bool")


def scalar(dtype: str) -> Type:
    """The type of one element."""
    return Type(dtype)


def item_bytes(dtype: str) -> int:
    """Bytes of one element of a numeric type."""
    return NUMERIC[dtype][2] // 8


@cache
def numpy_dtype(dtype: str) -> Any:
    """The NumPy dtype of an IR dtype name; objects give ``dtype('O')``."""
    if dtype == "bf16":
        import ml_dtypes  # costs 38 ms, so only where it is used

        return np.dtype(ml_dtypes.bfloat16)
    if dtype in OBJECTS:
        return np.dtype(object)
    return np.dtype(np.int64 if dtype == "index" else NUMERIC[dtype][0])


_BY_NUMPY_NAME = {numpy_name: name for name, (numpy_name, _, _) in NUMERIC.items()}


def from_numpy_dtype(dtype: np.dtype[Any]) -> str:
    """The IR dtype name of a NumPy dtype; text and objects are ``string``.

    Raises: TypeError for a dtype that stepforge has no type for (dates, records, long doubles).
    """
    name = _BY_NUMPY_NAME.get(dtype.name)
    if name is not None:
        return name
    if dtype.kind in "SUO":
        return "string"
    raise TypeError(f"NumPy dtype {dtype} has no stepforge type")


def type_of(array: Any) -> Type:
    """The fully static type of a NumPy array or scalar."""
    array = np.asarray(array)
    return Type(from_numpy_dtype(array.dtype), tuple(int(n) for n in array.shape))


def unify_numpy_shape(type_: Type, shape: tuple[int, ...], sizes: dict[str, int]) -> str | None:
    """Bind the names of ``type_``'s shape to an actual ``shape``; say what does not fit.

    ``sizes`` is extended by names that stand alone in a dimension. Returns None where all fits.
    """
    if type_.shape is None:
        return None
    if len(shape) != len(type_.shape):
        return f"rank {len(shape)} is not {len(type_.shape)}"
    for axis, (want, have) in enumerate(zip(type_.shape, shape, strict=True)):
        name = dims.as_name(want)
        if name is not None and name not in sizes:
            sizes[name] = have
        elif dims.names(want) <= sizes.keys() and dims.evaluate(want, sizes) != have:
            return f"dimension {axis} is {have}, not {want} = {dims.evaluate(want, sizes)}"
    return None
