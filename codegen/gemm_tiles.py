"""Register tiles: one function for each kind of product, for blocks of any sizes.

A tile of c stays in registers while a panel of b, a tile wide, goes by. A block starts from what
the blocks before have left in c: every element is one chain of fused multiply-adds in the order of
the inner dimension, whatever the blocks, the tile and the number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from stepforge.codegen.gemm_epilogue import Epilogue, Operands, apply
from stepforge.codegen.gemm_pack import copy_panel, turned_panel
from stepforge.codegen.gemm_shapes import TileShape, load, store, tile_shape
from stepforge.codegen.lane_core import Lane, register_element, storage_bytes, storage_element
from stepforge.codegen.lanes import LaneBuilder
from stepforge.codegen.llvm import NO_UNROLL, FunctionWriter, ModuleWriter
from stepforge.codegen.target import Target
from stepforge.ir import products
from stepforge.ir.records import record

ZEROS = f"[{products.PANEL_ROW_BYTES} x i8] zeroinitializer, align 64"


@record(frozen=True)
class Kind:
    """What a function is made for.

    ``whole``: the columns are a multiple of a tile's; ``narrow``: they fit one vector; ``deep``:
    the inner dimension may be more than one block.
    """

    dtype: str
    transpose_a: bool
    transpose_b: bool
    whole: bool
    narrow: bool
    deep: bool
    epilogue: Epilogue | None = None

    @property
    def key(self) -> str:
        """A part of names that two kinds share only where they are the same."""
        flags = (self.transpose_a, self.transpose_b, self.whole, self.narrow, self.deep)
        suffix = f"_{self.epilogue.key}" if self.epilogue else ""
        return f"{self.dtype}_{''.join(str(int(flag)) for flag in flags)}{suffix}"


def tiles(module: ModuleWriter, target: Target, kind: Kind) -> str:
    """The function of tiles for the blocks of a kind of product.

    Its parameters are a and the elements from one row of memory to the next; of a transposed a also
    those from one row of a tile to the next tile's, and once more pointer and step for what is less
    than a tile; b and its step, c, scratch memory, rows, the step of c, columns and depth, whether
    panels of b are packed, for deep products whether the block is the first and the last of its
    rows; and the operands of a light epilogue, from the block's first row and column on.
    """
    name = f"tiles_{kind.key}"
    return module.helper(name, lambda: _Writer(module, name, target, kind).write())


def _parameters(kind: Kind) -> list[tuple[str, str]]:
    params = [("ptr", "a"), ("i64", "lead_a")]
    if kind.transpose_a:
        params += [("i64", "tile"), ("ptr", "edge"), ("i64", "lead_edge")]
    params += [("ptr", "b"), ("i64", "lead_b"), ("ptr", "c"), ("ptr", "scratch")]
    params += [("i64", "m"), ("i64", "n")]
    params += [("i64", "columns"), ("i64", "depth"), ("i1", "packs")]
    if kind.deep:
        params += [("i1", "first"), ("i1", "last")]
    light = kind.epilogue is not None and kind.epilogue.light
    return params + Operands.parameters(kind.epilogue if light else None)


@record(frozen=True, slots=True)
class _Left:
    """A block of a: a pointer, and elements to the next row, the next depth, the next tile."""

    pointer: str
    row: str
    depth: str
    tile: str


@record(frozen=True, slots=True)
class _Panel:
    """A tile's width of b, from ``column`` on: a pointer, and elements to the next depth."""

    column: str
    pointer: str
    stride: str
    k: LaneBuilder
    mask: Lane | None


class _Writer:
    """Writes one function; see the module's text."""

    def __init__(self, module: ModuleWriter, name: str, target: Target, kind: Kind) -> None:
        self.fn = FunctionWriter(
            module, name, "void", _parameters(kind), linkage="internal", attributes="noinline"
        )
        self.module, self.target, self.kind = module, target, kind
        self.shape: TileShape = tile_shape(target, kind.dtype)
        self.element = register_element(kind.dtype)
        light = kind.epilogue is not None and kind.epilogue.light
        self.operands = Operands.of(self.fn, kind.epilogue if light else None)
        self.left = self.edge = _Left("%a", "%lead_a", "1", "%lead_a")
        if kind.transpose_a:
            self.left = _Left("%a", "1", "%lead_a", "%tile")
            self.edge = _Left("%edge", "1", "%lead_edge", "1")

    def write(self) -> str:
        """The text of the function."""
        width, lanes = self.shape.width, self.shape.lanes
        column = "0"
        if not self.kind.narrow:
            column = self.fn.emit(f"urem i64 %columns, {width}")
            column = self.fn.emit(f"sub i64 %columns, {column}")
            panel = partial(self._panel, width=width)
            self.fn.loop("0", column, panel, step=width, metadata=NO_UNROLL)
        if not self.kind.whole:
            edge = partial(self._panel, width=lanes, edge=True)
            self.fn.loop(column, "%columns", edge, step=lanes, metadata=NO_UNROLL)
        self.fn.do("ret void")
        return self.fn.finish()

    def _at(self, pointer: str, row: str, stride: str, column: str = "0") -> str:
        start = self.fn.offset(pointer, self.fn.emit(f"mul i64 {row}, {stride}"), self.element)
        return self.fn.offset(start, column, self.element)

    # ---- panels ---------------------------------------------------------------------------------
    def _panel(self, column: str, *, width: int, edge: bool = False) -> None:
        fn, rows = self.fn, self.shape.rows
        k = LaneBuilder(fn, width, self.target.capabilities)
        rest = fn.emit(f"sub i64 %columns, {column}")
        mask = k.tail_mask(rest) if edge else None
        if self.kind.transpose_b:
            pointer, stride = self._turned(column, rest, k), str(width)
        else:
            pointer, stride = self._packed(column, k, mask)
        panel = _Panel(column, pointer, stride, k, mask)
        full = fn.emit(f"sub i64 %m, {fn.emit(f'urem i64 %m, {rows}')}")
        tile = partial(self._tile, self.left, panel, rows=rows)
        fn.loop("0", full, tile, step=rows, metadata=NO_UNROLL)
        tail = partial(self._tile, self.edge, panel, rows=self.shape.tail, edge=True)
        fn.loop(full, "%m", tail, step=self.shape.tail, metadata=NO_UNROLL)

    def _turned(self, column: str, rest: str, k: LaneBuilder) -> str:
        callee = turned_panel(self.module, self.target, self.kind.dtype)
        columns = self.fn.intrinsic("smin", "i64", "i64", rest, str(k.width))
        pointers = [("ptr", self._at("%b", column, "%lead_b")), ("ptr", "%scratch")]
        sizes = ("%lead_b", "%depth", columns, str(k.width))
        self.fn.call("void", callee, *pointers, *[("i64", n) for n in sizes])
        return "%scratch"

    def _packed(self, column: str, k: LaneBuilder, mask: Lane | None) -> tuple[str, str]:
        """A panel of b where that pays, else b itself."""
        fn, dtype = self.fn, self.kind.dtype
        source = fn.offset("%b", column, self.element)
        pack = "%packs"
        if mask is not None and not self.shape.masks:
            pack = "true"  # so that the tile's loads need no mask
        sizes = ("%lead_b", "%depth")
        fn.if_(pack, lambda: copy_panel(k, dtype, source, "%scratch", *sizes, mask))
        pointer = fn.emit(f"select i1 {pack}, ptr %scratch, ptr {source}")
        return pointer, fn.emit(f"select i1 {pack}, i64 {k.width}, i64 %lead_b")

    # ---- tiles ----------------------------------------------------------------------------------
    def _tile(self, left: _Left, panel: _Panel, i: str, *, rows: int, edge: bool = False) -> None:
        """One tile. At the lower edge, rows that there are not are the last one again."""
        fn, dtype = self.fn, self.kind.dtype
        there = None
        if edge:
            rest = fn.emit(f"sub i64 %m, {i}")
            there = [fn.emit(f"icmp sgt i64 {rest}, {r}") for r in range(1, rows)]
        c = self._chain(self._at("%c", i, "%n", panel.column), "%n", self.element, rows, there)
        totals = self._multiplied(left, panel, i, self._initial(panel, c), there)
        if self.operands is not None:
            totals = self._finished(self.operands, panel, i, totals, there)
        for total, pointer in zip(totals, c, strict=True):
            store(panel.k, Lane(dtype, total), pointer, panel.mask)

    def _chain(
        self, start: str, step: str, element: str, rows: int, there: Sequence[str] | None
    ) -> list[str]:
        """A pointer for each row of a tile."""
        found = [start]
        for r in range(1, rows):
            found.append(self.fn.offset(found[-1], self._step(step, r, there), element))
        return found

    def _step(self, step: str, row: int, there: Sequence[str] | None) -> str:
        if there is None or step == "0":
            return step
        return self.fn.emit(f"select i1 {there[row - 1]}, i64 {step}, i64 0")

    def _initial(self, panel: _Panel, c: Sequence[str]) -> list[str]:
        """What the sums start from: 0, or what blocks before have left in c."""
        k, dtype = panel.k, self.kind.dtype
        if not self.kind.deep:
            return [k.constant(0.0, dtype).text] * len(c)
        zeros = self.module.constant("gemm_zeros", ZEROS)
        begin = [self.fn.emit(f"select i1 %first, ptr {zeros}, ptr {p}") for p in c]
        return [load(k, pointer, dtype, panel.mask).text for pointer in begin]

    def _multiplied(
        self, left: _Left, panel: _Panel, i: str, initial: Sequence[str],
        there: Sequence[str] | None,
    ) -> list[str]:
        """The sums of a tile: the loop that all the time goes into."""
        fn, k, dtype = self.fn, panel.k, self.kind.dtype
        type_, scalar = k.register_type(dtype), f"<1 x {self.element}>"
        start = self._at(left.pointer, i, left.tile)
        near = left.row == "1" and there is None  # so that one register leads to all rows
        lines = self._chain(start, "0" if near else left.row, self.element, len(initial), there)
        mask = panel.mask if self.shape.masks and not self.kind.transpose_b else None
        steps = [panel.stride] if left.depth == "1" else [panel.stride, left.depth]

        def turn(p: str, *values: str) -> list[str]:
            places, totals = values[: len(steps)], values[len(steps) :]
            b = load(k, fn.offset(panel.pointer, places[0], self.element), dtype, mask)
            place, found = (*places, p)[1], []
            for r, (line, total) in enumerate(zip(lines, totals, strict=True)):
                pointer = fn.offset(line, place, self.element)
                if near:
                    pointer = fn.offset(pointer, str(r), self.element)
                one = fn.emit(f"load {scalar}, ptr {pointer}, align {storage_bytes(dtype)}")
                spread = fn.emit(
                    f"shufflevector {scalar} {one}, {scalar} poison, "
                    f"<{k.width} x i32> zeroinitializer"
                )
                found.append(k.fma(Lane(dtype, spread), b, Lane(dtype, total)).text)
            moved = [
                fn.unfollowed(fn.emit(f"add nsw i64 {x}, {step}"))
                for x, step in zip(places, steps, strict=True)
            ]
            return [*moved, *found]

        carried = [*[("i64", "0")] * len(steps), *[(type_, text) for text in initial]]
        values = fn.loop("0", "%depth", turn, carried=carried, metadata=NO_UNROLL)
        return list(values[len(steps) :])

    def _finished(
        self, operands: Operands, panel: _Panel, i: str, totals: list[str],
        there: Sequence[str] | None,
    ) -> list[str]:
        """The results of the epilogue; behind the last block only."""
        if not self.kind.deep:
            return self._results(operands, panel, i, totals, there)
        fn = self.fn
        before, last, after = fn.block, fn.label("last"), fn.label("store")
        fn.branch_if("%last", last, after)
        fn.start(last)
        results = self._results(operands, panel, i, totals, there)
        end = fn.block
        fn.branch(after)
        fn.start(after)
        type_ = panel.k.register_type(self.kind.dtype)
        pairs = zip(totals, results, strict=True)
        return [fn.phi(type_, (total, before), (result, end)) for total, result in pairs]

    def _results(
        self, operands: Operands, panel: _Panel, i: str, totals: Sequence[str],
        there: Sequence[str] | None,
    ) -> list[str]:
        pointers, spreads = operands.at(i, panel.column), operands.epilogue.operands
        chains = [
            self._chain(p, operands.row_step(s), storage_element(s.dtype), len(totals), there)
            for p, s in zip(pointers, spreads, strict=True)
        ]
        results, lanes = [], operands.load(panel.k, pointers, panel.mask)
        for r, total in enumerate(totals):
            if r:
                lanes = [
                    operands.load_one(panel.k, s, chain[r], panel.mask) if s.rows else lane
                    for s, chain, lane in zip(spreads, chains, lanes, strict=True)
                ]
            finished = apply(panel.k, operands.epilogue, Lane(self.kind.dtype, total), lanes)
            results.append(finished.text)
        return results
