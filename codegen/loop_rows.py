"""Nests over rows that are shorter than a vector, or hardly longer: written as one flat loop.

A vector for each row of three would do the work of three lanes. The rows of a matrix follow each
other in memory, so that whole vectors can go over them as if they were one. Which row and which
column a lane has is known where the code is written, as both repeat after a few vectors: these few
are the body of the loop. What a column decides alone, such as the elements of a broadcast row, is
loaded once before it. Rows that are left over are done one by one, and so are a few before, where
the loop is long enough that its stores shall be aligned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stepforge.codegen import loop_streams
from stepforge.codegen.llvm import NO_UNROLL
from stepforge.codegen.loop_carried import widest
from stepforge.codegen.loop_lanes import operations
from stepforge.codegen.loop_values import Position
from stepforge.ir import dims
from stepforge.ir.core import Operand, Operation, Value
from stepforge.ir.dims import Dim
from stepforge.ir.records import record

if TYPE_CHECKING:
    from stepforge.codegen.loops import LoopWriter

MOST_OPS = 64  # in all vectors of the body
MOST_VECTORS = 2  # of a row
LOW, HIGH = "rows.low", "rows.high"  # the sizes by which the loop over rows that are left goes
_MEMORY = ("load", "store", "index", "from_index")


@record(frozen=True, slots=True)
class Rows:
    """A loop over rows around a loop over ``length`` columns by vectors of ``width``."""

    outer: Operation
    inner: Operation
    length: int
    width: int

    @property
    def body(self) -> list[Operation]:
        """What is done for each element."""
        region = self.outer.regions[0]
        return [*region.ops[:-2], *self.inner.regions[0].ops[:-1]]

    @property
    def counters(self) -> tuple[Value, Value]:
        """The row and the column."""
        return self.outer.regions[0].params[0], self.inner.regions[0].params[0]

    @property
    def vectors(self) -> int:
        """How many vectors there are until rows and columns repeat."""
        return self.length // math.gcd(self.length, self.width)

    @property
    def rows(self) -> int:
        """How many rows these vectors take: a power of two."""
        return self.width // math.gcd(self.length, self.width)

    @property
    def stores(self) -> list[Operation]:
        """The stores of the body."""
        return [op for op in self.body if op.name == "store"]

    @property
    def streams(self) -> list[Operation]:
        """The same where all may stream and another copy of the body is not too much."""
        some = all(op.attr("stream") for op in self.stores) and 2 * _work(self) <= MOST_OPS
        return self.stores if some else []

    def lanes(self, number: int) -> range:
        """The elements that a vector of the body has, counted from the first of the body."""
        return range(number * self.width, (number + 1) * self.width)


def short_rows(op: Operation, bits: int) -> Rows | None:
    """The rows of a loop that is better written flat; None of another.

    Its turns must be independent, as those of a ``parallel`` loop are, and its stores side by side.
    """
    ops = op.regions[0].ops
    inner = ops[-2] if len(ops) > 1 else op
    if not op.attr("parallel") or inner.name != "for" or not inner.attr("simd") or inner.operands:
        return None
    if op.attr("step") != 1 or inner.attr("step") != 1:
        return None
    length, width = inner.attr("high"), bits // widest(op.regions[0])
    if inner.attr("low") != 0 or not isinstance(length, int) or length % width == 0:
        return None
    rows = Rows(op, inner, length, width)
    turns = op.attr("high") - op.attr("low")
    some = not isinstance(turns, int) or turns >= rows.rows
    short = length < MOST_VECTORS * width and _work(rows) <= MOST_OPS
    return rows if some and short and all(_known(each, rows) for each in rows.body) else None


def _work(rows: Rows) -> int:
    """How many operations the body has, all vectors together."""
    return rows.vectors * operations(rows.body)


def _known(op: Operation, rows: Rows) -> bool:
    """Whether an operation can be done for any lanes, and its store if it is one is flat."""
    if op.name == "store":
        sizes = op.operands[1].type.dims
        return op.operands[-2:] == rows.counters and sizes[-1:] == (rows.length,)
    return op.name in _MEMORY or op.defn.elementwise


def write(writer: LoopWriter, rows: Rows, loop: Callable[[Operation], None]) -> None:
    """Write a nest flat, then with ``loop`` the rows before and behind that."""
    fn, turns = writer.fn, rows.outer.attr("high") - rows.outer.attr("low")
    low, count = writer.dim(rows.outer.attr("low")), writer.dim(turns)
    writer.many = writer.one.rewritten(width=rows.width)
    try:
        head = _head(writer, rows, low, turns)
        first = writer.add_sizes(low, head)
        left = count if head == "0" else fn.emit(f"sub i64 {count}, {head}")
        whole = fn.emit(f"and i64 {left}, {-rows.rows}")
        behind = writer.add_sizes(first, whole)
        fn.if_(fn.emit(f"icmp sgt i64 {whole}, 0"), lambda: _flat(writer, rows, first, behind))
    finally:
        writer.many = writer.one
    if head != "0":
        _ends(writer, rows, loop, [(low, first), (behind, writer.add_sizes(low, count))])
    elif not isinstance(turns, int) or turns % rows.rows:
        _rest(writer, rows, loop, behind, writer.add_sizes(low, count))


def _head(writer: LoopWriter, rows: Rows, low: str, turns: Dim) -> str:
    """How many rows come before one whose store is aligned; 0 where there are few, or none is."""
    fn, least = writer.fn, loop_streams.LEAST_TURNS * rows.rows
    if isinstance(turns, int) and turns < least:
        return "0"
    _vector(writer, rows, low, 0)
    places = writer.stream_places(rows.stores)
    if not places:
        return "0"
    store = replace(places[0], step=rows.length)
    head = loop_streams.turns_before(fn, [store], rows.width)
    enough = fn.emit(f"icmp sge i64 {writer.dim(turns)}, {least}")
    return fn.emit(f"select i1 {enough}, i64 {head}, i64 0")


def _ends(
    writer: LoopWriter, rows: Rows, loop: Callable[[Operation], None],
    ranges: Sequence[tuple[str, str]],
) -> None:
    """Row by row before the flat loop, and behind it."""
    fn, ((low, first), (behind, high)) = writer.fn, ranges

    def end(number: str) -> None:
        last = fn.emit(f"icmp ne i64 {number}, 0")
        begin = fn.emit(f"select i1 {last}, i64 {behind}, i64 {low}")
        _rest(writer, rows, loop, begin, fn.emit(f"select i1 {last}, i64 {high}, i64 {first}"))

    fn.loop(0, 2, end, metadata=NO_UNROLL)


def _rest(
    writer: LoopWriter, rows: Rows, loop: Callable[[Operation], None], low: str, high: str
) -> None:
    op = rows.outer
    writer.sizes.update({LOW: low, HIGH: high})
    bounds = {"low": dims.named(LOW), "high": dims.named(HIGH), "parallel": False}
    loop(Operation(op.defn, op.operands, {**op.attrs, **bounds}, op.results, op.regions, op.site))


def _flat(writer: LoopWriter, rows: Rows, low: str, behind: str) -> None:
    """Whole turns of the flat loop; streaming ones where they may be."""
    fn, fixed = writer.fn, _before(writer, rows)

    def turn(row: str) -> None:
        for number, known in enumerate(fixed):
            _vector(writer, rows, row, number)
            writer.values.update(known)
            for op in rows.body:
                if op.name != "load" or op.result not in known:
                    writer.operation(op)

    _vector(writer, rows, low, 0)
    places = writer.stream_places(rows.streams)
    if not places:
        fn.loop(low, behind, turn, step=rows.rows)
        return
    much = loop_streams.large(fn, places)
    streams = loop_streams.streaming(fn, places, much, "0", rows.width)
    usual = fn.emit(f"select i1 {streams}, i64 {low}, i64 {behind}")
    fn.loop(low, usual, turn, step=rows.rows)
    writer.streaming = True
    fn.loop(usual, behind, turn, step=rows.rows)
    writer.streaming = False
    loop_streams.fence(fn, streams)


def _vector(writer: LoopWriter, rows: Rows, row: str, number: int) -> None:
    """Let the counters be what they are in a vector of the body that begins at ``row``."""
    of_row, of_column = rows.counters
    lanes = rows.lanes(number)
    across = tuple(lane % rows.length for lane in lanes)
    writer.values[of_row] = Position(row, places=tuple(lane // rows.length for lane in lanes))
    writer.values[of_column] = Position("0", places=across)


def _before(writer: LoopWriter, rows: Rows) -> list[dict[Operand, Any]]:
    """For each vector of the body what the columns decide alone, loaded before the loop.

    An independent loop reads nothing that it writes without its counter, so that it stays the same.
    """
    of_row = rows.counters[0]
    moving: set[Operand] = {of_row}
    for op in rows.body:
        if op.name != "store" and not moving.isdisjoint(op.operands):
            moving.add(op.result)
    fixed = [op for op in rows.body if op.name in ("load", "index") and op.result not in moving]
    found: list[dict[Operand, Any]] = []
    for number in range(rows.vectors):
        _vector(writer, rows, "0", number)
        for op in fixed:
            writer.operation(op)
        found.append({op.result: writer.values[op.result] for op in fixed})
    return found
