"""What writing loops starts from: sizes, buffers, and the arithmetic of indices.

An index is affine in the lane where it can be; products and sums with what is known to be 0 or 1
are not written, so that plain loops come out as plain text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stepforge.codegen.dims import emit_atom, emit_dim
from stepforge.codegen.lane_core import Lane
from stepforge.codegen.lanes import LaneBuilder
from stepforge.codegen.llvm import FunctionWriter
from stepforge.codegen.loop_values import Buffer, Position, evenly, is_number
from stepforge.codegen.target import Target
from stepforge.ir import dims
from stepforge.ir.core import Operand
from stepforge.ir.dims import Apply, Dim
from stepforge.ir.types import Type


class PositionWriter:
    """Sizes and positions in one LLVM function.

    ``sizes`` gives the i64 text of each size name, ``values`` what is known of values from outside.
    ``one`` and ``many`` build single elements and the lanes of the loop that is open; ``mask`` says
    which of them count; ``rows`` are the indices that step with the loop inside of it, and how far.
    """

    def __init__(
        self,
        fn: FunctionWriter,
        target: Target,
        sizes: Mapping[str, str],
        values: Mapping[Operand, Any] | None = None,
    ) -> None:
        self.fn = fn
        self.target = target
        self.sizes = dict(sizes)
        self.entry_sizes = frozenset(sizes)  # names whose values the start of the function knows
        self._dims: dict[Dim, str] = {}
        self._applied: dict[Apply, str] = {}
        self.values: dict[Operand, Any] = dict(values or {})
        self.one = LaneBuilder(fn, 1, target.capabilities)
        self.many = self.one
        self.mask: Lane | None = None
        self.rows: dict[Operand, int] = {}
        self.streaming = False  # whether marked stores go past the caches

    # ---- sizes ----------------------------------------------------------------------------------
    def dim(self, size: Dim) -> str:
        """The i64 text of a size;

        computed once, at the start of the function where its names are known.
        """
        if isinstance(size, int):
            return str(size)
        if size not in self._dims:
            if dims.names(size) <= self.entry_sizes:
                with self.fn.preamble():
                    self._dims[size] = emit_dim(self.fn, size, self.sizes, self._applied)
            else:
                return emit_dim(self.fn, size, self.sizes)
        return self._dims[size]

    def dim_here(self, size: Dim) -> str:
        """The same, computed here so that it is not live before; only its minima, quotients and the
        like come from the start of the function, where each is computed once.
        """
        if isinstance(size, int) or not dims.names(size) <= self.entry_sizes:
            return emit_dim(self.fn, size, self.sizes)
        with self.fn.preamble():
            for monomial, _ in size.terms:
                for atom in monomial:
                    emit_atom(self.fn, atom, self.sizes, self._applied)
        return emit_dim(self.fn, size, self.sizes, self._applied)

    def buffer(self, pointer: str, type_: Type) -> Buffer:
        """A buffer, with its strides computed here."""
        strides = tuple(
            self.dim(dims.product(type_.dims[axis + 1 :])) for axis in range(type_.rank)
        )
        return Buffer(pointer, type_, strides)

    # ---- positions ------------------------------------------------------------------------------
    def affine(self, terms: Sequence[tuple[Position, str]], offset: str) -> Position:
        """``offset + sum(position * scale)``."""
        if any(position.places for position, _ in terms):
            return self._placed(terms, offset)
        base, stride, each = offset, "0", ""
        for position, scale in terms:
            if position.each:
                scaled = self.many.mul(Lane("i64", position.each), self.spread(scale))
                each = scaled.text if not each else self.many.add(Lane("i64", each), scaled).text
                continue
            base = self.add_sizes(base, self.multiply_sizes(position.base, scale))
            stride = self.add_sizes(stride, self.multiply_sizes(position.stride, scale))
        if not each:
            return Position(base, stride)
        whole = self.many.add(Lane("i64", each), self.spread(base))
        if stride != "0":
            steps = self.many.mul(self.many.iota("i64"), self.spread(stride))
            whole = self.many.add(whole, steps)
        return Position("0", "0", whole.text)

    def _placed(self, terms: Sequence[tuple[Position, str]], offset: str) -> Position:
        """The same of positions that are known numbers apart, or one of these for each lane."""
        base, each = offset, ""
        places = [0] * self.many.width
        for position, scale in terms:
            base = self.add_sizes(base, self.multiply_sizes(position.base, scale))
            known = position.known(self.many.width)
            if known and is_number(scale):
                places = [a + b * int(scale) for a, b in zip(places, known, strict=True)]
                continue
            lanes = self.each_lane(replace(position, base="0"))
            scaled = self.many.mul(Lane("i64", lanes), self.spread(scale))
            each = scaled.text if not each else self.many.add(Lane("i64", each), scaled).text
        base = self.add_sizes(base, str(places[0]))
        even = evenly(base, [place - places[0] for place in places])
        if not each:
            return even
        whole = self.each_lane(even)
        return Position("0", "0", self.many.add(Lane("i64", each), Lane("i64", whole)).text)

    def spread(self, text: str) -> Lane:
        """A size in every lane."""
        return self.many.splat(Lane("i64", text))

    def add_sizes(self, a: str, b: str) -> str:
        """The sum of two i64 texts."""
        if a == "0":
            return b
        return a if b == "0" else self.fn.emit(f"add i64 {a}, {b}")

    def multiply_sizes(self, a: str, b: str) -> str:
        """The product of two i64 texts."""
        if "0" in (a, b):
            return "0"
        if a == "1":
            return b
        return a if b == "1" else self.fn.emit(f"mul i64 {a}, {b}")

    def each_lane(self, position: Position) -> str:
        """One index per lane."""
        if position.each:
            return position.each
        if position.places:
            numbers = self.many.numbers(position.places, "i64")
            return self.many.add(numbers, self.spread(position.base)).text
        steps = self.many.mul(self.many.iota("i64"), self.spread(position.stride))
        return self.many.add(steps, self.spread(position.base)).text
