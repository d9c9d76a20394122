"""Reductions over axes, positions of extremes, and running sums and products.

``axes`` are distinct and counted from the front. Sums of 16-bit floats are made in f32 and
rounded once; sums of f32 in double here, which native code comes close to by summing in blocks.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from stepforge.ir import dims
from stepforge.ir.builder import Builder
from stepforge.ir.combining import COMBINE, highest, identity, lowest
from stepforge.ir.core import Operand
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.ops import arrays
from stepforge.ir.ops.arrays import Array, accumulator, is_integer, narrow, widen
from stepforge.ir.ops.expansion import size_value
from stepforge.ir.ops.inference import (
    BOOL,
    NUMBER,
    REAL,
    DTypes,
    check_dtype,
    known_axes,
    known_axis,
)
from stepforge.ir.types import INTEGERS, UNSIGNED, Type

Axes = tuple[int, ...]


def reduce_cases(name: str, accepts: DTypes) -> tuple[str, ...]:
    """Test cases of a reduction: several axes of the first dtype, one case for each other."""
    first, *rest = accepts.listed
    cases = [
        f"{name}({first}[2, 3], axes=[0])",
        f"{name}({first}[2, 3], axes=[0, 1])",
        f"{name}({first}[2, 3, 4], axes=[1], keep_dims=true)",
        f"{name}({first}[2, 0], axes=[1])",
        f"{name}({first}[0, 3], axes=[1])",
        f"{name}({first}[2, 3], axes=[])",
        f"{name}({first}, axes=[])",
        f"{name}({first}[1], axes=[0])",
    ]
    return tuple(cases + [f"{name}({dtype}[5, 3], axes=[0])" for dtype in rest])


class Reduction(OpDef):
    """Base class: elements along ``axes`` become one; ``keep_dims`` leaves these axes with size
    1.
    """

    accepts: ClassVar[DTypes]

    def infer(self, x: Type, *, axes: Axes, keep_dims: bool = False) -> Type:
        check_dtype(self.name, self.accepts, x=x)
        gone = set(known_axes(self.name, axes, x=x))
        if keep_dims:
            return x.with_shape(tuple([1 if i in gone else n for i, n in enumerate(x.dims)]))
        return x.with_shape(tuple([n for i, n in enumerate(x.dims) if i not in gone]))

    def numpy(self, x: Array, *, axes: Axes, keep_dims: bool) -> Array:
        with np.errstate(all="ignore"):
            return narrow(self.reduced(x, axes, keep_dims), x.dtype)

    def reduced(self, x: Array, axes: Axes, keep_dims: bool) -> Any:
        """The reduction in a dtype of its own choice."""
        raise NotImplementedError


@define_op
class ReduceSum(Reduction):
    """The sum; integers wrap. ``%r = reduce_sum(%x, axes=[1]) : f32[n]``"""

    accepts = NUMBER
    cases = reduce_cases("reduce_sum", NUMBER)

    def reduced(self, x: Array, axes: Axes, keep_dims: bool) -> Any:
        """The sum, in double for f32."""
        wide = accumulator(x)
        return np.sum(wide, axes, wide.dtype, keepdims=keep_dims)


@define_op
class ReduceProd(Reduction):
    """The product; integers wrap. ``%r = reduce_prod(%x, axes=[1]) : f32[n]``"""

    accepts = NUMBER
    cases = reduce_cases("reduce_prod", NUMBER)

    def reduced(self, x: Array, axes: Axes, keep_dims: bool) -> Any:
        """The product, in double for f32."""
        wide = accumulator(x)
        return np.prod(wide, axes, wide.dtype, keepdims=keep_dims)


@define_op
class ReduceMax(Reduction):
    """The largest element, NaN if any is; of none, -inf or the least integer.

    ``%r = reduce_max(%x, axes=[1]) : f32[n]``
    """

    accepts = REAL
    cases = reduce_cases("reduce_max", REAL)

    def reduced(self, x: Array, axes: Axes, keep_dims: bool) -> Any:
        """The maximum."""
        wide = widen(x)
        return np.max(wide, axes, keepdims=keep_dims, initial=lowest(wide.dtype))


@define_op
class ReduceMin(Reduction):
    """The smallest element, NaN if any is; of none, inf or the greatest integer.

    ``%r = reduce_min(%x, axes=[1]) : f32[n]``
    """

    accepts = REAL
    cases = reduce_cases("reduce_min", REAL)

    def reduced(self, x: Array, axes: Axes, keep_dims: bool) -> Any:
        """The minimum."""
        wide = widen(x)
        return np.min(wide, axes, keepdims=keep_dims, initial=highest(wide.dtype))


@define_op
class ReduceMean(Reduction):
    """The sum divided by the count: NaN for no elements, for integers rounded towards 0 (0 for
    none).

    Integers are summed in 64 bits. ``%r = reduce_mean(%x, axes=[1]) : f32[n]``
    """

    accepts = NUMBER
    cases = reduce_cases("reduce_mean", NUMBER)

    def reduced(self, x: Array, axes: Axes, keep_dims: bool) -> Any:
        """The mean, in double for f32 and in 64 bits for integers."""
        count = np.asarray(math.prod(x.shape[axis] for axis in axes))
        if is_integer(x):
            wide = np.dtype(np.uint64 if x.dtype.kind == "u" else np.int64)
            total = np.asarray(np.sum(x, axes, wide, keepdims=keep_dims))
            return arrays.trunc_div(total, count.astype(wide))
        parts = accumulator(x)
        total = np.sum(parts, axes, parts.dtype, keepdims=keep_dims)
        return np.divide(total, count.astype(parts.real.dtype))

    def expand(self, b: Builder, x: Operand, *, axes: Axes, keep_dims: bool) -> Any:
        dtype = x.type.dtype
        wide = self.wide_dtype(dtype)
        total = b.emit("reduce_sum", b.emit("cast", x, dtype=wide), axes=axes, keep_dims=keep_dims)
        size = dims.product([x.type.dims[axis] for axis in axes])
        quotient = "trunc_div" if dtype in INTEGERS else "div"
        mean = b.emit(quotient, total, size_value(b, size, wide))
        return b.emit("cast", mean, dtype=dtype)

    @staticmethod
    def wide_dtype(dtype: str) -> str:
        """The dtype that sums are made in."""
        if dtype in INTEGERS:
            return "u64" if dtype in UNSIGNED else "i64"
        return "f32" if dtype in ("f16", "bf16") else dtype


@define_op
class ReduceAny(Reduction):
    """True where any element is; of none, false. ``%r = reduce_any(%x, axes=[1]) : bool[n]``"""

    accepts = BOOL
    cases = reduce_cases("reduce_any", BOOL)

    def reduced(self, x: Array, axes: Axes, keep_dims: bool) -> Any:
        """Whether any is true."""
        return np.any(x, axes, keepdims=keep_dims)


@define_op
class ReduceAll(Reduction):
    """True where all elements are; of none, true. ``%r = reduce_all(%x, axes=[1]) : bool[n]``"""

    accepts = BOOL
    cases = reduce_cases("reduce_all", BOOL)

    def reduced(self, x: Array, axes: Axes, keep_dims: bool) -> Any:
        """Whether all are true."""
        return np.all(x, axes, keepdims=keep_dims)


def scan_cases(name: str) -> tuple[str, ...]:
    """Test cases of ``cumsum`` and ``cumprod``."""
    flags = ("", ", exclusive=true", ", reverse=true", ", exclusive=true, reverse=true")
    cases = [f"{name}(f32[2, 3], axis=1{flag})" for flag in flags]
    cases += [f"{name}({dtype}[4], axis=0)" for dtype in NUMBER.listed]
    cases += [f"{name}(f64[2, 0], axis=1, exclusive=true)", f"{name}(i32[3, 2], axis=-2)"]
    return tuple(cases)


class Scan(OpDef):
    """Base class: the running combination along an axis.

    ``exclusive`` leaves each element itself out, ``reverse`` runs from the end.
    """

    combine: ClassVar[np.ufunc]
    start: ClassVar[int]

    def infer(self, x: Type, *, axis: int, exclusive: bool = False, reverse: bool = False) -> Type:
        check_dtype(self.name, NUMBER, x=x)
        known_axis(self.name, axis, x=x)
        return x

    def lower(self, k: LoopBuilder, out: Operand, x: Operand, *, axis: int, exclusive: bool,
              reverse: bool) -> None:
        place, shape, dtype = axis % x.type.rank, x.type.dims, x.type.dtype
        wide = "f32" if dtype in ("f16", "bf16") else dtype
        size, kind = shape[place], "add" if self.start == 0 else "mul"
        with k.nest((*shape[:place], *shape[place + 1 :]), simd=place != len(shape) - 1) as at:
            def turn(i: Operand, total: Operand) -> list[Operand]:
                j = k.index((i, -1), offset=size - 1) if reverse else i
                cell = (*at[:place], j, *at[place:])
                following = k.emit(COMBINE[kind], total, k.cast(k.load(x, *cell), wide))
                k.store(k.cast(total if exclusive else following, dtype), out, *cell)
                return [following]

            k.accumulate(size, [identity(kind, wide)], turn, combine=[kind])

    def numpy(self, x: Array, *, axis: int, exclusive: bool, reverse: bool) -> Array:
        if reverse:
            turned = self.numpy(np.flip(x, axis), axis=axis, exclusive=exclusive, reverse=False)
            return np.flip(turned, axis)
        wide = widen(x)
        with np.errstate(all="ignore"):
            total = self.combine.accumulate(wide, axis, wide.dtype)
        if exclusive:
            shifted = np.roll(total, 1, axis)
            np.moveaxis(shifted, axis, 0)[:1] = self.start
            total = shifted
        return narrow(total, x.dtype)


@define_op
class Cumsum(Scan):
    """Running sums. ``%r = cumsum(%x, axis=0, exclusive=true) : f32[n]``"""

    cases = scan_cases("cumsum")
    combine = np.add
    start = 0


@define_op
class Cumprod(Scan):
    """Running products. ``%r = cumprod(%x, axis=0, reverse=true) : f32[n]``"""

    cases = scan_cases("cumprod")
    combine = np.multiply
    start = 1
