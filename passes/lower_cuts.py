"""Slices that are never stored: what is computed from them loads their elements at the source.

A slice that only elementwise operations and reductions use needs no memory of its own. Adjacent
axes still run as one loop where the slice takes the inner one in full.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepforge.ir import dims
from stepforge.ir.core import Function, Operand, Operation, Value
from stepforge.ir.dims import Dim
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.records import record
from stepforge.passes.bufferize import Homes

CONSUMERS = ("fused", "reduce")


def cut_in_place(function: Function, homes: Homes) -> dict[Operand, Operation]:
    """The slices that need no memory, by their values.

    Updates in place run last, when the source may have changed: what they use is stored.
    """
    found: dict[Operand, Operation] = {
        op.result: op
        for op in homes.ops
        if op.name == "slice" and isinstance(op.operands[0], Value)
    }
    ready = {op for op in homes.ops if op.name in CONSUMERS}
    for op in function.body.ops:
        used = [] if op in ready else list(op.operands)
        used += [o for region in op.regions for inner in region.walk() for o in inner.operands]
        for operand in used:
            found.pop(operand, None)
    return found


@record(frozen=True)
class Cut:
    """``shape`` elements of ``source``, which begin at ``begin`` and are ``steps`` apart."""

    source: Operand
    shape: tuple[Dim, ...]
    begin: tuple[Dim, ...]
    steps: tuple[int, ...]

    @classmethod
    def of(cls, op: Operation, source: Operand) -> Cut:
        """What a slice takes of its source's buffer."""
        steps = op.attr("strides") or (1,) * len(op.attr("begin"))
        return cls(source, op.result.type.dims, op.attr("begin"), tuple(steps))

    def marks(self) -> list[object]:
        """For each axis, what it must have in common with the one before to run with it."""
        marks: list[object] = []
        head = -1  # the last axis that is not taken in full
        for axis, size in enumerate(self.source.type.dims):
            full = self.begin[axis] == 0 and self.steps[axis] == 1 and self.shape[axis] == size
            if not full:
                head = axis
            whole = head < 0 or self.steps[head] == 1
            marks.append(head if whole else (axis,))
        return marks

    def element(
        self,
        k: LoopBuilder,
        shape: Sequence[Dim],
        groups: Sequence[Sequence[int]],
        at: Sequence[Operand],
    ) -> Operand:
        """The element that broadcasts to the place ``at`` of the ``groups`` of a ``shape``."""
        missing = len(shape) - len(self.shape)
        sizes: list[Dim] = []
        indices: list[Operand] = []
        placed = {axis - missing: number for number, axes in enumerate(groups) for axis in axes}
        for axis, size in enumerate(self.source.type.dims):
            number = placed.get(axis)
            if number is None:  # one element of an axis that the loops do not have
                sizes.append(size)
                indices.append(k.index(offset=self.begin[axis]))
            elif axis + missing == self._first(groups[number], missing):
                axes = [each - missing for each in groups[number] if each >= missing]
                sizes.append(dims.product(self.source.type.dims[each] for each in axes))
                extent = dims.product(shape[each] for each in groups[number])
                indices.append(self._index(k, axes, extent, at[number]))
        return k.load(k.view(self.source, tuple(sizes)), *indices)

    @staticmethod
    def _first(group: Sequence[int], missing: int) -> int:
        return next(axis for axis in group if axis >= missing)

    def _index(self, k: LoopBuilder, axes: Sequence[int], extent: Dim, at: Operand) -> Operand:
        """Where the merged ``axes`` are at: their own size may be 1 where the loop's is not."""
        begin: Dim = 0
        for axis in axes:
            begin = begin * self.source.type.dims[axis] + self.begin[axis]
        own = dims.product(self.shape[axis] for axis in axes)
        if own == 1:
            return k.index(offset=begin)
        step: Dim = self.steps[axes[0]]
        if own != extent:
            step = step * dims.minimum(own - 1, 1)  # 1 only shows at run time: a stride of 0
        return k.index((at, step), offset=begin)
