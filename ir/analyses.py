"""Questions about a function that several passes ask: effects, definitions, uses, sizes.

Each is one walk over the operations, nested regions included.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stepforge.ir import dims
from stepforge.ir.core import Block, Function, Operation, Symbol, Value
from stepforge.ir.dims import Dim, Expr
from stepforge.ir.types import AnyType, ListType, Type

Use = tuple[Operation, int]


def effects(op: Operation) -> frozenset[str]:
    """The effects of ``op`` and of everything in its regions; empty where it is pure."""
    found = {inner.defn.effect for region in op.regions for inner in region.walk()}
    found.add(op.defn.effect)
    return frozenset(found - {"pure"})


def removable(op: Operation) -> bool:
    """True where ``op`` may go if nothing uses what it gives: it fails never and changes nothing.

    A random op that fills a buffer, and so has no result, changes something.
    """
    if not op.regions:
        effect = op.defn.effect
        return effect in ("pure", "read") or (effect == "random" and bool(op.results))
    return op.defn.effect == "pure" and all(
        removable(inner) for region in op.regions for inner in region.ops
    )


def definitions(block: Block) -> dict[Value, Operation]:
    """The operation that each value is a result of; parameters are in no operation."""
    return {result: op for op in block.walk() for result in op.results}


def uses(block: Block) -> dict[Value, list[Use]]:
    """The (operation, operand number) pairs that use each value, in program order."""
    found: dict[Value, list[Use]] = {}
    for op in block.walk():
        for i, operand in enumerate(op.operands):
            if operand.__class__ is Value:
                found.setdefault(operand, []).append((op, i))
    return found


def last_uses(block: Block) -> dict[Value, int]:
    """The index in ``block.ops`` of the last op that uses each value, itself or in its regions."""
    found: dict[Value, int] = {}
    for i, op in enumerate(block.ops):
        for value in used_values(op):
            found[value] = i
    return found


def used_values(op: Operation) -> Iterable[Value]:
    """The values that ``op`` and its regions take from outside of it, in the order of first use."""
    found = {o: None for o in op.operands if isinstance(o, Value)}
    for region in op.regions:
        found.update(dict.fromkeys(free_values(region)))
    return found


def free_values(block: Block) -> tuple[Value, ...]:
    """The values that a region uses and does not define, in the order of first use."""
    inside = set(block.params)
    found: dict[Value, None] = {}
    for op in block.walk():
        for region in op.regions:
            inside.update(region.params)
        inside.update(op.results)
        for operand in op.operands:
            if isinstance(operand, Value) and operand not in inside:
                found[operand] = None
    return tuple(found)


def symbols(block: Block) -> dict[str, Symbol]:
    """The symbols that the operations mention, by name."""
    return {o.name: o for op in block.walk() for o in op.operands if isinstance(o, Symbol)}


def written(op: Operation) -> frozenset[str]:
    """The names of the variables that ``op`` or an op in its regions writes."""
    inner = [op] if not op.regions else [op, *(o for region in op.regions for o in region.walk())]
    return frozenset(
        o.name
        for writer in inner
        if writer.defn.effect == "write"
        for o in writer.operands
        if isinstance(o, Symbol)
    )


def bound_sizes(op: Operation) -> tuple[str, ...]:
    """The size names that ``op`` binds by its ``binds`` attribute, a name or a tuple of names."""
    names = op.attrs.get("binds") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def refined_sizes(op: Operation) -> tuple[str, ...]:
    """The size names that a ``refine`` binds where they are not bound before it."""
    return lone_sizes(op.result.type) if op.name == "refine" and op.results else ()


def type_sizes(type_: AnyType) -> frozenset[str]:
    """Every size name that a type mentions."""
    if isinstance(type_, ListType):
        return type_sizes(type_.element)
    found: frozenset[str] = frozenset()
    for dim in type_.shape or ():
        if dim.__class__ is not int:
            found |= dims.names(dim)
    return found


def lone_sizes(type_: AnyType) -> tuple[str, ...]:
    """The size names that stand alone in a dimension of a type: what a parameter binds."""
    if isinstance(type_, ListType):
        return lone_sizes(type_.element)
    found = [dims.as_name(d) for d in type_.shape or ()]
    return tuple([n for n in found if n is not None])


def literal_sizes(value: Any) -> frozenset[str]:
    """Every size name in the value of an attribute."""
    if isinstance(value, Expr):
        return dims.names(value)
    if isinstance(value, tuple):
        return frozenset[str]().union(*[literal_sizes(v) for v in value])
    return type_sizes(value) if isinstance(value, Type | ListType) else frozenset()


def mentioned_sizes(op: Operation) -> frozenset[str]:
    """Every size name in the types and attributes of ``op``, its regions left out."""
    found: frozenset[str] = frozenset()
    for value in op.attrs.values():
        found |= literal_sizes(value)
    for result in op.results:
        found |= type_sizes(result.type)
    for region in op.regions:
        for param in region.params:
            found |= type_sizes(param.type)
    return found


def entry_sizes(function: Function) -> frozenset[str]:
    """The size names bound when a function is entered: by its parameters and by its variables."""
    types = [p.type for p in function.params]
    types += [g.type for g in function.globals.values()]
    return frozenset(name for t in types for name in lone_sizes(t))


def checked_sizes(function: Function) -> frozenset[str]:
    """The size names that the entry of a step knows: those of parameters and of variables read."""
    read = {op.operands[0] for op in function.walk() if op.name == "read"}
    types = [p.type for p in function.params] + [symbol.type for symbol in read]
    return frozenset(name for t in types for name in lone_sizes(t))


def substitute_literal(value: Any, sizes: dict[str, Dim]) -> Any:
    """An attribute or type with size names replaced by dimensions; itself where nothing changes."""
    if isinstance(value, Expr):
        return dims.substitute(value, sizes)
    if isinstance(value, tuple):
        return tuple([substitute_literal(v, sizes) for v in value])
    if isinstance(value, Type) and value.shape:
        return value.with_shape(tuple([dims.substitute(d, sizes) for d in value.shape]))
    if isinstance(value, ListType):
        return ListType(substitute_literal(value.element, sizes))
    return value
