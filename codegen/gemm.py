"""Matrix products: a call of the BLAS that NumPy brought, found through the step's table.

Row-major CBLAS with 64-bit sizes. A product with a vector is a ``gemv``. Where the process has no
such BLAS the table holds null, and plain loops do it.
"""

from __future__ import annotations

from dataclasses import dataclass

from stepforge.codegen.llvm import LIKELY, FunctionWriter, ModuleWriter, float_literal

ROW_MAJOR, PLAIN, TRANSPOSED = "101", "111", "112"
# dtype -> (LLVM type, table index of gemm, of gemv)
ROUTINES = {"f32": ("float", 6, 8), "f64": ("double", 7, 9)}


@dataclass(frozen=True, slots=True)
class Product:
    """``c[m, n] = a @ b``, where a is [m, k] or its transpose in memory; sizes are i64 texts."""

    dtype: str
    m: str
    n: str
    k: str
    transpose_a: bool
    transpose_b: bool

    @property
    def key(self) -> str:
        """A name for the helper of this kind of product."""
        return f"{self.dtype}_{int(self.transpose_a)}{int(self.transpose_b)}"


def emit_product(fn: FunctionWriter, table: str, product: Product, a: str, b: str, c: str) -> None:
    """Write ``c = a @ b`` for matrices of at least one row each."""
    name = f"gemm_{product.key}"
    callee = fn.module.helper(name, lambda: _helper(fn.module, name, product))
    fn.call(
        "void",
        callee,
        ("ptr", table),
        ("ptr", a),
        ("ptr", b),
        ("ptr", c),
        ("i64", product.m),
        ("i64", product.n),
        ("i64", product.k),
    )


def _helper(module: ModuleWriter, name: str, product: Product) -> str:
    params = [("ptr", p) for p in ("table", "a", "b", "c")] + [("i64", p) for p in "mnk"]
    fn = FunctionWriter(module, name, "void", params, linkage="internal", attributes="noinline")
    _, gemm, gemv = ROUTINES[product.dtype]
    routine = fn.load("ptr", "%table", 8 * gemm)
    library, loops, column, matrix = (fn.label(n) for n in ("library", "loops", "column", "matrix"))
    fn.branch_if(fn.emit(f"icmp ne ptr {routine}, null"), library, loops, LIKELY)
    fn.start(library)
    fn.branch_if(fn.emit("icmp eq i64 %n, 1"), column, matrix)
    fn.start(column)
    _call_gemv(fn, fn.load("ptr", "%table", 8 * gemv), product)
    fn.do("ret void")
    fn.start(matrix)
    _call_gemm(fn, routine, product)
    fn.do("ret void")
    fn.start(loops)
    _loops(fn, product)
    fn.do("ret void")
    return fn.finish()


def _leading(fn: FunctionWriter, columns: str) -> str:
    return fn.intrinsic("smax", "i64", "i64", columns, "1")


def _call_gemm(fn: FunctionWriter, routine: str, product: Product) -> None:
    type_ = ROUTINES[product.dtype][0]
    one, zero = float_literal(1.0, type_), float_literal(0.0, type_)
    lda = _leading(fn, "%m" if product.transpose_a else "%k")
    ldb = _leading(fn, "%k" if product.transpose_b else "%n")
    fn.call(
        "void",
        routine,
        ("i32", ROW_MAJOR),
        ("i32", TRANSPOSED if product.transpose_a else PLAIN),
        ("i32", TRANSPOSED if product.transpose_b else PLAIN),
        ("i64", "%m"),
        ("i64", "%n"),
        ("i64", "%k"),
        (type_, one),
        ("ptr", "%a"),
        ("i64", lda),
        ("ptr", "%b"),
        ("i64", ldb),
        (type_, zero),
        ("ptr", "%c"),
        ("i64", _leading(fn, "%n")),
    )


def _call_gemv(fn: FunctionWriter, routine: str, product: Product) -> None:
    """``c = a @ b`` where b is one column: contiguous however it is transposed."""
    type_ = ROUTINES[product.dtype][0]
    one, zero = float_literal(1.0, type_), float_literal(0.0, type_)
    rows, columns = ("%k", "%m") if product.transpose_a else ("%m", "%k")
    fn.call(
        "void",
        routine,
        ("i32", ROW_MAJOR),
        ("i32", TRANSPOSED if product.transpose_a else PLAIN),
        ("i64", rows),
        ("i64", columns),
        (type_, one),
        ("ptr", "%a"),
        ("i64", _leading(fn, columns)),
        ("ptr", "%b"),
        ("i64", "1"),
        (type_, zero),
        ("ptr", "%c"),
        ("i64", "1"),
    )


def _loops(fn: FunctionWriter, product: Product) -> None:
    type_ = ROUTINES[product.dtype][0]

    def element(base: str, row: str, column: str, width: str, transposed: bool) -> str:
        major, minor = (column, row) if transposed else (row, column)
        at = fn.emit(f"add i64 {fn.emit(f'mul i64 {major}, {width}')}, {minor}")
        return fn.offset(base, at, type_)

    def rows(i: str) -> None:
        def columns(j: str) -> None:
            def depth(p: str, total: str) -> list[str]:
                width_a = "%m" if product.transpose_a else "%k"
                width_b = "%k" if product.transpose_b else "%n"
                left = fn.load(type_, element("%a", i, p, width_a, product.transpose_a))
                right = fn.load(type_, element("%b", p, j, width_b, product.transpose_b))
                part = fn.emit(f"fmul contract {type_} {left}, {right}")
                return [fn.emit(f"fadd contract {type_} {total}, {part}")]

            (total,) = fn.loop("0", "%k", depth, carried=[(type_, float_literal(0.0, type_))])
            fn.store(type_, total, element("%c", i, j, "%n", False))

        fn.loop("0", "%n", columns)

    fn.loop("0", "%m", rows)
