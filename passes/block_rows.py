"""Accumulators in blocks of rows: what a nest adds up over its turns, each block adds up by itself.

    for(high=n) |%i| { ... %acc[%j] += ... }
    ->
    for(high=ceil(n / 32), binds="block_1") |%b| {
      %parts[%b, %j] = 0
      for(low=32*block_1, high=min(32*block_1 + 32, n)) |%i| { ... %parts[%b, %j] += ... }
    }

Who reads the accumulator adds up the parts, in a wider dtype where there is one. So long sums stay
exact, and blocks can be shared out among threads: which rows are a block depends on the sizes
alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from stepforge.ir import dims
from stepforge.ir.builder import Builder
from stepforge.ir.combining import COMBINE, identity, precision
from stepforge.ir.core import Block, Function, Operand, Operation, Value
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.rewrite import rebuild, with_body
from stepforge.ir.types import index
from stepforge.passes.loop_accesses import Roots
from stepforge.passes.parallelize import work_of

ROWS = 32  # of a block: what is written and read again are so many times fewer than all rows


@dataclass(frozen=True)
class _Parts:
    """What each block of rows makes of an accumulator, and how that combines."""

    buffer: Value
    kind: str


def block_rows(function: Function) -> Function:
    """Give the accumulators memory, and the nests that add to them blocks of rows."""
    ops = function.body.ops
    makers = {op.result: op for op in ops if op.name == "alloc" and op.attr("combine")}
    if not makers:
        return function
    roots = Roots(ops)
    blocks = _Blocks()
    for op in ops:
        totals = [makers[root] for root in makers if root in roots.touched(op).written]
        if totals:
            blocks.nest(op, totals)
        elif not op.results or op.results[0] not in makers:
            blocks.k.ops.append(op)
    made = with_body(function, Block(function.params, tuple(blocks.k.ops)))
    return _with_work(rebuild(made, blocks.total), set(made.body.ops))


def _with_work(function: Function, known: Set[Operation]) -> Function:
    """The same where the work of parallel nests is said anew but for those that are ``known``."""
    ops = tuple(
        _with(op, op.regions, work=work_of(op)) if op.attrs.get("parallel") and op not in known
        else op
        for op in function.body.ops
    )  # fmt: skip
    return with_body(function, Block(function.params, ops))


def _with(op: Operation, regions: Sequence[Block], **attrs: Any) -> Operation:
    """``op`` with other attributes, of which it does not mention defaults."""
    defaults = op.defn.defaults
    given = {n: v for n, v in {**op.attrs, **attrs}.items() if v != defaults[n]}
    return Operation(op.defn, op.operands, given, op.results, tuple(regions), op.site)


class _Blocks:
    """Writes a function whose accumulators are memory like any other."""

    def __init__(self) -> None:
        self.k = LoopBuilder()
        self.parts: dict[Operand, _Parts] = {}

    def nest(self, op: Operation, totals: Sequence[Operation]) -> None:
        """A nest that adds to what ``totals`` make: in blocks, unless one is enough."""
        k, rows = self.k, op.attr("high")
        k.site = op.site
        if isinstance(rows, int) and rows <= ROWS:
            k.ops += [_with(total, (), combine="") for total in totals]
            self._fill({total.result: total for total in totals}, ())
            k.ops.append(_with(op, op.regions, parallel=False))
            return
        blocks = dims.floor_div(rows + (ROWS - 1), ROWS)
        made: dict[Operand, Operation] = {}
        for total in totals:
            shape = (blocks, *total.attr("shape"))
            buffer = k.alloc(total.attr("dtype"), shape)
            self.parts[total.result] = _Parts(buffer, total.attr("combine"))
            made[buffer] = total
        name = f"block_{len(self.parts)}"
        first = ROWS * dims.named(name)
        low_high = {"low": first, "high": dims.minimum(first + ROWS, rows)}
        counter = Value(index, "b")
        with k.nested() as body:
            self._fill(made, (counter,))
            inner = self._into_parts(op, counter)
            body.append(_with(inner, inner.regions, **low_high, parallel=False, work=0))
            k.emit("yield")
        k.emit(
            "for",
            high=blocks,
            binds=name,
            parallel=op.attr("parallel"),
            work=op.attr("work"),
            regions=[Block((counter,), tuple(body))],
        )

    def _fill(self, buffers: Mapping[Operand, Operation], first: tuple[Operand, ...]) -> None:
        """Store what changes nothing into ``buffers``, behind the indices ``first``."""
        k = self.k
        for shape in dict.fromkeys(total.attr("shape") for total in buffers.values()):
            with k.nest(shape) as at:
                for buffer, total in buffers.items():
                    if total.attr("shape") == shape:
                        nothing = identity(total.attr("combine"), total.attr("dtype"))
                        k.store(nothing, buffer, *first, *at)

    def _into_parts(self, op: Operation, block: Value) -> Operation:
        """A nest whose accumulators are the parts of ``block``."""
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
        kind, dtype = found.kind, op.result.type.dtype
        narrow, wide = precision(kind, dtype)
        k = LoopBuilder(op.site)
        k.ops = build.ops

        def turn(block: Operand, sum_: Operand) -> list[Operand]:
            part = k.load(found.buffer, block, *op.operands[1:])
            return [k.emit(COMBINE[kind], sum_, k.cast(part, wide))]

        blocks = found.buffer.type.dims[0]
        start = identity(kind, wide)
        return [k.cast(k.accumulate(blocks, [start], turn, combine=[kind])[0], dtype)]
