"""The shared code for steps with many variables: their slots are checked from a table of numbers.

Checks in an entry's own code run faster, but a hundred of them take LLVM half a second.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepforge.codegen.conversions import DTYPES
from stepforge.codegen.feed_support import give
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter
from stepforge.codegen.signature import SLOT_DATA, SLOT_DIMS, SLOT_FLAGS, SLOT_RANK, Slot

FUNCTIONS = {"stepforge_slots": ("i32", "ptr, ptr, i64, i64, ptr")}

_UNCHECKED, _INITIALISED, _TYPED = 0, 1, 2  # how much of a slot is checked
_ANY_SIZE = -1


def slot_rows(slots: Sequence[Slot]) -> list[list[int]]:
    """What ``stepforge_slots`` checks of each slot: how much, rank and dtype, and the sizes."""
    ranks = max((slot.type.rank for slot in slots if not slot.type.is_object), default=0)
    return [_layout(slot, ranks) for slot in slots]


def _layout(slot: Slot, ranks: int) -> list[int]:
    if not slot.checked:
        return [_UNCHECKED, 0] + [_ANY_SIZE] * ranks
    if slot.type.is_object:
        return [_INITIALISED, 0] + [_ANY_SIZE] * ranks
    sizes = [size if isinstance(size, int) else _ANY_SIZE for size in slot.type.dims]
    word = slot.type.rank | DTYPES.index(slot.type.dtype) << 32
    return [_TYPED, word, *sizes] + [_ANY_SIZE] * (ranks - len(sizes))


def emit(module: ModuleWriter) -> None:
    """Define ``stepforge_slots``: check slots against rows of numbers, give their data pointers."""
    params = [
        ("ptr", "slots"),
        ("ptr", "layouts"),
        ("i64", "count"),
        ("i64", "width"),
        ("ptr", "pointers"),
    ]
    fn = FunctionWriter(module, "stepforge_slots", "i32", params)

    def body(i: str) -> None:
        place = fn.load("ptr", fn.offset("%slots", i, "ptr"))
        fn.store("ptr", fn.load("ptr", place, SLOT_DATA), fn.offset("%pointers", i, "ptr"))
        row = fn.offset("%layouts", fn.emit(f"mul i64 {i}, %width"), "i64")
        kind = fn.load("i64", row)
        checked = fn.emit(f"icmp ne i64 {kind}, {_UNCHECKED}")
        fn.if_(checked, lambda: _check(fn, place, row, kind))

    fn.loop(0, "%count", body)
    fn.do("ret i32 1")
    fn.define()


def _check(fn: FunctionWriter, place: str, row: str, kind: str) -> None:
    flags = fn.emit(f"and i32 {fn.load('i32', place, SLOT_FLAGS)}, 1")
    give(fn, fn.emit(f"icmp eq i32 {flags}, 0"), "i32", "0")

    def typed() -> None:
        word = fn.load("i64", row, 8)
        have = fn.load("i64", place, SLOT_RANK)
        give(fn, fn.emit(f"icmp ne i64 {have}, {word}"), "i32", "0")
        sizes = fn.load("ptr", place, SLOT_DIMS)
        fn.loop(0, fn.emit(f"and i64 {word}, {2**32 - 1}"), lambda k: compare(sizes, k))

    def compare(sizes: str, k: str) -> None:
        want = fn.load("i64", fn.offset(row, fn.emit(f"add i64 {k}, 2"), "i64"))
        have = fn.load("i64", fn.offset(sizes, k, "i64"))
        differ = fn.emit(f"icmp ne i64 {have}, {want}")
        known = fn.emit(f"icmp ne i64 {want}, {_ANY_SIZE}")
        give(fn, fn.emit(f"and i1 {differ}, {known}"), "i32", "0")

    fn.if_(fn.emit(f"icmp eq i64 {kind}, {_TYPED}"), typed)
