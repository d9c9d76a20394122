"""The code that all steps share: calls into Python, reference counts, the writer lock, the pool.

It is compiled once for a process and linked to entries by name, so an entry holds nothing but its
own fast path. ``symbols`` resolves everything that an entry or a kernel may name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from stepforge.codegen import (
    feed_support,
    jit,
    large_memory,
    layout,
    slot_support,
    target,
    threads,
)
from stepforge.codegen.conversions import conversions
from stepforge.codegen.llvm import UNLIKELY, FunctionWriter, ModuleWriter
from stepforge.codegen.signature import CONTEXT_EXCEPTION, TABLE_ENTRY

# Offsets in the callable objects of the runtime (Step and Runner agree on the first two).
STEP_VECTORCALL, STEP_PROGRAM, STEP_TABLE, STEP_WEAKREFS, STEP_BYTES = 16, 24, 32, 40, 48

# The parameters of a vectorcall.
VECTORCALL = (("ptr", "self"), ("ptr", "args"), ("i64", "nargsf"), ("ptr", "kwnames"))

LOCK_OWNER, LOCK_DEPTH, LOCK_BYTES = 0, 8, 16

COUNT_MASK = 2**63 - 1  # of a vectorcall's argument count; the top bit is a flag
_ARGUMENTS_OFFSET = -(2**63)
_SPINS, _SLEEP_MICROSECONDS, _SIGNAL_CHECK = 64, 50, 1023

# What entries may call, by name: result type and parameters.
FUNCTIONS = {
    "stepforge_call_method": ("ptr", "ptr, ptr, ptr, i64, ptr"),
    "stepforge_step": ("ptr", "ptr, ptr, i64, ptr"),
    "stepforge_miss": ("ptr", "ptr, ptr, i64, ptr, ptr"),
    "stepforge_fail": ("ptr", "ptr, ptr"),
    "stepforge_pack": ("ptr", "ptr, ptr"),
    "stepforge_drop": ("void", "ptr, i64"),
    "stepforge_hold": ("void", "ptr, i64"),
    "stepforge_lock": ("i32", "ptr"),
    "stepforge_unlock": ("void", "ptr"),
    "stepforge_new_large": ("ptr", feed_support.NEW_ARRAY_PARAMS),
    **feed_support.FUNCTIONS,
    **slot_support.FUNCTIONS,
    **threads.FUNCTIONS,
}


def declare(module: ModuleWriter, name: str) -> str:
    """Declare one of ``FUNCTIONS`` in a module that calls it."""
    returns, params = FUNCTIONS[name]
    return module.declare(name, returns, params)


def symbols(names: Iterable[str]) -> dict[str, int]:
    """Addresses of the names that are known here: CPython, NumPy, shared code, conversions.

    Other names (BLAS, libm) are left out.
    """
    wanted = list(names)
    found = layout.addresses(wanted)
    if "stepforge_conversions" in wanted:
        found["stepforge_conversions"] = conversions().address
    if "array_memory" in wanted:
        found["array_memory"] = id(large_memory.array_handler())
    found |= {name: _library()[name] for name in wanted if name in FUNCTIONS}
    return found


def support_module(host: target.Target) -> ModuleWriter:
    """The shared code."""
    module = ModuleWriter(host.triple, host.attributes)
    for emit in (_call_method, _step, _miss, _fail, _pack, _new_large):
        emit(module)
    for emit in (_hold, _drop, _lock, _wait, _unlock):
        emit(module)
    feed_support.emit(module)
    slot_support.emit(module)
    threads.emit(module)
    return module


@cache
def _library() -> jit.Library:
    """The shared code, compiled and linked, never freed: objects die with its help at exit."""
    module = support_module(target.host())
    # O0 takes 7 ms, where O2 takes 70
    library = jit.build(module.text(), "O0", symbols(module.externals()), FUNCTIONS)
    layout.keep(library)
    return library


# ---- calls of Python methods --------------------------------------------------------------------


def _call_method(module: ModuleWriter) -> None:
    """``object.name(*args, **kwargs)`` from vectorcall arguments, ``count`` by position."""
    params = ["object", "name", "args", "count", "kwnames"]
    fn = FunctionWriter(
        module,
        "stepforge_call_method",
        "ptr",
        [("i64" if p == "count" else "ptr", p) for p in params],
    )
    start, some = fn.block, fn.emit("icmp ne ptr %kwnames, null")
    keywords, ready = fn.label("keywords"), fn.label("ready")
    fn.branch_if(some, keywords, ready)
    fn.start(keywords)
    size = fn.load("i64", "%kwnames", layout.VARIABLE_SIZE)
    fn.branch(ready)
    fn.start(ready)
    total = fn.emit(f"add i64 %count, {fn.phi('i64', ('0', start), (size, keywords))}")
    buffer = fn.emit(f"alloca ptr, i64 {fn.emit(f'add i64 {total}, 2')}, align 8")
    own = fn.offset(buffer, 8)
    fn.store("ptr", "%object", own)
    copy = module.declare("llvm.memcpy.p0.p0.i64", "void", "ptr, ptr, i64, i1")
    length = fn.emit(f"shl i64 {total}, 3")
    fn.call(
        "void", copy, ("ptr", fn.offset(own, 8)), ("ptr", "%args"), ("i64", length), ("i1", "false")
    )
    flagged = fn.emit(f"or i64 {fn.emit('add i64 %count, 1')}, {_ARGUMENTS_OFFSET}")
    call = module.declare("PyObject_VectorcallMethod", "ptr", "ptr, ptr, i64, ptr")
    increase(fn, "%object")  # the method may drop the last other reference
    result = fn.call(
        "ptr", call, ("ptr", "%name"), ("ptr", own), ("i64", flagged), ("ptr", "%kwnames")
    )
    decrease(fn, "%object")
    fn.do(f"ret ptr {result}")
    fn.define()


def call_method(
    fn: FunctionWriter, owner: str, method: str, args: str, count: str, kwnames: str = "null"
) -> str:
    """Emit ``owner.method(*args)``; null where it raises."""
    return fn.call(
        "ptr",
        declare(fn.module, "stepforge_call_method"),
        ("ptr", owner),
        ("ptr", fn.module.extern(f"string_{method}")),
        ("ptr", args),
        ("i64", count),
        ("ptr", kwnames),
    )


def _step(module: ModuleWriter) -> None:
    """The call of a step: the entry of its table."""
    fn = FunctionWriter(module, "stepforge_step", "ptr", VECTORCALL)
    table = fn.load("ptr", "%self", STEP_TABLE)
    entry = fn.load("ptr", table, 8 * TABLE_ENTRY)
    args = [(type_, f"%{name}") for type_, name in VECTORCALL]
    fn.do(f"ret ptr {fn.call('ptr', entry, *args, ('ptr', table), tail=True)}")
    fn.define()


def _miss(module: ModuleWriter) -> None:
    """``program.miss(*args, **kwargs)``: the entry for what native checks refuse."""
    fn = FunctionWriter(module, "stepforge_miss", "ptr", (*VECTORCALL, ("ptr", "table")))
    count = fn.emit(f"and i64 %nargsf, {COUNT_MASK}")
    program = fn.load("ptr", "%self", STEP_PROGRAM)
    fn.do(f"ret ptr {call_method(fn, program, 'miss', '%args', count, '%kwnames')}")
    fn.define()


def _fail(module: ModuleWriter) -> None:
    """``program.fail(address of the context)``, which must raise; drop the context's exception."""
    fn = FunctionWriter(module, "stepforge_fail", "ptr", [("ptr", "self"), ("ptr", "context")])
    cell = fn.alloca("ptr")
    make = module.declare("PyLong_FromVoidPtr", "ptr", "ptr")
    address = fn.call("ptr", make, ("ptr", "%context"))
    fn.store("ptr", address, cell)

    def call() -> None:
        program = fn.load("ptr", "%self", STEP_PROGRAM)
        result = call_method(fn, program, "fail", cell, "1")
        decrease(fn, address)
        fn.if_(fn.emit(f"icmp ne ptr {result}, null"), lambda: did_not_raise(result), UNLIKELY)

    def did_not_raise(result: str) -> None:
        decrease(fn, result)
        fn.call("void", module.declare("PyErr_BadInternalCall", "void", ""))

    fn.if_(fn.emit(f"icmp ne ptr {address}, null"), call)
    decrease(fn, fn.load("ptr", "%context", CONTEXT_EXCEPTION))
    fn.do("ret ptr null")
    fn.define()


def _pack(module: ModuleWriter) -> None:
    """``program.pack(list)``; takes the reference to the list."""
    fn = FunctionWriter(module, "stepforge_pack", "ptr", [("ptr", "self"), ("ptr", "list")])
    cell = fn.alloca("ptr")
    fn.store("ptr", "%list", cell)
    result = call_method(fn, fn.load("ptr", "%self", STEP_PROGRAM), "pack", cell, "1")
    decrease(fn, "%list")
    fn.do(f"ret ptr {result}")
    fn.define()


def _new_large(module: ModuleWriter) -> None:
    """``PyArray_NewFromDescr`` with memory that is used again, see ``large_memory``."""
    types = feed_support.NEW_ARRAY_PARAMS.split(", ")
    params = [(type_, f"p_{number}") for number, type_ in enumerate(types)]
    fn = FunctionWriter(module, "stepforge_new_large", "ptr", params)
    use = module.declare("PyDataMem_SetHandler", "ptr", "ptr")
    before = fn.call("ptr", use, ("ptr", module.extern("array_memory")))

    def give_up() -> None:
        decrease(fn, "%p_1")  # which the array would have taken
        fn.do("ret ptr null")

    _returning(fn, fn.emit(f"icmp eq ptr {before}, null"), give_up)
    make = module.declare("PyArray_NewFromDescr", "ptr", feed_support.NEW_ARRAY_PARAMS)
    made = fn.call("ptr", make, *[(type_, f"%{name}") for type_, name in params])
    decrease(fn, fn.call("ptr", use, ("ptr", before)))
    decrease(fn, before)
    fn.do(f"ret ptr {made}")
    fn.define()


# ---- reference counts ---------------------------------------------------------------------------


def increase(fn: FunctionWriter, value: str) -> None:
    """Emit a new reference to an object."""
    fn.call("void", fn.module.declare("Py_IncRef", "void", "ptr"), ("ptr", value))


def decrease(fn: FunctionWriter, value: str) -> None:
    """Emit the end of a reference; null is let be."""
    fn.call("void", fn.module.declare("Py_DecRef", "void", "ptr"), ("ptr", value))


def _hold(module: ModuleWriter) -> None:
    _each_reference(module, "stepforge_hold", increase)


def _drop(module: ModuleWriter) -> None:
    _each_reference(module, "stepforge_drop", decrease)


def _each_reference(
    module: ModuleWriter, name: str, change: Callable[[FunctionWriter, str], None]
) -> None:
    """A reference more or less to every object of an array."""
    fn = FunctionWriter(module, name, "void", [("ptr", "objects"), ("i64", "count")])
    fn.loop(0, "%count", lambda i: change(fn, fn.load("ptr", fn.offset("%objects", i, "ptr"))))
    fn.do("ret void")
    fn.define()


# ---- the writer lock ----------------------------------------------------------------------------


def _lock(module: ModuleWriter) -> None:
    """Take the lock, again where this thread has it; 0, or -1 where a signal handler raised."""
    fn = FunctionWriter(module, "stepforge_lock", "i32", [("ptr", "lock")])
    own = _thread(fn)
    owner = fn.emit("load atomic i64, ptr %lock monotonic, align 8")

    def again() -> None:
        depth = fn.load("i64", "%lock", LOCK_DEPTH)
        fn.store("i64", fn.emit(f"add i64 {depth}, 1"), "%lock", LOCK_DEPTH)
        fn.do("ret i32 0")

    _returning(fn, fn.emit(f"icmp eq i64 {owner}, {own}"), again)
    _returning(fn, _try(fn, own), lambda: _own(fn))
    wait = fn.call("i32", "@stepforge_wait", ("ptr", "%lock"), ("i64", own))
    fn.do(f"ret i32 {wait}")
    fn.define()


def _wait(module: ModuleWriter) -> None:
    """Wait for the lock without the GIL: spin, then sleep; look for signals now and then."""
    params = [("ptr", "lock"), ("i64", "own")]
    fn = FunctionWriter(
        module, "stepforge_wait", "i32", params, linkage="internal", attributes="noinline"
    )
    state = fn.alloca("ptr")
    _save_thread(fn, state)
    retry = fn.label("retry")
    before = fn.block
    fn.branch(retry)
    fn.start(retry)
    tries = f"%{fn.fresh('tries')}"
    following = fn.fresh("next")
    back = fn.label("back")
    fn.do(f"{tries} = phi i64 [0, %{before}], [%{following}, %{back}]")

    def taken() -> None:
        _restore_thread(fn, state)
        _own(fn)

    _returning(fn, _try(fn, "%own"), taken)
    _pause(fn, tries)
    masked = fn.emit(f"and i64 {tries}, {_SIGNAL_CHECK}")
    fn.if_(fn.emit(f"icmp eq i64 {masked}, {_SIGNAL_CHECK}"), lambda: _check_signals(fn, state))
    fn.branch(back)
    fn.start(back)
    fn.do(f"%{following} = add i64 {tries}, 1")
    fn.branch(retry)
    fn.define()


def _unlock(module: ModuleWriter) -> None:
    fn = FunctionWriter(module, "stepforge_unlock", "void", [("ptr", "lock")])
    depth = fn.emit(f"sub i64 {fn.load('i64', '%lock', LOCK_DEPTH)}, 1")
    fn.store("i64", depth, "%lock", LOCK_DEPTH)
    free = fn.emit(f"icmp eq i64 {depth}, 0")
    fn.if_(free, lambda: fn.do("store atomic i64 0, ptr %lock release, align 8"))
    fn.do("ret void")
    fn.define()


def _returning(fn: FunctionWriter, condition: str, body: Callable[[], None]) -> None:
    """Run ``body``, which returns from the function, where ``condition`` holds."""
    yes, after = fn.label("then"), fn.label("after")
    fn.branch_if(condition, yes, after)
    fn.start(yes)
    body()
    fn.start(after)


def _thread(fn: FunctionWriter) -> str:
    return fn.call("i64", fn.module.declare("PyThread_get_thread_ident", "i64", ""))


def _try(fn: FunctionWriter, own: str) -> str:
    pair = fn.emit(f"cmpxchg ptr %lock, i64 0, i64 {own} acquire monotonic, align 8")
    return fn.emit(f"extractvalue {{ i64, i1 }} {pair}, 1")


def _own(fn: FunctionWriter) -> None:
    fn.store("i64", "1", "%lock", LOCK_DEPTH)
    fn.do("ret i32 0")


def _save_thread(fn: FunctionWriter, state: str) -> None:
    fn.store("ptr", fn.call("ptr", fn.module.declare("PyEval_SaveThread", "ptr", "")), state)


def _restore_thread(fn: FunctionWriter, state: str) -> None:
    restore = fn.module.declare("PyEval_RestoreThread", "void", "ptr")
    fn.call("void", restore, ("ptr", fn.load("ptr", state)))


def _pause(fn: FunctionWriter, tries: str) -> None:
    early, late, after = fn.label("yield"), fn.label("sleep"), fn.label("after")
    fn.branch_if(fn.emit(f"icmp ult i64 {tries}, {_SPINS}"), early, late)
    fn.start(early)
    fn.call("i32", fn.module.declare("sched_yield", "i32", ""))
    fn.branch(after)
    fn.start(late)
    fn.call("i32", fn.module.declare("usleep", "i32", "i32"), ("i32", str(_SLEEP_MICROSECONDS)))
    fn.branch(after)
    fn.start(after)


def _check_signals(fn: FunctionWriter, state: str) -> None:
    _restore_thread(fn, state)
    raised = fn.call("i32", fn.module.declare("PyErr_CheckSignals", "i32", ""))
    _returning(fn, fn.emit(f"icmp ne i32 {raised}, 0"), lambda: fn.do("ret i32 -1"))
    _save_thread(fn, state)
