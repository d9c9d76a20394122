"""A loop that runs by lanes: turns on whole vectors, then a masked turn for what is left.

A short body is written for both; what it carries may have several partial results. A long one that
carries nothing is written once: what it loads and what it stores is whole or masked, as is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stepforge.codegen import loop_streams
from stepforge.codegen.lane_core import Lane
from stepforge.codegen.llvm import LIKELY, NO_UNROLL
from stepforge.codegen.loop_carried import Carried, adds_up, combined
from stepforge.codegen.loop_values import Element, Position
from stepforge.codegen.vector_math import FLOAT_RULES
from stepforge.ir.core import Operand, Operation
from stepforge.ir.records import record

if TYPE_CHECKING:
    from stepforge.codegen.loops import LoopWriter

UNROLL = 4  # partial results of loops that only add up
PER_FUNCTION = 12  # operations that a function counts as
LONG_BODY = 24  # operations from which on a body is written once
_ADDRESSES = ("index", "index_div", "index_mod")
_PURE = (*_ADDRESSES, "load", "from_index", "to_index")


def operations(ops: Sequence[Operation]) -> int:
    """How many operations these are for the processor, about."""
    return sum(PER_FUNCTION if op.name in FLOAT_RULES else 1 for op in ops)


@record(frozen=True, slots=True)
class LongBody:
    """The operations of a body in an order in which it can be written once."""

    addresses: list[Operation]
    loads: list[Operation]  # of other elements in each turn
    others: list[Operation]
    stores: list[Operation]


def long_body(loop: Operation) -> LongBody | None:
    """The body of a loop where it is long, loads before it computes, and carries nothing."""
    region = loop.regions[0]
    if loop.operands or operations(region.ops) < LONG_BODY:
        return None
    body = LongBody([], [], [], [])
    moving: set[Operand] = {region.params[0]}
    computed: set[Operand] = set()
    for op in region.ops[:-1]:
        moves = not moving.isdisjoint(op.operands[2:] if op.name == "store" else op.operands)
        part = _part(op, body, moves, computed.isdisjoint(op.operands))
        if part is None:
            return None
        part.append(op)
        if moves:
            moving.update(op.results)
        if part is not body.addresses:
            computed.update(op.results)
    return body


def _part(op: Operation, body: LongBody, moves: bool, early: bool) -> list[Operation] | None:
    """Where the next operation of a body belongs; None where it could not stay in order.

    ``moves``: it is about another element in each turn; ``early``: it needs nothing computed.
    """
    if op.name == "store":
        return body.stores if moves else None
    if op.name in _ADDRESSES and early:
        return body.addresses
    if op.name == "load" and (moves or body.stores):
        return body.loads if early and not body.stores else None
    return body.others if op.name in _PURE or op.defn.elementwise else None


class LaneLoop:
    """One loop that runs by lanes: its turns, its masked tail, and how carried lanes combine."""

    def __init__(self, writer: LoopWriter, op: Operation) -> None:
        self.writer, self.op = writer, op
        self.fn, self.many, self.one = writer.fn, writer.many, writer.one
        self.width = writer.many.width
        self.region = op.regions[0]
        dtypes = [o.type.dtype for o in op.operands]
        self.carried = Carried(self.many, op.attr("combine"), dtypes)
        self.stores = [o for o in self.region.ops if o.name == "store" and o.attr("stream")]

    def write(self, low: str, turns: int | str) -> None:
        """Write the loop; its results are the carried values of all lanes combined."""
        lanes = self.carried.identities()
        many = isinstance(turns, str) or turns >= loop_streams.LEAST_TURNS * self.width
        places: Sequence[loop_streams.Place] = ()
        if self.stores and many:
            self.writer.values[self.region.params[0]] = Position(low, "1")
            places = self.writer.stream_places(self.stores)
        if places:
            self._aligned(low, str(turns), places)
            return
        body = None if isinstance(turns, int) and not self._unevenly(turns) else long_body(self.op)
        if body is not None:
            self._once(low, turns, body)
            return
        if isinstance(turns, str):
            end, rest, lanes = self._full(low, turns, lanes)
            self._dynamic_tail(end, str(rest), lanes)
            return
        if turns // self.width == 1:
            lanes = self._turn(low, lanes)
        elif turns >= self.width:
            _, _, lanes = self._full(low, turns, lanes)
        if turns % self.width:
            end = self.writer.add_sizes(low, str(turns - turns % self.width))
            lanes = self._masked_turn(end, str(turns % self.width), lanes)
        self._finish(lanes)

    def whole(self, low: str, turns: int | str) -> tuple[str, int | str]:
        """Write the full vectors only; where the rest begins, and how many turns it has."""
        if isinstance(turns, int) and turns < self.width:
            return low, turns
        end, rest, _ = self._full(low, turns, [])
        return end, rest

    def masked(self, low: str, turns: int | str) -> None:
        """Write masked vectors only, for loops that carry nothing."""
        if isinstance(turns, int) and turns <= self.width:
            self.write(low, turns)
            return

        def turn(done: str) -> None:
            rest = self.fn.emit(f"sub i64 {turns}, {done}")
            self._masked_turn(self.writer.add_sizes(low, done), rest, [])

        self.fn.loop(0, str(turns), turn, step=self.width)

    def _unevenly(self, turns: int) -> bool:
        """Whether several whole vectors and a part of one have that many turns."""
        return turns > 2 * self.width and turns % self.width > 0

    # ---- one body for whole vectors and the rest ------------------------------------------------
    def _once(self, low: str, turns: int | str, body: LongBody) -> None:
        """One loop, the last turn of which may be masked."""
        fn, writer = self.fn, self.writer
        end = writer.add_sizes(low, str(turns))

        def turn(counter: str) -> None:
            left = fn.emit(f"sub i64 {end}, {counter}")
            whole = fn.emit(f"icmp sge i64 {left}, {self.width}")
            writer.values[self.region.params[0]] = Position(counter, "1")
            for op in body.addresses:
                writer.operation(op)
            self._whole_or_masked(body.loads, whole, left)
            for op in body.others:
                writer.operation(op)
            self._whole_or_masked(body.stores, whole, left)

        fn.loop(low, end, turn, step=self.width)

    def _whole_or_masked(self, ops: Sequence[Operation], whole: str, left: str) -> None:
        """Loads or stores, masked unless the vector is a whole one."""
        writer = self.writer
        results = [result for op in ops for result in op.results]

        def written() -> list[str]:
            for op in ops:
                writer.operation(op)
            return [writer.lane(result, True).text for result in results]

        def masked() -> list[str]:
            writer.mask = self.many.tail_mask(left)
            texts = written()
            writer.mask = None
            return texts

        types = [self.many.register_type(result.type.dtype) for result in results]
        texts = self.fn.either(whole, written, masked, types, LIKELY)
        for result, text in zip(results, texts, strict=True):
            writer.values[result] = Element(Lane(result.type.dtype, text), True)

    # ---- bodies for either ----------------------------------------------------------------------
    def _turn(self, counter: str, lanes: Sequence[str]) -> list[str]:
        writer = self.writer
        writer.values[self.region.params[0]] = Position(counter, "1")
        for param, text in zip(self.region.params[1:], lanes, strict=True):
            writer.values[param] = Element(Lane(param.type.dtype, text), True)
        return [writer.lane(v, True).text for v in writer.block(self.region)]

    def _masked_turn(self, counter: str, rest: str, lanes: Sequence[str]) -> list[str]:
        writer = self.writer
        writer.mask = self.many.tail_mask(rest)
        following = self._turn(counter, lanes)
        mask, writer.mask = writer.mask, None
        return [
            self.fn.emit(f"select {self.many.vector('i1')} {mask.text}, {t} {new}, {t} {old}")
            for (t, new), old in zip(self.carried.typed(following), lanes, strict=True)
        ]

    def _full(
        self, low: str, turns: int | str, lanes: list[str]
    ) -> tuple[str, int | str, list[str]]:
        """All full vectors; sums keep several partial results, to hide the latency of adding.

        Where they end, how many turns are left, and the carried values.
        """
        start, (end, rest) = low, self._span(low, turns, self.width)
        if adds_up(self.op):
            start, _ = self._span(low, turns, self.width * UNROLL)
            lanes = self.carried.several(UNROLL, low, start, self.width, lanes, self._turn)
        last = self.fn.loop(
            start,
            end,
            lambda i, *c: self._turn(i, c),
            step=self.width,
            carried=self.carried.typed(lanes),
        )
        return end, rest, list(last)

    def _aligned(self, low: str, turns: str, places: Sequence[loop_streams.Place]) -> None:
        """A loop whose vectors are aligned, and may stream; then masked turns for its ends."""
        fn = self.fn
        parts = loop_streams.span(fn, places, self._apart(), low, turns, self.width)

        def turn(counter: str) -> None:
            self._turn(counter, [])

        fn.loop(parts.first, parts.usual, turn, step=self.width)
        self.writer.streaming = True
        fn.loop(parts.usual, parts.behind, turn, step=self.width)
        self.writer.streaming = False
        loop_streams.fence(fn, parts.streams)

        def end(number: str) -> None:
            last = fn.emit(f"icmp ne i64 {number}, 0")
            begin = fn.emit(f"select i1 {last}, i64 {parts.behind}, i64 {low}")
            count = fn.emit(f"select i1 {last}, i64 {parts.rest}, i64 {parts.head}")
            self._masked_turn(begin, count, [])

        first = fn.emit(f"zext i1 {fn.emit(f'icmp eq i64 {parts.head}, 0')} to i64")
        some = fn.emit(f"zext i1 {fn.emit(f'icmp sgt i64 {parts.rest}, 0')} to i64")
        fn.loop(first, fn.emit(f"add i64 {some}, 1"), end, metadata=NO_UNROLL)

    def _apart(self) -> list[loop_streams.Place]:
        """The loads of the turn at hand that take several vectors each, those of most first."""
        unknown = {result for op in self.region.ops for result in op.results}
        for op in self.region.ops:
            if op.name == "index" and unknown.isdisjoint(op.operands):
                self.writer.operation(op)
                unknown.discard(op.result)
        loads = [op for op in self.region.ops if op.name == "load"]
        known = [op for op in loads if unknown.isdisjoint(op.operands)]
        return sorted(self.writer.places_apart(known), key=lambda place: -place.step)

    def _span(self, low: str, turns: int | str, step: int) -> tuple[str, int | str]:
        """Where whole steps end, and how many turns are left."""
        if isinstance(turns, int):
            return self.writer.add_sizes(low, str(turns - turns % step)), turns % step
        covered = self.fn.emit(f"and i64 {turns}, {-step}")
        return self.writer.add_sizes(low, covered), self.fn.emit(f"sub i64 {turns}, {covered}")

    def _dynamic_tail(self, counter: str, rest: str, lanes: list[str]) -> None:
        """The masked turn, where there is something left for it."""
        fn = self.fn
        tail, after, before = fn.label("tail"), fn.label("after"), fn.block
        fn.branch_if(fn.emit(f"icmp sgt i64 {rest}, 0"), tail, after)
        fn.start(tail)
        masked = self._masked_turn(counter, rest, lanes)
        last = fn.block
        fn.branch(after)
        fn.start(after)
        self._finish(
            [
                fn.phi(t, (old, before), (new, last))
                for (t, old), new in zip(self.carried.typed(lanes), masked, strict=True)
            ]
        )

    def _finish(self, lanes: Sequence[str]) -> None:
        for kind, text, operand, result in zip(
            self.carried.kinds, lanes, self.op.operands, self.op.results, strict=True
        ):
            total = self.many.reduce(kind, Lane(operand.type.dtype, text))
            initial = self.writer.lane(operand, False)
            self.writer.values[result] = Element(combined(self.one, kind, initial, total))
