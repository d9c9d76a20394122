"""Builds blocks op by op: the one way in which extraction, passes and rules make operations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from stepforge.ir.core import Block, Const, Function, Global, Operand, Operation, Site, Value
from stepforge.ir.opdef import OpDef, lookup
from stepforge.ir.types import AnyType, Type


class Builder:
    """Appends operations to a block under construction.

    ``site`` is given to every operation made; a pass sets it to that of the op it rewrites.
    """

    def __init__(self, site: Site | None = None) -> None:
        self.ops: list[Operation] = []
        self.site = site

    def emit(
        self,
        op: str | OpDef,
        *operands: Operand,
        types: Sequence[AnyType] | None = None,
        regions: Sequence[Block] = (),
        names: Sequence[str] = (),
        **attrs: Any,
    ) -> Any:
        """Append one operation and return its result (a tuple where it has not exactly one).

        ``types`` overrides inference, for region ops and loads whose types are not a function of
        the operands. Raises: ShapeError or DTypeError from the op's ``infer``.
        """
        made = self.operation(op, operands, attrs, types=types, regions=regions, names=names)
        return self.append(made)

    def append(self, op: Operation) -> Any:
        """Append an operation and return what ``emit`` does."""
        self.ops.append(op)
        return op.results[0] if len(op.results) == 1 else op.results

    def operation(
        self,
        op: str | OpDef,
        operands: Sequence[Operand],
        attrs: Mapping[str, Any],
        *,
        types: Sequence[AnyType] | None = None,
        regions: Sequence[Block] = (),
        names: Sequence[str] = (),
    ) -> Operation:
        """An operation that is not appended; attributes equal to their defaults are left out."""
        defn = lookup(op) if isinstance(op, str) else op
        given: dict[str, Any] = {}
        if attrs:
            defaults = defn.defaults
            given = {
                k: v for k, v in attrs.items() if k not in defaults or not same(v, defaults[k])
            }
        if types is None:
            types = defn.infer_results(tuple([o.type for o in operands]), given)
        if len(types) == 1:
            results: tuple[Value, ...] = (Value(types[0], names[0] if names else ""),)
        else:
            named = zip_longest(types, names[: len(types)], fillvalue="")
            results = tuple([Value(type_, name) for type_, name in named])
        return Operation(defn, tuple(operands), given, results, tuple(regions), self.site)

    def block(self, params: Iterable[Value] = ()) -> Block:
        """The finished block; its last op must be a terminator."""
        return Block(tuple(params), tuple(self.ops))

    def function(
        self, name: str, params: Iterable[Value], globals_: Mapping[str, Global] | None = None
    ) -> Function:
        """The finished block as a function."""
        return Function(name, self.block(params), dict(globals_ or {}))

    def constant(self, value: bool | int | float | complex, dtype: str) -> Const:
        """A scalar constant operand."""
        return Const(Type(dtype), value)


def same(a: object, b: object) -> bool:
    """Equality of attributes that tells True from 1 and 1 from 1.0."""
    return type(a) is type(b) and a == b
