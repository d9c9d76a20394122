"""Sorting, and the largest elements of a row. Orders are stable; NaN comes last in either
direction.

Where elements are equal, the one with the lower index comes first, in descending order too.
"""

from __future__ import annotations

import numpy as np

from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.ops.arrays import Array, is_integer, widen
from stepforge.ir.ops.inference import (
    FLOAT,
    INDICES,
    REAL,
    check_dtype,
    check_min_rank,
    check_rank,
    known_axis,
    merge_dims,
)
from stepforge.ir.types import Type, numpy_dtype


def order(x: Array, axis: int, descending: bool) -> Array:
    """The positions that sort ``x``."""
    x = widen(x)
    if descending:
        x = np.invert(x) if is_integer(x) else -x  # ~x runs the other way for every integer dtype
    return np.argsort(x, axis, kind="stable")


def sort_cases(name: str) -> tuple[str, ...]:
    """Test cases of ``sort`` and ``argsort``."""
    cases = [f"{name}({dtype}[5], axis=0)" for dtype in REAL.listed]
    cases += [f"{name}(f32[2, 3], axis=1, descending=true)", f"{name}(f64[2, 0], axis=-1)"]
    return tuple([*cases, f"{name}(i32[3, 2], axis=0, descending=true)"])


@define_op
class Sort(OpDef):
    """The elements along ``axis`` in order. ``%r = sort(%x, axis=0, descending=true) : f32[n]``"""

    cases = sort_cases("sort")

    def infer(self, x: Type, *, axis: int, descending: bool = False) -> Type:
        check_dtype("sort", REAL, x=x)
        known_axis("sort", axis, x=x)
        return x

    def numpy(self, x: Array, *, axis: int, descending: bool) -> Array:
        return np.take_along_axis(x, order(x, axis, descending), axis)


@define_op
class Argsort(OpDef):
    """The positions that sort the elements along ``axis``. ``%r = argsort(%x, axis=0) : i32[n]``"""

    cases = (*sort_cases("argsort"), 'argsort(f32[3], axis=0, dtype="i64")')

    def infer(self, x: Type, *, axis: int, descending: bool = False, dtype: str = "i32") -> Type:
        check_dtype("argsort", REAL, x=x)
        check_dtype("argsort", INDICES, result=Type(dtype))
        known_axis("argsort", axis, x=x)
        return x.with_dtype(dtype)

    def numpy(self, x: Array, *, axis: int, descending: bool, dtype: str) -> Array:
        return order(x, axis, descending).astype(numpy_dtype(dtype))


@define_op
class TopK(OpDef):
    """The ``k`` largest elements of the last axis, in descending order, and their positions.

    Without ``sorted`` their order is of no importance. Extraction requires k elements.
    ``%values, %indices = top_k(%x, k=3) : f32[n, 3], i32[n, 3]``
    """

    cases = (
        "top_k(f32[2, 5], k=3)",
        "top_k(i64[4], k=4)",
        "top_k(f64[2, 3], k=0)",
        "top_k(bf16[6], k=2, sorted=false)",
        "top_k(u8[2, 0], k=0)",
        "top_k(f16[1, 1], k=1)",
    )

    def infer(self, x: Type, *, k: Dim, sorted: bool = True) -> tuple[Type, Type]:
        check_dtype("top_k", REAL, x=x)
        check_min_rank("top_k", 1, x=x)
        room = x.dims[-1] - k
        if isinstance(room, int) and room < 0:
            raise ShapeError(f"top_k: x must have at least k = {k} columns, but is {x}")
        shape = (*x.dims[:-1], k)
        return x.with_shape(shape), Type("i32", shape)

    def numpy(self, x: Array, *, k: int, sorted: bool) -> tuple[Array, Array]:
        places = order(x, -1, True)[..., :k]
        return np.take_along_axis(x, places, -1), places.astype(np.int32)


@define_op
class InTopK(OpDef):
    """Whether fewer than ``k`` classes of a row are predicted above its target class.

    False where a prediction of the row is not finite or the target is no class.
    ``%r = in_top_k(%predictions, %targets, k=5) : bool[n]``
    """

    cases = (
        "in_top_k(f32[4, 3], i32[4], k=1)",
        "in_top_k(f32[4, 5], i64[4], k=3)",
        "in_top_k(f32[0, 3], i32[0], k=2)",
        "in_top_k(f32[2, 3], i32[2], k=0)",
    )

    def infer(self, predictions: Type, targets: Type, *, k: Dim) -> Type:
        check_dtype("in_top_k", FLOAT, predictions=predictions)
        check_dtype("in_top_k", INDICES, targets=targets)
        check_rank("in_top_k", 2, predictions=predictions)
        check_rank("in_top_k", 1, targets=targets)
        shapes = {"predictions": predictions.dims[:1], "targets": targets.dims}
        operands = {"predictions": predictions, "targets": targets}
        return Type("bool", merge_dims("in_top_k", shapes, operands, "batches"))

    def numpy(self, predictions: Array, targets: Array, *, k: int) -> Array:
        rows = widen(predictions)
        hot = targets[:, None] == np.arange(rows.shape[1])
        aim = np.sum(np.where(hot, rows, 0), 1, keepdims=True)
        above = np.sum(rows > aim, 1)
        known = hot.any(1) & np.isfinite(rows).all(1)
        return np.asarray(known & (above < k))
