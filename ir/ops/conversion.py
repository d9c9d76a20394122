"""Choosing between elements, converting them, and the parts of complex numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepforge.ir.errors import DTypeError
from stepforge.ir.opdef import define_op
from stepforge.ir.ops.arrays import Array, is_integer, narrow, widen
from stepforge.ir.ops.elementwise import Elementwise, Unary, unary_cases
from stepforge.ir.ops.inference import (
    ANY,
    COMPLEX_NUMBER,
    PLAIN,
    broadcast_types,
    check_dtype,
    check_same_dtype,
)
from stepforge.ir.types import COMPLEX, NUMERIC, Type, numpy_dtype

PARTS = {"c64": "f32", "c128": "f64"}


def saturate(x: Array, dtype: np.dtype[Any]) -> Array:
    """Floats to integers of ``dtype``: towards 0, NaN to 0, out of range to the nearest limit."""
    limits = np.iinfo(dtype)
    # The first floats beyond; the lower one rounds to the limit itself where that is large.
    low, high = limits.min - 1.0, 2.0 ** (limits.bits - (dtype.kind == "i"))
    value = np.where((x > low) & (x < high), x, 0).astype(dtype)
    value = np.where(x >= high, dtype.type(limits.max), value)
    return np.where(x <= low, dtype.type(limits.min), value)


def convert(x: Array, dtype: np.dtype[Any]) -> Array:
    """``x`` with the elements of ``dtype``, by the rules of ``cast``."""
    if x.dtype == dtype:
        return x
    with np.errstate(all="ignore"):
        if x.dtype.kind == "c" and dtype.kind != "c":
            x = x.real
        x = widen(x)
        if dtype.kind == "b":
            return np.asarray(x != 0)
        if dtype.kind in "iu" and not is_integer(x) and x.dtype.kind != "b":
            return saturate(x, dtype)
        if dtype.itemsize == 2 and dtype.kind in "fV":
            x = x.astype(np.float32)  # TensorFlow rounds twice
        return narrow(x, dtype)


@define_op
class Cast(Elementwise):
    """``x`` with elements of ``dtype``. ``%r = cast(%x, dtype="i32") : i32[n]``

    Floats to integers: towards 0, NaN to 0, out of range to the nearest limit; integers wrap; to
    bool: ``x != 0``; complex numbers to others lose the imaginary part first. 16-bit floats are
    rounded from f32.
    """

    accepts = PLAIN
    cases = tuple(
        f'cast({source}[2, 3], dtype="{target}")' for source in NUMERIC for target in NUMERIC
    )

    def infer(self, x: Type, *, dtype: str) -> Type:
        check_dtype("cast", PLAIN, x=x)
        if dtype not in PLAIN.names:
            raise DTypeError(f"cast: {x} cannot become {dtype}")
        return x if x.dtype == dtype else Type(dtype, x.shape)

    def numpy(self, x: Array, *, dtype: str) -> Array:
        return convert(x, numpy_dtype(dtype))

    def scalar(self, k: Any, x: Any, *, dtype: str) -> Any:
        return x if x.dtype == dtype else k.convert(x, dtype)


@define_op
class Select(Elementwise):
    """Elements of ``x`` where ``condition`` is true, of ``y`` elsewhere; all three broadcast.

    ``%r = select(%c, %x, %y) : f32[n, 3]``
    """

    accepts = ANY
    cases = (
        "select(bool[2, 3], f32[2, 3], f32[2, 3])",
        "select(bool[2, 1], f32, f32[3])",
        "select(bool, i32[4], i32)",
        "select(bool, f64, f64)",
        "select(bool[0, 3], bf16[3], bf16[1])",
        *[f"select(bool[2, 3], {dtype}[2, 3], {dtype}[3])" for dtype in PLAIN.listed],
        "select(bool[2], string[2], string[2])",
    )

    def infer(self, condition: Type, x: Type, y: Type) -> Type:
        if condition.dtype != "bool" or x.dtype != y.dtype:
            if condition.dtype != "bool":
                raise DTypeError(f"select: the condition must be bool, but is {condition}")
            check_same_dtype("select", x=x, y=y)
        if condition.shape == x.shape == y.shape:
            return x
        return Type(x.dtype, broadcast_types("select", condition=condition, x=x, y=y))

    def numpy(self, condition: Array, x: Array, y: Array) -> Array:
        return np.where(condition, x, y)


class Part(Unary):
    """Base class: a real number of a complex one."""

    accepts = COMPLEX_NUMBER
    scalar = None

    def result_dtype(self, dtype: str) -> str:
        """The dtype of the parts."""
        return PARTS[dtype]


@define_op
class Real(Part):
    """The real part. ``%r = real(%z) : f32[n]``"""

    cases = unary_cases("real", COMPLEX_NUMBER)
    function = staticmethod(np.real)


@define_op
class Imag(Part):
    """The imaginary part. ``%r = imag(%z) : f32[n]``"""

    cases = unary_cases("imag", COMPLEX_NUMBER)
    function = staticmethod(np.imag)


@define_op
class Angle(Part):
    """The angle to the positive real axis, in radians. ``%r = angle(%z) : f32[n]``"""

    cases = unary_cases("angle", COMPLEX_NUMBER)
    function = staticmethod(np.angle)


@define_op
class Conj(Unary):
    """The complex conjugate. ``%r = conj(%z) : c64[n]``"""

    accepts = COMPLEX_NUMBER
    cases = unary_cases("conj", COMPLEX_NUMBER)
    function = staticmethod(np.conj)
    scalar = None


@define_op
class Complex(Elementwise):
    """The complex number of a real and an imaginary part. ``%z = complex(%re, %im) : c64[n]``"""

    cases = (
        "complex(f32[2, 3], f32[2, 3])",
        "complex(f64[3], f64)",
        "complex(f32, f32)",
        "complex(f64[0], f64[1])",
    )
    scalar = None

    def infer(self, real: Type, imag: Type) -> Type:
        check_same_dtype("complex", real=real, imag=imag)
        wide = [whole for whole in COMPLEX if PARTS[whole] == real.dtype]
        if not wide:
            raise DTypeError(f"complex: the parts must be f32 or f64, but real is {real}")
        return Type(wide[0], broadcast_types("complex", real=real, imag=imag))

    def numpy(self, real: Array, imag: Array) -> Array:
        dtype = np.complex64 if real.dtype == np.float32 else np.complex128
        whole = np.empty(np.broadcast_shapes(real.shape, imag.shape), dtype)
        whole.real, whole.imag = real, imag
        return whole
