"""The numba back end gives what the ``numpy`` rules and the LLVM back end give.

A seeded sample of the cases that the ops declare, for f32, f64, i32 and bool, runs always; all of
them, for every dtype that numba has, only with the slow tests.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from contract import Case, Element, ElementBuilder, edge_values, inputs, parse_case
from native import NativeModule
from numba_testing import NumbaModule, together
from test_native_contract import OPS, check, compilable, function_of, symbolic

from stepforge.codegen import lanes, numba_parts
from stepforge.codegen.numba_scalars import ScalarText, Term
from stepforge.codegen.numba_source import Source
from stepforge.ir import dims
from stepforge.ir.builder import Builder
from stepforge.ir.core import Const, Function, Operand, Value
from stepforge.ir.opdef import lookup
from stepforge.ir.ops.elementwise import Elementwise
from stepforge.ir.types import NUMERIC, Type, numpy_dtype

numba = pytest.importorskip("numba", reason="numba is not installed")

REQUIRED = ("f32", "f64", "i32", "bool")
ALL = tuple(name for name in NUMERIC if name not in ("f16", "bf16"))
BATCH = 30  # cases in one kernel
SAMPLE = 60


@cache
def cases(dtypes: Sequence[str]) -> list[tuple[Case, Function]]:
    """Every declared case on ``dtypes`` that loops compute, with known and with symbolic sizes."""
    found = []
    for name in OPS:
        for case in map(parse_case, lookup(name).cases):
            types = (*case.types, *(() if any(case.symbols) else case.results()))
            if any(case.symbols) or not all(t.dtype in dtypes for t in types):
                continue
            functions = [compilable(variant) for variant in (case, symbolic(case))]
            found += [(case, function) for function in functions if function is not None]
    return found


def batches(dtypes: Sequence[str], size: int) -> list[list[tuple[Case, Function]]]:
    chosen = list(cases(dtypes))
    random.Random(7).shuffle(chosen)
    return [chosen[i : i + BATCH] for i in range(0, min(size, len(chosen)), BATCH)]


def run_batch(batch: Sequence[tuple[Case, Function]]) -> NumbaModule:
    module = NumbaModule(together([function for _, function in batch]))
    arrays = [inputs(case) for case, _ in batch]
    got = module.run([a for each in arrays for a in each])
    assert not isinstance(got, str), got
    for (case, function), given in zip(batch, arrays, strict=True):
        count = len(function.results)
        rule = case.defn.numpy
        want = rule(*given, **case.all_attrs) if rule is not None and count else ()
        check(case, want, got[:count])
        got = got[count:]
    return module


@pytest.mark.parametrize("number", range(SAMPLE // BATCH))
def test_a_sample_of_all_cases_is_numpy(number: int) -> None:
    run_batch(batches(REQUIRED, SAMPLE)[number])


@pytest.mark.slow
@pytest.mark.parametrize("dtypes", [REQUIRED, ALL], ids=["required", "all"])
def test_all_cases_are_numpy(dtypes: tuple[str, ...]) -> None:
    for batch in batches(dtypes, 1 << 30):
        run_batch(batch)


def test_a_kernel_in_parts_is_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba_parts, "LONGEST", 1)
    monkeypatch.setattr(numba_parts, "PART", 20)
    module = run_batch(batches(REQUIRED, SAMPLE + BATCH)[-1][:20])
    assert module.made.source.count("def part") > 3


# ---- edges ---------------------------------------------------------------------------------------
def edge_cases() -> list[Case]:
    """One case for each elementwise op and required dtypes, on vectors of one size."""
    found: dict[Any, Case] = {}
    names = [name for name in OPS if isinstance(lookup(name), Elementwise) and name != "select"]
    for case in [parse_case(text) for name in names for text in lookup(name).cases]:
        dtypes = [t.dtype for t in case.types]
        if {*dtypes, *(r.dtype for r in case.results())} <= set(REQUIRED):
            types = tuple(Type(dtype, (dims.named("size"),)) for dtype in dtypes)
            found[(case.op, types, *case.attrs.values())] = replace(case, types=types)
    return list(found.values())


SIZE = 14 * 19  # pairs of edge values, at most


def grid(dtype: str, operands: int) -> list[np.ndarray[Any, Any]]:
    """All pairs of edge values (one operand: each of them), repeated to ``SIZE`` elements."""
    values = edge_values(dtype)
    pairs = np.meshgrid(values, values[: SIZE // len(values)], indexing="ij")
    return [np.resize(pair.ravel(), SIZE) for pair in pairs[:operands]]


def test_elementwise_ops_are_numpy_on_their_edges() -> None:
    found = edge_cases()
    assert len(found) > 120
    module = NumbaModule(together([function_of(case) for case in found]))
    arrays = [grid(case.types[0].dtype, len(case.types)) for case in found]
    got = module.run([a for each in arrays for a in each])
    assert not isinstance(got, str), got
    for case, given, result in zip(found, arrays, got, strict=True):
        assert case.defn.numpy is not None
        agree(result, np.asarray(case.defn.numpy(*given, **case.all_attrs)), case.text)


def agree(result: Any, want: Any, text: str, factor: float = 1) -> None:
    """Equal in dtype and value, floats to a few units in the last place."""
    assert result.dtype == want.dtype, text
    limit = factor * {np.dtype("f4"): 3e-6, np.dtype("f8"): 3e-15}.get(want.dtype, 0)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(result, want, rtol=limit, atol=limit, err_msg=text)


# ---- primitives ----------------------------------------------------------------------------------
ORDER = ("eq", "ne", "lt", "le", "gt", "ge")
UNARY_FLOAT = (
    "sqrt", "floor", "ceil", "trunc", "round_even", "is_nan", "is_inf", "is_finite", "exp", "expm1",
    "log", "log1p", "sin", "cos", "tan", "tanh", "sigmoid", "erf", "erfc", "atan", "asin", "acos",
    "sinh", "cosh", "asinh", "acosh", "atanh",
)  # fmt: skip
DIVISION = ("floor_div", "floor_mod", "trunc_div", "trunc_mod")
BITS = ("and_", "or_", "xor")
PRIMITIVES = {
    "f": ("add", "sub", "mul", "div", "min", "max", "copysign", "pow", "atan2", "neg", "abs",
          *DIVISION, *ORDER, *UNARY_FLOAT),
    "i": ("add", "sub", "mul", "min", "max", "pow", "neg", "abs", "not_", "shl", "shr", *DIVISION,
          *BITS, *ORDER),
    "b": ("add", "mul", "min", "max", "not_", *BITS, *ORDER),
}  # fmt: skip
UNARY = {"neg", "abs", "not_", *UNARY_FLOAT}


@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "i64", "u8", "u64", "i8", "bool"])
def test_primitives_are_numpy_on_their_edges(dtype: str) -> None:
    names = PRIMITIVES["i" if dtype[0] == "u" else dtype[0]]
    x, y = grid(dtype, 2)
    if dtype[0] in "iu":
        y = np.where(x > 0, y, np.abs(y))  # a shift by a negative count is NumPy's own affair
    reference = ElementBuilder()
    wants = []
    for name in names:
        given = [Element(dtype, v) for v in ((x,) if name in UNARY else (x, y))]
        if name in ("shl", "shr"):
            given[1] = Element(dtype, y & y.dtype.type(8 * y.itemsize - 1))
        wants.append(getattr(reference, name)(*given))
    results = [np.empty(SIZE, numpy_dtype(want.dtype)) for want in wants]
    primitives(dtype, names)(x, y, *results)
    for name, result, want in zip(names, results, wants, strict=True):
        agree(result, want.values, f"{name} of {dtype}")


def test_no_primitive_of_the_lanes_is_missing() -> None:
    k = ScalarText(lambda module, name: None)
    assert all(callable(getattr(k, name)) for name in lanes.PRIMITIVES)
    fused = k.fma(Term("f64", "a"), Term("f64", "b"), -1.0)
    assert fused.form == "fma({0}, {1}, {2})"
    assert [operand.form for operand in fused.operands] == ["a", "b", "-1.0"]


def primitives(dtype: str, names: Sequence[str]) -> Any:
    """``f(x, y, *results)``: the primitives of all elements."""
    source = Source()
    k = ScalarText(source.use)
    x, y = Term(dtype, "x[i]"), Term(dtype, "y[i]")
    header = f"def f(x, y, {', '.join(f'r_{name}' for name in names)}):"
    with source.block(header), source.block("for i in range(len(x)):"):
        for name in names:
            term = getattr(k, name)(x, y) if name not in UNARY else getattr(k, name)(x)
            source.line(f"r_{name}[i] = {source.expression(term)}")
    namespace: dict[str, Any] = {}
    exec(source.text(), namespace)
    return numba.njit(error_model="numpy")(namespace["f"])


# ---- both back ends ------------------------------------------------------------------------------
SMOOTH = ("tanh", "sigmoid", "exp", "softplus", "square", "neg", "relu", "erf", "sin")
JOINING = ("add", "sub", "mul", "maximum", "minimum", "squared_difference")
SHAPES: tuple[tuple[Any, ...], ...] = (("n", 5), (5,), ("n", 1), (), ("n", 5))


def random_function(seed: int) -> Function:
    """Elementwise operations, reductions, products and shapes, put together by chance."""
    rng = random.Random(seed)
    dtype = rng.choice(("f32", "f64"))
    build = Builder()
    shapes = [tuple(dims.named(n) if isinstance(n, str) else n for n in s) for s in SHAPES]
    params = [Value(Type(dtype, shape), f"x{i}") for i, shape in enumerate(shapes)]
    known: list[Operand] = list(params)
    for _ in range(rng.randint(6, 14)):
        known.append(_step(rng, build, known, dtype))
    build.emit("return", *known[-3:])
    return build.function("f", params)


def _step(rng: random.Random, build: Builder, known: Sequence[Operand], dtype: str) -> Operand:
    x, y = rng.choice(known), rng.choice(known)
    made: Any
    kind = rng.choice(("one", "one", "two", "two", "two", "reduce", "rows", "select", "product"))
    if kind == "two":
        made = build.emit(rng.choice(JOINING), x, y)
    elif kind == "reduce" and x.type.rank:
        name = rng.choice(("reduce_sum", "reduce_max", "reduce_mean"))
        made = build.emit(name, x, axes=(x.type.rank - 1,), keep_dims=True)
    elif kind == "rows" and x.type.rank:
        made = build.emit(rng.choice(("softmax", "log_softmax")), x)
    elif kind == "select":
        half = build.emit("less", x, Const(Type(dtype), 0.5))
        made = build.emit("select", half, x, y)
    elif kind == "product" and x.type.rank == 2 and x.type.dims[1] == 5:
        gram = build.emit("matmul", x, x, transpose_a=True)
        made = build.emit("tanh", gram) if x.type.dims[0] != 5 else gram
        made = build.emit("matmul", x, made)
    else:
        made = build.emit(rng.choice(SMOOTH), x)
    bounded: Operand = build.emit("tanh", made)  # nothing grows, so errors do not either
    return bounded


def test_random_functions_agree_in_both_back_ends() -> None:
    functions = [random_function(seed) for seed in range(8)]
    rng = np.random.default_rng(3)
    arrays = [[sample(rng, p.type) for p in function.params] for function in functions]
    native = NativeModule(functions)
    got = NumbaModule(together(functions)).run([a for each in arrays for a in each])
    assert not isinstance(got, str), got
    for number, given in enumerate(arrays):
        want = native.run(number, given)
        for result, expected in zip(got, want, strict=False):
            agree(result, expected, f"function {number}", 20)
        got = got[len(want) :]


def sample(rng: np.random.Generator, type_: Type) -> np.ndarray[Any, Any]:
    shape = [n if isinstance(n, int) else 7 for n in type_.dims]
    return np.asarray(rng.normal(size=shape), numpy_dtype(type_.dtype))


def test_a_check_quotes_its_values() -> None:
    build = Builder()
    x = Value(Type("i32", (dims.named("n"),)), "x")
    build.emit("check_bounds", x, limit=4, message="indices")
    build.emit("return", build.emit("neg", x))
    module = NumbaModule(build.function("f", [x]))
    assert module.run([np.array([1, 4, 2])]) == "indices[1] = 4 is not in [0, 4)"
    (result,) = module.run([np.array([0, 3])])
    np.testing.assert_array_equal(result, [0, -3])
