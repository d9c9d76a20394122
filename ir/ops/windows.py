"""How windows lie on an image: the geometry that convolution and pooling share.

Tap ``p`` of window ``i`` sees the image at ``i * stride - low + p * dilation``. What lies outside
of the image is no element: a convolution takes it for 0, pooling leaves it out. There is no padding
behind an image: the number of windows says how far they reach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from stepforge.ir import dims
from stepforge.ir.core import Block, Operand, Value
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.ops.arrays import Array
from stepforge.ir.ops.inference import describe
from stepforge.ir.types import Type, index

Dims = tuple[Dim, ...]


def ceil_div(a: Dim, b: int) -> Dim:
    """``a / b`` rounded up."""
    return dims.floor_div(a + (b - 1), b)


def count_valid(image: Dim, reach: Dim, stride: int) -> Dim:
    """How many windows lie entirely inside of an image."""
    return dims.maximum(dims.floor_div(image - reach, stride) + 1, 0)


@dataclass(frozen=True)
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
    def padded(self, x: Array, fill: object = 0) -> Array:
        """Images ``[n, *image, c]`` with ``fill`` around, so that every window lies inside."""
        before, behind, cut = [], [], []
        for axis in self.axes:
            low, size = int(self.low[axis]), x.shape[1 + axis]  # type: ignore[call-overload]
            needed = max(int(self.extent(axis)), int(self.reach(axis)), 1)  # type: ignore
            before.append(max(low, 0))
            behind.append(max(needed - low - size, 0))
            cut.append(slice(max(-low, 0), None))
        widths = [(0, 0), *zip(before, behind, strict=True), (0, 0)]
        return np.pad(x[(slice(None), *cut)], widths, constant_values=fill)

    def tap_slices(self, tap: Sequence[int]) -> tuple[slice, ...]:
        """Where in the padded images all windows have one of their taps."""
        found = []
        for axis in self.axes:
            start = tap[axis] * self.dilations[axis]
            stop = start + int(self.out[axis]) * self.strides[axis]  # type: ignore[call-overload]
            found.append(slice(start, stop, self.strides[axis]))
        return tuple(found)

    def patches(self, x: Array, fill: object = 0) -> Array:
        """What each window sees: ``[n, *out, *window, c]``."""
        padded = self.padded(x, fill)
        shape = tuple(int(n) for n in (*self.out, *self.window))  # type: ignore[call-overload]
        found = np.empty((x.shape[0], *shape, x.shape[-1]), x.dtype)
        for tap in np.ndindex(*shape[len(self.out) :]):
            seen = padded[(slice(None), *self.tap_slices(tap))]
            found[(slice(None), *[slice(None)] * len(self.out), *tap)] = seen
        return found

    def spread(self, patches: Array) -> Array:
        """The sum of all patches ``[n, *out, *window, c]`` at their places on the images."""
        image = tuple(int(n) for n in self.image)  # type: ignore[call-overload]
        whole = self.padded(np.zeros((patches.shape[0], *image, patches.shape[-1]), patches.dtype))
        rank = len(self.out)
        for tap in np.ndindex(*patches.shape[1 + rank : 1 + 2 * rank]):
            here = (slice(None), *self.tap_slices(tap))
            whole[here] += patches[(slice(None), *[slice(None)] * rank, *tap)]
        inner, cut = [], []
        for axis in self.axes:
            low = int(self.low[axis])  # type: ignore[call-overload]
            inner.append(slice(max(low, 0), max(low, 0) + image[axis] - max(-low, 0)))
            cut.append((max(-low, 0), 0))
        return np.pad(whole[(slice(None), *inner)], [(0, 0), *cut, (0, 0)])


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
