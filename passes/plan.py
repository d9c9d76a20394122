"""Memory: every temporary gets a place in one arena, shared by those that are not alive together.

Sizes may be symbolic, so places are found among bins: a bin takes any temporary of exactly its
size, or a smaller one where both are numbers. The arena's size is the sum of the bins, a polynomial
that the step evaluates per call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from stepforge.ir import dims
from stepforge.ir.analyses import used_values
from stepforge.ir.builder import Builder
from stepforge.ir.core import Block, Function, Operand, Operation, Value
from stepforge.ir.dims import Dim
from stepforge.ir.rewrite import with_body
from stepforge.ir.types import item_bytes
from stepforge.passes.loop_accesses import SOURCES, VIEWS

ALIGNMENT = 64  # bytes: a cache line, and a full vector register


@dataclass(frozen=True)
class Planned:
    """A loop-level function whose temporaries have places, and the bytes of the arena that it
    needs.
    """

    function: Function
    arena: Dim


@dataclass
class _Bin:
    size: Dim
    offset: Dim = 0
    free_from: int = 0  # the position of the first operation that may use the bin again


def plan(function: Function, names: Set[str]) -> Planned:
    """Replace each ``alloc`` by a ``place`` in the arena.

    ``names`` are the sizes that are known at entry; a temporary whose size is not stays an
    ``alloc``.
    """
    ops = _sources_late(function.body.ops)
    function = with_body(function, Block(function.params, ops))
    last = _last_uses(ops)
    bins: list[_Bin] = []
    chosen: dict[Operation, _Bin] = {}
    for position, op in enumerate(ops):
        if op.name == "alloc" and dims.names(op.result.type.size) <= names:
            size = _aligned(op.result.type.size * item_bytes(op.result.type.dtype))
            found = _bin_for(bins, size, position)
            found.free_from = last.get(op.result, position) + 1
            chosen[op] = found
    if not chosen:
        return Planned(function, 0)
    arena: Dim = 0
    for each in bins:
        each.offset = arena
        arena = arena + each.size
    return Planned(_placed(function, chosen), arena)


def _sources_late(ops: Sequence[Operation]) -> tuple[Operation, ...]:
    """Buffers and views right before their first use: what is not in use yet needs no memory."""
    waiting: dict[Operand, Operation] = {}
    out: list[Operation] = []

    def bring(values: Iterable[Operand]) -> None:
        for value in values:
            source = waiting.pop(value, None)
            if source is not None:
                bring(source.operands)
                out.append(source)

    for op in ops:
        if op.name in SOURCES:
            waiting[op.result] = op
        else:
            bring(used_values(op))
            out.append(op)
    return tuple(out)


def _aligned(size: Dim) -> Dim:
    """``size`` rounded up to the alignment;

    symbolic sizes may take up to 63 bytes more than that.
    """
    if isinstance(size, int):
        return -(-size // ALIGNMENT) * ALIGNMENT
    exact = all(c % ALIGNMENT == 0 for _, c in size.terms)
    return size if exact else dims.floor_div(size + (ALIGNMENT - 1), ALIGNMENT) * ALIGNMENT


def _bin_for(bins: list[_Bin], size: Dim, position: int) -> _Bin:
    free = [b for b in bins if b.free_from <= position]
    for candidate in free:
        if candidate.size == size:
            return candidate
    numbers = [b for b in free if isinstance(b.size, int)]
    if isinstance(size, int) and numbers:
        best = max(numbers, key=lambda b: b.size if isinstance(b.size, int) else 0)
        best.size = max(best.size, size) if isinstance(best.size, int) else size
        return best
    made = _Bin(size)
    bins.append(made)
    return made


def _last_uses(ops: tuple[Operation, ...]) -> dict[Operand, int]:
    """The position of the last operation that uses each buffer, views of it included."""
    root: dict[Operand, Operand] = {}
    last: dict[Operand, int] = {}
    for position, op in enumerate(ops):
        if op.name in VIEWS:
            root[op.result] = root.get(op.operands[0], op.operands[0])
        for inner in (op, *(o for region in op.regions for o in region.walk())):
            for operand in inner.operands:
                if isinstance(operand, Value):
                    last[root.get(operand, operand)] = position
    return last


def _placed(function: Function, chosen: dict[Operation, _Bin]) -> Function:
    builder = Builder()
    for op in function.body.ops:
        if op not in chosen:
            builder.ops.append(op)
            continue
        builder.site = op.site
        attrs = {**op.attrs, "offset": chosen[op].offset}
        made = builder.operation("place", (), attrs)
        builder.ops.append(Operation(made.defn, (), made.attrs, op.results, (), op.site))
    return Function(function.name, builder.block(function.params), function.globals)
