"""Base classes of the ops that compute every element alone, and broadcast like NumPy.

A declaration says which dtypes it takes (``accepts``), what the elements of its result are
(``returns``, where not those of the operands), its meaning on arrays (``function``) and on one
element (``scalar``, by default the primitive of the op's own name).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from stepforge.ir.errors import DTypeError
from stepforge.ir.opdef import OpDef
from stepforge.ir.ops.arrays import Array, narrow, widen
from stepforge.ir.ops.inference import (
    DTypes,
    broadcast_types,
    check_dtype,
    check_same_dtype,
)
from stepforge.ir.types import Type, from_numpy_dtype, numpy_dtype


def _own_primitive(self: OpDef, k: Any, *operands: Any) -> Any:
    """The ``scalar`` rule of an op that a primitive of the same name computes."""
    return getattr(k, self.name)(*operands)


def primitive(name: str) -> Callable[..., Any]:
    """The ``scalar`` rule of an op that the primitive ``name`` computes."""

    def scalar(self: OpDef, k: Any, *operands: Any) -> Any:
        return getattr(k, name)(*operands)

    return scalar


def _map_function(self: Elementwise, *operands: Array) -> Array:
    """The ``numpy`` rule: ``function``, silent about NaN and overflow."""
    dtype = numpy_dtype(self.result_dtype(from_numpy_dtype(operands[0].dtype)))
    with np.errstate(all="ignore"):
        if not self.rounds_each:
            operands = tuple([widen(x) for x in operands])
        return narrow(self.function(*operands), dtype)


class Elementwise(OpDef):
    """An op of scalars that maps over tensors; it exists at both levels."""

    level = "both"
    elementwise = True
    accepts: ClassVar[DTypes]
    returns: ClassVar[str | None] = None
    # False: ``function`` gets 16-bit floats as f32 and its result is rounded. True: it gets them as
    # they are, so that NumPy rounds every step, which shows where a step is not continuous.
    rounds_each: ClassVar[bool] = False
    function: ClassVar[Callable[..., Any]]
    numpy: Callable[..., Any] | None = _map_function
    scalar: Callable[..., Any] | None = _own_primitive

    def result_dtype(self, dtype: str) -> str:
        """The dtype of the result of operands of ``dtype``."""
        return self.returns or dtype


class Unary(Elementwise):
    """An elementwise op of one operand."""

    def infer(self, x: Type) -> Type:
        if x.dtype not in self.accepts.names:
            raise DTypeError(f"{self.name}: x must be {self.accepts.text}, but is {x}")
        dtype = self.result_dtype(x.dtype)
        return x if dtype == x.dtype else Type(dtype, x.shape)


class Binary(Elementwise):
    """An elementwise op of two operands of one dtype."""

    def infer(self, x: Type, y: Type) -> Type:
        if x.dtype != y.dtype or x.dtype not in self.accepts.names:
            check_same_dtype(self.name, x=x, y=y)
            check_dtype(self.name, self.accepts, x=x, y=y)
        if x.shape == y.shape or () in (x.shape, y.shape):
            larger = x if y.shape in ((), x.shape) else y
            return larger if self.returns is None else Type(self.returns, larger.shape)
        return Type(self.result_dtype(x.dtype), broadcast_types(self.name, x=x, y=y))


def unary_cases(name: str, accepts: DTypes) -> tuple[str, ...]:
    """Test cases of a unary op: several ranks of the first dtype, one case for each other."""
    first, *rest = accepts.listed
    shapes = (f"{first}[2, 3]", first, f"{first}[0, 4]", f"{first}[1, 3, 1]")
    return tuple(f"{name}({type_})" for type_ in (*shapes, *[f"{dtype}[7]" for dtype in rest]))


def binary_cases(name: str, accepts: DTypes) -> tuple[str, ...]:
    """Test cases of a binary op: broadcasts of the first dtype, one case for each other."""
    first, *rest = accepts.listed
    shapes = (
        ("[2, 3]", "[2, 3]"),
        ("[2, 3]", "[3]"),
        ("[4, 1]", "[1, 5]"),
        ("", "[2]"),
        ("", ""),
        ("[2, 1, 3]", "[4, 1]"),
        ("[0, 4]", "[4]"),
        ("[1]", "[0]"),
    )
    cases = [f"{name}({first}{x}, {first}{y})" for x, y in shapes]
    cases += [f"{name}({dtype}[2, 3], {dtype}[3])" for dtype in rest]
    return tuple(cases)
