"""Ops whose result sizes depend on values, and segment reductions.

``binds`` names the size that the op finds; later shapes mention it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stepforge.ir import dims
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.ops import arrays
from stepforge.ir.ops.arrays import Array, accumulator, is_integer, largest_finite, narrow, widen
from stepforge.ir.ops.inference import (
    BOOL,
    INDICES,
    NUMBER,
    REAL,
    SORTABLE,
    check_dtype,
    check_min_rank,
    check_rank,
    check_same_dtype,
    known_dims,
    merge_dims,
)
from stepforge.ir.types import Type, numpy_dtype

KINDS = ("sum", "mean", "prod", "max", "min")


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


def _empty_segment(kind: str, dtype: np.dtype[Any]) -> Any:
    """What a segment without elements gives: of max and min the finite limits, as TensorFlow."""
    if kind in ("sum", "mean", "prod"):
        return dtype.type(kind == "prod")
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return limits.min if kind == "max" else limits.max
    largest = largest_finite(dtype)
    return -largest if kind == "max" else largest


_UFUNCS: dict[str, np.ufunc] = {
    "sum": np.add,
    "mean": np.add,
    "prod": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}


@define_op
class SegmentSum(OpDef):
    """Element i of the result combines the slices of ``x`` whose id is i; other ids are left out.

    ``ids`` covers the leading axes of ``x``. ``kind``: sum, mean, prod, max, min; no slices give
    0, 0, 1, the lowest and the highest finite value.
    ``%r = segment_sum(%x, %ids, num=m, kind="mean") : f32[m, 3]``
    """

    cases = (
        *[f'segment_sum(f32[5, 3], i32[5], num=4, kind="{kind}")' for kind in KINDS],
        *[f'segment_sum(i32[5], i64[5], num=3, kind="{kind}")' for kind in KINDS],
        "segment_sum(f64[2, 3, 2], i32[2, 3], num=2)",
        "segment_sum(bf16[4], i32[4], num=2)",
        'segment_sum(f16[4, 0], i32[4], num=2, kind="max")',
        "segment_sum(c64[0], i32[0], num=2)",
        "segment_sum(u8[3], i32[3], num=0)",
    )

    def infer(self, x: Type, ids: Type, *, num: Dim, kind: str = "sum") -> Type:
        if kind not in KINDS:
            raise ShapeError(f"segment_sum: kind {kind!r} is none of {', '.join(KINDS)}")
        check_dtype("segment_sum", REAL if kind in ("max", "min") else NUMBER, x=x)
        check_dtype("segment_sum", INDICES, ids=ids)
        rank = len(known_dims("segment_sum", ids=ids))
        check_min_rank("segment_sum", rank, x=x)
        shapes = {"x": x.dims[:rank], "ids": ids.dims}
        merge_dims("segment_sum", shapes, {"x": x, "ids": ids}, "leading axes")
        return x.with_shape((num, *x.dims[rank:]))

    def numpy(self, x: Array, ids: Array, *, num: int, kind: str) -> Array:
        flat = ids.reshape(-1)
        kept = (flat >= 0) & (flat < num)
        wide = accumulator(x) if kind in ("sum", "mean", "prod") else widen(x)
        rows = wide.reshape(flat.shape + x.shape[ids.ndim :])[kept]
        out = np.full((num, *rows.shape[1:]), _empty_segment(kind, x.dtype), wide.dtype)
        with np.errstate(all="ignore"):
            _UFUNCS[kind].at(out, flat[kept], rows)
            if kind == "mean":
                counts = np.bincount(flat[kept], minlength=num).astype(wide.dtype)
                counts = np.maximum(counts, counts.dtype.type(1))
                counts = counts.reshape((-1,) + (1,) * (out.ndim - 1))
                out = arrays.trunc_div(out, counts) if is_integer(out) else out / counts
            return narrow(out, x.dtype)
