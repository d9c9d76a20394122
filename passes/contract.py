"""Buffers that merged loops need less of, or not at all.

Within one turn of a loop a value that was just stored is not loaded again, nor a value loaded
twice; a temporary that nobody loads is not stored; one that lives within a turn of an outer loop
loses that axis: ``[n, m]`` becomes a row, a row of scalars a scalar.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepforge.ir.core import Block, Function, Operand, Operation, Value
from stepforge.ir.rewrite import substituted, with_body
from stepforge.ir.types import Type
from stepforge.passes.loop_accesses import Roots, Touched

Known = dict[tuple[Any, ...], Operand]


def contract(function: Function) -> Function:
    """Forward stored values, drop dead temporaries and shrink the others."""
    ops = _Forward(Roots(function.body.ops)).block(function.body.ops, {})
    ops = _direct(ops)
    roots = Roots(ops)
    while True:
        dead = _dead(ops, roots)
        if not dead:
            break
        ops = _dropped(ops, roots, dead)
        roots = Roots(ops)
    return with_body(function, Block(function.params, tuple(_shrunk(ops, roots))))


class _Forward:
    """Replaces loads of what is known; ``known`` maps places to values."""

    def __init__(self, roots: Roots) -> None:
        self.roots = roots
        self.mapping: dict[Value, Operand] = {}

    def block(self, ops: Sequence[Operation], known: Known) -> list[Operation]:
        """The operations of a block, given what is known when it begins."""
        known = dict(known)
        out: list[Operation] = []
        for op in ops:
            operands = substituted(op.operands, self.mapping)
            if op.name == "load":
                self._load(op, operands, known, out)
            elif op.name == "store":
                self._forget(self.roots[operands[1]], known)
                known[self._key(operands[1], operands[2:])] = operands[0]
                out.append(_with(op, operands, op.regions))
            else:
                out.append(self._other(op, operands, known))
        return out

    def _load(
        self, op: Operation, operands: tuple[Operand, ...], known: Known, out: list[Operation]
    ) -> None:
        key = self._key(operands[0], operands[1:])
        if key in known:
            self.mapping[op.result] = known[key]
        else:
            out.append(_with(op, operands, ()))
            known[key] = op.result

    def _other(self, op: Operation, operands: tuple[Operand, ...], known: Known) -> Operation:
        touched = self.roots.touched(op)
        for root in touched.written:
            self._forget(root, known)
        regions = tuple(
            Block(region.params, tuple(self.block(region.ops, known))) for region in op.regions
        )
        return _with(op, operands, regions)

    def _key(self, buffer: Operand, indices: tuple[Operand, ...]) -> tuple[Any, ...]:
        """The place of an element; axes of size 1 say nothing of it."""
        cells = zip(buffer.type.dims, indices, strict=True)
        wide = [cell for cell in cells if cell[0] != 1]
        return self.roots[buffer], tuple(n for n, _ in wide), tuple(i for _, i in wide)

    def _forget(self, root: Operand, known: Known) -> None:
        for key in [key for key in known if key[0] is root]:
            del known[key]


def _with(op: Operation, operands: tuple[Operand, ...], regions: tuple[Block, ...]) -> Operation:
    return Operation(op.defn, operands, op.attrs, op.results, regions, op.site)


def _direct(ops: Sequence[Operation]) -> list[Operation]:
    """A temporary that is only used through views of one type is made of that type."""
    views: dict[Operand, list[Operation]] = {}
    other: set[Operand] = set()
    for op in ops:
        inner = [op, *(o for region in op.regions for o in region.walk())]
        for each in inner:
            for operand in each.operands:
                if each.name == "view" and each is op:
                    views.setdefault(operand, []).append(op)
                else:
                    other.add(operand)
    replaced: dict[Value, Operand] = {}
    made: dict[Value, Operation] = {}
    for op in ops:
        uses = views.get(op.result, []) if op.name == "alloc" else []
        types = {u.result.type for u in uses}
        if uses and op.result not in other and len(types) == 1:
            (type_,) = types
            made[op.result] = _alloc(op, uses[0].result, type_)
            replaced.update((u.result, uses[0].result) for u in uses[1:])
            replaced[op.result] = uses[0].result
    gone = {id(u) for result in made for u in views[result]}
    out = [made.get(op.results[0], op) if op.results else op for op in ops if id(op) not in gone]
    return [_renamed(op, replaced) for op in out] if replaced else out


def _alloc(op: Operation, result: Value, type_: Type) -> Operation:
    given = {**op.attrs, "shape": type_.dims, "dtype": type_.dtype}
    attrs = {name: v for name, v in given.items() if v != op.defn.defaults[name]}
    return Operation(op.defn, (), attrs, (result,), (), op.site)


def _renamed(op: Operation, mapping: dict[Value, Operand]) -> Operation:
    regions = tuple(
        Block(r.params, tuple(_renamed(o, mapping) for o in r.ops)) for r in op.regions
    )
    return _with(op, substituted(op.operands, mapping), regions)


def _dead(ops: Sequence[Operation], roots: Roots) -> set[Value]:
    """Temporaries that are stored and never loaded."""
    used: set[Operand] = set()
    for op in ops:
        for root, accesses in roots.touched(op).accesses.items():
            if any(not a.writes or a.indices is None for a in accesses):
                used.add(root)
    return {op.result for op in ops if op.name == "alloc" and op.result not in used}


def _dropped(ops: Sequence[Operation], roots: Roots, dead: set[Value]) -> list[Operation]:
    """Without the temporaries ``dead``, the stores into them included."""
    out = []
    for op in ops:
        if op.name in ("alloc", "view") and roots[op.result] in dead:
            continue
        if op.name == "store" and roots[op.operands[1]] in dead:
            continue
        regions = tuple(
            Block(r.params, tuple(_dropped(r.ops, roots, dead))) for r in op.regions
        )
        if op.name == "for" and not op.results and len(regions[0].ops) == 1:
            continue  # nothing is left inside
        out.append(_with(op, op.operands, regions) if op.regions else op)
    return out


def _shrunk(ops: Sequence[Operation], roots: Roots) -> list[Operation]:
    """Temporaries of one nest that are used turn by turn, without the nest's axis."""
    homes: dict[Operand, list[tuple[Operation, Touched]]] = {}
    for op in ops:
        touched = roots.touched(op)
        for root in touched.accesses:
            homes.setdefault(root, []).append((op, touched))
    viewed = {op.operands[0] for op in ops if op.name == "view"}
    smaller: dict[Operand, Value] = {}
    for op in ops:
        if op.name != "alloc" or op.result in viewed or len(homes.get(op.result, [])) != 1:
            continue
        nest, touched = homes[op.result][0]
        if nest.name == "for" and not nest.attr("simd") and _by_turns(op.result, nest, touched):
            shape = op.result.type.dims[1:]
            type_ = op.result.type.with_shape(shape)
            smaller[op.result] = Value(type_, op.result.name)
    return [_without_axis(op, smaller) for op in ops] if smaller else list(ops)


def _by_turns(buffer: Value, nest: Operation, touched: Touched) -> bool:
    counter = nest.regions[0].params[0]
    return all(
        a.indices is not None and len(a.indices) > 0 and a.indices[0] is counter
        for a in touched.accesses[buffer]
    )


def _without_axis(op: Operation, smaller: dict[Operand, Value]) -> Operation:
    if op.name == "alloc" and op.result in smaller:
        new = smaller[op.result]
        return Operation(op.defn, (), {**op.attrs, "shape": new.type.dims}, (new,), (), op.site)
    if op.name == "load" and op.operands[0] in smaller:
        return _with(op, (smaller[op.operands[0]], *op.operands[2:]), ())
    if op.name == "store" and op.operands[1] in smaller:
        value, buffer, *indices = op.operands
        return _with(op, (value, smaller[buffer], *indices[1:]), ())
    regions = tuple(
        Block(r.params, tuple(_without_axis(o, smaller) for o in r.ops)) for r in op.regions
    )
    return _with(op, op.operands, regions) if op.regions else op


