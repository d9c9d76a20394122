"""A pool of threads for loops whose turns are independent, as LLVM text.

One pool serves the process. Its threads are Python threads that were sent into ``stepforge_worker``
and never come back. A caller publishes a job by raising the generation; workers that see it take
chunks by an atomic counter, and so does the caller, who waits for those only that have joined: a
worker that wakes up late finds the job closed. Workers spin for a while before they sleep, so that
a step that calls again soon wakes nobody. A caller that finds the pool busy runs all turns itself.
"""

from __future__ import annotations

from stepforge.codegen.llvm import FunctionWriter, ModuleWriter
from stepforge.codegen.sharing import chunk_turns

# The pool's memory: i64 cells, one cache line apart where several threads write them.
GENERATION, NEXT, JOINED, BUSY, SLEEPERS, SEMAPHORE = 0, 64, 128, 192, 256, 320
JOB, ARGUMENTS, LOW, HIGH, CHUNK, OPEN = 384, 392, 400, 408, 416, 424
POOL_BYTES = 448
SPINS = 20_000  # looks at the generation before a worker sleeps: some 50 us


FUNCTIONS = {
    "stepforge_pool_init": ("void", "ptr"),
    "stepforge_worker": ("void", "ptr"),
    "stepforge_parallel_for": ("void", "ptr, ptr, ptr, i64, i64, i64, i64"),
}


def emit(module: ModuleWriter) -> None:
    """Define ``stepforge_pool_init(pool)``, first, on zeros; ``stepforge_worker(pool)``;
    and ``stepforge_parallel_for(pool, job, arguments, low, high, work, least)``, where
    ``job(arguments, first, behind)`` runs the turns of a range.
    """
    _init(module)
    _chunks(module)
    _worker(module)
    _parallel_for(module)


def _atomic_load(fn: FunctionWriter, offset: int) -> str:
    return fn.emit(f"load atomic i64, ptr {fn.offset('%pool', offset)} seq_cst, align 8")


def _atomic_store(fn: FunctionWriter, value: int, offset: int) -> None:
    fn.do(f"store atomic i64 {value}, ptr {fn.offset('%pool', offset)} seq_cst, align 8")


def _atomic_add(fn: FunctionWriter, offset: int, by: int) -> str:
    """Add and return the value before."""
    return fn.emit(f"atomicrmw add ptr {fn.offset('%pool', offset)}, i64 {by} seq_cst")


def _init(module: ModuleWriter) -> None:
    fn = FunctionWriter(module, "stepforge_pool_init", "void", [("ptr", "pool")])
    callee = module.declare("sem_init", "i32", "ptr, i32, i32")
    fn.call("i32", callee, ("ptr", fn.offset("%pool", SEMAPHORE)), ("i32", "0"), ("i32", "0"))
    fn.do("ret void")
    fn.define()


def _chunks(module: ModuleWriter) -> None:
    """Run chunks of the present job until none is left."""
    fn = FunctionWriter(
        module, "stepforge_chunks", "void", [("ptr", "pool")], linkage="internal"
    )
    job = fn.load("ptr", "%pool", JOB)
    arguments = fn.load("ptr", "%pool", ARGUMENTS)
    low, high, size = (fn.load("i64", "%pool", cell) for cell in (LOW, HIGH, CHUNK))
    again, run, out = fn.label("again"), fn.label("run"), fn.label("out")
    fn.branch(again)
    fn.start(again)
    first = fn.emit(f"add i64 {low}, {fn.emit(f'mul i64 {_atomic_add(fn, NEXT, 1)}, {size}')}")
    fn.branch_if(fn.emit(f"icmp slt i64 {first}, {high}"), run, out)
    fn.start(run)
    end = fn.emit(f"add i64 {first}, {size}")
    behind = fn.emit(f"select i1 {fn.emit(f'icmp slt i64 {end}, {high}')}, i64 {end}, i64 {high}")
    fn.call("void", job, ("ptr", arguments), ("i64", first), ("i64", behind))
    fn.branch(again)
    fn.start(out)
    fn.do("ret void")
    fn.define()


def _worker(module: ModuleWriter) -> None:
    """Wait for a new generation, join its job unless that is closed, leave it, for ever."""
    fn = FunctionWriter(module, "stepforge_worker", "void", [("ptr", "pool")])
    wait, look, rest, sleep, work = (fn.label(n) for n in ("wait", "look", "rest", "sleep", "work"))
    seen = fn.alloca("i64")
    fn.store("i64", "0", seen)
    tries = fn.alloca("i64")
    fn.branch(wait)
    fn.start(wait)
    fn.store("i64", "0", tries)
    fn.branch(look)
    fn.start(look)
    now = _atomic_load(fn, GENERATION)
    fn.branch_if(fn.emit(f"icmp ne i64 {now}, {fn.load('i64', seen)}"), work, rest)
    fn.start(rest)
    more = fn.emit(f"add i64 {fn.load('i64', tries)}, 1")
    fn.store("i64", more, tries)
    fn.branch_if(fn.emit(f"icmp slt i64 {more}, {SPINS}"), look, sleep)
    fn.start(sleep)
    _sleep(fn, seen)
    fn.branch(wait)
    fn.start(work)
    fn.store("i64", now, seen)
    # It joins and then looks; the caller closes and then counts. One of them sees the other.
    _atomic_add(fn, JOINED, 1)
    is_open = fn.emit(f"icmp ne i64 {_atomic_load(fn, OPEN)}, 0")
    fn.if_(is_open, lambda: fn.do("call void @stepforge_chunks(ptr %pool)"))
    _atomic_add(fn, JOINED, -1)
    fn.branch(wait)
    fn.define()


def _sleep(fn: FunctionWriter, seen: str) -> None:
    """Sleep unless a generation came up meanwhile; the caller wakes as many as it counts."""
    _atomic_add(fn, SLEEPERS, 1)
    now = _atomic_load(fn, GENERATION)
    callee = fn.module.declare("sem_wait", "i32", "ptr")

    def wait() -> None:
        fn.call("i32", callee, ("ptr", fn.offset("%pool", SEMAPHORE)))

    fn.if_(fn.emit(f"icmp eq i64 {now}, {fn.load('i64', seen)}"), wait)
    _atomic_add(fn, SLEEPERS, -1)


def _parallel_for(module: ModuleWriter) -> None:
    params = [("ptr", name) for name in ("pool", "job", "arguments")]
    params += [("i64", name) for name in ("low", "high", "work", "least")]
    fn = FunctionWriter(module, "stepforge_parallel_for", "void", params)
    busy = fn.offset("%pool", BUSY)
    pair = fn.emit(f"cmpxchg ptr {busy}, i64 0, i64 1 acq_rel monotonic, align 8")
    mine, alone = fn.label("mine"), fn.label("alone")
    fn.branch_if(fn.emit(f"extractvalue {{ i64, i1 }} {pair}, 1"), mine, alone)
    fn.start(alone)
    fn.call("void", "%job", ("ptr", "%arguments"), ("i64", "%low"), ("i64", "%high"))
    fn.do("ret void")
    fn.start(mine)
    fn.store("ptr", "%job", "%pool", JOB)
    fn.store("ptr", "%arguments", "%pool", ARGUMENTS)
    for cell, size in ((LOW, "%low"), (HIGH, "%high"), (CHUNK, chunk_turns(fn))):
        fn.store("i64", size, "%pool", cell)
    fn.store("i64", "0", "%pool", NEXT)
    _atomic_store(fn, 1, OPEN)
    _atomic_add(fn, GENERATION, 1)
    post = module.declare("sem_post", "i32", "ptr")

    def wake(_: str) -> None:
        fn.call("i32", post, ("ptr", fn.offset("%pool", SEMAPHORE)))

    fn.loop("0", _atomic_load(fn, SLEEPERS), wake)
    fn.call("void", "@stepforge_chunks", ("ptr", "%pool"))
    _atomic_store(fn, 0, OPEN)
    _wait_for_all(fn)
    _atomic_store(fn, 0, BUSY)
    fn.do("ret void")
    fn.define()


def _wait_for_all(fn: FunctionWriter) -> None:
    """Until every worker that joined has left the job: its memory is the caller's stack."""
    look, rest, out = fn.label("look"), fn.label("rest"), fn.label("all")
    fn.branch(look)
    fn.start(look)
    fn.branch_if(fn.emit(f"icmp eq i64 {_atomic_load(fn, JOINED)}, 0"), out, rest)
    fn.start(rest)
    fn.call("i32", fn.module.declare("sched_yield", "i32", ""))
    fn.branch(look)
    fn.start(out)
