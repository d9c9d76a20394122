"""Products by tiles that are shared out among the threads of the pool.

A chunk is some rows of the result, or some columns where rows are few, and packs into memory on
its thread's stack. How a product is cut depends on its sizes alone, and every element is the same
chain of sums wherever it is computed. All products with as many operands share what cuts them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple

from stepforge.codegen import signature as abi
from stepforge.codegen.llvm import AS_WRITTEN, NO_UNROLL, FunctionWriter, ModuleWriter
from stepforge.codegen.sharing import JOB, PARALLEL_WORK, Turns, job_arguments, run_job
from stepforge.ir import products
from stepforge.ir.records import record

# What a chunk packs for itself is worth it for so many times as much: all of b's panels where rows
# are cut, which costs more where they are turned, and an a' where columns are.
_TURNED, _PACKED = 4, 4
_NEVER = 1 << 62  # columns that no product has
_MATRICES, _SIZES = ("a", "b", "c"), ("m", "n", "k")
_RANGE = ("first", "behind", "left", "right")


@record(frozen=True)
class Cut:
    """How a kind of product is cut: not at all below ``least`` multiplications.

    Chunks are multiples of ``rows``, where there are more units of these than of ``columns``, else
    of ``columns``. A thread works on ``block`` rows at a time.
    """

    rows: int
    columns: int
    block: int
    least: int

    @property
    def by_rows(self) -> bool:
        """True where columns never are cut."""
        return self.columns == _NEVER


def cut_of(item: int, width: int, n: str, *, transpose_a: bool, transpose_b: bool) -> Cut:
    """For elements of ``item`` bytes and tiles of ``width`` columns."""
    packed = products.SHARED_BLOCK // (products.DEPTH * item)
    return Cut(
        products.UNIT_ROWS * (_TURNED if transpose_b else 1),
        _NEVER if n.isdigit() and int(n) <= width else width * (_PACKED if transpose_a else 1),
        packed if transpose_a else products.ROWS,
        products.shared_from(item),
    )


def may_share(sizes: Sequence[str], cut: Cut) -> bool:
    """False where sizes that are known say that a product is too small."""
    return not all(map(str.isdigit, sizes)) or math.prod(map(int, sizes)) >= cut.least


def worth_sharing(fn: FunctionWriter, table: str, sizes: Sequence[str], cut: Cut) -> str:
    """An i1: whether there is a pool, and enough for it to do."""
    work = str(math.prod(int(size) for size in sizes if size.isdigit()))
    for size in sizes:
        if not size.isdigit():
            work = fn.emit(f"mul i64 {size}, {work}")
    enough = fn.emit(f"icmp sge i64 {work}, {cut.least}")
    pool = fn.load("ptr", table, 8 * abi.TABLE_POOL)
    return fn.emit(f"and i1 {enough}, {fn.emit(f'icmp ne ptr {pool}, null')}")


def shared(module: ModuleWriter, operands: int) -> str:
    """The function ``(table, cut, product, a, b, c, m, n, k, operands...)`` that has ``product``, a
    function of ``gemm_blocks``, called for parts; ``cut`` is the numbers of a ``Cut`` in memory.
    """
    name = f"products_{operands}"
    return module.helper(name, lambda: _shared(module, name, operands))


def numbers_of(module: ModuleWriter, cut: Cut) -> str:
    """The numbers of a cut in memory."""
    numbers = astuple(cut)
    text = ", ".join(f"i64 {number}" for number in numbers)
    return module.constant(f"cut_{'_'.join(map(str, numbers))}", f"[{len(numbers)} x i64] [{text}]")


def of_sizes(
    module: ModuleWriter, callee: str, sizes: Sequence[str], operands: int, cut: Cut
) -> str:
    """A function in place of ``callee`` that calls it with the sizes that are known.

    So all calls of ``callee`` give the same sizes, and LLVM makes it for these.
    """
    pairs = zip(_SIZES, sizes, strict=True)
    known = {param: size for param, size in pairs if size.isdigit()}
    if not known:
        return callee
    name = f"{callee[1:]}_of_{'_'.join(known.get(param, '') for param in _SIZES)}"
    if cut.by_rows:
        known |= {"left": "0", "right": known["n"]}

    def text() -> str:
        own = [*_pointers(_MATRICES), ("ptr", "scratch"), *_numbers(_SIZES), *_numbers(_RANGE)]
        fn = _function(module, name, [*own, *_operands(operands)])
        given = [(type_, known.get(p, f"%{p}")) for type_, p in (*own, *_operands(operands))]
        fn.call("void", callee, *given)
        fn.do("ret void")
        return fn.finish()

    return module.helper(name, text)


def _pointers(names: Sequence[str]) -> list[tuple[str, str]]:
    return [("ptr", name) for name in names]


def _numbers(names: Sequence[str]) -> list[tuple[str, str]]:
    return [("i64", name) for name in names]


def _operands(count: int) -> list[tuple[str, str]]:
    return _pointers([f"e{i}" for i in range(count)])


def _function(
    module: ModuleWriter, name: str, params: Sequence[tuple[str, str]]
) -> FunctionWriter:
    return FunctionWriter(module, name, "void", params, linkage="internal", attributes=AS_WRITTEN)


def _shared(module: ModuleWriter, name: str, operands: int) -> str:
    own = [*_pointers(("product", *_MATRICES)), *_numbers(_SIZES), *_operands(operands)]
    fn = _function(module, name, [*_pointers(("table", "cut")), *own])
    rows, columns, _, least = (fn.load("i64", "%cut", 8 * i) for i in range(4))
    units = (fn.emit(f"sdiv i64 %m, {rows}"), fn.emit(f"sdiv i64 %n, {columns}"))
    several = fn.emit(f"icmp sgt i64 %m, {rows}")
    by_rows = fn.emit(f"and i1 {several}, {fn.emit(f'icmp sge i64 {units[0]}, {units[1]}')}")
    extent = fn.emit(f"select i1 {by_rows}, i64 %m, i64 %n")
    unit = fn.emit(f"select i1 {by_rows}, i64 {rows}, i64 {columns}")
    work = fn.emit(f"mul i64 {fn.emit('mul i64 %m, %n')}, %k")
    pieces = fn.emit(f"sdiv i64 {work}, {fn.emit(f'lshr i64 {least}, 1')}")
    most = fn.intrinsic("smin", "i64", "i64", pieces, str(products.CHUNKS))
    chunk = fn.quotient_up(fn.quotient_up(extent, most), unit)
    nanoseconds = fn.emit(f"sdiv i64 {work}, {fn.emit(f'sdiv i64 {least}, {PARALLEL_WORK}')}")
    cells = [*((type_, f"%{param}") for type_, param in own), ("ptr", "%cut")]
    cells += [("i64", fn.emit(f"zext i1 {by_rows} to i64")), ("i64", unit)]
    types = [type_ for type_, _ in cells]
    job = module.helper(f"{name}_job", lambda: _job(module, f"{name}_job", types))
    turns = Turns("0", fn.quotient_up(extent, unit), nanoseconds, chunk)
    run_job(fn, "%table", job, fn.in_memory(cells), turns)
    fn.do("ret void")
    return fn.finish()


def _job(module: ModuleWriter, name: str, types: Sequence[str]) -> str:
    """``job(arguments, first, behind)``: some units of rows or columns, some rows at a time."""
    fn = _function(module, name, JOB)
    cells = list(zip(types, job_arguments(fn, types), strict=True))
    (_, product), *matrices = cells[:4]
    sizes, operands = cells[4:7], cells[7:-3]
    (_, cut), (_, flag), (_, unit) = cells[-3:]
    (_, m), (_, n), _ = sizes
    block = fn.load("i64", cut, 8 * 2)
    scratch = fn.alloca("i8", products.PANEL_BYTES + products.SHARED_BLOCK, 64)
    low, high = (fn.emit(f"mul i64 {turn}, {unit}") for turn in ("%first", "%behind"))

    def bounds(size: str, chosen: str) -> tuple[str, str]:
        end = fn.intrinsic("smin", "i64", "i64", high, size)
        start = fn.emit(f"select i1 {chosen}, i64 {low}, i64 0")
        return start, fn.emit(f"select i1 {chosen}, i64 {end}, i64 {size}")

    first, behind = bounds(m, fn.emit(f"icmp ne i64 {flag}, 0"))
    left, right = bounds(n, fn.emit(f"icmp eq i64 {flag}, 0"))

    def some(row: str) -> None:
        end = fn.intrinsic("smin", "i64", "i64", fn.emit(f"add i64 {row}, {block}"), behind)
        ranges = [("i64", text) for text in (row, end, left, right)]
        fn.call("void", product, *matrices, ("ptr", scratch), *sizes, *ranges, *operands)

    fn.loop(first, behind, some, step=block, metadata=NO_UNROLL)
    fn.do("ret void")
    return fn.finish()
