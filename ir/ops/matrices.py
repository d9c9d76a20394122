"""Diagonals and bands of matrices, which lie in the last two axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepforge.ir import dims
from stepforge.ir.builder import Builder
from stepforge.ir.core import Operand
from stepforge.ir.dims import Dim
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.ops.arrays import Array
from stepforge.ir.ops.expansion import number, size_value
from stepforge.ir.ops.inference import (
    PLAIN,
    check_dtype,
    check_min_rank,
    check_same_dtype,
    merge_dims,
)
from stepforge.ir.types import Type

Dims = tuple[Dim, ...]


def counters(b: Builder, shape: Dims) -> tuple[Operand, Operand]:
    """Row and column numbers of a matrix, as i64[rows, 1] and i64[1, columns]."""
    rows, columns = shape[-2:]
    return (
        b.emit("iota", shape=(rows, 1), axis=0, dtype="i64"),
        b.emit("iota", shape=(1, columns), axis=1, dtype="i64"),
    )


@define_op
class MatrixDiag(OpDef):
    """Square matrices with the vectors in the last axis as diagonals.

    ``%r = matrix_diag(%x) : f32[n, n]``
    """

    cases = (
        "matrix_diag(f32[3])",
        "matrix_diag(i64[2, 3])",
        "matrix_diag(bool[1])",
        "matrix_diag(c64[2, 0])",
        "matrix_diag(bf16[2, 1, 2])",
    )

    def infer(self, x: Type) -> Type:
        check_dtype("matrix_diag", PLAIN, x=x)
        check_min_rank("matrix_diag", 1, x=x)
        return x.with_shape((*x.dims, x.dims[-1]))

    def numpy(self, x: Array) -> Array:
        out = np.zeros((*x.shape, x.shape[-1]), x.dtype)
        places = np.arange(x.shape[-1])
        out[..., places, places] = x
        return out

    def expand(self, b: Builder, x: Operand) -> Any:
        shape = x.type.dims
        row, column = counters(b, (shape[-1], shape[-1]))
        across = b.emit("reshape", x, shape=(*shape, 1))
        return b.emit("select", b.emit("equal", row, column), across, number(b, 0, x.type.dtype))


@define_op
class MatrixDiagPart(OpDef):
    """The diagonals of matrices. ``%r = matrix_diag_part(%x) : f32[min(m, n)]``"""

    cases = (
        "matrix_diag_part(f32[3, 3])",
        "matrix_diag_part(i32[2, 3, 4])",
        "matrix_diag_part(f16[4, 2])",
        "matrix_diag_part(bool[0, 2])",
    )

    def infer(self, x: Type) -> Type:
        check_dtype("matrix_diag_part", PLAIN, x=x)
        check_min_rank("matrix_diag_part", 2, x=x)
        return x.with_shape((*x.dims[:-2], dims.minimum(x.dims[-2], x.dims[-1])))

    def numpy(self, x: Array) -> Array:
        return np.diagonal(x, axis1=-2, axis2=-1)

    def expand(self, b: Builder, x: Operand) -> Any:
        *batch, rows, columns = x.type.dims
        length = dims.minimum(rows, columns)
        flat = b.emit("reshape", x, shape=(*batch, rows * columns))
        numbers = b.emit("iota", shape=(length,), axis=0, dtype="i64")
        places = b.emit("mul", numbers, size_value(b, columns + 1, "i64"))
        return b.emit("gather", flat, places, axis=len(batch))


@define_op
class MatrixSetDiag(OpDef):
    """Matrices with other diagonals. ``%r = matrix_set_diag(%x, %diagonal) : f32[m, n]``"""

    cases = (
        "matrix_set_diag(f32[3, 3], f32[3])",
        "matrix_set_diag(i32[2, 3, 4], i32[2, 3])",
        "matrix_set_diag(bf16[4, 2], bf16[2])",
        "matrix_set_diag(bool[2, 2], bool[2])",
        "matrix_set_diag(f64[0, 2], f64[0])",
    )

    def infer(self, x: Type, diagonal: Type) -> Type:
        check_dtype("matrix_set_diag", PLAIN, x=x)
        check_same_dtype("matrix_set_diag", x=x, diagonal=diagonal)
        check_min_rank("matrix_set_diag", 2, x=x)
        check_min_rank("matrix_set_diag", 1, diagonal=diagonal)
        length = dims.minimum(x.dims[-2], x.dims[-1])
        shapes = {"place": (*x.dims[:-2], length), "diagonal": diagonal.dims}
        merge_dims("matrix_set_diag", shapes, {"x": x, "diagonal": diagonal}, "diagonals")
        return x

    def numpy(self, x: Array, diagonal: Array) -> Array:
        out = x.copy()
        places = np.arange(min(x.shape[-2:]))
        out[..., places, places] = diagonal
        return np.asarray(out)

    def expand(self, b: Builder, x: Operand, diagonal: Operand) -> Any:
        *batch, rows, columns = x.type.dims
        short = rows - dims.minimum(rows, columns)
        low, high = (0,) * (len(batch) + 1), (0,) * len(batch) + (short,)
        padded = b.emit("pad", diagonal, number(b, 0, x.type.dtype), low=low, high=high)
        across = b.emit("reshape", padded, shape=(*batch, rows, 1))
        row, column = counters(b, (rows, columns))
        return b.emit("select", b.emit("equal", row, column), across, x)


@define_op
class MatrixBandPart(OpDef):
    """Matrices with zeros beyond ``lower`` subdiagonals and ``upper`` superdiagonals; -1 keeps all.

    ``%r = matrix_band_part(%x, lower=-1, upper=0) : f32[n, n]`` is the lower triangle.
    """

    cases = (
        "matrix_band_part(f32[3, 3], lower=-1, upper=0)",
        "matrix_band_part(i32[2, 3, 4], lower=0, upper=-1)",
        "matrix_band_part(c64[4, 4], lower=1, upper=2)",
        "matrix_band_part(bool[3, 2], lower=0, upper=0)",
        "matrix_band_part(f64[0, 2], lower=-1, upper=-1)",
    )

    def infer(self, x: Type, *, lower: Dim, upper: Dim) -> Type:
        check_dtype("matrix_band_part", PLAIN, x=x)
        check_min_rank("matrix_band_part", 2, x=x)
        return x

    def numpy(self, x: Array, *, lower: int, upper: int) -> Array:
        rows, columns = np.arange(x.shape[-2])[:, None], np.arange(x.shape[-1])
        kept = (lower < 0) | (rows - columns <= lower)
        kept = kept & ((upper < 0) | (columns - rows <= upper))
        return np.where(kept, x, np.zeros((), x.dtype))

    def expand(self, b: Builder, x: Operand, *, lower: Dim, upper: Dim) -> Any:
        row, column = counters(b, x.type.dims)
        nothing = number(b, 0, x.type.dtype)
        for near, far, limit in ((row, column, lower), (column, row, upper)):
            if isinstance(limit, int) and limit < 0:
                continue
            within = b.emit("less_equal", b.emit("sub", near, far), size_value(b, limit, "i64"))
            x = b.emit("select", within, x, nothing)
        return x
