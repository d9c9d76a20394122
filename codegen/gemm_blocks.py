"""Matrix products in blocks that fit the cache: rows, and depths of the inner dimension.

One function for each kind of product cuts it up, packs a transposed a, and calls the function of
tiles for each block. It computes a range of rows and columns, which is independent of all others.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from stepforge.codegen.gemm_epilogue import Operands, rows_pass
from stepforge.codegen.gemm_pack import copy_columns
from stepforge.codegen.gemm_shapes import tile_shape
from stepforge.codegen.gemm_tiles import Kind, tiles
from stepforge.codegen.lane_core import register_element, storage_bytes
from stepforge.codegen.llvm import NO_UNROLL, FunctionWriter, ModuleWriter
from stepforge.codegen.target import Target
from stepforge.ir import products
from stepforge.ir.records import record


def blocks(module: ModuleWriter, target: Target, kind: Kind) -> str:
    """The function ``(a, b, c, scratch, m, n, k, first, behind, left, right, operands...)`` for a
    kind of product, which computes the rows from ``first`` and the columns from ``left`` on.

    Where the module has one for any depth already, that one.
    """
    deep = _name(replace(kind, deep=True))
    if module.defines(deep):
        return f"@{deep}"
    return module.helper(_name(kind), lambda: _Writer(module, target, kind).write())


def _name(kind: Kind) -> str:
    return f"product_{kind.key}"


@record(frozen=True, slots=True)
class _Block:
    """Rows and depths that are worked on at a time; ``first`` and ``last`` of the depths are i1."""

    row: str
    rows: str
    start: str
    depth: str
    first: str = "true"
    last: str = "true"


class _Writer:
    """Writes one function; see the module's text."""

    def __init__(self, module: ModuleWriter, target: Target, kind: Kind) -> None:
        params = [("ptr", p) for p in ("a", "b", "c", "scratch")] + [("i64", p) for p in "mnk"]
        params += [("i64", p) for p in ("first", "behind", "left", "right")]
        params += Operands.parameters(kind.epilogue)
        self.fn = FunctionWriter(
            module, _name(kind), "void", params, linkage="internal", attributes="noinline"
        )
        self.module, self.target, self.kind = module, target, kind
        self.element = register_element(kind.dtype)
        self.operands = Operands.of(self.fn, kind.epilogue)
        self.callee = tiles(module, target, kind)
        self.columns = self.fn.emit("sub i64 %right, %left")

    def write(self) -> str:
        """The text of the function."""
        packs = "true" if self.kind.transpose_b else self._packs()
        if self.kind.deep:
            depth = self.fn.intrinsic("smax", "i64", "i64", "%k", "1")  # depth 0 is one block
            count = self.fn.quotient_up(depth, str(products.DEPTH))
            rows = partial(self._deep_rows, packs, count, self.fn.quotient_up(depth, count))
        else:
            rows = partial(self._rows, packs)
        self.fn.loop("%first", "%behind", rows, step=products.ROWS, metadata=NO_UNROLL)
        self.fn.do("ret void")
        return self.fn.finish()

    def _rows(self, packs: str, row: str) -> None:
        rows = self._smaller(self.fn.emit(f"sub i64 %behind, {row}"), str(products.ROWS))
        self._block(packs, _Block(row, rows, "0", "%k"))
        self._heavy(row, rows)

    def _deep_rows(self, packs: str, count: str, depth: str, row: str) -> None:
        """All depths of some rows, in ``count`` blocks that are about as deep."""
        fn = self.fn
        rows = self._smaller(fn.emit(f"sub i64 %behind, {row}"), str(products.ROWS))

        def block(number: str) -> None:
            start = fn.emit(f"mul i64 {number}, {depth}")
            part = self._smaller(fn.emit(f"sub i64 %k, {start}"), depth)
            first = fn.emit(f"icmp eq i64 {number}, 0")
            last = fn.emit(f"icmp eq i64 {fn.emit(f'add i64 {number}, 1')}, {count}")
            self._block(packs, _Block(row, rows, start, part, first, last))

        fn.loop("0", count, block, metadata=NO_UNROLL)
        self._heavy(row, rows)

    def _heavy(self, row: str, rows: str) -> None:
        """An epilogue that is no part of the tiles, on rows that the cache still has."""
        operands = self.operands
        if operands is not None and not operands.epilogue.light:
            callee = rows_pass(self.module, self.target, self.kind.dtype, operands.epilogue)
            pointers = [("ptr", p) for p in operands.at(row, "%left")]
            c = self._at("%c", row, "%n", "%left")
            sizes = [("i64", size) for size in (rows, "%n", self.columns)]
            self.fn.call("void", callee, ("ptr", c), *sizes, *pointers)

    def _block(self, packs: str, block: _Block) -> None:
        kind = self.kind
        if kind.transpose_a:
            a = self._at("%a", block.start, "%m", block.row)
            left = self._left(block, a)
        else:
            left = [("ptr", self._at("%a", block.row, "%k", block.start)), ("i64", "%k")]
        place = ("%left", "%k", block.start) if kind.transpose_b else (block.start, "%n", "%left")
        arguments = [
            *left,
            ("ptr", self._at("%b", *place)),
            ("i64", "%k" if kind.transpose_b else "%n"),
            ("ptr", self._at("%c", block.row, "%n", "%left")),
            ("ptr", "%scratch"),
            ("i64", block.rows),
            ("i64", "%n"),
            ("i64", self.columns),
            ("i64", block.depth),
            ("i1", packs),
        ]
        if kind.deep:
            arguments += [("i1", block.first), ("i1", block.last)]
        if self.operands is not None and self.operands.epilogue.light:
            arguments += [("ptr", p) for p in self.operands.at(block.row, "%left")]
        self.fn.call("void", self.callee, *arguments)

    def _left(self, block: _Block, a: str) -> list[tuple[str, str]]:
        """A transposed a: packed where it is deep and more than one panel of b goes by."""
        fn, shape = self.fn, tile_shape(self.target, self.kind.dtype)
        own = [("ptr", a), ("i64", "%m")]
        if self.kind.narrow:
            return [*own, ("i64", "1"), *own]
        deep = fn.emit(f"icmp sge i64 {block.depth}, {products.PACKED_DEPTH}")
        wide = fn.emit(f"icmp sgt i64 {self.columns}, {shape.width}")
        pack = fn.emit(f"and i1 {deep}, {wide}")
        packed = fn.offset("%scratch", products.PANEL_BYTES)
        sizes = ("%m", block.depth, block.rows)
        fn.if_(
            pack, lambda: copy_columns(fn, self.kind.dtype, shape.rows, a, packed, *sizes)
        )
        base = fn.emit(f"select i1 {pack}, ptr {packed}, ptr {a}")
        step = fn.emit(f"select i1 {pack}, i64 {shape.rows}, i64 %m")
        tile = fn.emit(f"select i1 {pack}, i64 {block.depth}, i64 1")
        return [("ptr", base), ("i64", step), ("i64", tile), *own]

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

    def _smaller(self, x: str, y: str) -> str:
        return self.fn.intrinsic("smin", "i64", "i64", x, y)

    def _at(self, pointer: str, row: str, stride: str, column: str = "0") -> str:
        skipped = "0" if row == "0" else self.fn.emit(f"mul i64 {row}, {stride}")
        return self.fn.offset(self.fn.offset(pointer, skipped, self.element), column, self.element)
