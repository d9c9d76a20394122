"""What loops do to memory: the question behind moving, merging and shrinking them.

A buffer's *root* is the value that owns its memory; views lead back to it. Distinct roots never
overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from functools import cached_property

from stepforge.ir.core import Operand, Operation, Value
from stepforge.ir.dims import Dim
from stepforge.ir.records import record

VIEWS = ("view", "subview", "rows")
SOURCES = ("place", "alloc", "slot", "constant", "view", "index")  # ops without effect or cost


@record(frozen=True)
class Access:
    """One load or store; ``indices`` is None for an op that touches a buffer as a whole."""

    buffer: Operand
    indices: tuple[Operand, ...] | None
    writes: bool


@record
class Touched:
    """Every access of an operation, by root."""

    accesses: dict[Operand, list[Access]] = field(default_factory=dict)

    @cached_property
    def written(self) -> set[Operand]:
        """Roots that are written."""
        return {r for r, found in self.accesses.items() if any(a.writes for a in found)}

    def conflicts(self, other: Touched) -> set[Operand]:
        """Roots that one of the two writes and the other touches."""
        if self.written.isdisjoint(other.accesses) and other.written.isdisjoint(self.accesses):
            return set()
        shared = self.accesses.keys() & other.accesses.keys()
        return {r for r in shared if r in self.written or r in other.written}


class Roots:
    """The root of each buffer, known for every view in a function, and which are ``temporaries``.

    ``handed_on`` are the roots that operations on whole buffers touch.
    """

    def __init__(self, ops: Iterable[Operation]) -> None:
        self._roots: dict[Operand, Operand] = {}
        self._touched: dict[Operation, Touched] = {}
        self.temporaries: set[Operand] = set()
        self.handed_on: set[Operand] = set()
        for op in ops:
            self._add(op)

    def _add(self, op: Operation) -> None:
        if op.name == "alloc":
            self.temporaries.add(op.result)
        if not op.defn.elementwise and op.name not in ("load", "store"):
            self.handed_on.update([self[access.buffer] for access in _accesses(op)])
        if op.name in VIEWS:
            self._roots[op.result] = self[op.operands[0]]
        for region in op.regions:
            for inner in region.ops:
                self._add(inner)

    def __getitem__(self, buffer: Operand) -> Operand:
        return self._roots.get(buffer, buffer)

    def touched(self, op: Operation) -> Touched:
        """What ``op``, with its regions, reads and writes; found once for each operation."""
        if op in self._touched:
            return self._touched[op]
        found = self._touched[op] = Touched()
        for inner in (op, *(o for region in op.regions for o in region.walk())):
            for access in _accesses(inner):
                found.accesses.setdefault(self[access.buffer], []).append(access)
        return found


def _accesses(op: Operation) -> list[Access]:
    if op.name == "load":
        return [Access(op.operands[0], op.operands[1:], False)]
    if op.name == "store":
        return [Access(op.operands[1], op.operands[2:], True)]
    if op.defn.elementwise or op.name in SOURCES or op.name == "for":
        return []
    buffers = [o for o in op.operands if getattr(o.type, "buffer", False)]
    return [Access(b, None, _may_write(op, b)) for b in buffers]


def _may_write(op: Operation, buffer: Operand) -> bool:
    if op.name == "gemm":
        return any(buffer is o for o in op.operands[2:4])  # the product and scratch memory
    if op.name in ("copy", "transpose_matrix"):
        return buffer is op.operands[1]
    if op.name in ("subview", "rows"):
        return True  # what it leads to is not followed
    if op.name == "host_call":
        outputs = op.attr("outputs")
        return outputs > 0 and any(buffer is o for o in op.operands[-outputs:])
    return op.defn.effect != "pure"


def local(
    first: Touched, second: Touched, counters: Mapping[Operand, Operand], counter: Value
) -> bool:
    """True where both loops touch what they share only at their own turn.

    ``counters`` maps the second loop's counter to the first's (``counter``): all accesses of a
    shared root that is written must begin with the same indices up to the counter, in buffers of
    the same sizes there.
    """
    for root in first.conflicts(second):
        places: set[tuple[object, ...]] = set()
        for access in (*first.accesses[root], *second.accesses[root]):
            place = _place(access, counters, counter)
            if place is None:
                return False
            places.add(place)
        if len(places) > 1:
            return False
    return True


def _place(
    access: Access, counters: Mapping[Operand, Operand], counter: Value
) -> tuple[object, ...] | None:
    """The indices up to the counter and the sizes behind, None where the counter is no index."""
    if access.indices is None:
        return None
    indices = [counters.get(i, i) for i in access.indices]
    for position, each in enumerate(indices):
        if each is counter:
            sizes: tuple[Dim, ...] = access.buffer.type.dims[: position + 1]
            return (*indices[: position + 1], sizes)
    return None
