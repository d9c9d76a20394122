"""How the partial results of a reduction combine:

the kinds, the op of each, and what nothing at all gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepforge.ir.core import Const
from stepforge.ir.types import Type, numpy_dtype

# kind -> the elementwise op that makes one result of two
COMBINE = {
    "add": "add",
    "mul": "mul",
    "max": "maximum",
    "min": "minimum",
    "and": "logical_and",
    "or": "logical_or",
}
WIDER = {"f32": "f64", "f16": "f32", "bf16": "f32"}  # precision of the outer sum


def lowest(dtype: np.dtype[Any]) -> Any:
    """The least value of a real dtype: what the maximum of nothing is."""
    return dtype.type("-inf") if dtype.kind not in "iub" else _integer_limit(dtype, "min")


def highest(dtype: np.dtype[Any]) -> Any:
    """The greatest value of a real dtype: what the minimum of nothing is."""
    return dtype.type("inf") if dtype.kind not in "iub" else _integer_limit(dtype, "max")


def _integer_limit(dtype: np.dtype[Any], which: str) -> Any:
    if dtype.kind == "b":
        return dtype.type(which == "max")
    return dtype.type(getattr(np.iinfo(dtype), which))


_IDENTITY: dict[str, Callable[[np.dtype[Any]], Any]] = {
    "add": lambda dtype: dtype.type(0),
    "mul": lambda dtype: dtype.type(1),
    "max": lowest,
    "min": highest,
    "and": lambda dtype: dtype.type(True),
    "or": lambda dtype: dtype.type(False),
}


def identity(kind: str, dtype: str) -> Const:
    """What a reduction of ``kind`` starts from."""
    value = _IDENTITY[kind](numpy_dtype(dtype))
    # bfloat16 has no Python number of its own
    return Const(Type(dtype), float(value) if dtype == "bf16" else value.item())


def precision(kind: str, dtype: str) -> tuple[str, str]:
    """The dtypes in which a reduction to ``dtype`` combines elements, and what comes of those."""
    wide = WIDER.get(dtype, dtype) if kind in ("add", "mul") else dtype
    return (dtype if dtype in ("f32", "f64") else wide), wide  # halves add up in single precision
