"""What the kernels of convolutions share: their parameters, images with a border, sums of tiles.

A kernel is a function of its own that takes pointers and the sizes that are not known; convolutions
of the same shape share one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stepforge.codegen.conv_tiles import Block
from stepforge.codegen.lane_core import Lane, storage_bytes
from stepforge.codegen.lanes import LaneBuilder
from stepforge.codegen.llvm import FunctionWriter
from stepforge.codegen.loops import LoopWriter
from stepforge.codegen.size_text import SizeText, is_number
from stepforge.ir.core import Operand
from stepforge.ir.dims import Dim
from stepforge.ir.ops.direct_convolution import GROUP
from stepforge.ir.ops.windows import Windows


@dataclass(frozen=True)
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
    """Base of the kernels. The images are the first of ``operands``, which are all buffers."""

    def __init__(
        self,
        writer: LoopWriter,
        operands: Sequence[Operand],
        scratch: Operand | None,
        windows: Windows,
    ) -> None:
        self.writer, self.operands, self.windows = writer, tuple(operands), windows
        self.images, self.scratch = operands[0], scratch
        self.dtype = operands[0].type.dtype
        self.bytes = storage_bytes(self.dtype)
        sizes: list[Dim] = [n for operand in operands for n in operand.type.dims]
        sizes += [*windows.image, *windows.window, *windows.out, *windows.low]
        unknown = dict.fromkeys(n for n in sizes if not isinstance(n, int))
        self._sizes = {size: f"%s_{i}" for i, size in enumerate(unknown)}
        params = [("ptr", f"p_{i}") for i in range(len(operands))]
        params += [("i64", name[1:]) for name in self._sizes.values()]
        self.fn = FunctionWriter(
            writer.fn.module, "@", "void", params, linkage="internal", attributes="noinline"
        )
        self.one = LaneBuilder(self.fn, 1, writer.target.capabilities)
        self.lanes = self.one  # a kernel takes wider ones
        self.i = SizeText(self.fn)

    def call(self) -> None:
        """End the function, and call it."""
        self.fn.do("ret void")
        text = self.fn.finish()
        name = f"conv_{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
        module = self.writer.fn.module
        callee = module.helper(name, lambda: text.replace("@@(", f"@{name}(", 1))
        args = [("ptr", self.writer.values[operand].pointer) for operand in self.operands]
        args += [("i64", self.writer.dim(size)) for size in self._sizes]
        self.writer.fn.call("void", callee, *args)

    def pointer(self, operand: Operand) -> str:
        """The parameter that is the memory of ``operand``."""
        return f"%p_{self.operands.index(operand)}"

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
    def for_parts(self, body: Callable[[Part], None]) -> None:
        """Run ``body`` for groups of images, or bands of rows of one, that fit the cache."""
        _, height, width, depth = self.sizes(self.images)
        rows = self.size(self.windows.out[0])
        pitch, apart = self.i.times(width, depth), self.i.times(height, width, depth)
        if self.scratch is None:
            size = int(apart) * self.bytes if is_number(apart) else 0
            group = max(GROUP // size, 1) if size else 1
            self._for_groups(group, lambda start, count: body(Part(
                start, count, self._image(start), "0", pitch, apart, "0", rows
            )))
            return
        images: Dim = self.scratch.type.dims[0]
        assert isinstance(images, int)
        if self.scratch.type.dims[1] == self.windows.image[0]:
            self._for_groups(images, lambda start, count: body(
                self._copied((start, count), ("0", height), ("0", rows))
            ))
        else:
            self._for_groups(1, lambda start, count: self._for_bands(start, rows, body))

    def _image(self, number: str) -> str:
        sizes = self.sizes(self.images)[1:]
        return self.at(self.pointer(self.images), self.i.times(number, *sizes))

    def _for_groups(self, group: int, body: Callable[[str, str], None]) -> None:
        """Run ``body(start, count)`` for groups of so many images; the last may have less."""
        batch = self.size(self.images.type.dims[0])

        def run(start: str) -> None:
            body(start, self.i.least(self.i.less(batch, start), str(group)))

        if group == 1:
            self.fn.loop("0", batch, lambda start: body(start, "1"))
        elif is_number(batch) and int(batch) <= group:
            body("0", batch)
        else:
            self.fn.loop("0", batch, run, step=group)

    def _for_bands(self, image: str, rows: str, body: Callable[[Part], None]) -> None:
        """As many rows of windows at once as scratch has room for what they see."""
        assert self.scratch is not None
        stride, low = self.windows.strides[0], self.size(self.windows.low[0])
        height, room = self.size(self.windows.image[0]), self.size(self.scratch.type.dims[1])
        taps, dilation = self.size(self.windows.window[0]), self.windows.dilations[0]
        reach = self.i.sum(self.i.times(self.i.sum(taps, "-1"), str(dilation)), "1")
        fitting = self.i.sum(self.i.whole(self.i.most(self.i.less(room, reach), "0"), stride), "1")
        whole = self.fn.emit(f"icmp eq i64 {room}, {height}")
        count = self.i.most(self.fn.emit(f"select i1 {whole}, i64 {rows}, i64 {fitting}"), "1")

        def band(number: str) -> None:
            first = self.i.times(number, count)
            behind = self.i.least(self.i.sum(first, count), rows)
            top = self.i.less(self.i.times(first, str(stride)), low)
            last = self.i.less(self.i.times(self.i.sum(behind, "-1"), str(stride)), low)
            seen = self.i.most(top, "0"), self.i.least(self.i.sum(last, reach), height)
            body(self._copied((image, "1"), seen, (first, behind)))

        last = self.i.sum(rows, count, "-1")
        self.fn.loop("0", self.fn.emit(f"udiv i64 {last}, {count}"), band)

    def for_images(self, part: Part, body: Callable[[str], None]) -> None:
        """Run ``body`` for the number of each image of a part, counted within it."""
        if part.count == "1":
            body("0")
        else:
            self.fn.loop("0", part.count, body)

    def clear(self, buffer: Operand) -> None:
        """Set a whole buffer to 0. Of scratch that lasts for the border: rows are copied inside."""
        size = self.i.times(*self.sizes(buffer), str(self.bytes))
        callee = self.fn.module.declare("llvm.memset.p0.i64", "void", "ptr, i8, i64, i1")
        self.fn.call("void", callee, ("ptr", self.pointer(buffer)), ("i8", "0"), ("i64", size),
                     ("i1", "false"))

    def _copied(
        self, images: tuple[str, str], seen: tuple[str, str], rows: tuple[str, str]
    ) -> Part:
        """The rows ``seen`` of ``images`` (the first, and how many), copied between borders."""
        assert self.scratch is not None
        start, count = images
        _, _, width, depth = self.sizes(self.images)
        _, room, columns, _ = self.sizes(self.scratch)
        low = self.size(self.windows.low[1])
        before, cut = self.i.most(low, "0"), self.i.most(self.i.less("0", low), "0")
        kept = self.i.least(self.i.less(width, cut), self.i.less(columns, before))
        size = self.i.times(self.i.most(kept, "0"), depth, str(self.bytes))
        pitch = self.i.times(columns, depth)
        scratch = self.pointer(self.scratch)
        part = Part(start, count, scratch, seen[0], pitch, self.i.times(room, pitch), *rows)
        inner, skipped = self.i.times(before, depth), self.i.times(cut, depth)
        callee = self.fn.module.declare("llvm.memcpy.p0.p0.i64", "void", "ptr, ptr, i64, i1")

        def image(number: str) -> None:
            pixels = self._image(self.i.sum(start, number))
            inside = self.at(scratch, self.i.times(number, part.apart), inner)

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
