"""What the ``numpy`` rules share: dtypes, 16-bit floats, integer division without exceptions.

Operands are arrays (rank 0 included) and so are results. f16 and bf16 are storage types: their
rules compute in f32 and round the result once.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]


def is_integer(x: Array) -> bool:
    """True for signed and unsigned integers."""
    return x.dtype.kind in "iu"


def widen(x: Array) -> Array:
    """``x`` as f32 where it is a 16-bit float, else as it is."""
    if x.dtype.itemsize == 2 and x.dtype.kind in "fV":
        return x.astype(np.float32)
    return x


def accumulator(x: Array) -> Array:
    """``x`` in the dtype that its sums are made in: 16-bit floats in f32, f32 and c64 in double."""
    wide = {"f4": np.float64, "c8": np.complex128}.get(x.dtype.str[1:])
    return widen(x) if wide is None else x.astype(wide)


def narrow(value: Any, dtype: np.dtype[Any]) -> Array:
    """``value`` as an array of ``dtype``; overflow becomes infinity without a warning."""
    array = np.asarray(value)
    if array.dtype == dtype:
        return array
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def largest_finite(dtype: np.dtype[Any]) -> float:
    """The largest finite value of a float dtype."""
    if dtype.kind == "V":
        import ml_dtypes  # costs 38 ms, so only where it is used

        return float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
    return float(np.finfo(dtype).max)


def where(condition: Array, x: Any, y: Array) -> Array:
    """``np.where`` that keeps the dtype of ``y``, also for rank 0 and a Python number ``x``."""
    return np.where(condition, np.asarray(x, y.dtype), y)


def floor_div(x: Array, y: Array) -> Array:
    """Integers: the quotient rounded down, 0 where ``y`` is 0."""
    zero = y == 0
    return where(zero, 0, np.floor_divide(x, where(zero, 1, y)))


def floor_mod(x: Array, y: Array) -> Array:
    """Integers: the remainder with the sign of ``y``, 0 where ``y`` is 0."""
    zero = y == 0
    return where(zero, 0, np.remainder(x, where(zero, 1, y)))


def trunc_div(x: Array, y: Array) -> Array:
    """Integers: the quotient rounded towards 0, 0 where ``y`` is 0; MIN / -1 wraps to MIN."""
    quotient = floor_div(x, y)
    inexact = (quotient * y != x) & (y != 0)
    return np.asarray(quotient + (inexact & ((x < 0) != (y < 0))).astype(quotient.dtype))


def trunc_mod(x: Array, y: Array) -> Array:
    """Integers: the remainder with the sign of ``x``, 0 where ``y`` is 0."""
    return where(y == 0, 0, x - trunc_div(x, y) * y)


def as_rows(indices: Array) -> tuple[Array, ...]:
    """An index vector in the last axis as one array per component, for NumPy's indexing."""
    return tuple(np.moveaxis(indices, -1, 0))
