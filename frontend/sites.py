"""Where in the user's program a node is made: found by walking the stack out of the package.

It happens for every node, so a frame is kept as its code object and instruction offset; line
numbers are worked out when an error or ``op.traceback`` asks for them.
"""

from __future__ import annotations

import linecache
import sys
from bisect import bisect_right
from functools import lru_cache
from types import CodeType, FrameType
from typing import NamedTuple, TypeAlias

from stepforge.ir.core import Site

Stack: TypeAlias = "tuple[tuple[CodeType, int], ...]"
_PACKAGE = __name__.partition(".")[0]
_PREFIX = _PACKAGE + "."
_DEPTH = 32  # frames kept of the user's stack; deeper callers are of no help in a message


class FrameSummary(NamedTuple):
    """One entry of ``op.traceback``."""

    filename: str
    lineno: int
    name: str
    line: str


def user_stack() -> Stack:
    """The frames of the caller's program, innermost first, without those of this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if name is None or not (name.startswith(_PREFIX) or name == _PACKAGE):
            break
        frame = frame.f_back
    found: list[tuple[CodeType, int]] = []
    while frame is not None and len(found) < _DEPTH:
        found.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(found)


def line_number(code: CodeType, offset: int) -> int:
    """The source line of the instruction at ``offset``."""
    starts, lines = _lines(code)
    return lines[bisect_right(starts, offset) - 1] or code.co_firstlineno


@lru_cache(maxsize=256)
def _lines(code: CodeType) -> tuple[list[int], list[int | None]]:
    """Where the stretches of a code object begin, and the line of each: a function of the user's
    makes many nodes.
    """
    stretches = list(code.co_lines())
    return [start for start, *_ in stretches], [line for *_, line in stretches]


def site(node: str, stack: Stack) -> Site:
    """The IR's record of where ``node`` was made."""
    if not stack:
        return Site(node)
    code, offset = stack[0]
    return Site(node, code.co_filename, line_number(code, offset))


def summaries(stack: Stack) -> list[FrameSummary]:
    """The stack as ``traceback`` would list it: outermost frame first."""
    found = []
    for code, offset in reversed(stack):
        line = line_number(code, offset)
        source = linecache.getline(code.co_filename, line).strip()
        found.append(FrameSummary(code.co_filename, line, code.co_name, source))
    return found
