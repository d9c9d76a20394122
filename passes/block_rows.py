"""Accumulators become memory, and what nests add to them is added up in blocks of rows.

A nest over rows may do other things besides, for which the rows are at hand. Each of its blocks
has a part of the accumulator; who reads that adds up the parts, in a wider dtype where there is
one. So long sums stay exact, and blocks can be shared out among threads: which rows are a block
depends on the sizes alone.

    for(high=n) |%i| { ... %acc[%j] += ... }
    ->
    for(high=ceil(n / 64), binds="block1") |%b| {
      %parts[%b, %j] = 0
      for(low=64*block1, high=min(64*block1 + 64, n)) |%i| { ... %parts[%b, %j] += ... }
    }

A nest that does nothing else is turned inside out, so that sums stay in registers: rows innermost.
Where it so becomes a nest over columns, it merges with those that read the sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stepforge.ir import dims
from stepforge.ir.builder import Builder
from stepforge.ir.combining import COMBINE, identity, precision
from stepforge.ir.core import Block, Function, Operand, Operation
from stepforge.ir.dims import Dim
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.records import record
from stepforge.ir.rewrite import rebuild, with_body
from stepforge.passes.column_sums import ColumnSums, column_sums
from stepforge.passes.contract import contract
from stepforge.passes.loop_accesses import Roots
from stepforge.passes.merge_loops import merge_loops

ROWS = 64  # of a block: parts are so many times less to write and to read than all rows
FEWEST = 4  # rows of a block, however long
BLOCK = 1 << 16  # elements of a block of long rows: work that is worth a thread
WIDEST = 1 << 14  # elements of a row of which blocks, and not columns, are what threads share


@record(frozen=True)
class _Bounds:
    """Blocks of rows: how many, what the number of one is called, and which rows it has."""

    count: Dim
    name: str
    low: Dim
    high: Dim


@record(frozen=True)
class _Parts:
    """What each block of rows makes of an accumulator, and how that combines."""

    buffer: Operand
    kind: str


def block_rows(function: Function) -> Function:
    """Give the accumulators memory, and the nests that add to them blocks of rows."""
    ops = function.body.ops
    makers: dict[Operand, Operation] = {
        op.result: op for op in ops if op.name == "alloc" and op.attr("combine")
    }
    if not makers:
        return function
    roots = Roots(ops)
    blocks = _Blocks()
    for op in ops:
        written = roots.touched(op).written
        totals = {root: maker for root, maker in makers.items() if root in written}
        if totals:
            blocks.nest(op, totals)
        elif not op.results or op.results[0] not in makers:
            blocks.k.ops.append(op)
    body = Block(function.params, tuple(blocks.k.ops))
    made = rebuild(with_body(function, body), blocks.total)
    return contract(merge_loops(made)) if blocks.columns else made


def _with(op: Operation, **attrs: Any) -> Operation:
    """``op`` with other attributes, of which it does not mention defaults."""
    defaults = op.defn.defaults
    given = {n: v for n, v in {**op.attrs, **attrs}.items() if v != defaults[n]}
    return Operation(op.defn, op.operands, given, op.results, op.regions, op.site)


class _Blocks:
    """Writes a function whose accumulators are memory like any other."""

    def __init__(self) -> None:
        self.k = LoopBuilder()
        self.parts: dict[Operand, _Parts] = {}
        self.columns = False  # whether some nest is one over columns now, as its readers are
        self.names = 0

    def nest(self, op: Operation, totals: Mapping[Operand, Operation]) -> None:
        """A nest that adds to ``totals``, which their operations make."""
        self.k.site = op.site
        rows, sums = op.attr("high"), column_sums(op, totals)
        if sums is not None and (_one_block(rows) or not all(map(_short, totals))):
            self._memory(totals)
            self._columns(sums, rows)
        elif _one_block(rows, _block_of(totals)):
            self._memory(totals)
            self._fill(totals, ())
            self.k.ops.append(op)
        else:
            self._in_blocks(op, totals, sums)

    def _memory(self, totals: Mapping[Operand, Operation]) -> None:
        """Accumulators that have no parts."""
        self.k.ops += [_with(maker, combine="") for maker in totals.values()]

    def _fill(self, buffers: Mapping[Operand, Operation], first: tuple[Operand, ...]) -> None:
        """Store what changes nothing into ``buffers``, behind the indices ``first``."""
        for shape in dict.fromkeys(maker.attr("shape") for maker in buffers.values()):
            with self.k.nest(shape) as at:
                for buffer, maker in buffers.items():
                    if maker.attr("shape") == shape:
                        nothing = identity(maker.attr("combine"), maker.attr("dtype"))
                        self.k.store(nothing, buffer, *first, *at)

    def _block(self, rows: Dim, most: int = ROWS) -> _Bounds:
        """Blocks of at most so many of the ``rows``, by a new name for the number of one."""
        self.names += 1
        name = f"block{self.names}"  # which no size is called, see ``size_name``
        first = most * dims.named(name)
        whole = isinstance(rows, int) and rows % most == 0
        end = first + most if whole else dims.minimum(first + most, rows)
        return _Bounds(dims.floor_div(rows + (most - 1), most), name, first, end)

    # ---- columns outermost ----------------------------------------------------------------------
    def _columns(self, sums: Sequence[ColumnSums], rows: Dim) -> None:
        k, self.columns = self.k, True
        for each in sums:
            with each.columns(k):
                for store, value in zip(each.stores, self._added(each, rows), strict=True):
                    k.store(value, *store.operands[1:])

    def _added(self, sums: ColumnSums, rows: Dim) -> Sequence[Operand]:
        """All rows of a column: blocks that are each added up by themselves."""
        if _one_block(rows):
            return sums.added(self.k, 0, rows)
        k, block = self.k, self._block(rows)
        dtypes = [
            precision(kind, value.type.dtype)
            for kind, value in zip(sums.kinds, sums.turn.params[1:], strict=True)
        ]

        def turn(_: Operand, *before: Operand) -> list[Operand]:
            found = sums.added(k, block.low, block.high)
            return [
                k.emit(COMBINE[kind], total, k.cast(part, total.type.dtype))
                for kind, total, part in zip(sums.kinds, before, found, strict=True)
            ]

        pairs = zip(sums.kinds, dtypes, strict=True)
        starts = [identity(kind, wide) for kind, (_, wide) in pairs]
        totals = k.accumulate(block.count, starts, turn, binds=block.name)
        return [k.cast(total, narrow) for total, (narrow, _) in zip(totals, dtypes, strict=True)]

    # ---- rows outermost -------------------------------------------------------------------------
    def _in_blocks(
        self,
        op: Operation,
        totals: Mapping[Operand, Operation],
        sums: Sequence[ColumnSums] | None,
    ) -> None:
        most = ROWS if sums is not None else _block_of(totals)
        k, block = self.k, self._block(op.attr("high"), most)
        made: dict[Operand, Operation] = {}
        for total, maker in totals.items():
            buffer = k.alloc(maker.attr("dtype"), (block.count, *maker.attr("shape")))
            self.parts[total] = _Parts(buffer, maker.attr("combine"))
            made[buffer] = maker
        with k.loop(block.count, binds=block.name, name="b") as number:
            if sums is None:
                self._fill(made, (number,))
                k.ops.append(_with(self._into_parts(op, number), low=block.low, high=block.high))
            for each in sums or ():
                with each.columns(k):
                    added = each.added(k, block.low, block.high)
                    for store, value in zip(each.stores, added, strict=True):
                        _, total, *at = store.operands
                        k.store(value, self.parts[total].buffer, number, *at)

    def _into_parts(self, op: Operation, block: Operand) -> Operation:
        """A nest that adds to the parts of ``block`` what it added to accumulators."""
        regions = [
            Block(r.params, tuple([self._into_parts(inner, block) for inner in r.ops]))
            for r in op.regions
        ]
        operands: list[Operand] = []
        for operand in op.operands:
            found = self.parts.get(operand)
            operands += [operand] if found is None else [found.buffer, block]
        return Operation(op.defn, tuple(operands), op.attrs, op.results, tuple(regions), op.site)

    def total(self, op: Operation, build: Builder) -> Sequence[Operand] | None:
        """Instead of a load from an accumulator, all of its parts."""
        if op.name != "load" or op.operands[0] not in self.parts:
            return None
        found = self.parts[op.operands[0]]
        narrow, wide = precision(found.kind, op.result.type.dtype)
        k = LoopBuilder(op.site)
        k.ops = build.ops

        def term(block: Operand) -> Operand:
            return k.cast(k.load(found.buffer, block, *op.operands[1:]), wide)

        count = found.buffer.type.dims[0]
        return [k.cast(k.fold(count, found.kind, wide, term, simd=False), narrow)]


def _one_block(rows: Dim, most: int = ROWS) -> bool:
    return isinstance(rows, int) and rows <= most


def _block_of(totals: Iterable[Operand]) -> int:
    """How many rows a block has whose rows are as long as ``totals``."""
    sizes = [total.type.size for total in totals]
    longest = max([size for size in sizes if isinstance(size, int)], default=1)
    return min(max(BLOCK // longest, FEWEST), ROWS)


def _short(total: Operand) -> bool:
    """True for an accumulator of which a part stays in the first-level cache, or the second."""
    size = total.type.size
    return isinstance(size, int) and size <= WIDEST
