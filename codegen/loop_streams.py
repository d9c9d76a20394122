"""Loops by lanes whose stores may go past the caches: where such stores begin and end.

It is decided at run time: the results must be large, and their vectors aligned. A loop then writes
its first vector as usual, goes on from the first aligned element behind its begin with streaming
stores, and leaves what is behind the last whole vector to its masked turn. Elements between are
computed twice, which is harmless: such a loop reads nothing that it writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stepforge.codegen.llvm import FunctionWriter
from stepforge.ir.ops.loops import STREAM_BYTES

LEAST_TURNS = 4  # vectors that a loop must have
LEAST_VECTOR = 16  # bytes of the smallest vector that there are streaming stores for


@dataclass(frozen=True, slots=True)
class Place:
    """Where a loop's first element goes: its address, its bytes, and all bytes of the result."""

    pointer: str
    size: int
    total: str


@dataclass(frozen=True, slots=True)
class Span:
    """The parts of a loop: usual turns end at ``usual``; streaming ones go from ``first`` to
    ``behind``; ``streams`` (an i1) says whether there are any.
    """

    usual: str
    first: str
    behind: str
    streams: str


def span(
    fn: FunctionWriter, places: Sequence[Place], low: str, turns: str, width: int, end: str
) -> Span:
    """How a loop of ``turns`` from ``low`` is divided, whose whole vectors end at ``end``."""
    streams, head = _condition(fn, places, turns, width)
    lead = fn.emit(f"select i1 {fn.emit(f'icmp eq i64 {head}, 0')}, i64 0, i64 {width}")
    aligned = fn.emit(f"add i64 {low}, {head}")
    vectors = fn.emit(f"and i64 {fn.emit(f'sub i64 {turns}, {head}')}, {-width}")

    def chosen(streamed: str, usual: str) -> str:
        return fn.emit(f"select i1 {streams}, i64 {streamed}, i64 {usual}")

    return Span(
        chosen(fn.emit(f"add i64 {low}, {lead}"), end),
        chosen(aligned, end),
        chosen(fn.emit(f"add i64 {aligned}, {vectors}"), end),
        streams,
    )


def _condition(
    fn: FunctionWriter, places: Sequence[Place], turns: str, width: int
) -> tuple[str, str]:
    """Whether stores shall stream, and how many elements come before the first aligned one."""
    total = places[0].total
    for place in places[1:]:
        total = fn.emit(f"add i64 {total}, {place.total}")
    addresses = [fn.emit(f"ptrtoint ptr {place.pointer} to i64") for place in places]
    first = places[0].size
    missing = fn.emit(f"and i64 {fn.emit(f'sub i64 0, {addresses[0]}')}, {width * first - 1}")
    head = fn.emit(f"udiv i64 {missing}, {first}")
    conditions = [
        fn.emit(f"icmp sge i64 {total}, {STREAM_BYTES}"),
        fn.emit(f"icmp sge i64 {turns}, {LEAST_TURNS * width}"),
    ]
    for place, address in zip(places, addresses, strict=True):
        begin = fn.emit(f"add i64 {address}, {fn.emit(f'mul i64 {head}, {place.size}')}")
        odd = fn.emit(f"and i64 {begin}, {width * place.size - 1}")
        conditions.append(fn.emit(f"icmp eq i64 {odd}, 0"))
    streams = conditions[0]
    for condition in conditions[1:]:
        streams = fn.emit(f"and i1 {streams}, {condition}")
    return streams, head


def fence(fn: FunctionWriter, streams: str) -> None:
    """Wait for streaming stores, which other threads may not see in order otherwise."""
    if fn.module.triple.startswith(("x86_64", "amd64", "i386", "i686")):
        callee = fn.module.declare("llvm.x86.sse.sfence", "void", "")

        def wait() -> None:
            fn.call("void", callee)

        fn.if_(streams, wait)
