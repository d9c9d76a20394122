"""Products with a vector: ``y = x @ matrix`` for a matrix in memory as it is, or as its transpose.

A matrix whose rows belong to the elements of x is read row by row, lanes along y, with y in
registers: the sums are the same chains as in a tile. Where it is larger than a second-level cache,
it is read in the order of memory instead, some whole rows at a time, which hardware foresees; y is
then added to in memory. Where its rows belong to the elements of y, lanes run along x, four rows at
a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from stepforge.codegen.gemm_epilogue import Epilogue, Operands, apply, rows_pass
from stepforge.codegen.gemm_shapes import TileShape, load, shuffled, store, tile_shape
from stepforge.codegen.lane_core import Lane, register_element, storage_bytes
from stepforge.codegen.lanes import LaneBuilder
from stepforge.codegen.llvm import NO_UNROLL, FunctionWriter, ModuleWriter
from stepforge.codegen.target import Target
from stepforge.ir.records import record

SUMS = 4  # vectors of y at a time, or less where that is more than lanes can be
ROWS = 4  # rows at a time where lanes run along x
WIDEST = 64
STREAMS = 8  # rows at a time of a matrix that is read in the order of memory
LARGE = 1 << 21  # bytes from which on it is


@record(frozen=True)
class VectorKind:
    """What a function is made for; ``across``: a row of the matrix is for one element of y.

    ``large`` says whether the matrix is, where that is known.
    """

    dtype: str
    across: bool
    epilogue: Epilogue | None = None
    large: bool | None = None

    def of_sizes(self, n: str, k: str) -> VectorKind:
        """The kind of a product whose sizes may be known."""
        if self.across or not (n.isdigit() and k.isdigit()):
            return self
        size = int(n) * int(k) * storage_bytes(self.dtype)
        return replace(self, large=size > LARGE)

    @property
    def name(self) -> str:
        """The name of the function."""
        suffix = f"_{self.epilogue.key}" if self.epilogue else ""
        suffix += "" if self.large is None else "_large" if self.large else "_small"
        return f"{'across' if self.across else 'along'}_{self.dtype}{suffix}"


def vector_product(module: ModuleWriter, target: Target, kind: VectorKind) -> str:
    """The function ``(x, matrix, y, n, k, operands...)`` for n elements of y and k of x."""
    return module.helper(kind.name, lambda: _Writer(module, target, kind).write())


class _Writer:
    def __init__(self, module: ModuleWriter, target: Target, kind: VectorKind) -> None:
        params = [("ptr", p) for p in ("x", "matrix", "y")] + [("i64", p) for p in "nk"]
        params += Operands.parameters(kind.epilogue)
        self.fn = FunctionWriter(
            module, kind.name, "void", params, linkage="internal", attributes="noinline"
        )
        self.module, self.target, self.kind = module, target, kind
        self.shape: TileShape = tile_shape(target, kind.dtype)
        self.element = register_element(kind.dtype)
        self.operands = Operands.of(self.fn, kind.epilogue)

    def write(self) -> str:
        """The text of the function."""
        if self.kind.across:
            self.fn.loop("0", "%n", self._across, step=ROWS, metadata=NO_UNROLL)
        else:
            self._along()
        operands = self.operands
        if operands is not None and not operands.epilogue.light:
            callee = rows_pass(self.module, self.target, self.kind.dtype, operands.epilogue)
            pointers = [("ptr", p) for p in operands.pointers]
            sizes = [("i64", size) for size in ("1", "%n", "%n")]
            self.fn.call("void", callee, ("ptr", "%y"), *sizes, *pointers)
        self.fn.do("ret void")
        return self.fn.finish()

    def _lanes(self, width: int) -> LaneBuilder:
        return LaneBuilder(self.fn, width, self.target.capabilities)

    def _spread(self, k: LaneBuilder, p: str) -> Lane:
        """Element ``p`` of x in every lane."""
        return k.splat(k.rewritten(width=1).load(self._at("%x", p), self.kind.dtype))

    def _at(self, pointer: str, *places: str) -> str:
        for place in places:
            pointer = self.fn.offset(pointer, place, self.element)
        return pointer

    def _store(self, k: LaneBuilder, total: Lane, column: str, mask: Lane | None) -> None:
        operands = self.operands
        if operands is not None and operands.epilogue.light:
            others = operands.load(k, operands.at("0", column), mask)
            total = apply(k, operands.epilogue, total, others)
        store(k, total, self._at("%y", column), mask)

    # ---- lanes along y --------------------------------------------------------------------------
    def _along(self) -> None:
        fn, known = self.fn, self.kind.large
        if known is None:
            elements, most = fn.emit("mul i64 %n, %k"), LARGE // storage_bytes(self.kind.dtype)
            fn.either(
                fn.emit(f"icmp sgt i64 {elements}, {most}"), self._in_order, self._in_registers
            )
        else:
            (self._in_order if known else self._in_registers)()

    def _in_registers(self) -> None:
        lanes = self.shape.lanes
        column = self._chunks("0", min(SUMS * lanes, WIDEST))
        if self.shape.masks:
            chunk = partial(self._chunk, width=lanes, edge=True)
            self.fn.loop(column, "%n", chunk, step=lanes, metadata=NO_UNROLL)
        else:
            self._chunks(self._chunks(column, lanes), 1)

    def _chunks(self, start: str, width: int) -> str:
        """Whole chunks of ``width`` from ``start`` on; where they end."""
        rest = self.fn.emit(f"sub i64 %n, {start}")
        end = self.fn.emit(f"add i64 {start}, {self.fn.emit(f'and i64 {rest}, {-width}')}")
        self.fn.loop(start, end, partial(self._chunk, width=width), step=width, metadata=NO_UNROLL)
        return end

    def _chunk(self, column: str, *, width: int, edge: bool = False) -> None:
        fn, k, dtype = self.fn, self._lanes(width), self.kind.dtype
        mask = k.tail_mask(fn.emit(f"sub i64 %n, {column}")) if edge else None
        start = self._at("%matrix", column)

        def turn(p: str, place: str, total: str) -> list[str]:
            found = load(k, self._at(start, place), dtype, mask)
            following = fn.unfollowed(fn.emit(f"add nsw i64 {place}, %n"))
            return [following, k.fma(self._spread(k, p), found, Lane(dtype, total)).text]

        carried = [("i64", "0"), (k.register_type(dtype), k.constant(0.0, dtype).text)]
        _, total = fn.loop("0", "%k", turn, carried=carried, metadata=NO_UNROLL)
        self._store(k, Lane(dtype, total), column, mask)

    def _in_order(self) -> None:
        """Some rows of the matrix after the other, each as a whole."""
        dtype, fn, wide = self.kind.dtype, self.fn, self._lanes(self.shape.lanes)

        def finish(column: str, k: LaneBuilder, mask: Lane | None) -> None:
            self._store(k, load(k, self._at("%y", column), dtype, mask), column, mask)

        def add(first: str, rows: int) -> None:
            places = [fn.emit(f"add i64 {first}, {r}") for r in range(rows)]
            starts = [self._at("%matrix", fn.emit(f"mul i64 {p}, %n")) for p in places]
            factors = [self._spread(wide, p) for p in places]
            ahead = fn.emit(f"mul i64 %n, {STREAMS}")
            begins = Lane("bool", fn.emit(f"icmp eq i64 {first}, 0"))

            def turn(column: str, k: LaneBuilder, mask: Lane | None) -> None:
                before = load(k, self._at("%y", column), dtype, mask)
                total = k.select(k.splat(begins), k.constant(0.0, dtype), before)
                for start, factor in zip(starts, factors, strict=True):
                    found = self._at(start, column)
                    if mask is None and k.width > 1:
                        fn.prefetch(self._at(found, ahead), 2)  # hardware stops at each page
                    x = factor if k.width > 1 else wide.element(factor, 0)
                    total = k.fma(x, load(k, found, dtype, mask), total)
                store(k, total, self._at("%y", column), mask)

            self._columns(turn)

        whole = fn.emit(f"and i64 %k, {-STREAMS}")
        fn.loop("0", whole, lambda p: add(p, STREAMS), step=STREAMS, metadata=NO_UNROLL)
        fn.loop(whole, "%k", lambda p: add(p, 1), metadata=NO_UNROLL)
        if self.operands is not None and self.operands.epilogue.light:
            self._columns(finish)

    def _columns(self, body: Callable[[str, LaneBuilder, Lane | None], None]) -> None:
        """``body(column, lanes, mask)`` for all columns, by vectors; the last may be masked."""
        fn, k = self.fn, self._lanes(self.shape.lanes)
        end = fn.emit(f"and i64 %n, {-k.width}")
        fn.loop("0", end, lambda c: body(c, k, None), step=k.width, metadata=NO_UNROLL)
        if self.shape.masks:
            left = fn.emit(f"sub i64 %n, {end}")
            some = fn.emit(f"icmp sgt i64 {left}, 0")
            fn.if_(some, lambda: body(end, k, k.tail_mask(left)))
        else:
            fn.loop(end, "%n", lambda c: body(c, self._lanes(1), None), metadata=NO_UNROLL)

    # ---- lanes along x --------------------------------------------------------------------------
    def _across(self, column: str) -> None:
        """Four elements of y; behind the last one, that one again."""
        fn, k, dtype = self.fn, self._lanes(self.shape.lanes), self.kind.dtype
        last = fn.emit("sub i64 %n, 1")
        rows = []
        for r in range(ROWS):
            row = fn.intrinsic("smin", "i64", "i64", fn.emit(f"add i64 {column}, {r}"), last)
            rows.append(self._at("%matrix", fn.emit(f"mul i64 {row}, %k")))

        def turn(p: str, *totals: str, mask: Lane | None = None) -> list[str]:
            x = load(k, self._at("%x", p), dtype, mask)
            found = [load(k, self._at(row, p), dtype, mask) for row in rows]
            pairs = zip(found, totals, strict=True)
            return [k.fma(x, lane, Lane(dtype, total)).text for lane, total in pairs]

        full = fn.emit(f"and i64 %k, {-k.width}")
        zero = (k.register_type(dtype), k.constant(0.0, dtype).text)
        whole = fn.loop("0", full, turn, step=k.width, carried=[zero] * ROWS, metadata=NO_UNROLL)
        totals = self._with_rest(full, whole, turn, k)
        self._store_sums(column, k, [Lane(dtype, total) for total in totals])

    def _with_rest(
        self, full: str, totals: Sequence[str], turn: Callable[..., list[str]], k: LaneBuilder
    ) -> list[str]:
        """The sums with what is left behind whole vectors of x."""
        fn = self.fn
        rest = fn.emit(f"sub i64 %k, {full}")
        before, some, after = fn.block, fn.label("rest"), fn.label("sums")
        fn.branch_if(fn.emit(f"icmp sgt i64 {rest}, 0"), some, after)
        fn.start(some)
        added = turn(full, *totals, mask=k.tail_mask(rest))
        end = fn.block
        fn.branch(after)
        fn.start(after)
        type_ = k.register_type(self.kind.dtype)
        return [fn.phi(type_, (t, before), (a, end)) for t, a in zip(totals, added, strict=True)]

    def _store_sums(self, column: str, k: LaneBuilder, parts: list[Lane]) -> None:
        """Add up the lanes of each part; the sums together are elements of y."""
        each = k.width  # lanes of a part that are still to be added up
        while len(parts) > 1:
            if each > 1:
                parts = [_halved(k, a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
                each //= 2
            else:
                parts = [_joined(k, a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
                k = self._lanes(2 * k.width)
        while each > 1:
            half = self._lanes(k.width // 2)
            parts = [half.add(_every_second(k, parts[0], 0), _every_second(k, parts[0], 1))]
            k, each = half, each // 2
        mask = k.tail_mask(self.fn.emit(f"sub i64 %n, {column}"))
        self._store(k, parts[0], column, mask)


def _halved(k: LaneBuilder, a: Lane, b: Lane) -> Lane:
    """Sums of neighbours: those of a, then those of b."""
    even, odd = ([2 * i + first for i in range(k.width)] for first in (0, 1))
    return k.add(shuffled(k, a, b.text, even), shuffled(k, a, b.text, odd))


def _joined(k: LaneBuilder, a: Lane, b: Lane) -> Lane:
    return shuffled(k, a, b.text, list(range(2 * k.width)))


def _every_second(k: LaneBuilder, x: Lane, first: int) -> Lane:
    return shuffled(k, x, "poison", list(range(first, k.width, 2)))
