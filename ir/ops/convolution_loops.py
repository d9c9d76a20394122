"""How convolutions become loops.

f32 and f64 in two dimensions have kernels of their own (``direct_convolution``), to which gradients
in the images come down as well; what sees one pixel only is a matrix product. Everything else is
loops by lanes over the channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepforge.ir import dims
from stepforge.ir.combining import identity
from stepforge.ir.core import Block, Operand
from stepforge.ir.dims import Dim
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.ops.direct_convolution import direct, direct_filter, turned
from stepforge.ir.ops.linear_algebra import lower_product
from stepforge.ir.ops.windows import (
    Sums,
    Windows,
    accumulate_nest,
    ceil_div,
    counted,
    counted_nest,
    nest_in,
    seen,
    wide,
)

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


def _pixels(k: LoopBuilder, buffer: Operand) -> Operand:
    """Images as a matrix of pixels; a filter of one tap as the matrix that it is."""
    sizes = buffer.type.dims
    return k.view(buffer, (dims.product(sizes[:-1]), sizes[-1]))


def convolve(
    k: LoopBuilder,
    out: Operand,
    x: Operand,
    weights: Operand,
    windows: Windows,
    taken: Sequence[Operand] = (),
    region: Block | None = None,
) -> None:
    """``out`` = the convolution of ``x``, each sum and elements of ``taken`` through ``region``."""
    plain = all(operand.type.dtype == out.type.dtype for operand in taken)
    if not _has_kernel(out, windows) or not plain:
        _sum_over_taps(k, out, x, weights, windows, taken, region)
    elif _pointwise(windows):
        lower_product(k, out, x, weights, taken, region)
    else:
        direct(k, out, x, weights, windows, taken=taken, epilogue=region)


def convolve_input(
    k: LoopBuilder, out: Operand, dy: Operand, weights: Operand, windows: Windows
) -> None:
    """``out`` = the gradient of a convolution in its images."""
    known = (*windows.low, *windows.window)
    if not _has_kernel(out, windows):
        _spread_over_taps(k, out, dy, weights, windows)
    elif _pointwise(windows):
        lower_product(k, out, dy, weights, transpose_b=True)
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
        lower_product(k, _pixels(k, out), _pixels(k, x), _pixels(k, dy), transpose_a=True)
    else:
        direct_filter(k, out, x, dy, windows)


# ---- gradients in the images as convolutions ----------------------------------------------------
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

    def place(*tap: Operand) -> list[Operand]:
        """The tap of the filter, counted from behind."""
        last = [first[a] + (taps[a] - 1) * windows.strides[a] for a in windows.axes]
        return [k.index((tap[a], -windows.strides[a]), offset=last[a]) for a in windows.axes]

    weights = turned(k, weights, tuple(taps), place)
    there = Windows(windows.out, tuple(taps), tuple(size), (1, 1), tuple(low), windows.dilations)
    direct(k, out, dy, weights, there, every=windows.strides, phase=phase)


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
def _product(k: LoopBuilder, dtype: str, a: Operand, b: Operand) -> Operand:
    return k.emit("mul", k.cast(a, dtype), k.cast(b, dtype))  # type: ignore[no-any-return]


def _through(k: LoopBuilder, region: Block | None, values: Sequence[Operand]) -> Operand:
    """What a region yields for ``values``; the first of them where there is none."""
    if region is None:
        return values[0]
    known: dict[Operand, Operand] = dict(zip(region.params, values, strict=True))
    for op in region.ops[:-1]:
        known[op.result] = k.emit(op.defn, *[known.get(o, o) for o in op.operands], **op.attrs)
    (result,) = region.terminator.operands
    return known.get(result, result)


def _sum_over_taps(
    k: LoopBuilder,
    out: Operand,
    x: Operand,
    weights: Operand,
    windows: Windows,
    taken: Sequence[Operand],
    region: Block | None,
) -> None:
    batch, *_, channels = out.type.dims
    dtype = wide(out)
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
        others = [k.element(operand, out.type.dims, (n, *at, o)) for operand in taken]
        value = _through(k, region, [k.cast(total, out.type.dtype), *others])
        k.store(value, out, n, *at, o)


def _correlate(k: LoopBuilder, out: Operand, x: Operand, dy: Operand, windows: Windows) -> None:
    *_, depth, channels = out.type.dims
    dtype = wide(out)
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


def _spread_over_taps(
    k: LoopBuilder, out: Operand, dy: Operand, weights: Operand, windows: Windows
) -> None:
    batch, *_, channels = dy.type.dims
    sums = Sums(k, out)
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
    dtype = wide(out)
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
    sums = Sums(k, out)
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
    sums = Sums(k, out)
    with (
        k.loop(x.type.dims[0]) as n,
        counted(k, windows.out[0]) as (row, row_size),
        nest_in(k, [windows.taps(0, row_size)]) as (above,),
        counted(k, windows.window[1]) as (beside, column_size),
        nest_in(k, [windows.places(1, column_size)]) as (column,),
        k.loop(multiplier) as j,
        k.loop(depth, simd=True) as c,
    ):
        at, tap = (row, column), (above, beside)
        pixel = k.load(x, n, *seen(k, windows, at, tap), c)
        slope = k.load(dy, n, *at, _channel(k, c, j, multiplier))
        sums.add(_product(k, sums.dtype, pixel, slope), *tap, c, j)
    sums.finish()
