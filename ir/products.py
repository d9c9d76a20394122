"""How large matrix products are cut into blocks, and the memory that this takes.

The lowering allocates the memory and code generation fills it, so both read these numbers.
``depth`` is the inner dimension of a product throughout.
"""

from __future__ import annotations

from stepforge.ir import dims
from stepforge.ir.dims import Dim

LIBRARY_FROM = 384  # rows, columns and depth from which on a library is faster than tiles
DEPTH = 384  # of the inner dimension, so much at a time: a panel of b stays in the cache
ROWS = 256  # rows of c that are worked on while the panel stays
PANEL_ROW_BYTES = 128  # the most that a panel has of one row of b: the width of a register tile
PANEL_BYTES = DEPTH * PANEL_ROW_BYTES
PACKED_ROWS = 128  # from so many rows on, panels of b are packed if b is large,
PACKED_BYTES = 1 << 20  # which is more than this;
CONFLICT_ROWS = 16  # from so many on if rows of b lie a multiple of
CONFLICT_BYTES = 4096  # this apart, and so in each other's way in the cache
PACKED_DEPTH = 64  # a transposed a is packed from this depth on
GRAIN = 16  # panels are filled by so many rows at a time
SHARED_BYTES = 100_000 * 256  # numbers multiplied in 100 us, about, times the bytes of one
CHUNKS = 32  # at most, of a product that threads share
UNIT_ROWS = 48  # a chunk has a multiple of so many rows, if not all: whole tiles of any processor
SHARED_BLOCK = 24 * DEPTH * 8  # bytes of a transposed a that a chunk packs at a time, on the stack


def shared_from(item: int) -> int:
    """How many multiplications, of elements of ``item`` bytes, are worth more than one thread."""
    return SHARED_BYTES // item


def scratch_size(
    m: Dim, n: Dim, depth: Dim, item: int, *, transpose_a: bool, transpose_b: bool
) -> Dim:
    """Elements, of ``item`` bytes each, of scratch memory that a product may use; 0 for none.

    A panel of b comes first, and behind ``PANEL_BYTES`` a block of a transposed a.
    """
    if 1 in (m, n):
        return 0
    panel, row = PANEL_BYTES // item, PANEL_ROW_BYTES // item
    if transpose_a and not (isinstance(depth, int) and depth < PACKED_DEPTH):
        return panel + dims.minimum(m, ROWS) * dims.minimum(depth, DEPTH)
    few = isinstance(m, int) and m < CONFLICT_ROWS
    whole = isinstance(n, int) and n % row == 0
    if few and whole and not transpose_b:
        return 0
    rows = dims.floor_div(depth + (GRAIN - 1), GRAIN) * GRAIN
    return dims.minimum(rows * row, panel)
