"""Ops that move elements: reshape, transpose, broadcast, join, cut, pad, repeat.

They take every dtype, strings included. Shapes in attributes are tuples of dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from stepforge.ir import dims
from stepforge.ir.builder import Builder
from stepforge.ir.core import Operand
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.ops.arrays import Array
from stepforge.ir.ops.inference import (
    certainly_differ,
    check_same_dtype,
    known_axes,
    known_axis,
    known_dims,
    merge_dims,
)
from stepforge.ir.types import Type

Dims = tuple[Dim, ...]


def shape_text(shape: Dims) -> str:
    """``[n, 3]``, for error messages."""
    return f"[{', '.join(map(str, shape))}]"


def check_length(op: str, attribute: str, values: tuple[Any, ...], x: Type) -> None:
    """An attribute has one value for each axis of ``x``. Raises: ShapeError."""
    if len(values) != len(known_dims(op, x=x)):
        raise ShapeError(f"{op}: {attribute} has {len(values)} values for x, which is {x}")


@define_op
class Reshape(OpDef):
    """The elements in row-major order under another shape.
    ``%r = reshape(%x, shape=[n, 4]) : f32[n, 4]``

    Element counts are checked where both are known; extraction requires them equal otherwise.
    """

    cases = (
        "reshape(f32[2, 6], shape=[3, 4])",
        "reshape(i64[4], shape=[2, 1, 2])",
        "reshape(bool[1, 1], shape=[])",
        "reshape(f64, shape=[1, 1])",
        "reshape(c64[0, 3], shape=[2, 0])",
        "reshape(string[4], shape=[2, 2])",
    )

    def infer(self, x: Type, *, shape: Dims) -> Type:
        if x.shape is not None and certainly_differ(x.size, dims.product(shape)):
            raise ShapeError(
                f"reshape: x is {x} with {x.size} elements, but shape {shape_text(shape)} has "
                f"{dims.product(shape)}"
            )
        return x.with_shape(shape)

    def numpy(self, x: Array, *, shape: tuple[int, ...]) -> Array:
        return x.reshape(shape)


@define_op
class Transpose(OpDef):
    """Axis i of the result is axis

    ``perm[i]`` of ``x``. ``%r = transpose(%x, perm=[1, 0]) : f32[3, n]``
    """

    cases = (
        "transpose(f32[2, 3], perm=[1, 0])",
        "transpose(bf16[2, 3, 4], perm=[2, 0, 1])",
        "transpose(f32[70, 83], perm=[1, 0])",
        "transpose(f64[3, 20, 33], perm=[0, 2, 1])",
        "transpose(i32[17, 2, 3, 16], perm=[2, 3, 0, 1])",
        "transpose(u8[5, 1, 6], perm=[2, 1, 0])",
        "transpose(f32[2, 3, 4], perm=[1, 2, 0])",
        "transpose(i32, perm=[])",
        "transpose(bool[0, 1, 2], perm=[0, 2, 1])",
    )

    def infer(self, x: Type, *, perm: tuple[int, ...]) -> Type:
        check_length("transpose", "perm", perm, x)
        order = known_axes("transpose", perm, x=x)
        return x.with_shape(tuple([x.dims[axis] for axis in order]))

    def numpy(self, x: Array, *, perm: tuple[int, ...]) -> Array:
        return np.transpose(x, perm)

    def lower(self, k: LoopBuilder, out: Operand, x: Operand, *, perm: tuple[int, ...]) -> None:
        """Runs of axes that stay together are one axis; a swap of the last two goes by tiles.

        Where the last axis moves further, it is first left where it is, so that whole rows move.
        """
        shape, order = _merged_permutation(x.type.dims, perm)
        source, target = k.view(x, shape), k.view(out, tuple(shape[axis] for axis in order))
        rank = len(order)
        if rank >= 2 and order == (*range(rank - 2), rank - 1, rank - 2):
            with k.nest(shape[:-2], simd=False) as batch:
                parts = [k.matrix(part, shape[:-2], batch) for part in (source, target)]
                k.emit("transpose_matrix", *parts)
            return
        if order and order[-1] != rank - 1:
            place = order.index(rank - 1)
            rows = (*order[:place], *order[place + 1 :], rank - 1)
            middle = k.alloc(x.type.dtype, tuple(shape[axis] for axis in rows))
            self.lower(k, middle, source, perm=rows)
            swap = (*range(place), rank - 1, *range(place, rank - 1))
            self.lower(k, target, middle, perm=swap)
            return
        with k.nest(target.type.dims) as at:
            cell = k.load(source, *[at[order.index(axis)] for axis in range(rank)])
            k.store(cell, target, *at)


def _merged_permutation(shape: Dims, perm: tuple[int, ...]) -> tuple[Dims, tuple[int, ...]]:
    """A shape and permutation without axes of size 1, neighbours that stay neighbours as one."""
    runs: list[list[int]] = []
    for axis in (axis for axis in perm if shape[axis] != 1):
        following = runs and _follows(shape, runs[-1][-1], axis)
        if following:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    in_order = sorted(runs)
    sizes = tuple(dims.product(shape[axis] for axis in run) for run in in_order)
    return sizes, tuple(in_order.index(run) for run in runs)


def _follows(shape: Dims, before: int, axis: int) -> bool:
    """True where only axes of size 1 lie between two axes."""
    return before < axis and all(shape[k] == 1 for k in range(before + 1, axis))


@define_op
class BroadcastTo(OpDef):
    """``x`` repeated along new axes in front and along axes of size 1.

    ``%r = broadcast_to(%x, shape=[n, 3]) : f32[n, 3]``
    """

    cases = (
        "broadcast_to(f32[3], shape=[2, 3])",
        "broadcast_to(f64[2, 1, 3], shape=[5, 2, 4, 3])",
        "broadcast_to(i8, shape=[2])",
        "broadcast_to(c128[1], shape=[0])",
        "broadcast_to(bool, shape=[])",
    )

    def infer(self, x: Type, *, shape: Dims) -> Type:
        given = x.shape or ()
        if len(given) > len(shape):
            raise ShapeError(
                f"broadcast_to: {shape_text(shape)} has fewer axes than x, which is {x}"
            )
        for have, want in zip(given[::-1], shape[::-1], strict=False):
            if have != 1 and isinstance(have, int) and certainly_differ(have, want):
                raise ShapeError(
                    f"broadcast_to: x is {x}, which does not broadcast to {shape_text(shape)}"
                )
        return x.with_shape(shape)

    def numpy(self, x: Array, *, shape: tuple[int, ...]) -> Array:
        return np.broadcast_to(x, shape)


@define_op
class Concat(OpDef):
    """Operands one after the other along

    ``axis``. ``%r = concat(%x, %y, axis=0) : f32[n + m, 3]``
    """

    cases = (
        "concat(f32[2, 3], f32[4, 3], axis=0)",
        "concat(i32[2, 3], i32[2, 0], i32[2, 1], axis=1)",
        "concat(bool[3], axis=0)",
        "concat(f16[2, 1, 2], f16[2, 3, 2], axis=-2)",
        "concat(string[1], string[2], axis=0)",
    )

    def infer(self, *xs: Type, axis: int) -> Type:
        if not xs:
            raise ShapeError("concat: there must be at least one operand")
        operands = {f"x{i}": x for i, x in enumerate(xs)}
        check_same_dtype("concat", **operands)
        place = known_axis("concat", axis, x0=xs[0])
        total: Dim = 0
        rest = {}
        for name, x in operands.items():
            shape = known_dims("concat", **{name: x})
            total = total + (shape[place] if place < len(shape) else 0)
            rest[name] = (*shape[:place], 0, *shape[place + 1 :])
        merged = merge_dims("concat", rest, operands, "sizes off the axis")
        return xs[0].with_shape((*merged[:place], total, *merged[place + 1 :]))

    def numpy(self, *xs: Array, axis: int) -> Array:
        return np.concatenate(xs, axis)

    def lower(self, k: LoopBuilder, out: Operand, *xs: Operand, axis: int) -> None:
        place, start = axis % out.type.rank, cast(Dim, 0)
        for x in xs:
            k.paste(x, out, {place: start})
            start = start + x.type.dims[place]


@define_op
class Stack(OpDef):
    """Operands of one shape along a new axis. ``%r = stack(%x, %y, axis=0) : f32[2, n]``"""

    cases = (
        "stack(f32[3], f32[3], axis=0)",
        "stack(i64, i64, i64, axis=0)",
        "stack(f64[2, 3], f64[2, 3], axis=1)",
        "stack(bool[0], bool[0], axis=-1)",
    )

    def infer(self, *xs: Type, axis: int) -> Type:
        if not xs:
            raise ShapeError("stack: there must be at least one operand")
        operands = {f"x{i}": x for i, x in enumerate(xs)}
        check_same_dtype("stack", **operands)
        shapes = {name: known_dims("stack", **{name: x}) for name, x in operands.items()}
        merged = merge_dims("stack", shapes, operands)
        place = self.place(axis, len(merged), xs[0])
        return xs[0].with_shape((*merged[:place], len(xs), *merged[place:]))

    @staticmethod
    def place(axis: int, rank: int, x: Type) -> int:
        """The new axis counted from the front. Raises: ShapeError."""
        if not -rank - 1 <= axis <= rank:
            raise ShapeError(f"stack: axis {axis} is none of a stack of {x}")
        return axis % (rank + 1)

    def numpy(self, *xs: Array, axis: int) -> Array:
        return np.stack(xs, axis)

    def expand(self, b: Builder, *xs: Operand, axis: int) -> Any:
        place = self.place(axis, xs[0].type.rank, xs[0].type)
        parts = []
        for x in xs:
            shape = x.type.dims
            parts.append(b.emit("reshape", x, shape=(*shape[:place], 1, *shape[place:])))
        return b.emit("concat", *parts, axis=place)


@define_op
class Slice(OpDef):
    """``size[i]`` elements of each axis, from ``begin[i]`` on in steps of ``strides[i]`` (not 0).

    ``%r = slice(%x, begin=[0, n - 1], size=[2, n], strides=[1, -1]) : f32[2, n]``; no strides: 1
    each.
    """

    cases = (
        "slice(f32[4, 5], begin=[1, 2], size=[2, 3])",
        "slice(i32[10], begin=[9], size=[5], strides=[-2])",
        "slice(f64[6, 2], begin=[1, 0], size=[2, 2], strides=[3, 1])",
        "slice(bool[3], begin=[3], size=[0])",
        "slice(u8, begin=[], size=[])",
        "slice(string[3], begin=[1], size=[1])",
    )

    def infer(
        self, x: Type, *, begin: Dims, size: Dims, strides: tuple[int, ...] | None = None
    ) -> Type:
        steps = strides or (1,) * len(size)
        for name, values in (("begin", begin), ("size", size), ("strides", steps)):
            check_length("slice", name, values, x)
        for axis, one in enumerate(zip(x.dims, begin, size, steps, strict=True)):
            if _leaves_axis(*one):
                _, first, count, step = one
                raise ShapeError(
                    f"slice: axis {axis} of x has no {count} elements from {first} on in steps of "
                    f"{step}: x is {x}"
                )
        return x.with_shape(size)

    def numpy(
        self,
        x: Array,
        *,
        begin: tuple[int, ...],
        size: tuple[int, ...],
        strides: tuple[int, ...] | None,
    ) -> Array:
        steps = strides or (1,) * len(size)
        cuts = []
        for first, count, step in zip(begin, size, steps, strict=True):
            end = first + count * step
            cuts.append(slice(first, end if end >= 0 else None, step) if count else slice(0, 0))
        return np.asarray(x[tuple(cuts)])

    def element(self, k: LoopBuilder, at: Sequence[Operand], x: Operand, *, begin: Dims,
                size: Dims, strides: tuple[int, ...] | None) -> Operand:
        steps = strides or (1,) * len(size)
        cells = zip(at, begin, steps, strict=True)
        return k.load(x, *[k.index((i, step), offset=first) for i, first, step in cells])


def _leaves_axis(extent: Dim, first: Dim, count: Dim, step: int) -> bool:
    """True where positions are known to lie outside of an axis, or the step is 0."""
    if not (isinstance(extent, int) and isinstance(first, int) and isinstance(count, int)):
        return step == 0
    last = first + (count - 1) * step
    inside = 0 <= first < extent and 0 <= last < extent
    return step == 0 or count < 0 or (count > 0 and not inside)


@define_op
class Pad(OpDef):
    """``low[i]`` copies of ``value`` before and ``high[i]`` behind each axis.

    ``%r = pad(%x, 0.0: f32, low=[1, 0], high=[0, m]) : f32[n + 1, m + 3]``
    """

    cases = (
        "pad(f32[2, 3], f32, low=[1, 0], high=[0, 2])",
        "pad(i32[0], i32, low=[2], high=[1])",
        "pad(bool, bool, low=[], high=[])",
        "pad(bf16[1, 2], bf16, low=[0, 0], high=[0, 0])",
    )

    def infer(self, x: Type, value: Type, *, low: Dims, high: Dims) -> Type:
        check_same_dtype("pad", x=x, value=value)
        if value.shape != ():
            raise ShapeError(f"pad: value must be a scalar, but is {value}")
        return x.with_shape(_padded("pad", x, low, high))

    def numpy(
        self, x: Array, value: Array, *, low: tuple[int, ...], high: tuple[int, ...]
    ) -> Array:
        shape = [n + a + b for n, a, b in zip(x.shape, low, high, strict=True)]
        out = np.full(shape, value, x.dtype)
        out[tuple(slice(a, a + n) for a, n in zip(low, x.shape, strict=True))] = x
        return out

    def lower(self, k: LoopBuilder, out: Operand, x: Operand, value: Operand, *, low: Dims,
              high: Dims) -> None:
        k.fill(value, out)
        k.paste(x, out, dict(enumerate(low)))


def _padded(op: str, x: Type, low: Dims, high: Dims) -> Dims:
    check_length(op, "low", low, x)
    check_length(op, "high", high, x)
    if any(isinstance(n, int) and n < 0 for n in (*low, *high)):
        raise ShapeError(f"{op}: nothing can be padded less than 0: {low}, {high} of {x}")
    return tuple(n + a + b for n, a, b in zip(x.dims, low, high, strict=True))


@define_op
class MirrorPad(OpDef):
    """Each axis continued by its mirror image: ``reflect`` leaves the edge out, ``symmetric``
    repeats it.

    ``%r = mirror_pad(%x, low=[1], high=[2], mode="reflect") : f32[n + 3]``
    """

    cases = (
        'mirror_pad(f32[3, 4], low=[2, 0], high=[1, 3], mode="reflect")',
        'mirror_pad(i32[3], low=[3], high=[3], mode="symmetric")',
        'mirror_pad(f64[1], low=[0], high=[0], mode="reflect")',
        'mirror_pad(bool[0, 2], low=[0, 2], high=[0, 0], mode="symmetric")',
    )

    def infer(self, x: Type, *, low: Dims, high: Dims, mode: str) -> Type:
        if mode not in ("reflect", "symmetric"):
            raise ShapeError(f"mirror_pad: mode {mode!r} is neither reflect nor symmetric")
        shape = _padded("mirror_pad", x, low, high)
        edge = int(mode == "reflect")
        for axis, (extent, *both) in enumerate(zip(x.dims, low, high, strict=True)):
            room = extent - edge
            if any(isinstance(n, int) and isinstance(room, int) and n > max(room, 0) for n in both):
                raise ShapeError(
                    f"mirror_pad: axis {axis} of {x} is too short for {both} in mode {mode!r}"
                )
        return x.with_shape(shape)

    def numpy(self, x: Array, *, low: tuple[int, ...], high: tuple[int, ...], mode: str) -> Array:
        for axis, (before, after) in enumerate(zip(low, high, strict=True)):
            edge = int(mode == "reflect")
            last = x.shape[axis] - edge
            head = np.flip(np.take(x, range(edge, edge + before), axis), axis)
            tail = np.flip(np.take(x, range(last - after, last), axis), axis)
            x = np.concatenate([head, x, tail], axis)
        return x

    def expand(self, b: Builder, x: Operand, *, low: Dims, high: Dims, mode: str) -> Any:
        edge = int(mode == "reflect")
        for axis, (before, after) in enumerate(zip(low, high, strict=True)):
            last = x.type.dims[axis] - edge - 1
            ends = ((before, edge + before - 1), (after, last))
            head, tail = [_reversed_run(b, x, axis, n, first) for n, first in ends]
            x = b.emit("concat", head, x, tail, axis=axis)
        return x


def _reversed_run(b: Builder, x: Operand, axis: int, count: Dim, first: Dim) -> Any:
    """``count`` elements of ``axis`` from ``first`` on towards the front."""
    shape = x.type.dims
    begin = tuple(first if i == axis else 0 for i in range(len(shape)))
    size = tuple(count if i == axis else n for i, n in enumerate(shape))
    strides = tuple(-1 if i == axis else 1 for i in range(len(shape)))
    return b.emit("slice", x, begin=begin, size=size, strides=strides)


@define_op
class Tile(OpDef):
    """``x`` repeated

    ``multiples[i]`` times along axis i. ``%r = tile(%x, multiples=[2, 1]) : f32[2*n, 3]``
    """

    cases = (
        "tile(f32[2, 3], multiples=[2, 1])",
        "tile(i32[2], multiples=[0])",
        "tile(f16, multiples=[])",
        "tile(bool[1, 2, 1], multiples=[3, 2, 2])",
    )

    def infer(self, x: Type, *, multiples: Dims) -> Type:
        check_length("tile", "multiples", multiples, x)
        return x.with_shape(tuple(n * m for n, m in zip(x.dims, multiples, strict=True)))

    def numpy(self, x: Array, *, multiples: tuple[int, ...]) -> Array:
        return np.tile(x, multiples)

    def expand(self, b: Builder, x: Operand, *, multiples: Dims) -> Any:
        shape = x.type.dims
        single = tuple(n for size in shape for n in (1, size))
        repeated = tuple(n for pair in zip(multiples, shape, strict=True) for n in pair)
        spread = b.emit("broadcast_to", b.emit("reshape", x, shape=single), shape=repeated)
        whole = tuple(n * m for n, m in zip(shape, multiples, strict=True))
        return b.emit("reshape", spread, shape=whole)


@define_op
class Reverse(OpDef):
    """The order along ``axes`` turned round. ``%r = reverse(%x, axes=[0]) : f32[n]``"""

    cases = (
        "reverse(f32[2, 3], axes=[1])",
        "reverse(i32[2, 3, 2], axes=[0, 2])",
        "reverse(bool[0], axes=[0])",
        "reverse(f64, axes=[])",
    )

    def infer(self, x: Type, *, axes: tuple[int, ...]) -> Type:
        known_axes("reverse", axes, x=x)
        return x

    def numpy(self, x: Array, *, axes: tuple[int, ...]) -> Array:
        return np.asarray(np.flip(x, axes))

    def expand(self, b: Builder, x: Operand, *, axes: tuple[int, ...]) -> Any:
        shape = x.type.dims
        turned = known_axes("reverse", axes, x=x.type)
        begin = tuple(n - 1 if i in turned else 0 for i, n in enumerate(shape))
        strides = tuple(-1 if i in turned else 1 for i in range(len(shape)))
        return b.emit("slice", x, begin=begin, size=shape, strides=strides)
