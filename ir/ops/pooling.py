"""Pooling: the maximum or the mean of what windows see of images ``[n, *image, c]``.

``window``, ``strides``, ``low`` (elements that are missing before the image) and ``size`` (of the
result) have a value for each spatial axis. A mean is that of the elements there are. For maxima the
border of the image goes on without end, which none of them notices.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepforge.ir.core import Operand
from stepforge.ir.dims import Dim
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.ops import pooling_loops as loops
from stepforge.ir.ops.arrays import Array, narrow, widen
from stepforge.ir.ops.inference import (
    FLOAT,
    REAL,
    DTypes,
    check_dtype,
    check_min_rank,
    check_same_dtype,
    merge_dims,
)
from stepforge.ir.ops.windows import Windows, numbers, windows_of
from stepforge.ir.types import Type

Dims = tuple[Dim, ...]
Steps = tuple[int, ...]


def windows_on(op: str, image: Type, attrs: dict[str, Any]) -> Windows:
    """The windows of an op on images of a type."""
    rest = {name: values for name, values in attrs.items() if name != "window"}
    return windows_of(op, rest, {"x": image}, image=image.dims[1:-1], window=attrs["window"])


def _type(x: Array) -> Type:
    return Type("f32", tuple(map(int, x.shape)))


def _check_images(op: str, accepts: DTypes, **operands: Type) -> None:
    check_dtype(op, accepts, **operands)
    check_same_dtype(op, **operands)
    check_min_rank(op, 3, **operands)


class Pool(OpDef):
    """Base of what gives an element for each window of ``x`` and each channel."""

    accepts: DTypes = REAL

    def infer(
        self, x: Type, *, window: Dims = (), strides: Steps = (), low: Dims = (), size: Dims = ()
    ) -> Type:
        _check_images(self.name, self.accepts, x=x)
        attrs = {"window": window, "strides": strides, "low": low, "size": size}
        return x.with_shape((x.dims[0], *windows_on(self.name, x, attrs).out, x.dims[-1]))


class FirstMaximum(OpDef):
    """Base of the ops about the first place in each window of ``x`` where its maximum ``y`` is."""

    def infer(
        self, x: Type, y: Type, values: Type, *, window: Dims = (), strides: Steps = (),
        low: Dims = (),
    ) -> Type:
        _check_images(self.name, REAL, x=x, y=y, values=values)
        attrs = {"window": window, "strides": strides, "low": low, "size": y.dims[1:-1]}
        windows = windows_on(self.name, x, attrs)
        operands = {"x": x, "y": y, "values": values}
        pooled = (x.dims[0], *windows.out, x.dims[-1])
        merge_dims(self.name, {"x": pooled, "y": y.dims}, operands, "windows")
        return self.result(x, y, values)

    def result(self, x: Type, y: Type, values: Type) -> Type:
        """The result's type. Raises: ShapeError where ``values`` do not fit."""
        raise NotImplementedError


# ---- on arrays ----------------------------------------------------------------------------------
def seen_places(windows: Windows) -> list[Array]:
    """For each axis the places that windows see, ``[out, window]``, within the image."""
    found = []
    for axis in windows.axes:
        sizes = (windows.out[axis], windows.window[axis], windows.image[axis], windows.low[axis])
        out, taps, image, low = numbers(sizes)
        starts = np.arange(out) * windows.strides[axis] - low
        found.append(np.clip(starts[:, None] + np.arange(taps), 0, max(image - 1, 0)))
    return found


def _index(windows: Windows) -> tuple[Any, ...]:
    """``seen_places`` as an index into images: ``[*out, *window]``."""
    rank = len(windows.axes)
    found: list[Any] = [slice(None)]
    for axis, places in enumerate(seen_places(windows)):
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = places.shape
        found.append(places.reshape(shape))
    return tuple(found)


def _by_taps(x: Array, windows: Windows) -> Array:
    """What each window sees: ``[n, *out, taps, c]``."""
    found = widen(x)[_index(windows)]
    kept = found.shape[: 1 + len(windows.axes)]
    return np.reshape(found, (*kept, math.prod(numbers(windows.window)), x.shape[-1]))


def _first(x: Array, y: Array, windows: Windows) -> tuple[Array, Array]:
    """The first tap that saw the maximum, and whether there is one (not of NaN)."""
    hits = _by_taps(x, windows) == np.expand_dims(widen(y), -2)
    return np.argmax(hits, -2), np.any(hits, -2)


# ---- maxima -------------------------------------------------------------------------------------
@define_op
class MaxPool(Pool):
    """The maxima of windows. ``%r = max_pool(%x, window=[2, 2], strides=[2, 2]) : f32[n, 4, 4, 3]``
    """

    cases = (
        "max_pool(f32[2, 4, 6, 3], window=[2, 2], strides=[2, 2])",
        "max_pool(f64[1, 5, 6, 17], window=[3, 2], strides=[2, 1], low=[1, 0], size=[3, 6])",
        "max_pool(f32[1, 5, 5, 1], window=[3, 3], low=[1, 1], size=[5, 5])",
        "max_pool(f32[2, 9, 8, 2], window=[5, 5], strides=[2, 3], low=[2, 2], size=[5, 3])",
        "max_pool(f32[2, 7, 3], window=[3], strides=[2])",
        "max_pool(f32[1, 4, 4, 4, 2], window=[2, 3, 2], strides=[2, 1, 2])",
        "max_pool(f16[1, 4, 4, 3], window=[2, 2])",
        "max_pool(bf16[1, 4, 4, 3], window=[2, 2])",
        "max_pool(i32[1, 4, 5, 2], window=[2, 3], strides=[2, 2], low=[0, 1], size=[2, 3])",
        "max_pool(u8[1, 3, 3, 1], window=[2, 2])",
        "max_pool(f32[0, 4, 4, 2], window=[2, 2])",
    )

    def numpy(self, x: Array, **attrs: Any) -> Array:
        patches = _by_taps(x, windows_on(self.name, _type(x), attrs))
        return narrow(np.max(patches, -2), x.dtype)

    def lower(self, k: LoopBuilder, out: Operand, x: Operand, **attrs: Any) -> None:
        loops.max_pool(k, out, x, windows_on(self.name, x.type, attrs))


MAXIMUM_CASES = (
    ("f32[2, 4, 6, 3]", "f32[2, 2, 3, 3]", "window=[2, 2], strides=[2, 2]"),
    ("f64[1, 5, 6, 17]", "f64[1, 3, 6, 17]", "window=[3, 2], strides=[2, 1], low=[1, 0]"),
    ("f32[1, 5, 5, 1]", "f32[1, 5, 5, 1]", "window=[3, 3], low=[1, 1]"),
    ("f32[2, 9, 8, 2]", "f32[2, 5, 3, 2]", "window=[5, 5], strides=[2, 3], low=[2, 2]"),
    ("f32[1, 5, 5, 3]", "f32[1, 2, 2, 3]", "window=[2, 2], strides=[3, 3]"),
    ("f32[1, 4, 4, 4, 2]", "f32[1, 2, 2, 2, 2]", "window=[2, 3, 2], strides=[2, 1, 2]"),
    ("f16[1, 4, 4, 3]", "f16[1, 3, 3, 3]", "window=[2, 2]"),
    ("i32[1, 4, 5, 2]", "i32[1, 2, 3, 2]", "window=[2, 3], strides=[2, 2], low=[0, 1]"),
    ("f32[0, 4, 4, 2]", "f32[0, 3, 3, 2]", "window=[2, 2]"),
)


@define_op
class MaxPoolInput(FirstMaximum):
    """The gradient of ``max_pool`` in its images: each maximum's goes to its first place.

    ``%dx = max_pool_input(%x, %y, %dy, window=[2, 2], strides=[2, 2]) : f32[n, 8, 8, 3]``
    """

    cases = tuple(f"max_pool_input({x}, {y}, {y}, {attrs})" for x, y, attrs in MAXIMUM_CASES)

    def result(self, x: Type, y: Type, values: Type) -> Type:
        merge_dims(self.name, {"y": y.dims, "values": values.dims}, {"y": y, "values": values})
        return x

    def numpy(self, x: Array, y: Array, dy: Array, **attrs: Any) -> Array:
        windows = windows_on(self.name, _type(x), {**attrs, "size": y.shape[1:-1]})
        first, found = _first(x, y, windows)
        wide = np.where(found, widen(dy), 0)
        total = np.zeros(x.shape, wide.dtype)
        tap = np.unravel_index(first, numbers(windows.window))
        at: list[Array] = list(np.indices(y.shape, sparse=True))
        for axis, seen in enumerate(seen_places(windows)):
            at[1 + axis] = seen[at[1 + axis], tap[axis]]
        np.add.at(total, tuple(at), wide)
        return narrow(total, x.dtype)

    def lower(
        self, k: LoopBuilder, out: Operand, x: Operand, y: Operand, dy: Operand, **attrs: Any
    ) -> None:
        sized = {**attrs, "size": y.type.dims[1:-1]}
        loops.max_pool_input(k, out, x, y, dy, windows_on(self.name, x.type, sized))


@define_op
class MaxPoolPick(FirstMaximum):
    """The elements of ``values`` where ``x`` first has the maxima ``y`` (0 where those are NaN).

    ``%r = max_pool_pick(%x, %y, %g, window=[2, 2], strides=[2, 2]) : f32[n, 4, 4, 3]``
    """

    cases = tuple(f"max_pool_pick({x}, {y}, {x}, {attrs})" for x, y, attrs in MAXIMUM_CASES)

    def result(self, x: Type, y: Type, values: Type) -> Type:
        merge_dims(self.name, {"x": x.dims, "values": values.dims}, {"x": x, "values": values})
        return y

    def numpy(self, x: Array, y: Array, values: Array, **attrs: Any) -> Array:
        windows = windows_on(self.name, _type(x), {**attrs, "size": y.shape[1:-1]})
        first, found = _first(x, y, windows)
        picked = np.take_along_axis(_by_taps(values, windows), np.expand_dims(first, -2), -2)
        return narrow(np.where(found, picked[..., 0, :], 0), x.dtype)

    def lower(
        self, k: LoopBuilder, out: Operand, x: Operand, y: Operand, values: Operand, **attrs: Any
    ) -> None:
        sized = {**attrs, "size": y.type.dims[1:-1]}
        loops.max_pool_pick(k, out, x, y, values, windows_on(self.name, x.type, sized))


@define_op
class ArgMaxPool(Pool):
    """The first place of each maximum: the number of the pixel, counted over the whole image.

    ``%i = arg_max_pool(%x, window=[2, 2], strides=[2, 2]) : i64[n, 4, 4, 3]``; of windows with
    nothing but NaN the first one.
    """

    cases = (
        "arg_max_pool(f32[2, 4, 6, 3], window=[2, 2], strides=[2, 2])",
        "arg_max_pool(f64[1, 5, 6, 9], window=[3, 2], strides=[2, 1], low=[1, 0], size=[3, 6])",
        "arg_max_pool(f32[1, 9, 8, 2], window=[5, 5], low=[2, 2], size=[9, 8])",
        "arg_max_pool(f16[1, 4, 4, 3], window=[2, 2])",
        "arg_max_pool(i32[1, 4, 5, 2], window=[2, 3])",
        "arg_max_pool(f32[0, 4, 4, 2], window=[2, 2])",
    )

    def infer(
        self, x: Type, *, window: Dims = (), strides: Steps = (), low: Dims = (), size: Dims = ()
    ) -> Type:
        found = super().infer(x, window=window, strides=strides, low=low, size=size)
        return found.with_dtype("i64")

    def numpy(self, x: Array, **attrs: Any) -> Array:
        windows = windows_on(self.name, _type(x), attrs)
        patches = _by_taps(x, windows)
        if patches.dtype.kind == "f":
            patches = np.where(np.isnan(patches), -np.inf, patches)
        first = np.argmax(patches, -2)
        pixels = np.arange(int(np.prod(x.shape[1:-1]))).reshape(1, *x.shape[1:-1], 1)
        numbers = np.broadcast_to(_by_taps(pixels, windows), patches.shape)
        return np.take_along_axis(numbers, np.expand_dims(first, -2), -2)[..., 0, :]

    def lower(self, k: LoopBuilder, out: Operand, x: Operand, **attrs: Any) -> None:
        loops.arg_max_pool(k, out, x, windows_on(self.name, x.type, attrs))


# ---- means --------------------------------------------------------------------------------------
@define_op
class AvgPool(Pool):
    """The means of windows. ``%r = avg_pool(%x, window=[2, 2], strides=[2, 2]) : f32[n, 4, 4, 3]``
    """

    accepts = FLOAT
    cases = (
        "avg_pool(f32[2, 4, 6, 3], window=[2, 2], strides=[2, 2])",
        "avg_pool(f64[1, 5, 6, 17], window=[3, 2], strides=[2, 1], low=[1, 0], size=[3, 6])",
        "avg_pool(f32[1, 5, 5, 1], window=[3, 3], low=[1, 1], size=[5, 5])",
        "avg_pool(f32[2, 9, 8, 2], window=[5, 5], strides=[2, 3], low=[2, 2], size=[5, 3])",
        "avg_pool(f32[2, 7, 3], window=[3], strides=[2])",
        "avg_pool(f32[1, 4, 4, 4, 2], window=[2, 3, 2], strides=[2, 1, 2])",
        "avg_pool(f16[1, 4, 4, 3], window=[2, 2])",
        "avg_pool(bf16[1, 4, 4, 3], window=[2, 2])",
        "avg_pool(f32[0, 4, 4, 2], window=[2, 2])",
    )

    def numpy(self, x: Array, **attrs: Any) -> Array:
        windows = windows_on(self.name, _type(x), attrs)
        axes = tuple(1 + len(windows.axes) + axis for axis in windows.axes)
        sums = np.sum(windows.patches(widen(x)), axes)
        return narrow(sums / _counts(windows), x.dtype)

    def lower(self, k: LoopBuilder, out: Operand, x: Operand, **attrs: Any) -> None:
        loops.avg_pool(k, out, x, windows_on(self.name, x.type, attrs))


def _counts(windows: Windows) -> Array:
    """How many elements each window sees, ``[1, *out, 1]``, in f32."""
    image = numbers(windows.image)
    axes = tuple(1 + len(image) + axis for axis in windows.axes)
    return np.asarray(np.sum(windows.patches(np.ones((1, *image, 1), np.float32)), axes))


@define_op
class AvgPoolInput(OpDef):
    """The gradient of ``avg_pool`` in its images, which have ``size``.

    ``%dx = avg_pool_input(%dy, window=[2, 2], strides=[2, 2], size=[8, 8]) : f32[n, 8, 8, 3]``
    """

    cases = (
        "avg_pool_input(f32[2, 2, 3, 3], window=[2, 2], strides=[2, 2], size=[4, 6])",
        "avg_pool_input(f64[1, 3, 6, 17], window=[3, 2], strides=[2, 1], low=[1, 0], size=[5, 6])",
        "avg_pool_input(f32[1, 5, 5, 1], window=[3, 3], low=[1, 1], size=[5, 5])",
        "avg_pool_input(f32[2, 5, 3, 2], window=[5, 5], strides=[2, 3], low=[2, 2], size=[9, 8])",
        "avg_pool_input(f32[1, 2, 2, 3], window=[2, 2], strides=[3, 3], size=[6, 6])",
        "avg_pool_input(f32[2, 3, 3], window=[3], strides=[2])",
        "avg_pool_input(f16[1, 3, 3, 3], window=[2, 2], size=[4, 4])",
        "avg_pool_input(f32[0, 3, 3, 2], window=[2, 2])",
    )

    def windows(self, dy: Type, attrs: dict[str, Any]) -> Windows:
        """The windows of the forward op."""
        rest = {name: values for name, values in attrs.items() if name != "window"}
        sizes = {"window": attrs["window"], "out": dy.dims[1:-1]}
        return windows_of(self.name, rest, {"dy": dy}, **sizes)

    def infer(
        self, dy: Type, *, window: Dims = (), strides: Steps = (), low: Dims = (), size: Dims = ()
    ) -> Type:
        _check_images(self.name, FLOAT, dy=dy)
        attrs = {"window": window, "strides": strides, "low": low, "size": size}
        return dy.with_shape((dy.dims[0], *self.windows(dy, attrs).image, dy.dims[-1]))

    def numpy(self, dy: Array, **attrs: Any) -> Array:
        windows = self.windows(_type(dy), attrs)
        shares = (widen(dy) / _counts(windows)).astype(widen(dy).dtype)
        for axis in windows.axes:
            shares = np.expand_dims(shares, 1 + len(windows.axes) + axis)
        shape = (*dy.shape[:-1], *numbers(windows.window), dy.shape[-1])
        return narrow(windows.spread(np.broadcast_to(shares, shape)), dy.dtype)

    def lower(self, k: LoopBuilder, out: Operand, dy: Operand, **attrs: Any) -> None:
        loops.avg_pool_input(k, out, dy, self.windows(dy.type, attrs))

