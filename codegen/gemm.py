"""Matrix products: which of the ways to compute one is the fastest, and the calls of it.

Products with a vector, register tiles, and the BLAS that NumPy brought, found through the step's
table. ``docs/matmul.md`` has the measurements behind the rule. It looks at sizes only, so results
depend neither on the number of threads nor on what else runs; where sizes are not known before, the
step decides as it runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepforge.codegen.gemm_blocks import blocks
from stepforge.codegen.gemm_epilogue import Epilogue, Spread, rows_pass
from stepforge.codegen.gemm_library import ROUTINES, library_product
from stepforge.codegen.gemm_shapes import TileShape, tile_shape
from stepforge.codegen.gemm_share import (
    Cut,
    cut_of,
    may_share,
    numbers_of,
    of_sizes,
    shared,
    worth_sharing,
)
from stepforge.codegen.gemm_tiles import Kind
from stepforge.codegen.gemm_vector import VectorKind, vector_product
from stepforge.codegen.lane_core import storage_bytes
from stepforge.codegen.llvm import FunctionWriter
from stepforge.codegen.nests import NestWriter
from stepforge.codegen.target import Target
from stepforge.ir import products
from stepforge.ir.core import Operation
from stepforge.ir.records import record


@record(frozen=True)
class Product:
    """``c[m, n] = epilogue(a @ b)``, where a is [m, k] or its transpose in memory.

    Sizes are i64 texts: digits where they are known. ``operands`` are the epilogue's pointers.
    """

    dtype: str
    m: str
    n: str
    k: str
    transpose_a: bool
    transpose_b: bool
    epilogue: Epilogue | None = None
    operands: Sequence[str] = ()

    @property
    def sizes(self) -> tuple[str, str, str]:
        """Rows, columns and depth."""
        return self.m, self.n, self.k


@record(frozen=True)
class Memory:
    """The matrices of a product, scratch memory as ``ir.products`` says, and the step's table."""

    table: str
    a: str
    b: str
    c: str
    scratch: str


def emit_gemm(writer: NestWriter, op: Operation) -> None:
    """Write a ``gemm`` op."""
    fn, text = writer.fn, writer.dim
    a, b, c, scratch, *operands = (writer.values[operand] for operand in op.operands)
    m, n = c.type.dims
    spreads = [
        Spread(o.type.dtype, rows=o.type.dims[0] == m, columns=o.type.dims[1] == n)
        for o in operands
    ]
    product = Product(
        c.type.dtype,
        text(m),
        text(n),
        text(a.type.dims[0 if op.attr("transpose_a") else 1]),
        op.attr("transpose_a"),
        op.attr("transpose_b"),
        Epilogue.of(fn.module, op, spreads),
        [o.pointer for o in operands],
    )
    memory = Memory(writer.table(), a.pointer, b.pointer, c.pointer, scratch.pointer)
    calls = _Calls(fn, writer.target, product, memory, threads=writer.threads)
    if product.n == "1":
        calls.column()
        return
    writer.shares = writer.shares or (product.m != "1" and calls.shares)
    fn.either(_is(fn, product.m, 1), calls.row, calls.matrix)


def _is(fn: FunctionWriter, size: str, value: int) -> str:
    if size.isdigit():
        return "true" if int(size) == value else "false"
    return fn.emit(f"icmp eq i64 {size}, {value}")


@record(frozen=True)
class _Calls:
    fn: FunctionWriter
    target: Target
    product: Product
    memory: Memory
    threads: bool

    # ---- products with a vector -----------------------------------------------------------------
    def row(self) -> None:
        """One row of c."""
        product, memory = self.product, self.memory
        kind = VectorKind(product.dtype, product.transpose_b, product.epilogue)
        self._vector(kind, memory.a, memory.b, product.n)

    def column(self) -> None:
        """One column of c, which is a row of its transpose."""
        product, memory = self.product, self.memory
        epilogue = product.epilogue and product.epilogue.turned
        kind = VectorKind(product.dtype, not product.transpose_a, epilogue)
        self._vector(kind, memory.b, memory.a, product.m)

    def _vector(self, kind: VectorKind, x: str, matrix: str, n: str) -> None:
        kind = kind.of_sizes(n, self.product.k)
        callee = vector_product(self.fn.module, self.target, kind)
        self._call(callee, (x, matrix, self.memory.c), (n, self.product.k))

    # ---- other products -------------------------------------------------------------------------
    def matrix(self) -> None:
        """By tiles, or by the library where that is faster."""
        self.fn.either(self._for_library(), self._library, self._tiles)

    def _for_library(self) -> str:
        fn, product = self.fn, self.product
        sizes = product.sizes
        if any(size.isdigit() and int(size) < products.LIBRARY_FROM for size in sizes):
            return "false"
        routine = fn.load("ptr", self.memory.table, 8 * ROUTINES[product.dtype][1])
        chosen = fn.emit(f"icmp ne ptr {routine}, null")
        for size in sizes:
            if not size.isdigit():
                large = fn.emit(f"icmp sge i64 {size}, {products.LIBRARY_FROM}")
                chosen = fn.emit(f"and i1 {chosen}, {large}")
        return chosen

    def _library(self) -> None:
        product, memory, fn = self.product, self.memory, self.fn
        callee = library_product(fn.module, product.dtype, product.transpose_a, product.transpose_b)
        pointers = [("ptr", p) for p in (memory.table, memory.a, memory.b, memory.c)]
        sizes = [("i64", n) for n in product.sizes]
        fn.call("void", callee, *pointers, *sizes)
        if product.epilogue is not None:
            finish = rows_pass(fn.module, self.target, product.dtype, product.epilogue)
            self._call(finish, (memory.c,), (product.m, product.n, product.n))

    def _tiles(self) -> None:
        """In one piece, or by parts on the pool where there is enough to do."""
        fn, product, memory, cut = self.fn, self.product, self.memory, self._cut()
        callee = blocks(fn.module, self.target, self._kind())
        matrices, sizes = (memory.a, memory.b, memory.c), product.sizes

        def share() -> None:
            module, count = fn.module, len(product.operands)
            part = of_sizes(module, callee, sizes, count, cut)
            pointers = (memory.table, numbers_of(module, cut), part, *matrices)
            self._call(shared(module, count), pointers, sizes)

        def alone() -> None:
            bounds = ("0", product.m, "0", product.n)
            self._call(callee, (*matrices, memory.scratch), (*sizes, *bounds))

        worth = worth_sharing(fn, memory.table, sizes, cut) if self.shares else "false"
        fn.either(worth, share, alone)

    def _kind(self) -> Kind:
        product, shape, n = self.product, self._shape(), self.product.n
        return Kind(
            product.dtype,
            product.transpose_a,
            product.transpose_b,
            whole=n.isdigit() and int(n) % shape.width == 0,
            narrow=n.isdigit() and 0 < int(n) <= shape.lanes,
            deep=not product.k.isdigit() or int(product.k) > products.DEPTH,
            epilogue=product.epilogue,
        )

    def _shape(self) -> TileShape:
        return tile_shape(self.target, self.product.dtype)

    @property
    def shares(self) -> bool:
        """Whether threads may share the product: sizes that are known may say that it is small."""
        return self.threads and may_share(self.product.sizes, self._cut())

    def _cut(self) -> Cut:
        product = self.product
        item, width = storage_bytes(product.dtype), self._shape().width
        flags = {"transpose_a": product.transpose_a, "transpose_b": product.transpose_b}
        return cut_of(item, width, product.n, **flags)

    def _call(self, callee: str, pointers: Sequence[str], sizes: Sequence[str]) -> None:
        arguments = [("ptr", p) for p in pointers] + [("i64", n) for n in sizes]
        operands = [("ptr", p) for p in self.product.operands]
        self.fn.call("void", callee, *arguments, *operands)
