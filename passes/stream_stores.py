"""Marks the stores of results that the step does not read again: they need not go to the caches.

A store goes through the caches line by line, and each line is read before it is written. Stores
that go past them save that third of the traffic, where the result is so large that it would not
stay in the caches anyway. What the step still reads is better kept there.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from stepforge.ir.core import Block, Function, Operand, Operation
from stepforge.ir.ops.loops import STREAM_BYTES
from stepforge.ir.rewrite import with_body
from stepforge.ir.types import item_bytes
from stepforge.passes.cost import length
from stepforge.passes.loop_accesses import Roots

MOST_LENGTH = 16  # instructions of a body, about: there is one more copy of it to compile


def stream_stores(function: Function) -> Function:
    """Mark the stores of loops by lanes into results that one nest writes and none reads."""
    ops = function.body.ops
    roots = Roots(ops)
    users: dict[Operand, list[Operation]] = {param: [] for param in function.params}
    for op in ops:
        for root in roots.touched(op).accesses.keys() & users.keys():
            users[root].append(op)
    found = {p for p, nests in users.items() if len(nests) == 1 and _once(p, nests[0], roots)}
    if not found:
        return function
    out = tuple(_marked(op, found, roots) if op.name == "for" else op for op in ops)
    return with_body(function, Block(function.params, out))


def _once(root: Operand, nest: Operation, roots: Roots) -> bool:
    """True where a nest has one store to a large result, and does nothing else to it."""
    size = root.type.size * item_bytes(root.type.dtype)
    if nest.name != "for" or (isinstance(size, int) and size < STREAM_BYTES):
        return False
    accesses = roots.touched(nest).accesses[root]
    return len(accesses) == 1 and accesses[0].writes and accesses[0].indices is not None


def _marked(op: Operation, results: Set[Operand], roots: Roots) -> Operation:
    """A loop with the stores marked of those inside that run by lanes."""
    region = op.regions[0]
    if any(inner.name == "for" for inner in region.ops):
        inside: Sequence[Operation] = [
            _marked(inner, results, roots) if inner.name == "for" else inner
            for inner in region.ops
        ]
    elif op.attr("simd") and not op.operands and _all_into(region, results, roots):
        inside = [_streaming(inner) if inner.name == "store" else inner for inner in region.ops]
    else:
        return op
    block = Block(region.params, tuple(inside))
    return Operation(op.defn, op.operands, op.attrs, op.results, (block,), op.site)


def _all_into(region: Block, results: Set[Operand], roots: Roots) -> bool:
    """True where a loop's stores are all into ``results``, as some of its turns are done twice, and
    it is not so long that memory hardly matters.
    """
    stores = [op for op in region.ops if op.name == "store"]
    short = sum(length(op) for op in region.ops) <= MOST_LENGTH
    return short and all(roots[op.operands[1]] in results for op in stores)


def _streaming(op: Operation) -> Operation:
    return Operation(op.defn, op.operands, {**op.attrs, "stream": True}, (), (), op.site)
