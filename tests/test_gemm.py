"""Matrix products in native code against NumPy in double precision: shapes at every edge of tiles
and blocks, transposes, batches, epilogues, processors; and what fusion makes of a product's users.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from native import NativeModule

import stepforge as tf
from stepforge.codegen import gemm_vector, jit, target
from stepforge.codegen.gemm_shapes import tile_shape
from stepforge.codegen.target import Target
from stepforge.ir import products
from stepforge.ir.core import Function
from stepforge.ir.evaluate import evaluate
from stepforge.ir.parser import parse_function
from stepforge.ir.text import print_function
from stepforge.ir.types import numpy_dtype
from stepforge.ir.verify import verify
from stepforge.passes.fuse import fuse
from stepforge.passes.fuse_products import fuse_products
from stepforge.passes.lower import lower

TRANSPOSES = tuple(itertools.product((False, True), repeat=2))
KINDS = [(dtype, a, b) for dtype in ("f32", "f64") for a, b in TRANSPOSES]
EPSILON = {"f32": 2.0**-23, "f64": 2.0**-52}
ARM = Target("aarch64-unknown-linux-gnu", "generic", "+neon")


def processors() -> list[Target]:
    """The processor at hand, and the older one that it can stand in for."""
    host, older = target.host(), target.baseline()
    wanted = [f for f in older.features.split(",") if f != "+64bit"]
    runs = older.features and set(wanted) <= set(host.features.split(","))
    return [host, older] if runs else [host]


PROCESSORS = processors()


def product_text(dtype: str, transpose_a: bool, transpose_b: bool, sizes: str = "m n k") -> str:
    m, n, k = sizes.split()
    a = f"{dtype}[{k}, {m}]" if transpose_a else f"{dtype}[{m}, {k}]"
    b = f"{dtype}[{n}, {k}]" if transpose_b else f"{dtype}[{k}, {n}]"
    flags = f"transpose_a={str(transpose_a).lower()}, transpose_b={str(transpose_b).lower()}"
    return (
        f"func @f(%a: {a}, %b: {b}) -> {dtype}[{m}, {n}] {{\n"
        f"  %c = matmul(%a, %b, {flags}) : {dtype}[{m}, {n}]\n  return(%c)\n}}"
    )


@cache
def any_size(processor: int) -> NativeModule:
    """A function for each kind of product, all sizes names."""
    functions = [parse_function(product_text(*kind)) for kind in KINDS]
    return NativeModule(functions, processor=PROCESSORS[processor])


def operands(rng: np.random.Generator, kind: tuple[str, bool, bool], shape: Sequence[int]) -> Any:
    dtype, transpose_a, transpose_b = kind
    m, n, k = shape
    a = rng.uniform(-1, 1, (k, m) if transpose_a else (m, k)).astype(numpy_dtype(dtype))
    b = rng.uniform(-1, 1, (n, k) if transpose_b else (k, n)).astype(numpy_dtype(dtype))
    return a, b


def exact(kind: tuple[str, bool, bool], a: Any, b: Any) -> Any:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a.T if kind[1] else a) @ (b.T if kind[2] else b)


def assert_near(got: Any, want: Any, depth: int, dtype: str) -> None:
    """Within what adding up ``depth`` products of numbers below 1 may lose."""
    limit = EPSILON[dtype] * (depth + 4)
    np.testing.assert_allclose(got.astype(np.float64), want, rtol=limit, atol=limit)


EDGES = (0, 1, 2, 5, 8, 9, 16, 17, 31, 32, 33, 40)
DEEP = ((9, 33, 512), (9, 33, 513), (17, 40, 1030), (7, 32, 1100))
PACKED = ((129, 70, 300), (130, 512, 520), (16, 1024, 70), (40, 1024, 3), (300, 17, 80))
SHAPES = [*itertools.islice(itertools.product(EDGES, EDGES, EDGES), 3, None, 11), *DEEP, *PACKED]


@pytest.mark.parametrize("processor", range(len(PROCESSORS)))
@pytest.mark.parametrize("number", range(len(KINDS)))
def test_any_shape(number: int, processor: int) -> None:
    kind, rng = KINDS[number], np.random.default_rng(number)
    for shape in SHAPES:
        a, b = operands(rng, kind, shape)
        (c,) = any_size(processor).run(number, [a, b])
        assert_near(c, exact(kind, a, b), shape[2], kind[0])


# What sizes that are known select: a narrow product, whole tiles, one block of the inner dimension,
# a row, a column; with the pipeline of optimisations that steps get.
KNOWN = ("m 10 128", "32 m 20", "12 64 300", "m 64 600", "1 100 37", "50 1 20", "1 1 5", "2 3 0")


@pytest.mark.parametrize("processor", range(len(PROCESSORS)))
def test_known_sizes(processor: int) -> None:
    cases = [(kind, sizes) for sizes in KNOWN for kind in KINDS[:4]]
    functions = [parse_function(product_text(*kind, sizes)) for kind, sizes in cases]
    module = NativeModule(functions, "O2", processor=PROCESSORS[processor])
    rng = np.random.default_rng(0)
    for number, (kind, sizes) in enumerate(cases):
        for m in (1, 3, 37):
            shape = [m if size == "m" else int(size) for size in sizes.split()]
            a, b = operands(rng, kind, shape)
            (c,) = module.run(number, [a, b])
            assert_near(c, exact(kind, a, b), shape[2], kind[0])


@pytest.mark.parametrize("number", [n for n, kind in enumerate(KINDS) if not kind[2]])
def test_a_row_does_not_depend_on_the_others(number: int) -> None:
    """Each element is one chain of additions, however the product is cut."""
    kind, rng = KINDS[number], np.random.default_rng(number)
    a, b = operands(rng, kind, (150, 70, 600))
    results = []
    for processor in range(len(PROCESSORS)):
        (whole,) = any_size(processor).run(number, [a, b])
        for first, last in ((0, 1), (3, 12), (100, 150)):
            part = a[:, first:last] if kind[1] else a[first:last]
            (c,) = any_size(processor).run(number, [np.ascontiguousarray(part), b])
            np.testing.assert_array_equal(c, whole[first:last])
        results.append(whole)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


# ---- epilogues ----------------------------------------------------------------------------------
# name -> (operands' shapes, the region's operations from %c to %r, the same in NumPy)
EPILOGUES: dict[str, tuple[tuple[str, ...], str, Any]] = {
    "bias": (("[n]",), "%r = add(%c, %p0)", lambda c, p: c + p),
    "relu": (("[n]",), "%0 = add(%c, %p0) %r = relu(%0)", lambda c, p: np.maximum(c + p, 0)),
    "tanh": (("[n]",), "%0 = add(%c, %p0) %r = tanh(%0)", lambda c, p: np.tanh(c + p)),
    "sigmoid": ((), "%r = sigmoid(%c)", lambda c: 1 / (1 + np.exp(-c))),
    "residual": (("[m, n]", "[m, 1]"), "%0 = mul(%c, %p1) %r = sub(%p0, %0)",
                 lambda c, p, q: p - c * q),
    "scaled": (("", "[1, n]"), "%0 = mul(%c, %p0) %r = add(%0, %p1)", lambda c, p, q: c * p + q),
    "column": (("[m, 1]",), "%0 = tanh(%p0) %r = mul(%c, %0)", lambda c, p: c * np.tanh(p)),
    "constant": ((), "%r = mul(%c, 0.5: f32)", lambda c: c * 0.5),
}


def epilogue_text(dtype: str, name: str, sizes: str = "m n k") -> str:
    m, n, k = sizes.split()
    shapes, body, _ = EPILOGUES[name]
    params = "".join(f", %p{i}: {dtype}{s}" for i, s in enumerate(shapes))
    lines = body.replace(" %r =", "\n  %r =").replace("f32", dtype).split("\n")
    text = f"func @f(%a: {dtype}[m, k], %b: {dtype}[k, n]{params}) -> {dtype}[m, n] {{\n"
    text += f"  %c = matmul(%a, %b) : {dtype}[m, n]\n"
    shape = {"%0 = tanh(%p0)": "[m, 1]"}
    text += "".join(f"  {li.strip()} : {dtype}{shape.get(li.strip(), '[m, n]')}\n" for li in lines)
    text += "  return(%r)\n}"
    for letter, size in zip("mnk", (m, n, k), strict=True):
        text = text.replace(f"[{letter}", f"[{size}").replace(f" {letter}]", f" {size}]")
    return text


SIZES = ("m n k", "m 32 k", "m 10 40", "m 1 20", "1 70 33", "20 64 600")
CASES = [(dtype, name, sizes) for name in EPILOGUES for sizes in SIZES for dtype in EPSILON]


def epilogue_functions(dtype: str) -> tuple[list[Any], list[Function]]:
    cases = [case for case in CASES if case[0] == dtype]
    functions = [parse_function(epilogue_text(*case)) for case in cases]
    for function in functions:
        verify(function)
    return cases, functions


@pytest.mark.parametrize("processor", range(len(PROCESSORS)))
@pytest.mark.parametrize("dtype", EPSILON)
def test_epilogues(dtype: str, processor: int) -> None:
    cases, functions = epilogue_functions(dtype)
    module = NativeModule(functions, processor=PROCESSORS[processor])
    check_epilogues(module, cases, functions, dtype)


def check_epilogues(
    module: NativeModule, cases: list[Any], functions: list[Function], dtype: str
) -> None:
    rng = np.random.default_rng(1)
    for number, ((_, name, _), function) in enumerate(zip(cases, functions, strict=True)):
        assert [op.name for op in fuse_products(fuse(function)).body.ops] in (
            ["matmul", "return"], ["fused", "matmul", "return"]
        )
        for m, n, k in ((1, 5, 3), (19, 37, 40), (9, 64, 530)):
            sizes = {"m": m, "n": n, "k": k}
            arrays = [
                rng.uniform(-1, 1, [sizes.get(str(d), d) for d in p.type.dims])
                .astype(numpy_dtype(dtype)) for p in function.params
            ]
            (got,) = module.run(number, arrays)
            wide = [x.astype(np.float64) for x in arrays]
            want = EPILOGUES[name][2](wide[0] @ wide[1], *wide[2:])
            assert_near(got, want, arrays[0].shape[1], dtype)


def test_epilogues_behind_a_library_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "LIBRARY_FROM", 5)
    cases, functions = epilogue_functions("f32")
    module = NativeModule(functions)
    assert "call void @library" in module.text
    check_epilogues(module, cases, functions, "f32")


def test_bool_and_other_dtypes_in_an_epilogue() -> None:
    function = parse_function("""func @f(%a: f32[m, 40], %b: f32[40, 50], %p: bool[m, 50],
      %s: f64[50]) -> f32[m, 50] {
      %c = matmul(%a, %b) : f32[m, 50]
      %0 = cast(%s, dtype="f32") : f32[50]
      %1 = select(%p, %c, %0) : f32[m, 50]
      return(%1)
    }""")
    module, rng = NativeModule([function]), np.random.default_rng(2)
    for rows in (1, 13):
        a, b = rng.uniform(-1, 1, (rows, 40)), rng.uniform(-1, 1, (40, 50))
        p, s = rng.uniform(size=(rows, 50)) < 0.5, rng.uniform(size=50)
        (got,) = module.run(0, [a.astype("f4"), b.astype("f4"), p, s])
        np.testing.assert_allclose(got, np.where(p, a @ b, s), rtol=1e-5, atol=1e-5)


BATCHES = (
    ("f32[q, m, k]", "f32[k, n]", "f32[q, m, n]", "f32[n]"),
    ("f32[q, m, k]", "f32[q, k, n]", "f32[q, m, n]", "f32[q, 1, n]"),
    ("f32[m, k]", "f32[q, k, n]", "f32[q, m, n]", "f32[m, n]"),
    ("f32[q, 1, m, k]", "f32[3, k, n]", "f32[q, 3, m, n]", "f32[3, m, 1]"),
    ("f32[q, 3, m, k]", "f32[1, 1, k, n]", "f32[q, 3, m, n]", "f32[q, 3, m, n]"),
)


def test_batches() -> None:
    texts = [
        f"func @f(%a: {a}, %b: {b}, %p: {p}) -> {c} {{\n  %c = matmul(%a, %b) : {c}\n"
        f"  %d = add(%c, %p) : {c}\n  return(%d)\n}}"
        for a, b, c, p in BATCHES
    ]
    functions = [parse_function(text) for text in texts]
    module, rng = NativeModule(functions), np.random.default_rng(3)
    sizes = {"q": 4, "m": 9, "n": 33, "k": 17}
    for number, function in enumerate(functions):
        assert [op.name for op in fuse_products(fuse(function)).body.ops] == ["matmul", "return"]
        arrays = [
            rng.uniform(-1, 1, [sizes.get(str(d), d) for d in p.type.dims]).astype(np.float32)
            for p in function.params
        ]
        (got,) = module.run(number, arrays)
        a, b, p = (x.astype(np.float64) for x in arrays)
        assert_near(got, np.matmul(a, b) + p, 17, "f32")


def test_batches_of_one_matrix_are_one_product() -> None:
    a, b, c, p = BATCHES[0]
    function = parse_function(
        f"func @f(%a: {a}, %b: {b}, %p: {p}) -> {c} {{\n  %c = matmul(%a, %b) : {c}\n"
        f"  %d = add(%c, %p) : {c}\n  return(%d)\n}}"
    )
    assert "for(" not in print_function(lower(fuse_products(fuse(function))).function)


# ---- fusion -------------------------------------------------------------------------------------
HEAD = "func @f(%a: f32[n, 40], %b: f32[40, 32], %p: f32[32], %q: f32[n, 32], %s: f32[3, n, 32])"
# what becomes of a product and its users: (results, operations, names of the ops after fusion)
FUSIONS = {
    "cell": ("f32[n, 32]", """
      %0 = matmul(%a, %b) : f32[n, 32]
      %1 = matmul(%q, %q2) : f32[n, 32]
      %2 = add(%0, %1) : f32[n, 32]
      %r = tanh(%2) : f32[n, 32]""", ["matmul", "matmul"]),
    "used twice": ("f32[n, 32]", """
      %0 = matmul(%a, %b) : f32[n, 32]
      %1 = relu(%0) : f32[n, 32]
      %2 = reduce_sum(%0, axes=[0]) : f32[32]
      %r = add(%1, %2) : f32[n, 32]""", ["matmul", "reduce", "fused"]),
    "larger result": ("f32[3, n, 32]", """
      %0 = matmul(%a, %b) : f32[n, 32]
      %r = add(%0, %s) : f32[3, n, 32]""", ["matmul", "fused"]),
    "other dtype": ("f64[n, 32]", """
      %0 = matmul(%a, %b) : f32[n, 32]
      %r = cast(%0, dtype="f64") : f64[n, 32]""", ["matmul", "fused"]),
    "returned too": ("f32[n, 32]", """
      %0 = matmul(%a, %b) : f32[n, 32]
      %1 = relu(%0) : f32[n, 32]
      %r = matmul(%1, %q2) : f32[n, 32]""", ["matmul", "matmul"]),
}


@pytest.mark.parametrize("name", FUSIONS)
def test_fusion(name: str) -> None:
    result, body, names = FUSIONS[name]
    head = HEAD.replace("%s:", "%q2: f32[32, 32], %s:")
    function = parse_function(f"{head} -> {result} {{{body}\n  return(%r)\n}}")
    verify(function)
    fused = fuse_products(fuse(function))
    verify(fused)
    assert [op.name for op in fused.body.ops] == [*names, "return"]
    text = print_function(fused)
    assert print_function(parse_function(text)) == text
    rng = np.random.default_rng(4)
    arrays = [
        rng.uniform(-1, 1, [2 if str(d) == "n" else d for d in p.type.dims]).astype(np.float32)
        for p in function.params
    ]
    (want,), (have,) = evaluate(function, arrays), evaluate(fused, arrays)
    np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-5)
    (got,) = NativeModule([function]).run(0, arrays)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


# ---- scratch memory and processors --------------------------------------------------------------
def test_scratch_memory_is_no_more_than_a_panel_and_a_block() -> None:
    def size(m: int, n: int, k: int, a: bool = False, b: bool = False) -> Any:
        return products.scratch_size(m, n, k, 4, transpose_a=a, transpose_b=b)

    assert size(8, 64, 1000) == 0
    assert size(1, 100, 100, b=True) == 0
    assert size(32, 100, 20) == 32 * 32
    assert size(32, 100, 5000, b=True) == products.PANEL_BYTES // 4
    block = products.ROWS * products.DEPTH
    assert size(10**6, 10, 10**6, a=True) == products.PANEL_BYTES // 4 + block
    assert size(10**6, 10, 32, a=True) == 32 * 32


def test_tiles_fit_the_registers() -> None:
    registers = {512: 32, 256: 16, 128: 32}
    for processor in (target.baseline(), ARM, Target("x86_64", "", "+avx512f,+avx,+fma")):
        for dtype in EPSILON:
            shape = tile_shape(processor, dtype)
            used = shape.rows * shape.vectors + shape.vectors + 1
            assert used <= registers[processor.vector_bits]
            assert shape.vectors * processor.vector_bits <= 8 * products.PANEL_ROW_BYTES


@pytest.mark.parametrize("kind", KINDS[:4])
def test_arm_code(kind: tuple[str, bool, bool]) -> None:
    binding = target.llvm()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    module = NativeModule([parse_function(product_text(*kind))], processor=ARM, link=False)
    assembly = jit.assembly(module.text, "O2", ARM, pic=True)
    assert assembly.count("fmla") >= 24
    called = set(re.findall(r"\bbl\s+([a-z]+)", assembly))
    assert called <= {"product", "tiles", "turned", "along", "across", "library", "products",
                      "take", "release"}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("dtype", EPSILON)
def test_a_large_matrix_is_read_in_the_order_of_memory(
    dtype: str, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every element is the same chain of sums, so that not a bit may differ."""
    rng = np.random.default_rng(0)
    for k, n in ((1, 2), (3, 16), (4, 17), (5, 100), (63, 31), (200, 15)):
        values = [rng.standard_normal(s).astype(numpy_dtype(dtype)) for s in ((1, k), (k, n), (n,))]
        found = []
        for least in (1 << 40, 0):
            monkeypatch.setattr(gemm_vector, "LARGE", least)
            with tf.Graph().as_default() as graph:
                shapes = [(1, k), (k, n), (n,)] if known else [(1, None), (None, None), (None,)]
                x, matrix, bias = (tf.placeholder(numpy_dtype(dtype), shape) for shape in shapes)
                y = tf.tanh(tf.matmul(x, matrix) + bias)
            step = tf.Session(graph=graph).make_callable(y, [x, matrix, bias])
            found.append(step(*values))
        np.testing.assert_array_equal(*found)
