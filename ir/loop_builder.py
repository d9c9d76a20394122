"""Builds the loop level: what ``lower`` rules are written with.

``with k.loop(n) as i`` opens a loop, ``k.load`` and ``k.store`` touch buffers, ``k.emit`` computes
elements;
``k.accumulate`` is a loop that carries values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from stepforge.ir import dims
from stepforge.ir.builder import Builder
from stepforge.ir.combining import COMBINE, identity
from stepforge.ir.core import Block, Const, Operand, Operation, Site, Value
from stepforge.ir.dims import Dim
from stepforge.ir.types import COMPLEX, Type, index


class LoopBuilder(Builder):
    """A builder whose current block follows the loops that are open."""

    def __init__(self, site: Site | None = None) -> None:
        super().__init__(site)
        self._named = 0

    def size_name(self) -> str:
        """A name for a counter that bounds of inner loops mention, and that no size has:

        sizes of feeds and those that are found end in ``_`` and a number.
        """
        self._named += 1
        return f"chunk{self._named}"

    @contextmanager
    def nested(self) -> Iterator[list[Operation]]:
        """Collect what is emitted inside into a list of its own."""
        outer, self.ops = self.ops, []
        try:
            yield self.ops
        finally:
            self.ops = outer

    @contextmanager
    def loop(
        self,
        high: Dim,
        *,
        low: Dim = 0,
        step: int = 1,
        simd: bool = False,
        name: str = "i",
        binds: str = "",
    ) -> Iterator[Operand]:
        """A loop without carried values; a single turn is no loop at all.

        ``binds`` names the counter as a size, for bounds of inner loops.
        """
        if high == 1 and low == 0 and not binds:
            yield Const(index, 0)
            return
        counter = Value(index, name)
        with self.nested() as ops:
            yield counter
            super().emit("yield")
        self.emit(
            "for",
            low=low,
            high=high,
            step=step,
            simd=simd,
            binds=binds,
            regions=[Block((counter,), tuple(ops))],
        )

    @contextmanager
    def nest(self, shape: Sequence[Dim], *, simd: bool = True) -> Iterator[tuple[Operand, ...]]:
        """Loops over every index of ``shape``, the innermost by lanes."""
        if not shape:
            yield ()
            return
        with self.loop(shape[0], simd=simd and len(shape) == 1) as i:
            if len(shape) == 1:
                yield (i,)
            else:
                with self.nest(shape[1:], simd=simd) as inner:
                    yield (i, *inner)

    def accumulate(
        self,
        high: Dim,
        initial: Sequence[Operand],
        body: Callable[..., Sequence[Operand]],
        *,
        combine: Sequence[str] = (),
        simd: bool = False,
        low: Dim = 0,
        step: int = 1,
        binds: str = "",
    ) -> tuple[Operand, ...]:
        """A loop that carries values: ``body(i, *carried)`` returns the next ones.

        The last ones are returned. ``binds`` names the counter as a size, for bounds of inner
        loops.
        """
        counter = Value(index, "i")
        carried = [Value(v.type) for v in initial]
        with self.nested() as ops:
            following = body(counter, *carried)
            super().emit("yield", *following)
        made = self.emit(
            "for",
            *initial,
            low=low,
            high=high,
            step=step,
            simd=simd,
            combine=tuple(combine),
            binds=binds,
            regions=[Block((counter, *carried), tuple(ops))],
        )
        return made if isinstance(made, tuple) else (made,)

    def load(self, buffer: Operand, *indices: Operand) -> Operand:
        """An element of a buffer."""
        return self.emit("load", buffer, *indices)  # type: ignore[no-any-return]

    def store(self, value: Operand, buffer: Operand, *indices: Operand) -> None:
        """Set an element of a buffer."""
        self.emit("store", value, buffer, *indices)

    def index(self, *terms: tuple[Operand, Dim], offset: Dim = 0) -> Operand:
        """``offset + sum(counter * scale)`` over (counter, scale) pairs; constants fold."""
        kept = []
        for counter, scale in terms:
            if isinstance(counter, Const):
                offset = offset + scale * int(counter.value.real)
            elif scale != 0:
                kept.append((counter, scale))
        if not kept and isinstance(offset, int):
            return Const(index, offset)
        if offset == 0 and len(kept) == 1 and kept[0][1] == 1:
            return kept[0][0]
        return self.emit(  # type: ignore[no-any-return]
            "index", *[c for c, _ in kept], scale=tuple(s for _, s in kept), offset=offset
        )

    def view(self, buffer: Operand, shape: Sequence[Dim]) -> Operand:
        """``buffer`` with another shape; itself where the shape is the same."""
        if tuple(shape) == buffer.type.shape:
            return buffer
        return self.emit("view", buffer, shape=tuple(shape))  # type: ignore[no-any-return]

    def alloc(self, dtype: str, shape: Sequence[Dim], combine: str = "") -> Operand:
        """A temporary buffer; an accumulator with ``combine``, the kind of a reduction."""
        return self.emit(  # type: ignore[no-any-return]
            "alloc", dtype=dtype, shape=tuple(shape), combine=combine
        )

    def fill(self, value: Operand, target: Operand) -> None:
        """Set every element of a buffer to a scalar:

        a constant, an element, or a buffer of rank 0.
        """
        size = dims.product(target.type.dims)
        flat = self.view(target, (size,))
        element = self.load(value) if value.type.buffer else value
        with self.nest((size,)) as (i,):
            self.store(element, flat, i)

    def copy(self, source: Operand, target: Operand) -> None:
        """Copy a whole buffer (or a scalar constant) into another of as many elements."""
        if isinstance(source, Const):
            self.fill(source, target)
            return
        if target.type.dtype in COMPLEX:
            self.emit("copy", source, target)  # no loop computes with them
            return
        size = dims.product(target.type.dims)
        flat = self.view(source, (size,)), self.view(target, (size,))
        with self.nest((size,)) as (i,):
            self.store(self.load(flat[0], i), flat[1], i)

    def paste(self, source: Operand, target: Operand, start: Mapping[int, Dim]) -> None:
        """Copy ``source`` into the part of ``target`` that begins at ``start`` (axis -> offset)."""
        shape = source.type.dims
        with self.nest(shape) as at:
            place = [self.index((i, 1), offset=start.get(axis, 0)) for axis, i in enumerate(at)]
            self.store(self.load(source, *at), target, *place)

    def cast(self, value: Operand, dtype: str) -> Operand:
        """An element as ``dtype``; itself where it is."""
        if value.type.dtype == dtype:
            return value
        return self.emit("cast", value, dtype=dtype)  # type: ignore[no-any-return]

    def to_index(self, value: Operand, limit: Dim) -> Operand:
        """An integer element as an index below ``limit``."""
        return self.emit("to_index", value, limit=limit)  # type: ignore[no-any-return]

    def matrix(self, buffer: Operand, batch: Sequence[Dim], at: Sequence[Operand]) -> Operand:
        """The matrix of ``buffer`` that belongs to the place ``at`` of the batch axes."""
        own = buffer.type.dims[:-2]
        indices = self._broadcast_indices(own, batch, at)
        return self.emit("subview", buffer, *indices) if own else buffer

    def fold(
        self, size: Dim, kind: str, dtype: str, term: Callable[[Operand], Operand], *, simd: bool
    ) -> Operand:
        """``term(0)`` to ``term(size - 1)`` combined by ``kind`` (add, mul, max, min, and, or)."""
        (total,) = self.accumulate(
            size,
            [identity(kind, dtype)],
            lambda i, c: [self.emit(COMBINE[kind], c, term(i))],
            combine=[kind],
            simd=simd,
        )
        return total

    def number(self, size: Dim) -> Operand:
        """The value of a size as an i64."""
        return self.emit("from_index", self.index(offset=size), dtype="i64")  # type: ignore

    def fail_if_any(
        self,
        buffer: Operand,
        bad: Callable[[Operand], Operand],
        message: str,
        values: Sequence[Dim] = (),
    ) -> None:
        """Leave the step where ``bad`` holds of an element; ``values`` fill the message."""
        if isinstance(buffer, Const):
            self.emit("fail_if", bad(buffer), *map(self.number, values), message=message)
            return
        size = dims.product(buffer.type.dims)
        flat = self.view(buffer, (size,))
        found = self.fold(size, "or", "bool", lambda i: bad(self.load(flat, i)), simd=True)
        self.emit("fail_if", found, *map(self.number, values), message=message)

    def element(self, value: Operand, shape: Sequence[Dim], at: Sequence[Operand]) -> Operand:
        """The element of ``value`` (a buffer or a scalar constant) that broadcasts to ``at`` of
        ``shape``.
        """
        if isinstance(value, Const):
            return value
        own = value.type.dims
        return self.load(value, *self._broadcast_indices(own, shape, at))

    def _broadcast_indices(
        self, own: Sequence[Dim], shape: Sequence[Dim], at: Sequence[Operand]
    ) -> list[Operand]:
        offset = len(shape) - len(own)
        return [self._broadcast(n, shape[offset + a], at[offset + a]) for a, n in enumerate(own)]

    def _broadcast(self, own: Dim, size: Dim, at: Operand) -> Operand:
        if own == 1:
            return Const(index, 0)
        if own == size:
            return at
        return self.index((at, dims.minimum(own - 1, 1)))  # 1 only shows at run time: a stride of 0


def buffer_type(type_: Type) -> Type:
    """The buffer that holds a tensor of ``type_``."""
    return Type(type_.dtype, type_.shape, buffer=True)
