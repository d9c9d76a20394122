"""Loops for ``fused`` and ``reduce``: coalesced nests over a broadcast index space.

Axes that every operand treats alike, all full or all broadcast, are one loop: ``(n, 28, 28) + (28,
28)`` is a loop over ``n`` around a loop over ``784`` lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from typing import TypeAlias

from stepforge.ir import dims
from stepforge.ir.combining import COMBINE, identity, precision
from stepforge.ir.core import Const, Operand, Operation
from stepforge.ir.dims import Dim
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.types import Type
from stepforge.passes.column_sums import row_by_row
from stepforge.passes.lower_cuts import Cut

CHUNK = 4096  # elements that are summed in their own precision before a wider one takes over
Element: TypeAlias = Callable[[Sequence[Operand]], Operand]


def row_shapes(
    ops: Sequence[Operation], cuts: Mapping[Operand, Operation]
) -> set[tuple[Dim, ...]]:
    """Shapes that some operation takes row by row: there the last axis is a loop of its own.

    What else works on such a shape does so too, so that ``merge_loops`` finds nests that match.
    """
    found: set[tuple[Dim, ...]] = set()
    for op in ops:
        if op.name not in ("fused", "reduce"):
            continue
        shape = op.attr("shape")
        axes = op.attr("axes") if op.name == "reduce" else ()
        operands = [Cut.of(cuts[o], cuts[o].operands[0]) if o in cuts else o for o in op.operands]
        groups = merged_axes(shape, operands, axes)
        if len(groups) == 2 and groups[1] == [len(shape) - 1]:
            found.add(shape)
    return found


def lower_fused(
    k: LoopBuilder,
    op: Operation,
    operands: Sequence[Operand | Cut],
    results: Sequence[Operand],
    rows: Set[tuple[Dim, ...]] = frozenset(),
) -> None:
    """A nest that loads each operand's element, computes the region, and stores the results."""
    shape = op.attr("shape")
    groups = merged_axes(shape, operands, [])
    if shape in rows and len(groups) == 1 and groups[0][-1] == len(shape) - 1:
        groups = [groups[0][:-1], groups[0][-1:]]
    space = tuple(dims.product(shape[a] for a in group) for group in groups)
    views = [grouped(k, o, shape, groups) for o in operands]
    outs = [k.view(r, space) for r in results]
    with k.nest(space) as at:
        values = inline(k, op, [_element(k, view, shape, groups, at) for view in views])
        for value, out in zip(values, outs, strict=True):
            k.store(value, out, *at)


def inline(k: LoopBuilder, op: Operation, elements: Sequence[Operand]) -> list[Operand]:
    """Emit an op's region with its parameters replaced by ``elements``; the yielded values."""
    region = op.regions[0]
    mapped: dict[Operand, Operand] = dict(zip(region.params, elements, strict=True))
    for inner in region.ops[:-1]:
        k.site = inner.site
        made = k.emit(inner.defn, *[mapped.get(o, o) for o in inner.operands], **inner.attrs)
        mapped[inner.result] = made
    k.site = op.site
    return [mapped.get(o, o) for o in region.terminator.operands]


def merged_axes(
    shape: Sequence[Dim], operands: Sequence[Operand | Cut], axes: Sequence[int]
) -> list[list[int]]:
    """Adjacent axes that can run as one loop, in order; axes of size 1 are left out.

    Two axes merge where every operand has both in full or broadcasts both, where nothing that an
    operand leaves out lies between them, and both or neither are among the reduced ``axes``.
    """
    sizes = [o.shape if isinstance(o, Cut) else o.type.dims for o in operands]
    marks = [o.marks() if isinstance(o, Cut) else [0] * len(o.type.dims) for o in operands]
    groups: list[list[int]] = []
    patterns: list[tuple[object, ...]] = []
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        pattern: list[object] = [axis in axes]
        for own, mark in zip(sizes, marks, strict=True):
            position = axis - (len(shape) - len(own))
            have: Dim = own[position] if position >= 0 else 1
            pattern.append(0 if have == 1 else 1 if have == size else (axis, have))
            pattern.append(mark[position] if position >= 0 else None)
        if patterns and patterns[-1] == tuple(pattern):
            groups[-1].append(axis)
        else:
            groups.append([axis])
            patterns.append(tuple(pattern))
    return groups


def grouped(
    k: LoopBuilder, operand: Operand | Cut, shape: Sequence[Dim], groups: Sequence[Sequence[int]]
) -> Operand | Cut:
    """A view of ``operand`` with one axis for each group (of size 1 where it broadcasts)."""
    if isinstance(operand, (Const, Cut)):
        return operand
    own = operand.type.dims
    missing = len(shape) - len(own)
    sizes = [
        dims.product(own[a - missing] if a >= missing else 1 for a in group) for group in groups
    ]
    return k.view(operand, tuple(sizes))


def _element(
    k: LoopBuilder,
    view: Operand | Cut,
    shape: Sequence[Dim],
    groups: Sequence[Sequence[int]],
    at: Sequence[Operand],
) -> Operand:
    """The element of a ``grouped`` operand at a place of the groups."""
    if isinstance(view, Cut):
        return view.element(k, shape, groups, at)
    return k.element(view, [dims.product(shape[a] for a in group) for group in groups], at)


def lower_reduce(
    k: LoopBuilder, op: Operation, operands: Sequence[Operand | Cut], out: Operand
) -> None:
    """A nest over the kept axes around loops that accumulate over the reduced ones.

    Where only the first axis is reduced, it is the outermost loop, each turn of which adds to an
    accumulator, so that it can be a part of other nests over these rows.
    """
    shape, axes = op.attr("shape"), op.attr("axes")
    groups = merged_axes(shape, operands, axes)
    space = tuple(dims.product(shape[a] for a in group) for group in groups)
    reduced = [group[0] in axes for group in groups]
    views = [grouped(k, o, shape, groups) for o in operands]
    kept, over = ([n for n, r in zip(space, reduced, strict=True) if r is which]
                  for which in (False, True))  # fmt: skip
    target = k.view(out, tuple(kept))
    # Lanes run over the last group; where that is kept, each lane sums a column of its own.
    lanes_kept = bool(groups) and not reduced[-1]
    by_rows = row_by_row(kept, reduced)

    def element(outer: Sequence[Operand], inner: Sequence[Operand]) -> Operand:
        kept_at, reduced_at = iter(outer), iter(inner)
        at = [next(reduced_at if r else kept_at) for r in reduced]
        return inline(k, op, [_element(k, v, shape, groups, at) for v in views])[0]

    if by_rows:
        total = _rows_added(k, op, kept, over[0], element)
    with k.nest(kept, simd=lanes_kept) as outer:
        if by_rows:
            value = k.load(total, *outer)
        else:
            value = _accumulate(k, op, over, partial(element, outer), simd=not lanes_kept)
        value = _finish(k, op, value, dims.product(over))
        k.store(value, target, *outer)


def _rows_added(
    k: LoopBuilder,
    op: Operation,
    kept: Sequence[Dim],
    rows: Dim,
    element: Callable[[Sequence[Operand], Sequence[Operand]], Operand],
) -> Operand:
    """An accumulator of the ``kept`` axes, to which each of the ``rows`` adds."""
    kind = op.attr("kind")
    narrow, _ = precision(kind, op.results[0].type.dtype)
    total = k.alloc(narrow, kept, combine=kind)
    with k.loop(rows) as row, k.nest(kept) as at:
        value = k.cast(element(at, (row,)), narrow)
        k.store(combine(k, kind, k.load(total, *at), value), total, *at)
    return total


def _accumulate(
    k: LoopBuilder, op: Operation, over: Sequence[Dim], element: Element, *, simd: bool
) -> Operand:
    """The reduction over all loops of ``over``, in the wider dtype where sums have one."""
    kind = op.attr("kind")
    narrow, wide = precision(kind, op.results[0].type.dtype)
    if not over:
        return k.cast(element(()), wide)

    def level(at: tuple[Operand, ...], carried: Operand) -> Operand:
        rest = over[len(at) :]
        if len(rest) > 1:
            return k.accumulate(rest[0], [carried], lambda i, c: [level((*at, i), c)])[0]

        def part(turns: Dim, position: Callable[[Operand], Operand]) -> Operand:
            def turn(i: Operand, c: Operand) -> list[Operand]:
                return [combine(k, kind, c, k.cast(element((*at, position(i))), narrow))]

            found = k.accumulate(turns, [identity(kind, narrow)], turn, combine=[kind], simd=simd)
            return k.cast(found[0], wide)

        if wide == narrow:
            return combine(k, kind, carried, part(rest[0], lambda i: i))
        return _chunked(k, kind, rest[0], carried, part)

    return level((), identity(kind, wide))


def _chunked(
    k: LoopBuilder,
    kind: str,
    size: Dim,
    carried: Operand,
    part: Callable[[Dim, Callable[[Operand], Operand]], Operand],
) -> Operand:
    """Chunks that are each added up by themselves; the last one may be shorter."""
    if isinstance(size, int) and size <= CHUNK:
        return combine(k, kind, carried, part(size, lambda i: i))
    chunk = k.size_name()
    turns = dims.minimum(size - CHUNK * dims.named(chunk), CHUNK)

    def turn(c: Operand, total: Operand) -> list[Operand]:
        return [combine(k, kind, total, part(turns, lambda i: k.index((c, CHUNK), (i, 1))))]

    count = dims.floor_div(size + (CHUNK - 1), CHUNK)
    return k.accumulate(count, [carried], turn, binds=chunk)[0]


def combine(k: LoopBuilder, kind: str, a: Operand, b: Operand) -> Operand:
    """Two partial results as one."""
    return k.emit(COMBINE[kind], a, b)  # type: ignore[no-any-return]


def _finish(k: LoopBuilder, op: Operation, value: Operand, count: Dim) -> Operand:
    dtype = op.results[0].type.dtype
    if op.attr("mean"):
        if isinstance(count, int):
            divisor: Operand = Const(Type(value.type.dtype), float(count))
        else:
            divisor = k.emit("from_index", k.index(offset=count), dtype=value.type.dtype)
        value = k.emit("div", value, divisor)
    return k.cast(value, dtype)
