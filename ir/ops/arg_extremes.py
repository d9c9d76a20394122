"""Positions of extremes along an axis: ``argmax`` and ``argmin``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from stepforge.ir import dims
from stepforge.ir.combining import identity
from stepforge.ir.core import Const, Operand
from stepforge.ir.dims import Dim
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.ops import arrays
from stepforge.ir.ops.arrays import Array, narrow, widen
from stepforge.ir.ops.inference import BOOL, INDICES, PLAIN, REAL, check_dtype, known_axis
from stepforge.ir.records import record
from stepforge.ir.types import Type, index, item_bytes, numpy_dtype

Load: TypeAlias = Callable[[Operand], Operand]
ALONG = 256  # elements of a chunk where lanes run along the axis
# Bytes of a value -> where lanes run across the axis, the dtype of positions within a chunk, and
# how many it has.
ACROSS = {1: ("u8", 256), 2: ("u16", 4096), 4: ("i32", 4096), 8: ("i64", 4096)}


def arg_cases(name: str) -> tuple[str, ...]:
    """Test cases of ``argmax`` and ``argmin``."""
    shapes = ("f32[2, 3], axis=1", "f32[2, 3], axis=0", "f64[4], axis=0", "f16[2, 1], axis=-1")
    others = tuple(f"{dtype}[5], axis=0" for dtype in PLAIN.listed if dtype not in ("c64", "c128"))
    typed = ('f32[2, 3, 4], axis=1, dtype="i32"', "f32[0, 3], axis=1", "f32[2, 0], axis=1")
    return tuple(f"{name}({case})" for case in (*shapes, *others, *typed))


class ArgExtreme(OpDef):
    """Base class: the first position of an extreme along ``axis``; NaN is never one, unless all
    are.
    """

    def infer(self, x: Type, *, axis: int, dtype: str = "i64") -> Type:
        check_dtype(self.name, REAL if x.dtype != "bool" else BOOL, x=x)
        check_dtype(self.name, INDICES, result=Type(dtype))
        gone = known_axis(self.name, axis, x=x)
        return Type(dtype, (*x.dims[:gone], *x.dims[gone + 1 :]))

    def positions(self, x: Array, axis: int, dtype: str, worst: float) -> Array:
        """Positions of the extreme; NaN counts as ``worst``."""
        result = numpy_dtype(dtype)
        if x.shape[axis] == 0:
            gone = axis % x.ndim
            return np.zeros((*x.shape[:gone], *x.shape[gone + 1 :]), result)
        if x.dtype.kind == "f":
            x = arrays.where(np.isnan(x), worst, x)
        find = np.argmax if self.name == "argmax" else np.argmin
        return narrow(find(x, axis), result)

    def lower(self, k: LoopBuilder, out: Operand, x: Operand, *, axis: int, dtype: str) -> None:
        """One pass over memory, by chunks; see ``_Search``."""
        place, shape = axis % x.type.rank, x.type.dims
        before, behind = dims.product(shape[:place]), dims.product(shape[place + 1 :])
        search = _Search(k, x.type.dtype, largest=self.name == "argmax")
        if behind == 1:
            source, target = k.view(x, (before, shape[place])), k.view(out, (before,))
            with k.nest((before,), simd=False) as (row,):
                found = search.along(shape[place], lambda i: k.load(source, row, i))
                k.store(k.cast(found, dtype), target, row)
            return
        source, target = k.view(x, (before, shape[place], behind)), k.view(out, (before, behind))
        with k.nest((before, behind)) as (row, column):
            found = search.across(shape[place], lambda i: k.load(source, row, i, column))
            k.store(k.cast(found, dtype), target, row, column)


@record(frozen=True)
class _Search:
    """Loops that look for the first position of an extreme.

    A value counts where it is beyond the best one so far, which NaN never is and an equal one is
    not either; where none is, the position is 0.
    """

    k: LoopBuilder
    dtype: str
    largest: bool

    @property
    def seen(self) -> str:
        """The dtype that values are compared in."""
        return {"bool": "u8", "f16": "f32", "bf16": "f32"}.get(self.dtype, self.dtype)

    def _value(self, load: Load, i: Operand) -> Operand:
        return self.k.cast(load(i), self.seen)

    def _beyond(self, a: Operand, b: Operand) -> Operand:
        return self.k.emit("greater" if self.largest else "less", a, b)  # type: ignore[no-any-return]

    def _select(self, condition: Operand, a: Operand, b: Operand) -> Operand:
        return self.k.emit("select", condition, a, b)  # type: ignore[no-any-return]

    @property
    def _worst(self) -> Const:
        return identity("max" if self.largest else "min", self.seen)

    def along(self, size: Dim, load: Load) -> Operand:
        """Lanes along the axis: the extreme of each chunk, then the position in the best chunk."""
        k = self.k
        if isinstance(size, int) and size <= ALONG:
            return self._position(size, load, Const(index, 0), self._extreme(size, load))
        name = k.size_name()
        turns = dims.minimum(size - ALONG * dims.named(name), ALONG)

        def turn(chunk: Operand, best: Operand, where: Operand) -> list[Operand]:
            extreme = self._extreme(turns, lambda i: load(k.index((chunk, ALONG), (i, 1))))
            better = self._beyond(extreme, best)
            start = k.emit("from_index", k.index((chunk, ALONG)), dtype="i64")
            return [self._select(better, extreme, best), self._select(better, start, where)]

        count = dims.floor_div(size + (ALONG - 1), ALONG)
        zero = Const(Type("i64"), 0)
        best, where = k.accumulate(count, [self._worst, zero], turn, binds=name)
        # The last chunk may be short: then some of the elements before it are looked at again,
        # none of which is the extreme.
        window = dims.minimum(size, ALONG)
        return self._position(window, load, k.to_index(where, size - window + 1), best)

    def _extreme(self, size: Dim, load: Load) -> Operand:
        def turn(i: Operand, best: Operand) -> list[Operand]:
            value = self._value(load, i)
            return [self._select(self._beyond(value, best), value, best)]

        kind = "max" if self.largest else "min"
        return self.k.accumulate(size, [self._worst], turn, combine=[kind], simd=True)[0]

    def _position(self, size: Dim, load: Load, start: Operand, best: Operand) -> Operand:
        """The first of ``size`` elements from ``start`` that is ``best``; 0 where nothing was."""
        k, never = self.k, Const(Type("i32"), ALONG)

        def term(i: Operand) -> Operand:
            same = k.emit("equal", self._value(load, k.index((start, 1), (i, 1))), best)
            return self._select(same, k.emit("from_index", i, dtype="i32"), never)

        first = k.fold(size, "min", "i32", term, simd=True)
        here = k.emit("add", k.emit("from_index", start, dtype="i64"), k.cast(first, "i64"))
        return self._select(self._beyond(best, self._worst), here, Const(Type("i64"), 0))

    def across(self, size: Dim, load: Load) -> Operand:
        """Lanes across the axis, each with a best value and its position within a chunk.

        Positions are as wide as values, so that a vector of one goes with a vector of the other.
        """
        k = self.k
        narrow, chunk = ACROSS[item_bytes(self.seen)]
        name = k.size_name()
        turns = dims.minimum(size - chunk * dims.named(name), chunk)

        def turn(number: Operand, best: Operand, where: Operand) -> list[Operand]:
            def step(i: Operand, value: Operand, at: Operand) -> list[Operand]:
                other = self._value(load, k.index((number, chunk), (i, 1)))
                better = self._beyond(other, value)
                here = k.emit("from_index", i, dtype=narrow)
                return [self._select(better, other, value), self._select(better, here, at)]

            extreme, at = k.accumulate(turns, [best, Const(Type(narrow), 0)], step)
            start = k.emit("from_index", k.index((number, chunk)), dtype="i64")
            here = k.emit("add", start, k.cast(at, "i64"))
            return [extreme, self._select(self._beyond(extreme, best), here, where)]

        count = dims.floor_div(size + (chunk - 1), chunk)
        zero = Const(Type("i64"), 0)
        return k.accumulate(count, [self._worst, zero], turn, binds=name)[1]


@define_op
class Argmax(ArgExtreme):
    """The first position of the largest element. ``%r = argmax(%x, axis=1) : i64[n]``

    NaN counts as -inf, and no elements give 0 (extraction requires some).
    """

    cases = arg_cases("argmax")

    def numpy(self, x: Array, *, axis: int, dtype: str) -> Array:
        return self.positions(widen(x), axis, dtype, -np.inf)


@define_op
class Argmin(ArgExtreme):
    """The first position of the smallest element. ``%r = argmin(%x, axis=1) : i64[n]``

    NaN counts as inf, and no elements give 0 (extraction requires some).
    """

    cases = arg_cases("argmin")

    def numpy(self, x: Array, *, axis: int, dtype: str) -> Array:
        return self.positions(widen(x), axis, dtype, np.inf)
