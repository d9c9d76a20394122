"""Rebuilds functions: the driver of all passes that walk forward, and small helpers on operations.

``rebuild`` offers every operation, its operands already replaced, to a visitor. What nobody changes
is kept as the very same object, up to the whole function; a value keeps its identity as long as its
type stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias

from stepforge.ir.analyses import substitute_literal
from stepforge.ir.builder import Builder
from stepforge.ir.core import Block, Function, Global, Operand, Operation, Symbol, Value
from stepforge.ir.dims import Dim
from stepforge.ir.errors import IRError

Visit: TypeAlias = Callable[[Operation, Builder], "Sequence[Operand] | None"]
"""Looks at one operation. None keeps it; else what replaces its results, new ops emitted first."""


class Scope(Protocol):
    """Is told when the regions of an operation are entered and left."""

    def enter(self, owner: Operation) -> None:
        """A region of ``owner`` begins."""

    def leave(self, owner: Operation) -> None:
        """A region of ``owner`` is over."""


def rebuild(function: Function, visit: Visit, scope: Scope | None = None) -> Function:
    """``function`` with each operation as ``visit`` wants it; the same object if nothing changed.

    Regions come before the op that owns them. A visitor sees terminators too.
    """
    body = _Driver(visit, scope).block(function.body)
    return with_body(function, body)


class _Driver:
    def __init__(self, visit: Visit, scope: Scope | None) -> None:
        self.visit = visit
        self.scope = scope
        self.mapping: dict[Value, Operand] = {}

    def block(self, block: Block) -> Block:
        build = Builder()
        mapping, visit, append = self.mapping, self.visit, build.ops.append
        changed = False
        for op in block.ops:
            new = self._replaced(op) if mapping else op
            if new.regions:
                new = self._regions(new)
            build.site = new.site
            results = visit(new, build)
            if results is None:
                append(new)
                if new is op:
                    continue
                results = new.results
            changed = True
            _map(op, results, mapping)
        if not changed and len(build.ops) == len(block.ops):
            return block
        return Block(block.params, tuple(build.ops))

    def _replaced(self, op: Operation) -> Operation:
        mapping = self.mapping
        for operand in op.operands:
            if operand.__class__ is Value and operand in mapping:
                return with_operands(op, substituted(op.operands, mapping))
        return op

    def _regions(self, op: Operation) -> Operation:
        scope = self.scope
        if scope is None:
            return map_regions(op, self.block)

        def scoped(block: Block) -> Block:
            scope.enter(op)
            result = self.block(block)
            scope.leave(op)
            return result

        return map_regions(op, scoped)


def _map(op: Operation, results: Sequence[Operand], mapping: dict[Value, Operand]) -> None:
    if len(results) != len(op.results):
        raise IRError(f"{op.name}: {len(results)} values replace {len(op.results)} results")
    mapping.update(
        [(old, new) for old, new in zip(op.results, results, strict=True) if old is not new]
    )


def substituted(
    operands: Sequence[Operand], mapping: Mapping[Value, Operand]
) -> tuple[Operand, ...]:
    """``operands`` with values replaced by what ``mapping`` says."""
    return tuple([mapping.get(o, o) if isinstance(o, Value) else o for o in operands])


def with_operands(op: Operation, operands: tuple[Operand, ...]) -> Operation:
    """``op`` on other operands. Where their types differ, the result types are inferred again."""
    results = op.results
    if not op.regions and getattr(op.defn, "verify", None) is None:
        old, new = [o.type for o in op.operands], [o.type for o in operands]
        if old != new:
            types = op.defn.infer_results(tuple(new), dict(op.attrs))
            results = tuple(
                [
                    r if r.type == t else Value(t, r.name)
                    for r, t in zip(results, types, strict=True)
                ]
            )
    return Operation(op.defn, operands, op.attrs, results, op.regions, op.site)


def with_results(op: Operation, results: Sequence[Value]) -> Operation:
    """``op`` with other results."""
    return Operation(op.defn, op.operands, op.attrs, tuple(results), op.regions, op.site)


def with_regions(op: Operation, regions: Sequence[Block]) -> Operation:
    """``op`` with other regions."""
    return Operation(op.defn, op.operands, op.attrs, op.results, tuple(regions), op.site)


def map_regions(op: Operation, change: Callable[[Block], Block]) -> Operation:
    """``op`` with each region changed; the same object where no region is."""
    regions = tuple([change(region) for region in op.regions])
    if all(new is old for new, old in zip(regions, op.regions, strict=True)):
        return op
    return with_regions(op, regions)


def with_body(function: Function, body: Block) -> Function:
    """``function`` with another body; the same object where it is the same body."""
    return function if body is function.body else replace(function, body=body)


def with_globals(function: Function, globals_: Mapping[str, Global]) -> Function:
    """``function`` with other globals."""
    return replace(function, globals=dict(globals_))


def substitute(block: Block, mapping: Mapping[Value, Operand]) -> Block:
    """``block`` with the values of ``mapping`` replaced, in nested regions too.

    The types of the replacements must be those of what they replace.
    """
    changed = False
    ops = []
    for op in block.ops:
        new = map_regions(op, lambda region: substitute(region, mapping)) if op.regions else op
        operands = substituted(op.operands, mapping)
        if any(a is not b for a, b in zip(operands, op.operands, strict=True)):
            new = with_operands(new, operands)
        changed = changed or new is not op
        ops.append(new)
    return Block(block.params, tuple(ops)) if changed else block


def inline(block: Block, arguments: Sequence[Operand], build: Builder) -> tuple[Operand, ...]:
    """Emit a copy of a region's ops with ``arguments`` for its parameters; what its yield gives.

    The copy has values of its own, so that a region may be inlined several times. Size names that
    the region binds are not renamed.
    """
    mapping: dict[Value, Operand] = dict(zip(block.params, arguments, strict=True))
    for op in block.ops[:-1]:
        build.ops.append(_copy(op, mapping))
    return substituted(block.terminator.operands, mapping)


def _copy(op: Operation, mapping: dict[Value, Operand]) -> Operation:
    regions = tuple([_copy_block(region, mapping) for region in op.regions])
    operands = substituted(op.operands, mapping)
    results = tuple([Value(r.type, r.name) for r in op.results])
    mapping.update(zip(op.results, results, strict=True))
    return Operation(op.defn, operands, op.attrs, results, regions, op.site)


def _copy_block(block: Block, mapping: dict[Value, Operand]) -> Block:
    params = tuple([Value(p.type, p.name) for p in block.params])
    mapping.update(zip(block.params, params, strict=True))
    return Block(params, tuple([_copy(op, mapping) for op in block.ops]))


def substitute_sizes(function: Function, sizes: Mapping[str, Dim]) -> Function:
    """``function`` with size names replaced in all types and attributes.

    The caller sees to it that what replaces a name is bound where the name was.
    """
    return _Resizer(dict(sizes)).function(function) if sizes else function


class _Resizer:
    """Copies a function with other sizes; the values whose type changes are new ones."""

    def __init__(self, sizes: dict[str, Dim]) -> None:
        self.sizes = sizes
        self.mapping: dict[Value, Operand] = {}

    def function(self, function: Function) -> Function:
        globals_ = {
            name: replace(entry, type=substitute_literal(entry.type, self.sizes))
            for name, entry in function.globals.items()
        }
        return Function(function.name, self.block(function.body), globals_)

    def value(self, value: Value) -> Value:
        type_ = substitute_literal(value.type, self.sizes)
        if type_ == value.type:
            return value
        new = Value(type_, value.name)
        self.mapping[value] = new
        return new

    def block(self, block: Block) -> Block:
        params = tuple([self.value(p) for p in block.params])
        return Block(params, tuple([self.operation(op) for op in block.ops]))

    def operation(self, op: Operation) -> Operation:
        operands = tuple(
            [
                Symbol(o.name, substitute_literal(o.type, self.sizes))
                if isinstance(o, Symbol)
                else o
                for o in substituted(op.operands, self.mapping)
            ]
        )
        attrs = {
            name: value if name == "binds" else substitute_literal(value, self.sizes)
            for name, value in op.attrs.items()
        }
        regions = tuple([self.block(region) for region in op.regions])
        results = tuple([self.value(r) for r in op.results])
        return Operation(op.defn, operands, attrs, results, regions, op.site)
