"""Register tiles of convolutions: how many rows and vectors, and the blocks of channels they cover.

A tile multiplies numbers of one side (one for each of its rows, spread over a vector) with vectors
of channels of the other side, and keeps all sums in registers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from stepforge.codegen.lane_core import bits_of
from stepforge.codegen.llvm import FunctionWriter
from stepforge.codegen.size_text import SizeText, is_number
from stepforge.codegen.target import Target
from stepforge.ir.records import record

LATENCY = 8  # sums that must be under way at once to keep the multipliers busy
SHORT = 96  # multiplications up to which a loop over a known number of turns is written out
MOST_ROWS = 14
STEP = 4  # rows of the tile for what is left of an unknown number


@record(frozen=True)
class Block:
    """``vectors`` vectors of channels from ``start`` on; ``rest`` of the last where it is partial.
    """

    start: str
    vectors: int
    rest: str = ""

    def partial(self, number: int) -> bool:
        """True for a vector that has fewer channels than lanes."""
        return bool(self.rest) and number == self.vectors - 1


def vector_width(target: Target, dtype: str, channels: str) -> int:
    """Lanes of a vector of channels: no more than there are, up to a power of two."""
    width = max(target.vector_bits // bits_of(dtype), 1)
    while width > 1 and is_number(channels) and width // 2 >= int(channels):
        width //= 2
    return width


def tile_size(
    target: Target,
    width: int,
    rows: str,
    channels: str,
    *,
    most: int = MOST_ROWS,
    even: bool = False,
) -> tuple[int, int]:
    """Rows (up to ``most``) and vectors of a tile whose sums and vectors fit into the registers.

    As few tiles as possible cover the rows, where their number is known, and the channels, which
    they divide where that must come out ``even``.
    """
    registers = 32 if target.has("avx512f") or target.has("neon") else 16
    vectors = math.ceil(int(channels) / width) if is_number(channels) else 1
    best, least = (1, 1), math.inf
    for count in range(1, min(vectors, 4) + 1):
        if even and vectors % count:
            continue
        height = min((registers - count - 1) // count, most)
        if is_number(rows):
            height = _even(int(rows), height)
        cost = _cost(height, count, int(rows) if is_number(rows) else height, vectors)
        if cost < least:
            best, least = (height, count), cost
    return best


def _even(rows: int, most: int) -> int:
    """The height of as few tiles as cover ``rows``, all about the same."""
    return math.ceil(rows / math.ceil(rows / most)) if rows else 1


def _cost(height: int, count: int, rows: int, vectors: int) -> float:
    """Steps of a tile's inner loop for all rows and vectors, by what holds it up."""
    tiles = math.ceil(rows / height) * math.ceil(vectors / count)
    products, loads = height * count, height + count
    return tiles * max(products, loads, LATENCY)


def for_blocks(
    fn: FunctionWriter, channels: str, width: int, vectors: int, body: Callable[[Block], None]
) -> None:
    """Run ``body`` for blocks that cover all channels; an unknown number of them one by one."""
    if not is_number(channels):
        end = fn.emit(f"and i64 {channels}, {-width}")
        fn.loop("0", end, lambda start: body(Block(start, 1)), step=width)
        rest = fn.emit(f"sub i64 {channels}, {end}")
        some = fn.emit(f"icmp sgt i64 {rest}, 0")
        fn.if_(some, lambda: body(Block(end, 1, rest)))
        return
    count, step = int(channels), width * vectors
    whole = count - count % step
    if whole == step:
        body(Block("0", vectors))
    elif whole:
        fn.loop("0", str(whole), lambda start: body(Block(start, vectors)), step=step)
    if count % step:
        partial = str(count % width) if count % width else ""
        body(Block(str(whole), math.ceil(count % step / width), partial))


def for_tiles(
    fn: FunctionWriter, rows: str, height: int, body: Callable[[str, int], None]
) -> None:
    """Run ``body(start, height)`` for tiles that cover all rows; some overlap the one before."""
    i = SizeText(fn)
    if not is_number(rows):
        whole = _whole_tiles(fn, rows, height, body)
        wide = fn.emit(f"icmp sge i64 {rows}, {STEP}")
        low, last = fn.emit(f"select i1 {wide}, i64 {rows}, i64 {whole}"), i.sum(rows, str(-STEP))
        fn.loop(whole, low, lambda start: body(i.least(start, last), STEP), step=STEP)
        fn.loop(low, rows, lambda start: body(start, 1))
        return
    count = int(rows)
    if count % height == 0:
        _whole_tiles(fn, rows, height, body)
    else:
        last = str(count - height)
        fn.loop("0", rows, lambda start: body(i.least(start, last), height), step=height)


def for_separate_tiles(
    fn: FunctionWriter, rows: str, height: int, body: Callable[[str, int], None]
) -> None:
    """Run ``body(start, height)`` for tiles that cover every row once."""
    whole = _whole_tiles(fn, rows, height, body)
    if not is_number(rows):
        fn.loop(whole, rows, lambda start: body(start, 1))
    elif whole != rows:
        body(whole, int(rows) - int(whole))


def _whole_tiles(
    fn: FunctionWriter, rows: str, height: int, body: Callable[[str, int], None]
) -> str:
    """Run ``body`` for tiles of full height; the number of rows that they cover."""
    i = SizeText(fn)
    whole = i.times(i.whole(rows, height), str(height))
    if whole == str(height):
        body("0", height)
    elif whole != "0":
        fn.loop("0", whole, lambda start: body(start, height), step=height)
    return whole
