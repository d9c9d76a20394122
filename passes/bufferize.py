"""Decides where each tensor lives before loops are made: the homes of values, and the order of
updates.

A result is computed straight into its output array, a variable's next value straight into the
variable where that is safe, everything else into memory that ``plan`` places. The order of a step
is: what can fail, then the copies of results out of old state, then updates in place, then commits.
So a step that fails leaves every variable as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from stepforge.ir.analyses import bound_sizes
from stepforge.ir.core import Function, Operand, Operation, Symbol, Value
from stepforge.ir.records import record

# Ops whose rule reads an element of an operand no later than it writes the same element of the
# result.
IN_PLACE = ("fused", "scatter_update", "scatter_nd_update")
ALIASES = ("reshape", "refine")  # results that are their first operand's memory


@record
class Homes:
    """What ``bufferize`` decided; ``ops`` is the order in which operations are lowered."""

    ops: list[Operation] = field(default_factory=list)
    results: dict[Value, int] = field(
        default_factory=dict
    )  # root value -> output that it is built in
    in_place: dict[Value, Symbol] = field(default_factory=dict)  # root value -> variable
    fresh: dict[Value, Symbol] = field(default_factory=dict)  # root value -> variable's next buffer
    updates: list[Operation] = field(default_factory=list)  # operations that run last, in place


def bufferize(function: Function) -> Homes:
    """Choose a home for every value that is returned or written to a variable."""
    ops = function.body.ops
    homes = Homes()
    producers = {r: op for op in ops for r in op.results}
    roots = _roots(ops)
    for index, operand in enumerate(function.results):
        root = roots.get(operand, operand)
        if not isinstance(root, Value) or root.type.size != operand.type.size:
            continue  # whether it fits the array is not known before a check
        if root in producers and _placeable(producers[root]):
            homes.results.setdefault(root, index)
    writes = [op for op in ops if op.name == "write"]
    _place_writes(ops, writes, homes, producers, roots)
    last = set(homes.updates)
    homes.ops = [op for op in ops if op not in last and op.name != "return"]
    return homes


def _roots(ops: Sequence[Operation]) -> dict[Operand, Operand]:
    """For each value that is only another view of one: the value that owns the memory."""
    roots: dict[Operand, Operand] = {}
    for op in ops:
        if op.name in ALIASES:
            source = op.operands[0]
            roots[op.result] = roots.get(source, source)
    return roots


def _place_writes(
    ops: Sequence[Operation],
    writes: Sequence[Operation],
    homes: Homes,
    producers: dict[Value, Operation],
    roots: dict[Operand, Operand],
) -> None:
    users = _users(ops, roots)
    read = {_symbol(op): op.result for op in ops if op.name == "read"}
    wanted: dict[Operation, list[tuple[Value, Symbol]]] = {}
    for write in writes:
        symbol, operand = _symbol(write), write.operands[1]
        root = roots.get(operand, operand)
        if not isinstance(root, Value) or root in homes.results:
            continue
        producer = producers.get(root)
        if producer is None or not _placeable(producer):
            continue
        if root in homes.in_place or root in homes.fresh:
            continue  # two variables get one value: the second is a copy
        if operand.type == root.type and _fits(producer, root, symbol, read):
            wanted.setdefault(producer, []).append((root, symbol))
        else:
            homes.fresh[root] = symbol
    _choose_updates(ops, wanted, homes, users, read, roots)


def _placeable(op: Operation) -> bool:
    """True where a result can be computed into memory that is given: its size is known before."""
    return op.name != "read" and not bound_sizes(op)


def _symbol(op: Operation) -> Symbol:
    """The variable that a read or write is about."""
    symbol = op.operands[0]
    assert isinstance(symbol, Symbol)
    return symbol


def _fits(producer: Operation, root: Value, symbol: Symbol, read: dict[Symbol, Value]) -> bool:
    """True where the entry has checked the variable, and its memory has the value's size."""
    return (
        producer.name in IN_PLACE
        and symbol in read
        and root.type.shape == symbol.type.shape
        and root.type.dtype == symbol.type.dtype
    )


def _users(
    ops: Sequence[Operation], roots: dict[Operand, Operand]
) -> dict[Operand, list[Operation]]:
    users: dict[Operand, list[Operation]] = {}
    for op in ops:
        if op.name in ALIASES:
            continue  # a view uses nothing; those who use the view use its root
        for operand in op.operands:
            users.setdefault(roots.get(operand, operand), []).append(op)
        for inner in (o for region in op.regions for o in region.walk()):
            for operand in inner.operands:
                users.setdefault(roots.get(operand, operand), []).append(op)
    return users


def _choose_updates(
    ops: Sequence[Operation],
    wanted: dict[Operation, list[tuple[Value, Symbol]]],
    homes: Homes,
    users: dict[Operand, list[Operation]],
    read: dict[Symbol, Value],
    roots: dict[Operand, Operand],
) -> None:
    """Keep the updates in place that nobody disturbs; the others get a fresh buffer."""
    order = [op for op in ops if op in wanted]
    viewed = set(roots.values())  # before the updates run, too
    candidates = {op for op in order if viewed.isdisjoint(op.results)}
    while True:
        bad = next(
            (
                op
                for op in order
                if op in candidates
                and not _undisturbed(op, wanted[op], candidates, order, users, read, roots)
            ),
            None,
        )
        if bad is None:
            break
        candidates.discard(bad)
    for op in order:
        for root, symbol in wanted[op]:
            (homes.in_place if op in candidates else homes.fresh)[root] = symbol
    homes.updates = [op for op in order if op in candidates]


def _undisturbed(
    op: Operation,
    values: Sequence[tuple[Value, Symbol]],
    candidates: set[Operation],
    order: Sequence[Operation],
    users: dict[Operand, list[Operation]],
    read: dict[Symbol, Value],
    roots: dict[Operand, Operand],
) -> bool:
    later = set(order[order.index(op) + 1 :]) & candidates
    for result in op.results:
        used = users.get(result, [])
        if any(u not in later and u.name not in ("write", "return") for u in used):
            return False  # somebody needs the new value before the updates run
        if sum(u.name == "return" for u in used) > 1:
            return False  # so does its copy in another result
    for root, symbol in values:
        old = read[symbol]
        if any(user in later for user in users.get(old, [])):
            return False  # a later update reads the old value
        if not _same_element(op, old, root, roots):
            return False
    return True


def _same_element(op: Operation, old: Value, new: Value, roots: dict[Operand, Operand]) -> bool:
    """True where ``op`` reads the old value at the element that it writes, or copies it first."""
    if op.name != "fused":
        return all(roots.get(o, o) is not old for o in op.operands[1:])
    for operand in op.operands:
        if roots.get(operand, operand) is old and operand.type.shape != new.type.shape:
            return False
    return True
