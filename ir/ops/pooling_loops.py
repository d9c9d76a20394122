"""How pooling becomes loops: by lanes over the channels, the taps of small windows written out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from stepforge.ir import dims
from stepforge.ir.combining import identity
from stepforge.ir.core import Const, Operand
from stepforge.ir.dims import Dim
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.ops.windows import Sums, Windows, accumulate_nest, counted_nest, seen, wide
from stepforge.ir.types import Type, boolean, index

Element = Sequence[Operand]
Turn = Callable[[Element, Element], Sequence[Operand]]
MOST_TAPS = 16  # of windows whose taps are written out


class Scan:
    """Goes through the windows, and through the elements that each of them sees.

    With ``nearest`` an element that is missing is the nearest one that is there. Small windows are
    written out where they miss nothing, or may take the nearest element.
    """

    def __init__(self, k: LoopBuilder, windows: Windows, *, nearest: bool) -> None:
        self.k, self.windows = k, windows
        self.whole = all(windows.inside(axis) for axis in windows.axes)
        taps = dims.product(windows.window)
        small = isinstance(taps, int) and taps <= MOST_TAPS
        self.written_out = small and (self.whole or nearest)
        self._sizes: tuple[Dim, ...] = ()

    @contextmanager
    def places(self, batch: Dim, channels: Dim) -> Iterator[tuple[Operand, ...]]:
        """Loops over images, windows and (by lanes) channels."""
        with self.k.loop(batch) as n:
            if self.written_out:
                with (
                    self.k.nest(self.windows.out, simd=False) as at,
                    self.k.loop(channels, simd=True) as c,
                ):
                    yield (n, *at, c)
                return
            with (
                counted_nest(self.k, self.windows.out) as (at, sizes),
                self.k.loop(channels, simd=True) as c,
            ):
                self._sizes = sizes
                yield (n, *at, c)

    def elements(self, place: Element, initial: Element, turn: Turn) -> tuple[Operand, ...]:
        """Values carried over what the window at ``place`` sees: ``turn(place seen, carried)``."""
        n, *at, c = place
        if not self.written_out:
            ranges = [self.windows.taps(axis, self._sizes[axis]) for axis in self.windows.axes]
            return accumulate_nest(
                self.k, ranges, initial,
                lambda tap, carried: turn((n, *seen(self.k, self.windows, at, tap), c), carried),
            )
        carried = tuple(initial)
        for tap in itertools.product(*[range(int(n)) for n in self.windows.window]):  # type: ignore
            counters = [Const(index, p) for p in tap]
            pixel = seen(self.k, self.windows, at, counters)
            carried = tuple(turn((n, *map(self._on_image, self.windows.axes, pixel), c), carried))
        return carried

    def _on_image(self, axis: int, position: Operand) -> Operand:
        """The nearest position that there is."""
        if self.windows.inside(axis):
            return position
        number = self.k.emit("from_index", position, dtype="i64")
        return self.k.to_index(number, self.windows.image[axis])

    def count(self) -> Dim:
        """The number of elements that the window sees which is being gone through."""
        if self.written_out:
            return dims.product(self.windows.window)
        ranges = (self.windows.taps(axis, self._sizes[axis]) for axis in self.windows.axes)
        return dims.product(dims.maximum(last - first, 0) for first, last in ranges)

    @property
    def disjoint(self) -> bool:
        """True where the windows, written out, see every element of the image once."""
        return self.written_out and self.whole and all(
            self.windows.window[axis] == self.windows.strides[axis]
            and self.windows.extent(axis) == self.windows.image[axis]
            for axis in self.windows.axes
        )


class Target:
    """Images that windows add to: stored at once where each element gets one share only."""

    def __init__(self, scan: Scan, out: Operand) -> None:
        self.k, self.out = scan.k, out
        self.sums = None if scan.disjoint else Sums(scan.k, out)
        self.dtype = wide(out)

    def add(self, value: Operand, place: Element) -> None:
        """Add to an element."""
        if self.sums is None:
            self.k.store(self.k.cast(value, self.out.type.dtype), self.out, *place)
        else:
            self.sums.add(value, *place)

    def finish(self) -> None:
        """Round to the result's dtype."""
        if self.sums is not None:
            self.sums.finish()


# ---- maxima -------------------------------------------------------------------------------------
def max_pool(k: LoopBuilder, out: Operand, x: Operand, windows: Windows) -> None:
    """``out`` = the maximum of each window."""
    scan = Scan(k, windows, nearest=True)
    with scan.places(out.type.dims[0], out.type.dims[-1]) as place:
        (largest,) = scan.elements(
            place,
            [identity("max", out.type.dtype)],
            lambda pixel, carried: [k.emit("maximum", carried[0], k.load(x, *pixel))],
        )
        k.store(largest, out, *place)


def _hit(k: LoopBuilder, value: Operand, largest: Operand, found: Operand) -> Operand:
    """Whether ``value`` is the maximum, and the first that is."""
    equal = k.emit("equal", value, largest)
    return k.emit("logical_and", equal, k.emit("logical_not", found))  # type: ignore


def max_pool_input(
    k: LoopBuilder, out: Operand, x: Operand, y: Operand, dy: Operand, windows: Windows
) -> None:
    """``out`` = the gradient of ``max_pool`` in its images."""
    scan = Scan(k, windows, nearest=True)
    target = Target(scan, out)
    zero = identity("add", target.dtype)
    with scan.places(y.type.dims[0], y.type.dims[-1]) as place:
        largest, slope = k.load(y, *place), k.cast(k.load(dy, *place), target.dtype)

        def turn(pixel: Element, carried: Element) -> list[Operand]:
            hit = _hit(k, k.load(x, *pixel), largest, carried[0])
            target.add(k.emit("select", hit, slope, zero), pixel)
            return [k.emit("logical_or", carried[0], hit)]

        scan.elements(place, [Const(boolean, False)], turn)
    target.finish()


def max_pool_pick(
    k: LoopBuilder, out: Operand, x: Operand, y: Operand, values: Operand, windows: Windows
) -> None:
    """``out`` = the values where the maxima first are."""
    scan = Scan(k, windows, nearest=True)
    zero = identity("add", out.type.dtype)
    with scan.places(y.type.dims[0], y.type.dims[-1]) as place:
        largest = k.load(y, *place)

        def turn(pixel: Element, carried: Element) -> list[Operand]:
            found, picked = carried
            hit = _hit(k, k.load(x, *pixel), largest, found)
            picked = k.emit("select", hit, k.load(values, *pixel), picked)
            return [k.emit("logical_or", found, hit), picked]

        _, picked = scan.elements(place, [Const(boolean, False), zero], turn)
        k.store(picked, out, *place)


def arg_max_pool(k: LoopBuilder, out: Operand, x: Operand, windows: Windows) -> None:
    """``out`` = the number of the pixel where each maximum first is."""
    scan = Scan(k, windows, nearest=True)
    number, lowest = Type("i64"), identity("max", x.type.dtype)
    with scan.places(out.type.dims[0], out.type.dims[-1]) as place:

        def turn(pixel: Element, carried: Element) -> list[Operand]:
            largest, first = carried
            value = k.load(x, *pixel)
            if value.type.kind == "f":
                value = k.emit("select", k.emit("is_nan", value), lowest, value)
            position: Operand = Const(index, 0)
            for axis, at in zip(windows.axes, pixel[1:-1], strict=True):
                position = k.index((position, windows.image[axis]), (at, 1))
            here = k.emit("from_index", position, dtype="i64")
            none = k.emit("less", first, Const(number, 0))
            better = k.emit("logical_or", none, k.emit("greater", value, largest))
            return [
                k.emit("select", better, value, largest), k.emit("select", better, here, first)
            ]

        _, first = scan.elements(place, [lowest, Const(number, -1)], turn)
        k.store(first, out, *place)


# ---- means --------------------------------------------------------------------------------------
def _share(k: LoopBuilder, total: Operand, count: Dim) -> Operand:
    """``total / count``."""
    type_ = total.type
    if isinstance(count, int):
        return k.emit("div", total, Const(type_, float(count)))  # type: ignore[no-any-return]
    number = k.emit("from_index", k.index(offset=count), dtype=type_.dtype)
    return k.emit("div", total, number)  # type: ignore[no-any-return]


def avg_pool(k: LoopBuilder, out: Operand, x: Operand, windows: Windows) -> None:
    """``out`` = the mean of each window."""
    scan, dtype = Scan(k, windows, nearest=False), wide(out)
    with scan.places(out.type.dims[0], out.type.dims[-1]) as place:
        (total,) = scan.elements(
            place,
            [identity("add", dtype)],
            lambda pixel, carried: [k.emit("add", carried[0], k.cast(k.load(x, *pixel), dtype))],
        )
        k.store(k.cast(_share(k, total, scan.count()), out.type.dtype), out, *place)


def avg_pool_input(k: LoopBuilder, out: Operand, dy: Operand, windows: Windows) -> None:
    """``out`` = the gradient of ``avg_pool`` in its images."""
    scan = Scan(k, windows, nearest=False)
    target = Target(scan, out)
    with scan.places(dy.type.dims[0], dy.type.dims[-1]) as place:
        share = _share(k, k.cast(k.load(dy, *place), target.dtype), scan.count())

        def turn(pixel: Element, carried: Element) -> Element:
            target.add(share, pixel)
            return carried

        scan.elements(place, [], turn)
    target.finish()

