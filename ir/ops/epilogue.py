"""Products and convolutions may end in a region: what is stored for each sum.

Such an op has two operands of its own. With a region it has more, which broadcast to the result:
the region's first parameter is the element of the sum, the others are elements of those operands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from stepforge.ir.core import Block, Operand, Operation
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.opdef import OpDef
from stepforge.ir.ops.arrays import Array
from stepforge.ir.ops.fused import Run, elements
from stepforge.ir.types import Type


class WithEpilogue(OpDef):
    """Base of ops of two operands and one result that may have an epilogue."""

    region_names: ClassVar[tuple[str, ...]] = ("",)
    numpy: Callable[..., Array]

    def verify(self, op: Operation) -> str | None:
        """The problem with this operation, or None."""
        (want,) = self.infer_results(tuple([o.type for o in op.operands]), dict(op.attrs))
        if [r.type for r in op.results] != [want]:
            return f"gives {want}, but its results say {[str(r.type) for r in op.results]}"
        if not op.regions:
            return None if len(op.operands) == 2 else "has operands for a region, but no region"
        return _region_problem(op)

    def evaluate(
        self, op: Operation, run: Run, x: Array, y: Array, *operands: Array, **attrs: Any
    ) -> Array:
        """The reference meaning: the sums, then the region, once for each element."""
        sums = self.numpy(x, y, **attrs)
        return elements(op, run, (sums, *operands), sums.shape)[0] if op.regions else sums

    def lower(
        self, k: LoopBuilder, out: Operand, x: Operand, y: Operand, /, **attrs: Any
    ) -> None:
        """Into loops, without a region."""
        self.lower_epilogue(k, out, (x, y), (), None, **attrs)

    def lower_epilogue(
        self,
        k: LoopBuilder,
        out: Operand,
        factors: tuple[Operand, Operand],
        taken: Sequence[Operand],
        region: Block | None,
        **attrs: Any,
    ) -> None:
        """Into loops; ``region`` takes each sum and the elements of ``taken``."""
        raise NotImplementedError


def broadcasts(own: Type, to: Type) -> bool:
    """True where ``own`` is known to broadcast to ``to``."""
    sizes = zip(own.dims[::-1], to.dims[::-1], strict=False)
    return own.rank <= to.rank and all(n in (1, size) for n, size in sizes)


def _region_problem(op: Operation) -> str | None:
    region, result = op.regions[0], op.result.type
    wanted = [Type(result.dtype), *[Type(o.type.dtype) for o in op.operands[2:]]]
    if [p.type for p in region.params] != wanted:
        return f"the region takes ({', '.join(map(str, wanted))})"
    if [v.type for v in region.terminator.operands] != wanted[:1]:
        return f"the region yields one {wanted[0]}"
    for operand in op.operands[2:]:
        if not broadcasts(operand.type, result):
            return f"{operand.type} does not broadcast to {result}"
    return None
