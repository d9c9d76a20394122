"""What the kernels of convolutions share: their parameters, images with a border, sums of tiles.

A kernel is a function of its own that takes pointers and the sizes that are not known; convolutions
of the same shape share one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

from stepforge.codegen.conv_tiles import Block
from stepforge.codegen.lane_core import Lane, register_element, storage_bytes
from stepforge.codegen.lanes import LaneBuilder
from stepforge.codegen.llvm import FunctionWriter
from stepforge.codegen.nests import NestWriter
from stepforge.codegen.sharing import JOB, Turns, call_shared, job_arguments
from stepforge.codegen.size_text import SizeText
from stepforge.codegen.symbol_names import kernel_label
from stepforge.ir import dims
from stepforge.ir.core import Operand, Operation
from stepforge.ir.dims import Dim
from stepforge.ir.ops.direct_convolution import GROUP
from stepforge.ir.ops.windows import Windows, numbers
from stepforge.ir.records import record

PRODUCTS = 75  # of a number and a channel, in a nanosecond, about


@record(frozen=True)
class Part:
    """Images, or rows of one: ``pointer`` is that of row ``first`` of image ``start``.

    Rows are ``pitch`` elements from each other, images ``apart``. There are ``count`` of them, and
    the rows serve the rows of windows from ``low`` to below ``high``.
    """

    start: str
    count: str
    pointer: str
    first: str
    pitch: str
    apart: str
    low: str
    high: str


class ImageKernel:
    """Base of the kernels. The images are the first operand of ``op``; all are buffers.

    A kernel does the turns from ``first`` to below ``behind``, of which the subclass knows what
    they are. Its ``border`` is the shape of memory for images with a border, ``scratch`` that
    memory; where there is none it is on the stack, and threads may share the turns.
    """

    def __init__(
        self, writer: NestWriter, op: Operation, scratch: Operand | None, windows: Windows
    ) -> None:
        operands, border = op.operands, op.attr("border")
        self.writer, self.op, self.operands, self.windows = writer, op, tuple(operands), windows
        self.images, self.border = operands[0], tuple(border)
        self.dtype = operands[0].type.dtype
        self.bytes = storage_bytes(self.dtype)
        sizes: list[Dim] = [n for operand in operands for n in operand.type.dims]
        sizes += [*windows.image, *windows.window, *windows.out, *windows.low, *border]
        unknown = dict.fromkeys(n for n in sizes if not isinstance(n, int))
        self._alone = scratch is not None or not writer.threads
        types = [*["ptr"] * len(operands), *["i64"] * len(unknown)]
        params = [(type_, f"p_{index}") for index, type_ in enumerate(types)]
        self.fn = FunctionWriter(
            writer.module, "@", "void", [*params, *JOB[1:]] if self._alone else JOB,
            linkage="internal", attributes="noinline",
        )
        given = [f"%{name}" for _, name in params]
        self._texts = given if self._alone else job_arguments(self.fn, types)
        self._sizes = dict(zip(unknown, self._texts[len(operands) :], strict=True))
        self.one = LaneBuilder(self.fn, 1, writer.target.capabilities)
        self.lanes = self.one  # a kernel takes wider ones
        self.i = SizeText(self.fn)
        self.scratch = "" if scratch is None else self.pointer(scratch)
        if border and scratch is None:
            elements = math.prod(numbers(border))
            self.scratch = self.fn.alloca(register_element(self.dtype), elements, align=64)

    def call(self, turns: Dim, least: int) -> None:
        """End the function, and call it for all turns, where shared by ``least`` at once."""
        self.fn.do("ret void")
        text = self.fn.finish()
        digest = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
        label = self.writer.module.first_label(digest, kernel_label(self.op))
        name = f"conv_{self.dtype}_{label}_{digest}"
        callee = self.writer.module.helper(name, lambda: text.replace("@@(", f"@{name}(", 1))
        args = [("ptr", self.writer.values[operand].pointer) for operand in self.operands]
        args += [("i64", self.writer.dim(size)) for size in self._sizes]
        count = self.writer.dim(turns)
        if self._alone:
            self.writer.fn.call("void", callee, *args, ("i64", "0"), ("i64", count))
        else:
            work = self.writer.dim(self._work())
            self.writer.shares = True
            shared = Turns("0", count, work, str(least))
            call_shared(self.writer.fn, self.writer.table(), callee, args, shared)

    def _work(self) -> Dim:
        """About how many nanoseconds all turns take."""
        batch, depth = self.images.type.dims[0], self.images.type.dims[-1]
        taps = dims.product((*self.windows.window, depth, self.channels_of_work()))
        return dims.floor_div(batch * dims.product(self.windows.out) * taps, PRODUCTS)

    def channels_of_work(self) -> Dim:
        """Channels that each pixel is multiplied for."""
        raise NotImplementedError

    def pointer(self, operand: Operand) -> str:
        """The memory of ``operand``."""
        return self._texts[self.operands.index(operand)]

    def size(self, dim: Dim) -> str:
        """A size of an operand or of the windows, as a number or the parameter that has it."""
        return str(dim) if isinstance(dim, int) else self._sizes[dim]

    def sizes(self, operand: Operand) -> list[str]:
        """All sizes of an operand."""
        return [self.size(n) for n in operand.type.dims]

    def at(self, pointer: str, *offset: str) -> str:
        """The place that many elements behind ``pointer``."""
        return self.fn.offset(pointer, self.i.sum(*offset), f"i{8 * self.bytes}")

    def on_image(self, axis: int, start: str, step: int, limit: str) -> tuple[str, str]:
        """The n below ``limit`` for which ``start + n * step`` lies on the image: from, to below.
        """
        if self.windows.inside(axis):
            return "0", limit
        rest = self.i.less(self.size(self.windows.image[axis]), start)
        first = self.i.parts(self.i.less("0", start), step)
        return first, self.i.least(self.i.parts(rest, step), limit)

    # ---- parts ----------------------------------------------------------------------------------
    @property
    def group(self) -> int:
        """The number of images that are one part."""
        if self.border:
            return numbers(self.border[:1])[0]
        image = dims.product(self.images.type.dims[1:])
        size = image * self.bytes if isinstance(image, int) else 0
        return max(GROUP // size, 1) if size else 1

    def for_groups(self, low: str, high: str, body: Callable[[Part], None]) -> None:
        """Run ``body`` for groups of the images from ``low`` to below ``high``, all their rows."""
        rows = "0", self.size(self.windows.out[0])

        def run(start: str) -> None:
            count = self.i.least(self.i.less(high, start), str(self.group))
            body(self._part((start, count), rows))

        self.fn.loop(low, high, run, step=self.group)

    def for_rows(self, low: str, high: str, body: Callable[[Part], None]) -> None:
        """Run ``body`` for the rows of windows from ``low`` to below ``high``, counted over all
        images, by as many as there is memory for what they see.
        """
        rows = self.i.most(self.size(self.windows.out[0]), "1")
        behind = self.fn.emit(f"udiv i64 {self.i.sum(high, rows, '-1')}, {rows}")

        def image(number: str) -> None:
            before = self.i.times(number, rows)
            first = self.i.most(self.i.less(low, before), "0")
            last = self.i.least(self.i.less(high, before), rows)
            if not self.border or self.border[1] == self.windows.image[0]:
                body(self._part((number, "1"), (first, last)))
            else:
                self._for_bands(number, (first, last), body)

        self.fn.loop(self.fn.emit(f"udiv i64 {low}, {rows}"), behind, image)

    def _for_bands(
        self, image: str, rows: tuple[str, str], body: Callable[[Part], None]
    ) -> None:
        """As many rows of windows at once as scratch has room for what they see."""
        room, reach = self.size(self.border[1]), self._reach()
        stride = self.windows.strides[0]
        fitting = self.i.sum(self.i.whole(self.i.most(self.i.less(room, reach), "0"), stride), "1")
        whole = self.fn.emit(f"icmp eq i64 {room}, {self.size(self.windows.image[0])}")
        all_rows = self.size(self.windows.out[0])
        count = self.i.most(
            self.fn.emit(f"select i1 {whole}, i64 {all_rows}, i64 {fitting}"), "1"
        )
        low, high = rows

        def band(number: str) -> None:
            first = self.i.sum(low, self.i.times(number, count))
            body(self._part((image, "1"), (first, self.i.least(self.i.sum(first, count), high))))

        up = self.i.sum(self.i.most(self.i.less(high, low), "0"), count, "-1")
        self.fn.loop("0", self.fn.emit(f"udiv i64 {up}, {count}"), band)

    def _reach(self) -> str:
        """Rows from the first that a window sees to behind the last."""
        taps, dilation = self.size(self.windows.window[0]), self.windows.dilations[0]
        return self.i.sum(self.i.times(self.i.sum(taps, "-1"), str(dilation)), "1")

    def _part(self, images: tuple[str, str], rows: tuple[str, str]) -> Part:
        """Images (the first, and how many), for rows of windows: where they are, or copied."""
        _, height, width, depth = self.sizes(self.images)
        if self.border:
            stride, low = str(self.windows.strides[0]), self.size(self.windows.low[0])
            top = self.i.less(self.i.times(rows[0], stride), low)
            last = self.i.less(self.i.times(self.i.sum(rows[1], "-1"), stride), low)
            bottom = self.i.least(self.i.sum(last, self._reach()), height)
            return self._copied(images, (self.i.most(top, "0"), bottom), rows)
        pitch, apart = self.i.times(width, depth), self.i.times(height, width, depth)
        return Part(*images, self._image(images[0]), "0", pitch, apart, *rows)

    def _image(self, number: str) -> str:
        sizes = self.sizes(self.images)[1:]
        return self.at(self.pointer(self.images), self.i.times(number, *sizes))

    def for_images(self, part: Part, body: Callable[[str], None]) -> None:
        """Run ``body`` for the number of each image of a part, counted within it."""
        if part.count == "1":
            body("0")
        else:
            self.fn.loop("0", part.count, body)

    def clear_border(self) -> None:
        """Set scratch to 0. That lasts for the border: rows are copied inside."""
        if self.border:
            self.clear(self.scratch, self.i.times(*map(self.size, self.border)))

    def clear(self, pointer: str, elements: str) -> None:
        """Set so many elements to 0."""
        size = self.i.times(elements, str(self.bytes))
        callee = self.fn.module.declare("llvm.memset.p0.i64", "void", "ptr, i8, i64, i1")
        self.fn.call("void", callee, ("ptr", pointer), ("i8", "0"), ("i64", size),
                     ("i1", "false"))

    def _copied(
        self, images: tuple[str, str], seen: tuple[str, str], rows: tuple[str, str]
    ) -> Part:
        """The rows ``seen`` of ``images`` copied between borders."""
        _, _, width, depth = self.sizes(self.images)
        _, room, columns, _ = map(self.size, self.border)
        low = self.size(self.windows.low[1])
        before, cut = self.i.most(low, "0"), self.i.most(self.i.less("0", low), "0")
        kept = self.i.least(self.i.less(width, cut), self.i.less(columns, before))
        size = self.i.times(self.i.most(kept, "0"), depth, str(self.bytes))
        pitch = self.i.times(columns, depth)
        part = Part(*images, self.scratch, seen[0], pitch, self.i.times(room, pitch), *rows)
        inner, skipped = self.i.times(before, depth), self.i.times(cut, depth)
        callee = self.fn.module.declare("llvm.memcpy.p0.p0.i64", "void", "ptr, ptr, i64, i1")

        def image(number: str) -> None:
            pixels = self._image(self.i.sum(images[0], number))
            inside = self.at(self.scratch, self.i.times(number, part.apart), inner)

            def row(y: str) -> None:
                target = self.at(inside, self.i.times(self.i.less(y, seen[0]), pitch))
                source = self.at(pixels, self.i.times(y, width, depth), skipped)
                self.fn.call("void", callee, ("ptr", target), ("ptr", source), ("i64", size),
                             ("i1", "false"))

            self.fn.loop(seen[0], seen[1], row)

        self.for_images(part, image)
        return part

    # ---- tiles ----------------------------------------------------------------------------------
    def multiplied(
        self, numbers: Sequence[str], vectors: Sequence[Lane], sums: Sequence[str]
    ) -> list[str]:
        """The sums of a tile with the products of numbers (by place) and vectors added."""
        following = []
        for i, number in enumerate(numbers):
            spread = self.lanes.splat(self.one.load(number, self.dtype))
            for v, vector in enumerate(vectors):
                total = Lane(self.dtype, sums[i * len(vectors) + v])
                following.append(self.lanes.fma(spread, vector, total).text)
        return following

    def load_block(self, pointer: str, block: Block) -> list[Lane]:
        """The channels of a block, of the pixel or tap at ``pointer``."""
        return [self.load_vector(pointer, v, block) for v in range(block.vectors)]

    def load_vector(self, pointer: str, number: int, block: Block) -> Lane:
        """Vector ``number`` of a block, its missing channels as 0."""
        place = self.at(pointer, str(number * self.lanes.width))
        if not block.partial(number):
            return self.lanes.load(place, self.dtype)
        return self.lanes.load_masked(place, self.dtype, self.lanes.tail_mask(block.rest), 0)

    def store_vector(self, value: Lane, pointer: str, number: int, block: Block) -> None:
        """Store vector ``number`` of a block, without the channels that it misses."""
        place = self.at(pointer, str(number * self.lanes.width))
        if block.partial(number):
            self.lanes.store_masked(value, place, self.lanes.tail_mask(block.rest))
        else:
            self.lanes.store(value, place)
