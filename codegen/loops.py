"""The loop level as LLVM: loops, memory and elements.

A loop that runs by lanes becomes a body on vectors, then one masked turn for what is left. In such
a body a value is either the same for all lanes (a scalar) or wide (a vector); an index is affine in
the lane where it can be, so that loads are contiguous or strided, and a gather only where indices
are data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from stepforge.codegen import loop_rows, loop_streams
from stepforge.codegen.lane_core import Lane, storage_bytes, storage_element
from stepforge.codegen.loop_carried import Carried, adds_up, inner_sum, keeps, real, widest
from stepforge.codegen.loop_lanes import UNROLL, LaneLoop
from stepforge.codegen.loop_positions import PositionWriter
from stepforge.codegen.loop_values import Buffer, Element, Position, is_number
from stepforge.ir import dims
from stepforge.ir.core import Block, Const, Operand, Operation

INNER_UNROLL = 2  # the same for loops inside of those that run by lanes
MAX_LANES = 64  # of a ``LaneBuilder``
AHEAD = 16  # rows further on that are asked for
CACHE_LINE = 64


class LoopWriter(PositionWriter):
    """Writes operations of the loop level into one LLVM function.

    ``sizes`` gives the i64 text of each size name, ``values`` what is known of values from outside.
    """

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

    # ---- loops ----------------------------------------------------------------------------------
    def _for(self, op: Operation) -> None:
        if op.attr("simd") and self.many is self.one:
            self._for_lanes(op)
            return
        rows = loop_rows.short_rows(op, self.target.vector_bits) if self.many is self.one else None
        if rows:
            loop_rows.write(self, rows, self._for)
            return
        region = op.regions[0]
        wide = self.many is not self.one
        dtypes = [o.type.dtype for o in op.operands]
        carried = Carried(self.many if wide else self.one, op.attr("combine"), dtypes)

        self.rows = {region.params[0]: 1} if wide and keeps(op) else {}

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
            end = self.add_sizes(low, self.fn.emit(f"and i64 {turns}, {-copies}"))
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
        width = self.target.vector_bits // widest(inner or op.regions[0])
        try:
            if inner:
                # Several registers for each sum hide the latency of adding, and take more of each
                # row that is visited.
                self.many = self.one.rewritten(width=min(UNROLL * width, MAX_LANES))
                low, left = LaneLoop(self, op).whole(low, left)
            while isinstance(left, int) and width > 1 and width // 2 >= left:
                width //= 2
            self.many = self.one.rewritten(width=width)
            lanes = LaneLoop(self, op)
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
            lane = self._apart(pointer, at, dtype)
        elif self.mask is None:
            lane = k.load(pointer, dtype)
            self._fetch_ahead(op, buffer, pointer, size)
        else:
            lane = k.load_masked(pointer, dtype, self.mask, 0)
        self.values[op.result] = Element(lane, True)

    def _apart(self, pointer: str, at: Position, dtype: str) -> Lane:
        """What is loaded from places that are not side by side."""
        k = self.many
        places = at.known(k.width)
        if self.mask is None and places and k.picks_well(places, dtype):
            return k.load_picked(pointer, places, dtype)
        return k.gather_at(pointer, self._distances(at, storage_bytes(dtype)), dtype, self.mask)

    def _distances(self, at: Position, size: int) -> Lane:
        """How many bytes each lane is from ``at.base``."""
        if at.places:
            return self.many.numbers([size * place for place in at.places], "i64")
        stride = self.spread(self.fn.emit(f"mul i64 {at.stride}, {size}"))
        return self.many.mul(self.many.iota("i64"), stride)

    def _fetch_ahead(self, op: Operation, buffer: Buffer, pointer: str, size: int) -> None:
        """Ask for what a later turn of the loop around loads, where it is in another row: hardware
        foresees no steps that are longer than a page.
        """
        for axis, each in enumerate(op.operands[1:]):
            if each in self.rows:
                rows = str(AHEAD * self.rows[each])
                step = self.multiply_sizes(buffer.strides[axis], rows)
                row = self._element_pointer(Buffer(pointer, buffer.type), step, size)
                for line in range(0, self.many.width * size, CACHE_LINE):
                    self.fn.prefetch(self.fn.offset(row, line))

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
            k.scatter_at(lane, pointer, self._distances(at, size), self.mask)
        elif self.mask is None:
            k.store(lane, pointer, stream=self.streaming)
        else:
            k.store_masked(lane, pointer, self.mask)

    def stream_places(self, stores: Sequence[Operation]) -> list[loop_streams.Place]:
        """Where the stores of the turn at hand go; none where they cannot all stream."""
        found = []
        for op in stores:
            _, target, *indices = op.operands
            size = storage_bytes(target.type.dtype)
            known = all(isinstance(i, Const) or i in self.values for i in indices)
            if not known or self.many.width * size < loop_streams.LEAST_VECTOR:
                return []
            buffer, at = self._address(target, indices)
            if at.stride != "1":
                return []
            pointer = self._element_pointer(buffer, at.base, size)
            total = self.dim(dims.product(target.type.dims) * size)
            found.append(loop_streams.Place(pointer, size, total))
        return found

    def places_apart(self, loads: Sequence[Operation]) -> list[loop_streams.Place]:
        """Where those loads of the turn at hand begin that pick elements out of several vectors."""
        found = []
        for op in loads:
            buffer, at = self._address(op.operands[0], op.operands[1:])
            dtype, places = op.result.type.dtype, at.known(self.many.width)
            step = int(at.stride) if is_number(at.stride) else 0
            if step > 1 and self.many.picks_well(places, dtype):
                size = storage_bytes(dtype)
                pointer = self._element_pointer(buffer, at.base, size)
                found.append(loop_streams.Place(pointer, size, step=step))
        return found

    def _element_pointer(self, buffer: Buffer, offset: str, size: int) -> str:
        return self.fn.offset(buffer.pointer, offset, f"i{8 * size}")

    def _address(self, operand: Operand, indices: Sequence[Operand]) -> tuple[Buffer, Position]:
        buffer: Buffer = self.values[operand]
        positions = [self.position(i) for i in indices]
        return buffer, self.affine(list(zip(positions, buffer.strides, strict=False)), "0")

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

    def _rows(self, op: Operation) -> None:
        buffer: Buffer = self.values[op.operands[0]]
        first = self.multiply_sizes(self.dim(op.attr("low")), buffer.strides[0])
        pointer = self._element_pointer(buffer, first, storage_bytes(buffer.type.dtype))
        self.values[op.result] = Buffer(pointer, op.result.type, buffer.strides)

    # ---- indices --------------------------------------------------------------------------------
    def _index(self, op: Operation) -> None:
        positions = [self.position(o) for o in op.operands]
        scales = [self.dim(scale) for scale in op.attr("scale")]
        offset = self.dim(op.attr("offset"))
        self.values[op.result] = self.affine(list(zip(positions, scales, strict=True)), offset)
        for operand, scale in zip(op.operands, op.attr("scale"), strict=True):
            if operand in self.rows and isinstance(scale, int):
                self.rows[op.result] = scale * self.rows[operand]

    def _index_divided(self, opcode: str) -> Callable[[Operation], None]:
        def write(op: Operation) -> None:
            position, by = self.position(op.operands[0]), self.dim(op.attr("by"))
            if position.uniform:
                quotient = self.fn.emit(f"{opcode} i64 {position.base}, {by}")
                self.values[op.result] = Position(quotient)
                return
            each = self.each_lane(position)
            type_ = self.many.register_type("i64")
            text = self.fn.emit(f"{opcode} {type_} {each}, {self.spread(by).text}")
            self.values[op.result] = Position("0", "0", text)

        return write

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
        text = self.each_lane(position) if wide else position.base
        self.values[op.result] = Element(k.convert(Lane("i64", text), dtype), wide)

    handlers: ClassVar[dict[str, Callable[[Any, Operation], None]]] = {
        "for": _for,
        "load": _load,
        "store": _store,
        "alloc": _alloc,
        "view": _view,
        "subview": _subview,
        "rows": _rows,
        "index": _index,
        "index_div": lambda self, op: self._index_divided("udiv")(op),
        "index_mod": lambda self, op: self._index_divided("urem")(op),
        "to_index": _to_index,
        "from_index": _from_index,
    }
