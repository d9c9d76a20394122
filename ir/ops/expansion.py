"""What the ``expand`` rules share: constants and sizes as operands."""

from __future__ import annotations

from typing import Any

from stepforge.ir.builder import Builder
from stepforge.ir.core import Const
from stepforge.ir.dims import Dim
from stepforge.ir.types import COMPLEX, FLOATS


def number(b: Builder, value: int | float, dtype: str) -> Const:
    """A scalar constant of ``dtype``, its Python number of the kind that goes with the dtype."""
    if dtype == "bool":
        return b.constant(bool(value), dtype)
    if dtype in COMPLEX:
        return b.constant(complex(value), dtype)
    return b.constant(float(value) if dtype in FLOATS else int(value), dtype)


def size_value(b: Builder, size: Dim, dtype: str) -> Any:
    """A size as a scalar of ``dtype``: a constant where it is known."""
    if isinstance(size, int):
        return number(b, size, dtype)
    value = b.emit("dims", values=(size,), dtype="i64", scalar=True)
    return value if dtype == "i64" else b.emit("cast", value, dtype=dtype)
