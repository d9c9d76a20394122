"""API functions that give truth values, and those on bits: ``tf.equal``, ``tf.logical_and``,
``tf.bitwise``.
"""

from __future__ import annotations

from typing import Any

from stepforge.frontend.node_calls import binary, call, unary
from stepforge.frontend.operation import Tensor

equal = binary("equal", "Equal", "``x == y``.")
not_equal = binary("not_equal", "NotEqual", "``x != y``.")
less = binary("less", "Less", "``x < y``.")
less_equal = binary("less_equal", "LessEqual", "``x <= y``.")
greater = binary("greater", "Greater", "``x > y``.")
greater_equal = binary("greater_equal", "GreaterEqual", "``x >= y``.")
logical_and = binary("logical_and", "LogicalAnd", "True where both are.")
logical_or = binary("logical_or", "LogicalOr", "True where either is.")
logical_not = unary("logical_not", "LogicalNot", "True where x is not.")
is_nan = unary("is_nan", "IsNan", "True where x is NaN.")
is_inf = unary("is_inf", "IsInf", "True where x is infinite.")
is_finite = unary("is_finite", "IsFinite", "True where x is neither infinite nor NaN.")

bitwise_and = binary("bitwise_and", "BitwiseAnd", "The bits that both have.")
bitwise_or = binary("bitwise_or", "BitwiseOr", "The bits that either has.")
bitwise_xor = binary("bitwise_xor", "BitwiseXor", "The bits that exactly one has.")
invert = unary("invert", "Invert", "All bits the other way.")
left_shift = binary("left_shift", "LeftShift", "``x << y``.")
right_shift = binary("right_shift", "RightShift", "``x >> y``, with the sign of x.")


def logical_xor(x: Any, y: Any, name: str = "LogicalXor") -> Tensor:
    """True where exactly one is."""
    either = call("LogicalOr", (x, y))
    both = call("LogicalNot", (call("LogicalAnd", (x, y)),))
    return call("LogicalAnd", (either, both), None, name)


def approximate_equal(
    x: Any, y: Any, tolerance: float = 1e-5, name: str | None = None
) -> Tensor:
    """``|x - y| < tolerance``."""
    return call("ApproximateEqual", (x, y), {"tolerance": tolerance}, name)
