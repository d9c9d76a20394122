"""How convolutions become loops.

f32 and f64 in two dimensions have kernels of their own (``direct_convolution``), to which gradients
in the images come down as well; what sees one pixel only is a matrix product. Everything else is
loops by lanes over the channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepforge.ir import dims
from stepforge.ir.combining import identity
from stepforge.ir.core import Operand
from stepforge.ir.dims import Dim
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.ops.direct_convolution import direct, direct_filter
from stepforge.ir.ops.linear_algebra import lower_product
from stepforge.ir.ops.windows import (
    Windows,
    accumulate_nest,
    ceil_div,
    counted_nest,
    nest_in,
    seen,
)

WIDE = {"f16": "f32", "bf16": "f32"}
Element = Sequence[Operand]


def _has_kernel(buffer: Operand, windows: Windows) -> bool:
    return buffer.type.dtype in ("f32", "f64") and len(windows.axes) == 2


def _pointwise(windows: Windows) -> bool:
    """True where each window is the one pixel at its own place."""
    return all(
        windows.window[axis] == 1
        and windows.strides[axis] == 1
        and windows.low[axis] == 0
        and windows.image[axis] == windows.out[axis]
        for axis in windows.axes
    )


def _rows(k: LoopBuilder, buffer: Operand) -> Operand:
    """Images as a matrix of pixels; a filter of one tap as the matrix that it is."""
    sizes = buffer.type.dims
    return k.view(buffer, (dims.product(sizes[:-1]), sizes[-1]))


def _pointwise_product(
    k: LoopBuilder, out: Operand, a: Operand, b: Operand, transpose_a: bool = False,
    transpose_b: bool = False,
) -> None:
    out, a, b = (_rows(k, x) for x in (out, a, b))
    lower_product(k, out, a, b, transpose_a=transpose_a, transpose_b=transpose_b)


def convolve(
    k: LoopBuilder, out: Operand, x: Operand, weights: Operand, windows: Windows
) -> None:
    """``out`` = the convolution of ``x``."""
    if not _has_kernel(out, windows):
        _sum_over_taps(k, out, x, weights, windows)
    elif _pointwise(windows):
        _pointwise_product(k, out, x, weights)
    else:
        direct(k, out, x, weights, windows)


def convolve_input(
    k: LoopBuilder, out: Operand, dy: Operand, weights: Operand, windows: Windows
) -> None:
    """``out`` = the gradient of a convolution in its images."""
    known = (*windows.low, *windows.window)
    if not _has_kernel(out, windows):
        _spread_over_taps(k, out, dy, weights, windows)
    elif _pointwise(windows):
        _pointwise_product(k, out, dy, weights, transpose_b=True)
    elif max(windows.strides) == 1:
        _backwards(k, out, dy, weights, windows, (0, 0))
    elif all(isinstance(size, int) for size in known) and max(windows.dilations) == 1:
        _by_phases(k, out, dy, weights, windows)
    else:
        _spread_over_taps(k, out, dy, weights, windows)


def convolve_filter(
    k: LoopBuilder, out: Operand, x: Operand, dy: Operand, windows: Windows
) -> None:
    """``out`` = the gradient of a convolution in its filter."""
    if not _has_kernel(out, windows):
        _correlate(k, out, x, dy, windows)
    elif _pointwise(windows):
        _pointwise_product(k, out, x, dy, transpose_a=True)
    else:
        direct_filter(k, out, x, dy, windows)


# ---- gradients in the images as convolutions ------------------------------------------------------
def _backwards(
    k: LoopBuilder,
    out: Operand,
    dy: Operand,
    weights: Operand,
    windows: Windows,
    phase: tuple[int, int],
) -> None:
    """The pixels of ``out`` at ``phase`` (modulo the strides) as a convolution of ``dy``.

    Only the taps that are congruent to them contribute; the filter is made of those, backwards,
    with its channels swapped. Strides other than 1 want a filter and ``low`` of known sizes.
    """
    taps, first, low, size = [], [], [], []
    for axis in windows.axes:
        stride = windows.strides[axis]
        shifted = phase[axis] + windows.low[axis]
        start: Dim = 0 if stride == 1 else shifted % stride
        taps.append(ceil_div(windows.window[axis] - start, stride))
        first.append(start)
        behind = (taps[axis] - 1) * windows.dilations[axis]
        low.append(behind - dims.floor_div(shifted - start, stride))
        size.append(ceil_div(windows.image[axis] - phase[axis], stride))
    if 0 in taps:
        return
    *_, depth, channels = weights.type.dims
    turned = k.alloc(weights.type.dtype, (*taps, channels, depth))
    with k.nest((*taps, channels), simd=False) as (p, q, o), k.loop(depth, simd=True) as c:
        place = [
            k.index((tap, -windows.strides[a]), offset=first[a] + (taps[a] - 1) * windows.strides[a])
            for a, tap in enumerate((p, q))
        ]
        k.store(k.load(weights, *place, c, o), turned, p, q, o, c)
    there = Windows(windows.out, tuple(taps), tuple(size), (1, 1), tuple(low), windows.dilations)
    direct(k, out, dy, turned, there, every=windows.strides, phase=phase)


def _by_phases(
    k: LoopBuilder, out: Operand, dy: Operand, weights: Operand, windows: Windows
) -> None:
    """One convolution for each place of a pixel modulo the strides."""
    if any(windows.window[axis] < windows.strides[axis] for axis in windows.axes):  # type: ignore
        k.fill(identity("add", out.type.dtype), out)  # no window sees some of the pixels
    for row in range(windows.strides[0]):
        for column in range(windows.strides[1]):
            _backwards(k, out, dy, weights, windows, (row, column))


# ---- loops over channels ------------------------------------------------------------------------
def _wide(buffer: Operand) -> str:
    return WIDE.get(buffer.type.dtype, buffer.type.dtype)


def _product(k: LoopBuilder, dtype: str, a: Operand, b: Operand) -> Operand:
    return k.emit("mul", k.cast(a, dtype), k.cast(b, dtype))  # type: ignore[no-any-return]


def _sum_over_taps(
    k: LoopBuilder, out: Operand, x: Operand, weights: Operand, windows: Windows
) -> None:
    batch, *_, channels = out.type.dims
    dtype = _wide(out)
    with (
        k.loop(batch) as n,
        counted_nest(k, windows.out) as (at, sizes),
        k.loop(channels, simd=True) as o,
    ):
        ranges = [windows.taps(axis, sizes[axis]) for axis in windows.axes]

        def turn(place: Element, carried: Element) -> list[Operand]:
            *tap, c = place
            pixel = k.load(x, n, *seen(k, windows, at, tap), c)
            weight = k.load(weights, *tap, c, o)
            return [k.emit("add", carried[0], _product(k, dtype, pixel, weight))]

        ranges.append((0, x.type.dims[-1]))
        (total,) = accumulate_nest(k, ranges, [identity("add", dtype)], turn)
        k.store(k.cast(total, out.type.dtype), out, n, *at, o)


def _correlate(k: LoopBuilder, out: Operand, x: Operand, dy: Operand, windows: Windows) -> None:
    *_, depth, channels = out.type.dims
    dtype = _wide(out)
    with (
        counted_nest(k, windows.window) as (tap, sizes),
        k.loop(depth) as c,
        k.loop(channels, simd=True) as o,
    ):
        ranges: list[tuple[Dim, Dim]] = [(0, x.type.dims[0])]
        ranges += [windows.places(axis, sizes[axis]) for axis in windows.axes]

        def turn(place: Element, carried: Element) -> list[Operand]:
            n, *at = place
            pixel = k.load(x, n, *seen(k, windows, at, tap), c)
            return [k.emit("add", carried[0], _product(k, dtype, pixel, k.load(dy, n, *at, o)))]

        (total,) = accumulate_nest(k, ranges, [identity("add", dtype)], turn)
        k.store(k.cast(total, out.type.dtype), out, *tap, c, o)


class _Sums:
    """Images that are added to place by place; 16-bit ones in single precision."""

    def __init__(self, k: LoopBuilder, out: Operand) -> None:
        self.k, self.out = k, out
        self.dtype = _wide(out)
        self.images = out if self.dtype == out.type.dtype else k.alloc(self.dtype, out.type.dims)
        k.fill(identity("add", self.dtype), self.images)

    def add(self, value: Operand, *place: Operand) -> None:
        """Add to one element."""
        self.k.store(self.k.emit("add", self.k.load(self.images, *place), value),
                     self.images, *place)

    def finish(self) -> None:
        """Round to the result's dtype."""
        if self.images is self.out:
            return
        with self.k.nest(self.out.type.dims) as at:
            value = self.k.load(self.images, *at)
            self.k.store(self.k.cast(value, self.out.type.dtype), self.out, *at)


def _spread_over_taps(
    k: LoopBuilder, out: Operand, dy: Operand, weights: Operand, windows: Windows
) -> None:
    batch, *_, channels = dy.type.dims
    sums = _Sums(k, out)
    with k.loop(batch) as n, counted_nest(k, windows.out) as (at, sizes):
        ranges = [windows.taps(axis, sizes[axis]) for axis in windows.axes]
        with nest_in(k, ranges) as tap, k.loop(out.type.dims[-1]) as c:

            def term(o: Operand) -> Operand:
                return _product(
                    k, sums.dtype, k.load(dy, n, *at, o), k.load(weights, *tap, c, o)
                )

            value = k.fold(channels, "add", sums.dtype, term, simd=True)
            sums.add(value, n, *seen(k, windows, at, tap), c)
    sums.finish()


# ---- each channel by itself ---------------------------------------------------------------------
def _channel(k: LoopBuilder, c: Operand, j: Operand, multiplier: Dim) -> Operand:
    return k.index((c, multiplier), (j, 1))


def depthwise(
    k: LoopBuilder, out: Operand, x: Operand, weights: Operand, windows: Windows
) -> None:
    """``out`` = each channel of ``x`` convolved by filters of its own."""
    *_, depth, multiplier = weights.type.dims
    dtype = _wide(out)
    with (
        k.loop(out.type.dims[0]) as n,
        counted_nest(k, windows.out) as (at, sizes),
        k.loop(multiplier) as j,
        k.loop(depth, simd=True) as c,
    ):

        def turn(tap: Element, carried: Element) -> list[Operand]:
            pixel = k.load(x, n, *seen(k, windows, at, tap), c)
            weight = k.load(weights, *tap, c, j)
            return [k.emit("add", carried[0], _product(k, dtype, pixel, weight))]

        ranges = [windows.taps(axis, sizes[axis]) for axis in windows.axes]
        (total,) = accumulate_nest(k, ranges, [identity("add", dtype)], turn)
        value = k.cast(total, out.type.dtype)
        k.store(value, out, n, *at, _channel(k, c, j, multiplier))


def depthwise_input(
    k: LoopBuilder, out: Operand, dy: Operand, weights: Operand, windows: Windows
) -> None:
    """``out`` = the gradient of ``depthwise`` in its images."""
    *_, depth, multiplier = weights.type.dims
    sums = _Sums(k, out)
    with k.loop(dy.type.dims[0]) as n, counted_nest(k, windows.out) as (at, sizes):
        ranges = [windows.taps(axis, sizes[axis]) for axis in windows.axes]
        with nest_in(k, ranges) as tap, k.loop(depth, simd=True) as c:

            def turn(place: Element, carried: Element) -> list[Operand]:
                (j,) = place
                slope = k.load(dy, n, *at, _channel(k, c, j, multiplier))
                part = _product(k, sums.dtype, slope, k.load(weights, *tap, c, j))
                return [k.emit("add", carried[0], part)]

            zero: list[Operand] = [identity("add", sums.dtype)]
            (total,) = accumulate_nest(k, [(0, multiplier)], zero, turn)
            sums.add(total, n, *seen(k, windows, at, tap), c)
    sums.finish()


def depthwise_filter(
    k: LoopBuilder, out: Operand, x: Operand, dy: Operand, windows: Windows
) -> None:
    """``out`` = the gradient of ``depthwise`` in its filter."""
    *_, depth, multiplier = out.type.dims
    dtype = _wide(out)
    with (
        counted_nest(k, windows.window) as (tap, sizes),
        k.loop(multiplier) as j,
        k.loop(depth, simd=True) as c,
    ):

        def turn(place: Element, carried: Element) -> list[Operand]:
            n, *at = place
            pixel = k.load(x, n, *seen(k, windows, at, tap), c)
            slope = k.load(dy, n, *at, _channel(k, c, j, multiplier))
            return [k.emit("add", carried[0], _product(k, dtype, pixel, slope))]

        ranges: list[tuple[Dim, Dim]] = [(0, x.type.dims[0])]
        ranges += [windows.places(axis, sizes[axis]) for axis in windows.axes]
        (total,) = accumulate_nest(k, ranges, [identity("add", dtype)], turn)
        k.store(k.cast(total, out.type.dtype), out, *tap, c, j)

