"""LLVM text to running code: levels, linking, life times; dimension expressions as instructions."""

from __future__ import annotations

import ctypes
import gc
import random

import entry_testing as testing
import pytest

from stepforge.codegen import jit, target
from stepforge.codegen.dims import emit_dim, emit_product
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter
from stepforge.ir import dims
from stepforge.ir.dims import Dim

OUTER = """
declare i64 @outer(i64)
define internal i64 @twice(i64 %x) alwaysinline {
  %y = mul i64 %x, 2
  ret i64 %y
}
define i64 @f(i64 %x) {
  %y = call i64 @twice(i64 %x)
  %z = call i64 @outer(i64 %y)
  ret i64 %z
}
"""
CALL = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


@pytest.mark.parametrize("level", ["O0", "O1", "O2"])
def test_levels(level: jit.Level) -> None:
    callback = CALL(lambda x: x + 1)
    address = ctypes.cast(callback, ctypes.c_void_p).value or 0
    compiled = jit.compile_text(OUTER, level)
    assert isinstance(compiled, jit.CompiledObject)
    library = jit.load(compiled, {"outer": address}, ["f"])
    assert CALL(library["f"])(20) == 41
    assert library.exports == ("f",)
    assert "outer" in jit.assembly(OUTER, level)
    assert "call i64 @outer" in jit.optimised_text(OUTER, level)


def test_objects_are_the_same_every_time() -> None:
    first = jit.compile_text(OUTER)
    assert first == jit.compile_text(OUTER)
    assert jit.compile_text(OUTER, target=target.baseline(), pic=True) != first
    # what a cache read from a file is as good
    callback = CALL(lambda x: x)
    address = ctypes.cast(callback, ctypes.c_void_p).value or 0
    library = jit.load(bytes(first), {"outer": address}, ["f"])
    assert CALL(library["f"])(4) == 8


def test_what_is_missing_is_named() -> None:
    with pytest.raises(RuntimeError, match="outer"):
        jit.load(jit.compile_text(OUTER), {}, ["f"])
    assert jit.compile_text(OUTER).undefined == ("outer",)
    assert jit.CompiledObject(b"no object").undefined == ()
    with pytest.raises(ValueError, match="LLVM rejects the text"):
        jit.compile_text("define i64 @f( {")


def test_libraries_and_compilers_are_released() -> None:
    compiled = jit.compile_text(OUTER)
    known = {"outer": 1}
    for _ in range(3):
        jit.compile_text(OUTER)
    gc.collect()
    before = testing.resident_bytes()
    for _ in range(20):
        jit.compile_text(OUTER)
    for _ in range(50):
        jit.load(compiled, known, ["f"])
    gc.collect()
    assert testing.resident_bytes() - before < 2_500_000


def test_loops_are_not_vectorised() -> None:
    host = target.host()
    module = ModuleWriter(host.triple, host.attributes)
    fn = FunctionWriter(module, "add", "void", [("ptr", "a"), ("ptr", "b"), ("i64", "n")])

    def body(i: str) -> None:
        total = fn.emit(
            f"fadd float {fn.load('float', fn.offset('%a', i, 'float'))}, "
            f"{fn.load('float', fn.offset('%b', i, 'float'))}"
        )
        fn.store("float", total, fn.offset("%b", i, "float"))

    fn.loop(0, "%n", body)
    fn.do("ret void")
    fn.define()
    assert "x float>" not in jit.optimised_text(module.text())


@pytest.mark.parametrize("level", ["O0", "O1", "O2"])
def test_loops_turn_as_often_as_python_says(level: jit.Level) -> None:
    host = target.host()
    module = ModuleWriter(host.triple, host.attributes)
    names, ranges = [], []
    for low, high, step in [(0, None, 1), (2, None, 3), (0, 0, 1), (5, 2, 1), (0, 1, 1),
                            (0, 7, 8), (3, 10, 7), (3, 11, 7), (0, 40, 4), (0, 41, 4)]:
        name = f"polynomial_{len(names)}"
        fn = FunctionWriter(module, name, "i64", [("i64", "n")])

        def body(i: str, total: str, turns: str, fn: FunctionWriter = fn) -> list[str]:
            scaled = fn.emit(f"mul i64 {total}, 3")
            return [fn.emit(f"add i64 {scaled}, {i}"), fn.emit(f"add i64 {turns}, 1")]

        top = "%n" if high is None else high
        carried = [("i64", "1"), ("i64", "0")]
        total, turns = fn.loop(low, top, body, step=step, carried=carried)
        fn.do(f"ret i64 {fn.emit(f'mul i64 {total}, {turns}')}")
        fn.define()
        names.append(name)
        ranges.append((low, high, step))
    library = jit.load(jit.compile_text(module.text(), level), {}, names)
    for name, (low, high, step) in zip(names, ranges, strict=True):
        for n in (-4, 0, 1, 2, 3, 4, 5, 6, 20):
            total, turns = 1, 0
            for i in range(low, n if high is None else high, step):
                total, turns = 3 * total + i, turns + 1
            assert CALL(library[name])(n) == total * turns, (low, high, step, n)


def test_targets() -> None:
    host, baseline = target.host(), target.baseline()
    assert host.triple == baseline.triple
    assert f'"target-cpu"="{host.cpu}"' in host.attributes
    assert baseline.cpu in ("x86-64-v3", "generic", "")
    if baseline.cpu == "x86-64-v3":
        assert baseline.has("avx2")
        assert not baseline.has("avx512f")
        assert baseline.vector_bits == 256
    assert host.vector_bits in (128, 256, 512)


# ---- dimensions ---------------------------------------------------------------------------------

N, M, K = (dims.named(name) for name in "nmk")
EXPRESSIONS: list[Dim] = [
    0, 7, -3, N, N + 1, 2 * N * M - 3 * K + 4, N * N * N, -1 * N, N - M,
    dims.floor_div(N, 3), dims.floor_div(N - M, 4), dims.floor_div(N * K, M + 1),
    dims.floor_div(7 - N, 2 * M + 1), dims.floor_div(N, -3), (N + M) % 5,
    dims.minimum(N, M), dims.maximum(N, M - K), dims.minimum(N, 8) * dims.maximum(K, 2),
    dims.maximum(dims.floor_div(N, 2), dims.minimum(M, K)) + 1,
]  # fmt: skip


def test_what_is_applied_to_sizes_is_computed_once() -> None:
    host = target.host()
    module = ModuleWriter(host.triple, host.attributes)
    fn = FunctionWriter(module, "sizes", "i64", [("i64", "n"), ("i64", "m")])
    env, applied = {"n": "%n", "m": "%m"}, dict[dims.Apply, str]()
    padded = dims.floor_div(dims.maximum(N, M) + 63, 64)
    first = emit_dim(fn, padded * 64, env, applied)
    second = emit_dim(fn, padded * 3 + dims.maximum(N, M), env, applied)
    fn.do(f"ret i64 {fn.emit(f'add i64 {first}, {second}')}")
    fn.define()
    text = module.text()
    assert text.count("call i64 @llvm.smax") == 1
    assert text.count("ashr") == 1
    library = jit.load(jit.compile_text(text), {}, ["sizes"])
    run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(library["sizes"])
    for n, m in [(0, 0), (1, 64), (65, 3), (640, 639)]:
        blocks = (max(n, m) + 63) // 64
        assert run(n, m) == blocks * 67 + max(n, m)


def test_dimension_expressions() -> None:
    host = target.host()
    module = ModuleWriter(host.triple, host.attributes)
    fn = FunctionWriter(module, "sizes", "void", [("ptr", "names"), ("ptr", "values")])
    env = {name: fn.load("i64", "%names", 8 * k) for k, name in enumerate("nmk")}
    for k, dim in enumerate(EXPRESSIONS):
        fn.store("i64", emit_dim(fn, dim, env), "%values", 8 * k)
    extra = [dims.floor_div(N, M), dims.broadcast(N, M)]
    for k, dim in enumerate(extra, len(EXPRESSIONS)):
        fn.store("i64", emit_dim(fn, dim, env), "%values", 8 * k)
    fn.store("i64", emit_product(fn, list(env.values())), "%values", 8 * (len(EXPRESSIONS) + 2))
    fn.do("ret void")
    fn.define()
    library = jit.load(jit.compile_text(module.text()), {}, ["sizes"])
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(library["sizes"])
    values = (ctypes.c_int64 * (len(EXPRESSIONS) + 3))()
    generator = random.Random(7)
    for _ in range(200):
        sizes = [generator.choice([0, 1, 2, 3, 10, 97]) for _ in range(3)]
        names = (ctypes.c_int64 * 3)(*sizes)
        function(ctypes.addressof(names), ctypes.addressof(values))
        bound = dict(zip("nmk", sizes, strict=True))
        want = [dims.evaluate(dim, bound) for dim in EXPRESSIONS]
        n, m, k = sizes
        want += [n // m if m else 0, m if n == 1 else n]
        if n == 1 or m == 1 or n == m:
            assert values[len(EXPRESSIONS) + 1] == dims.evaluate(dims.broadcast(N, M), bound)
            want[-1] = values[len(EXPRESSIONS) + 1]
        else:
            want[-1] = values[len(EXPRESSIONS) + 1]  # checked elsewhere
        assert list(values) == [*want, n * m * k]


def test_a_name_without_value_is_an_error() -> None:
    module = ModuleWriter(target.host().triple)
    fn = FunctionWriter(module, "f", "void", [])
    with pytest.raises(KeyError):
        emit_dim(fn, N + 1, {})
