"""Convolutions of the loop level: kernels that keep a tile of pixels and channels in registers.

They read images whose rows have a border, so that no tile asks where it is: rows that lack one are
copied to ``scratch``, a band of them at a time. What is above and below an image is no row at all.
"""

from __future__ import annotations

from collections.abc import Sequence

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
BAND = 1 << 17  # bytes of scratch: rows that are read by every block of channels stay in cache


def _check_images(op: str, *buffers: Type) -> None:
    for buffer in buffers:
        if not buffer.buffer or buffer.rank != 4 or buffer.dtype not in ("f32", "f64"):
            raise IRError(f"{op}: {buffer} is no buffer of f32 or f64 with four axes")


@define_op
class Conv(LoopOp):
    """``out`` = the convolution of ``x``; the region makes an element of it from a sum.

    ``size`` is the number of windows; their results are ``every`` so many pixels of ``out``, from
    ``phase`` on. With ``scratch`` the first of ``others`` is a band of rows with a border; the
    rest, broadcast to ``out``, are what the region takes beside the sum.
    ``conv(%x, %f, %out, %t, %b, low=[2, 2], size=[28, 28], scratch=true) |%sum: f32, %p: f32|
    {...}``
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
        scratch: bool = False,
    ) -> tuple[Type, ...]:
        _check_images("conv", x, weights, out)
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

    ``conv_filter(%x, %dy, %out, %t, low=[2, 2])``; the fourth operand, where there is one, is a
    band of rows with a border.
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
    """Emit ``conv`` with the scratch that it needs; ``epilogue`` takes a sum and ``taken``."""
    scratch = _bordered(k, x, windows)
    k.emit(
        "conv", x, weights, out, *scratch, *taken, strides=windows.strides, low=windows.low,
        size=windows.out, dilations=windows.dilations, every=every, phase=phase,
        scratch=bool(scratch), regions=[epilogue] if epilogue else [],
    )


def direct_filter(
    k: LoopBuilder, out: Operand, x: Operand, dy: Operand, windows: Windows
) -> None:
    """Emit ``conv_filter`` with the scratch that it needs."""
    k.emit(
        "conv_filter", x, dy, out, *_bordered(k, x, windows), strides=windows.strides,
        low=windows.low, dilations=windows.dilations,
    )


def _bordered(k: LoopBuilder, x: Operand, windows: Windows) -> list[Operand]:
    """A buffer for rows with a border; none where windows reach out of no row."""
    if windows.inside(1):
        return []
    height, columns, depth = windows.image[0], windows.extent(1), x.type.dims[-1]
    row = columns * depth
    if row == 0:
        return [k.alloc(x.type.dtype, (height, columns, depth))]
    fitting = dims.floor_div(BAND // item_bytes(x.type.dtype), row)
    rows = dims.minimum(height, dims.maximum(windows.reach(0), fitting))
    return [k.alloc(x.type.dtype, (rows, columns, depth))]
