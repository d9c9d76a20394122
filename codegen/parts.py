"""A long driver in parts: functions that run some of a step's operations each, one after the other.

LLVM takes more than linear time for one long function. What one part computes and another uses goes
through a *frame* of cells on the driver's stack; places, views and constants are cheap, and every
part finds its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stepforge.codegen.nests import in_place
from stepforge.ir.analyses import bound_sizes, mentioned_sizes, type_sizes, used_values
from stepforge.ir.core import Operation, Value
from stepforge.ir.records import record

LONGEST = 1024  # weight of a driver that stays one function
PART = 512  # weight of a part
CALL = 8  # weight of an operation that becomes a call: its arguments and what checks its result
REPEATED = ("place", "slot", "constant", "view", "subview", "index")  # pure, and next to nothing


@record(frozen=True)
class Part:
    """Some operations in order, and what they need from before them."""

    ops: tuple[Operation, ...]
    repeated: tuple[Operation, ...]  # cheap operations of earlier parts
    outside: tuple[Value, ...]  # parameters and what is in cells
    sizes: frozenset[str]  # size names of the entry and of earlier parts


@record(frozen=True)
class Division:
    """Parts, the cell of each value or size name that passes between them, and of each block."""

    parts: tuple[Part, ...]
    cells: dict[Value | str, int]
    blocks: tuple[int, ...]  # cells of memory that is freed at the end


def divided(ops: Sequence[Operation]) -> Division | None:
    """``ops`` in parts; None where they are few enough for one function."""
    weights = [_weight(op) for op in ops]
    if sum(weights) <= LONGEST:
        return None
    groups: list[list[Operation]] = [[]]
    weight = 0
    for op, own in zip(ops, weights, strict=True):
        if groups[-1] and weight + own > PART:
            groups.append([])
            weight = 0
        groups[-1].append(op)
        weight += own
    return _connected(groups)


def _weight(op: Operation) -> int:
    if op.name in REPEATED:
        return 0
    if op.name == "for":
        return sum(1 for _ in op.regions[0].walk()) if in_place(op) else CALL
    return 1 if op.defn.elementwise else CALL


def _connected(groups: Sequence[Sequence[Operation]]) -> Division:
    """The parts of ``groups`` with what they need."""
    cheap: dict[Value, Operation] = {}
    order: dict[Operation, int] = {}
    made: set[Value] = set()  # in earlier parts
    bound: set[str] = set()
    cells: dict[Value | str, int] = {}
    parts: list[Part] = []
    for ops in groups:
        own = {result for op in ops for result in op.results}
        repeated, outside = _needed(ops, own, cheap)
        sizes = _names((*repeated, *ops), outside)
        crossing: list[Value | str] = [value for value in outside if value in made]
        for each in (*crossing, *sorted(sizes & bound)):
            cells.setdefault(each, len(cells))
        parts.append(Part(tuple(ops), tuple(sorted(repeated, key=order.__getitem__)),
                          tuple(outside), frozenset(sizes)))
        for op in ops:
            order[op] = len(order)
            if op.name in REPEATED:
                cheap[op.result] = op
            elif op.name != "for":
                bound.update(bound_sizes(op))
        made |= own
    blocks = [op.result for group in groups for op in group if op.name == "alloc"]
    numbers = tuple(cells.setdefault(block, len(cells)) for block in blocks)
    return Division(tuple(parts), cells, numbers)


def _needed(
    ops: Iterable[Operation], own: set[Value], cheap: dict[Value, Operation]
) -> tuple[list[Operation], list[Value]]:
    """Which cheap operations a part repeats, and which values it takes from outside."""
    repeated: dict[Operation, None] = {}
    outside: dict[Value, None] = {}
    waiting = list(dict.fromkeys(v for op in ops for v in used_values(op) if v not in own))
    while waiting:
        value = waiting.pop()
        source = cheap.get(value)
        if source is None:
            outside[value] = None
        elif source not in repeated:
            repeated[source] = None
            waiting.extend(used_values(source))
    return list(repeated), list(outside)


def _names(ops: Iterable[Operation], values: Iterable[Value]) -> set[str]:
    """Every size name that matters to the operations and the values that they take."""
    found: set[str] = set()
    for op in ops:
        for each in (op, *(o for region in op.regions for o in region.walk())):
            found |= mentioned_sizes(each)
    for value in values:
        found |= type_sizes(value.type)
    return found
