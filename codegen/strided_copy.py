"""Copies of large strided arrays to contiguous memory, as LLVM: optimised, and made when needed.

The shared code of entries has a copy of its own for small arrays, which is compiled in no time and
runs as slowly. This one moves rows whose elements lie side by side as a whole, transposed matrices
by tiles in registers, and other pairs of axes in blocks, so that each line of memory is read once.
"""

from __future__ import annotations

from stepforge.codegen.llvm import FunctionWriter, ModuleWriter
from stepforge.codegen.target import Target
from stepforge.codegen.transpose import emit_transpose

NAME = "strided_copy"
LEAST_BYTES = 1 << 16  # of an array that this copy is for
SIZES = (1, 2, 4, 8, 16)
BLOCK = 16  # elements of a side of a block: a cache line of f32
PARAMS = (("ptr", "target"), ("ptr", "source"), ("i64", "rank"), ("ptr", "dims"),
          ("ptr", "strides"), ("i64", "size"))  # fmt: skip


def emit(module: ModuleWriter, target: Target) -> str:
    """Define ``ptr @strided_copy(target, source, rank, dims, strides, size)``.

    ``size`` are the bytes of an element, ``strides`` are in bytes; the end of what was written is
    returned.
    """
    for size in SIZES:
        _emit_sized(module, target, size)
    fn = FunctionWriter(module, NAME, "ptr", PARAMS)
    rest = [(type_, f"%{name}") for type_, name in PARAMS[:-1]]
    for size in SIZES:
        _returning(fn, fn.emit(f"icmp eq i64 %size, {size}"), f"@{NAME}_{size}", rest)
    fn.do("unreachable")
    return fn.define()


def _returning(
    fn: FunctionWriter, condition: str, callee: str, arguments: list[tuple[str, str]]
) -> None:
    """Return what ``callee`` does where ``condition`` holds."""
    yes, no = fn.label("yes"), fn.label("no")
    fn.branch_if(condition, yes, no)
    fn.start(yes)
    fn.do(f"ret ptr {fn.call('ptr', callee, *arguments)}")
    fn.start(no)


def _emit_sized(module: ModuleWriter, target: Target, size: int) -> None:
    """The copy for elements of ``size`` bytes: planes of the last two axes, one by one."""
    name = f"{NAME}_{size}"
    plane = _emit_plane(module, target, size)
    fn = FunctionWriter(module, name, "ptr", PARAMS[:-1], linkage="internal")
    count, stride = fn.load("i64", "%dims"), fn.load("i64", "%strides")
    column = [("i64", "1"), ("i64", count), ("i64", "0"), ("i64", stride)]
    ends = [("ptr", "%target"), ("ptr", "%source")]
    _returning(fn, fn.emit("icmp eq i64 %rank, 1"), plane, [*ends, *column])
    inner, inner_stride = fn.load("i64", "%dims", 8), fn.load("i64", "%strides", 8)
    both = [("i64", count), ("i64", inner), ("i64", stride), ("i64", inner_stride)]
    _returning(fn, fn.emit("icmp eq i64 %rank, 2"), plane, [*ends, *both])
    arguments = [("i64", fn.emit("sub i64 %rank, 1"))]
    arguments += [("ptr", fn.offset("%dims", 8)), ("ptr", fn.offset("%strides", 8))]

    def body(i: str, at: str) -> list[str]:
        source = fn.offset("%source", fn.emit(f"mul i64 {i}, {stride}"))
        return [fn.call("ptr", f"@{name}", ("ptr", at), ("ptr", source), *arguments)]

    (end,) = fn.loop(0, count, body, carried=[("ptr", "%target")])
    fn.do(f"ret ptr {end}")
    fn.define()


def _emit_plane(module: ModuleWriter, target: Target, size: int) -> str:
    """``plane(target, source, rows, columns, row stride, column stride)`` in the best way."""
    names = ("rows", "columns", "down", "across")
    params = [("ptr", "target"), ("ptr", "source"), *(("i64", name) for name in names)]
    fn = FunctionWriter(module, f"plane_{size}", "ptr", params, linkage="internal")
    whole = fn.emit("mul i64 %rows, %columns")
    end = fn.offset("%target", fn.emit(f"mul i64 {whole}, {size}"))
    dense, other, tiles = fn.label("dense"), fn.label("other"), fn.label("tiles")
    plain, blocks, lines, out = (fn.label(n) for n in ("plain", "blocks", "lines", "out"))
    fn.branch_if(fn.emit(f"icmp eq i64 %across, {size}"), dense, other)
    fn.start(dense)
    _rows(fn, size)
    fn.branch(out)
    fn.start(other)
    pitch = fn.emit(f"mul i64 %rows, {size}")
    matrix = fn.emit(f"icmp eq i64 %across, {pitch}")
    upright = fn.emit(f"icmp eq i64 %down, {size}")
    address = fn.emit("ptrtoint ptr %source to i64")
    aligned = fn.emit(f"icmp eq i64 {fn.emit(f'and i64 {address}, {size - 1}')}, 0")
    transposed = fn.emit(f"and i1 {fn.emit(f'and i1 {matrix}, {upright}')}, {aligned}")
    fn.branch_if(transposed, tiles, plain)
    fn.start(tiles)
    emit_transpose(fn, target, size, "%source", "%target", "%columns", "%rows")
    fn.branch(out)
    fn.start(plain)
    steep = fn.emit(f"icmp slt i64 {_absolute(fn, '%down')}, {_absolute(fn, '%across')}")
    fn.branch_if(steep, blocks, lines)
    fn.start(lines)
    fn.loop(0, "%rows", lambda i: _line(fn, size, i, "0", "%columns"))
    fn.branch(out)
    fn.start(blocks)
    _blocks(fn, size)
    fn.branch(out)
    fn.start(out)
    fn.do(f"ret ptr {end}")
    return fn.define()


def _absolute(fn: FunctionWriter, value: str) -> str:
    return fn.intrinsic("smax", "i64", "i64", value, fn.emit(f"sub i64 0, {value}"))


def _rows(fn: FunctionWriter, size: int) -> None:
    """Rows whose elements lie side by side."""
    length = fn.emit(f"mul i64 %columns, {size}")
    copy = fn.module.declare("llvm.memcpy.p0.p0.i64", "void", "ptr, ptr, i64, i1")

    def row(i: str) -> None:
        target = fn.offset("%target", fn.emit(f"mul i64 {i}, {length}"))
        source = fn.offset("%source", fn.emit(f"mul i64 {i}, %down"))
        fn.call("void", copy, ("ptr", target), ("ptr", source), ("i64", length), ("i1", "false"))

    fn.loop(0, "%rows", row)


def _line(fn: FunctionWriter, size: int, i: str, first: str, behind: str) -> None:
    """The elements of row ``i`` from column ``first`` on, one by one."""
    type_ = f"i{8 * size}"
    row = fn.offset("%source", fn.emit(f"mul i64 {i}, %down"))
    start = fn.offset("%target", fn.emit(f"mul i64 {i}, %columns"), type_)

    def element(j: str) -> None:
        source = fn.offset(row, fn.emit(f"mul i64 {j}, %across"))
        value = fn.load(type_, source, extra=", align 1")  # such feeds need not be aligned
        fn.store(type_, value, fn.offset(start, j, type_), extra=f", align {min(size, 8)}")

    fn.loop(first, behind, element, followed=True)


def _blocks(fn: FunctionWriter, size: int) -> None:
    """A few columns of all rows at a time: what a line of memory has is used while it is near."""

    def columns(first: str) -> None:
        following = fn.emit(f"add i64 {first}, {BLOCK}")
        behind = fn.intrinsic("smin", "i64", "i64", following, "%columns")
        fn.loop(0, "%rows", lambda i: _line(fn, size, i, first, behind))

    fn.loop(0, "%columns", columns, step=BLOCK)
