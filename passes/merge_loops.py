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
from stepforge.ir.records import record
from stepforge.ir.rewrite import substitute, with_body
from stepforge.passes.cost import length
from stepforge.passes.loop_accesses import SOURCES, Roots, Touched, local

LARGEST = 240  # operations in a body; longer ones run out of registers and compile slowly
NEAREST = 64  # operations before a loop among which its partner is looked for
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


@record(frozen=True)
class _Facts:
    """What is asked about an operation each time that it is compared with another."""

    touched: Touched
    used: frozenset[Value]
    mentioned: frozenset[str]
    bound: frozenset[str]
    length: int
    fails: bool  # or is seen outside of the step


def _facts(op: Operation, roots: Roots, facts: dict[Operation, _Facts]) -> _Facts:
    """The facts of ``op``, found once and kept in ``facts``."""
    if op not in facts:
        inner = [o for region in op.regions for o in region.walk()]
        facts[op] = _Facts(
            roots.touched(op),
            frozenset(used_values(op)),
            frozenset[str]().union(*map(mentioned_sizes, (op, *inner))),
            frozenset(bound_sizes(op)),
            sum(map(length, inner)),
            any(each.defn.effect in BARRIERS for each in (op, *inner)),
        )
    return facts[op]


def _merged(
    ops: Sequence[Operation], roots: Roots, around: Value | None = None
) -> list[Operation]:
    """The operations of a block, loops merged, at every depth; ``around`` is the counter of the
    loop that has the block.
    """
    if sum(op.name == "for" for op in ops) < 2:
        return [_inside(op, roots) if op.name == "for" else op for op in ops]
    out: list[Operation] = []
    facts: dict[Operation, _Facts] = {}
    for op in ops:
        place = _partner(op, out, roots, facts, around) if op.name == "for" else None
        if place is None:
            out.append(op)
        else:
            out[place] = _together(out[place], op)
    return [_inside(op, roots) if op.name == "for" else op for op in out]


def _inside(op: Operation, roots: Roots) -> Operation:
    region = op.regions[0]
    ops = _merged(region.ops, roots, region.params[0])
    if len(ops) == len(region.ops) and all(a is b for a, b in zip(ops, region.ops, strict=True)):
        return op
    block = Block(region.params, tuple(ops))
    return Operation(op.defn, op.operands, op.attrs, op.results, (block,), op.site)


def _partner(
    op: Operation,
    before: Sequence[Operation],
    roots: Roots,
    facts: dict[Operation, _Facts],
    around: Value | None,
) -> int | None:
    """The position of the nearest earlier loop that ``op`` can become a part of."""
    own, temporaries = _facts(op, roots, facts), roots.temporaries
    for position in range(len(before) - 1, max(len(before) - 1 - NEAREST, -1), -1):
        other = before[position]
        its = _facts(other, roots, facts)
        free = own.used.isdisjoint(other.results)
        alike = other.name == "for" and _alike(op, other, own.length + its.length)
        if free and alike and not _mixed(own.touched, its.touched, around, roots):
            counter = other.regions[0].params[0]
            if local(its.touched, own.touched, {op.regions[0].params[0]: counter}, counter):
                both = its.touched.written | own.touched.written
                may_fail = own.fails or its.fails
                return None if may_fail and not both <= temporaries else position
        if not free or own.touched.conflicts(its.touched):
            return None
        if its.fails:  # a check that what the loop touches is there, perhaps
            return None
        if not own.mentioned.isdisjoint(its.bound):
            return None
    return None


def _alike(a: Operation, b: Operation, together: int) -> bool:
    """True for loops with the same turns that are not too long ``together``.

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
    return together <= LARGEST


def _mixed(first: Touched, second: Touched, around: Value | None, roots: Roots) -> bool:
    """True where one of two loops stores to the same places in each turn of the loop ``around``,
    which are in the first-level cache, and only the other stores what lasts: stores to both in
    turn are slow.
    """
    passing = roots.temporaries - roots.handed_on
    if around is None or (first.written | second.written) <= passing:
        return False
    stays = [
        any(around not in (a.indices or ()) for root in each.written for a in each.accesses[root])
        for each in (first, second)
    ]
    return stays[0] != stays[1]


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
