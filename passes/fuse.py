"""Region fusion: elementwise operations that share an index space become one ``fused`` op.

A cluster runs where its last member stood. An earlier elementwise op joins the cluster that uses it
first, provided that it has the cluster's shape and that nobody needs its result before the cluster
runs; it then is computed in registers, and stored only where somebody outside still uses it. A
reduction takes its producers in as a prologue.

    %0 = mul(%x, %y) : f32[n]                  %1 = reduce(%x, %y, shape=[n], axes=[0]) : f32 |%p:
    f32, %q: f32| { %1 = reduce_sum(%0, axes=[0]) : f32    ->    %2 = mul(%p, %q) : f32 yield(%2) }
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field
from typing import Any

from stepforge.ir.builder import Builder
from stepforge.ir.core import Block, Const, Function, Operand, Operation, Symbol, Value
from stepforge.ir.dims import Dim
from stepforge.ir.records import record
from stepforge.ir.types import COMPLEX, NUMERIC, Type
from stepforge.passes.cost import length

REDUCTIONS: dict[str, str] = {
    "reduce_sum": "add",
    "reduce_mean": "add",
    "reduce_prod": "mul",
    "reduce_max": "max",
    "reduce_min": "min",
    "reduce_all": "and",
    "reduce_any": "or",
}
LARGEST = 96  # length of a cluster: longer bodies compile in more than linear time
MAPS = ("broadcast_to", "fill")  # ops that only repeat elements: no computation in the region


def native(type_: Any) -> bool:
    """True for values that loops compute with: real numbers and bools of known rank."""
    return (
        isinstance(type_, Type)
        and type_.dtype in NUMERIC
        and type_.dtype not in COMPLEX
        and type_.shape is not None
    )


def is_map(op: Operation) -> bool:
    """True for an op that computes each element by itself."""
    computes = op.defn.elementwise and op.defn.scalar is not None
    if not computes and op.name not in MAPS:
        return False
    return all(native(v.type) for v in (*op.operands, *op.results)) and not any(
        isinstance(operand, Symbol) for operand in op.operands if op.name == "fill"
    )


def is_reduction(op: Operation) -> bool:
    """True for a reduction that loops compute."""
    return (
        op.name in REDUCTIONS
        and native(op.operands[0].type)
        and not (op.name == "reduce_mean" and op.operands[0].type.kind != "f")
    )


@record
class _Cluster:
    """Operations that become one;

    ``position`` is where it runs, ``reduction`` its root where it is one.
    """

    position: int
    shape: tuple[Dim, ...]
    reduction: Operation | None = None
    members: list[tuple[int, Operation]] = field(default_factory=list)
    length: int = 0


def fuse(function: Function) -> Function:
    """Replace maps and reductions by ``fused`` and ``reduce`` ops."""
    ops = function.body.ops
    clusters = _clusters(ops)
    if not clusters:
        return function
    users = _users(ops)
    builder = Builder()
    mapped: dict[Operand, Operand] = {}
    at = {cluster.position: cluster for cluster in clusters.values()}
    for position, op in enumerate(ops):
        if position in at:
            _emit(builder, at[position], mapped, users, clusters)
        elif op not in clusters:
            builder.ops.append(_rebuilt(op, mapped))
            mapped.update(zip(op.results, builder.ops[-1].results, strict=True))
    return Function(function.name, builder.block(function.params), function.globals)


def _rebuilt(op: Operation, mapped: dict[Operand, Operand]) -> Operation:
    operands = tuple(mapped.get(o, o) for o in op.operands)
    if operands == op.operands:
        return op
    return Operation(op.defn, operands, op.attrs, op.results, op.regions, op.site)


def _users(ops: Sequence[Operation]) -> dict[Operand, list[tuple[int, Operation]]]:
    users: dict[Operand, list[tuple[int, Operation]]] = {}
    for position, op in enumerate(ops):
        for inner in (op, *(o for region in op.regions for o in region.walk())):
            for operand in inner.operands:
                if isinstance(operand, Value):
                    users.setdefault(operand, []).append((position, op))
    return users


def _clusters(ops: Sequence[Operation]) -> dict[Operation, _Cluster]:
    """The cluster of each operation that is in one; users are there before what they use."""
    users = _users(ops)
    found: dict[Operation, _Cluster] = {}
    for position in _users_first(ops):
        op = ops[position]
        if is_reduction(op):
            found[op] = _Cluster(position, op.operands[0].type.dims, op)
        elif is_map(op):
            cluster = _joinable(op, users.get(op.result, []), found)
            if cluster is None:
                cluster = _Cluster(position, op.result.type.dims)
            cluster.members.append((position, op))
            cluster.length += length(op)
            found[op] = cluster
    return found


def _users_first(ops: Sequence[Operation]) -> Iterator[int]:
    """Positions, each behind its users, otherwise as near to one of them as can be.

    What an operation needs comes right behind it, the shorter computations first, so that a cluster
    that becomes too long is cut where a single value is left over: a sum of functions is cut into
    sums of some, and not into functions and sums.
    """
    home: dict[Operand, int] = {
        result: position for position, op in enumerate(ops) for result in op.results
    }
    needs: list[list[int]] = []
    depth: list[int] = []
    for op in ops:
        inner = (op, *(o for region in op.regions for o in region.walk()))
        found = dict.fromkeys(home[o] for each in inner for o in each.operands if o in home)
        needs.append(sorted(found, key=depth.__getitem__, reverse=True))
        depth.append(1 + max((depth[position] for position in found), default=0))
    waiting = [0] * len(ops)
    for each in needs:
        for position in each:
            waiting[position] += 1
    ready = [position for position, count in enumerate(waiting) if not count]
    while ready:
        position = ready.pop()
        yield position
        for needed in needs[position]:
            waiting[needed] -= 1
            if not waiting[needed]:
                ready.append(needed)


def _joinable(
    op: Operation, users: Sequence[tuple[int, Operation]], found: dict[Operation, _Cluster]
) -> _Cluster | None:
    """The cluster that ``op`` may join:

    the first that uses it, where all other users come later.
    """
    candidates = [found[user] for _, user in users if user in found]
    if not candidates:
        return None
    first = min(candidates, key=lambda cluster: cluster.position)
    if first.shape != op.result.type.dims or first.length >= LARGEST:
        return None
    outside = [p for p, user in users if found.get(user) is not first]
    if first.reduction is not None and outside:
        return None  # a reduction has one result
    return first if all(position > first.position for position in outside) else None


def _emit(
    builder: Builder,
    cluster: _Cluster,
    mapped: dict[Operand, Operand],
    users: dict[Operand, list[tuple[int, Operation]]],
    clusters: dict[Operation, _Cluster],
) -> None:
    members = [op for _, op in sorted(cluster.members, key=lambda member: member[0])]
    inside = {op.result for op in members}
    region = _Region(inside, mapped)
    for op in members:
        region.add(op)
    if cluster.reduction is not None:
        _emit_reduction(builder, cluster.reduction, region, mapped)
        return
    results = [
        op.result
        for op in members
        if any(clusters.get(user) is not cluster for _, user in users.get(op.result, []))
    ] or [members[-1].result]
    builder.site = members[-1].site
    made = builder.emit(
        "fused",
        *region.operands,
        shape=cluster.shape,
        types=[r.type for r in results],
        names=[r.name for r in results],
        regions=[region.block([region.value(r) for r in results])],
    )
    mapped.update(zip(results, made if isinstance(made, tuple) else (made,), strict=True))


def _emit_reduction(
    builder: Builder, op: Operation, region: _Region, mapped: dict[Operand, Operand]
) -> None:
    element = region.value(op.operands[0])
    builder.site = op.site
    mapped[op.result] = builder.emit(
        "reduce",
        *region.operands,
        shape=op.operands[0].type.dims,
        axes=op.attr("axes"),
        keep_dims=op.attr("keep_dims"),
        kind=REDUCTIONS[op.name],
        mean=op.name == "reduce_mean",
        types=[op.result.type],
        names=[op.result.name],
        regions=[region.block([element])],
    )


class _Region:
    """The region of a cluster under construction."""

    def __init__(self, inside: set[Value], mapped: dict[Operand, Operand]) -> None:
        self.operands: list[Operand] = []
        self._inside = inside
        self._mapped = mapped
        self._params: dict[Operand, Value] = {}
        self._values: dict[Operand, Operand] = {}
        self._builder = Builder()

    def value(self, operand: Operand) -> Operand:
        """The element of ``operand`` inside the region."""
        if isinstance(operand, Const):
            return operand
        if operand in self._inside:
            return self._values[operand]
        if operand not in self._params:
            self._params[operand] = Value(Type(operand.type.dtype), getattr(operand, "name", ""))
            self.operands.append(self._mapped.get(operand, operand))
        return self._params[operand]

    def add(self, op: Operation) -> None:
        """Compute the element of ``op``'s result."""
        scalars = [self.value(operand) for operand in op.operands]
        if op.name in MAPS:
            self._values[op.result] = scalars[0]
            return
        self._builder.site = op.site
        names = (op.result.name,)
        self._values[op.result] = self._builder.emit(op.defn, *scalars, names=names, **op.attrs)

    def block(self, results: Sequence[Operand]) -> Block:
        """The finished region, which yields ``results``."""
        self._builder.site = None
        self._builder.emit("yield", *results)
        return self._builder.block(self._params.values())
