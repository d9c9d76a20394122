"""Elementary functions and division on lanes: a helper function per name, dtype and width.

The table says which rule computes a function and whether LLVM shall expand it where it is called
(small functions, whose constants then stay in registers through a loop) or call it (large ones).
"""

from __future__ import annotations

from collections.abc import Callable

from stepforge.codegen import lane_division as division
from stepforge.codegen import vector_math_error as error
from stepforge.codegen import vector_math_exponential as exponential
from stepforge.codegen import vector_math_pow as powers
from stepforge.codegen import vector_math_trigonometric as trigonometric
from stepforge.codegen.lane_core import Lane, Operand, kind_of
from stepforge.codegen.lane_memory import MemoryLanes
from stepforge.codegen.llvm import FunctionWriter
from stepforge.ir.records import record


@record(frozen=True, slots=True)
class Rule:
    """How a function is computed from lanes of f32 or f64, or of integers.

    ``expanded`` says for which dtypes it is put in place of its call: one, or all (True).
    """

    body: Callable[..., Lane]
    operands: int = 1
    expanded: bool | str = False


FLOAT_RULES: dict[str, Rule] = {
    "exp": Rule(exponential.exp, expanded=True),
    "expm1": Rule(exponential.expm1, expanded=True),
    "log": Rule(exponential.log, expanded=True),
    "log1p": Rule(exponential.log1p),
    "sigmoid": Rule(exponential.sigmoid, expanded=True),
    "tanh": Rule(exponential.tanh, expanded=True),
    "sinh": Rule(exponential.sinh),
    "cosh": Rule(exponential.cosh),
    "asinh": Rule(exponential.asinh),
    "acosh": Rule(exponential.acosh),
    "atanh": Rule(exponential.atanh),
    "sin": Rule(trigonometric.sin, expanded=True),
    "cos": Rule(trigonometric.cos, expanded=True),
    "tan": Rule(trigonometric.tan),
    "asin": Rule(trigonometric.asin),
    "acos": Rule(trigonometric.acos),
    "atan": Rule(trigonometric.atan),
    "atan2": Rule(trigonometric.atan2, 2),
    "erf": Rule(error.erf, expanded="f32"),
    "erfc": Rule(error.erfc),
    "pow": Rule(powers.pow_float, 2, expanded="f32"),
    "trunc_div": Rule(division.float_trunc_div, 2, expanded=True),
    "trunc_mod": Rule(division.float_trunc_mod, 2),
    "floor_div": Rule(division.float_floor_div, 2),
    "floor_mod": Rule(division.float_floor_mod, 2),
}
INTEGER_RULES: dict[str, Rule] = {
    "pow": Rule(powers.pow_integer, 2),
    "trunc_div": Rule(division.integer_trunc_div, 2, expanded=True),
    "trunc_mod": Rule(division.integer_trunc_mod, 2, expanded=True),
    "floor_div": Rule(division.integer_floor_div, 2, expanded=True),
    "floor_mod": Rule(division.integer_floor_mod, 2, expanded=True),
}
_RULES = {"f": FLOAT_RULES, "i": INTEGER_RULES, "u": INTEGER_RULES, "b": {}}


def call(k: MemoryLanes, name: str, *operands: Operand) -> Lane:
    """The function ``name`` of lanes; f16 and bf16 are computed in f32 and rounded.

    Raises: TypeError where the dtype has no such function.
    """
    lanes = k.operands(name, *operands)
    dtype = lanes[0].dtype
    rule = _RULES[kind_of(dtype)].get(name)
    if rule is None:
        raise k.unsupported(name, dtype)
    return k.rounded(_call_helper(k, name, rule, tuple(k.as_wide(x) for x in lanes)), dtype)


def _call_helper(k: MemoryLanes, name: str, rule: Rule, lanes: tuple[Lane, ...]) -> Lane:
    dtype = lanes[0].dtype
    type_ = k.register_type(dtype)
    symbol = f"{name}.{dtype}x{k.width}"

    def text() -> str:
        params = [(type_, f"x{i}") for i in range(rule.operands)]
        attributes = "alwaysinline" if rule.expanded in (True, dtype) else "noinline"
        fn = FunctionWriter(k.fn.module, symbol, type_, params, linkage="internal",
                            attributes=attributes)
        result = rule.body(k.rewritten(fn), *(Lane(dtype, f"%{param}") for _, param in params))
        fn.do(f"ret {type_} {result.text}")
        return fn.finish()

    callee = k.fn.module.helper(symbol, text)
    return Lane(dtype, k.fn.call(type_, callee, *((type_, x.text) for x in lanes)))
