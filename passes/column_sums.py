"""Sums over rows that wait for nothing else: which reductions run row by row, and which nests do
nothing but add up.

A reduction over the outer axes is lowered to a nest over the rows that adds each of them to an
accumulator: so ``merge_loops`` can make it a part of what else is computed row by row. Where
nothing came of that, a nest is left that can be turned inside out, rows innermost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from stepforge.ir.combining import identity
from stepforge.ir.core import Block, Operand, Operation, Value
from stepforge.ir.dims import Dim
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.records import record
from stepforge.ir.rewrite import inline, substitute

SHORTEST = 16  # columns: of fewer, a row ends where the next one must wait for what was stored


def row_by_row(kept: Sequence[Dim], reduced: Sequence[bool]) -> bool:
    """Whether a reduction, of whose axes some are ``reduced``, adds row after row to an
    accumulator of the ``kept`` sizes: where it is of the first axis alone.
    """
    if not kept or not reduced[0] or any(reduced[1:]):
        return False
    columns = kept[-1]
    return not isinstance(columns, int) or columns >= SHORTEST


@record(frozen=True)
class ColumnSums:
    """Loops over columns in a nest over rows that only add to accumulators.

    ``around`` are the loops, ``stores`` go to the accumulators, ``turn`` says what a row makes of
    the sums of the rows before it.
    """

    around: tuple[Operation, ...]
    stores: tuple[Operation, ...]
    kinds: tuple[str, ...]
    turn: Block

    @contextmanager
    def columns(self, k: LoopBuilder) -> Iterator[None]:
        """What is emitted inside is done for each column."""
        with ExitStack() as stack:
            for loop in self.around:
                stack.enter_context(_once_more(k, loop))
            yield

    def added(self, k: LoopBuilder, low: Dim, high: Dim) -> tuple[Operand, ...]:
        """The sums of the rows from ``low`` below ``high`` of a column."""
        starts = [
            identity(kind, sum_.type.dtype)
            for kind, sum_ in zip(self.kinds, self.turn.params[1:], strict=True)
        ]

        def turn(row: Operand, *before: Operand) -> Sequence[Operand]:
            return inline(self.turn, (row, *before), k)

        return k.accumulate(high, starts, turn, combine=self.kinds, low=low)


@contextmanager
def _once_more(k: LoopBuilder, loop: Operation) -> Iterator[None]:
    """A loop like ``loop`` with another body."""
    with k.nested() as ops:
        yield
        k.emit("yield")
    block = Block(loop.regions[0].params, tuple(ops))
    k.ops.append(Operation(loop.defn, (), loop.attrs, (), (block,), loop.site))


def column_sums(
    nest: Operation, totals: Mapping[Operand, Operation]
) -> tuple[ColumnSums, ...] | None:
    """What a nest over rows adds to ``totals``; None where it does something else, too."""
    row, *_ = nest.regions[0].params
    found = [_sums(row, loop, totals) for loop in nest.regions[0].ops[:-1]]
    known = tuple([sums for sums in found if sums is not None])
    return known if len(known) == len(found) else None


def _sums(row: Value, loop: Operation, totals: Mapping[Operand, Operation]) -> ColumnSums | None:
    around = []
    while loop.name == "for":
        around.append(loop)
        if len(loop.regions[0].ops) != 2:
            break
        loop = loop.regions[0].ops[0]
    if not around or any(each.operands for each in around) or not around[-1].attr("simd"):
        return None
    ops = around[-1].regions[0].ops[:-1]
    stores = tuple([op for op in ops if op.name == "store"])
    places = [op.operands[1] for op in stores]
    if any(op.regions for op in ops) or not set(places) <= totals.keys():
        return None
    sums: dict[Operand, Value] = {op.operands[1]: Value(op.operands[0].type) for op in stores}
    before: dict[Value, Operand] = {
        op.result: sums[op.operands[0]]
        for op in ops
        if op.name == "load" and op.operands[0] in sums
    }
    body = [op for op in ops if op.name != "store" and op.results[0] not in before]
    closing = LoopBuilder().operation("yield", [op.operands[0] for op in stores], {})
    turn = substitute(Block((row, *sums.values()), (*body, closing)), before)
    kinds = tuple([totals[place].attr("combine") for place in places])
    return ColumnSums(tuple(around), stores, kinds, turn)
