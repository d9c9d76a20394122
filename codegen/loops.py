"""The loop level as LLVM: loops, memory and elements.

A loop that runs by lanes becomes a body on vectors, then one masked turn for what is left. In such
a body a value is either the same for all lanes (a scalar) or wide (a vector); an index is affine in
the lane where it can be, so that loads are contiguous or strided, and a gather only where indices
are data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from stepforge.codegen.dims import emit_dim
from stepforge.codegen.lane_core import Lane, bits_of, storage_bytes, storage_element
from stepforge.codegen.lanes import LaneBuilder
from stepforge.codegen.llvm import FunctionWriter
from stepforge.codegen.loop_carried import Carried, adds_up, combined, inner_sum, real
from stepforge.codegen.loop_values import Buffer, Element, Position
from stepforge.codegen.target import Target
from stepforge.ir import dims
from stepforge.ir.core import Block, Const, Operand, Operation
from stepforge.ir.dims import Dim
from stepforge.ir.types import NUMERIC, Type

UNROLL = 4  # partial results of loops that only add up
INNER_UNROLL = 2  # the same for loops inside of those that run by lanes
MAX_LANES = 64  # of a ``LaneBuilder``


class LoopWriter:
    """Writes operations of the loop level into one LLVM function.

    ``sizes`` gives the i64 text of each size name, ``values`` what is known of values from outside.
    """

    def __init__(
        self,
        fn: FunctionWriter,
        target: Target,
        sizes: Mapping[str, str],
        values: Mapping[Operand, Any] | None = None,
    ) -> None:
        self.fn = fn
        self.target = target
        self.sizes = dict(sizes)
        self.entry_sizes = frozenset(sizes)  # names whose values the start of the function knows
        self._dims: dict[Dim, str] = {}
        self.values: dict[Operand, Any] = dict(values or {})
        self.one = LaneBuilder(fn, 1, target.capabilities)
        self.many = self.one
        self.mask: Lane | None = None

    # ---- operations -----------------------------------------------------------------------------
    def block(self, block: Block) -> list[Operand]:
        """Write a region; the operands of its terminator."""
        for op in block.ops[:-1]:
            self.operation(op)
        return list(block.terminator.operands)

    def operation(self, op: Operation) -> None:
        """Write one operation."""
        handler = self.handlers.get(op.name)
        if handler is not None:
            handler(self, op)
        elif op.defn.elementwise:
            self._elementwise(op)
        else:
            raise NotImplementedError(f"{op.name} has no place among loops")

    def _elementwise(self, op: Operation) -> None:
        wide = any(self.is_wide(operand) for operand in op.operands)
        k = self.many if wide else self.one
        lanes = [self.lane(operand, wide) for operand in op.operands]
        assert op.defn.scalar is not None
        result = op.defn.scalar(k, *lanes, **op.all_attrs)
        self.values[op.result] = Element(result, wide)

    def is_wide(self, operand: Operand) -> bool:
        """True where lanes may hold different values."""
        value = self.values.get(operand)
        return isinstance(value, Element) and value.wide

    def lane(self, operand: Operand, wide: bool) -> Lane:
        """An element for the scalar builder or (``wide``) for the vector builder."""
        if isinstance(operand, Const):
            k = self.many if wide else self.one
            return k.constant(real(operand), operand.type.dtype)
        element: Element = self.values[operand]
        if wide and not element.wide:
            return self.many.splat(element.lane)
        return element.lane

    def position(self, operand: Operand) -> Position:
        """An index operand."""
        if isinstance(operand, Const):
            return Position(str(int(real(operand))))
        return self.values[operand]  # type: ignore[no-any-return]

    def dim(self, size: Dim) -> str:
        """The i64 text of a size;

        computed once, at the start of the function where its names are known.
        """
        if isinstance(size, int):
            return str(size)
        if size not in self._dims:
            if dims.names(size) <= self.entry_sizes:
                with self.fn.preamble():
                    self._dims[size] = emit_dim(self.fn, size, self.sizes)
            else:
                return emit_dim(self.fn, size, self.sizes)
        return self._dims[size]

    def buffer(self, pointer: str, type_: Type) -> Buffer:
        """A buffer, with its strides computed here."""
        strides = tuple(
            self.dim(dims.product(type_.dims[axis + 1 :])) for axis in range(type_.rank)
        )
        return Buffer(pointer, type_, strides)

    # ---- loops ----------------------------------------------------------------------------------
    def _for(self, op: Operation) -> None:
        if op.attr("simd") and self.many is self.one:
            self._for_lanes(op)
            return
        region = op.regions[0]
        wide = self.many is not self.one
        dtypes = [o.type.dtype for o in op.operands]
        carried = Carried(self.many if wide else self.one, op.attr("combine"), dtypes)

        def turn(counter: str, texts: Sequence[str]) -> list[str]:
            self.values[region.params[0]] = Position(counter)
            if op.attr("binds"):
                self.sizes[op.attr("binds")] = counter
            for param, text in zip(region.params[1:], texts, strict=True):
                self.values[param] = Element(Lane(param.type.dtype, text), wide)
            return [self.lane(v, wide).text for v in self.block(region)]

        low, high = self.dim(op.attr("low")), self.dim(op.attr("high"))
        values = [self.lane(o, wide).text for o in op.operands]
        copies = self._copies(op) if wide else 1
        if copies > 1:
            turns = self.dim(op.attr("high") - op.attr("low"))
            end = self._sum(low, self.fn.emit(f"and i64 {turns}, {-copies}"))
            values, low = carried.several(copies, low, end, 1, values, turn), end
        last = self.fn.loop(
            low,
            high,
            lambda i, *texts: turn(i, texts),
            step=op.attr("step"),
            carried=carried.typed(values),
        )
        for result, text in zip(op.results, last, strict=True):
            self.values[result] = Element(Lane(result.type.dtype, text), wide)

    @staticmethod
    def _copies(op: Operation) -> int:
        """How many partial results a loop keeps whose body runs on vectors.

        The same for all widths, so that every lane adds in the same order.
        """
        turns = op.attr("high") - op.attr("low")
        few = isinstance(turns, int) and turns < 2 * INNER_UNROLL
        return 1 if few or op.attr("step") != 1 or not adds_up(op) else INNER_UNROLL

    def _for_lanes(self, op: Operation) -> None:
        turns = op.attr("high") - op.attr("low")
        low, left = self.dim(op.attr("low")), turns if isinstance(turns, int) else self.dim(turns)
        inner = None if op.operands else inner_sum(op.regions[0])
        width = self.target.vector_bits // _widest(inner or op.regions[0])
        try:
            if inner:
                # Several registers for each sum hide the latency of adding, and take more of each
                # row that is visited.
                self.many = self.one.rewritten(width=min(UNROLL * width, MAX_LANES))
                low, left = _Lanes(self, op).whole(low, left)
            while isinstance(left, int) and width > 1 and width // 2 >= left:
                width //= 2
            self.many = self.one.rewritten(width=width)
            lanes = _Lanes(self, op)
            if inner:
                lanes.masked(low, left)
            else:
                lanes.write(low, left)
        finally:
            self.many, self.mask = self.one, None

    # ---- memory ---------------------------------------------------------------------------------
    def _load(self, op: Operation) -> None:
        buffer, at = self._address(op.operands[0], op.operands[1:])
        dtype = op.result.type.dtype
        size = storage_bytes(dtype)
        k = self.many
        if at.each:
            offsets = k.mul(Lane("i64", at.each), size)
            lane = k.gather_at(buffer.pointer, offsets, dtype, self.mask)
            self.values[op.result] = Element(lane, True)
            return
        pointer = self._element_pointer(buffer, at.base, size)
        if at.uniform:
            self.values[op.result] = Element(self.one.load(pointer, dtype))
            return
        if at.stride != "1":
            stride = self.fn.emit(f"mul i64 {at.stride}, {size}")
            lane = k.gather(pointer, stride, dtype, self.mask)
        elif self.mask is None:
            lane = k.load(pointer, dtype)
        else:
            lane = k.load_masked(pointer, dtype, self.mask, 0)
        self.values[op.result] = Element(lane, True)

    def _store(self, op: Operation) -> None:
        value, target, *indices = op.operands
        buffer, at = self._address(target, indices)
        size = storage_bytes(target.type.dtype)
        if at.uniform:
            self.one.store(self.lane(value, False), self._element_pointer(buffer, at.base, size))
            return
        k, lane = self.many, self.lane(value, True)
        if at.each:
            k.scatter_at(lane, buffer.pointer, k.mul(Lane("i64", at.each), size), self.mask)
            return
        pointer = self._element_pointer(buffer, at.base, size)
        if at.stride != "1":
            stride = self.fn.emit(f"mul i64 {at.stride}, {size}")
            k.scatter(lane, pointer, stride, self.mask)
        elif self.mask is None:
            k.store(lane, pointer)
        else:
            k.store_masked(lane, pointer, self.mask)

    def _element_pointer(self, buffer: Buffer, offset: str, size: int) -> str:
        return self.fn.offset(buffer.pointer, offset, f"i{8 * size}")

    def _address(self, operand: Operand, indices: Sequence[Operand]) -> tuple[Buffer, Position]:
        buffer: Buffer = self.values[operand]
        positions = [self.position(i) for i in indices]
        return buffer, self._affine(list(zip(positions, buffer.strides, strict=False)), "0")

    def _affine(self, terms: Sequence[tuple[Position, str]], offset: str) -> Position:
        """``offset + sum(position * scale)``."""
        base, stride, each = offset, "0", ""
        for position, scale in terms:
            if position.each:
                scaled = self.many.mul(Lane("i64", position.each), self._spread(scale))
                each = scaled.text if not each else self.many.add(Lane("i64", each), scaled).text
                continue
            base = self._sum(base, self._product(position.base, scale))
            stride = self._sum(stride, self._product(position.stride, scale))
        if not each:
            return Position(base, stride)
        whole = self.many.add(Lane("i64", each), self._spread(base))
        if stride != "0":
            steps = self.many.mul(self.many.iota("i64"), self._spread(stride))
            whole = self.many.add(whole, steps)
        return Position("0", "0", whole.text)

    def _spread(self, text: str) -> Lane:
        return self.many.splat(Lane("i64", text))

    def _sum(self, a: str, b: str) -> str:
        if a == "0":
            return b
        return a if b == "0" else self.fn.emit(f"add i64 {a}, {b}")

    def _product(self, a: str, b: str) -> str:
        if "0" in (a, b):
            return "0"
        if a == "1":
            return b
        return a if b == "1" else self.fn.emit(f"mul i64 {a}, {b}")

    def _alloc(self, op: Operation) -> None:
        """A small temporary inside a nest: on the stack of the thread that runs it."""
        type_ = op.result.type
        assert isinstance(type_.size, int)
        pointer = self.fn.alloca(storage_element(type_.dtype), max(type_.size, 1), align=64)
        self.values[op.result] = self.buffer(pointer, type_)

    def _view(self, op: Operation) -> None:
        self.values[op.result] = self.buffer(self.values[op.operands[0]].pointer, op.result.type)

    def _subview(self, op: Operation) -> None:
        buffer, at = self._address(op.operands[0], op.operands[1:])
        pointer = self._element_pointer(buffer, at.base, storage_bytes(buffer.type.dtype))
        rank = op.result.type.rank
        kept = buffer.strides[len(buffer.strides) - rank :]
        self.values[op.result] = Buffer(pointer, op.result.type, kept)

    # ---- indices --------------------------------------------------------------------------------
    def _index(self, op: Operation) -> None:
        positions = [self.position(o) for o in op.operands]
        scales = [self.dim(scale) for scale in op.attr("scale")]
        offset = self.dim(op.attr("offset"))
        self.values[op.result] = self._affine(list(zip(positions, scales, strict=True)), offset)

    def _index_divided(self, opcode: str) -> Callable[[Operation], None]:
        def write(op: Operation) -> None:
            position, by = self.position(op.operands[0]), self.dim(op.attr("by"))
            if position.uniform:
                quotient = self.fn.emit(f"{opcode} i64 {position.base}, {by}")
                self.values[op.result] = Position(quotient)
                return
            each = self._each(position)
            type_ = self.many.register_type("i64")
            text = self.fn.emit(f"{opcode} {type_} {each}, {self._spread(by).text}")
            self.values[op.result] = Position("0", "0", text)

        return write

    def _each(self, position: Position) -> str:
        """One index per lane."""
        if position.each:
            return position.each
        steps = self.many.mul(self.many.iota("i64"), self._spread(position.stride))
        return self.many.add(steps, self._spread(position.base)).text

    def _to_index(self, op: Operation) -> None:
        wide = self.is_wide(op.operands[0])
        k = self.many if wide else self.one
        last = self.fn.emit(f"sub i64 {self.dim(op.attr('limit'))}, 1")
        end = Lane("i64", last) if not wide else k.splat(Lane("i64", last))
        lane = k.max(k.min(k.convert(self.lane(op.operands[0], wide), "i64"), end), 0)
        self.values[op.result] = Position("0", "0", lane.text) if wide else Position(lane.text)

    def _from_index(self, op: Operation) -> None:
        position, dtype = self.position(op.operands[0]), op.attr("dtype")
        wide = not position.uniform
        k = self.many if wide else self.one
        text = self._each(position) if wide else position.base
        self.values[op.result] = Element(k.convert(Lane("i64", text), dtype), wide)

    handlers: ClassVar[dict[str, Callable[[Any, Operation], None]]] = {
        "for": _for,
        "load": _load,
        "store": _store,
        "alloc": _alloc,
        "view": _view,
        "subview": _subview,
        "index": _index,
        "index_div": lambda self, op: self._index_divided("udiv")(op),
        "index_mod": lambda self, op: self._index_divided("urem")(op),
        "to_index": _to_index,
        "from_index": _from_index,
    }


class _Lanes:
    """One loop that runs by lanes:

    its full turns, its masked tail, and how carried lanes combine.
    """

    def __init__(self, writer: LoopWriter, op: Operation) -> None:
        self.writer, self.op = writer, op
        self.fn, self.many, self.one = writer.fn, writer.many, writer.one
        self.width = writer.many.width
        self.region = op.regions[0]
        dtypes = [o.type.dtype for o in op.operands]
        self.carried = Carried(self.many, op.attr("combine"), dtypes)

    def write(self, low: str, turns: int | str) -> None:
        """Write the loop; its results are the carried values of all lanes combined."""
        lanes = self.carried.identities()
        if isinstance(turns, str):
            end, rest, lanes = self._full(low, turns, lanes)
            self._dynamic_tail(end, str(rest), lanes)
            return
        if turns // self.width == 1:
            lanes = self._turn(low, lanes)
        elif turns >= self.width:
            _, _, lanes = self._full(low, turns, lanes)
        if turns % self.width:
            end = self.writer._sum(low, str(turns - turns % self.width))
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
            self._masked_turn(self.writer._sum(low, done), rest, [])

        self.fn.loop(0, str(turns), turn, step=self.width)

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

    def _span(self, low: str, turns: int | str, step: int) -> tuple[str, int | str]:
        """Where whole steps end, and how many turns are left."""
        if isinstance(turns, int):
            return self.writer._sum(low, str(turns - turns % step)), turns % step
        covered = self.fn.emit(f"and i64 {turns}, {-step}")
        return self.writer._sum(low, covered), self.fn.emit(f"sub i64 {turns}, {covered}")

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


def _widest(region: Block) -> int:
    """Bits of the widest element that a region computes with."""
    values = (v for op in region.walk() for v in (*op.results, *op.operands))
    return max((_bits(v.type) for v in values if isinstance(v.type, Type)), default=32)


def _bits(type_: Type) -> int:
    """Bits that decide a vector's width:

    those of elements in registers; bools and indices do not count.
    """
    if type_.buffer or type_.dtype in ("bool", "index") or type_.dtype not in NUMERIC:
        return 8
    return bits_of(type_.dtype)
