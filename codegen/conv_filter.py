"""The gradient of a convolution in its filter: tiles of taps by vectors of channels.

Image by image each tile adds up what its taps saw, times the gradient of what came of it. The taps
of one row of the filter see elements that lie side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stepforge.codegen.conv_images import ImageKernel, Part
from stepforge.codegen.conv_tiles import (
    Block,
    for_blocks,
    for_separate_tiles,
    tile_size,
    vector_width,
)
from stepforge.codegen.lane_core import Lane
from stepforge.codegen.nests import NestWriter
from stepforge.ir.core import Operation
from stepforge.ir.dims import Dim
from stepforge.ir.ops.windows import Windows
from stepforge.ir.records import record


def emit_filter_gradient(writer: NestWriter, op: Operation) -> None:
    """Write ``conv_filter`` as a function of its own, and its call."""
    FilterGradient(writer, op).write()


@record(frozen=True)
class TapRow:
    """A row of the filter: where in ``part`` the first row of windows would see an image with it.

    Further ones are ``pitch`` elements on. Those from ``low`` to below ``high`` see it, ``slopes``
    is the gradient of their results.
    """

    part: Part
    offset: str
    pitch: str
    slopes: str
    low: str
    high: str


class FilterGradient(ImageKernel):
    """One kernel; see the module's text."""

    def __init__(self, writer: NestWriter, op: Operation) -> None:
        x, dy, out, *others = op.operands
        windows = Windows(
            x.type.dims[1:3], out.type.dims[:2], dy.type.dims[1:3], op.attr("strides"),
            op.attr("low"), op.attr("dilations"),
        )
        scratch = others[0] if others else None
        super().__init__(writer, op, scratch, windows)
        self.x, self.dy, self.out = x, dy, out
        self.depth = self.size(self.x.type.dims[-1])
        self.channels = self.size(self.out.type.dims[-1])
        self.result = self.i.times(*self.sizes(self.dy)[1:])  # elements for each image
        columns = self.size(windows.window[1])
        apart = windows.dilations[1] > 1 and columns != "1"
        self.places = columns if apart else "1"  # in a row of the filter, each with a span of taps
        self.span = self.depth if apart else self.i.times(columns, self.depth)
        width = vector_width(writer.target, self.dtype, self.channels)
        self.height, self.vectors = tile_size(writer.target, width, self.span, self.channels)
        self.lanes = self.one.rewritten(width=width)

    def channels_of_work(self) -> Dim:
        """Those of the result's gradient."""
        return self.dy.type.dims[-1]

    def write(self) -> None:
        """The function, and its call; a turn is a row of the filter."""
        size = self.i.times(*self.sizes(self.out)[1:])
        rows = self.i.less("%behind", "%first")
        self.clear(self.at(self.pointer(self.out), self.i.times("%first", size)),
                   self.i.times(rows, size))
        self.clear_border()
        batch = self.size(self.x.type.dims[0])
        if self.group > 1:
            self.for_groups("0", batch, self._added)
        else:
            windows = self.size(self.windows.out[0])
            self.for_rows("0", self.i.times(batch, windows), self._added)
        self.call(self.windows.window[0], 1)

    def _added(self, part: Part) -> None:
        dilation, low = self.windows.dilations[0], self.size(self.windows.low[0])
        windows, step = self.size(self.windows.out[0]), self.windows.strides[0]
        slopes = self.at(self.pointer(self.dy), self.i.times(part.start, self.result))

        def tap_row(tap: str) -> None:
            top = self.i.less(self.i.times(tap, str(dilation)), low)
            first, behind = self.on_image(0, top, step, windows)
            offset = self.i.times(self.i.less(top, part.first), part.pitch)
            row = TapRow(part, offset, self.i.times(str(step), part.pitch), slopes,
                         self.i.most(first, part.low), self.i.least(behind, part.high))
            self.fn.loop("0", self.places, lambda place: self._taps(row, tap, place))

        self.fn.loop("%first", "%behind", tap_row)

    def _taps(self, row: TapRow, tap: str, place: str) -> None:
        """The taps of one row of the filter that see elements side by side."""
        columns = self.size(self.windows.window[1])
        number = self.i.times(self.i.sum(self.i.times(tap, columns), place), self.depth)
        seen = self.i.times(place, str(self.windows.dilations[1]), self.depth)

        def block(block: Block) -> None:
            def tile(start: str, height: int) -> None:
                offset = self.i.times(self.i.sum(number, start), self.channels)
                target = self.at(self.pointer(self.out), offset, block.start)
                self._tile(target, self.i.sum(seen, start), row, block, height)

            for_separate_tiles(self.fn, self.span, self.height, tile)

        for_blocks(self.fn, self.channels, self.lanes.width, self.vectors, block)

    def _tile(self, target: str, seen: str, row: TapRow, block: Block, height: int) -> None:
        """Add what all windows of a row have to add to the sums at ``target``."""
        windows = self.size(self.windows.out[1])
        columns = self.i.times(windows, self.channels)
        step = self.i.times(str(self.windows.strides[1]), self.depth)
        type_ = self.lanes.register_type(self.dtype)
        places = [self.at(target, self.i.times(str(i), self.channels)) for i in range(height)]
        sums = [lane for place in places for lane in self.load_block(place, block)]

        def image(number: str, *sums: str) -> Sequence[str]:
            offset = self.i.sum(row.offset, self.i.times(number, row.part.apart), seen)
            images = self.at(row.slopes, self.i.times(number, self.result), block.start)

            def window_row(y: str, *sums: str) -> Sequence[str]:
                source = self.at(row.part.pointer, offset, self.i.times(y, row.pitch))
                slopes = self.at(images, self.i.times(y, columns))

                def window(x: str, *sums: str) -> Sequence[str]:
                    place = self.at(slopes, self.i.times(x, self.channels))
                    pixel = self.at(source, self.i.times(x, step))
                    taps = [self.at(pixel, str(i)) for i in range(height)]
                    return self.multiplied(taps, self.load_block(place, block), sums)

                carried = [(type_, s) for s in sums]
                return self.fn.loop("0", windows, window, carried=carried, followed=True)

            return self.fn.loop(row.low, row.high, window_row, carried=[(type_, s) for s in sums])

        last = self._over_images(row.part, image, [(type_, lane.text) for lane in sums])
        for i, place in enumerate(places):
            for v in range(block.vectors):
                total = Lane(self.dtype, last[i * block.vectors + v])
                self.store_vector(total, place, v, block)

    def _over_images(
        self, part: Part, body: Callable[..., Sequence[str]], carried: Sequence[tuple[str, str]]
    ) -> Sequence[str]:
        if part.count == "1":
            return body("0", *[value for _, value in carried])
        return self.fn.loop("0", part.count, body, carried=carried)
