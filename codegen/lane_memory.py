"""Lanes to and from memory: contiguous, masked at the tail, strided; and from many elements to one.

A mask is a bool lane. Memory whose mask is false is never touched. Reductions halve the vector
until one element is left, so their order depends on the width alone, never on the target.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepforge.codegen import half
from stepforge.codegen.lane_convert import ConvertLanes
from stepforge.codegen.lane_core import (
    HALF_FRACTION,
    Lane,
    Operand,
    literal,
    register_element,
    storage_bytes,
    storage_element,
)
from stepforge.codegen.llvm import NONTEMPORAL, mangle

_REDUCTIONS = {"add": "add", "mul": "mul", "min": "min", "max": "max", "and": "and_", "or": "or_"}


def _alignment(dtype: str) -> tuple[str, str]:
    return "i32", str(storage_bytes(dtype))


class MemoryLanes(ConvertLanes):
    """Loads, stores, masks, and what crosses the elements of a vector."""

    # ---- contiguous -----------------------------------------------------------------------------
    def load(self, pointer: str, dtype: str) -> Lane:
        """``width`` elements of ``dtype`` at ``pointer``, which is aligned as one element."""
        return self._from_storage(self._stored(pointer, dtype), dtype)

    def _stored(self, pointer: str, dtype: str) -> str:
        """The same in the form that it has in memory."""
        storage = self.vector(storage_element(dtype))
        return self.fn.emit(f"load {storage}, ptr {pointer}, align {storage_bytes(dtype)}")

    def store(self, x: Lane, pointer: str, *, stream: bool = False) -> None:
        """Store ``width`` elements at ``pointer``, which is aligned as one element.

        ``stream``: past the caches; then the pointer is aligned as the whole vector.
        """
        storage = self.vector(storage_element(x.dtype))
        align = storage_bytes(x.dtype) * (self.width if stream else 1)
        hint = f", {NONTEMPORAL}" if stream else ""
        self.fn.do(f"store {storage} {self._to_storage(x)}, ptr {pointer}, align {align}{hint}")

    def tail_mask(self, remaining: str) -> Lane:
        """True for the first ``remaining`` (an i64 text, not negative) elements."""
        # Compared as i32: half the vectors that i64 would take.
        within = self.fn.intrinsic("smin", "i64", "i64", remaining, str(self.width))
        count = Lane("i32", self.fn.emit(f"trunc i64 {within} to i32"))
        return self.lt(self.iota("i32"), self.splat(count))

    def load_masked(self, pointer: str, dtype: str, mask: Lane, fill: Operand) -> Lane:
        """As ``load`` where ``mask`` holds; ``fill`` (a lane or a number) elsewhere."""
        vector = self._many(storage_element(dtype))
        other = self._many_of(self._fill(fill, dtype), storage_element(dtype))
        callee = self.fn.module.declare(f"llvm.masked.load.{mangle(vector)}.p0", vector,
                                        f"ptr, i32, {self._many('i1')}, {vector}")
        text = self.fn.call(vector, callee, ("ptr", pointer), _alignment(dtype), self._mask(mask),
                            (vector, other))
        return self._from_storage(self._one_of(text, vector), dtype)

    def store_masked(self, x: Lane, pointer: str, mask: Lane) -> None:
        """As ``store``, only where ``mask`` holds."""
        element = storage_element(x.dtype)
        vector = self._many(element)
        callee = self.fn.module.declare(f"llvm.masked.store.{mangle(vector)}.p0", "void",
                                        f"{vector}, ptr, i32, {self._many('i1')}")
        self.fn.call("void", callee, (vector, self._many_of(self._to_storage(x), element)),
                     ("ptr", pointer), _alignment(x.dtype), self._mask(mask))

    # ---- strided and indexed --------------------------------------------------------------------
    def gather(self, base: str, stride_bytes: str, dtype: str, mask: Lane | None = None,
               fill: Operand = 0) -> Lane:
        """Element i from ``base + i * stride_bytes`` (i64 text); ``fill`` where masked off."""
        return self.gather_at(base, self._steps(stride_bytes), dtype, mask, fill)

    def scatter(self, x: Lane, base: str, stride_bytes: str, mask: Lane | None = None) -> None:
        """Element i to ``base + i * stride_bytes`` (i64 text), in order, where ``mask`` holds."""
        self.scatter_at(x, base, self._steps(stride_bytes), mask)

    def gather_at(self, base: str, offsets: Lane, dtype: str, mask: Lane | None = None,
                  fill: Operand = 0) -> Lane:
        """Elements from ``base`` plus ``offsets`` (i64 lane, bytes); ``fill`` where masked off."""
        pointers = self._pointers(base, offsets)
        if self.width == 1:
            if mask is None:
                return self.load(pointers, dtype)
            return self.load_masked(pointers, dtype, mask, fill)
        vector, addresses = self.vector(storage_element(dtype)), self.vector("ptr")
        name = f"llvm.masked.gather.{mangle(vector)}.v{self.width}p0"
        params = f"{addresses}, i32, {self.vector('i1')}, {vector}"
        callee = self.fn.module.declare(name, vector, params)
        text = self.fn.call(vector, callee, (addresses, pointers), _alignment(dtype),
                            self._mask(mask), (vector, self._fill(fill, dtype)))
        return self._from_storage(text, dtype)

    def scatter_at(self, x: Lane, base: str, offsets: Lane, mask: Lane | None = None) -> None:
        """Elements to ``base`` plus ``offsets`` (i64 lane of bytes), in order, as ``mask`` says."""
        pointers = self._pointers(base, offsets)
        if self.width == 1:
            if mask is None:
                self.store(x, pointers)
            else:
                self.store_masked(x, pointers, mask)
            return
        vector, addresses = self.vector(storage_element(x.dtype)), self.vector("ptr")
        name = f"llvm.masked.scatter.{mangle(vector)}.v{self.width}p0"
        params = f"{vector}, {addresses}, i32, {self.vector('i1')}"
        callee = self.fn.module.declare(name, "void", params)
        self.fn.call("void", callee, (vector, self._to_storage(x)), (addresses, pointers),
                     _alignment(x.dtype), self._mask(mask))

    def _steps(self, stride_bytes: str) -> Lane:
        return self.mul(self.iota("i64"), self.splat(Lane("i64", stride_bytes)))

    def _pointers(self, base: str, offsets: Lane) -> str:
        type_ = self.vector("i64")
        return self.fn.emit(f"getelementptr i8, ptr {base}, {type_} {offsets.text}", "p")

    # ---- across the elements --------------------------------------------------------------------
    def splat(self, x: Lane) -> Lane:
        """A lane of width 1 in every element."""
        if self.width == 1:
            return x
        element, type_ = register_element(x.dtype), self.register_type(x.dtype)
        first = self.fn.emit(f"insertelement {type_} poison, {element} {x.text}, i64 0")
        return Lane(x.dtype, self.fn.emit(f"shufflevector {type_} {first}, {type_} poison, "
                                          f"<{self.width} x i32> zeroinitializer"))

    def iota(self, dtype: str) -> Lane:
        """0, 1, ... ``width`` - 1."""
        if self.width == 1:
            return self.constant(0, dtype)
        return self.numbers(range(self.width), dtype)

    def numbers(self, values: Sequence[int], dtype: str) -> Lane:
        """These constants, as many as the width, which is not 1."""
        element = register_element(dtype)
        return Lane(dtype, f"<{', '.join(f'{element} {literal(i, dtype)}' for i in values)}>")

    def element(self, x: Lane, index: str | int) -> Lane:
        """Element ``index`` (a number or i64 text) as a lane of width 1."""
        if self.width == 1:
            return x
        type_ = self.register_type(x.dtype)
        return Lane(x.dtype, self.fn.emit(f"extractelement {type_} {x.text}, i64 {index}"))

    def reduce(self, kind: str, x: Lane) -> Lane:
        """All elements by ``add mul min max and or``, halves with halves, as a lane of width 1."""
        if x.dtype == "bool":
            return self.any(x) if kind in ("or", "max", "add") else self.all(x)
        builder: MemoryLanes = self
        while builder.width > 1:
            low, high = builder.halves(x)
            builder = builder.rewritten(width=builder.width // 2)
            x = getattr(builder, _REDUCTIONS[kind])(low, high)
        return x

    def halves(self, x: Lane) -> tuple[Lane, Lane]:
        """The first and the last ``width / 2`` elements, as lanes of that width."""
        if self.width == 2:
            return self.element(x, 0), self.element(x, 1)
        type_, half_width = self.register_type(x.dtype), self.width // 2
        texts = []
        for start in (0, half_width):
            picks = ", ".join(f"i32 {start + i}" for i in range(half_width))
            texts.append(self.fn.emit(f"shufflevector {type_} {x.text}, {type_} poison, "
                                      f"<{half_width} x i32> <{picks}>"))
        return Lane(x.dtype, texts[0]), Lane(x.dtype, texts[1])

    def any(self, mask: Lane) -> Lane:
        """Whether one element of a bool lane is true, as a lane of width 1."""
        if self.width == 1:
            return mask
        return Lane("bool", self.fn.emit(f"icmp ne i{self.width} {self._mask_bits(mask)}, 0"))

    def all(self, mask: Lane) -> Lane:
        """Whether every element of a bool lane is true, as a lane of width 1."""
        if self.width == 1:
            return mask
        return Lane("bool", self.fn.emit(f"icmp eq i{self.width} {self._mask_bits(mask)}, -1"))

    def first_true(self, mask: Lane) -> Lane:
        """The index of the first true element, ``width`` where there is none; i64 of width 1."""
        if self.width == 1:
            return Lane("i64", self.fn.emit(f"select i1 {mask.text}, i64 0, i64 1"))
        type_ = f"i{self.width}"
        callee = self.fn.module.declare(f"llvm.cttz.{type_}", type_, f"{type_}, i1")
        index = self.fn.call(type_, callee, (type_, self._mask_bits(mask)), ("i1", "false"))
        if self.width == 64:
            return Lane("i64", index)
        return Lane("i64", self.fn.emit(f"zext {type_} {index} to i64"))

    # ---- representation -------------------------------------------------------------------------
    def _mask_bits(self, mask: Lane) -> str:
        return self.fn.emit(f"bitcast {self.vector('i1')} {mask.text} to i{self.width}")

    def _from_storage(self, text: str, dtype: str) -> Lane:
        if dtype == "bool":
            return self.ne(Lane("u8", text), 0)
        if dtype in HALF_FRACTION:
            return half.unpack(self, Lane("u16", text), dtype)
        return Lane(dtype, text)

    def _to_storage(self, x: Lane) -> str:
        if x.dtype == "bool":
            return self.cast("zext", x, "u8").text
        return half.pack(self, x).text if x.dtype in HALF_FRACTION else x.text

    def _fill(self, fill: Operand, dtype: str) -> str:
        lane = fill if isinstance(fill, Lane) else self.constant(fill, dtype)
        if lane.dtype != dtype:
            raise TypeError(f"the fill of a masked load of {dtype} is {lane.dtype}")
        return self._to_storage(lane)

    # Masked memory has vector forms only, so that one element is a vector of one there.
    def _many(self, element: str) -> str:
        return f"<{self.width} x {element}>"

    def _many_of(self, text: str, element: str) -> str:
        if self.width > 1:
            return text
        return self.fn.emit(f"insertelement <1 x {element}> poison, {element} {text}, i64 0")

    def _one_of(self, text: str, vector: str) -> str:
        return text if self.width > 1 else self.fn.emit(f"extractelement {vector} {text}, i64 0")

    def _mask(self, mask: Lane | None) -> tuple[str, str]:
        text = mask.text if mask else self.repeat("i1", "true")
        return self._many("i1"), self._many_of(text, "i1")
