"""Gathering and scattering by index. Indices must be in range: extraction emits ``check_bounds``
before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepforge.ir import dims
from stepforge.ir.builder import Builder
from stepforge.ir.core import Operand
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.ops import arrays
from stepforge.ir.ops.arrays import Array, as_rows, is_integer
from stepforge.ir.ops.expansion import number
from stepforge.ir.ops.inference import (
    INDICES,
    NUMBER,
    REAL,
    check_dtype,
    check_min_rank,
    check_rank,
    check_same_dtype,
    describe,
    known_axis,
    known_dims,
    merge_dims,
)
from stepforge.ir.types import Type

Dims = tuple[Dim, ...]
COMBINE = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "div": "div",
    "min": "minimum",
    "max": "maximum",
}
KINDS = ("update", "add", "sub", "mul", "div", "min", "max")


@define_op
class Gather(OpDef):
    """Slices of ``params`` along ``axis``; the first ``batch_dims`` axes of both operands go
    together.

    ``%r = gather(%params, %indices, axis=0) : f32[m, 3]``
    """

    cases = (
        "gather(f32[5, 3], i32[2])",
        "gather(f64[5, 3], i64)",
        "gather(i32[2, 5], i32[2, 3], axis=1)",
        "gather(bf16[2, 5, 3], i64[2, 4], axis=1, batch_dims=1)",
        "gather(c64[2, 3, 5], i32[2, 3], axis=2, batch_dims=2)",
        "gather(bool[2, 4, 3], i32[2, 2], axis=2, batch_dims=1)",
        "gather(f32[4], i32[0])",
        "gather(string[3], i32[2])",
    )

    def infer(self, params: Type, indices: Type, *, axis: int = 0, batch_dims: int = 0) -> Type:
        check_dtype("gather", INDICES, indices=indices)
        inner = known_dims("gather", indices=indices)
        place = known_axis("gather", axis, params=params)
        outer = params.dims
        if not 0 <= batch_dims <= min(len(inner), place):
            raise ShapeError(
                f"gather: batch_dims {batch_dims} exceeds axis {axis} or the rank of indices: "
                f"{describe({'params': params, 'indices': indices})}"
            )
        batches = {"params": outer[:batch_dims], "indices": inner[:batch_dims]}
        operands = {"params": params, "indices": indices}
        batch = merge_dims("gather", batches, operands, "batch sizes")
        shape = (*batch, *outer[batch_dims:place], *inner[batch_dims:], *outer[place + 1 :])
        return params.with_shape(shape)

    def numpy(self, params: Array, indices: Array, *, axis: int, batch_dims: int) -> Array:
        axis %= params.ndim
        if batch_dims == 0:
            return np.asarray(np.take(params, indices, axis, mode="clip"))
        batch = params.shape[:batch_dims]
        rows = [
            np.take(params[at], indices[at], axis - batch_dims, mode="clip")
            for at in np.ndindex(*batch)
        ]
        inner = (*params.shape[batch_dims:axis], *indices.shape[batch_dims:])
        shape = (*batch, *inner, *params.shape[axis + 1 :])
        return np.array(rows, params.dtype).reshape(shape)

    def element(
        self,
        k: LoopBuilder,
        at: Sequence[Operand],
        params: Operand,
        indices: Operand,
        *,
        axis: int,
        batch_dims: int,
    ) -> Operand:
        place, inner = axis % params.type.rank, indices.type.rank
        batch, rest = at[:batch_dims], at[place + inner - batch_dims :]
        row = k.load(indices, *batch, *at[place : place + inner - batch_dims])
        index = k.to_index(row, params.type.dims[place])
        return k.load(params, *at[:place], index, *rest)


def index_depth(op: str, indices: Type) -> int:
    """The components of each index vector: the last size of ``indices``. Raises: ShapeError."""
    check_dtype(op, INDICES, indices=indices)
    check_min_rank(op, 1, indices=indices)
    depth = indices.dims[-1]
    if not isinstance(depth, int):
        raise ShapeError(f"{op}: the last size of indices must be known: {indices}")
    return depth


def flat_rows(b: Builder, indices: Operand, shape: Dims) -> Any:
    """Index vectors into leading axes ``shape`` as row numbers of those axes merged into one."""
    steps = [dims.product(shape[i + 1 :]) for i in range(len(shape))]
    factors = b.emit("dims", values=tuple(steps), dtype="i64")
    wide = b.emit("cast", indices, dtype="i64")
    return b.emit("reduce_sum", b.emit("mul", wide, factors), axes=(indices.type.rank - 1,))


@define_op
class GatherNd(OpDef):
    """Slices of ``params`` at the index vectors in the last axis of ``indices``.

    ``%r = gather_nd(%params, %indices) : f32[m, 3]`` of f32[n, k, 3] and i32[m, 2]
    """

    cases = (
        "gather_nd(f32[4, 5, 3], i32[2, 2])",
        "gather_nd(i64[4, 5], i64[2, 3, 1])",
        "gather_nd(bool[4], i32[1])",
        "gather_nd(f64[2, 3], i32[0, 2])",
        "gather_nd(f32[2, 3], i32[4, 0])",
    )

    def infer(self, params: Type, indices: Type) -> Type:
        depth = index_depth("gather_nd", indices)
        check_min_rank("gather_nd", depth, params=params)
        return params.with_shape((*indices.dims[:-1], *params.dims[depth:]))

    def numpy(self, params: Array, indices: Array) -> Array:
        depth = indices.shape[-1]
        if depth == 0:
            return np.broadcast_to(params, (*indices.shape[:-1], *params.shape))
        return np.asarray(params[as_rows(indices)])

    def expand(self, b: Builder, params: Operand, indices: Operand) -> Any:
        depth = index_depth(self.name, indices.type)
        shape = params.type.dims
        rows = (dims.product(shape[:depth]), *shape[depth:])
        flat = flat_rows(b, indices, shape[:depth])
        return b.emit("gather", b.emit("reshape", params, shape=rows), flat)


def scattered(x: Array, at: Any, updates: Array, kind: str) -> Array:
    """``x`` with ``updates`` combined into the places ``at``, one after the other."""
    out = x.copy()
    if kind == "update":
        out[at] = updates
    elif kind == "div" and is_integer(x):
        rows = np.broadcast_to(updates, x[at].shape)
        for place, row in zip(_places(at), rows, strict=True):
            out[place] = arrays.trunc_div(out[place], row)
    else:
        with np.errstate(all="ignore"):
            _UFUNCS[kind].at(out, at, updates)
    return np.asarray(out)


def _places(at: Any) -> list[Any]:
    """The index vectors of ``at``, which has one batch axis."""
    components = at if isinstance(at, tuple) else (at,)
    return list(zip(*[np.asarray(c) for c in components], strict=True))


_UFUNCS: dict[str, np.ufunc] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.true_divide,
    "min": np.minimum,
    "max": np.maximum,
}


def check_kind(op: str, kind: str, x: Type) -> None:
    """``kind`` is one that exists and takes the dtype of ``x``. Raises: ShapeError, DTypeError."""
    if kind not in KINDS:
        raise ShapeError(f"{op}: kind {kind!r} is none of {', '.join(KINDS)}")
    if kind in ("min", "max"):
        check_dtype(op, REAL, x=x)
    elif kind != "update":
        check_dtype(op, NUMBER, x=x)


def scatter(k: LoopBuilder, out: Operand, indices: Operand, updates: Operand, kind: str) -> None:
    """Combine each slice of ``updates`` with the row of ``out`` that its index names, in order."""
    inner = out.type.dims[1:]
    with k.nest(indices.type.dims, simd=False) as at:
        row = k.to_index(k.element(indices, indices.type.dims, at), out.type.dims[0])
        with k.nest(inner) as place:
            value = k.element(updates, updates.type.dims, (*at, *place))
            if kind != "update":
                op = "trunc_div" if kind == "div" and value.type.kind in "iu" else COMBINE[kind]
                value = k.emit(op, k.load(out, row, *place), value)
            k.store(value, out, row, *place)


@define_op
class ScatterUpdate(OpDef):
    """``x`` with rows of axis 0 combined with ``updates`` (rows, or one scalar) in the order of
    ``indices``.

    ``kind``: update, add, sub, mul, div, min, max; of equal indices the later update comes last.
    ``%r = scatter_update(%x, %indices, %updates, kind="add") : f32[n, 3]``
    """

    cases = (
        *[f'scatter_update(f32[5, 3], i32[4], f32[4, 3], kind="{kind}")' for kind in KINDS],
        'scatter_update(i32[5], i64[2, 3], i32[2, 3], kind="div")',
        'scatter_update(f64[5, 2], i32[3], f64, kind="sub")',
        'scatter_update(bool[5], i32, bool, kind="update")',
        'scatter_update(bf16[5], i32[0], bf16[0], kind="add")',
        'scatter_update(f16[3, 0], i32[2], f16[2, 0], kind="max")',
        'scatter_update(c64[3], i32[2], c64[2], kind="mul")',
    )

    def infer(self, x: Type, indices: Type, updates: Type, *, kind: str) -> Type:
        check_dtype("scatter_update", INDICES, indices=indices)
        check_same_dtype("scatter_update", x=x, updates=updates)
        check_min_rank("scatter_update", 1, x=x)
        check_kind("scatter_update", kind, x)
        rows = (*known_dims("scatter_update", indices=indices), *x.dims[1:])
        if known_dims("scatter_update", updates=updates):
            operands = {"x": x, "indices": indices, "updates": updates}
            shapes = {"rows": rows, "updates": updates.dims}
            merge_dims("scatter_update", shapes, operands, "rows of x and updates")
        return x

    def numpy(self, x: Array, indices: Array, updates: Array, *, kind: str) -> Array:
        flat = indices.reshape(-1)
        rows = updates if updates.ndim == 0 else updates.reshape(flat.shape + x.shape[1:])
        return scattered(x, flat, rows, kind)

    def lower(
        self,
        k: LoopBuilder,
        out: Operand,
        x: Operand,
        indices: Operand,
        updates: Operand,
        *,
        kind: str,
    ) -> None:
        if out is not x:
            k.copy(x, out)
        scatter(k, out, indices, updates, kind)


@define_op
class ScatterNdUpdate(OpDef):
    """``x`` with slices at index vectors combined with ``updates``, in the order of ``indices``.

    ``kind`` as for ``scatter_update``.
    ``%r = scatter_nd_update(%x, %indices, %updates, kind="add") : f32[n]``
    """

    cases = (
        'scatter_nd_update(f32[4, 5], i32[3, 2], f32[3], kind="add")',
        'scatter_nd_update(f64[4, 5], i64[3, 1], f64[3, 5], kind="update")',
        'scatter_nd_update(i32[4], i32[2, 2, 1], i32[2, 2], kind="max")',
        'scatter_nd_update(i32[4], i32[2, 1], i32[2], kind="div")',
        'scatter_nd_update(bool[4], i32[0, 1], bool[0], kind="update")',
    )

    def infer(self, x: Type, indices: Type, updates: Type, *, kind: str) -> Type:
        depth = index_depth("scatter_nd_update", indices)
        check_same_dtype("scatter_nd_update", x=x, updates=updates)
        check_min_rank("scatter_nd_update", max(depth, 1), x=x)
        check_kind("scatter_nd_update", kind, x)
        shapes = {
            "slices": (*indices.dims[:-1], *x.dims[depth:]),
            "updates": known_dims("scatter_nd_update", updates=updates),
        }
        operands = {"x": x, "indices": indices, "updates": updates}
        merge_dims("scatter_nd_update", shapes, operands, "slices of x and updates")
        return x

    def numpy(self, x: Array, indices: Array, updates: Array, *, kind: str) -> Array:
        depth = indices.shape[-1]
        flat = indices.reshape(-1, depth)
        return scattered(x, as_rows(flat), updates.reshape(flat.shape[:1] + x.shape[depth:]), kind)

    def expand(
        self, b: Builder, x: Operand, indices: Operand, updates: Operand, *, kind: str
    ) -> Any:
        shape = x.type.dims
        depth = index_depth(self.name, indices.type)
        rows = b.emit("reshape", x, shape=(dims.product(shape[:depth]), *shape[depth:]))
        flat = flat_rows(b, indices, shape[:depth])
        changed = b.emit("scatter_update", rows, flat, updates, kind=kind)
        return b.emit("reshape", changed, shape=shape)


@define_op
class ScatterNd(OpDef):
    """Zeros of ``shape`` with ``updates`` added at index vectors, so that duplicates sum up.

    ``%r = scatter_nd(%indices, %updates, shape=[n, 3]) : f32[n, 3]``
    """

    cases = (
        "scatter_nd(i32[4, 1], f32[4], shape=[6])",
        "scatter_nd(i64[3, 2], i32[3], shape=[4, 5])",
        "scatter_nd(i32[3, 1], f64[3, 2], shape=[4, 2])",
        "scatter_nd(i32[0, 1], bf16[0], shape=[2])",
        "scatter_nd(i32[2, 1], c64[2], shape=[3])",
    )

    def infer(self, indices: Type, updates: Type, *, shape: Dims) -> Type:
        depth = index_depth("scatter_nd", indices)
        check_dtype("scatter_nd", NUMBER, updates=updates)
        check_rank("scatter_nd", indices.rank - 1 + len(shape) - depth, updates=updates)
        shapes = {"slices": (*indices.dims[:-1], *shape[depth:]), "updates": updates.dims}
        operands = {"indices": indices, "updates": updates}
        merge_dims("scatter_nd", shapes, operands, "slices and updates")
        return updates.with_shape(shape)

    def numpy(self, indices: Array, updates: Array, *, shape: tuple[int, ...]) -> Array:
        depth = indices.shape[-1]
        flat = indices.reshape(-1, depth)
        rows = updates.reshape(flat.shape[:1] + shape[depth:])
        return scattered(np.zeros(shape, updates.dtype), as_rows(flat), rows, "add")

    def expand(self, b: Builder, indices: Operand, updates: Operand, *, shape: Dims) -> Any:
        zeros = b.emit("fill", number(b, 0, updates.type.dtype), shape=shape)
        return b.emit("scatter_nd_update", zeros, indices, updates, kind="add")
