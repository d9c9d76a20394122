"""The two ops of region fusion: a map over a broadcast index space, and a reduction with a
prologue.

Their region computes one element: its parameters are the operands' elements, scalars all.
"""

from __future__ import annotations

from stepforge.ir import dims
from stepforge.ir.core import Operation
from stepforge.ir.errors import IRError
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.types import Type


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
