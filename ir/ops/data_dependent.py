"""Ops whose result sizes depend on values.

``binds`` names the size that the op finds; later shapes mention it. In loops equal elements find
each other by a radix sort of their positions, a byte of the elements at a time: it takes the same
time for any values, and keeps the order of equal ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepforge.ir import dims
from stepforge.ir.core import Const, Operand
from stepforge.ir.dims import Dim
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.ops.arrays import Array, widen
from stepforge.ir.ops.inference import (
    BOOL,
    INDICES,
    SORTABLE,
    check_dtype,
    check_rank,
    check_same_dtype,
    known_dims,
)
from stepforge.ir.types import Type, index, item_bytes, numpy_dtype

SORTED = ("bool", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "f16", "bf16", "f32", "f64")
ZERO, ONE = (Const(Type("i64"), value) for value in (0, 1))


@define_op
class Where(OpDef):
    """The index vectors of the true elements, in row-major order.

    ``%r = where(%c, binds="m") : i64[m, 2]``
    """

    cases = (
        'where(bool[5], binds="m")',
        'where(bool[2, 3], binds="m")',
        'where(bool[0, 3], binds="m")',
        'where(bool, binds="m")',
        'where(bool[2, 1, 3], binds="m")',
    )

    def infer(self, condition: Type, *, binds: str) -> Type:
        check_dtype("where", BOOL, condition=condition)
        rank = len(known_dims("where", condition=condition))
        return Type("i64", (dims.named(binds), rank))

    def numpy(self, condition: Array, *, binds: str) -> Array:
        return np.argwhere(condition).astype(np.int64)

    def capacity(self, condition: Type) -> Dim:
        """All of them."""
        return condition.size

    def lower(
        self, k: LoopBuilder, count: Operand, out: Operand, condition: Operand, *, binds: str
    ) -> None:
        shape, size = condition.type.dims, condition.type.size
        flat = condition if isinstance(condition, Const) else k.view(condition, (size,))
        steps = [dims.product(shape[axis + 1 :]) for axis in range(len(shape))]

        def turn(i: Operand, found: Operand) -> Sequence[Operand]:
            row = k.to_index(found, size)  # what is no element is overwritten by the next
            for axis, step in enumerate(steps):
                place = k.emit("index_div", i, by=step) if step != 1 else i
                place = k.emit("index_mod", place, by=shape[axis]) if axis else place
                value = k.emit("from_index", place, dtype="i64")
                k.store(value, out, row, Const(index, axis))
            return [k.emit("add", found, k.cast(k.load(flat, i), "i64"))]

        (total,) = k.accumulate(size, [ZERO], turn)
        k.store(total, count)


def first_appearances(x: Array) -> tuple[Array, Array, Array]:
    """Positions of the distinct elements in order of appearance, each element's rank there, and
    counts.

    Every NaN is distinct.
    """
    _, first, inverse, counts = np.unique(
        widen(x), return_index=True, return_inverse=True, return_counts=True, equal_nan=False
    )
    appearance = np.argsort(first, kind="stable")
    rank = np.empty_like(appearance)
    rank[appearance] = np.arange(appearance.size)
    return first[appearance], rank[inverse.reshape(-1)], counts[appearance]


BINS, DIGIT = 256, 8  # of the radix sort: how many digits there are, and the bits of one


def _keys(k: LoopBuilder, x: Operand) -> Operand:
    """Integers that are equal where elements of ``x`` are; a NaN is equal to no element."""
    if x.type.kind != "f":
        return x
    own = k.alloc(x.type.dtype, x.type.dims)
    with k.nest(x.type.dims) as at:
        zero = Const(Type(x.type.dtype), 0.0)
        k.store(k.emit("add", k.load(x, *at), zero), own, *at)  # 0 for -0
    dtype = f"i{8 * item_bytes(x.type.dtype)}"
    bits: Operand = k.emit("view", own, shape=x.type.dims, dtype=dtype)
    return bits


def sorted_positions(k: LoopBuilder, x: Operand) -> Operand:
    """The positions of the integers ``x``, equal ones next to each other and in order."""
    (n,), (last, order) = x.type.dims, (k.alloc("i64", x.type.dims) for _ in range(2))
    with k.nest((n,)) as (i,):
        k.store(k.emit("from_index", i, dtype="i64"), order, i)
    for shift in range(0, 8 * item_bytes(x.type.dtype), DIGIT):
        _by_digit(k, x, order, last, shift)
        last, order = order, last
    return order


def _by_digit(k: LoopBuilder, x: Operand, order: Operand, out: Operand, shift: int) -> None:
    """Sort the positions ``order`` into ``out`` by a digit of the elements."""
    (n,), starts = x.type.dims, k.alloc("i64", (BINS,))
    mask, by = (Const(Type("i64"), value) for value in (BINS - 1, shift))

    def bin_of(place: Operand) -> Operand:
        wide = k.cast(k.load(x, k.to_index(place, n)), "i64")
        return k.to_index(k.emit("bitwise_and", k.emit("shift_right", wide, by), mask), BINS)

    def start(i: Operand, below: Operand) -> Sequence[Operand]:
        here = k.load(starts, i)
        k.store(below, starts, i)
        return [k.emit("add", below, here)]

    k.fill(ZERO, starts)
    with k.loop(n) as i:
        digit = bin_of(k.load(order, i))
        k.store(k.emit("add", k.load(starts, digit), ONE), starts, digit)
    k.accumulate(BINS, [ZERO], start)
    with k.loop(n) as i:
        place = k.load(order, i)
        digit = bin_of(place)
        target = k.load(starts, digit)
        k.store(place, out, k.to_index(target, n))
        k.store(k.emit("add", target, ONE), starts, digit)


def first_positions(k: LoopBuilder, x: Operand) -> Operand:
    """For each element of ``x`` the position of the first one that is equal."""
    (n,), order = x.type.dims, sorted_positions(k, _keys(k, x))
    first = k.alloc("i64", (n,))

    def turn(i: Operand, before: Operand, head: Operand) -> Sequence[Operand]:
        place = k.load(order, i)
        value = k.load(x, k.to_index(place, n))
        later = k.emit("greater", k.emit("from_index", i, dtype="i64"), ZERO)
        same = k.emit("logical_and", later, k.emit("equal", value, before))
        head = k.emit("select", same, head, place)
        k.store(head, first, k.to_index(place, n))
        return [value, head]

    zero: bool | float = {"b": False, "f": 0.0}.get(x.type.kind, 0)
    nothing = Const(Type(x.type.dtype), zero)
    k.accumulate(n, [nothing, ZERO], turn)
    return first


class UniqueOp(OpDef):
    """Base class: distinct elements of a vector."""

    def find(
        self, k: LoopBuilder, count: Operand, values: Operand, positions: Operand, x: Operand
    ) -> None:
        """The distinct elements, how many there are, and where each element is among them."""
        (n,), first = x.type.dims, first_positions(k, x)
        dtype = positions.type.dtype

        def turn(i: Operand, found: Operand) -> Sequence[Operand]:
            k.store(k.load(x, i), values, k.to_index(found, n))  # overwritten where it is not new
            k.store(k.cast(found, dtype), positions, i)
            own = k.load(first, i)
            k.store(k.load(positions, k.to_index(own, n)), positions, i)
            new = k.emit("equal", own, k.emit("from_index", i, dtype="i64"))
            return [k.emit("add", found, k.cast(new, "i64"))]

        (total,) = k.accumulate(n, [ZERO], turn)
        k.store(total, count)

    def capacity(self, x: Type, *others: Type) -> Dim:
        """All of them."""
        return x.dims[0]

    def vectors(self, x: Type, binds: str, index_dtype: str) -> tuple[Type, Type]:
        """The types of the distinct elements and of the index of each element among them."""
        check_dtype(self.name, SORTABLE, x=x)
        check_dtype(self.name, INDICES, index=Type(index_dtype))
        check_rank(self.name, 1, x=x)
        return x.with_shape((dims.named(binds),)), x.with_dtype(index_dtype)


@define_op
class Unique(UniqueOp):
    """The distinct elements in order of appearance, and where each element is among them.

    ``%values, %index = unique(%x, binds="m") : f32[m], i32[n]``
    """

    cases = (
        'unique(i32[7], binds="m")',
        'unique(f32[5], binds="m", index_dtype="i64")',
        'unique(i64[0], binds="m")',
        *[f'unique({dtype}[9], binds="m")' for dtype in SORTED],
        'unique(string[3], binds="m")',
    )

    def infer(self, x: Type, *, binds: str, index_dtype: str = "i32") -> tuple[Type, Type]:
        return self.vectors(x, binds, index_dtype)

    def numpy(self, x: Array, *, binds: str, index_dtype: str) -> tuple[Array, Array]:
        first, rank, _ = first_appearances(x)
        return x[first], rank.astype(numpy_dtype(index_dtype))

    def lower(
        self, k: LoopBuilder, count: Operand, values: Operand, positions: Operand, x: Operand,
        *, binds: str, index_dtype: str,
    ) -> None:
        self.find(k, count, values, positions, x)


@define_op
class UniqueWithCounts(UniqueOp):
    """``unique`` and how often each distinct element appears.

    ``%values, %index, %counts = unique_with_counts(%x, binds="m") : f32[m], i32[n], i32[m]``
    """

    cases = (
        'unique_with_counts(i32[7], binds="m")',
        'unique_with_counts(f64[5], binds="m", index_dtype="i64")',
        'unique_with_counts(i64[0], binds="m")',
    )

    def infer(self, x: Type, *, binds: str, index_dtype: str = "i32") -> tuple[Type, Type, Type]:
        values, index = self.vectors(x, binds, index_dtype)
        return values, index, values.with_dtype(index_dtype)

    def numpy(self, x: Array, *, binds: str, index_dtype: str) -> tuple[Array, Array, Array]:
        first, rank, counts = first_appearances(x)
        dtype = numpy_dtype(index_dtype)
        return x[first], rank.astype(dtype), counts.astype(dtype)

    def lower(
        self, k: LoopBuilder, count: Operand, values: Operand, positions: Operand,
        counts: Operand, x: Operand, *, binds: str, index_dtype: str,
    ) -> None:
        self.find(k, count, values, positions, x)
        (n,), dtype = x.type.dims, counts.type.dtype
        k.fill(Const(Type(dtype), 0), counts)
        with k.loop(n) as i:
            place = k.to_index(k.load(positions, i), n)
            one = Const(Type(dtype), 1)
            k.store(k.emit("add", k.load(counts, place), one), counts, place)


@define_op
class Setdiff1d(UniqueOp):
    """The elements of ``x`` that are not in ``y``, in order and with duplicates, and their
    positions.

    ``%values, %index = setdiff1d(%x, %y, binds="m") : i32[m], i32[m]``
    """

    cases = (
        'setdiff1d(i32[6], i32[3], binds="m")',
        'setdiff1d(f32[4], f32[0], binds="m", index_dtype="i64")',
        'setdiff1d(bool[0], bool[2], binds="m")',
        'setdiff1d(string[3], string[2], binds="m")',
    )

    def infer(self, x: Type, y: Type, *, binds: str, index_dtype: str = "i32") -> tuple[Type, Type]:
        check_same_dtype("setdiff1d", x=x, y=y)
        check_rank("setdiff1d", 1, y=y)
        values, _ = self.vectors(x, binds, index_dtype)
        return values, values.with_dtype(index_dtype)

    def numpy(self, x: Array, y: Array, *, binds: str, index_dtype: str) -> tuple[Array, Array]:
        (kept,) = np.nonzero(~np.isin(widen(x), widen(y)))
        return x[kept], kept.astype(numpy_dtype(index_dtype))
