"""Packing: parts of the operands of a product, copied so that a tile reads them one after another.

A panel of b is ``depth`` rows of a tile's width; a panel of a transposed a is ``depth`` times the
elements of a tile's rows. A transposed b is turned in registers, square by square.
"""

from __future__ import annotations

from stepforge.codegen.gemm_shapes import load, shuffled, tile_shape
from stepforge.codegen.lane_core import Lane, bits_of, register_element, storage_bytes
from stepforge.codegen.lanes import LaneBuilder
from stepforge.codegen.llvm import NO_UNROLL, FunctionWriter, ModuleWriter
from stepforge.codegen.target import Target

LARGEST_SQUARE = 256  # bits of a row; what is wider takes shuffles that no processor has


def copy_panel(
    k: LaneBuilder, dtype: str, source: str, into: str, stride: str, depth: str, mask: Lane | None
) -> None:
    """Write the loop that copies ``depth`` rows of ``k.width`` elements, ``stride`` apart."""
    fn, element = k.fn, register_element(dtype)

    def row(p: str) -> None:
        pointer = fn.offset(source, fn.emit(f"mul i64 {p}, {stride}"), element)
        found = load(k, pointer, dtype, mask)
        k.store(found, fn.offset(into, fn.emit(f"mul i64 {p}, {k.width}"), element))

    fn.loop("0", depth, row, metadata=NO_UNROLL)


def copy_columns(
    fn: FunctionWriter, dtype: str, count: int, source: str, into: str, stride: str, depth: str,
    rows: str,
) -> None:
    """Write the loops that pack ``rows // count`` panels of a transposed a, ``count`` rows each."""
    element, align = register_element(dtype), storage_bytes(dtype)
    type_ = f"<{count} x {element}>"

    def panel(i: str) -> None:
        start = fn.offset(source, i, element)
        packed = fn.offset(into, fn.emit(f"mul i64 {i}, {depth}"), element)

        def step(p: str) -> None:
            pointer = fn.offset(start, fn.emit(f"mul i64 {p}, {stride}"), element)
            found = fn.emit(f"load {type_}, ptr {pointer}, align {align}")
            place = fn.offset(packed, fn.emit(f"mul i64 {p}, {count}"), element)
            fn.do(f"store {type_} {found}, ptr {place}, align {align}")

        fn.loop("0", depth, step, metadata=NO_UNROLL)

    full = fn.emit(f"sub i64 {rows}, {count - 1}")
    fn.loop("0", full, panel, step=count, metadata=NO_UNROLL)


def turned_panel(module: ModuleWriter, target: Target, dtype: str) -> str:
    """A function ``(source, into, stride, depth, columns, width)`` that packs a transposed b.

    ``source`` has a row of ``depth`` elements for each of at least one ``columns``; they become
    columns of ``into``, which has rows of ``width``. Behind the last column that one is repeated;
    behind the last row some more are written, less than ``GRAIN``.
    """
    name = f"turned_{dtype}"
    return module.helper(name, lambda: _turned_panel(module, name, target, dtype))


def _turned_panel(module: ModuleWriter, name: str, target: Target, dtype: str) -> str:
    sizes = ("stride", "depth", "columns", "width")
    params = [("ptr", "source"), ("ptr", "into"), *[("i64", s) for s in sizes]]
    fn = FunctionWriter(module, name, "void", params, linkage="internal", attributes="noinline")
    k = LaneBuilder(fn, min(target.vector_bits, LARGEST_SQUARE) // bits_of(dtype))
    element = register_element(dtype)
    last = fn.emit("sub i64 %columns, 1")
    masks = tile_shape(target, dtype).masks

    def columns(column: str) -> None:
        starts = []
        for r in range(k.width):
            place = fn.intrinsic("smin", "i64", "i64", fn.emit(f"add i64 {column}, {r}"), last)
            starts.append(fn.offset("%source", fn.emit(f"mul i64 {place}, %stride"), element))

        def square(p: str, mask: Lane | None = None) -> None:
            rows = [load(k, fn.offset(start, p, element), dtype, mask) for start in starts]
            into = fn.offset("%into", fn.emit(f"mul i64 {p}, %width"), element)
            into = fn.offset(into, column, element)
            for lane in transposed(k, rows):
                k.store(lane, into)
                into = fn.offset(into, "%width", element)

        def masked(p: str) -> None:
            square(p, k.tail_mask(fn.emit(f"sub i64 %depth, {p}")))

        if masks:
            fn.loop("0", "%depth", masked, step=k.width, metadata=NO_UNROLL)
            return
        full = fn.emit(f"and i64 %depth, {-k.width}")
        fn.loop("0", full, square, step=k.width, metadata=NO_UNROLL)
        fn.loop(full, "%depth", masked, step=k.width, metadata=NO_UNROLL)

    fn.loop("0", "%width", columns, step=k.width, metadata=NO_UNROLL)
    fn.do("ret void")
    return fn.finish()


def transposed(k: LaneBuilder, rows: list[Lane]) -> list[Lane]:
    """The columns of a square of registers, in steps that are one instruction for each register.

    First what lies within 128 bits, by zipping rows in units of 1, 2, ... elements; then halves.
    Of four columns in 128 bits the second and the third come out in each other's place.
    """
    within = min(128 // bits_of(rows[0].dtype), k.width)
    unit = 1
    while unit < k.width:
        span = within if unit < within else k.width
        low, high = _zip(k.width, unit, span, 0), _zip(k.width, unit, span, 1)
        following = list(rows)
        for i in range(k.width):
            if not i & unit:
                a, b = rows[i], rows[i + unit]
                following[i], following[i + unit] = (
                    shuffled(k, a, b.text, low), shuffled(k, a, b.text, high)
                )
        rows = following
        unit *= 2
    return [rows[i ^ 3 if within == 4 and i & 3 in (1, 2) else i] for i in range(k.width)]


def _zip(width: int, unit: int, span: int, half: int) -> list[int]:
    """Of each ``span`` elements the lower or upper half, of a and b in turns of ``unit``."""
    picks = []
    for start in range(0, width, span):
        for first in range(0, span // 2, unit):
            place = start + half * (span // 2) + first
            picks += [place + i for i in range(unit)] + [width + place + i for i in range(unit)]
    return picks
