"""Segment reductions: slices that have one number are combined."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepforge.ir import dims
from stepforge.ir.core import Const, Operand
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.ops import arrays
from stepforge.ir.ops.arrays import Array, accumulator, is_integer, largest_finite, narrow, widen
from stepforge.ir.ops.inference import (
    INDICES,
    NUMBER,
    REAL,
    check_dtype,
    check_min_rank,
    known_dims,
    merge_dims,
)
from stepforge.ir.types import Type, numpy_dtype

KINDS = ("sum", "mean", "prod", "max", "min")


def _empty_segment(kind: str, dtype: np.dtype[Any]) -> Any:
    """What a segment without elements gives: of max and min the finite limits, as TensorFlow."""
    if kind in ("sum", "mean", "prod"):
        return dtype.type(kind == "prod")
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return limits.min if kind == "max" else limits.max
    largest = largest_finite(dtype)
    return -largest if kind == "max" else largest


_OPS = {"sum": "add", "mean": "add", "prod": "mul", "max": "maximum", "min": "minimum"}
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
        *[
            f'segment_sum({dtype}[5], i64[5], num=3, kind="{kind}")'
            for dtype in REAL.listed
            for kind in KINDS
        ],
        "segment_sum(f64[2, 3, 2], i32[2, 3], num=2)",
        "segment_sum(bf16[4], i32[4], num=2)",
        'segment_sum(f16[4, 0], i32[4], num=2, kind="max")',
        "segment_sum(c64[0], i32[0], num=2)",
        "segment_sum(u8[3], i32[3], num=0)",
        'segment_sum(f32[0, 2], i32[0], num=3, kind="mean")',
        "segment_sum(f64[3, 2], i32, num=2)",
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

    def lower(
        self, k: LoopBuilder, out: Operand, x: Operand, ids: Operand, *, num: Dim, kind: str
    ) -> None:
        dtype = out.type.dtype
        wide = "f32" if dtype in ("f16", "bf16") and kind not in ("max", "min") else dtype
        total = out if wide == dtype else k.alloc(wide, out.type.dims)
        nothing = _empty_segment(kind, numpy_dtype(dtype))
        value = float(nothing) if total.type.kind == "f" else int(nothing)
        k.fill(Const(Type(wide), value), total)
        counts = k.alloc("i32", (num,)) if kind == "mean" else None
        if counts is not None:
            k.fill(Const(Type("i32"), 0), counts)
        _add_slices(k, total, counts, x, ids, kind)
        if counts is not None:
            _divide(k, total, counts)
        if total is not out:
            with k.nest(out.type.dims) as at:
                k.store(k.cast(k.load(total, *at), dtype), out, *at)


def _add_slices(
    k: LoopBuilder, total: Operand, counts: Operand | None, x: Operand, ids: Operand, kind: str
) -> None:
    """Combine the slices of ``x`` into ``total``, one after the other."""
    num, rank, dtype = total.type.dims[0], ids.type.rank, total.type.dtype
    with k.nest((dims.minimum(num, 1), *ids.type.dims), simd=False) as (_, *at):
        number = k.load(ids, *at)
        inside = k.emit("less", k.cast(number, "i64"), k.number(num))
        kept = k.emit("logical_and", k.emit("greater_equal", number, Const(number.type, 0)), inside)
        row = k.to_index(number, num)
        with k.nest(total.type.dims[1:]) as place:
            old = k.load(total, row, *place)
            new = k.emit(_OPS[kind], old, k.cast(k.load(x, *at[:rank], *place), dtype))
            k.store(k.emit("select", kept, new, old), total, row, *place)
        if counts is not None:
            k.store(k.emit("add", k.load(counts, row), k.cast(kept, "i32")), counts, row)


def _divide(k: LoopBuilder, total: Operand, counts: Operand) -> None:
    """Divide each segment by how many slices it has."""
    divide = "div" if total.type.kind == "f" else "trunc_div"
    with k.nest(total.type.dims) as (row, *place):
        number = k.emit("maximum", k.load(counts, row), Const(Type("i32"), 1))
        mean = k.emit(divide, k.load(total, row, *place), k.cast(number, total.type.dtype))
        k.store(mean, total, row, *place)
