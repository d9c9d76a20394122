"""The entry of a step: native code that *is* the Python callable.

``entry`` checks its arguments by field loads, reads the sizes, takes outputs from NumPy, runs the
kernel and boxes what it left. What it refuses goes on to the entry of the next table, at last to
``program.miss``; what fails goes to ``program.fail``. It finds its program through ``self`` and all
else through its table, so its code names no object of a process and can be kept on disk.
"""

from __future__ import annotations

from stepforge.codegen.dims import emit_dim
from stepforge.codegen.entry_feeds import FeedWriter
from stepforge.codegen.entry_results import ResultWriter
from stepforge.codegen.entry_support import COUNT_MASK, VECTORCALL, declare, decrease
from stepforge.codegen.llvm import LIKELY, FunctionWriter, ModuleWriter
from stepforge.codegen.signature import (
    CONTEXT_ARENA,
    CONTEXT_BYTES,
    CONTEXT_CODE,
    CONTEXT_EXCEPTION,
    CONTEXT_FRAME,
    CONTEXT_TABLE,
    CONTEXT_THREAD_STATE,
    GIL_RELEASE_WORK,
    TABLE_ENTRY,
    TABLE_LOCK,
    TABLE_NEXT,
    Signature,
)

ENTRY_PARAMS = (*VECTORCALL, ("ptr", "table"))


def emit_entry(module: ModuleWriter, signature: Signature, kernel: str) -> str:
    """Write ``ptr @entry(ptr self, ptr args, i64 nargsf, ptr kwnames, ptr table)``, a vectorcall
    that gets the step's table as well; return ``@entry``.

    ``kernel`` is the name of ``i32 kernel(ptr ctx, ptr feeds, ptr outs, ptr dims)`` in the module.
    """
    body = FunctionWriter(module, "entry", "ptr", ENTRY_PARAMS)
    _Entry(body, signature, kernel if kernel.startswith("@") else f"@{kernel}").write()
    return body.define()


class _Entry:
    """One entry under construction: its stack memory, its labels, and its parts in order."""

    def __init__(self, fn: FunctionWriter, signature: Signature, kernel: str) -> None:
        self.fn = fn
        self.signature = signature
        self.kernel = kernel
        self.table = "%table"
        self.context = fn.alloca("i8", CONTEXT_BYTES)
        self.pointers = fn.alloca("ptr", max(len(signature.feeds) + len(signature.slots), 1))
        self.outs = fn.alloca("ptr", max(len(signature.fetches), 1))
        self.objects = fn.alloca("ptr", max(len(signature.fetches), 1))
        self.refused, self.miss = fn.label("refused"), fn.label("miss")
        self.no_memory, self.failed = fn.label("nomemory"), fn.label("failed")
        self.unboxed, self.stopped = fn.label("unboxed"), fn.label("stopped")

    def write(self) -> None:
        """The whole body."""
        fn = self.fn
        self._check_count()
        self._make_frame()
        self._lock()
        feeds = FeedWriter(fn, self.signature, self.table, self.miss, self.pointers)
        feeds.write()
        results = ResultWriter(
            fn, self.signature, self.pointers, self.outs, self.objects, feeds.sizes
        )
        results.allocate(self.no_memory)
        status = self._run(feeds.sizes)
        results.take_objects()
        feeds.release(usual=True)
        self._drop_frame()
        good = fn.label("good")
        fn.branch_if(fn.emit(f"icmp eq i32 {status}, 0"), good, self.failed, LIKELY)
        fn.start(good)
        fn.do(f"ret ptr {results.collect(self.unboxed)}")
        self._write_exits(feeds, results)

    # ---- before the feeds -----------------------------------------------------------------------

    def _check_count(self) -> None:
        fn = self.fn
        count = fn.emit(f"and i64 %nargsf, {COUNT_MASK}")
        enough = fn.emit(f"icmp eq i64 {count}, {len(self.signature.feeds)}")
        plain = fn.emit("icmp eq ptr %kwnames, null")
        ready = fn.label("ready")
        fn.branch_if(fn.emit(f"and i1 {enough}, {plain}"), ready, self.refused, LIKELY)
        fn.start(ready)

    def _make_frame(self) -> None:
        """The list that a kernel with host calls keeps its Python objects in."""
        fn = self.fn
        self.frame = "null"
        if self.signature.python:
            make = fn.module.declare("PyList_New", "ptr", "i64")
            self.frame = fn.call("ptr", make, ("i64", "0"))
            made = fn.label("made")
            fn.branch_if(fn.emit(f"icmp ne ptr {self.frame}, null"), made, self.stopped, LIKELY)
            fn.start(made)

    def _drop_frame(self) -> None:
        if self.signature.python:
            decrease(self.fn, self.frame)

    def _lock(self) -> None:
        """Take the writer lock before anything is looked at: waiting for it gives the GIL away."""
        if self.signature.locks:
            fn = self.fn
            lock = declare(fn.module, "stepforge_lock")
            status = fn.call("i32", lock, ("ptr", fn.load("ptr", self.table, 8 * TABLE_LOCK)))
            locked, interrupted = fn.label("locked"), fn.label("interrupted")
            fn.branch_if(fn.emit(f"icmp eq i32 {status}, 0"), locked, interrupted, LIKELY)
            fn.start(interrupted)
            self._drop_frame()
            fn.branch(self.stopped)
            fn.start(locked)

    def _unlock(self) -> None:
        if self.signature.locks:
            unlock = declare(self.fn.module, "stepforge_unlock")
            self.fn.call("void", unlock, ("ptr", self.fn.load("ptr", self.table, 8 * TABLE_LOCK)))

    # ---- the kernel -----------------------------------------------------------------------------

    def _run(self, sizes: dict[str, str]) -> str:
        """Call the kernel, without the GIL where it is worth while; its status."""
        fn = self.fn
        values = fn.alloca("i64", max(len(self.signature.sizes), 1))
        for index, name in enumerate(self.signature.sizes):
            fn.store("i64", sizes[name], values, 8 * index)
        context = {
            CONTEXT_TABLE: self.table,
            CONTEXT_ARENA: "null",
            CONTEXT_FRAME: self.frame,
            CONTEXT_THREAD_STATE: "null",
            CONTEXT_EXCEPTION: "null",
        }
        for offset, value in context.items():
            fn.store("ptr", value, self.context, offset)
        released = self._release_gil(emit_dim(fn, self.signature.work, sizes))
        pointers = (self.context, self.pointers, self.outs, values)
        status = fn.call("i32", self.kernel, *(("ptr", pointer) for pointer in pointers))
        fn.store("i32", status, self.context, CONTEXT_CODE)
        self._unlock()
        if released:
            state = fn.load("ptr", self.context, CONTEXT_THREAD_STATE)
            fn.if_(fn.emit(f"icmp ne ptr {state}, null"), lambda: self._take_gil(state))
        return status

    def _release_gil(self, work: str) -> bool:
        """Give the GIL away for long work; False where the work is known to be short."""
        if not isinstance(self.signature.work, int):
            long = self.fn.emit(f"icmp sgt i64 {work}, {GIL_RELEASE_WORK}")
            self.fn.if_(long, self._give_gil)
            return True
        if self.signature.work > GIL_RELEASE_WORK:
            self._give_gil()
        return self.signature.work > GIL_RELEASE_WORK

    def _give_gil(self) -> None:
        self._each_feed("stepforge_hold")
        save = self.fn.module.declare("PyEval_SaveThread", "ptr", "")
        self.fn.store("ptr", self.fn.call("ptr", save), self.context, CONTEXT_THREAD_STATE)

    def _take_gil(self, state: str) -> None:
        restore = self.fn.module.declare("PyEval_RestoreThread", "void", "ptr")
        self.fn.call("void", restore, ("ptr", state))
        self._each_feed("stepforge_drop")

    def _each_feed(self, change: str) -> None:
        """Hold the arguments while the GIL is away: others may drop their references."""
        if self.signature.feeds:
            args = [("ptr", "%args"), ("i64", str(len(self.signature.feeds)))]
            self.fn.call("void", declare(self.fn.module, change), *args)

    # ---- ways out -------------------------------------------------------------------------------

    def _write_exits(self, feeds: FeedWriter, results: ResultWriter) -> None:
        fn = self.fn
        fn.start(self.no_memory)  # Python tries again, and raises what TensorFlow does
        results.drop()
        self._leave(feeds)
        fn.call("void", fn.module.declare("PyErr_Clear", "void", ""))
        fn.branch(self.refused)
        fn.start(self.unboxed)
        results.drop()
        fn.branch(self.stopped)
        fn.start(self.failed)
        results.drop()
        args = [("ptr", "%self"), ("ptr", self.context)]
        fn.do(f"ret ptr {fn.call('ptr', declare(fn.module, 'stepforge_fail'), *args)}")
        fn.start(self.miss)
        self._leave(feeds)
        self._hand_over()
        fn.start(self.refused)
        self._return_call(declare(fn.module, "stepforge_miss"), self.table)
        fn.start(self.stopped)  # with a Python error set
        fn.do("ret ptr null")

    def _hand_over(self) -> None:
        """Let the entry of the next table look at the arguments."""
        following = self.fn.load("ptr", self.table, 8 * TABLE_NEXT)
        self._return_call(self.fn.load("ptr", following, 8 * TABLE_ENTRY), following)

    def _return_call(self, entry: str, table: str) -> None:
        """Return what another entry does with the same arguments."""
        args = [(type_, f"%{name}") for type_, name in VECTORCALL]
        self.fn.do(f"ret ptr {self.fn.call('ptr', entry, *args, ('ptr', table), tail=True)}")

    def _leave(self, feeds: FeedWriter) -> None:
        """Give back what was taken before the kernel ran."""
        feeds.release()
        self._unlock()
        self._drop_frame()
