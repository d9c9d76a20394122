"""The gradient of a convolution in its filter: tiles of taps by vectors of channels.

Image by image each tile adds up what its taps saw, times the gradient of what came of it. The taps
of one row of the filter see elements that lie side by side.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepforge.codegen.conv_images import Band, ImageKernel
from stepforge.codegen.conv_tiles import Block, for_blocks, tile_size, vector_width
from stepforge.codegen.lane_core import Lane
from stepforge.codegen.loops import LoopWriter
from stepforge.codegen.size_text import is_number
from stepforge.ir.core import Operation
from stepforge.ir.ops.windows import Windows


def emit_filter_gradient(writer: LoopWriter, op: Operation) -> None:
    """Write ``conv_filter`` as a function of its own, and its call."""
    x, dy, out = (operand.type.dims for operand in op.operands[:3])
    windows = Windows(
        x[1:3], out[:2], dy[1:3], op.attr("strides"), op.attr("low"), op.attr("dilations")
    )
    FilterGradient(writer, op, windows).write()


class FilterGradient(ImageKernel):
    """One kernel; see the module's text."""

    def __init__(self, writer: LoopWriter, op: Operation, windows: Windows) -> None:
        scratch = op.operands[3] if len(op.operands) > 3 else None
        super().__init__(writer, op.operands, scratch, windows)
        self.x, self.dy, self.out = op.operands[:3]
        self.depth = self.size(self.x.type.dims[-1])
        self.channels = self.size(self.out.type.dims[-1])
        columns = self.size(windows.window[1])
        apart = windows.dilations[1] > 1 and columns != "1"
        self.span = self.depth if apart else self.i.times(columns, self.depth)
        self.steps = columns if apart else "1"
        width = vector_width(writer.target, self.dtype, self.channels)
        self.height, self.vectors = tile_size(writer.target, width, self.span, self.channels)
        self.lanes = self.one.rewritten(width=width)

    def write(self) -> None:
        """The function, and its call."""
        self.clear_border()
        size = self.i.times(*self.sizes(self.out), str(self.bytes))
        callee = self.fn.module.declare("llvm.memset.p0.i64", "void", "ptr, i8, i64, i1")
        self.fn.call("void", callee, ("ptr", self.pointer(self.out)), ("i8", "0"), ("i64", size),
                     ("i1", "false"))
        batch, *sizes = self.sizes(self.x)
        image, result = self.i.times(*sizes), self.i.times(*self.sizes(self.dy)[1:])

        def one_image(number: str) -> None:
            pixels = self.at(self.pointer(self.x), self.i.times(number, image))
            slopes = self.at(self.pointer(self.dy), self.i.times(number, result))
            self.for_bands(pixels, lambda band: self._band(slopes, band))

        self.fn.loop("0", batch, one_image)
        self.call()

    def _band(self, slopes: str, band: Band) -> None:
        taps, dilation = self.size(self.windows.window[0]), self.windows.dilations[0]

        def tap_row(tap: str) -> None:
            top = self.i.less(
                self.i.times(tap, str(dilation)), self.size(self.windows.low[0])
            )
            first, behind = self.on_image(
                0, top, self.windows.strides[0], self.size(self.windows.out[0])
            )
            rows = self.i.most(first, band.low), self.i.least(behind, band.high)
            self.fn.loop("0", self.steps, lambda column: self._taps(slopes, band, tap, column, rows))

        self.fn.loop("0", taps, tap_row)

    def _taps(
        self, slopes: str, band: Band, tap: str, column: str, rows: tuple[str, str]
    ) -> None:
        """The taps of one row of the filter (with dilated columns those of one place)."""
        columns = self.size(self.windows.window[1])
        place = self.i.sum(self.i.times(tap, columns), column)
        filter_row = self.i.times(place, self.depth)
        seen = self.i.times(column, str(self.windows.dilations[1]), self.depth)

        def block(block: Block) -> None:
            def tile(start: str, height: int) -> None:
                target = self.at(
                    self.pointer(self.out),
                    self.i.times(self.i.sum(filter_row, start), self.channels), block.start,
                )
                source = self.at(band.pointer, seen, start)
                self._tile(target, source, (slopes, band, tap, rows), block, height)

            for_separate_tiles(self.fn, self.span, self.height, tile)

        for_blocks(self.fn, self.channels, self.lanes.width, self.vectors, block)

    def _tile(
        self,
        target: str,
        source: str,
        rows: tuple[str, str],
        step: tuple[str, str],
        block: Block,
        height: int,
    ) -> None:
        """Add to the sums at ``target`` what all windows in ``rows`` have to add."""
