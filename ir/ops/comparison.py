"""Comparisons and tests (bool results), logic, and the bits of integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepforge.ir.opdef import define_op
from stepforge.ir.ops.arrays import Array
from stepforge.ir.ops.elementwise import Binary, Unary, binary_cases, primitive, unary_cases
from stepforge.ir.ops.inference import BOOL, COMPARABLE, FLOAT, INTEGER, REAL
from stepforge.ir.types import NUMERIC


def _shift_count(x: Array, y: Array) -> Array:
    """The count masked to the width of ``x``."""
    return np.asarray(y & y.dtype.type(8 * x.dtype.itemsize - 1))


@define_op
class Equal(Binary):
    """``x == y``; NaN is not equal to itself. ``%r = equal(%x, %y) : bool[n]``"""

    accepts = COMPARABLE
    returns = "bool"
    cases = binary_cases("equal", COMPARABLE)
    function = staticmethod(np.equal)
    scalar = primitive("eq")


@define_op
class NotEqual(Binary):
    """``x != y``; true for NaN. ``%r = not_equal(%x, %y) : bool[n]``"""

    accepts = COMPARABLE
    returns = "bool"
    cases = binary_cases("not_equal", COMPARABLE)
    function = staticmethod(np.not_equal)
    scalar = primitive("ne")


@define_op
class Less(Binary):
    """``x < y``; false for NaN. ``%r = less(%x, %y) : bool[n]``"""

    accepts = REAL
    returns = "bool"
    cases = binary_cases("less", REAL)
    function = staticmethod(np.less)
    scalar = primitive("lt")


@define_op
class LessEqual(Binary):
    """``x <= y``; false for NaN. ``%r = less_equal(%x, %y) : bool[n]``"""

    accepts = REAL
    returns = "bool"
    cases = binary_cases("less_equal", REAL)
    function = staticmethod(np.less_equal)
    scalar = primitive("le")


@define_op
class Greater(Binary):
    """``x > y``; false for NaN. ``%r = greater(%x, %y) : bool[n]``"""

    accepts = REAL
    returns = "bool"
    cases = binary_cases("greater", REAL)
    function = staticmethod(np.greater)
    scalar = primitive("gt")


@define_op
class GreaterEqual(Binary):
    """``x >= y``; false for NaN. ``%r = greater_equal(%x, %y) : bool[n]``"""

    accepts = REAL
    returns = "bool"
    cases = binary_cases("greater_equal", REAL)
    function = staticmethod(np.greater_equal)
    scalar = primitive("ge")


@define_op
class IsNan(Unary):
    """True for NaN. ``%r = is_nan(%x) : bool[n]``"""

    accepts = FLOAT
    returns = "bool"
    cases = unary_cases("is_nan", FLOAT)
    function = staticmethod(np.isnan)


@define_op
class IsInf(Unary):
    """True for both infinities. ``%r = is_inf(%x) : bool[n]``"""

    accepts = FLOAT
    returns = "bool"
    cases = unary_cases("is_inf", FLOAT)
    function = staticmethod(np.isinf)


@define_op
class IsFinite(Unary):
    """False for NaN and infinities. ``%r = is_finite(%x) : bool[n]``"""

    accepts = FLOAT
    returns = "bool"
    cases = unary_cases("is_finite", FLOAT)
    function = staticmethod(np.isfinite)


@define_op
class LogicalNot(Unary):
    """``not x``. ``%r = logical_not(%x) : bool[n]``"""

    accepts = BOOL
    cases = unary_cases("logical_not", BOOL)
    function = staticmethod(np.logical_not)
    scalar = primitive("not_")


@define_op
class LogicalAnd(Binary):
    """``x and y``. ``%r = logical_and(%x, %y) : bool[n]``"""

    accepts = BOOL
    cases = binary_cases("logical_and", BOOL)
    function = staticmethod(np.logical_and)
    scalar = primitive("and_")


@define_op
class LogicalOr(Binary):
    """``x or y``. ``%r = logical_or(%x, %y) : bool[n]``"""

    accepts = BOOL
    cases = binary_cases("logical_or", BOOL)
    function = staticmethod(np.logical_or)
    scalar = primitive("or_")


@define_op
class LogicalXor(Binary):
    """``x != y``. ``%r = logical_xor(%x, %y) : bool[n]``"""

    accepts = BOOL
    cases = binary_cases("logical_xor", BOOL)
    function = staticmethod(np.logical_xor)
    scalar = primitive("xor")


@define_op
class BitwiseNot(Unary):
    """Every bit inverted. ``%r = bitwise_not(%x) : i32[n]``"""

    accepts = INTEGER
    cases = unary_cases("bitwise_not", INTEGER)
    function = staticmethod(np.invert)
    scalar = primitive("not_")


@define_op
class BitwiseAnd(Binary):
    """The bits that both have. ``%r = bitwise_and(%x, %y) : i32[n]``"""

    accepts = INTEGER
    cases = binary_cases("bitwise_and", INTEGER)
    function = staticmethod(np.bitwise_and)
    scalar = primitive("and_")


@define_op
class BitwiseOr(Binary):
    """The bits that either has. ``%r = bitwise_or(%x, %y) : i32[n]``"""

    accepts = INTEGER
    cases = binary_cases("bitwise_or", INTEGER)
    function = staticmethod(np.bitwise_or)
    scalar = primitive("or_")


@define_op
class BitwiseXor(Binary):
    """The bits that one of them has. ``%r = bitwise_xor(%x, %y) : i32[n]``"""

    accepts = INTEGER
    cases = binary_cases("bitwise_xor", INTEGER)
    function = staticmethod(np.bitwise_xor)
    scalar = primitive("xor")


@define_op
class ShiftLeft(Binary):
    """``x`` shifted left by ``y`` modulo its width. ``%r = shift_left(%x, %y) : i32[n]``"""

    accepts = INTEGER
    cases = binary_cases("shift_left", INTEGER)
    function = staticmethod(lambda x, y: np.left_shift(x, _shift_count(x, y)))

    def scalar(self, k: Any, x: Any, y: Any) -> Any:
        return k.shl(x, k.and_(y, k.constant(NUMERIC[x.dtype][2] - 1, y)))


@define_op
class ShiftRight(Binary):
    """``x`` shifted right by ``y`` modulo its width; signed ones keep their sign.

    ``%r = shift_right(%x, %y) : i32[n]``
    """

    accepts = INTEGER
    cases = binary_cases("shift_right", INTEGER)
    function = staticmethod(lambda x, y: np.right_shift(x, _shift_count(x, y)))

    def scalar(self, k: Any, x: Any, y: Any) -> Any:
        return k.shr(x, k.and_(y, k.constant(NUMERIC[x.dtype][2] - 1, y)))
