"""Convolutions of the loop level: kernels that keep a tile of pixels and channels in registers.

They read images whose rows have a border, so that no tile asks where it is: what lacks one is
copied to ``scratch``, some images or a band of rows at a time. Above and below an image there are
no rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stepforge.ir import dims
from stepforge.ir.core import Block, Operand, Operation
from stepforge.ir.dims import Dim
from stepforge.ir.errors import IRError
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.opdef import define_op
from stepforge.ir.ops.loops import LoopOp
from stepforge.ir.ops.windows import Windows
from stepforge.ir.types import Type, item_bytes

Dims = tuple[Dim, ...]
Steps = tuple[int, ...]
BAND = 1 << 17  # bytes of rows of one image that stay in the cache
GROUP = 1 << 18  # and of several images,
LARGE_FILTER = 1 << 18  # where the filter has more bytes than that
PACKED_FILTER = 1 << 20  # bytes of a filter that is laid out by blocks of channels,
PANEL_ROW = 128  # each with so many bytes in a row


def _check_images(op: str, *buffers: Type) -> None:
    for buffer in buffers:
        if not buffer.buffer or buffer.rank != 4 or buffer.dtype not in ("f32", "f64"):
            raise IRError(f"{op}: {buffer} is no buffer of f32 or f64 with four axes")


def blocks_of(dtype: str, window: Dims, depth: Dim, channels: Dim) -> int:
    """Blocks of channels that a large filter is laid out by, ``[blocks, *window, depth, part]``.

    Its rows would be too far from each other for the cache to hold those of one block.
    """
    part = PANEL_ROW // item_bytes(dtype)
    size = dims.product((*window, depth, channels)) * item_bytes(dtype)
    if not isinstance(size, int) or not isinstance(channels, int) or size < PACKED_FILTER:
        return 1
    return channels // part if channels % part == 0 else 1


@define_op
class Conv(LoopOp):
    """``out`` = the convolution of ``x``; the region makes an element of it from a sum.

    ``weights`` are ``[*window, c, channels]`` or by ``[blocks, *window, c, part]`` of channels.
    ``size`` is the number of windows; their results are ``every`` so many pixels of ``out``, from
    ``phase`` on. ``border`` is the shape of memory for rows with a border; with ``scratch`` that
    is the first of ``others``, else on the stack. The rest, broadcast to ``out``, are what the
    region takes beside the sum. ``conv(%x, %f, %out, %b, low=[2, 2], size=[28, 28], border=[1, 28,
    32, 1]) |%sum: f32, %p: f32| {...}``
    """

    effect = "write"
    region_names = ("",)

    def infer(
        self,
        x: Type,
        weights: Type,
        out: Type,
        *others: Type,
        strides: Steps = (1, 1),
        low: Dims = (0, 0),
        size: Dims = (),
        dilations: Steps = (1, 1),
        every: Steps = (1, 1),
        phase: Steps = (0, 0),
        border: Dims = (),
        scratch: bool = False,
    ) -> tuple[Type, ...]:
        _check_images("conv", x, out)
        if not weights.buffer or weights.rank not in (4, 5) or weights.dtype != x.dtype:
            raise IRError(f"conv: {weights} is no filter for {x}")
        return ()

    def verify(self, op: Operation) -> str | None:
        """The problem with this operation, or None."""
        self.infer_results(tuple(o.type for o in op.operands), dict(op.attrs))
        taken = op.operands[4 if op.attr("scratch") else 3 :]
        if not op.regions:
            return "operands beside the images want a region" if taken else None
        wanted = [Type(o.type.dtype) for o in (op.operands[2], *taken)]
        if [p.type for p in op.regions[0].params] != wanted:
            return "the region takes a sum and an element of each operand"
        given = [v.type for v in op.regions[0].terminator.operands]
        return None if given == wanted[:1] else "the region yields an element"


@define_op
class ConvFilter(LoopOp):
    """``out`` = the gradient of a convolution of ``x`` in its filter, from that of its result.

    ``conv_filter(%x, %dy, %out, low=[2, 2], border=[1, 28, 32, 1])``; the fourth operand, where
    there is one, is the memory whose shape is ``border``.
    """

    effect = "write"

    def infer(
        self,
        x: Type,
        dy: Type,
        out: Type,
        *scratch: Type,
        strides: Steps = (1, 1),
        low: Dims = (0, 0),
        dilations: Steps = (1, 1),
        border: Dims = (),
    ) -> tuple[Type, ...]:
        _check_images("conv_filter", x, dy, out)
        return ()


def direct(
    k: LoopBuilder,
    out: Operand,
    x: Operand,
    weights: Operand,
    windows: Windows,
    *,
    every: Steps = (1, 1),
    phase: Steps = (0, 0),
    taken: Sequence[Operand] = (),
    epilogue: Block | None = None,
) -> None:
    """Emit ``conv`` with the memory that it needs; ``epilogue`` takes a sum and ``taken``."""
    if weights.type.rank == 4:
        weights = _packed(k, weights)
    border = _border(x, windows, weights.type.size)
    scratch = _scratch(k, x.type.dtype, border)
    k.emit(
        "conv", x, weights, out, *scratch, *taken, strides=windows.strides, low=windows.low,
        size=windows.out, dilations=windows.dilations, every=every, phase=phase, border=border,
        scratch=bool(scratch), regions=[epilogue] if epilogue else [],
    )


def direct_filter(
    k: LoopBuilder, out: Operand, x: Operand, dy: Operand, windows: Windows
) -> None:
    """Emit ``conv_filter`` with the scratch that it needs."""
    border = _border(x, windows, out.type.size)
    k.emit(
        "conv_filter", x, dy, out, *_scratch(k, x.type.dtype, border), strides=windows.strides,
        low=windows.low, dilations=windows.dilations, border=border,
    )


def _packed(k: LoopBuilder, weights: Operand) -> Operand:
    """A large filter with the channels of each block side by side; another one as it is."""
    *window, depth, channels = weights.type.dims
    blocks = blocks_of(weights.type.dtype, tuple(window), depth, channels)
    if blocks == 1:
        return weights
    part = dims.floor_div(channels, blocks)
    packed = k.alloc(weights.type.dtype, (blocks, *window, depth, part))
    apart = k.view(weights, (*window, depth, blocks, part))
    with (
        k.nest((*window, depth, blocks), simd=False) as (*row, block),
        k.loop(part, simd=True) as channel,
    ):
        k.store(k.load(apart, *row, block, channel), packed, block, *row, channel)
    return packed


def turned(
    k: LoopBuilder, weights: Operand, taps: Dims, place: Callable[..., Sequence[Operand]]
) -> Operand:
    """A filter with its channels swapped: tap ``place(*tap)`` of ``weights`` as its own ``tap``."""
    *window, depth, channels = weights.type.dims
    dtype = weights.type.dtype
    blocks = blocks_of(dtype, taps, channels, depth)
    part = dims.floor_div(depth, blocks)
    made = k.alloc(dtype, (blocks, *taps, channels, part))
    apart = k.view(weights, (*window, blocks, part, channels))
    with k.nest((*taps, blocks), simd=False) as (*tap, block):
        source = k.emit("subview", apart, *place(*tap), block)
        k.emit("transpose_matrix", source, k.emit("subview", made, block, *tap))
    return made if blocks > 1 else k.view(made, (*taps, channels, depth))


def _border(x: Operand, windows: Windows, filter_size: Dim) -> Dims:
    """The shape of memory for images with a border, or for a band of rows of one image.

    Empty where windows reach out of no row. There is room for several images where a large filter
    is to be read less often. ``filter_size`` counts elements.
    """
    if windows.inside(1):
        return ()
    item, batch, depth = item_bytes(x.type.dtype), x.type.dims[0], x.type.dims[-1]
    height, columns = windows.image[0], windows.extent(1)
    row = columns * depth * item
    if row == 0:
        return (1, height, columns, depth)
    large = isinstance(filter_size, int) and filter_size * item > LARGE_FILTER
    image, count = height * row, 1
    if large and isinstance(image, int) and image > 0:
        most = batch if isinstance(batch, int) else GROUP
        count = max(min(GROUP // image, most), 1)
    room = dims.floor_div(BAND, row)
    rows = dims.minimum(height, dims.maximum(windows.reach(0), room))
    return (count, rows, columns, depth)


def _scratch(k: LoopBuilder, dtype: str, border: Dims) -> list[Operand]:
    """A buffer for it, where it is too large for the stack."""
    size = dims.product(border) * item_bytes(dtype)
    if not border or (isinstance(size, int) and size <= GROUP):
        return []
    return [k.alloc(dtype, border)]
