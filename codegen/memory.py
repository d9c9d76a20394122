"""Memory that outlives a kernel's stack: the arena of a step and the buffers of variables, as LLVM.

The arena is one block that the step keeps between calls: a call takes it by an atomic exchange, so
that a second call at the same time finds nothing and allocates its own. A variable's next value
goes into its spare buffer, which ``commit_slot`` swaps in; the old buffer is the next spare, never
freed while somebody may still read it.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepforge.codegen import signature as abi
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter

# A block of the arena starts with its size; what the kernel gets begins one cache line later.
HEADER = 64
# Behind what the entry knows of a slot: the spare buffer, its size, and buffers that are too small
# now.
SLOT_SPARE, SLOT_SPARE_BYTES, SLOT_RETIRED, SLOT_ALL_BYTES = 48, 56, 64, 128


def take_arena(fn: FunctionWriter, table: str, size: str) -> str:
    """At least ``size`` bytes, aligned to 64; null where memory ran out."""
    callee = fn.module.helper("take_arena", lambda: _take_arena(fn.module))
    return fn.call("ptr", callee, ("ptr", table), ("i64", size))


def release_arena(fn: FunctionWriter, table: str, arena: str) -> None:
    """Give back what ``take_arena`` gave (null is nothing)."""
    callee = fn.module.helper("release_arena", lambda: _release_arena(fn.module))
    fn.call("void", callee, ("ptr", table), ("ptr", arena))


def new_slot(fn: FunctionWriter, slot: str, table: str, size: str) -> str:
    """The spare buffer of a variable with room for ``size`` bytes; null where memory ran out."""
    callee = fn.module.helper("new_slot", lambda: _new_slot(fn.module))
    return fn.call("ptr", callee, ("ptr", slot), ("ptr", table), ("i64", size))


def commit_slot(fn: FunctionWriter, slot: str, shape: Sequence[str]) -> None:
    """Make the spare buffer the variable's value, with the sizes ``shape`` (i64 texts)."""
    data, spare = fn.load("ptr", slot, abi.SLOT_DATA), fn.load("ptr", slot, SLOT_SPARE)
    capacity = fn.load("i64", slot, abi.SLOT_CAPACITY)
    spare_capacity = fn.load("i64", slot, SLOT_SPARE_BYTES)
    fn.store("ptr", spare, slot, abi.SLOT_DATA)
    fn.store("ptr", data, slot, SLOT_SPARE)
    fn.store("i64", spare_capacity, slot, abi.SLOT_CAPACITY)
    fn.store("i64", capacity, slot, SLOT_SPARE_BYTES)
    dims = fn.load("ptr", slot, abi.SLOT_DIMS)
    for axis, size in enumerate(shape):
        fn.store("i64", size, dims, 8 * axis)
    fn.store("i32", str(len(shape)), slot, abi.SLOT_RANK)
    flags = fn.load("i32", slot, abi.SLOT_FLAGS)
    fn.store("i32", fn.emit(f"or i32 {flags}, 1"), slot, abi.SLOT_FLAGS)
    version = fn.load("i64", slot, abi.SLOT_VERSION)
    fn.store("i64", fn.emit(f"add i64 {version}, 1"), slot, abi.SLOT_VERSION)


def allocate(fn: FunctionWriter, table: str, size: str) -> str:
    """``size`` bytes, aligned to 64; null where memory ran out."""
    callee = fn.load("ptr", table, 8 * abi.TABLE_ALLOC)
    return fn.call("ptr", callee, ("i64", size))


def _take_arena(module: ModuleWriter) -> str:
    fn = FunctionWriter(
        module,
        "take_arena",
        "ptr",
        [("ptr", "table"), ("i64", "size")],
        linkage="internal",
        attributes="noinline",
    )
    cell = fn.load("ptr", "%table", 8 * abi.TABLE_ARENA)
    kept = fn.emit(f"atomicrmw xchg ptr {cell}, ptr null acquire")
    some, none = fn.label("some"), fn.label("none")
    enough, small = fn.label("enough"), fn.label("small")
    fn.branch_if(fn.emit(f"icmp eq ptr {kept}, null"), none, some)
    fn.start(some)
    fn.branch_if(fn.emit(f"icmp sge i64 {fn.load('i64', kept)}, %size"), enough, small)
    fn.start(enough)
    fn.do(f"ret ptr {fn.offset(kept, HEADER)}")
    fn.start(small)
    fn.call("void", fn.load("ptr", "%table", 8 * abi.TABLE_FREE), ("ptr", kept))
    fn.branch(none)
    fn.start(none)
    block = allocate(fn, "%table", fn.emit(f"add i64 %size, {HEADER}"))
    failed, made = fn.label("failed"), fn.label("made")
    fn.branch_if(fn.emit(f"icmp eq ptr {block}, null"), failed, made)
    fn.start(failed)
    fn.do("ret ptr null")
    fn.start(made)
    fn.store("i64", "%size", block)
    fn.do(f"ret ptr {fn.offset(block, HEADER)}")
    return fn.finish()


def _release_arena(module: ModuleWriter) -> str:
    fn = FunctionWriter(
        module,
        "release_arena",
        "void",
        [("ptr", "table"), ("ptr", "arena")],
        linkage="internal",
        attributes="noinline",
    )
    nothing, some, out = fn.label("nothing"), fn.label("some"), fn.label("displaced")
    fn.branch_if(fn.emit("icmp eq ptr %arena, null"), nothing, some)
    fn.start(some)
    cell = fn.load("ptr", "%table", 8 * abi.TABLE_ARENA)
    block = fn.offset("%arena", -HEADER)
    other = fn.emit(f"atomicrmw xchg ptr {cell}, ptr {block} release")
    fn.branch_if(fn.emit(f"icmp eq ptr {other}, null"), nothing, out)
    fn.start(out)
    fn.call("void", fn.load("ptr", "%table", 8 * abi.TABLE_FREE), ("ptr", other))
    fn.branch(nothing)
    fn.start(nothing)
    fn.do("ret void")
    return fn.finish()


def _new_slot(module: ModuleWriter) -> str:
    """Grow the spare by its own size at least: what was retired stays below what is in use."""
    fn = FunctionWriter(
        module,
        "new_slot",
        "ptr",
        [("ptr", "slot"), ("ptr", "table"), ("i64", "size")],
        linkage="internal",
        attributes="noinline",
    )
    spare = fn.load("ptr", "%slot", SLOT_SPARE)
    have = fn.load("i64", "%slot", SLOT_SPARE_BYTES)
    small = fn.emit(f"icmp slt i64 {have}, %size")
    lacking = fn.emit(f"or i1 {small}, {fn.emit(f'icmp eq ptr {spare}, null')}")
    grow, enough = fn.label("grow"), fn.label("enough")
    fn.branch_if(lacking, grow, enough)
    fn.start(enough)
    fn.do(f"ret ptr {spare}")
    fn.start(grow)
    wanted = fn.intrinsic("smax", "i64", "i64", "%size", fn.emit(f"shl i64 {have}, 1"))
    wanted = fn.intrinsic("smax", "i64", "i64", wanted, "64")
    block = allocate(fn, "%table", wanted)
    failed, made, retire, done = (fn.label(n) for n in ("failed", "made", "retire", "done"))
    fn.branch_if(fn.emit(f"icmp eq ptr {block}, null"), failed, made)
    fn.start(failed)
    fn.do("ret ptr null")
    fn.start(made)
    fn.store("ptr", block, "%slot", SLOT_SPARE)
    fn.store("i64", wanted, "%slot", SLOT_SPARE_BYTES)
    fn.branch_if(fn.emit(f"icmp eq ptr {spare}, null"), done, retire)
    fn.start(retire)
    fn.store("ptr", fn.load("ptr", "%slot", SLOT_RETIRED), spare)
    fn.store("ptr", spare, "%slot", SLOT_RETIRED)
    fn.branch(done)
    fn.start(done)
    fn.do(f"ret ptr {block}")
    return fn.finish()
