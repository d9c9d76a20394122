"""Kernels whose turns are independent, called alone or by chunks on the pool of threads.

How many turns a chunk has depends on the sizes alone, so that results do not depend on threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stepforge.codegen import signature as abi
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter
from stepforge.codegen.nests import PARALLEL_WORK, NestWriter

CHUNK_WORK = 50_000  # nanoseconds of a chunk, about


@dataclass(frozen=True)
class Turns:
    """What there is to do: so many turns, in chunks of at least ``least``, and their work in ns."""

    count: str
    least: int
    work: str


def emit_shared(
    writer: NestWriter, callee: str, arguments: Sequence[tuple[str, str]], turns: Turns
) -> None:
    """Call ``callee(arguments..., first, behind)`` so that each turn is in one call."""
    writer.shares = True
    name = f"{callee[1:]}_run"
    types = [type_ for type_, _ in arguments]
    runner = writer.module.helper(
        name, lambda: _runner(writer.module, name, callee, types, turns.least)
    )
    given = [*arguments, ("i64", turns.count), ("i64", turns.work)]
    writer.fn.call("void", runner, ("ptr", writer.table()), *given)


def _runner(
    module: ModuleWriter, name: str, callee: str, types: Sequence[str], least: int
) -> str:
    """``run(table, arguments..., turns, work)``."""
    own = [(type_, f"a_{i}") for i, type_ in enumerate(types)]
    params = [("ptr", "table"), *own, ("i64", "turns"), ("i64", "work")]
    fn = FunctionWriter(module, name, "void", params, linkage="internal", attributes="noinline")
    pool = fn.load("ptr", "%table", 8 * abi.TABLE_POOL)
    enough = fn.emit(f"icmp sgt i64 %work, {PARALLEL_WORK}")
    several = fn.emit(f"icmp ne ptr {pool}, null")
    share, alone = fn.label("share"), fn.label("alone")
    fn.branch_if(fn.emit(f"and i1 {enough}, {several}"), share, alone)
    fn.start(alone)
    arguments = [(type_, f"%{param}") for type_, param in own]
    fn.call("void", callee, *arguments, ("i64", "0"), ("i64", "%turns"))
    fn.do("ret void")
    fn.start(share)
    scaled = fn.emit(f"mul i64 %turns, {CHUNK_WORK}")
    chunk = fn.intrinsic("smax", "i64", "i64", fn.emit(f"sdiv i64 {scaled}, %work"), str(least))
    cells = [*arguments, ("i64", "%turns"), ("i64", chunk)]
    memory = fn.alloca("i64", len(cells))
    for index, (type_, text) in enumerate(cells):
        fn.store(type_, text, memory, 8 * index)
    up = fn.emit(f"add i64 %turns, {fn.emit(f'sub i64 {chunk}, 1')}")
    count = fn.emit(f"sdiv i64 {up}, {chunk}")
    run = fn.load("ptr", "%table", 8 * abi.TABLE_PARALLEL_FOR)
    job = module.helper(f"{callee[1:]}_job", lambda: _job(module, callee, types))
    fn.call("void", run, ("ptr", pool), ("ptr", job), ("ptr", memory), ("i64", count))
    fn.do("ret void")
    return fn.finish()


def _job(module: ModuleWriter, callee: str, types: Sequence[str]) -> str:
    """``job(arguments, number)``: the turns of one chunk."""
    params = [("ptr", "arguments"), ("i64", "number")]
    fn = FunctionWriter(module, f"{callee[1:]}_job", "void", params, linkage="internal")
    loaded = [(t, fn.load(t, "%arguments", 8 * i)) for i, t in enumerate([*types, "i64", "i64"])]
    *arguments, (_, turns), (_, chunk) = loaded
    first = fn.emit(f"mul i64 %number, {chunk}")
    behind = fn.intrinsic("smin", "i64", "i64", fn.emit(f"add i64 {first}, {chunk}"), turns)
    fn.call("void", callee, *arguments, ("i64", first), ("i64", behind))
    fn.do("ret void")
    return fn.finish()
