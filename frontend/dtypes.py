"""The dtypes of the API: ``tf.float32`` and its like, their reference forms, and what maps to them.

There is one object per dtype. ``DType.ir`` is the name that the IR has for it; quantized types and
``variant`` have none, they exist as names only.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from stepforge.ir.types import numpy_dtype

# name -> (TensorFlow's number, IR name, kind, bits)
# kind as in ir.types.NUMERIC, q quantized, o object
_TABLE: dict[str, tuple[int, str, str, int]] = {
    "float32": (1, "f32", "f", 32),
    "float64": (2, "f64", "f", 64),
    "int32": (3, "i32", "i", 32),
    "uint8": (4, "u8", "u", 8),
    "int16": (5, "i16", "i", 16),
    "int8": (6, "i8", "i", 8),
    "string": (7, "string", "o", 0),
    "complex64": (8, "c64", "c", 64),
    "int64": (9, "i64", "i", 64),
    "bool": (10, "bool", "b", 8),
    "qint8": (11, "", "q", 8),
    "quint8": (12, "", "q", 8),
    "qint32": (13, "", "q", 32),
    "bfloat16": (14, "bf16", "f", 16),
    "qint16": (15, "", "q", 16),
    "quint16": (16, "", "q", 16),
    "uint16": (17, "u16", "u", 16),
    "complex128": (18, "c128", "c", 128),
    "float16": (19, "f16", "f", 16),
    "resource": (20, "resource", "o", 0),
    "variant": (21, "", "o", 0),
    "uint32": (22, "u32", "u", 32),
    "uint64": (23, "u64", "u", 64),
}
_REF_OFFSET = 100


class DType:
    """One dtype. Compares equal to whatever ``as_dtype`` maps to it, such as ``np.float32``."""

    def __init__(self, name: str, number: int, ir: str, kind: str, bits: int) -> None:
        self._name, self._number, self._ir, self._kind, self._bits = name, number, ir, kind, bits

    @property
    def label(self) -> str:
        """What runtime messages and node attributes call it: ``float`` and ``double``."""
        return {"float32": "float", "float64": "double"}.get(self.name, self.name)

    @property
    def name(self) -> str:
        """``"float32"``, or ``"float32_ref"`` for a reference dtype."""
        return self._name

    @property
    def ir(self) -> str:
        """The IR's name of the dtype. Raises: TypeError where the IR has none."""
        if not self._ir:
            raise TypeError(f"dtype {self._name} is not supported")
        return self._ir

    @property
    def as_datatype_enum(self) -> int:
        """TensorFlow's number of the dtype."""
        return self._number

    @property
    def is_ref_dtype(self) -> bool:
        """True for the dtypes of reference variables."""
        return self._number > _REF_OFFSET

    _is_ref_dtype = is_ref_dtype  # TensorFlow's own name, which programs read

    @cached_property
    def base_dtype(self) -> DType:
        """The dtype without its reference mark."""
        return _BY_NUMBER[self._number - _REF_OFFSET] if self.is_ref_dtype else self

    @cached_property
    def _as_ref(self) -> DType:
        return self if self.is_ref_dtype else _BY_NUMBER[self._number + _REF_OFFSET]

    def as_ref(self) -> DType:
        """The reference dtype of this one."""
        return self._as_ref

    @property
    def real_dtype(self) -> DType:
        """The dtype of the parts of a complex dtype; otherwise the dtype itself."""
        parts = {"complex64": float32, "complex128": float64}
        return parts.get(self.base_dtype.name, self.base_dtype)

    @cached_property
    def as_numpy_dtype(self) -> type[Any]:
        """The NumPy scalar class; ``object`` for strings. Raises: TypeError where there is none."""
        if self._ir == "resource" or self._kind == "q" or not self._ir:
            raise TypeError(f"dtype {self._name} has no NumPy equivalent")
        scalar_class: type[Any] = numpy_dtype(self._ir).type
        return object if self._ir == "string" else scalar_class

    @property
    def is_numpy_compatible(self) -> bool:
        """True where NumPy has the dtype."""
        return bool(self._ir) and self._ir != "resource"

    @property
    def is_bool(self) -> bool:
        """True for bool."""
        return self._kind == "b"

    @property
    def is_integer(self) -> bool:
        """True for signed and unsigned integers, quantized ones left out."""
        return self._kind in "iu"

    @property
    def is_floating(self) -> bool:
        """True for real floating dtypes."""
        return self._kind == "f"

    @property
    def is_complex(self) -> bool:
        """True for complex64 and complex128."""
        return self._kind == "c"

    @property
    def is_quantized(self) -> bool:
        """True for quantized dtypes."""
        return self._kind == "q"

    @property
    def is_unsigned(self) -> bool:
        """True for unsigned integers."""
        return self._kind == "u"

    @property
    def size(self) -> int:
        """Bytes of one element; 0 for strings and resources."""
        return self._bits // 8

    @property
    def limits(self) -> tuple[Any, Any]:
        """Where values of the dtype lie when they stand for intensities, without negative ones."""
        if self.is_floating:
            return 0, 1
        return 0, True if self.is_bool else self.max

    @property
    def min(self) -> Any:
        """The smallest finite value. Raises: TypeError where there is none."""
        return self._extreme("min")

    @property
    def max(self) -> Any:
        """The largest finite value. Raises: TypeError where there is none."""
        return self._extreme("max")

    def _extreme(self, which: str) -> Any:
        if self.is_integer:
            return getattr(np.iinfo(self.as_numpy_dtype), which)
        if not self.is_floating:
            raise TypeError(f"Cannot find {which}imum value of {self} with type {self}.")
        if self._ir == "bf16":
            import ml_dtypes

            return getattr(ml_dtypes.finfo(self.as_numpy_dtype), which)  # type: ignore
        return getattr(np.finfo(self.as_numpy_dtype), which)

    def is_compatible_with(self, other: Any) -> bool:
        """True where ``other`` is this dtype or a reference to it."""
        other = as_dtype(other)
        return self is other or self is other.base_dtype

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if other is None or isinstance(other, DType):
            return False
        try:
            return self is as_dtype(other)
        except TypeError:
            return False

    def __hash__(self) -> int:
        return self._number

    def __str__(self) -> str:
        return f"<dtype: '{self._name}'>"

    def __repr__(self) -> str:
        return f"tf.{self._name}"

    def __int__(self) -> int:
        return self._number

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self._name,)


_BY_NUMBER: dict[int, DType] = {}
_BY_NAME: dict[str, DType] = {}
_BY_IR: dict[str, DType] = {}
for _name, (_number, _ir, _kind, _bits) in _TABLE.items():
    _base = DType(_name, _number, _ir, _kind, _bits)
    _ref = DType(f"{_name}_ref", _number + _REF_OFFSET, _ir, _kind, _bits)
    _BY_NUMBER[_number], _BY_NUMBER[_number + _REF_OFFSET] = _base, _ref
    _BY_NAME[_name], _BY_NAME[_ref.name] = _base, _ref
    if _ir:
        _BY_IR[_ir] = _base

float16 = half = _BY_NAME["float16"]
float32 = _BY_NAME["float32"]
float64 = double = _BY_NAME["float64"]
bfloat16 = _BY_NAME["bfloat16"]
int8, int16, int32, int64 = (_BY_NAME[f"int{n}"] for n in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (_BY_NAME[f"uint{n}"] for n in (8, 16, 32, 64))
complex64, complex128 = _BY_NAME["complex64"], _BY_NAME["complex128"]
bool_ = _BY_NAME["bool"]
string, resource, variant = _BY_NAME["string"], _BY_NAME["resource"], _BY_NAME["variant"]
qint8, qint16, qint32 = (_BY_NAME[f"qint{n}"] for n in (8, 16, 32))
quint8, quint16 = _BY_NAME["quint8"], _BY_NAME["quint16"]
float32_ref, float64_ref = _BY_NAME["float32_ref"], _BY_NAME["float64_ref"]
int32_ref, int64_ref = _BY_NAME["int32_ref"], _BY_NAME["int64_ref"]
bool_ref, string_ref = _BY_NAME["bool_ref"], _BY_NAME["string_ref"]

_BY_NAME["half"], _BY_NAME["float"], _BY_NAME["double"] = float16, float32, float64
_PYTHON: dict[type, DType] = {float: float32, bool: bool_, object: string}
_AMBIGUOUS = (int, complex, str, bytes)  # TensorFlow takes none of these for a dtype


def from_ir(name: str) -> DType:
    """The dtype that the IR calls ``name``."""
    return _BY_IR[name]


def as_dtype(value: Any) -> DType:
    """The dtype that ``value`` names: a DType, its name or number, a NumPy dtype or scalar class, a
    Python type. Raises: TypeError for anything else.
    """
    if isinstance(value, DType):
        return value
    if isinstance(value, np.dtype):
        found = _of_numpy_dtype(value)
        if found is not None:
            return found
    if isinstance(value, type) and value in _PYTHON:
        return _PYTHON[value]
    if isinstance(value, str) and value in _BY_NAME:
        return _BY_NAME[value]
    if isinstance(value, int) and value in _BY_NUMBER:
        return _BY_NUMBER[value]
    found = _from_numpy(value)
    if found is None:
        raise TypeError(
            f"Cannot convert the argument `type_value`: {value!r} to a TensorFlow DType."
        )
    return found


def _from_numpy(value: Any) -> DType | None:
    if value is None or isinstance(value, (int, bytes, list, dict)):
        return None
    if isinstance(value, type):
        if value in _AMBIGUOUS:
            return None
    else:
        value = getattr(value, "dtype", value)
    try:
        dtype = np.dtype(value)
    except TypeError:
        return None
    return _of_numpy_dtype(dtype)


@lru_cache(maxsize=256)
def _of_numpy_dtype(dtype: np.dtype[Any]) -> DType | None:
    return string if dtype.kind in "SUO" else _BY_NAME.get(dtype.name)
