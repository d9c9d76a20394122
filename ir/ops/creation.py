"""Ops that make tensors from dimensions and scalars: counters, fills, shape vectors, one-hot
codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepforge.ir.builder import Builder
from stepforge.ir.core import Operand
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.ops.arrays import Array
from stepforge.ir.ops.inference import (
    INTEGER,
    REAL,
    check_dtype,
    check_rank,
    check_same_dtype,
    known_dims,
)
from stepforge.ir.types import Type, numpy_dtype

Dims = tuple[Dim, ...]


@define_op
class Iota(OpDef):
    """Each element is its position along

    ``axis``. ``%r = iota(shape=[n, 3], axis=0, dtype="i32") : i32[n, 3]``
    """

    cases = (
        'iota(shape=[5], axis=0, dtype="i32")',
        'iota(shape=[2, 3], axis=1, dtype="f32")',
        'iota(shape=[2, 0], axis=0, dtype="i64")',
        'iota(shape=[3], axis=0, dtype="bf16")',
        'iota(shape=[300], axis=0, dtype="u8")',
    )

    def infer(self, *, shape: Dims, axis: int = 0, dtype: str = "i32") -> Type:
        check_dtype("iota", REAL, result=Type(dtype, shape))
        if not 0 <= axis < len(shape):
            raise ShapeError(f"iota: there is no axis {axis} in {Type(dtype, shape)}")
        return Type(dtype, shape)

    def numpy(self, *, shape: tuple[int, ...], axis: int, dtype: str) -> Array:
        counts = np.arange(shape[axis]).astype(numpy_dtype(dtype))
        return np.broadcast_to(counts.reshape((-1,) + (1,) * (len(shape) - 1 - axis)), shape)

    def element(self, k: LoopBuilder, at: Sequence[Operand], *, shape: Dims, axis: int,
                dtype: str) -> Operand:
        return k.emit("from_index", at[axis], dtype=dtype)  # type: ignore[no-any-return]


@define_op
class Fill(OpDef):
    """A scalar everywhere. ``%r = fill(0.0: f32, shape=[n, 10]) : f32[n, 10]``"""

    cases = (
        "fill(f32, shape=[2, 3])",
        "fill(i64, shape=[])",
        "fill(bool, shape=[0, 3])",
        "fill(c64, shape=[1])",
        "fill(bf16, shape=[4])",
        "fill(string, shape=[2])",
    )

    def infer(self, value: Type, *, shape: Dims) -> Type:
        check_rank("fill", 0, value=value)
        return value.with_shape(shape)

    def numpy(self, value: Array, *, shape: tuple[int, ...]) -> Array:
        return np.full(shape, value, value.dtype)


@define_op
class DimsOp(OpDef):
    """Sizes as a vector of integers, or with ``scalar`` one size as a scalar.

    ``%s = dims(values=[n, 28*28], dtype="i32") : i32[2]``; ``dims(values=[n], scalar=true) : i32``
    """

    name = "dims"
    cases = (
        "dims(values=[2, 3])",
        'dims(values=[], dtype="i64")',
        'dims(values=[7], dtype="i64", scalar=true)',
    )

    def infer(self, *, values: Dims, dtype: str = "i32", scalar: bool = False) -> Type:
        result = Type(dtype, () if scalar else (len(values),))
        check_dtype("dims", INTEGER, result=result)
        if scalar and len(values) != 1:
            raise ShapeError(f"dims: a scalar has one value, not {len(values)}")
        return result

    def numpy(self, *, values: tuple[int, ...], dtype: str, scalar: bool) -> Array:
        vector = np.array(values, np.int64).astype(numpy_dtype(dtype))
        return vector.reshape(()) if scalar else vector

    def lower(self, k: LoopBuilder, out: Operand, *, values: Dims, dtype: str,
              scalar: bool) -> None:
        for position, value in enumerate(values):
            at = () if scalar else (k.index(offset=position),)
            k.store(k.emit("from_index", k.index(offset=value), dtype=dtype), out, *at)


@define_op
class OneHot(OpDef):
    """``on`` at the position that each index gives along a new axis of ``depth`` elements, else
    ``off``.

    An index outside of [0, depth) gives ``off`` everywhere.
    ``%r = one_hot(%i, 1.0: f32, 0.0: f32, depth=10) : f32[n, 10]``
    """

    cases = (
        "one_hot(i32[4], f32, f32, depth=3)",
        "one_hot(i64[2, 3], i32, i32, depth=4, axis=0)",
        "one_hot(u8, bool, bool, depth=300)",
        "one_hot(i32[0], f64, f64, depth=2, axis=1)",
        "one_hot(i32[2], c64, c64, depth=0)",
    )

    def infer(self, indices: Type, on: Type, off: Type, *, depth: Dim, axis: int = -1) -> Type:
        check_dtype("one_hot", INTEGER, indices=indices)
        check_same_dtype("one_hot", on=on, off=off)
        check_rank("one_hot", 0, on=on, off=off)
        shape = known_dims("one_hot", indices=indices)
        place = self.place(axis, indices)
        return Type(on.dtype, (*shape[:place], depth, *shape[place:]))

    @staticmethod
    def place(axis: int, indices: Type) -> int:
        """The new axis counted from the front. Raises: ShapeError."""
        if not -indices.rank - 1 <= axis <= indices.rank:
            raise ShapeError(f"one_hot: axis {axis} is none of the codes of {indices}")
        return axis % (indices.rank + 1)

    def numpy(self, indices: Array, on: Array, off: Array, *, depth: int, axis: int) -> Array:
        place = axis % (indices.ndim + 1)
        counts = np.arange(depth).reshape((-1,) + (1,) * (indices.ndim - place))
        return np.where(np.expand_dims(indices, place) == counts, on, off)

    def expand(
        self, b: Builder, indices: Operand, on: Operand, off: Operand, *, depth: Dim, axis: int
    ) -> Any:
        shape = indices.type.dims
        place = self.place(axis, indices.type)
        single = (*shape[:place], 1, *shape[place:])
        whole = (*shape[:place], depth, *shape[place:])
        wide = b.emit("cast", indices, dtype="i64")  # counts of a narrow dtype would wrap
        counts = b.emit("iota", shape=whole, axis=place, dtype="i64")
        hot = b.emit("equal", b.emit("reshape", wide, shape=single), counts)
        return b.emit("select", hot, on, off)

    def element(self, k: LoopBuilder, at: Sequence[Operand], indices: Operand, on: Operand,
                off: Operand, *, depth: Dim, axis: int) -> Operand:
        place = axis % len(at)
        index = k.load(indices, *at[:place], *at[place + 1 :])
        here = k.emit("from_index", at[place], dtype="i64")
        hot = k.emit("equal", k.emit("cast", index, dtype="i64"), here)
        values = [k.element(value, (), ()) for value in (on, off)]
        return k.emit("select", hot, *values)  # type: ignore[no-any-return]
