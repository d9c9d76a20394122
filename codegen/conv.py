"""Convolution of images with channels last: tiles of pixels of a row by vectors of channels.

For each tap row the elements that a pixel sees lie side by side, as do the rows of the filter that
they meet: the inner loop runs over both at once. Rows outside of the image are skipped; columns
outside of it are the border of scratch.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepforge.codegen.conv_images import ImageKernel, Part
from stepforge.codegen.conv_tiles import (
    MOST_ROWS,
    SHORT,
    STEP,
    Block,
    for_blocks,
    for_tiles,
    tile_size,
    vector_width,
)
from stepforge.codegen.lane_core import Lane
from stepforge.codegen.loop_values import Element
from stepforge.codegen.loops import LoopWriter
from stepforge.codegen.nests import NestWriter
from stepforge.codegen.size_text import is_number
from stepforge.ir.core import Operand, Operation
from stepforge.ir.dims import Dim
from stepforge.ir.ops.windows import Windows

LEAST_ROWS = 4  # rows of windows that are worth a copy of what they see


def emit_convolution(writer: NestWriter, op: Operation) -> None:
    """Write ``conv`` as a function of its own, and its call."""
    Convolution(writer, op).write()


class Convolution(ImageKernel):
    """One kernel; see the module's text.

    A turn is a row of windows, or an image where several meet a block of the filter at once.
    """

    def __init__(self, writer: NestWriter, op: Operation) -> None:
        x, weights, out, *others = op.operands
        windows = Windows(
            x.type.dims[1:3], weights.type.dims[-4:-2], op.attr("size"), op.attr("strides"),
            op.attr("low"), op.attr("dilations"),
        )
        scratch = others.pop(0) if op.attr("scratch") else None
        super().__init__(writer, op, scratch, windows)
        self.taken = tuple(others)
        self.x, self.weights, self.out = x, weights, out
        self.columns = self.size(windows.out[1])
        self.depth = self.size(self.x.type.dims[-1])
        self.channels = self.size(self.out.type.dims[-1])
        width = vector_width(writer.target, self.dtype, self.channels)
        # Pixels that are an unknown number of elements apart need an address each.
        most = MOST_ROWS if is_number(self.depth) else STEP
        self.row = self.size(self.weights.type.dims[-1])  # channels in a row of the filter
        self.height, self.vectors = tile_size(
            writer.target, width, self.columns, self.row,
            most=most, even=self.weights.type.rank == 5,
        )
        self.lanes = self.one.rewritten(width=width)
        self.region = LoopWriter(self.fn, writer.target, {})
        self.region.many = self.lanes

    def channels_of_work(self) -> Dim:
        """Those of the result."""
        return self.out.type.dims[-1]

    def write(self) -> None:
        """The function, and its call."""
        self.clear_border()
        batch = self.x.type.dims[0]
        if self.group > 1:
            self.for_groups("%first", "%behind", self._computed)
            self.call(batch, self.group)
        else:
            self.for_rows("%first", "%behind", self._computed)
            self.call(batch * self.windows.out[0], LEAST_ROWS)

    def _computed(self, part: Part) -> None:
        def block(block: Block) -> None:
            def image(number: str) -> None:
                self.fn.loop(
                    part.low, part.high, lambda row: self._row(part, block, (number, row))
                )

            self.for_images(part, image)

        for_blocks(self.fn, self.channels, self.lanes.width, self.vectors, block)

    def _row(self, part: Part, block: Block, place: tuple[str, str]) -> None:
        number, row = place
        stride, dilation = self.windows.strides[0], self.windows.dilations[0]
        top = self.i.less(self.i.times(row, str(stride)), self.size(self.windows.low[0]))
        taps = self.on_image(0, top, dilation, self.size(self.windows.window[0]))
        seen = self.i.sum(
            self.i.times(number, part.apart), self.i.times(self.i.less(top, part.first), part.pitch)
        )
        image = self.i.sum(part.start, number)

        def tile(column: str, height: int) -> None:
            offset = self.i.times(column, str(self.windows.strides[1]), self.depth)
            sums = self._sums(part, self.i.sum(seen, offset), taps, block, height)
            self._finish(sums, (image, row, column), block)

        for_tiles(self.fn, self.columns, self.height, tile)

    # ---- sums -----------------------------------------------------------------------------------
    def _sums(
        self, part: Part, offset: str, taps: tuple[str, str], block: Block, height: int
    ) -> list[list[Lane]]:
        """The sums of a tile: for each of its pixels a list of vectors.

        ``offset`` is where the first tap would see the first pixel, be it on the image or not.
        """
        row_step = self.i.times(part.pitch, str(self.windows.dilations[0]))
        columns = self.size(self.windows.window[1])
        apart = self.windows.dilations[1] > 1 and columns != "1"
        span = self.depth if apart else self.i.times(columns, self.depth)
        rows = self.i.times(columns, self.depth)
        type_ = self.lanes.register_type(self.dtype)
        weights = self._filter(block)
        zero = self.lanes.constant(0, self.dtype).text

        def tap_row(tap: str, *sums: str) -> Sequence[str]:
            seen = self.at(part.pointer, offset, self.i.times(tap, row_step))
            met = self.at(weights, self.i.times(tap, rows, self.row))
            if not apart:
                return self._span(seen, met, span, block, height, sums)

            def tap_column(column: str, *sums: str) -> Sequence[str]:
                step = self.i.times(column, str(self.windows.dilations[1]), self.depth)
                skipped = self.i.times(column, self.depth, self.row)
                return self._span(
                    self.at(seen, step), self.at(met, skipped), span, block, height, sums
                )

            return self.fn.loop(
                "0", columns, tap_column, carried=[(type_, s) for s in sums], followed=True
            )

        count = height * block.vectors
        last = self.fn.loop(*taps, tap_row, carried=[(type_, zero)] * count, followed=True)
        lanes = [Lane(self.dtype, text) for text in last]
        return [lanes[i : i + block.vectors] for i in range(0, count, block.vectors)]

    def _filter(self, block: Block) -> str:
        """The first row of the filter, from the channels of a block on."""
        if self.weights.type.rank == 4:
            return self.at(self.pointer(self.weights), block.start)
        inside = self.fn.emit(f"urem i64 {block.start}, {self.row}")
        rows = self.i.times(*self.sizes(self.weights)[1:-1])
        panel = self.i.times(self.i.less(block.start, inside), rows)
        return self.at(self.pointer(self.weights), panel, inside)

    def _span(
        self, seen: str, met: str, span: str, block: Block, height: int, sums: Sequence[str]
    ) -> Sequence[str]:
        """Add the products of ``span`` elements that each pixel sees with rows of the filter."""
        step = self.i.times(str(self.windows.strides[1]), self.depth)
        apart = [self.i.times(str(row), step) for row in range(height)]

        def element(k: str, *sums: str) -> list[str]:
            vectors = self.load_block(self.at(met, self.i.times(k, self.row)), block)
            return self.multiplied([self.at(self.at(seen, k), n) for n in apart], vectors, sums)

        if is_number(span) and int(span) * len(sums) <= SHORT:
            for k in range(int(span)):
                sums = element(str(k), *sums)
            return sums
        type_ = self.lanes.register_type(self.dtype)
        return self.fn.loop("0", span, element, carried=[(type_, s) for s in sums], followed=True)

    # ---- results --------------------------------------------------------------------------------
    def _finish(
        self, sums: Sequence[Sequence[Lane]], place: tuple[str, str, str], block: Block
    ) -> None:
        """Make elements of the sums, and store them."""
        number, row, column = place
        every, phase = self.op.attr("every"), self.op.attr("phase")
        y = self.i.sum(self.i.times(row, str(every[0])), str(phase[0]))
        for i, vectors in enumerate(sums):
            pixel = self.i.sum(column, str(i))
            x = self.i.sum(self.i.times(pixel, str(every[1])), str(phase[1]))
            place = (number, y, x)
            target = self.at(self._pixel(self.out, place), block.start)
            for v, total in enumerate(vectors):
                self.store_vector(self._element(total, place, v, block), target, v, block)

    def _pixel(self, operand: Operand, place: Sequence[str]) -> str:
        """The channels of ``operand`` that broadcast to a pixel of the result."""
        sizes = (1,) * (4 - operand.type.rank) + operand.type.dims
        offset, stride = "0", self.size(sizes[-1])
        for axis in (2, 1, 0):
            if sizes[axis] != 1:
                offset = self.i.sum(offset, self.i.times(place[axis], stride))
                stride = self.i.times(stride, self.size(sizes[axis]))
        return self.at(self.pointer(operand), offset)

    def _element(self, total: Lane, place: Sequence[str], number: int, block: Block) -> Lane:
        """What the region makes of a vector of sums."""
        if not self.op.regions:
            return total
        region = self.op.regions[0]
        self.region.values[region.params[0]] = Element(total, True)
        for param, operand in zip(region.params[1:], self.taken, strict=True):
            pointer = self._pixel(operand, place)
            if operand.type.rank == 0 or operand.type.dims[-1] == 1:
                self.region.values[param] = Element(self.one.load(pointer, self.dtype))
            else:
                lane = self.load_vector(self.at(pointer, block.start), number, block)
                self.region.values[param] = Element(lane, True)
        (result,) = self.region.block(region)
        return self.region.lane(result, True)
