"""Matrix products by the BLAS that NumPy brought: row-major CBLAS with 64-bit sizes."""

from __future__ import annotations

from stepforge.codegen.llvm import FunctionWriter, ModuleWriter, float_literal

ROW_MAJOR, PLAIN, TRANSPOSED = "101", "111", "112"
# dtype -> (LLVM type, index of the routine in the step's table)
ROUTINES = {"f32": ("float", 6), "f64": ("double", 7)}


def library_product(
    module: ModuleWriter, dtype: str, transpose_a: bool, transpose_b: bool
) -> str:
    """The function ``(table, a, b, c, m, n, k)`` that calls the routine, which must be there."""
    name = f"library_{dtype}_{int(transpose_a)}{int(transpose_b)}"
    return module.helper(name, lambda: _call(module, name, dtype, transpose_a, transpose_b))


def _call(
    module: ModuleWriter, name: str, dtype: str, transpose_a: bool, transpose_b: bool
) -> str:
    params = [("ptr", p) for p in ("table", "a", "b", "c")] + [("i64", p) for p in "mnk"]
    fn = FunctionWriter(module, name, "void", params, linkage="internal", attributes="noinline")
    type_, index = ROUTINES[dtype]
    routine = fn.load("ptr", "%table", 8 * index)
    fn.call(
        "void",
        routine,
        ("i32", ROW_MAJOR),
        ("i32", TRANSPOSED if transpose_a else PLAIN),
        ("i32", TRANSPOSED if transpose_b else PLAIN),
        ("i64", "%m"),
        ("i64", "%n"),
        ("i64", "%k"),
        (type_, float_literal(1.0, type_)),
        ("ptr", "%a"),
        ("i64", _leading(fn, "%m" if transpose_a else "%k")),
        ("ptr", "%b"),
        ("i64", _leading(fn, "%k" if transpose_b else "%n")),
        (type_, float_literal(0.0, type_)),
        ("ptr", "%c"),
        ("i64", _leading(fn, "%n")),
    )
    fn.do("ret void")
    return fn.finish()


def _leading(fn: FunctionWriter, columns: str) -> str:
    return fn.intrinsic("smax", "i64", "i64", columns, "1")
