"""Replaces composite ops by simpler ones, until only ops are left that the back end lowers itself.

An op is expanded where its declaration has an ``expand`` rule and no ``scalar`` or ``lower`` rule.
The rule emits through a Builder and returns what takes the place of the results; what it emits is
expanded in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stepforge.ir.builder import Builder
from stepforge.ir.core import Function, Operand, Operation, Value
from stepforge.ir.errors import IRError
from stepforge.ir.rewrite import rebuild, substituted, with_operands, with_results
from stepforge.ir.text import listed

Keep = Callable[[Operation], bool]


def expand(function: Function, keep: Keep | None = None) -> Function:
    """``function`` with composite ops replaced; the same object where there are none.

    ``keep`` says which operations to leave as they are, whatever rules they have.
    Raises: IRError for a rule whose values have other types than the results.
    """

    def visit(op: Operation, build: Builder) -> Sequence[Operand] | None:
        defn = op.defn
        if defn.expand is None or defn.scalar is not None or defn.lower is not None or op.regions:
            return None
        return None if keep is not None and keep(op) else _expanded(op, build, visit)

    return rebuild(function, visit)


def _expanded(
    op: Operation, build: Builder, visit: Callable[[Operation, Builder], Sequence[Operand] | None]
) -> tuple[Operand, ...]:
    inner = Builder(op.site)
    assert op.defn.expand is not None
    returned = op.defn.expand(inner, *op.operands, **op.all_attrs)
    values: tuple[Operand, ...] = returned if isinstance(returned, tuple) else (returned,)
    given = [v.type for v in values] if op.results else []
    wanted = [r.type for r in op.results]
    if given != wanted:
        raise IRError(f"{op.name} expands to ({listed(given)}), not ({listed(wanted)})")
    named = {
        value: Value(result.type, result.name)
        for value, result in zip(values, op.results, strict=False)
        if isinstance(value, Value) and not value.name and result.name
    }
    mapping: dict[Value, Operand] = {}
    for made in inner.ops:
        new = _renamed(made, named, mapping)
        build.site = new.site
        replacement = visit(new, build)
        if replacement is None:
            build.ops.append(new)
            replacement = new.results
        mapping.update(
            (old, to) for old, to in zip(made.results, replacement, strict=True) if old is not to
        )
    return substituted(values[: len(op.results)], mapping)


def _renamed(op: Operation, named: dict[Value, Value], mapping: dict[Value, Operand]) -> Operation:
    """``op`` with its operands replaced, and the user's names for what replaces results."""
    operands = substituted(op.operands, mapping)
    if any(a is not b for a, b in zip(operands, op.operands, strict=True)):
        op = with_operands(op, operands)
    if any(r in named for r in op.results):
        op = with_results(op, [named.get(r, r) for r in op.results])
    return op
