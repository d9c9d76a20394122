"""Ops whose result sizes depend on values.

``binds`` names the size that the op finds; later shapes mention it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stepforge.ir import dims
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.ops.arrays import Array, widen
from stepforge.ir.ops.inference import (
    BOOL,
    INDICES,
    SORTABLE,
    check_dtype,
    check_rank,
    check_same_dtype,
    known_dims,
)
from stepforge.ir.types import Type, numpy_dtype

@define_op
class Where(OpDef):
    """The index vectors of the true elements, in row-major order.

    ``%r = where(%c, binds="m") : i64[m, 2]``
    """

    cases = (
        'where(bool[5], binds="m")',
        'where(bool[2, 3], binds="m")',
        'where(bool[0, 3], binds="m")',
        'where(bool, binds="m")',
        'where(bool[2, 1, 3], binds="m")',
    )

    def infer(self, condition: Type, *, binds: str) -> Type:
        check_dtype("where", BOOL, condition=condition)
        rank = len(known_dims("where", condition=condition))
        return Type("i64", (dims.named(binds), rank))

    def numpy(self, condition: Array, *, binds: str) -> Array:
        return np.argwhere(condition).astype(np.int64)


def first_appearances(x: Array) -> tuple[Array, Array, Array]:
    """Positions of the distinct elements in order of appearance, each element's rank there, and
    counts.

    Every NaN is distinct.
    """
    _, first, inverse, counts = np.unique(
        widen(x), return_index=True, return_inverse=True, return_counts=True, equal_nan=False
    )
    appearance = np.argsort(first, kind="stable")
    rank = np.empty_like(appearance)
    rank[appearance] = np.arange(appearance.size)
    return first[appearance], rank[inverse.reshape(-1)], counts[appearance]


class UniqueOp(OpDef):
    """Base class: distinct elements of a vector."""

    def vectors(self, x: Type, binds: str, index_dtype: str) -> tuple[Type, Type]:
        """The types of the distinct elements and of the index of each element among them."""
        check_dtype(self.name, SORTABLE, x=x)
        check_dtype(self.name, INDICES, index=Type(index_dtype))
        check_rank(self.name, 1, x=x)
        return x.with_shape((dims.named(binds),)), x.with_dtype(index_dtype)


@define_op
class Unique(UniqueOp):
    """The distinct elements in order of appearance, and where each element is among them.

    ``%values, %index = unique(%x, binds="m") : f32[m], i32[n]``
    """

    cases = (
        'unique(i32[7], binds="m")',
        'unique(f32[5], binds="m", index_dtype="i64")',
        'unique(bf16[5], binds="m")',
        'unique(i64[0], binds="m")',
        'unique(bool[3], binds="m")',
        'unique(string[3], binds="m")',
    )

    def infer(self, x: Type, *, binds: str, index_dtype: str = "i32") -> tuple[Type, Type]:
        return self.vectors(x, binds, index_dtype)

    def numpy(self, x: Array, *, binds: str, index_dtype: str) -> tuple[Array, Array]:
        first, index, _ = first_appearances(x)
        return x[first], index.astype(numpy_dtype(index_dtype))


@define_op
class UniqueWithCounts(UniqueOp):
    """``unique`` and how often each distinct element appears.

    ``%values, %index, %counts = unique_with_counts(%x, binds="m") : f32[m], i32[n], i32[m]``
    """

    cases = (
        'unique_with_counts(i32[7], binds="m")',
        'unique_with_counts(f64[5], binds="m", index_dtype="i64")',
        'unique_with_counts(i64[0], binds="m")',
    )

    def infer(self, x: Type, *, binds: str, index_dtype: str = "i32") -> tuple[Type, Type, Type]:
        values, index = self.vectors(x, binds, index_dtype)
        return values, index, values.with_dtype(index_dtype)

    def numpy(self, x: Array, *, binds: str, index_dtype: str) -> tuple[Array, Array, Array]:
        first, index, counts = first_appearances(x)
        dtype = numpy_dtype(index_dtype)
        return x[first], index.astype(dtype), counts.astype(dtype)


@define_op
class Setdiff1d(UniqueOp):
    """The elements of ``x`` that are not in ``y``, in order and with duplicates, and their
    positions.

    ``%values, %index = setdiff1d(%x, %y, binds="m") : i32[m], i32[m]``
    """

    cases = (
        'setdiff1d(i32[6], i32[3], binds="m")',
        'setdiff1d(f32[4], f32[0], binds="m", index_dtype="i64")',
        'setdiff1d(bool[0], bool[2], binds="m")',
        'setdiff1d(string[3], string[2], binds="m")',
    )

    def infer(self, x: Type, y: Type, *, binds: str, index_dtype: str = "i32") -> tuple[Type, Type]:
        check_same_dtype("setdiff1d", x=x, y=y)
        check_rank("setdiff1d", 1, y=y)
        values, _ = self.vectors(x, binds, index_dtype)
        return values, values.with_dtype(index_dtype)

    def numpy(self, x: Array, y: Array, *, binds: str, index_dtype: str) -> tuple[Array, Array]:
        (index,) = np.nonzero(~np.isin(widen(x), widen(y)))
        return x[index], index.astype(numpy_dtype(index_dtype))
