"""Matrix products by register tiles: one function for each kind of product, for all sizes.

A tile of c stays in registers while a panel of b, a tile wide, goes by. Blocks of the inner
dimension are added up one after another, starting from what c holds: every element is one chain of
fused multiply-adds in the order of the inner dimension, whatever the blocks, the tile, the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from stepforge.codegen.gemm_epilogue import Epilogue, Operands, apply, rows_pass
from stepforge.codegen.gemm_pack import copy_columns, copy_panel, turned_panel
from stepforge.codegen.gemm_shapes import TileShape, fuses, load, store, tile_shape
from stepforge.codegen.lane_core import Lane, register_element, storage_bytes, storage_element
from stepforge.codegen.lanes import LaneBuilder
from stepforge.codegen.llvm import NO_UNROLL, FunctionWriter, ModuleWriter
from stepforge.codegen.target import Target
from stepforge.ir import products

ZEROS = f"[{products.PANEL_ROW_BYTES} x i8] zeroinitializer, align 64"


@dataclass(frozen=True)
class Kind:
    """What a function of tiles is made for.

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
    def name(self) -> str:
        """The name of the function."""
        flags = (self.transpose_a, self.transpose_b, self.whole, self.narrow, self.deep)
        suffix = f"_{self.epilogue.key}" if self.epilogue else ""
        return f"tiles_{self.dtype}_{''.join(str(int(flag)) for flag in flags)}{suffix}"


def tiles(module: ModuleWriter, target: Target, kind: Kind) -> str:
    """The function ``(a, b, c, scratch, m, n, k, operands...)`` that computes a kind of product.

    Where the module has one for any depth already, that one.
    """
    deep = replace(kind, deep=True)
    if module.defines(deep.name):
        return f"@{deep.name}"
    return module.helper(kind.name, lambda: _Writer(module, target, kind).write())


@dataclass(frozen=True, slots=True)
class _Left:
    """Part of a: a pointer, and elements to the next row, the next depth, the next tile's row."""

    pointer: str
    row: str
    depth: str
    tile: str


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows and depths that are worked on at a time; ``first``, ``last`` of the depths are i1."""

    row: str
    rows: str
    start: str
    depth: str
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class _Panel:
    """A tile's width of b, from ``column`` on: a pointer, and elements to the next depth."""

    column: str
    pointer: str
    stride: str
    k: LaneBuilder
    mask: Lane | None


class _Writer:
    """Writes one function; see the module's text."""

    def __init__(self, module: ModuleWriter, target: Target, kind: Kind) -> None:
        params = [("ptr", p) for p in ("a", "b", "c", "scratch")] + [("i64", p) for p in "mnk"]
        params += Operands.parameters(kind.epilogue)
        self.fn = FunctionWriter(
            module, kind.name, "void", params, linkage="internal", attributes="noinline"
        )
        self.module, self.target, self.kind = module, target, kind
        self.shape: TileShape = tile_shape(target, kind.dtype)
        self.element = register_element(kind.dtype)
        self.packs, self.blocks, self.depth = "true", "1", "%k"
        self.operands: Operands | None = None
        if kind.epilogue is not None:
            pointers = [f"%e{i}" for i in range(len(kind.epilogue.operands))]
            self.operands = Operands(self.fn, kind.epilogue, pointers, "%n")

    def write(self) -> str:
        """The text of the function."""
        if not self.kind.transpose_b:
            self.packs = self._packs()
        if self.kind.deep:
            self.blocks, self.depth = self._even_blocks()
        self.fn.loop("0", "%m", self._rows, step=products.ROWS, metadata=NO_UNROLL)
        self.fn.do("ret void")
        return self.fn.finish()

    def _packs(self) -> str:
        """Whether panels of b are packed; see ``ir.products``."""
        fn, item = self.fn, storage_bytes(self.kind.dtype)
        many = fn.emit(f"icmp sge i64 %m, {products.PACKED_ROWS}")
        elements = fn.emit("mul i64 %n, %k")
        large = fn.emit(f"icmp sgt i64 {elements}, {products.PACKED_BYTES // item}")
        some = fn.emit(f"icmp sge i64 %m, {products.CONFLICT_ROWS}")
        apart = fn.emit(f"and i64 %n, {products.CONFLICT_BYTES // item - 1}")
        conflict = fn.emit(f"icmp eq i64 {apart}, 0")
        first, second = fn.emit(f"and i1 {many}, {large}"), fn.emit(f"and i1 {some}, {conflict}")
        return fn.emit(f"or i1 {first}, {second}")

    def _even_blocks(self) -> tuple[str, str]:
        """The number of blocks of the inner dimension, all about as deep; no depth is one block."""
        fn = self.fn
        depth = fn.intrinsic("smax", "i64", "i64", "%k", "1")
        blocks = _quotient_up(fn, depth, str(products.DEPTH))
        return blocks, _quotient_up(fn, depth, blocks)

    # ---- blocks ---------------------------------------------------------------------------------
    def _rows(self, row: str) -> None:
        left = self.fn.emit(f"sub i64 %m, {row}")
        rows = self._smaller(left, str(products.ROWS))
        if not self.kind.deep:
            self._block(_Block(row, rows, "0", "%k", "true", "true"))
        else:
            depths = partial(self._depths, row, rows)
            self.fn.loop("0", self.blocks, depths, metadata=NO_UNROLL)
        if self.operands is not None and not self.operands.epilogue.light:
            epilogue = self.operands.epilogue
            callee = rows_pass(self.module, self.target, self.kind.dtype, epilogue)
            pointers = [("ptr", p) for p in self.operands.at(row, "0")]
            c = self._at("%c", row, "%n")
            self.fn.call("void", callee, ("ptr", c), ("i64", rows), ("i64", "%n"), *pointers)

    def _depths(self, row: str, rows: str, number: str) -> None:
        start = self.fn.emit(f"mul i64 {number}, {self.depth}")
        depth = self._smaller(self.fn.emit(f"sub i64 %k, {start}"), self.depth)
        first = self.fn.emit(f"icmp eq i64 {number}, 0")
        following = self.fn.emit(f"add i64 {number}, 1")
        last = self.fn.emit(f"icmp eq i64 {following}, {self.blocks}")
        self._block(_Block(row, rows, start, depth, first, last))

    def _block(self, block: _Block) -> None:
        left = self._left(block)
        narrow, width, lanes = self.kind.narrow, self.shape.width, self.shape.lanes
        column = "0"
        if not narrow:
            full = self.fn.emit(f"sub i64 %n, {self.fn.emit(f'srem i64 %n, {width}')}")
            panel = partial(self._panel, block, left, width=width)
            self.fn.loop("0", full, panel, step=width, metadata=NO_UNROLL)
            column = full
        if not self.kind.whole:
            edge = partial(self._panel, block, left, width=lanes, edge=True)
            self.fn.loop(column, "%n", edge, step=lanes, metadata=NO_UNROLL)

    def _smaller(self, x: str, y: str) -> str:
        return self.fn.intrinsic("smin", "i64", "i64", x, y)

    def _at(self, pointer: str, row: str, stride: str, column: str = "0") -> str:
        start = self.fn.offset(pointer, self.fn.emit(f"mul i64 {row}, {stride}"), self.element)
        return self.fn.offset(start, column, self.element)

    # ---- operands -------------------------------------------------------------------------------
    def _left(self, block: _Block) -> tuple[_Left, _Left]:
        """The part of a that belongs to a block: for whole tiles, and for those at the edge."""
        if not self.kind.transpose_a:
            plain = _Left(self._at("%a", block.row, "%k", block.start), "%k", "1", "%k")
            return plain, plain
        pointer = self._at("%a", block.start, "%m", block.row)
        own = _Left(pointer, "1", "%m", "1")
        return (own if self.kind.narrow else self._packed_left(block, pointer)), own

    def _packed_left(self, block: _Block, pointer: str) -> _Left:
        """A transposed a, packed where it is deep and more than one panel of b goes by."""
        fn, rows = self.fn, str(self.shape.rows)
        deep = fn.emit(f"icmp sge i64 {block.depth}, {products.PACKED_DEPTH}")
        wide = fn.emit(f"icmp sgt i64 %n, {self.shape.width}")
        pack = fn.emit(f"and i1 {deep}, {wide}")
        packed = fn.offset("%scratch", products.PANEL_BYTES)
        fn.if_(
            pack,
            lambda: copy_columns(
                fn, self.kind.dtype, self.shape.rows, pointer, "%m", block.depth, block.rows, packed
            ),
        )
        base = fn.emit(f"select i1 {pack}, ptr {packed}, ptr {pointer}")
        step = fn.emit(f"select i1 {pack}, i64 {rows}, i64 %m")
        tile = fn.emit(f"select i1 {pack}, i64 {block.depth}, i64 1")
        return _Left(base, "1", step, tile)

    def _panel(
        self, block: _Block, left: tuple[_Left, _Left], column: str, *, width: int,
        edge: bool = False,
    ) -> None:
        k = LaneBuilder(self.fn, width, has_fma=fuses(self.target))
        rest = self.fn.emit(f"sub i64 %n, {column}")
        mask = k.tail_mask(rest) if edge else None
        if self.kind.transpose_b:
            pointer, stride = self._turned(block, column, rest, k), str(width)
        else:
            pointer, stride = self._packed(block, column, k, mask)
        panel = _Panel(column, pointer, stride, k, mask)
        tall = self.fn.emit(f"srem i64 {block.rows}, {self.shape.rows}")
        full = self.fn.emit(f"sub i64 {block.rows}, {tall}")
        tile = partial(self._tile, block, left[0], panel, rows=self.shape.rows)
        self.fn.loop("0", full, tile, step=self.shape.rows, metadata=NO_UNROLL)
        tail = partial(self._tile, block, left[1], panel, rows=self.shape.tail, edge=True)
        self.fn.loop(full, block.rows, tail, step=self.shape.tail, metadata=NO_UNROLL)

    def _turned(self, block: _Block, column: str, rest: str, k: LaneBuilder) -> str:
        callee = turned_panel(self.module, self.target, self.kind.dtype)
        source = self._at("%b", column, "%k", block.start)
        columns = self._smaller(rest, str(k.width))
        sizes = ("%k", block.depth, columns, str(k.width))
        pointers = [("ptr", source), ("ptr", "%scratch")]
        self.fn.call("void", callee, *pointers, *[("i64", n) for n in sizes])
        return "%scratch"

    def _packed(
        self, block: _Block, column: str, k: LaneBuilder, mask: Lane | None
    ) -> tuple[str, str]:
        """A panel of b where many rows use it, b itself where few do."""
        fn = self.fn
        source = self._at("%b", block.start, "%n", column)
        pack = self.packs
        if mask is not None and not self.shape.masks:
            pack = "true"  # so that the tile's loads need no mask
        fn.if_(
            pack,
            lambda: copy_panel(
                k, self.kind.dtype, source, "%n", block.depth, "%scratch", mask
            ),
        )
        pointer = fn.emit(f"select i1 {pack}, ptr %scratch, ptr {source}")
        return pointer, fn.emit(f"select i1 {pack}, i64 {k.width}, i64 %n")

    # ---- tiles ----------------------------------------------------------------------------------
    def _tile(
        self, block: _Block, left: _Left, panel: _Panel, i: str, *, rows: int, edge: bool = False
    ) -> None:
        """One tile. At the lower edge, rows that there are not are the last one again."""
        fn, k, dtype = self.fn, panel.k, self.kind.dtype
        there = None
        if edge:
            rest = fn.emit(f"sub i64 {block.rows}, {i}")
            there = [fn.emit(f"icmp sgt i64 {rest}, {r}") for r in range(1, rows)]
        row = fn.emit(f"add i64 {block.row}, {i}")
        c = self._chain(self._at("%c", row, "%n", panel.column), "%n", self.element, rows, there)
        totals = self._multiplied(block, left, panel, i, self._initial(block, panel, c), there)
        if self.operands is not None and self.operands.epilogue.light:
            totals = self._finished(block, panel, row, totals, there)
        for total, pointer in zip(totals, c, strict=True):
            store(k, Lane(dtype, total), pointer, panel.mask)

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

    def _initial(self, block: _Block, panel: _Panel, c: Sequence[str]) -> list[str]:
        """What the sums start from: 0, or what blocks before have left in c."""
        k, dtype = panel.k, self.kind.dtype
        if block.first == "true":
            return [k.constant(0.0, dtype).text] * len(c)
        zeros = self.module.constant("gemm_zeros", ZEROS)
        begin = [self.fn.emit(f"select i1 {block.first}, ptr {zeros}, ptr {p}") for p in c]
        return [load(k, pointer, dtype, panel.mask).text for pointer in begin]

    def _multiplied(
        self, block: _Block, left: _Left, panel: _Panel, i: str, initial: Sequence[str],
        there: Sequence[str] | None,
    ) -> list[str]:
        """The sums of a tile: the loop that all the time goes into."""
        fn, k, dtype = self.fn, panel.k, self.kind.dtype
        type_, scalar = k.register_type(dtype), f"<1 x {self.element}>"
        start = self._at(left.pointer, i, left.tile)
        steps = [self._step(left.row, r, there) for r in range(1, len(initial))]
        mask = panel.mask if self.shape.masks and not self.kind.transpose_b else None

        def turn(p: str, *totals: str) -> list[str]:
            right = self._at(panel.pointer, p, panel.stride)
            b = load(k, right, dtype, mask)
            pointer = self._at(start, p, left.depth)
            found = []
            for r, total in enumerate(totals):
                if r:
                    pointer = fn.offset(pointer, steps[r - 1], self.element)
                one = fn.emit(f"load {scalar}, ptr {pointer}, align {storage_bytes(dtype)}")
                spread = fn.emit(
                    f"shufflevector {scalar} {one}, {scalar} poison, "
                    f"<{k.width} x i32> zeroinitializer"
                )
                found.append(k.fma(Lane(dtype, spread), b, Lane(dtype, total)).text)
            return found

        carried = [(type_, text) for text in initial]
        return list(fn.loop("0", block.depth, turn, carried=carried, metadata=NO_UNROLL))

    def _finished(
        self, block: _Block, panel: _Panel, row: str, totals: list[str],
        there: Sequence[str] | None,
    ) -> list[str]:
        """The results of the epilogue; behind the last block only."""
        if block.last == "true":
            return self._results(panel, row, totals, there)
        fn = self.fn
        before, last, after = fn.block, fn.label("last"), fn.label("store")
        fn.branch_if(block.last, last, after)
        fn.start(last)
        results = self._results(panel, row, totals, there)
        end = fn.block
        fn.branch(after)
        fn.start(after)
        type_ = panel.k.register_type(self.kind.dtype)
        pairs = zip(totals, results, strict=True)
        return [fn.phi(type_, (total, before), (result, end)) for total, result in pairs]

    def _results(
        self, panel: _Panel, row: str, totals: Sequence[str], there: Sequence[str] | None
    ) -> list[str]:
        operands = self.operands
        assert operands is not None
        pointers = operands.at(row, panel.column)
        spreads = operands.epilogue.operands
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


def _quotient_up(fn: FunctionWriter, x: str, y: str) -> str:
    more = fn.emit(f"add i64 {x}, {fn.emit(f'sub i64 {y}, 1')}")
    return fn.emit(f"udiv i64 {more}, {y}")
