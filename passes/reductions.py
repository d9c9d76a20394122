"""What ``simplify`` knows of reductions: of what is the same everywhere, of what was moved or
reduced before.

Sums of floats keep every bit only where the order of their terms does not matter; rules for the
others are for ``inexact`` use. A sum of f32 is made in double and rounded once, so that n times the
same number is an exact product.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stepforge.ir import dims
from stepforge.ir.core import Const, Operand, Operation
from stepforge.ir.dims import Dim
from stepforge.ir.types import numpy_dtype
from stepforge.passes.fold import constant_of
from stepforge.passes.structure import Replacement, Tools, all_ints

ORDERED = ("reduce_sum", "reduce_prod", "reduce_mean")  # rounding depends on the order
REDUCTIONS = (*ORDERED, "reduce_max", "reduce_min", "reduce_any", "reduce_all")
# What any number of a constant gives: sums of zeros, products of ones, ...
FIXED_POINTS: dict[str, Any] = {
    "reduce_sum": 0,
    "reduce_prod": 1,
    "reduce_any": False,
    "reduce_all": True,
}
LARGEST_COUNT = 1 << 24  # counts up to this are exact in f32, and times an f32 in double


def no_axes(op: Operation, tools: Tools) -> Replacement:
    """A reduction over no axes; a sum of one number turns -0.0 to 0.0."""
    return None if op.attr("axes") else _one_term(op, op.operands[0], tools)


def _one_term(op: Operation, x: Operand, tools: Tools) -> Operand:
    """What the reduction of one element is, for each of the elements of ``x``."""
    if op.name in ("reduce_sum", "reduce_mean") and x.type.kind in "fc":
        return tools.make("add", x, constant_of(0, x.type.dtype))
    return x


def axes_of_one(op: Operation, tools: Tools) -> Replacement:
    """Reduced axes of size 1 have nothing to reduce."""
    x, shape = op.operands[0], op.operands[0].type.dims
    if any(shape[axis] != 1 for axis in op.attr("axes")):
        return None
    return tools.replace(op, "reshape", _one_term(op, x, tools), shape=op.result.type.shape)


def of_fill(op: Operation, tools: Tools) -> Replacement:
    """A reduction of what is the same everywhere."""
    source = tools.source(op.operands[0], "fill")
    if source is None:
        return None
    value = source.operands[0]
    if isinstance(value, Const) and _is(value, FIXED_POINTS.get(op.name)):
        return tools.replace(op, "fill", value, shape=op.result.type.shape)
    return _of_same(op, value, tools)


def _is(value: Const, number: Any) -> bool:
    if number is None or value.value != number:
        return False
    return not isinstance(value.value, float) or bool(np.signbit(value.value) == (number < 0))


def of_broadcast(op: Operation, tools: Tools) -> Replacement:
    """A reduction over axes along which a tensor was only repeated."""
    source = tools.source(op.operands[0], "broadcast_to")
    if source is None:
        return None
    x, shape = source.operands[0], source.attr("shape")
    own = (1,) * (len(shape) - x.type.rank) + x.type.dims
    if any(own[axis] != 1 for axis in op.attr("axes")):
        return None
    kept = tuple([n for axis, n in enumerate(own) if axis not in op.attr("axes")])
    smaller = tools.make("reshape", x, shape=own if op.attr("keep_dims") else kept)
    return _of_same(op, smaller, tools)


def _of_same(op: Operation, value: Operand, tools: Tools) -> Replacement:
    """``value``, which broadcasts to the result, reduced with copies of itself."""
    shape, dtype = op.operands[0].type.dims, value.type.dtype
    sizes = [shape[axis] for axis in op.attr("axes")]
    count = dims.product(sizes)
    if not all_ints(sizes) or not isinstance(count, int) or not 1 <= count <= LARGEST_COUNT:
        return None
    if op.name == "reduce_prod" or (op.name in ORDERED and not _exact(op.name, dtype)):
        return None
    if op.name == "reduce_sum":
        wrapped = np.asarray(count).astype(numpy_dtype(dtype))
        value = tools.make("mul", value, constant_of(wrapped, dtype))
    if op.name in ORDERED and dtype == "f32":
        value = tools.make("add", value, constant_of(0, dtype))
    return tools.replace(op, "broadcast_to", value, shape=op.result.type.shape)


def _exact(name: str, dtype: str) -> bool:
    """True where n times a number is as exact as the sum of n of them."""
    kind = numpy_dtype(dtype).kind
    return dtype == "f32" or (name == "reduce_sum" and kind in "iu")


def of_reduction(op: Operation, tools: Tools) -> Replacement:
    """A reduction of a reduction is one over both their axes, where order does not matter."""
    return None if _order_matters(op) else _merged(op, tools)


def of_reduced_sum(op: Operation, tools: Tools) -> Replacement:
    """Sums of sums, products of products, means of means of floats."""
    return _merged(op, tools) if op.operands[0].type.kind in "fc" else None


def _order_matters(op: Operation) -> bool:
    return op.name == "reduce_mean" or (op.name in ORDERED and op.operands[0].type.kind in "fc")


def _merged(op: Operation, tools: Tools) -> Replacement:
    source = tools.source(op.operands[0], op.name)
    if source is None or not tools.used_once(op.operands[0]):
        return None
    keep, inner = op.attr("keep_dims"), source.attr("axes")
    if source.attr("keep_dims") != keep:
        return None
    rank = source.operands[0].type.rank
    left = list(range(rank)) if keep else [axis for axis in range(rank) if axis not in inner]
    axes = tuple(sorted({*inner, *[left[axis] for axis in op.attr("axes")]}))
    return tools.replace(op, op.name, source.operands[0], axes=axes, keep_dims=keep)


def of_moved(op: Operation, tools: Tools) -> Replacement:
    """A reduction of a transpose, or of a reshape as a whole, where order does not matter."""
    return None if _order_matters(op) else _unmoved(op, tools)


def of_moved_sum(op: Operation, tools: Tools) -> Replacement:
    """The same of sums of floats."""
    return _unmoved(op, tools) if op.operands[0].type.kind in "fc" else None


def _unmoved(op: Operation, tools: Tools) -> Replacement:
    source = tools.source(op.operands[0], "transpose", "reshape")
    if source is None or op.attr("keep_dims"):
        return None
    x, axes = source.operands[0], op.attr("axes")
    if source.name == "reshape":
        everything = len(axes) == op.operands[0].type.rank
        return tools.replace(op, op.name, x, axes=tuple(range(x.type.rank))) if everything else None
    perm = source.attr("perm")
    kept = [axis for position, axis in enumerate(perm) if position not in axes]
    if kept != sorted(kept):
        return None
    return tools.replace(op, op.name, x, axes=tuple(sorted([perm[axis] for axis in axes])))


def product_of_sizes(op: Operation, tools: Tools) -> Replacement:
    """The product of sizes is a size."""
    source = tools.source(op.operands[0], "dims")
    if source is None or source.attr("scalar") or op.attr("keep_dims"):
        return None
    whole: Dim = dims.product(source.attr("values"))
    return tools.replace(op, "dims", values=(whole,), dtype=source.attr("dtype"), scalar=True)


OPPOSITES = {"reduce_any": "reduce_all", "reduce_all": "reduce_any"}


def not_of_reduction(op: Operation, tools: Tools) -> Replacement:
    """Not any that is not: all."""
    outer = tools.source(op.operands[0], *OPPOSITES)
    inner = tools.source(outer.operands[0], "logical_not") if outer is not None else None
    if outer is None or inner is None or not tools.used_once(op.operands[0]):
        return None
    return tools.replace(op, OPPOSITES[outer.name], inner.operands[0], **outer.attrs)


EXTREMES = {"argmax": "argmin", "argmin": "argmax"}


def place_of_negative(op: Operation, tools: Tools) -> Replacement:
    """The place of the largest negative is that of the smallest number."""
    source = tools.source(op.operands[0], "neg")
    if source is None or op.operands[0].type.kind != "f":
        return None
    return tools.replace(op, EXTREMES[op.name], source.operands[0], **op.attrs)


def scaled_sum(op: Operation, tools: Tools) -> Replacement:
    """A constant factor of every term is a factor of the sum."""
    source = tools.source(op.operands[0], "mul")
    if source is None or not tools.used_once(op.operands[0]):
        return None
    for factor, x in (source.operands, source.operands[::-1]):
        if isinstance(factor, Const) and x.type == op.operands[0].type:
            total = tools.make(op.name, x, **op.attrs)
            return tools.replace(op, "mul", total, factor)
    return None
