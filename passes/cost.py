"""How long a step will take, roughly: decides whether it is worth leaving the interpreter lock.

In sixteenths of a nanosecond on one core of a machine of today; what is wrong by a factor of two
does no harm. For those who look at a step, ``kernels`` says of each of its loops what it computes
and what it moves.
"""

from __future__ import annotations

import functools

from stepforge.ir import dims
from stepforge.ir.analyses import checked_sizes
from stepforge.ir.core import Function, Operation
from stepforge.ir.dims import Dim
from stepforge.ir.records import record
from stepforge.ir.types import NUMERIC, Type, item_bytes

UNIT = 16  # parts of a nanosecond
PER_ELEMENT = 2  # a load, a few operations and a store, by vectors
PER_FUNCTION = 8  # exp and its like
PER_RANDOM = 32  # a number drawn
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
# convolutions: which of (operand, operand, result) are the sums of windows and the filter, and how
# many of the last axes of the filter a sum does not run over
CONVOLUTIONS = {
    "conv2d": (2, 1, 1),
    "conv2d_input": (0, 1, 1),
    "conv2d_filter": (1, 2, 1),
    "conv3d": (2, 1, 1),
    "conv3d_input": (0, 1, 1),
    "conv3d_filter": (1, 2, 1),
    "depthwise_conv2d": (2, 1, 2),
    "depthwise_conv2d_input": (0, 1, 2),
    "depthwise_conv2d_filter": (1, 2, 2),
}


FREE = ("read", "write", "return", "dims", "dim", "reshape", "refine", "require")  # no loops


@record(frozen=True)
class KernelCost:
    """What one operation of a fused function costs, as expressions over the sizes of the step.

    ``flops`` counts an elementary function as ``PER_FUNCTION``; ``bytes`` takes each operand and
    each result as moved once.
    """

    op: Operation
    flops: Dim
    bytes: Dim
    nanoseconds: Dim


def kernels(function: Function) -> tuple[KernelCost, ...]:
    """The cost of each operation of a step that becomes loops, in order."""
    return tuple(
        KernelCost(op, _flops(op), _traffic(op), dims.floor_div(_cost(op), UNIT))
        for op in function.body.ops
        if op.name not in FREE
    )


def length(op: Operation) -> int:
    """Machine instructions of an elementwise operation, about: what its place in a body costs."""
    return PER_FUNCTION if op.name in FUNCTIONS else 1


def work(function: Function) -> Dim:
    """Nanoseconds that the step's own loops take, as a dimension expression over entry names."""
    total: Dim = 0
    names = checked_sizes(function)
    for op in function.body.ops:
        cost = _cost(op)
        if dims.names(cost) <= names:
            total = total + cost
    return dims.floor_div(total, UNIT)


def _flops(op: Operation) -> Dim:
    """Arithmetic operations: those of the body of each element, and what sums are made of."""
    body = sum(length(inner) for region in op.regions for inner in region.ops[:-1])
    if op.name == "matmul" or op.name in CONVOLUTIONS:
        made: Type = op.result.type
        return products(op) * 2 + made.size * body
    if op.name in ("fused", "reduce"):
        return dims.product(op.attr("shape")) * (body + (op.name == "reduce"))
    return _elements(op)


def _traffic(op: Operation) -> Dim:
    total: Dim = 0
    for value in (*op.operands, *op.results):
        type_ = value.type
        if isinstance(type_, Type) and type_.shape is not None and type_.dtype in NUMERIC:
            total = total + type_.size * item_bytes(type_.dtype)
    return total


def _elements(op: Operation) -> Dim:
    """How many elements an operation without a body gives, or takes where it gives none."""
    values = op.results or op.operands
    types = [value.type for value in values]
    known = [t.size for t in types if isinstance(t, Type) and t.shape is not None]
    return functools.reduce(dims.maximum, dict.fromkeys(known)) if known else 0


def _cost(op: Operation) -> Dim:
    if op.name == "matmul" or op.name in CONVOLUTIONS:
        weight = sum(length(inner) for region in op.regions for inner in region.ops)
        made: Type = op.result.type
        return _scaled(products(op) * 2) + made.size * weight
    if op.name in ("fused", "reduce"):
        weight = sum(map(length, op.regions[0].ops))
        return dims.product(op.attr("shape")) * (PER_ELEMENT + weight)
    if op.defn.effect == "random":
        return dims.product(n for r in op.results for n in r.type.dims) * PER_RANDOM
    size: Dim = 0
    for value in (*op.operands, *op.results):
        if isinstance(value.type, Type) and value.type.shape is not None:
            size = size + value.type.size
    return size * PER_ELEMENT


def products(op: Operation) -> Dim:
    """How many products of two numbers a matrix product or a convolution sums up."""
    types: list[Type] = [*[o.type for o in op.operands[:2]], op.result.type]
    if op.name == "matmul":
        return types[2].size * types[0].dims[-2 if op.attr("transpose_a") else -1]
    windows, filter, channels = CONVOLUTIONS[op.name]
    return types[windows].size * dims.product(types[filter].dims[:-channels])


def _scaled(flops: Dim) -> Dim:
    return dims.floor_div(flops, FLOPS_PER_UNIT)
