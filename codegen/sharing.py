"""Functions of a range of independent turns, called for all turns or by chunks on the pool.

How many turns a chunk has depends on the sizes alone, so that results do not depend on threads.
Such a function is a *job*: the caller puts its arguments into memory of its stack, whether the
function is called at once or by other threads, for some turns or for all.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepforge.codegen import signature as abi
from stepforge.codegen.llvm import FunctionWriter
from stepforge.ir.records import record

PARALLEL_WORK = 100_000  # nanoseconds of work that are worth waking other threads
CHUNK_WORK = 25_000  # nanoseconds of a chunk, about
LARGE_CHUNK = 1024  # turns from which on a chunk has a multiple of
ALIGNED_TURNS = 64  # so many: what it writes begins aligned then
JOB = (("ptr", "arguments"), ("i64", "first"), ("i64", "behind"))  # the parameters of a job


@record(frozen=True)
class Turns:
    """What there is to do: turns from ``low`` on, in chunks of at least ``least``.

    ``work`` is how many nanoseconds they take, about.
    """

    low: str
    high: str
    work: str
    least: str = "1"


def job_arguments(fn: FunctionWriter, types: Sequence[str]) -> list[str]:
    """The arguments of the job that is being written, which have these types."""
    with fn.preamble():
        return [fn.load(type_, "%arguments", 8 * index) for index, type_ in enumerate(types)]


def call_shared(
    fn: FunctionWriter,
    table: str,
    job: str,
    arguments: Sequence[tuple[str, str]],
    turns: Turns,
) -> None:
    """Call ``job`` with arguments in memory so that each turn is in one call."""
    memory = fn.in_memory(arguments)

    def alone() -> None:
        fn.call("void", job, ("ptr", memory), ("i64", turns.low), ("i64", turns.high))

    if turns.work.isdigit() and int(turns.work) <= PARALLEL_WORK:
        alone()
        return
    pool = fn.load("ptr", table, 8 * abi.TABLE_POOL)
    several = fn.emit(f"icmp ne ptr {pool}, null")
    if not turns.work.isdigit():
        enough = fn.emit(f"icmp sgt i64 {turns.work}, {PARALLEL_WORK}")
        several = fn.emit(f"and i1 {several}, {enough}")
    fn.either(several, lambda: run_job(fn, table, job, memory, turns), alone)


def run_job(fn: FunctionWriter, table: str, job: str, memory: str, turns: Turns) -> None:
    """Have the pool, which there is, call ``job`` with the arguments that are in memory."""
    pool, run = (fn.load("ptr", table, 8 * i) for i in (abi.TABLE_POOL, abi.TABLE_PARALLEL_FOR))
    sizes = (turns.low, turns.high, turns.work, turns.least)
    pointers = [("ptr", pointer) for pointer in (pool, job, memory)]
    fn.call("void", run, *pointers, *(("i64", size) for size in sizes))


def chunk_turns(fn: FunctionWriter) -> str:
    """How many turns a chunk has, in a function with parameters ``low, high, work, least``."""
    scaled = fn.emit(f"mul i64 {fn.emit('sub i64 %high, %low')}, {CHUNK_WORK}")
    chunk = fn.intrinsic(
        "smax", "i64", "i64", fn.emit(f"sdiv i64 {scaled}, %work"), "%least"
    )
    up = fn.emit(f"add i64 {chunk}, {ALIGNED_TURNS - 1}")
    up = fn.emit(f"and i64 {up}, -{ALIGNED_TURNS}")
    large = fn.emit(f"icmp sgt i64 {chunk}, {LARGE_CHUNK}")
    return fn.emit(f"select i1 {large}, i64 {up}, i64 {chunk}")
