"""How long a step will take, roughly: decides whether it is worth leaving the interpreter lock.

In sixteenths of a nanosecond on one core of a machine of today; what is wrong by a factor of two
does no harm.
"""

from __future__ import annotations

from stepforge.ir import dims
from stepforge.ir.core import Function, Operation
from stepforge.ir.dims import Dim
from stepforge.ir.types import Type

UNIT = 16  # parts of a nanosecond
PER_ELEMENT = 2  # a load, a few operations and a store, by vectors
PER_FUNCTION = 8  # exp and its like
FLOPS_PER_UNIT = 4  # a matrix product
FUNCTIONS = frozenset(
    [
        "exp",
        "expm1",
        "log",
        "log1p",
        "sin",
        "cos",
        "tan",
        "tanh",
        "sigmoid",
        "erf",
        "erfc",
        "pow",
        "atan",
        "atan2",
        "asin",
        "acos",
        "sinh",
        "cosh",
        "asinh",
        "acosh",
        "atanh",
        "softplus",
        "elu",
        "selu",
    ]
)


def work(function: Function) -> Dim:
    """Nanoseconds that the step's own loops take, as a dimension expression over entry names."""
    total: Dim = 0
    names = _entry_names(function)
    for op in function.body.ops:
        cost = _cost(op)
        if dims.names(cost) <= names:
            total = total + cost
    return dims.floor_div(total, UNIT)


def _entry_names(function: Function) -> frozenset[str]:
    types = [p.type for p in function.params]
    types += [g.type for g in function.globals.values() if g.kind == "variable"]
    found: set[str] = set()
    for type_ in types:
        for size in type_.shape or ():
            found |= dims.names(size)
    return frozenset(found)


def _cost(op: Operation) -> Dim:
    if op.name == "matmul":
        a, out = op.operands[0].type, op.result.type
        depth = a.dims[-2 if op.attr("transpose_a") else -1]
        return _scaled(out.size * depth * 2)
    if op.regions:
        weight = sum(PER_FUNCTION if o.name in FUNCTIONS else 1 for o in op.regions[0].ops)
        return dims.product(op.attr("shape")) * (PER_ELEMENT + weight)
    size: Dim = 0
    for value in (*op.operands, *op.results):
        if isinstance(value.type, Type) and value.type.shape is not None:
            size = size + value.type.size
    return size * PER_ELEMENT


def _scaled(flops: Dim) -> Dim:
    return dims.floor_div(flops, FLOPS_PER_UNIT)
