"""A pool of threads for loops whose turns are independent, in LLVM.

One pool serves the process. Its threads are Python threads that were sent into ``stepforge_worker``
and never come back; the first loop that is worth it has them started. A caller publishes a job by
raising the generation; workers that see it take chunks by an atomic counter, and so does the
caller. Workers spin for a while before they sleep, so that a step that calls again soon wakes
nobody. A caller that finds the pool busy runs its chunks itself.
"""

from __future__ import annotations

from stepforge.codegen.llvm import FunctionWriter, ModuleWriter

# The pool's memory: i64 cells, one cache line apart where several threads write them.
GENERATION, NEXT, LEFT, BUSY, SLEEPERS, SEMAPHORE = 0, 64, 128, 192, 256, 320
JOB, ARGUMENTS, COUNT, WORKERS = 384, 392, 400, 408
START, READY = 416, 424  # what starts the workers, null once it was called; those in native code
POOL_BYTES = 448
SPINS = 20_000  # looks at the generation before a worker sleeps: some 50 us


FUNCTIONS = ("stepforge_pool_init", "stepforge_worker", "stepforge_parallel_for")


def write(module: ModuleWriter) -> None:
    """Define ``FUNCTIONS``: of (pool, start), of (pool), and of (pool, job, arguments, count).

    ``start()`` starts the workers and sets their number. ``job(arguments, i)`` runs chunk ``i``.
    ``stepforge_pool_init`` comes first.
    """
    _init(module)
    _chunks(module)
    _worker(module)
    _parallel_for(module)


def _atomic_load(fn: FunctionWriter, offset: int) -> str:
    return fn.emit(f"load atomic i64, ptr {fn.offset('%pool', offset)} acquire, align 8")


def _atomic_add(fn: FunctionWriter, offset: int, by: int) -> str:
    """Add and return the value before."""
    return fn.emit(f"atomicrmw add ptr {fn.offset('%pool', offset)}, i64 {by} acq_rel")


def _init(module: ModuleWriter) -> None:
    fn = FunctionWriter(
        module, "stepforge_pool_init", "void", [("ptr", "pool"), ("ptr", "start")]
    )
    callee = module.declare("sem_init", "i32", "ptr, i32, i32")
    fn.call("i32", callee, ("ptr", fn.offset("%pool", SEMAPHORE)), ("i32", "0"), ("i32", "0"))
    fn.store("ptr", "%start", "%pool", START)
    fn.do("ret void")
    fn.define()


def _chunks(module: ModuleWriter) -> None:
    """Run chunks of the present job until none is left."""
    fn = FunctionWriter(
        module, "stepforge_chunks", "void", [("ptr", "pool")], linkage="internal"
    )
    job = fn.load("ptr", "%pool", JOB)
    arguments = fn.load("ptr", "%pool", ARGUMENTS)
    count = fn.load("i64", "%pool", COUNT)
    again, run, out = fn.label("again"), fn.label("run"), fn.label("out")
    fn.branch(again)
    fn.start(again)
    chunk = _atomic_add(fn, NEXT, 1)
    fn.branch_if(fn.emit(f"icmp slt i64 {chunk}, {count}"), run, out)
    fn.start(run)
    fn.call("void", job, ("ptr", arguments), ("i64", chunk))
    fn.branch(again)
    fn.start(out)
    fn.do("ret void")
    fn.define()


def _worker(module: ModuleWriter) -> None:
    """Wait for a new generation, work, say that it is done, for ever."""
    fn = FunctionWriter(module, "stepforge_worker", "void", [("ptr", "pool")])
    wait, look, rest, sleep, work = (fn.label(n) for n in ("wait", "look", "rest", "sleep", "work"))
    _atomic_add(fn, READY, 1)
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
    fn.call("void", "@stepforge_chunks", ("ptr", "%pool"))
    _atomic_add(fn, LEFT, -1)
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
    params = [("ptr", "pool"), ("ptr", "job"), ("ptr", "arguments"), ("i64", "count")]
    fn = FunctionWriter(module, "stepforge_parallel_for", "void", params)
    busy = fn.offset("%pool", BUSY)
    pair = fn.emit(f"cmpxchg ptr {busy}, i64 0, i64 1 acq_rel monotonic, align 8")
    mine, alone = fn.label("mine"), fn.label("alone")
    fn.branch_if(fn.emit(f"extractvalue {{ i64, i1 }} {pair}, 1"), mine, alone)
    fn.start(alone)

    def run(chunk: str) -> None:
        fn.call("void", "%job", ("ptr", "%arguments"), ("i64", chunk))

    fn.loop("0", "%count", run)
    fn.do("ret void")
    fn.start(mine)
    start = fn.load("ptr", "%pool", START)

    def begin() -> None:
        fn.store("ptr", "null", "%pool", START)
        fn.call("void", start)

    fn.if_(fn.emit(f"icmp ne ptr {start}, null"), begin)
    fn.store("ptr", "%job", "%pool", JOB)
    fn.store("ptr", "%arguments", "%pool", ARGUMENTS)
    fn.store("i64", "%count", "%pool", COUNT)
    fn.store("i64", "0", "%pool", NEXT)
    fn.store("i64", fn.load("i64", "%pool", WORKERS), "%pool", LEFT)
    _atomic_add(fn, GENERATION, 1)
    post = module.declare("sem_post", "i32", "ptr")

    def wake(_: str) -> None:
        fn.call("i32", post, ("ptr", fn.offset("%pool", SEMAPHORE)))

    fn.loop("0", _atomic_load(fn, SLEEPERS), wake)
    fn.call("void", "@stepforge_chunks", ("ptr", "%pool"))
    _wait_for_all(fn)
    fn.do(f"store atomic i64 0, ptr {busy} release, align 8")
    fn.do("ret void")
    fn.define()


def _wait_for_all(fn: FunctionWriter) -> None:
    """Until every worker has left the job: its memory is the caller's stack."""
    look, rest, out = fn.label("look"), fn.label("rest"), fn.label("all")
    fn.branch(look)
    fn.start(look)
    left = _atomic_load(fn, LEFT)
    fn.branch_if(fn.emit(f"icmp sle i64 {left}, 0"), out, rest)
    fn.start(rest)
    fn.call("i32", fn.module.declare("sched_yield", "i32", ""))
    fn.branch(look)
    fn.start(out)
