"""Elementary functions against mpmath, NumPy and SciPy: accuracy, edge cases, widths, symbols."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import mpmath as mp
import numpy as np
import pytest
from llvm_testing import (
    IS_X86,
    OLDEST_X86,
    Program,
    Target,
    host,
    undefined_symbols,
    without_avx512,
)
from scipy import special

from stepforge.codegen.lanes import PRIMITIVES, LaneBuilder
from stepforge.codegen.target import COMMON
from stepforge.codegen.vector_math import FLOAT_RULES, INTEGER_RULES
from stepforge.ir.types import numpy_dtype

DTYPE = {"f32": np.float32, "f64": np.float64}
LIBM = {name + suffix for name in ("sin", "cos", "tan", "fmod") for suffix in ("", "f")}
# Without SSE 4.1 rounding to whole numbers is a call too.
LIBM_OLD = LIBM | {n + s for n in ("floor", "ceil", "trunc", "nearbyint") for s in ("", "f")}

# name -> NumPy or SciPy, mpmath, bounds in ULP for f32 and f64, interval that f64 is sampled in
FUNCTIONS: dict[str, tuple[Callable[..., Any], Any, tuple[float, float], tuple[float, float]]] = {
    "exp": (np.exp, mp.exp, (0.97, 0.92), (-745, 709.7)),
    "expm1": (np.expm1, mp.expm1, (2.0, 2.0), (-40, 709.7)),
    "log": (np.log, mp.log, (0.81, 0.74), (1e-320, 1e300)),
    "log1p": (np.log1p, mp.log1p, (2.0, 2.0), (-1 + 1e-15, 1e300)),
    "sin": (np.sin, mp.sin, (1.0, 1.0), (-1e12, 1e12)),
    "cos": (np.cos, mp.cos, (1.0, 1.0), (-1e12, 1e12)),
    "tan": (np.tan, mp.tan, (2.5, 2.5), (-1e12, 1e12)),
    "tanh": (np.tanh, mp.tanh, (2.2, 2.0), (-23, 23)),
    "sinh": (np.sinh, mp.sinh, (2.0, 2.0), (-710.4, 710.4)),
    "cosh": (np.cosh, mp.cosh, (2.0, 2.0), (-710.4, 710.4)),
    "asinh": (np.arcsinh, mp.asinh, (2.5, 2.5), (-1e300, 1e300)),
    "acosh": (np.arccosh, mp.acosh, (2.5, 3.0), (1, 1e300)),
    "atanh": (np.arctanh, mp.atanh, (2.5, 2.5), (-1 + 1e-15, 1 - 1e-15)),
    "asin": (np.arcsin, mp.asin, (2.5, 2.5), (-1, 1)),
    "acos": (np.arccos, mp.acos, (2.0, 2.0), (-1, 1)),
    "atan": (np.arctan, mp.atan, (2.5, 2.5), (-1e300, 1e300)),
    "sigmoid": (special.expit, lambda x: 1 / (1 + mp.exp(-x)), (1.5, 1.5), (-745, 40)),
    "erf": (special.erf, mp.erf, (1.2, 0.84), (-6, 6)),
    "erfc": (special.erfc, mp.erfc, (3.2, 3.2), (-6, 27)),
}
BINARY = {"pow": (np.power, mp.power, (0.54, 1.07)),
          "atan2": (np.arctan2, mp.atan2, (2.5, 2.5))}
EDGES = [0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 0.5, -0.5, 2, -2, 3, -3, 2.5, -2.5, 33, -33,
         5e-324, -5e-324, 1e-310, 1.401298464324817e-45, -1e-40, 2.0**-126, 2.0**-1022, 1e-30,
         16777217, 2.0**53 + 2, 1e6, 1e13, 88.7, -103.9, 89.4, 709.7, -745.1, 710.4, 27.2, 10.05,
         0.99999, 1.00001, np.pi, -np.pi / 2, 3.4028234663852886e38, 1.7976931348623157e308, -1e300]


WIDEST = {"f32": 16, "f64": 8}  # where accuracy is measured; other widths are compared with it


def build(target: Target, width: int, dtypes: Sequence[str],
          names: Sequence[str] = (*FUNCTIONS, *BINARY)) -> Program:
    program = Program(target)
    for name in names:
        for dtype in dtypes:
            program.add(f"{name}.{dtype}", lambda k, *x, name=name: getattr(k, name)(*x),
                        [dtype] * FLOAT_RULES[name].operands, width)
    return program


@cache
def program_of(width: int) -> Program:
    return build(host(), width, [d for d, widest in WIDEST.items() if width in (widest, 1, 4)])


@cache
def old_program() -> Program:
    return build(OLDEST_X86, 4, ("f32", "f64"))


@cache
def portable_program() -> Program:
    return build(without_avx512(), 8, ("f32", "f64"))


def run(name: str, dtype: str, *operands: np.ndarray) -> np.ndarray:
    return program_of(WIDEST[dtype]).run(f"{name}.{dtype}", *operands)


def spacing(exact: np.ndarray, dtype: str) -> np.ndarray:
    """The distance between neighbours of ``dtype`` at ``exact``."""
    information = np.finfo(DTYPE[dtype])
    _, exponent = np.frexp(np.maximum(np.abs(exact), information.tiny))
    return np.ldexp(np.ones_like(exact), exponent - information.nmant - 1)


def largest_error(got: np.ndarray, exact: np.ndarray, dtype: str) -> float:
    """In ULP, over what is finite; the rest has to be the same, signs included."""
    rounded = exact.astype(DTYPE[dtype])
    finite = np.isfinite(rounded) & np.isfinite(got)
    np.testing.assert_array_equal(got[~finite], rounded[~finite])
    numbers = ~np.isnan(rounded)
    np.testing.assert_array_equal(np.signbit(got[numbers]), np.signbit(rounded[numbers]))
    errors = np.abs(got[finite].astype(exact.dtype) - exact[finite]) / spacing(exact[finite], dtype)
    return float(errors.max())


def f64_error(got: np.ndarray, exact: list[Any]) -> float:
    """In ULP, against numbers of mpmath."""
    nearest = np.array([float(e) for e in exact])
    rest = np.array([float(e - mp.mpf(float(n))) for e, n in zip(exact, nearest, strict=True)])
    assert np.isfinite(got).all()
    return float(np.max(np.abs((got - nearest) - rest) / spacing(nearest, "f64")))


def f64_samples(low: float, high: float, count: int = 300) -> np.ndarray:
    """Numbers of all magnitudes between ``low`` and ``high``, and evenly spread ones."""
    rng = np.random.default_rng(7)
    exponents = rng.uniform(-20, np.log2(max(abs(low), abs(high))), count)
    spread = np.exp2(exponents) * rng.choice([-1.0, 1.0], count)
    even = rng.uniform(max(low, -800), min(high, 800), count)
    close = np.clip(rng.uniform(-4, 4, count), low, high)
    samples = np.concatenate([spread, even, close, [low, high]])
    return samples[(samples >= low) & (samples <= high)]


@pytest.fixture(autouse=True)
def _quiet_and_precise() -> Iterator[None]:
    with np.errstate(all="ignore"), mp.workprec(140):
        yield


# ---- accuracy ------------------------------------------------------------------------------------
@cache
def f32_exact(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Every 16411th bit pattern, infinities and subnormal numbers among them, and the results."""
    x = np.arange(0, 2**32, 16_411, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = np.concatenate([x[~np.isnan(x)], np.array(EDGES, np.float32)])
    return x, FUNCTIONS[name][0](x.astype(np.float64))


@cache
def f64_exact(name: str) -> tuple[np.ndarray, list[Any]]:
    """Numbers of the interval, and the results."""
    _, exact, _, interval = FUNCTIONS[name]
    x = f64_samples(*interval)
    return x, [exact(mp.mpf(float(v))) for v in x]


def check_accuracy(program: Program, name: str, dtype: str, bound: float) -> None:
    x, exact = f32_exact(name) if dtype == "f32" else f64_exact(name)
    got = program.run(f"{name}.{dtype}", x)
    if dtype == "f32":
        assert largest_error(got, exact, dtype) <= bound
    else:
        assert f64_error(got, exact) <= bound


@pytest.mark.parametrize("name", FUNCTIONS)
def test_f32_over_all_magnitudes(name: str) -> None:
    check_accuracy(program_of(WIDEST["f32"]), name, "f32", FUNCTIONS[name][2][0])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_f64_against_mpmath(name: str) -> None:
    check_accuracy(program_of(WIDEST["f64"]), name, "f64", FUNCTIONS[name][2][1])


# Where a dense sweep of f32 and of f64 found the largest errors.
WORST = {
    "tanh": ((0.0153, 0.0157), (0.0303, 0.0313), (0.0602, 0.0626), (0.17, 0.27), (0.5, 0.57)),
    "log": ((0.38, 0.4), (0.62, 0.64), (0.697, 0.711), (1.38, 1.415), (1.55, 1.57), (2.65, 2.72)),
}


@pytest.mark.parametrize("name", WORST)
@pytest.mark.parametrize("program", [program_of, portable_program], ids=["host", "portable"])
def test_where_errors_are_largest(name: str, program: Callable[..., Program]) -> None:
    exact, bounds = FUNCTIONS[name][0], FUNCTIONS[name][2]
    rng = np.random.default_rng(10)
    spread = np.concatenate([rng.uniform(low, high, 100_000) for low, high in WORST[name]])
    narrow, wide = spread.astype(np.float32), spread[::400]
    for dtype, x, bound in zip(DTYPE, (narrow, wide), bounds, strict=True):
        made = program() if program is portable_program else program(WIDEST[dtype])
        got = made.run(f"{name}.{dtype}", x)
        if dtype == "f32":
            assert largest_error(got, exact(x.astype(np.float64)), dtype) <= bound
        else:
            assert f64_error(got, [FUNCTIONS[name][1](mp.mpf(float(v))) for v in x]) <= bound


@pytest.mark.parametrize("name", FUNCTIONS)
def test_f64_edges_are_numpys(name: str) -> None:
    x = np.array(EDGES)
    got, want = run(name, "f64", x), FUNCTIONS[name][0](x)
    np.testing.assert_allclose(got, want, rtol=4e-15, atol=2e-323)  # SciPy is not that exact
    numbers = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[numbers]), np.signbit(want[numbers]))


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("dtype", DTYPE)
def test_binary_edges_are_numpys(name: str, dtype: str) -> None:
    grid = np.array(EDGES).astype(DTYPE[dtype])
    x, y = (a.ravel() for a in np.meshgrid(grid, grid))
    got, want = run(name, dtype, x, y), BINARY[name][0](x, y)
    tolerance, smallest = {"f32": (4e-7, 1.5e-45), "f64": (5e-16, 5e-324)}[dtype]
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=smallest)
    numbers = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[numbers]), np.signbit(want[numbers]))


def pow_samples() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    ranges = [(20, 6), (30, 34), (0.0014, 5e5), (0.14, 6e3), (1000, 1)]
    x = np.concatenate([np.exp2(rng.uniform(-a, a, 250)) for a, _ in ranges])
    y = np.concatenate([rng.uniform(-b, b, 250) for _, b in ranges])
    return x, y


def test_pow_f64_against_mpmath() -> None:
    x, y = pow_samples()
    got = run("pow", "f64", x, y)
    exact = [mp.power(mp.mpf(float(a)), mp.mpf(float(b))) for a, b in zip(x, y, strict=True)]
    assert f64_error(got, exact) <= BINARY["pow"][2][1]


@pytest.mark.parametrize("name", BINARY)
def test_binary_f32(name: str) -> None:
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 2**32, (2, 100_000), dtype=np.uint64).astype(np.uint32).view(np.float32)
    if name == "pow":
        spread = rng.uniform(-3, 3, (2, len(x)))
        x, y = np.exp2(spread[0] * 5).astype(np.float32), (spread[1] * 3).astype(np.float32)
    good = ~(np.isnan(x) | np.isnan(y))
    x, y = x[good], y[good]
    got = run(name, "f32", x, y)
    wide = BINARY[name][0](x.astype(np.float64), y.astype(np.float64))
    assert largest_error(got, wide, "f32") <= BINARY[name][2][0]


def test_atan2_f64_against_mpmath() -> None:
    rng = np.random.default_rng(5)
    y, x = rng.standard_normal((2, 1500)) * 10.0 ** rng.uniform(-5, 5, (2, 1500))
    got = run("atan2", "f64", y, x)
    exact = [mp.atan2(mp.mpf(float(a)), mp.mpf(float(b))) for a, b in zip(y, x, strict=True)]
    assert f64_error(got, exact) <= BINARY["atan2"][2][1]


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_large_angles(name: str) -> None:
    rng = np.random.default_rng(6)
    x = 10.0 ** rng.uniform(11.9, 308, 120) * rng.choice([-1.0, 1.0], 120)
    with mp.workprec(1300):
        exact = [getattr(mp, name)(mp.mpf(float(v))) for v in x]
    assert f64_error(run(name, "f64", x), exact) <= FUNCTIONS[name][2][1]
    narrow = (10.0 ** rng.uniform(5.9, 38, 5000)).astype(np.float32)
    got = run(name, "f32", narrow)
    wide = FUNCTIONS[name][0](narrow.astype(np.float64))
    assert largest_error(got, wide, "f32") <= FUNCTIONS[name][2][0]


def test_close_to_multiples_of_half_pi() -> None:
    """Where the reduction cancels most: the numbers nearest to n * pi/2."""
    n = np.unique(np.exp2(np.linspace(0, 39, 300)).round())
    x = np.array([float(mp.mpf(float(v)) * mp.pi / 2) for v in n])
    for name in ("sin", "cos", "tan"):
        exact = [getattr(mp, name)(mp.mpf(float(v))) for v in x]
        assert f64_error(run(name, "f64", x), exact) <= FUNCTIONS[name][2][1]


# ---- independence --------------------------------------------------------------------------------
@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("dtype", DTYPE)
def test_values_do_not_depend_on_the_width(width: int, dtype: str) -> None:
    rng = np.random.default_rng(8)
    x = np.concatenate([rng.standard_normal(501) * 10.0 ** rng.uniform(-3, 9, 501), EDGES])
    x = x.astype(DTYPE[dtype])
    for name in (*FUNCTIONS, *BINARY):
        operands = [x, x[::-1].copy()][: FLOAT_RULES[name].operands]
        narrow = program_of(width).run(f"{name}.{dtype}", *operands)
        np.testing.assert_array_equal(run(name, dtype, *operands), narrow, err_msg=name)


@pytest.mark.parametrize("width", [2, 32, 64])
def test_widths_that_registers_do_not_have(width: int) -> None:
    names = ("exp", "log", "sigmoid")
    program = build(host(), width, DTYPE, names)
    for name in names:
        for dtype, wide in DTYPE.items():
            x = np.random.default_rng(9).uniform(-20, 20, 300).astype(wide)
            got, want = program.run(f"{name}.{dtype}", x), run(name, dtype, x)
            np.testing.assert_array_equal(got, want, err_msg=name)


def test_a_large_neighbour_changes_nothing() -> None:
    x = np.linspace(-9, 9, 64).astype(np.float32)
    alone = run("sin", "f32", x)
    x[5] = 1e20
    beside = run("sin", "f32", x)
    assert np.delete(alone, 5).tobytes() == np.delete(beside, 5).tobytes()


def check_pow(program: Program) -> None:
    x, y = (a[::5] for a in pow_samples())
    got = program.run("pow.f64", x, y)
    exact = [mp.power(mp.mpf(float(a)), mp.mpf(float(b))) for a, b in zip(x, y, strict=True)]
    assert f64_error(got, exact) <= 1.07


@pytest.mark.skipif(not IS_X86, reason="other processors have fused multiply-add")
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPE)
def test_without_fused_multiply_add(name: str, dtype: str) -> None:
    check_accuracy(old_program(), name, dtype, 4)


@pytest.mark.skipif(not IS_X86, reason="other processors have fused multiply-add")
def test_pow_without_fused_multiply_add() -> None:
    check_pow(old_program())


@pytest.mark.skipif(not host().capabilities.avx512, reason="all tests run without it")
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPE)
def test_without_avx512(name: str, dtype: str) -> None:
    check_accuracy(portable_program(), name, dtype, FUNCTIONS[name][2][list(DTYPE).index(dtype)])


@pytest.mark.skipif(not host().capabilities.avx512, reason="all tests run without it")
def test_pow_without_avx512() -> None:
    check_pow(portable_program())
    grid = np.array(EDGES)
    x, y = (a.ravel() for a in np.meshgrid(grid, grid))
    got = portable_program().run("pow.f64", x, y)
    np.testing.assert_allclose(got, np.power(x, y), rtol=5e-16, atol=5e-324)


# ---- half precision, symbols ---------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_half_precision_is_f32_rounded(dtype: str) -> None:
    names = ("exp", "log", "sin", "tanh", "pow")
    program = build(host(), 8, [dtype], names)
    x = np.arange(2**16, dtype=np.uint16).view(numpy_dtype(dtype))
    for name in names:
        operands = [x, x[::-1].copy()][: FLOAT_RULES[name].operands]
        wide = run(name, "f32", *(o.astype(np.float32) for o in operands))
        got = program.run(f"{name}.{dtype}", *operands)
        want = wide.astype(x.dtype).astype(np.float32)
        np.testing.assert_array_equal(got.astype(np.float32), want)


@pytest.mark.skipif(not IS_X86 or "linux" not in host().triple, reason="reads ELF of this target")
def test_objects_need_nothing_but_libm() -> None:
    usual = LIBM if host().capabilities.fma else LIBM_OLD
    assert undefined_symbols(program_of(16).object) <= usual
    assert undefined_symbols(old_program().object) <= LIBM_OLD


def test_arm_objects_need_nothing_but_libm() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = Target("generic", "", COMMON, triple="aarch64-unknown-linux-gnu")
    assert undefined_symbols(build(target, 4, ["f32"]).object) <= LIBM


def test_tables_are_complete() -> None:
    assert [name for name in PRIMITIVES if not hasattr(LaneBuilder, name)] == []
    assert {*FUNCTIONS, *BINARY} | set(INTEGER_RULES) == set(FLOAT_RULES)
    assert set(FLOAT_RULES) <= PRIMITIVES
