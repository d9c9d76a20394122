"""API functions that give truth values, and those on bits: ``tf.equal``, ``tf.logical_and``,
``tf.bitwise``.
"""

from __future__ import annotations

from typing import Any

from stepforge.frontend.node_calls import binary, call, unary
from stepforge.frontend.operation import Tensor

equal = binary("Equal", "``x == y``.")
not_equal = binary("NotEqual", "``x != y``.")
less = binary("Less", "``x < y``.")
less_equal = binary("LessEqual", "``x <= y``.")
greater = binary("Greater", "``x > y``.")
greater_equal = binary("GreaterEqual", "``x >= y``.")
logical_and = binary("LogicalAnd", "True where both are.")
logical_or = binary("LogicalOr", "True where either is.")
logical_not = unary("LogicalNot", "True where x is not.")
is_nan = unary("IsNan", "True where x is NaN.")
is_inf = unary("IsInf", "True where x is infinite.")
is_finite = unary("IsFinite", "True where x is neither infinite nor NaN.")

bitwise_and = binary("BitwiseAnd", "The bits that both have.")
bitwise_or = binary("BitwiseOr", "The bits that either has.")
bitwise_xor = binary("BitwiseXor", "The bits that exactly one has.")
invert = unary("Invert", "All bits the other way.")
left_shift = binary("LeftShift", "``x << y``.")
right_shift = binary("RightShift", "``x >> y``, with the sign of x.")


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
