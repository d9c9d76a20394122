"""Transposes of matrices, as LLVM: square tiles in registers, inside blocks that fit the cache.

A tile is loaded row by row, its rows are exchanged by rounds of shuffles of doubling distance, and
stored row by row; so memory is only touched by whole vectors. What is left at the edges goes
element by element.
"""

from __future__ import annotations

from functools import partial

from stepforge.codegen.llvm import FunctionWriter, ModuleWriter
from stepforge.codegen.target import Target

BLOCK = 64  # rows and columns of a block


def emit_transpose(
    fn: FunctionWriter, target: Target, size: int, source: str, out: str, rows: str, columns: str
) -> None:
    """Write ``out[columns, rows] = source[rows, columns]`` for elements of ``size`` bytes."""
    tile = target.vector_bits // (8 * size) if size in (4, 8) else 1
    name = f"transpose_{size}"
    callee = fn.module.helper(name, lambda: _helper(fn.module, name, size, min(tile, 16)))
    fn.call("void", callee, ("ptr", source), ("ptr", out), ("i64", rows), ("i64", columns))


def _helper(module: ModuleWriter, name: str, size: int, tile: int) -> str:
    params = [("ptr", "source"), ("ptr", "out"), ("i64", "rows"), ("i64", "columns")]
    fn = FunctionWriter(module, name, "void", params, linkage="internal", attributes="noinline")
    writer = _Transpose(fn, size, tile)
    fn.loop("0", "%rows", writer.row_block, step=BLOCK)
    fn.do("ret void")
    return fn.finish()


class _Transpose:
    """The loops of one transpose; ``tile`` is the side of a register tile, 1 for none."""

    def __init__(self, fn: FunctionWriter, size: int, tile: int) -> None:
        self.fn, self.size, self.tile = fn, size, tile
        self.element = f"i{8 * size}"
        self.vector = f"<{tile} x {self.element}>"

    def row_block(self, first_row: str) -> None:
        """All columns of a block of rows."""
        last_row = self._end(first_row, "%rows")

        def column_block(first_column: str) -> None:
            self._block(first_row, last_row, first_column, self._end(first_column, "%columns"))

        self.fn.loop("0", "%columns", column_block, step=BLOCK)

    def _end(self, first: str, limit: str) -> str:
        return self.fn.intrinsic(
            "smin", "i64", "i64", self.fn.emit(f"add i64 {first}, {BLOCK}"), limit
        )

    def _block(self, row: str, last_row: str, column: str, last_column: str) -> None:
        if self.tile == 1:
            self._elements(row, last_row, column, last_column)
            return
        whole_rows, whole_columns = (
            self._whole(first, last) for first, last in ((row, last_row), (column, last_column))
        )

        def tiles_of_row(i: str) -> None:
            tiles = partial(self._tile, i)
            self.fn.loop(column, whole_columns, tiles, step=self.tile, followed=True)

        self.fn.loop(row, whole_rows, tiles_of_row, step=self.tile)
        self._elements(row, whole_rows, whole_columns, last_column)
        self._elements(whole_rows, last_row, column, last_column)

    def _whole(self, first: str, last: str) -> str:
        """The end of the last whole tile."""
        span = self.fn.emit(f"sub i64 {last}, {first}")
        return self.fn.emit(f"add i64 {first}, {self.fn.emit(f'and i64 {span}, -{self.tile}')}")

    def _at(self, base: str, major: str, width: str, minor: str) -> str:
        index = self.fn.emit(f"add i64 {self.fn.emit(f'mul i64 {major}, {width}')}, {minor}")
        return self.fn.offset(base, index, self.element)

    def _elements(self, row: str, last_row: str, column: str, last_column: str) -> None:
        fn = self.fn

        def one(j: str) -> None:
            def copy(i: str) -> None:
                value = fn.load(self.element, self._at("%source", i, "%columns", j))
                fn.store(self.element, value, self._at("%out", j, "%rows", i))

            fn.loop(row, last_row, copy, followed=True)

        fn.loop(column, last_column, one)

    def _tile(self, row: str, column: str) -> None:
        fn, tile = self.fn, self.tile
        align = f", align {self.size}"
        lines = []
        for k in range(tile):
            at = self._at("%source", fn.emit(f"add i64 {row}, {k}"), "%columns", column)
            lines.append(fn.load(self.vector, at, extra=align))
        distance = tile // 2
        while distance:
            lines = self._exchanged(lines, distance)
            distance //= 2
        for k, line in enumerate(lines):
            at = self._at("%out", fn.emit(f"add i64 {column}, {k}"), "%rows", row)
            fn.store(self.vector, line, at, extra=align)

    def _exchanged(self, lines: list[str], distance: int) -> list[str]:
        """Exchange the off-diagonal blocks of side ``distance`` of each pair of rows."""
        tile = self.tile
        low = [c if not c & distance else tile + c - distance for c in range(tile)]
        high = [c + distance if not c & distance else tile + c for c in range(tile)]
        out = list(lines)
        for k in range(tile):
            if not k & distance:
                pair = lines[k], lines[k + distance]
                out[k], out[k + distance] = self._shuffled(*pair, low), self._shuffled(*pair, high)
        return out

    def _shuffled(self, a: str, b: str, picks: list[int]) -> str:
        mask = ", ".join(f"i32 {pick}" for pick in picks)
        return self.fn.emit(
            f"shufflevector {self.vector} {a}, {self.vector} {b}, <{self.tile} x i32> <{mask}>"
        )
