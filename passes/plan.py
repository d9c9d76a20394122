"""Memory: every temporary gets a place in one arena, shared by those that are not alive together.

``arena`` says where. Offsets and the size of the arena may be symbolic: the step evaluates them per
call.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence, Set

from stepforge.ir import dims
from stepforge.ir.analyses import used_values
from stepforge.ir.builder import Builder
from stepforge.ir.core import Block, Function, Operand, Operation, Value
from stepforge.ir.dims import Dim
from stepforge.ir.records import record
from stepforge.ir.rewrite import with_body
from stepforge.ir.types import Type, item_bytes
from stepforge.passes.arena import Span, tightest
from stepforge.passes.loop_accesses import SOURCES, VIEWS

ALIGNMENT = 64  # bytes: a cache line, and a full vector register


@record(frozen=True)
class Planned:
    """A loop-level function whose temporaries have places, and the bytes of the arena that it
    needs.
    """

    function: Function
    arena: Dim


def plan(
    function: Function, names: Set[str], bounds: Mapping[str, Dim] | None = None
) -> Planned:
    """Replace each ``alloc`` by a ``place`` in the arena.

    ``names`` are the sizes that are known at entry; a temporary whose size is not stays an
    ``alloc``, unless ``bounds`` say what it can be at most, in terms of ``names``.
    """
    most = {
        op: _at_most(op.result.type, bounds or {}) for op in function.body.ops if op.name == "alloc"
    }
    ops = _sources_late(function.body.ops)
    function = with_body(function, Block(function.params, ops))
    last = last_uses(ops)
    spans = {
        op: Span(_bytes(most[op]), position, last.get(op.result, position))
        for position, op in enumerate(ops)
        if op.name == "alloc" and dims.names(most[op].size) <= names
    }
    if not spans:
        return Planned(function, 0)
    groups = _groups(spans, _scratch(ops))
    layout = tightest([_around([spans[op] for op in group]) for group in groups])
    places = {
        op: offset for group, offset in zip(groups, layout.offsets, strict=True) for op in group
    }
    return Planned(_placed(function, places), layout.size)


def _at_most(type_: Type, bounds: Mapping[str, Dim]) -> Type:
    """The largest type that a buffer can have; sizes that may shrink as another grows stay."""
    return type_.with_shape(tuple(_largest(size, bounds) for size in type_.dims))


def _largest(size: Dim, bounds: Mapping[str, Dim]) -> Dim:
    if isinstance(size, int) or dims.names(size).isdisjoint(bounds):
        return size
    for monomial, coefficient in size.terms:
        inside = any(
            not isinstance(atom, str) and not dims.names(dims.monomial((atom,))).isdisjoint(bounds)
            for atom in monomial
        )
        if coefficient < 0 or inside:
            return size
    return dims.substitute(size, bounds)


def _scratch(ops: Iterable[Operation]) -> set[Operand]:
    """Memory that one operation fills and nobody reads later."""
    found: set[Operand] = set()
    for op in ops:
        for inner in (op, *(o for region in op.regions for o in region.walk())):
            if inner.name == "gemm":
                found.add(inner.operands[3])
    return found


def _groups(spans: Iterable[Operation], scratch: Set[Operand]) -> list[list[Operation]]:
    """What gets one place together: all scratch memory, which is then still in the cache."""
    groups: dict[Operation | None, list[Operation]] = {}
    for op in spans:
        groups.setdefault(None if op.result in scratch else op, []).append(op)
    return list(groups.values())


def _around(spans: Sequence[Span]) -> Span:
    """One span that holds each of ``spans`` while that is in use."""
    size = functools.reduce(dims.maximum, (span.size for span in spans))
    return Span(size, min(s.first for s in spans), max(s.last for s in spans))


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


def _bytes(type_: Type) -> Dim:
    """The bytes of a buffer, rounded up to the alignment;

    symbolic sizes may take up to 63 bytes more than that.
    """
    size = type_.size * item_bytes(type_.dtype)
    if isinstance(size, int):
        return -(-size // ALIGNMENT) * ALIGNMENT
    exact = all(c % ALIGNMENT == 0 for _, c in size.terms)
    return size if exact else dims.floor_div(size + (ALIGNMENT - 1), ALIGNMENT) * ALIGNMENT


def last_uses(ops: tuple[Operation, ...]) -> dict[Operand, int]:
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


def _placed(function: Function, offsets: dict[Operation, Dim]) -> Function:
    builder = Builder()
    for op in function.body.ops:
        if op not in offsets:
            builder.ops.append(op)
            continue
        builder.site = op.site
        attrs = {**op.attrs, "offset": offsets[op]}
        made = builder.operation("place", (), attrs)
        builder.ops.append(Operation(made.defn, (), made.attrs, op.results, (), op.site))
    return Function(function.name, builder.block(function.params), function.globals)
