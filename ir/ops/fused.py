"""The two ops of region fusion: a map over a broadcast index space, and a reduction with a
prologue.

Their region computes one element: its parameters are the operands' elements, scalars all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from stepforge.ir import dims
from stepforge.ir.core import Operation
from stepforge.ir.errors import IRError
from stepforge.ir.opdef import OpDef, define_op, lookup
from stepforge.ir.ops.arrays import Array
from stepforge.ir.types import Type

Run: TypeAlias = Callable[..., tuple[Any, ...]]
Shape: TypeAlias = tuple[int, ...]
# kind of a reduction -> the op that reduces a whole tensor so
REDUCTIONS = {
    "add": "reduce_sum",
    "mul": "reduce_prod",
    "max": "reduce_max",
    "min": "reduce_min",
    "and": "reduce_all",
    "or": "reduce_any",
}


def region_problem(op: Operation) -> str | None:
    """What is wrong with the region of a fused op, or None."""
    region = op.regions[0]
    if len(region.params) != len(op.operands):
        return f"the region has {len(region.params)} parameters for {len(op.operands)} operands"
    for param, operand in zip(region.params, op.operands, strict=True):
        if param.type != Type(operand.type.dtype):
            return f"parameter {param.type} stands for an element of {operand.type}"
    given = [v.type.dtype for v in region.terminator.operands]
    if given != [r.type.dtype for r in op.results]:
        return f"the region yields {', '.join(given)}"
    return None


def elements(op: Operation, run: Run, operands: tuple[Array, ...], shape: Shape) -> list[Array]:
    """What the region yields over the index space."""
    spread = [np.broadcast_to(x, shape) for x in operands]
    return [np.broadcast_to(v, shape) for v in run(op.regions[0], *spread, space=shape)]


@define_op
class Fused(OpDef):
    """Elements computed by a region over the broadcast index space of the operands.

    ``%r = fused(%x, %b, shape=[n, 3]) : f32[n, 3] |%p: f32, %q: f32| { ... yield(%v) }``
    """

    region_names = ("",)

    def infer(self, *operands: Type, shape: tuple[dims.Dim, ...] = ()) -> Type:
        raise IRError("fused: the types of results come from its region")

    def verify(self, op: Operation) -> str | None:
        """The problem with this operation, or None."""
        shape = op.attr("shape")
        if any(r.type.shape != shape for r in op.results):
            return "every result has the shape of the index space"
        return region_problem(op)

    def evaluate(
        self, op: Operation, run: Run, *operands: Array, shape: Shape
    ) -> tuple[Array, ...]:
        """The reference meaning: the region, for every element at once."""
        return tuple(elements(op, run, operands, shape))


@define_op
class Reduce(OpDef):
    """A reduction over ``axes`` of elements computed by a region over the operands' broadcast
    space.

    ``kind`` is add, mul, max, min, and, or. ``%s = reduce(%x, %y, shape=[n, 3], axes=[1],
    kind="add") : f32[n] |%p: f32, %q: f32| { ... yield(%v) }``. ``mean`` divides by the number of
    elements.
    """

    region_names = ("",)

    def infer(
        self,
        *operands: Type,
        shape: tuple[dims.Dim, ...] = (),
        axes: tuple[int, ...] = (),
        kind: str = "add",
        mean: bool = False,
        keep_dims: bool = False,
    ) -> Type:
        raise IRError("reduce: the type of the result comes from its region")

    def verify(self, op: Operation) -> str | None:
        """The problem with this operation, or None."""
        shape, axes = op.attr("shape"), op.attr("axes")
        kept = op.attr("keep_dims")
        want = tuple(1 if i in axes else n for i, n in enumerate(shape) if kept or i not in axes)
        if op.result.type.shape != want:
            return f"the result has shape {op.result.type.shape}, not {want}"
        return region_problem(op)

    def evaluate(
        self,
        op: Operation,
        run: Run,
        *operands: Array,
        shape: Shape,
        axes: tuple[int, ...],
        kind: str,
        mean: bool,
        keep_dims: bool,
    ) -> Array:
        """The reference meaning: the elements, then the plain reduction of all of them."""
        (whole,) = elements(op, run, operands, shape)
        name = "reduce_mean" if mean else REDUCTIONS[kind]
        rule = lookup(name).numpy
        assert rule is not None
        return np.asarray(rule(whole, axes=axes, keep_dims=keep_dims))
