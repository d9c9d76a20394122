"""Memory of all native code, as LLVM: small blocks from the C library, large ones kept for reuse.

A fresh large block costs a page fault for every page of it, which takes as long as the work on it.
So large blocks that are given back wait in a few places for the next one that needs such a size.
The places are atomic words that are exchanged as a whole: any thread may take and give, nobody ever
waits, and a fork at any moment leaves nothing locked. NumPy gives results of steps back to here by
its interface for allocators, so that they own their memory like every array.

A block starts with its capacity, 0 where it is small, and the size that was asked for; what the
caller gets is ``OFFSET`` behind.
The size beside each place is a hint, which may be out of date: the block itself says what it has.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from stepforge.codegen import jit, layout, target
from stepforge.codegen.layout import PYTHON
from stepforge.codegen.llvm import UNLIKELY, FunctionWriter, ModuleWriter
from stepforge.ir.records import record

LARGE = 1 << 20  # bytes from which a block is worth keeping
PLACES = 128  # a power of two
MOST_KEPT = 512 << 20  # bytes that wait at most, on a machine with memory enough
SHARE_KEPT = 16  # and this part of the machine's memory
ASKED = 8  # where a block holds the size that was asked for
OFFSET = 64  # of the caller's bytes: a cache line, so that vectors are aligned
GRANULE = 1 << 16  # capacities are multiples of this
HUGE_PAGE = 2 << 20
FIT = 4  # a block may be larger than what it is taken for by this part

FUNCTIONS = (
    "stepforge_alloc",
    "stepforge_free",
    "stepforge_trim",
    "stepforge_array_malloc",
    "stepforge_array_calloc",
    "stepforge_array_realloc",
    "stepforge_array_free",
)


@cache
def library() -> jit.Library:
    """The functions, compiled once for the process and kept for its life."""
    module = ModuleWriter(target.host().triple)
    write(module, _most_kept(), this_system())
    return jit.build(module.text(), "O0", {}, FUNCTIONS)


def _most_kept() -> int:
    """Bytes that may wait: at most a part of the machine's memory, rounded down to a granule."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(min(MOST_KEPT, memory // SHARE_KEPT)) & -GRANULE


def trim() -> None:
    """Give everything that waits back to the system."""
    if library.cache_info().currsize:
        ctypes.CFUNCTYPE(None)(library()["stepforge_trim"])()


class _Handler(ctypes.Structure):
    """``PyDataMem_Handler`` of NumPy's C interface."""

    _fields_ = (
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("context", ctypes.c_void_p),
        ("malloc", ctypes.c_void_p),
        ("calloc", ctypes.c_void_p),
        ("realloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
    )


@cache
def array_handler() -> Any:
    """The capsule that tells NumPy to allocate arrays here; alive as long as the process."""
    functions = [library()[f"stepforge_array_{n}"] for n in ("malloc", "calloc", "realloc", "free")]
    _KEEP.append(_Handler(b"stepforge", 1, None, *functions))
    _KEEP.append(ctypes.c_char_p(b"mem_handler"))
    make = PYTHON.PyCapsule_New
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return make(ctypes.addressof(_KEEP[0]), _KEEP[1], None)


def empty(shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """``np.empty`` with memory of ours where it is large."""
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE or not layout.native_entry():
        return np.empty(shape, dtype)
    address = layout.addresses(["PyDataMem_SetHandler"])["PyDataMem_SetHandler"]
    use = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(address)
    before = use(array_handler())
    try:
        return np.empty(shape, dtype)
    finally:
        use(before)


_KEEP: list[Any] = []


@record(frozen=True)
class System:
    """The numbers by which the system's functions are asked for pages; ``advice`` for huge ones,
    None where there are none.
    """

    protection: int
    flags: int
    advice: int | None


def this_system() -> System:
    """The numbers of the system that this process runs on."""
    return System(
        mmap.PROT_READ | mmap.PROT_WRITE,
        mmap.MAP_PRIVATE | mmap.MAP_ANON,
        getattr(mmap, "MADV_HUGEPAGE", None),
    )


def write(module: ModuleWriter, most: int, system: System) -> None:
    """Define ``FUNCTIONS``; ``most`` bytes may wait."""
    for name, type_ in (("large_blocks", "ptr"), ("large_sizes", "i64")):
        module.variable(name, f"[{PLACES} x {type_}] zeroinitializer")
    module.variable("large_hand", "i64 0")
    _put(module, most)
    _trim(module)
    _take(module)
    _map(module, system)
    _fresh(module)
    _alloc(module)
    _free(module)
    _array_functions(module)


# ---- places -------------------------------------------------------------------------------------


def _place(fn: FunctionWriter, index: str) -> tuple[str, str]:
    """Pointers to place ``index`` and to its size."""
    return fn.offset("@large_blocks", index, "ptr"), fn.offset("@large_sizes", index, "i64")


def _exchange(fn: FunctionWriter, place: str, block: str) -> str:
    """Put ``block`` into a place and take what was there."""
    return fn.emit(f"atomicrmw xchg ptr {place}, ptr {block} acq_rel")


def _hint(fn: FunctionWriter, size: str) -> str:
    return fn.emit(f"load atomic i64, ptr {size} monotonic, align 8")


def _set_hint(fn: FunctionWriter, size: str, value: str) -> None:
    fn.do(f"store atomic i64 {value}, ptr {size} monotonic, align 8")


def _next_place(fn: FunctionWriter) -> tuple[str, str]:
    """The place whose turn it is to be emptied."""
    hand = fn.emit("atomicrmw add ptr @large_hand, i64 1 monotonic")
    return _place(fn, fn.emit(f"and i64 {hand}, {PLACES - 1}"))


def _release(fn: FunctionWriter, block: str) -> None:
    """Give a large block back to the system; null is nothing."""

    def give() -> None:
        _unmap(fn, block, fn.load("i64", block))

    fn.if_(fn.emit(f"icmp ne ptr {block}, null"), give)


def _waiting(fn: FunctionWriter) -> str:
    """The bytes that wait, by the hints."""

    def add(i: str, total: str) -> list[str]:
        place, size = _place(fn, i)
        there = fn.emit(f"icmp ne ptr {fn.load('ptr', place)}, null")
        bytes_ = fn.emit(f"select i1 {there}, i64 {_hint(fn, size)}, i64 0")
        return [fn.emit(f"add i64 {total}, {bytes_}")]

    return fn.loop(0, PLACES, add, carried=[("i64", "0")])[0]


def _put(module: ModuleWriter, most: int) -> None:
    """Let a block wait; others go where they would be too many or too large together."""
    fn = FunctionWriter(
        module, "large_put", "void", [("ptr", "block")], linkage="internal", attributes="noinline"
    )
    capacity = fn.load("i64", "%block")

    def too_large() -> None:
        _release(fn, "%block")
        fn.do("ret void")
        fn.start(fn.label("unreached"))

    fn.if_(fn.emit(f"icmp sgt i64 {capacity}, {most // 2}"), too_large)
    room = fn.emit(f"sub i64 {most}, {capacity}")

    _make_room(fn, room)

    def try_place(i: str) -> None:
        place, size = _place(fn, i)
        pair = fn.emit(f"cmpxchg ptr {place}, ptr null, ptr %block acq_rel monotonic, align 8")

        def done() -> None:
            _set_hint(fn, size, capacity)
            fn.do("ret void")
            fn.start(fn.label("unreached"))

        fn.if_(fn.emit(f"extractvalue {{ ptr, i1 }} {pair}, 1"), done)

    fn.loop(0, PLACES, try_place)
    place, size = _next_place(fn)
    before = _exchange(fn, place, "%block")
    _set_hint(fn, size, capacity)
    _release(fn, before)
    fn.do("ret void")
    fn.define()


def _make_room(fn: FunctionWriter, room: str) -> None:
    """Give back what waits, one place after the other, until no more than ``room`` bytes do."""
    total = fn.alloca("i64")
    fn.store("i64", _waiting(fn), total)

    def empty() -> None:
        block = _exchange(fn, _next_place(fn)[0], "null")

        def give() -> None:
            left = fn.emit(f"sub i64 {fn.load('i64', total)}, {fn.load('i64', block)}")
            fn.store("i64", left, total)
            _release(fn, block)

        fn.if_(fn.emit(f"icmp ne ptr {block}, null"), give)

    def check(_: str) -> None:
        fn.if_(fn.emit(f"icmp sgt i64 {fn.load('i64', total)}, {room}"), empty)

    fn.loop(0, PLACES, check)


def _trim(module: ModuleWriter) -> None:
    fn = FunctionWriter(module, "stepforge_trim", "void", [])
    fn.loop(0, PLACES, lambda i: _release(fn, _exchange(fn, _place(fn, i)[0], "null")))
    fn.do("ret void")
    fn.define()


def _take(module: ModuleWriter) -> None:
    """A block that waits with room for ``size`` bytes and not many more; null where none does."""
    fn = FunctionWriter(module, "large_take", "ptr", [("i64", "size")], linkage="internal")
    limit = fn.emit(f"add i64 %size, {fn.emit(f'sdiv i64 %size, {FIT}')}")

    def fits(capacity: str) -> str:
        least, most = (f"icmp sge i64 {capacity}, %size", f"icmp sle i64 {capacity}, {limit}")
        return fn.emit(f"and i1 {fn.emit(least)}, {fn.emit(most)}")

    def look(i: str) -> None:
        place, size = _place(fn, i)

        def take() -> None:
            block = _exchange(fn, place, "null")

            def give() -> None:
                fn.do(f"ret ptr {block}")
                fn.start(fn.label("unreached"))

            def check() -> None:
                fn.if_(fits(fn.load("i64", block)), give)
                fn.call("void", "@large_put", ("ptr", block))

            fn.if_(fn.emit(f"icmp ne ptr {block}, null"), check)

        fn.if_(fits(_hint(fn, size)), take)

    fn.loop(0, PLACES, look)
    fn.do("ret ptr null")
    fn.define()


# ---- blocks -------------------------------------------------------------------------------------


def _fresh(module: ModuleWriter) -> None:
    """A large block from the system; null where there is no memory even after what waits is given
    back.
    """
    fn = FunctionWriter(module, "large_fresh", "ptr", [("i64", "size")], linkage="internal")
    first = fn.call("ptr", "@large_map", ("i64", "%size"))
    missing, made = fn.label("missing"), fn.label("made")
    fn.branch_if(fn.emit(f"icmp eq ptr {first}, null"), missing, made, UNLIKELY)
    fn.start(made)
    fn.do(f"ret ptr {first}")
    fn.start(missing)
    fn.call("void", "@stepforge_trim")
    fn.do(f"ret ptr {fn.call('ptr', '@large_map', ('i64', '%size'))}")
    fn.define()


def _map(module: ModuleWriter, system: System) -> None:
    """Pages of their own, aligned to huge ones, which the system may then use: there is a miss of
    the address cache for every small page that a strided loop visits.
    """
    fn = FunctionWriter(module, "large_map", "ptr", [("i64", "size")], linkage="internal")
    more = fn.emit(f"add i64 %size, {HUGE_PAGE}")
    get = module.declare("mmap", "ptr", "ptr, i64, i32, i32, i32, i64")
    flags = [("i32", str(system.protection)), ("i32", str(system.flags))]
    got = fn.call("ptr", get, ("ptr", "null"), ("i64", more), *flags, ("i32", "-1"), ("i64", "0"))
    start = fn.emit(f"ptrtoint ptr {got} to i64")
    failed, made = fn.label("failed"), fn.label("made")
    fn.branch_if(fn.emit(f"icmp eq i64 {start}, -1"), failed, made, UNLIKELY)
    fn.start(failed)
    fn.do("ret ptr null")
    fn.start(made)
    up = fn.emit(f"add i64 {start}, {HUGE_PAGE - 1}")
    before = fn.emit(f"sub i64 {fn.emit(f'and i64 {up}, {-HUGE_PAGE}')}, {start}")
    block = fn.offset(got, before)
    behind = fn.emit(f"sub i64 {HUGE_PAGE}, {before}")
    for part, length in ((got, before), (fn.offset(block, "%size"), behind)):
        _unmap(fn, part, length)
    if system.advice is not None:
        advise = module.declare("madvise", "i32", "ptr, i64, i32")
        length = fn.emit(f"and i64 %size, {-HUGE_PAGE}")
        fn.call("i32", advise, ("ptr", block), ("i64", length), ("i32", str(system.advice)))
    fn.do(f"ret ptr {block}")
    fn.define()


def _unmap(fn: FunctionWriter, part: str, length: str) -> None:
    """Give pages back, if there are any."""
    callee = fn.module.declare("munmap", "i32", "ptr, i64")

    def give() -> None:
        fn.call("i32", callee, ("ptr", part), ("i64", length))

    fn.if_(fn.emit(f"icmp sgt i64 {length}, 0"), give)


def _alloc(module: ModuleWriter) -> None:
    """``alloc(size)``: ``size`` bytes, aligned to 64; null where memory ran out."""
    fn = FunctionWriter(module, "stepforge_alloc", "ptr", [("i64", "size")])
    large, small, some, none = (fn.label(n) for n in ("large", "small", "some", "none"))
    found, fresh, ready = fn.label("found"), fn.label("fresh"), fn.label("ready")
    fn.branch_if(fn.emit(f"icmp sge i64 %size, {LARGE}"), large, small)
    fn.start(small)
    up = fn.emit(f"add i64 %size, {OFFSET + 64}")  # never 0 bytes
    padded = fn.emit(f"and i64 {up}, -64")
    make = module.declare("aligned_alloc", "ptr", "i64, i64")
    little = fn.call("ptr", make, ("i64", "64"), ("i64", padded))
    fn.branch(ready)
    fn.start(large)
    wanted = fn.emit(f"add i64 %size, {OFFSET + GRANULE - 1}")
    capacity = fn.emit(f"and i64 {wanted}, {-GRANULE}")
    waiting = fn.call("ptr", "@large_take", ("i64", capacity))
    fn.branch_if(fn.emit(f"icmp ne ptr {waiting}, null"), found, fresh)
    fn.start(found)
    fn.store("i64", "%size", waiting, ASKED)
    fn.do(f"ret ptr {fn.offset(waiting, OFFSET)}")
    fn.start(fresh)
    new = fn.call("ptr", "@large_fresh", ("i64", capacity))
    fn.branch(ready)
    fn.start(ready)
    block = fn.phi("ptr", (little, small), (new, fresh))
    kept = fn.phi("i64", ("0", small), (capacity, fresh))
    fn.branch_if(fn.emit(f"icmp ne ptr {block}, null"), some, none)
    fn.start(none)
    fn.do("ret ptr null")
    fn.start(some)
    fn.store("i64", kept, block)
    fn.store("i64", "%size", block, ASKED)
    fn.do(f"ret ptr {fn.offset(block, OFFSET)}")
    fn.define()


def _free(module: ModuleWriter) -> None:
    """``free(pointer)``; null is nothing."""
    fn = FunctionWriter(module, "stepforge_free", "void", [("ptr", "pointer")])
    some, none, large, small = (fn.label(n) for n in ("some", "none", "large", "small"))
    fn.branch_if(fn.emit("icmp eq ptr %pointer, null"), none, some)
    fn.start(some)
    block = fn.offset("%pointer", -OFFSET)
    fn.branch_if(fn.emit(f"icmp ne i64 {fn.load('i64', block)}, 0"), large, small)
    fn.start(large)
    fn.call("void", "@large_put", ("ptr", block))
    fn.branch(none)
    fn.start(small)
    fn.call("void", module.declare("free", "void", "ptr"), ("ptr", block))
    fn.branch(none)
    fn.start(none)
    fn.do("ret void")
    fn.define()


# ---- what NumPy calls ---------------------------------------------------------------------------


def _array_functions(module: ModuleWriter) -> None:
    """``malloc calloc realloc free`` as NumPy's handlers have them: a context comes first."""
    fn = FunctionWriter(
        module, "stepforge_array_malloc", "ptr", [("ptr", "context"), ("i64", "size")]
    )
    fn.do(f"ret ptr {fn.call('ptr', '@stepforge_alloc', ('i64', '%size'))}")
    fn.define()
    fn = FunctionWriter(
        module,
        "stepforge_array_free",
        "void",
        [("ptr", "context"), ("ptr", "pointer"), ("i64", "size")],
    )
    fn.call("void", "@stepforge_free", ("ptr", "%pointer"))
    fn.do("ret void")
    fn.define()
    _calloc(module)
    _realloc(module)


def _calloc(module: ModuleWriter) -> None:
    params = [("ptr", "context"), ("i64", "count"), ("i64", "item")]
    fn = FunctionWriter(module, "stepforge_array_calloc", "ptr", params)
    size = fn.emit("mul i64 %count, %item")  # NumPy has made sure that it does not overflow
    made = fn.call("ptr", "@stepforge_alloc", ("i64", size))
    clear = module.declare("llvm.memset.p0.i64", "void", "ptr, i8, i64, i1")
    arguments = [("ptr", made), ("i8", "0"), ("i64", size), ("i1", "false")]

    def fill() -> None:
        fn.call("void", clear, *arguments)

    fn.if_(fn.emit(f"icmp ne ptr {made}, null"), fill)
    fn.do(f"ret ptr {made}")
    fn.define()


def _realloc(module: ModuleWriter) -> None:
    """Always another block: what grows here is large, and seldom."""
    params = [("ptr", "context"), ("ptr", "pointer"), ("i64", "size")]
    fn = FunctionWriter(module, "stepforge_array_realloc", "ptr", params)
    made = fn.call("ptr", "@stepforge_alloc", ("i64", "%size"))
    good = fn.emit(f"icmp ne ptr {made}, null")
    had = fn.emit("icmp ne ptr %pointer, null")

    def move() -> None:
        old = fn.load("i64", fn.offset("%pointer", ASKED - OFFSET))
        length = fn.intrinsic("smin", "i64", "i64", "%size", old)
        copy = module.declare("llvm.memcpy.p0.p0.i64", "void", "ptr, ptr, i64, i1")
        fn.call("void", copy, ("ptr", made), ("ptr", "%pointer"), ("i64", length), ("i1", "false"))
        fn.call("void", "@stepforge_free", ("ptr", "%pointer"))

    fn.if_(fn.emit(f"and i1 {good}, {had}"), move)
    fn.do(f"ret ptr {made}")
    fn.define()
