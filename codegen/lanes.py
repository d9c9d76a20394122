"""The LLVM implementation of scalar rules: primitives over one element or a vector of them.

``LaneBuilder(fn, width)`` writes into ``fn``. Its chapters: ``lane_core`` (types, constants),
``lane_arithmetic``, ``lane_convert``, ``lane_memory``, ``lane_picks``, and here what is a function
of its own in the module (``vector_math``).
"""

from __future__ import annotations

from collections.abc import Callable

from stepforge.codegen import vector_math
from stepforge.codegen.lane_core import (
    Lane,
    LaneCore,
    Operand,
    register_element,
    storage_bytes,
    storage_element,
)
from stepforge.codegen.lane_picks import PickLanes

__all__ = [
    "PRIMITIVES",
    "Lane",
    "LaneBuilder",
    "LaneCore",
    "Operand",
    "register_element",
    "storage_bytes",
    "storage_element",
]


def _function(name: str) -> Callable[..., Lane]:
    def primitive(self: LaneBuilder, *operands: Operand) -> Lane:
        return vector_math.call(self, name, *operands)

    primitive.__name__ = name
    primitive.__doc__ = f"{name} of lanes of one dtype; see ``vector_math``."
    return primitive


class LaneBuilder(PickLanes):
    """All primitives; see the module's text."""

    floor_div = _function("floor_div")
    floor_mod = _function("floor_mod")
    trunc_div = _function("trunc_div")
    trunc_mod = _function("trunc_mod")
    exp = _function("exp")
    expm1 = _function("expm1")
    log = _function("log")
    log1p = _function("log1p")
    sin = _function("sin")
    cos = _function("cos")
    tan = _function("tan")
    tanh = _function("tanh")
    sigmoid = _function("sigmoid")
    erf = _function("erf")
    erfc = _function("erfc")
    pow = _function("pow")
    atan = _function("atan")
    atan2 = _function("atan2")
    asin = _function("asin")
    acos = _function("acos")
    sinh = _function("sinh")
    cosh = _function("cosh")
    asinh = _function("asinh")
    acosh = _function("acosh")
    atanh = _function("atanh")


_INSTRUCTIONS = (
    "constant", "convert", "select", "fma", "add", "sub", "mul", "div", "neg", "abs", "min", "max",
    "sqrt", "floor", "ceil", "trunc", "round_even", "copysign", "and_", "or_", "xor", "not_", "shl",
    "shr", "eq", "ne", "lt", "le", "gt", "ge", "is_nan", "is_inf", "is_finite",
)
PRIMITIVES: frozenset[str] = frozenset((*_INSTRUCTIONS, *vector_math.FLOAT_RULES))
