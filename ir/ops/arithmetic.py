"""Arithmetic: sums, products, quotients, remainders, powers, rounding.

Integers wrap. Their division is infallible (``x / 0`` is 0): extraction emits ``check_nonzero``
where TensorFlow raises.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stepforge.ir.opdef import define_op
from stepforge.ir.ops import arrays
from stepforge.ir.ops.arrays import Array, is_integer
from stepforge.ir.ops.elementwise import Binary, Unary, binary_cases, primitive, unary_cases
from stepforge.ir.ops.inference import FLOAT, FLOAT_OR_COMPLEX, NUMBER, REAL
from stepforge.ir.types import INTEGERS, UNSIGNED


def _sign(x: Array) -> Array:
    if x.dtype.kind != "c":
        return np.sign(x)
    size = np.abs(x)
    return np.where(size == 0, size, x / size)


def _trunc_div(x: Array, y: Array) -> Array:
    return arrays.trunc_div(x, y) if is_integer(x) else np.trunc(np.divide(x, y))


def _trunc_mod(x: Array, y: Array) -> Array:
    return arrays.trunc_mod(x, y) if is_integer(x) else np.fmod(x, y)


def _floor_div(x: Array, y: Array) -> Array:
    return arrays.floor_div(x, y) if is_integer(x) else np.floor(np.divide(x, y))


def _floor_mod(x: Array, y: Array) -> Array:
    if is_integer(x):
        return arrays.floor_mod(x, y)
    rest = np.fmod(x, y)
    return np.where((rest != 0) & ((rest < 0) != (y < 0)), rest + y, rest)


def _pow(x: Array, y: Array) -> Array:
    """Integers to negative powers are the reciprocal's integer part: 0 but for bases 1 and -1."""
    if not is_integer(x):
        return np.power(x, y)
    whole = np.power(x, arrays.where(y < 0, 0, y))
    odd = np.where(y & 1, x, x * x)
    return arrays.where(y >= 0, whole, np.where((x == 1) | (x + 1 == 0), odd, 0))


@define_op
class Neg(Unary):
    """The negative; MIN of a signed integer stays MIN. ``%r = neg(%x) : f32[n]``"""

    accepts = NUMBER
    cases = unary_cases("neg", NUMBER)
    function = staticmethod(np.negative)


@define_op
class Abs(Unary):
    """The absolute value, real for complex numbers; |MIN| wraps to MIN.

    ``%r = abs(%x) : f32[n]``
    """

    accepts = NUMBER
    cases = unary_cases("abs", NUMBER)
    function = staticmethod(np.abs)

    def result_dtype(self, dtype: str) -> str:
        """Complex numbers give their parts' dtype."""
        return {"c64": "f32", "c128": "f64"}.get(dtype, dtype)

    def scalar(self, k: Any, x: Any) -> Any:
        return x if x.dtype in UNSIGNED else k.abs(x)


@define_op
class Sign(Unary):
    """-1, 0 or 1; NaN of NaN; ``x / |x|`` for complex numbers. ``%r = sign(%x) : f32[n]``"""

    accepts = NUMBER
    cases = unary_cases("sign", NUMBER)
    function = staticmethod(_sign)

    def scalar(self, k: Any, x: Any) -> Any:
        zero, one = k.constant(0, x), k.constant(1, x)
        if x.dtype in UNSIGNED:
            return k.select(k.eq(x, zero), zero, one)
        zero_or_nan = k.select(k.eq(x, zero), zero, x)
        negative = k.select(k.lt(x, zero), k.constant(-1, x), zero_or_nan)
        return k.select(k.gt(x, zero), one, negative)


@define_op
class Reciprocal(Unary):
    """``1 / x``. ``%r = reciprocal(%x) : f32[n]``"""

    accepts = FLOAT_OR_COMPLEX
    cases = unary_cases("reciprocal", FLOAT_OR_COMPLEX)
    function = staticmethod(np.reciprocal)

    def scalar(self, k: Any, x: Any) -> Any:
        return k.div(k.constant(1, x), x)


@define_op
class Square(Unary):
    """``x * x``. ``%r = square(%x) : f32[n]``"""

    accepts = NUMBER
    cases = unary_cases("square", NUMBER)
    function = staticmethod(np.square)

    def scalar(self, k: Any, x: Any) -> Any:
        return k.mul(x, x)


@define_op
class Floor(Unary):
    """The next integer below, as a float. ``%r = floor(%x) : f32[n]``"""

    accepts = FLOAT
    cases = unary_cases("floor", FLOAT)
    function = staticmethod(np.floor)


@define_op
class Ceil(Unary):
    """The next integer above, as a float. ``%r = ceil(%x) : f32[n]``"""

    accepts = FLOAT
    cases = unary_cases("ceil", FLOAT)
    function = staticmethod(np.ceil)


@define_op
class Round(Unary):
    """The nearest integer, halves to the even one; integers stay. ``%r = round(%x) : f32[n]``"""

    accepts = REAL
    cases = unary_cases("round", REAL)
    function = staticmethod(lambda x: x if is_integer(x) else np.rint(x))

    def scalar(self, k: Any, x: Any) -> Any:
        return x if x.dtype in INTEGERS else k.round_even(x)


@define_op
class Add(Binary):
    """The sum. ``%r = add(%x, %y) : f32[n, 3]``"""

    accepts = NUMBER
    cases = binary_cases("add", NUMBER)
    function = staticmethod(np.add)


@define_op
class Sub(Binary):
    """The difference. ``%r = sub(%x, %y) : f32[n, 3]``"""

    accepts = NUMBER
    cases = binary_cases("sub", NUMBER)
    function = staticmethod(np.subtract)


@define_op
class Mul(Binary):
    """The product. ``%r = mul(%x, %y) : f32[n, 3]``"""

    accepts = NUMBER
    cases = binary_cases("mul", NUMBER)
    function = staticmethod(np.multiply)


@define_op
class Div(Binary):
    """The quotient of floats or complex numbers. ``%r = div(%x, %y) : f32[n, 3]``"""

    accepts = FLOAT_OR_COMPLEX
    cases = binary_cases("div", FLOAT_OR_COMPLEX)
    function = staticmethod(np.divide)


@define_op
class TruncDiv(Binary):
    """The quotient rounded towards 0. ``%r = trunc_div(%x, %y) : i32[n]``"""

    accepts = REAL
    cases = binary_cases("trunc_div", REAL)
    function = staticmethod(_trunc_div)
    rounds_each = True

    def scalar(self, k: Any, x: Any, y: Any) -> Any:
        return k.trunc_div(x, y) if x.dtype in INTEGERS else k.trunc(k.div(x, y))


@define_op
class TruncMod(Binary):
    """The remainder with the sign of ``x``. ``%r = trunc_mod(%x, %y) : i32[n]``"""

    accepts = REAL
    cases = binary_cases("trunc_mod", REAL)
    function = staticmethod(_trunc_mod)


@define_op
class FloorDiv(Binary):
    """The quotient rounded down; of floats ``floor(x / y)``. ``%r = floor_div(%x, %y) : i32[n]``"""

    accepts = REAL
    cases = binary_cases("floor_div", REAL)
    function = staticmethod(_floor_div)
    rounds_each = True

    def scalar(self, k: Any, x: Any, y: Any) -> Any:
        return k.floor_div(x, y) if x.dtype in INTEGERS else k.floor(k.div(x, y))


@define_op
class FloorMod(Binary):
    """The remainder with the sign of ``y``. ``%r = floor_mod(%x, %y) : i32[n]``

    A float remainder of 0 keeps the sign of ``x``, as in TensorFlow.
    """

    accepts = REAL
    cases = binary_cases("floor_mod", REAL)
    function = staticmethod(_floor_mod)

    def scalar(self, k: Any, x: Any, y: Any) -> Any:
        if x.dtype in INTEGERS:
            return k.floor_mod(x, y)
        rest, zero = k.trunc_mod(x, y), k.constant(0, x)
        signs_differ = k.xor(k.lt(rest, zero), k.lt(y, zero))
        return k.select(k.and_(k.ne(rest, zero), signs_differ), k.add(rest, y), rest)


@define_op
class Pow(Binary):
    """``x`` to the power ``y``. ``%r = pow(%x, %y) : f32[n]``

    Powers of integers wrap; negative exponents give the integer part of the reciprocal (0 of 0).
    """

    accepts = NUMBER
    cases = binary_cases("pow", NUMBER)
    function = staticmethod(_pow)


@define_op
class Maximum(Binary):
    """The larger one, NaN if either is NaN. ``%r = maximum(%x, %y) : f32[n]``"""

    accepts = REAL
    cases = binary_cases("maximum", REAL)
    function = staticmethod(np.maximum)
    scalar = primitive("max")


@define_op
class Minimum(Binary):
    """The smaller one, NaN if either is NaN. ``%r = minimum(%x, %y) : f32[n]``"""

    accepts = REAL
    cases = binary_cases("minimum", REAL)
    function = staticmethod(np.minimum)
    scalar = primitive("min")


@define_op
class SquaredDifference(Binary):
    """``|x - y|`` squared:

    ``(x - y) * conj(x - y)``. ``%r = squared_difference(%x, %y) : f32[n]``
    """

    accepts = NUMBER
    cases = binary_cases("squared_difference", NUMBER)
    function = staticmethod(lambda x, y: np.multiply(x - y, np.conj(x - y)))

    def scalar(self, k: Any, x: Any, y: Any) -> Any:
        difference = k.sub(x, y)
        return k.mul(difference, difference)
