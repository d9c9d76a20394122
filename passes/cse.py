"""Merges operations that compute the same value from the same operands.

Inside a region everything computed before it counts too; what a region computes is forgotten behind
it. Reads merge as long as nothing writes the variable in between. Random and host ops never merge.
Where two merged ops bind a size, the later name gives way to the earlier one everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepforge.ir.analyses import bound_sizes, written
from stepforge.ir.builder import Builder
from stepforge.ir.core import Function, Operand, Operation, Symbol, Value
from stepforge.ir.dims import Dim, named
from stepforge.ir.rewrite import rebuild, substitute_sizes

# Exactly commutative on floats too; maximum and minimum are not, for zeros of both signs.
COMMUTATIVE = frozenset(
    (
        *("add", "mul", "equal", "not_equal"),
        *("logical_and", "logical_or", "logical_xor"),
        *("bitwise_and", "bitwise_or", "bitwise_xor"),
    )
)
_MERGED = ("pure", "check", "read")


def cse(function: Function) -> Function:
    """``function`` without repeated computations; the same object where there are none."""
    merged: set[str] = set()
    while True:
        table = _Table(function, merged)
        function = rebuild(function, table.visit, table)
        if not table.sizes:
            return function
        function = substitute_sizes(function, table.sizes)  # now more may be the same
        merged.update(table.sizes)


class _Table:
    """The operations seen that are visible here, by what they compute."""

    def __init__(self, function: Function, merged: set[str]) -> None:
        self.function = function
        self.merged = merged  # sizes that gave way before
        self.seen: dict[Any, Operation] = {}
        self.order: list[Any] = []  # keys of ``seen``, to forget those of a region
        self.outside: list[int] = []
        self.versions: dict[str, int] = {}  # of variables: how often written so far
        self.sizes: dict[str, Dim] = {}

    def visit(self, op: Operation, build: Builder) -> tuple[Value, ...] | None:
        defn = op.defn
        if op.regions or defn.terminator or defn.effect not in _MERGED:
            self._write(op)
            return None
        if defn.level == "loop" and _touches_memory(op):
            return None
        operands: Any = op.operands
        if len(operands) == 2 and defn.name in COMMUTATIVE:
            operands = frozenset(operands)
        key = (defn, operands, _attribute_key(op.attrs) if op.attrs else ())
        if defn.effect == "read":
            key = (*key, *[self._version(o) for o in op.operands])
        earlier = self.seen.get(key)
        if earlier is None:
            self.seen[key] = op
            self.order.append(key)
            return None
        return earlier.results if "binds" not in op.attrs else self._merge_sizes(op, earlier)

    def _merge_sizes(self, op: Operation, earlier: Operation) -> tuple[Value, ...] | None:
        """Note that the sizes that both ops bind are equal; drop ``op`` once its types say so."""
        bound = [n for o in self.function.walk() for n in bound_sizes(o)]
        pairs = list(zip(bound_sizes(op), bound_sizes(earlier), strict=True))
        if any(bound.count(name) > 1 for pair in pairs for name in pair):
            return None  # a name with several meanings, in regions beside each other
        self.sizes.update({late: named(early) for late, early in pairs if late not in self.merged})
        same_types = [r.type for r in op.results] == [r.type for r in earlier.results]
        return earlier.results if same_types else None

    def enter(self, owner: Operation) -> None:
        """A region begins: what it writes may already have been written, in an earlier turn."""
        self.outside.append(len(self.order))
        self._write(owner)

    def leave(self, owner: Operation) -> None:
        """The region is over, and what it computed out of reach."""
        outside = self.outside.pop()
        for key in self.order[outside:]:
            del self.seen[key]
        del self.order[outside:]

    def _write(self, op: Operation) -> None:
        if op.regions or op.defn.effect == "write":
            for name in written(op):
                self.versions[name] = self.versions.get(name, 0) + 1

    def _version(self, operand: Operand) -> int:
        return self.versions.get(operand.name, 0) if isinstance(operand, Symbol) else 0


def _touches_memory(op: Operation) -> bool:
    return any(getattr(o.type, "buffer", False) for o in (*op.operands, *op.results))


def _attribute_key(attrs: Mapping[str, Any]) -> tuple[Any, ...]:
    """The attributes but for ``binds``, such that True, 1 and 1.0, 0.0 and -0.0 differ."""
    return tuple([(name, _literal_key(attrs[name])) for name in sorted(attrs) if name != "binds"])


def _literal_key(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple([_literal_key(v) for v in value])
    return (
        (type(value), repr(value)) if isinstance(value, float | complex) else (type(value), value)
    )
