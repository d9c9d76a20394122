"""Loop fusion: nests with the same bounds whose shared buffers are used turn by turn become one.

A nest moves up to an earlier one that it may follow directly, and their bodies are put behind each
other; then the same happens to the loops inside. What layer norm, softmax or their gradients
compute op by op becomes one pass over the rows, whose intermediates ``contract`` shrinks to a row
or a scalar.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepforge.ir.analyses import bound_sizes, mentioned_sizes, used_values
from stepforge.ir.core import Block, Function, Operand, Operation, Value
from stepforge.ir.opdef import lookup
from stepforge.ir.rewrite import substitute, with_body
from stepforge.passes.cost import length
from stepforge.passes.loop_accesses import SOURCES, Roots, local

LARGEST = 240  # operations in a body; longer ones run out of registers and compile slowly
# What stands behind such an operation stays there: it may be what makes an access safe.
BARRIERS = ("check", "host")


def merge_loops(function: Function) -> Function:
    """Merge nests and the loops inside them."""
    ops = _sources_first(function.body.ops)
    merged = _merged(ops, Roots(ops))
    return with_body(function, Block(function.params, tuple(merged)))


def _sources_first(ops: Sequence[Operation]) -> list[Operation]:
    """Buffers and views before everything else, so that they are in nobody's way."""
    first: list[Operation] = []
    rest: list[Operation] = []
    known: set[Operand] = set()
    late = {name for op in ops for name in bound_sizes(op)}
    for op in ops:
        movable = op.name in SOURCES and late.isdisjoint(mentioned_sizes(op))
        if movable and all(not isinstance(o, Value) or o not in known for o in op.operands):
            first.append(op)
        else:
            rest.append(op)
            known.update(op.results)
    return [*first, *rest]


def _merged(ops: Sequence[Operation], roots: Roots) -> list[Operation]:
    """The operations of a block, loops merged, at every depth."""
    out: list[Operation] = []
    for op in ops:
        place = _partner(op, out, roots) if op.name == "for" else None
        if place is None:
            out.append(op)
        else:
            out[place] = _together(out[place], op)
    return [_inside(op, roots) if op.name == "for" else op for op in out]


def _inside(op: Operation, roots: Roots) -> Operation:
    region = op.regions[0]
    ops = _merged(region.ops, roots)
    if len(ops) == len(region.ops) and all(a is b for a, b in zip(ops, region.ops, strict=True)):
        return op
    block = Block(region.params, tuple(ops))
    return Operation(op.defn, op.operands, op.attrs, op.results, (block,), op.site)


def _partner(op: Operation, before: Sequence[Operation], roots: Roots) -> int | None:
    """The position of the nearest earlier loop that ``op`` can become a part of."""
    touched = roots.touched(op)
    used = set(used_values(op))
    mentioned = frozenset[str]().union(*map(mentioned_sizes, (op, *op.regions[0].walk())))
    for position in range(len(before) - 1, -1, -1):
        other = before[position]
        if other.name == "for" and _alike(op, other) and used.isdisjoint(other.results):
            counter = other.regions[0].params[0]
            own = op.regions[0].params[0]
            before_it = roots.touched(other)
            if local(before_it, touched, {own: counter}, counter):
                both = before_it.written | touched.written
                may_fail = _fails(op) or _fails(other)
                return None if may_fail and not both <= roots.temporaries else position
        if not used.isdisjoint(other.results) or touched.conflicts(roots.touched(other)):
            return None
        if _fails(other):  # a check that what the loop touches is there, perhaps
            return None
        if not mentioned.isdisjoint(bound_sizes(other)):
            return None
    return None


def _fails(op: Operation) -> bool:
    """True for what may end the step, or is seen outside of it."""
    inner = (op, *(o for region in op.regions for o in region.walk()))
    return any(each.defn.effect in BARRIERS for each in inner)


def _alike(a: Operation, b: Operation) -> bool:
    """True for loops with the same turns that are not too long together.

    A loop by lanes goes with a nest of rows: what it did for all rows at once is little per row.
    """
    if any(a.attr(n) != b.attr(n) for n in ("low", "high", "step")):
        return False
    if a.attr("binds") or b.attr("binds"):
        return False
    if a.attr("simd") != b.attr("simd"):
        by_lanes, rows = (a, b) if a.attr("simd") else (b, a)
        if by_lanes.operands or not any(op.name == "for" for op in rows.regions[0].ops):
            return False
    return sum(length(inner) for op in (a, b) for inner in op.regions[0].walk()) <= LARGEST


def _together(first: Operation, second: Operation) -> Operation:
    """One loop whose body is that of ``first``, then that of ``second``."""
    one, two = first.regions[0], second.regions[0]
    mapping: dict[Value, Operand] = {two.params[0]: one.params[0]}
    body = substitute(two, mapping)
    yields = (*one.terminator.operands, *body.terminator.operands)
    closing = Operation(lookup("yield"), yields)
    block = Block(
        (*one.params, *two.params[1:]), (*one.ops[:-1], *body.ops[:-1], closing)
    )
    attrs = {**first.attrs}
    if not second.attr("simd"):
        attrs.pop("simd", None)
    combine = (*first.attr("combine"), *second.attr("combine"))
    if combine:
        attrs["combine"] = combine
    return Operation(
        first.defn,
        (*first.operands, *second.operands),
        attrs,
        (*first.results, *second.results),
        (block,),
        first.site,
    )
