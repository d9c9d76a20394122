"""The part of an entry that takes arguments and variables, by field loads and compares.

What is just right costs a few loads and compares. What is nearly right (an int for a float, float64
for float32, a strided array) goes through the shared code, what is neither to the label ``miss``.
"""

from __future__ import annotations

from dataclasses import field

from stepforge.codegen import layout
from stepforge.codegen.conversions import DTYPES
from stepforge.codegen.dims import emit_dim
from stepforge.codegen.entry_support import declare
from stepforge.codegen.feed_support import (
    SCRATCH_BLOCKS,
    SCRATCH_COUNT,
    SCRATCH_CURSOR,
    SCRATCH_LEFT,
)
from stepforge.codegen.llvm import LIKELY, UNLIKELY, FunctionWriter
from stepforge.codegen.signature import (
    FIRST_SLOT,
    SLOT_DATA,
    SLOT_DIMS,
    SLOT_FLAGS,
    SLOT_RANK,
    Feed,
    Signature,
    Slot,
)
from stepforge.codegen.slot_support import slot_rows
from stepforge.ir import dims
from stepforge.ir.dims import Dim
from stepforge.ir.records import record
from stepforge.ir.types import Type

INLINE_SLOTS = 4  # a step with more has them checked by the shared code
SCRATCH_BYTES = 512  # stack memory of a call for converted arrays

# How one number of a dtype is loaded and stored: the parts of complex numbers travel together.
_ELEMENT = {
    "bool": "i8", "f16": "i16", "bf16": "i16", "f32": "float", "f64": "double",
    "c64": "i64", "c128": "<2 x double>",
}  # fmt: skip


def element_type(dtype: str) -> str:
    """The LLVM type that carries one number of ``dtype``; integers have their own width."""
    return _ELEMENT.get(dtype) or f"i{dtype[1:]}"


def element_alignment(dtype: str) -> int:
    """The alignment of one number of ``dtype`` in memory."""
    return {"bool": 1, "bf16": 2, "c64": 4, "c128": 8}.get(dtype) or int(dtype[1:]) // 8


@record
class FeedWriter:
    """Writes the checks of one entry; ``sizes`` grows by the names that they bind.

    ``pointers`` is the array that the kernel gets, ``table`` the step's table, ``miss`` the label
    to branch to where the native checks refuse.
    """

    fn: FunctionWriter
    signature: Signature
    table: str
    miss: str
    pointers: str
    scratch: str = ""
    sizes: dict[str, str] = field(default_factory=dict)
    _late: list[tuple[str, Dim]] = field(default_factory=list)

    def write(self) -> None:
        """All feeds, then all slots, then what could not be checked before its names were bound."""
        if any(feed.type.shape for feed in self.signature.feeds):
            self._make_scratch()
        for index, feed in enumerate(self.signature.feeds):
            self._feed(index, feed)
        self._slots()
        pairs = [(have, emit_dim(self.fn, want, self.sizes)) for have, want in self._late]
        for left, right in self.signature.assumptions:
            pairs.append(
                (emit_dim(self.fn, left, self.sizes), emit_dim(self.fn, right, self.sizes))
            )
        self._require([self._equal("i64", have, want) for have, want in pairs])

    def release(self, *, usual: bool = False) -> None:
        """Free the memory of converted feeds; the ``usual`` way looks first if there is any."""
        if not self.scratch:
            return
        args = [("ptr", self.scratch), ("ptr", self.table)]
        release = declare(self.fn.module, "stepforge_release")
        if not usual:
            self.fn.call("void", release, *args)
            return
        some = self.fn.emit(f"icmp ne i64 {self.fn.load('i64', self.scratch, SCRATCH_COUNT)}, 0")
        after, free = self.fn.label("after"), self.fn.label("free")
        self.fn.branch_if(some, free, after, UNLIKELY)
        self.fn.start(free)
        self.fn.call("void", release, *args)
        self.fn.branch(after)
        self.fn.start(after)

    def _make_scratch(self) -> None:
        fn = self.fn
        self.scratch = fn.alloca("i8", SCRATCH_BLOCKS + 8 * len(self.signature.feeds))
        memory = fn.alloca("i8", SCRATCH_BYTES, 16)
        fn.store("ptr", memory, self.scratch, SCRATCH_CURSOR)
        fn.store("i64", str(SCRATCH_BYTES), self.scratch, SCRATCH_LEFT)
        fn.store("i64", "0", self.scratch, SCRATCH_COUNT)

    # ---- feeds ----------------------------------------------------------------------------------

    def _feed(self, index: int, feed: Feed) -> None:
        value = self.fn.load("ptr", "%args", 8 * index)
        if feed.type.rank:
            data = self._array(value, feed.type)
            self._bind(feed.type, value, layout.ARRAY_DIMS)
        else:
            data = self._scalar(value, feed.type.dtype)
        self.fn.store("ptr", data, self.pointers, 8 * index)

    def _array(self, value: str, type_: Type) -> str:
        """The data of an array: its own where it is just right, else a converted copy."""
        fn = self.fn
        exact, other, ready = fn.label("exact"), fn.label("other"), fn.label("ready")
        kind = fn.load("ptr", value, layout.OBJECT_TYPE)
        fn.branch_if(self._is(kind, "PyArray_Type"), exact, other, LIKELY)
        fn.start(exact)
        own = self._exact_array(value, type_, ready, other)
        fn.start(other)
        copy = fn.call(
            "ptr",
            declare(fn.module, "stepforge_array_feed"),
            ("ptr", value),
            ("i64", str(DTYPES.index(type_.dtype))),
            ("i64", str(type_.rank)),
            ("ptr", self.scratch),
            ("ptr", self.table),
        )
        fn.branch_if(fn.emit(f"icmp ne ptr {copy}, null"), ready, self.miss, LIKELY)
        fn.start(ready)
        return fn.phi("ptr", (own, exact), (copy, other))

    def _exact_array(self, value: str, type_: Type, yes: str, no: str) -> str:
        """Branch on an ndarray being contiguous, aligned, of this dtype and rank; its data."""
        fn = self.fn
        descr = fn.load("ptr", value, layout.ARRAY_DESCR)
        flags = fn.load("i32", value, layout.ARRAY_FLAGS)
        rank = fn.load("i32", value, layout.ARRAY_RANK)
        data = fn.load("ptr", value, layout.ARRAY_DATA)
        if type_.dtype == "bf16":  # its number is given when ml_dtypes is loaded
            same = self._is(descr, "descr_bf16")
        else:
            word = fn.load("i64", descr, layout.DESCR_WORD)
            mask = layout.DESCR_WORD_MASK - 2**64
            masked = fn.emit(f"and i64 {word}, {mask}")
            same = self._equal("i64", masked, str(layout.type_word(type_.dtype)))
        placed = fn.emit(f"and i32 {flags}, {layout.CONTIGUOUS_ALIGNED}")
        conditions = [
            same,
            self._equal("i32", placed, str(layout.CONTIGUOUS_ALIGNED)),
            self._equal("i32", rank, str(type_.rank)),
        ]
        fn.branch_if(self._all(conditions), yes, no, LIKELY)
        return data

    def _scalar(self, value: str, dtype: str) -> str:
        """A stack cell with the number that ``value`` is."""
        fn, element, align = self.fn, element_type(dtype), element_alignment(dtype)
        cell, spare = fn.alloca("i8", 16, 16), fn.alloca("i8", 16, 16)
        other, ready = fn.label("other"), fn.label("ready")
        kind = fn.load("ptr", value, layout.OBJECT_TYPE)
        sources: list[tuple[str, str]] = []

        def case(type_name: str, label: str) -> None:
            following = fn.label("case")
            fn.branch_if(self._is(kind, type_name), label, following)
            fn.start(following)

        array, python = fn.label("array"), fn.label("float")
        case("PyArray_Type", array)
        if dtype in ("f32", "f64"):
            case("PyFloat_Type", python)
        own = fn.offset(value, layout.SCALAR_VALUE)
        sources.append((own, fn.block))
        fn.branch_if(self._is(kind, f"scalar_{dtype}"), ready, other)
        fn.start(array)
        sources.append((self._exact_array(value, Type(dtype), ready, other), array))
        if dtype in ("f32", "f64"):
            fn.start(python)
            sources.append((self._python_float(value, dtype, spare), python))
            fn.branch(ready)
        fn.start(other)
        convert = declare(fn.module, "stepforge_scalar_feed")
        index = ("i64", str(DTYPES.index(dtype)))
        good = fn.call("i32", convert, ("ptr", value), index, ("ptr", spare))
        sources.append((spare, other))
        fn.branch_if(fn.emit(f"icmp ne i32 {good}, 0"), ready, self.miss, LIKELY)
        fn.start(ready)
        number = fn.load(element, fn.phi("ptr", *sources), extra=f", align {align}")
        fn.store(element, number, cell, extra=f", align {align}")
        return cell

    def _python_float(self, value: str, dtype: str, spare: str) -> str:
        own = self.fn.offset(value, layout.FLOAT_VALUE)
        if dtype == "f64":
            return own
        number = self.fn.load("double", own)
        self.fn.store("float", self.fn.emit(f"fptrunc double {number} to float"), spare)
        return spare

    # ---- slots ----------------------------------------------------------------------------------

    def _slots(self) -> None:
        """Slots one by one where they are few, else by the shared code."""
        slots = self.signature.slots
        if len(slots) <= INLINE_SLOTS:
            for index, slot in enumerate(slots):
                self._slot(index, slot)
            return
        rows = slot_rows(slots)
        numbers = [f"i64 {number}" for row in rows for number in row]
        definition = f"[{len(numbers)} x i64] [{', '.join(numbers)}]"
        layouts = self.fn.module.constant("slot_layouts", definition)
        good = self.fn.call(
            "i32",
            declare(self.fn.module, "stepforge_slots"),
            ("ptr", self.fn.offset(self.table, 8 * FIRST_SLOT)),
            ("ptr", layouts),
            ("i64", str(len(slots))),
            ("i64", str(len(rows[0]))),
            ("ptr", self.fn.offset(self.pointers, 8 * len(self.signature.feeds))),
        )
        self._require([self.fn.emit(f"icmp ne i32 {good}, 0")])
        for index, slot in enumerate(slots):
            if slot.checked and any(not isinstance(size, int) for size in slot.type.shape or ()):
                place = self.fn.load("ptr", self.table, 8 * (FIRST_SLOT + index))
                self._bind(slot.type, place, SLOT_DIMS)

    def _slot(self, index: int, slot: Slot) -> None:
        fn = self.fn
        place = fn.load("ptr", self.table, 8 * (FIRST_SLOT + index))
        if slot.checked:
            flags = fn.emit(f"and i32 {fn.load('i32', place, SLOT_FLAGS)}, 1")
            conditions = [fn.emit(f"icmp ne i32 {flags}, 0")]
            if not slot.type.is_object:
                word = slot.type.rank | DTYPES.index(slot.type.dtype) << 32
                conditions.append(self._equal("i64", fn.load("i64", place, SLOT_RANK), str(word)))
            self._require(conditions)
            if not slot.type.is_object:
                self._bind(slot.type, place, SLOT_DIMS)
        data = fn.load("ptr", place, SLOT_DATA)
        fn.store("ptr", data, self.pointers, 8 * (len(self.signature.feeds) + index))

    # ---- sizes ----------------------------------------------------------------------------------

    def _bind(self, type_: Type, owner: str, offset: int) -> None:
        """Bind the new names of a shape to an object's sizes and check what is known already."""
        if not type_.dims:
            return
        have, conditions = self.fn.load("ptr", owner, offset), []
        for axis, want in enumerate(type_.dims):
            size = self.fn.load("i64", have, 8 * axis)
            name = dims.as_name(want)
            if name is not None and name not in self.sizes:
                self.sizes[name] = size
            elif dims.names(want) <= self.sizes.keys():
                conditions.append(self._equal("i64", size, emit_dim(self.fn, want, self.sizes)))
            else:
                self._late.append((size, want))
        self._require(conditions)

    # ---- conditions -----------------------------------------------------------------------------

    def _is(self, pointer: str, name: str) -> str:
        return self.fn.emit(f"icmp eq ptr {pointer}, {self.fn.module.extern(name)}")

    def _equal(self, type_: str, have: str, want: str) -> str:
        return self.fn.emit(f"icmp eq {type_} {have}, {want}")

    def _all(self, conditions: list[str]) -> str:
        total = conditions[0]
        for condition in conditions[1:]:
            total = self.fn.emit(f"and i1 {total}, {condition}")
        return total

    def _require(self, conditions: list[str]) -> None:
        """Go to ``miss`` unless all conditions hold."""
        if conditions:
            good = self.fn.label("good")
            self.fn.branch_if(self._all(conditions), good, self.miss, LIKELY)
            self.fn.start(good)
