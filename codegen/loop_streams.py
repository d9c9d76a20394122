"""Loops by lanes whose stores are aligned, and may go past the caches: where which turns begin.

It is decided at run time. A loop that is long enough begins its whole vectors at the first element
whose store is aligned: a store across two lines of a cache takes twice as long. Where it loads
several vectors for one, because their elements are apart, these weigh more than the store, and are
aligned. Where the results are so large that they do not stay in the caches anyway, and the vectors
of all are aligned, these stores stream. What is before the first whole vector and behind the last
is left to masked turns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from stepforge.codegen.llvm import FunctionWriter
from stepforge.ir.ops.loops import STREAM_BYTES
from stepforge.ir.records import record

LEAST_TURNS = 16  # vectors that a loop must have to be aligned
LEAST_VECTOR = 16  # bytes of the smallest vector that there are streaming stores for


@record(frozen=True, slots=True)
class Place:
    """Where a loop's first element is: its address and its bytes; the next turn's is ``step``
    elements on. ``total`` are all bytes of the result that it is stored to.
    """

    pointer: str
    size: int
    total: str = "0"
    step: int = 1


@record(frozen=True, slots=True)
class Span:
    """The parts of a loop: ``head`` turns up to ``first``, usual ones to ``usual``, streaming ones
    to ``behind``, then ``rest``; ``streams`` (an i1) says whether there are streaming ones.
    """

    head: str
    first: str
    usual: str
    behind: str
    rest: str
    streams: str


def span(
    fn: FunctionWriter, stores: Sequence[Place], apart: Sequence[Place], low: str, turns: str,
    width: int,
) -> Span:
    """How a loop of ``turns`` from ``low`` is divided; ``apart`` is loaded by several vectors."""
    before, much = turns_before(fn, stores[:1], width), large(fn, stores)
    if apart:
        nearer = turns_before(fn, apart, width, before)
        before = fn.emit(f"select i1 {much}, i64 {before}, i64 {nearer}")
    enough = fn.emit(f"icmp sge i64 {turns}, {LEAST_TURNS * width}")
    head = fn.emit(f"select i1 {enough}, i64 {before}, i64 0")
    streams = fn.emit(f"and i1 {enough}, {streaming(fn, stores, much, head, width)}")
    first = fn.emit(f"add i64 {low}, {head}")
    left = fn.emit(f"sub i64 {turns}, {head}")
    vectors = fn.emit(f"and i64 {left}, {-width}")
    behind = fn.emit(f"add i64 {first}, {vectors}")
    usual = fn.emit(f"select i1 {streams}, i64 {first}, i64 {behind}")
    rest = fn.emit(f"sub i64 {left}, {vectors}")
    return Span(head, first, usual, behind, rest, streams)


def turns_before(
    fn: FunctionWriter, places: Sequence[Place], width: int, otherwise: str = "0"
) -> str:
    """How many turns come before one whose vector is aligned, at the first place that has one;
    ``otherwise`` where none has.
    """
    found = otherwise
    for place in reversed(places):
        below = fn.emit(f"sub i64 0, {fn.emit(f'ptrtoint ptr {place.pointer} to i64')}")
        gap = fn.emit(f"and i64 {below}, {width * place.size - 1}")
        missing = fn.emit(f"udiv i64 {gap}, {place.size}")
        # The turns of ``shared * odd`` elements that are ``missing`` but for whole vectors.
        shared = math.gcd(place.step, width)
        inverse = pow(place.step // shared, -1, width // shared)
        steps = fn.emit(f"mul i64 {fn.emit(f'udiv i64 {missing}, {shared}')}, {inverse}")
        turns = fn.emit(f"and i64 {steps}, {width // shared - 1}")
        some = fn.emit(f"icmp eq i64 {fn.emit(f'and i64 {missing}, {shared - 1}')}, 0")
        found = fn.emit(f"select i1 {some}, i64 {turns}, i64 {found}")
    return found


def large(fn: FunctionWriter, places: Sequence[Place]) -> str:
    """Whether the results are too large to stay in the caches."""
    total = places[0].total
    for place in places[1:]:
        total = fn.emit(f"add i64 {total}, {place.total}")
    return fn.emit(f"icmp sge i64 {total}, {STREAM_BYTES}")


def streaming(
    fn: FunctionWriter, places: Sequence[Place], much: str, head: str, width: int
) -> str:
    """Whether the results are ``large`` (``much``), and vectors of all aligned behind ``head``
    elements.
    """
    streams = much
    for place in places:
        address = fn.emit(f"ptrtoint ptr {place.pointer} to i64")
        begin = fn.emit(f"add i64 {address}, {fn.emit(f'mul i64 {head}, {place.size}')}")
        odd = fn.emit(f"and i64 {begin}, {width * place.size - 1}")
        streams = fn.emit(f"and i1 {streams}, {fn.emit(f'icmp eq i64 {odd}, 0')}")
    return streams


def fence(fn: FunctionWriter, streams: str) -> None:
    """Wait for streaming stores, which other threads may not see in order otherwise."""
    if fn.module.triple.startswith(("x86_64", "amd64", "i386", "i686")):
        callee = fn.module.declare("llvm.x86.sse.sfence", "void", "")

        def wait() -> None:
            fn.call("void", callee)

        fn.if_(streams, wait)
