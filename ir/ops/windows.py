"""How windows lie on an image: the geometry that convolution and pooling share.

Tap ``p`` of window ``i`` sees the image at ``i * stride - low + p * dilation``. What lies outside
of the image is no element: a convolution takes it for 0, pooling leaves it out. There is no padding
behind an image: the number of windows says how far they reach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from stepforge.ir import dims
from stepforge.ir.combining import identity
from stepforge.ir.core import Block, Operand, Value
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.ops.arrays import Array
from stepforge.ir.ops.inference import describe
from stepforge.ir.records import record
from stepforge.ir.types import Type, index

Dims = tuple[Dim, ...]
WIDE = {"f16": "f32", "bf16": "f32"}


def ceil_div(a: Dim, b: int) -> Dim:
    """``a / b`` rounded up."""
    return dims.floor_div(a + (b - 1), b)


def count_valid(image: Dim, reach: Dim, stride: int) -> Dim:
    """How many windows lie entirely inside of an image."""
    return dims.maximum(dims.floor_div(image - reach, stride) + 1, 0)


@record(frozen=True)
class Windows:
    """Windows along each spatial axis; ``out`` says how many."""

    image: Dims
    window: Dims
    out: Dims
    strides: tuple[int, ...]
    low: Dims
    dilations: tuple[int, ...]

    @property
    def axes(self) -> range:
        """The spatial axes."""
        return range(len(self.strides))

    def reach(self, axis: int) -> Dim:
        """From the first to behind the last element that a window sees."""
        return (self.window[axis] - 1) * self.dilations[axis] + 1

    def extent(self, axis: int) -> Dim:
        """From the first element of the first window to behind the last one of the last."""
        size = (self.out[axis] - 1) * self.strides[axis] + self.reach(axis)
        return dims.maximum(size, 0)

    def inside(self, axis: int) -> bool:
        """True where certainly no window reaches out of the image."""
        if self.low[axis] != 0:
            return False
        valid = count_valid(self.image[axis], self.reach(axis), self.strides[axis])
        rest = self.image[axis] - self.extent(axis)
        return self.out[axis] == valid or (isinstance(rest, int) and rest >= 0)

    def taps(self, axis: int, at: Dim) -> tuple[Dim, Dim]:
        """The taps of window ``at`` that see the image: the first, and behind the last."""
        if self.inside(axis):
            return 0, self.window[axis]
        start, step = self.low[axis] - at * self.strides[axis], self.dilations[axis]
        first = dims.maximum(ceil_div(start, step), 0)
        last = dims.minimum(ceil_div(start + self.image[axis], step), self.window[axis])
        return first, last

    def places(self, axis: int, tap: Dim) -> tuple[Dim, Dim]:
        """The windows whose ``tap`` sees the image: the first, and behind the last."""
        if self.inside(axis):
            return 0, self.out[axis]
        start, step = self.low[axis] - tap * self.dilations[axis], self.strides[axis]
        first = dims.maximum(ceil_div(start, step), 0)
        last = dims.minimum(ceil_div(start + self.image[axis], step), self.out[axis])
        return first, last

    def completed(self) -> Windows:
        """With the sizes that are missing, as large as fits without padding."""
        if not self.image:
            return replace(self, image=tuple(map(self.extent, self.axes)))
        if not self.window:
            return replace(self, window=tuple(map(self._window, self.axes)))
        if self.out:
            return self
        valid = zip(self.image, map(self.reach, self.axes), self.strides, strict=True)
        return replace(self, out=tuple(count_valid(*sizes) for sizes in valid))

    def _window(self, axis: int) -> Dim:
        rest = self.image[axis] - (self.out[axis] - 1) * self.strides[axis]
        return dims.floor_div(rest - 1, self.dilations[axis]) + 1

    # ---- arrays ---------------------------------------------------------------------------------
    def padded(self, x: Array) -> Array:
        """Images ``[n, *image, c]`` with zeros around, so that every window lies inside."""
        widths, kept = [(0, 0)], [slice(None)]
        for axis in self.axes:
            low, reach, extent = numbers((self.low[axis], self.reach(axis), self.extent(axis)))
            behind = max(extent, reach, 1) - low - x.shape[1 + axis]
            widths.append((max(low, 0), max(behind, 0)))
            kept.append(slice(max(-low, 0), None))
        return np.pad(x[tuple(kept)], [*widths, (0, 0)])

    def _seen_by(self, tap: Sequence[int]) -> tuple[slice, ...]:
        """Where in the padded images all windows have one of their taps."""
        found = [slice(None)]
        for axis, count in enumerate(numbers(self.out)):
            start = tap[axis] * self.dilations[axis]
            step = self.strides[axis]
            found.append(slice(start, start + count * step, step))
        return tuple(found)

    def _tap_of(self, tap: Sequence[int]) -> tuple[slice | int, ...]:
        """One tap of all windows, in an array of patches."""
        return (*[slice(None)] * (1 + len(self.out)), *tap)

    def patches(self, x: Array) -> Array:
        """What each window sees: ``[n, *out, *window, c]``."""
        padded = self.padded(x)
        window = numbers(self.window)
        found = np.empty((x.shape[0], *numbers(self.out), *window, x.shape[-1]), x.dtype)
        for tap in np.ndindex(*window):
            found[self._tap_of(tap)] = padded[self._seen_by(tap)]
        return found

    def spread(self, patches: Array) -> Array:
        """The sum of all patches ``[n, *out, *window, c]`` at their places on the images."""
        image = numbers(self.image)
        whole = self.padded(np.zeros((patches.shape[0], *image, patches.shape[-1]), patches.dtype))
        for tap in np.ndindex(*numbers(self.window)):
            whole[self._seen_by(tap)] += patches[self._tap_of(tap)]
        kept, missing = [slice(None)], [(0, 0)]
        for low, size in zip(numbers(self.low), image, strict=True):
            kept.append(slice(max(low, 0), max(low, 0) + size - max(-low, 0)))
            missing.append((max(-low, 0), 0))
        return np.pad(whole[tuple(kept)], [*missing, (0, 0)])


def numbers(sizes: Sequence[Dim]) -> tuple[int, ...]:
    """Sizes that are known."""
    return tuple(dims.evaluate(size, {}) for size in sizes)


def windows_of(
    op: str,
    attrs: Mapping[str, Sequence[Dim]],
    operands: Mapping[str, Type],
    *,
    image: Sequence[Dim] | None = None,
    window: Sequence[Dim] | None = None,
    out: Sequence[Dim] | None = None,
) -> Windows:
    """The windows of an op of which two of three kinds of sizes are known from its operands.

    The attribute ``size`` says the third; where it is empty that is what fits without padding.
    ``strides`` and ``dilations`` that are empty stand for ones, ``low`` for zeros.
    Raises: ShapeError where one has another length than there are axes, or a step is not positive.
    """
    rank = len(next(sizes for sizes in (image, window, out) if sizes is not None))
    for name, values in attrs.items():
        if len(values) not in (0, rank):
            raise ShapeError(
                f"{op}: {name} has {len(values)} values for {rank} axes: {describe(operands)}"
            )
    strides = tuple(attrs["strides"]) or (1,) * rank
    steps = tuple(attrs.get("dilations", ())) or (1,) * rank
    if not all(isinstance(n, int) and n > 0 for n in (*strides, *steps)):
        raise ShapeError(f"{op}: strides and dilations must be positive: {strides}, {steps}")
    size = tuple(attrs["size"])
    parts = [size if part is None else tuple(part) for part in (image, window, out)]
    found = Windows(*parts, strides, tuple(attrs["low"]) or (0,) * rank, steps)  # type: ignore
    return found if size else found.completed()


# ---- loops --------------------------------------------------------------------------------------
@contextmanager
def counted(k: LoopBuilder, size: Dim) -> Iterator[tuple[Operand, Dim]]:
    """A loop whose counter bounds of inner loops may mention: the counter, and it as a size."""
    name = k.size_name()
    counter = Value(index, "i")
    with k.nested() as ops:
        yield counter, dims.named(name)
        k.emit("yield")
    k.emit("for", high=size, binds=name, regions=[Block((counter,), tuple(ops))])


@contextmanager
def counted_nest(
    k: LoopBuilder, sizes: Sequence[Dim]
) -> Iterator[tuple[tuple[Operand, ...], Dims]]:
    """``counted`` loops over every index of a shape."""
    if not sizes:
        yield (), ()
        return
    with counted(k, sizes[0]) as (i, at), counted_nest(k, sizes[1:]) as (inner, behind):
        yield (i, *inner), (at, *behind)


Ranges = Sequence[tuple[Dim, Dim]]
Turn = Callable[[tuple[Operand, ...], tuple[Operand, ...]], Sequence[Operand]]


def accumulate_nest(
    k: LoopBuilder, ranges: Ranges, initial: Sequence[Operand], turn: Turn
) -> tuple[Operand, ...]:
    """Loops over every index within ``ranges`` that carry values: ``turn(indices, carried)``."""

    def level(at: tuple[Operand, ...], carried: tuple[Operand, ...]) -> Sequence[Operand]:
        if len(at) == len(ranges):
            return turn(at, carried)
        low, high = ranges[len(at)]
        return k.accumulate(high, carried, lambda i, *c: level((*at, i), c), low=low)

    return tuple(level((), tuple(initial)))


@contextmanager
def nest_in(k: LoopBuilder, ranges: Ranges) -> Iterator[tuple[Operand, ...]]:
    """Loops over every index within ``ranges``."""
    if not ranges:
        yield ()
        return
    low, high = ranges[0]
    with k.loop(high, low=low) as i, nest_in(k, ranges[1:]) as inner:
        yield (i, *inner)


def seen(
    k: LoopBuilder, windows: Windows, at: Sequence[Operand], tap: Sequence[Operand]
) -> list[Operand]:
    """The place on the image that tap ``tap`` of window ``at`` sees."""
    return [
        k.index(
            (at[axis], windows.strides[axis]),
            (tap[axis], windows.dilations[axis]),
            offset=-windows.low[axis],
        )
        for axis in windows.axes
    ]


def wide(buffer: Operand) -> str:
    """The dtype that sums of a buffer's elements are made in."""
    dtype: str = buffer.type.dtype
    return WIDE.get(dtype, dtype)


class Sums:
    """Images that are added to place by place; 16-bit ones in single precision."""

    def __init__(self, k: LoopBuilder, out: Operand) -> None:
        self.k, self.out = k, out
        self.dtype = wide(out)
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
