"""Marks the nests whose turns do not depend on each other, and gives each turn its own row buffers.

A turn is independent where everything that the nest writes is addressed by the nest's counter, so
that results do not depend on how turns are shared out. A small temporary that lives within a turn
becomes memory of the thread that runs it: its ``alloc`` moves into the nest. Loops around others
inside of a nest are marked as well: their turns are not shared out, but vectors may hold elements
of several.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepforge.ir import dims
from stepforge.ir.analyses import mentioned_sizes
from stepforge.ir.core import Block, Function, Operand, Operation, Value
from stepforge.ir.dims import Dim
from stepforge.ir.rewrite import with_body
from stepforge.ir.types import item_bytes
from stepforge.passes.cost import FUNCTIONS, PER_FUNCTION, UNIT
from stepforge.passes.loop_accesses import Roots, Touched

PER_SCALAR = 8  # parts of a nanosecond of an operation that is not done by lanes
STACK = 32 << 10  # bytes of row buffers that a nest may have on a thread's stack


def parallelize(function: Function) -> Function:
    """Mark independent nests as ``parallel``."""
    ops = function.body.ops
    roots = Roots(ops)
    touched = {op: roots.touched(op) for op in ops}
    private = _private(ops, touched)
    moved = {buffer for buffers in private.values() for buffer in buffers}
    makers: dict[Operand, Operation] = {result: op for op in ops for result in op.results}
    out = [
        _nest(op, private.get(op, []), roots, makers) if op.name == "for" else op
        for op in ops
        if not op.results or op.results[0] not in moved
    ]
    return with_body(function, Block(function.params, tuple(out)))


def _private(
    ops: Sequence[Operation], touched: dict[Operation, Touched]
) -> dict[Operation, list[Value]]:
    """The small temporaries that only one nest touches, and that no counter of it addresses."""
    users: dict[Operand, list[Operation]] = {}
    for op in ops:
        for root in touched[op].accesses:
            users.setdefault(root, []).append(op)
    viewed = {op.operands[0] for op in ops if op.name == "view"}
    found: dict[Operation, list[Value]] = {}
    room: dict[Operation, int] = {}
    for op in ops:
        if op.name != "alloc" or op.result in viewed or len(users.get(op.result, [])) != 1:
            continue
        (nest,) = users[op.result]
        size = op.result.type.size
        if nest.name != "for" or not isinstance(size, int) or _by_counter(op.result, nest, touched):
            continue
        room[nest] = room.get(nest, 0) + size * item_bytes(op.result.type.dtype)
        if room[nest] <= STACK:
            found.setdefault(nest, []).append(op.result)
    return found


def _by_counter(buffer: Value, nest: Operation, touched: dict[Operation, Touched]) -> bool:
    counters = _counters(nest)
    accesses = touched[nest].accesses[buffer]
    return any(a.indices is None or not counters.isdisjoint(a.indices) for a in accesses)


def _counters(nest: Operation) -> set[Operand]:
    """The counter of a nest, and those of loops inside which have other values in each turn."""
    region = nest.regions[0]
    found: set[Operand] = {region.params[0]}
    name = nest.attr("binds")
    if name:
        following = {name: dims.named(name) + 1}
        for inner in region.walk():
            if inner.name == "for" and name in mentioned_sizes(inner):
                low, high = inner.attr("low"), inner.attr("high")
                behind = dims.substitute(low, following)
                if dims.minimum(high, behind) == high:
                    found.add(inner.regions[0].params[0])
    return found


def _nest(
    op: Operation, private: Sequence[Value], roots: Roots, makers: dict[Operand, Operation]
) -> Operation:
    region = op.regions[0]
    inside = [_inner(each, roots) for each in region.ops]
    block = Block(region.params, (*[makers[buffer] for buffer in private], *inside))
    attrs = dict(op.attrs)
    if not op.results and _independent(op, roots.touched(op), set(private)):
        attrs.update(parallel=True, work=work_of(op))
    return Operation(op.defn, op.operands, attrs, op.results, (block,), op.site)


def _inner(op: Operation, roots: Roots) -> Operation:
    """A loop inside of a nest, marked where it is around others and its turns are independent."""
    if op.name != "for" or op.results or not any(o.name == "for" for o in op.regions[0].ops):
        return op
    region = op.regions[0]
    block = Block(region.params, tuple(_inner(each, roots) for each in region.ops))
    attrs = dict(op.attrs)
    if _independent(op, roots.touched(op), set()):
        attrs.update(parallel=True)
    return Operation(op.defn, op.operands, attrs, op.results, (block,), op.site)


def _independent(op: Operation, touched: Touched, private: set[Value]) -> bool:
    counters = _counters(op)
    for root in touched.written - private:
        places = set()
        for access in touched.accesses[root]:
            at = [p for p, index in enumerate(access.indices or ()) if index in counters]
            if not at:
                return False
            position = at[0]
            assert access.indices is not None
            dims = access.buffer.type.dims[: position + 1]
            places.add((access.indices[: position + 1], dims))
        if len(places) > 1:
            return False
    return not any(inner.name == "fail_if" for inner in op.regions[0].walk())


def work_of(op: Operation) -> Dim:
    """Nanoseconds that a nest takes on one thread, roughly."""
    return dims.floor_div(_units(op), UNIT)


def _units(op: Operation) -> Dim:
    """The work of a loop in parts of a nanosecond; by lanes, many elements share an instruction."""
    turns: Dim = op.attr("high") - op.attr("low")
    scale = 1 if op.attr("simd") else PER_SCALAR
    body: Dim = 0
    for inner in op.regions[0].ops:
        if inner.name == "for":
            body = body + _units(inner)
        elif inner.name in FUNCTIONS:
            body = body + PER_FUNCTION * scale
        elif inner.results or inner.name == "store":
            body = body + scale
    counter = op.attr("binds")
    if counter:  # bounds that depend on the turn: all turns are taken for the first
        body = dims.substitute(body, {counter: 0})
    return turns * body
