"""The SSA structure that both levels of the IR share.

Everything is immutable; a pass builds a new function. ``Value`` and ``Operation`` compare by
identity,
``Const`` and ``Symbol`` by content, so that they can stand in place as operands.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from stepforge.ir.records import record
from stepforge.ir.types import AnyType, Type

if TYPE_CHECKING:
    from stepforge.ir.opdef import OpDef


@record(frozen=True, slots=True)
class Site:
    """Where the user made the node that an operation stems from."""

    node: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return (
            f"'{self.node}' created at {self.file}:{self.line}" if self.file else f"'{self.node}'"
        )


@record(frozen=True, eq=False, slots=True)
class Value:
    """One SSA value: a parameter of a block or a result of an operation."""

    type: Any  # AnyType; Any spares every rule a cast for the rare list type
    name: str = ""


@record(frozen=True, eq=False, slots=True)
class Const:
    """A scalar constant in an operand's place.

    Equality is of bits: NaN equals NaN, 0.0 is not -0.0.
    """

    type: Type
    value: bool | int | float | complex

    def _key(self) -> tuple[Type, object]:
        if isinstance(self.value, float):
            return self.type, struct.pack("<d", self.value)
        if isinstance(self.value, complex):
            return self.type, struct.pack("<dd", self.value.real, self.value.imag)
        return self.type, self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Const) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


@record(frozen=True, slots=True)
class Symbol:
    """``@name``:

    a variable, random stream or large constant that the function's globals declare.
    """

    name: str
    type: Type


Operand: TypeAlias = Value | Const | Symbol


@record(frozen=True, eq=False, slots=True)
class Global:
    """What a symbol stands for:

    ``kind`` is "variable", "random" or "constant" (then with its ``data``).
    """

    kind: str
    type: Type
    data: np.ndarray[Any, Any] | None = None


@record(frozen=True, eq=False, slots=True)
class Operation:
    """One operation.

    ``attrs`` holds the attributes that differ from their defaults, and is never changed.
    """

    defn: OpDef
    operands: tuple[Operand, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    results: tuple[Value, ...] = ()
    regions: tuple[Block, ...] = ()
    site: Site | None = None

    @property
    def name(self) -> str:
        """The op's name."""
        return self.defn.name

    @property
    def result(self) -> Value:
        """The only result."""
        (value,) = self.results
        return value

    def attr(self, name: str) -> Any:
        """An attribute's value, its default where it was not given."""
        return self.attrs[name] if name in self.attrs else self.defn.defaults[name]

    @property
    def all_attrs(self) -> dict[str, Any]:
        """Every attribute, defaults included."""
        return {**self.defn.defaults, **self.attrs}


@record(frozen=True, eq=False, slots=True)
class Block:
    """A list of operations, the last of which is the terminator (``return`` or ``yield``)."""

    params: tuple[Value, ...]
    ops: tuple[Operation, ...]

    @property
    def terminator(self) -> Operation:
        """The last operation."""
        return self.ops[-1]

    def walk(self) -> Iterator[Operation]:
        """Every operation, those of nested regions after their owner."""
        for op in self.ops:
            yield op
            for region in op.regions:
                yield from region.walk()


@record(frozen=True, eq=False, slots=True)
class Function:
    """A named function; ``globals`` declares what its symbols stand for."""

    name: str
    body: Block
    globals: Mapping[str, Global] = field(default_factory=dict)

    @property
    def params(self) -> tuple[Value, ...]:
        """The body's parameters."""
        return self.body.params

    @property
    def results(self) -> tuple[Operand, ...]:
        """The operands of the closing ``return``."""
        return self.body.terminator.operands

    @property
    def result_types(self) -> tuple[AnyType, ...]:
        """Types of the results."""
        return tuple(v.type for v in self.results)

    def walk(self) -> Iterator[Operation]:
        """Every operation, nested ones included."""
        return self.body.walk()


@record(frozen=True, eq=False, slots=True)
class Module:
    """Functions that belong together, in the order in which they print."""

    functions: tuple[Function, ...]

    def __getitem__(self, name: str) -> Function:
        for function in self.functions:
            if function.name == name:
                return function
        raise KeyError(name)
