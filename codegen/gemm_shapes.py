"""Register tiles: how much of a matrix product fits the registers of each kind of processor.

A tile of ``c`` is a few rows by a few vector registers. Sixteen independent sums hide the latency
of fused multiply-add on AVX-512; of sixteen registers twelve are left beside the operands.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepforge.codegen.lane_core import Lane, bits_of
from stepforge.codegen.lanes import LaneBuilder
from stepforge.codegen.target import Target
from stepforge.ir.products import PANEL_ROW_BYTES
from stepforge.ir.records import record


@record(frozen=True, slots=True)
class TileShape:
    """``rows`` by ``vectors`` of ``lanes`` elements; ``tail`` rows at a time at the lower edge.

    ``masks``: a masked load costs what a load costs.
    """

    rows: int
    tail: int
    vectors: int
    lanes: int
    masks: bool

    @property
    def width(self) -> int:
        """Columns of a tile."""
        return self.vectors * self.lanes


# The first feature that the processor has decides: rows, rows at the edge, vectors, masked loads.
_SHAPES: dict[str, tuple[int, int, int, bool]] = {
    "avx512f": (8, 4, 2, True),
    "avx": (6, 2, 2, True),
    "neon": (6, 2, 4, False),
    "": (6, 2, 2, False),
}


def tile_shape(target: Target, dtype: str) -> TileShape:
    """The shape of tiles of ``dtype`` (f32 or f64)."""
    lanes = target.vector_bits // bits_of(dtype)
    found = next(s for feature, s in _SHAPES.items() if not feature or target.has(feature))
    rows, tail, vectors, masks = found
    assert vectors * target.vector_bits <= 8 * PANEL_ROW_BYTES
    return TileShape(rows, tail, vectors, lanes, masks)


def load(k: LaneBuilder, pointer: str, dtype: str, mask: Lane | None) -> Lane:
    """Elements at ``pointer``, under a mask where there is one."""
    return k.load(pointer, dtype) if mask is None else k.load_masked(pointer, dtype, mask, 0)


def store(k: LaneBuilder, x: Lane, pointer: str, mask: Lane | None) -> None:
    """Store elements at ``pointer``, under a mask where there is one."""
    if mask is None:
        k.store(x, pointer)
    else:
        k.store_masked(x, pointer, mask)


def shuffled(k: LaneBuilder, a: Lane, b: str, picks: Sequence[int]) -> Lane:
    """Elements of a, and behind them of b (a lane's text, or poison), in another order."""
    type_ = k.register_type(a.dtype)
    places = ", ".join(f"i32 {pick}" for pick in picks)
    text = f"shufflevector {type_} {a.text}, {type_} {b}, <{len(picks)} x i32> <{places}>"
    return Lane(a.dtype, k.fn.emit(text))
