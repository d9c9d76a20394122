"""Primitives on lanes: integers and floats on their edges, conversions, memory, reductions."""

from __future__ import annotations

import ctypes
import math
import mmap
import operator
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from itertools import product, starmap
from typing import Any

import numpy as np
import pytest
from llvm_testing import Program

from stepforge.codegen.lane_core import literal, round_to_half
from stepforge.codegen.lanes import Lane, LaneBuilder
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter
from stepforge.ir.types import FLOATS, INTEGERS, NUMERIC, SIGNED, numpy_dtype

REAL = ("bool", *INTEGERS, *FLOATS)
HALVES = ("f16", "bf16")
Reference = Callable[..., Any]


def bits(dtype: str) -> int:
    return NUMERIC[dtype][2]


def limits(dtype: str) -> tuple[int, int]:
    if dtype in SIGNED:
        return -(1 << (bits(dtype) - 1)), (1 << (bits(dtype) - 1)) - 1
    return 0, (1 << bits(dtype)) - 1


def wrap(value: int, dtype: str) -> int:
    low, _ = limits(dtype)
    return (value - low) % (1 << bits(dtype)) + low


def integer_edges(dtype: str) -> list[int]:
    low, high = limits(dtype)
    values = [low, low + 1, low // 2, -129, -7, -3, -2, -1, 0, 1, 2, 3, 7, 8, 31, 64, 100, 127,
              high // 2, high - 1, high]
    return sorted({v for v in values if low <= v <= high})


def trunc_div(x: int, y: int) -> int:
    return 0 if y == 0 else abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)


def integer_pow(x: int, y: int) -> int:
    return pow(x, y, 1 << 64) if y >= 0 else x ** (y % 2) if abs(x) == 1 else 0


# name -> meaning, on Python integers; the result wraps
INTEGER_BINARY: dict[str, Reference] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "min": min, "max": max,
    "and_": operator.and_, "or_": operator.or_, "xor": operator.xor,
    "trunc_div": trunc_div, "trunc_mod": lambda x, y: 0 if y == 0 else x - y * trunc_div(x, y),
    "floor_div": lambda x, y: 0 if y == 0 else x // y,
    "floor_mod": lambda x, y: 0 if y == 0 else x % y,
    "pow": integer_pow,
}
INTEGER_UNARY: dict[str, Reference] = {"neg": operator.neg, "abs": abs, "not_": operator.invert}
SHIFTS: dict[str, Reference] = {"shl": operator.lshift, "shr": operator.rshift}
COMPARISONS: dict[str, Reference] = {
    n: getattr(operator, n) for n in ("eq", "ne", "lt", "le", "gt", "ge")
}


def primitive(name: str) -> Callable[..., Lane]:
    return lambda k, *lanes: getattr(k, name)(*lanes)


# ---- integers ------------------------------------------------------------------------------------
@pytest.mark.parametrize(("dtype", "width"), [*((d, 8) for d in INTEGERS), ("i32", 1), ("u64", 1)])
def test_integers_on_their_edges(dtype: str, width: int) -> None:
    program = Program()
    for name in (*INTEGER_BINARY, *SHIFTS, *COMPARISONS):
        program.add(name, primitive(name), [dtype, dtype], width)
    for name in INTEGER_UNARY:
        program.add(name, primitive(name), [dtype], width)
    pairs = list(product(integer_edges(dtype), repeat=2))
    x, y = np.array(pairs, numpy_dtype(dtype)).T
    for name, meaning in INTEGER_BINARY.items():
        want = [wrap(meaning(a, b), dtype) for a, b in pairs]
        assert program.run(name, x, y).tolist() == want, name
    for name, meaning in SHIFTS.items():
        want = [wrap(meaning(a, b % bits(dtype)), dtype) for a, b in pairs]
        assert program.run(name, x, y).tolist() == want, name
    for name, meaning in COMPARISONS.items():
        assert program.run(name, x, y).tolist() == list(starmap(meaning, pairs)), name
    for name, meaning in INTEGER_UNARY.items():
        assert program.run(name, x).tolist() == [wrap(meaning(a), dtype) for a, _ in pairs], name


def test_bool() -> None:
    program = Program()
    logic = {name: INTEGER_BINARY[name] for name in ("and_", "or_", "xor", "min", "max", "mul")}
    meanings: dict[str, Reference] = {**logic, "add": operator.or_, **COMPARISONS}
    for name in meanings:
        program.add(name, primitive(name), ["bool", "bool"], 4)
    program.add("not_", primitive("not_"), ["bool"], 4)
    pairs = list(product([False, True], repeat=2))
    x, y = np.array(pairs).T
    for name, meaning in meanings.items():
        assert program.run(name, x, y).tolist() == list(starmap(meaning, pairs)), name
    assert program.run("not_", x).tolist() == [not a for a, _ in pairs]


# ---- floats --------------------------------------------------------------------------------------
FLOAT_EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, -3.5, 3.0, 7.0, -7.0, 1e-3, 1e4, 65504.0,
               65520.0, 6e-8, 6.2e-5, 1e-40, 3.3895e38, 3.4e38, 1e300, 5e-324, 2.0**23 + 1,
               2.0**52 + 1, math.inf, -math.inf, math.nan]
FLOAT_BINARY: dict[str, Reference] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "min": np.minimum,
    "max": np.maximum, "copysign": np.copysign, "floor_div": np.floor_divide,
    "floor_mod": np.remainder, "trunc_mod": np.fmod,
    "trunc_div": lambda x, y: np.trunc(np.divide(x, y)),
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
}
FLOAT_UNARY: dict[str, Reference] = {
    "neg": np.negative, "abs": np.abs, "sqrt": np.sqrt, "floor": np.floor, "ceil": np.ceil,
    "trunc": np.trunc, "round_even": np.rint, "is_nan": np.isnan, "is_inf": np.isinf,
    "is_finite": np.isfinite,
}


def rounded_like_numpy(meaning: Reference, dtype: str, *operands: np.ndarray) -> np.ndarray:
    """What NumPy computes; in f32, rounded, for the 16-bit floats."""
    if dtype in HALVES:
        result = meaning(*(o.astype(np.float32) for o in operands))
        return result if result.dtype == bool else result.astype(numpy_dtype(dtype))
    return meaning(*operands)


def assert_same(got: np.ndarray, want: np.ndarray, message: str = "") -> None:
    """Equal, NaN to NaN and the signs of zeros included."""
    assert got.dtype == want.dtype, message
    if got.dtype.kind not in "biu":
        got, want = got.astype(np.float64), want.astype(np.float64)
        number = ~np.isnan(want)
        np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(want[number]), message)
    np.testing.assert_array_equal(got, want, message)


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_are_numpys(dtype: str) -> None:
    program = Program()
    for name in FLOAT_BINARY:
        program.add(name, primitive(name), [dtype, dtype], 8)
    for name in FLOAT_UNARY:
        program.add(name, primitive(name), [dtype], 8)
    with np.errstate(all="ignore"):
        rng = np.random.default_rng(1)
        spread = rng.standard_normal((2, 2000)) * 10.0 ** rng.uniform(-6, 6, (2, 2000))
        edges = np.array(list(product(FLOAT_EDGES, repeat=2))).T
        x, y = np.concatenate([edges, spread], axis=1).astype(numpy_dtype(dtype))
        different = ~((x == 0) & (y == 0))  # which zero is smaller, NumPy leaves open
        for name, meaning in FLOAT_BINARY.items():
            a, b = (x[different], y[different]) if name in ("min", "max") else (x, y)
            assert_same(program.run(name, a, b), rounded_like_numpy(meaning, dtype, a, b), name)
        for name, meaning in FLOAT_UNARY.items():
            assert_same(program.run(name, x), rounded_like_numpy(meaning, dtype, x), name)


def test_fma_rounds_once_where_the_target_can() -> None:
    program = Program()
    program.add("fma", lambda k, x: k.fma(x, x, k.neg(k.mul(x, x))), ["f32"], 4)
    x = np.float32(1) + np.arange(1, 9, dtype=np.float32) * np.float32(2**-20)
    exact = x.astype(np.float64) ** 2 - (x * x).astype(np.float64)
    if program.target.capabilities.fma:
        np.testing.assert_array_equal(program.run("fma", x), exact.astype(np.float32))


def test_python_numbers_become_constants() -> None:
    program = Program()
    program.add("f32", lambda k, x: k.add(k.mul(2, x), 0.1), ["f32"], 4)
    program.add("u8", lambda k, x: k.sub(x, 255), ["u8"], 4)
    program.add("choice", lambda k, x: k.select(k.lt(x, 0), -math.inf, k.mul(x, 0)), ["f64"], 4)
    x = np.arange(-5, 6)
    narrow = x.astype(np.float32)
    np.testing.assert_array_equal(program.run("f32", narrow), narrow * 2 + np.float32(0.1))
    np.testing.assert_array_equal(program.run("u8", x.astype(np.uint8)), (x + 1).astype(np.uint8))
    want = np.where(x < 0, -np.inf, 0)
    np.testing.assert_array_equal(program.run("choice", x.astype(float)), want)


# ---- conversions ---------------------------------------------------------------------------------
# bits, smallest and largest exponent
FORMATS = {"f16": (11, -14, 15), "bf16": (8, -126, 127), "f32": (24, -126, 127),
           "f64": (53, -1022, 1023)}


def nearest(value: Fraction, dtype: str) -> float:
    """The float of ``dtype`` nearest to an exact number, ties to even."""
    precision, low, high = FORMATS[dtype]
    if value == 0:
        return 0.0
    top, bottom = abs(value.numerator), value.denominator
    exponent = top.bit_length() - bottom.bit_length()
    exponent -= abs(value) < Fraction(2) ** exponent
    unit = Fraction(2) ** (max(exponent, low) - precision + 1)
    result = round(value / unit) * unit
    if abs(result) >= Fraction(2) ** (high + 1):
        return math.copysign(math.inf, value)
    return math.copysign(float(result), value)


def converted(value: Any, dtype: str) -> Any:
    """The meaning of ``convert``, on Python numbers."""
    if dtype == "bool":
        return bool(value != 0)
    if dtype in FLOATS:
        special = isinstance(value, float) and (value == 0 or not math.isfinite(value))
        return value if special else nearest(Fraction(value), dtype)
    if isinstance(value, float):
        low, high = limits(dtype)
        if math.isnan(value):
            return 0
        return int(value) if low - 1 < value < high + 1 else low if value < 0 else high
    return wrap(int(value), dtype)


def conversion_samples(dtype: str) -> np.ndarray:
    """Edges of ``dtype`` and of what it is converted to; every pattern of the 16-bit floats."""
    if dtype == "bool":
        return np.array([False, True] * 9)
    if dtype in HALVES:
        return np.arange(2**16, dtype=np.uint16).view(numpy_dtype(dtype))
    if dtype in INTEGERS:
        low, high = limits(dtype)
        powers = [2**e + d for e in range(bits(dtype)) for d in (-1, 0, 1)]
        ties = [2**53 + 1, 2**54 + 2, 2**40 + 2**31 + 1, 2**62 + 2**54, 2**62 + 2**54 + 1,
                16777217, 16777219, 2**24 + 2**16, 2**24 + 2**16 + 1, 65519, 65520, 257, 259]
        values = [v for v in (*powers, *ties) if v <= high]
        values += [-v for v in values if -v >= low]
        return np.array([*integer_edges(dtype), *values], numpy_dtype(dtype))
    whole = [2.0**e + d for e in (*range(66), 100, 127, 128) for d in (-1, -0.5, 0, 0.5)]
    around = [2.0**e * (1 + f * 2.0**-p + t)
              for e in (-134, -126, -25, -15, 0, 15, 127)
              for p in (8, 9, 11, 12) for f in (1, 3) for t in (0, 2.0**-30, -(2.0**-30))]
    values = np.array([*FLOAT_EDGES, 255.9, 0.9, *whole, *around])
    with np.errstate(over="ignore"):
        return np.concatenate([values, -values]).astype(numpy_dtype(dtype))


def by_numpy(x: np.ndarray, dtype: str) -> np.ndarray:
    """``converted`` of the 16-bit floats, all of which f64 holds, by NumPy."""
    wide = x.astype(np.float64)
    if dtype in INTEGERS:
        low, high = limits(dtype)
        small, large = wide < low, wide >= high + 1
        whole = np.where(np.isnan(wide) | small | large, 0, wide).astype(numpy_dtype(dtype))
        whole[small], whole[large] = low, high
        return whole
    return wide.astype(numpy_dtype(dtype))


@pytest.mark.parametrize("source", REAL)
def test_conversions_of_all_pairs(source: str) -> None:
    program = Program()
    for target in REAL:
        program.add(target, lambda k, x, target=target: k.convert(x, target), [source], 8)
    x = conversion_samples(source)
    with np.errstate(all="ignore"):
        for target in REAL:
            got = program.run(target, x)
            if source in HALVES:
                want = by_numpy(x, target)
            else:
                exact = x.astype(np.float64) if x.dtype.kind == "f" else x
                want = np.array([converted(v, target) for v in exact.tolist()], numpy_dtype(target))
            assert_same(got, want, f"{source} to {target}")


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("source", ["f32", "f64"])
def test_every_midpoint_of_half_precision(dtype: str, source: str) -> None:
    """All ties between neighbours, and the numbers of ``source`` next to each tie."""
    program = Program()
    program.add("round", lambda k, x: k.convert(x, dtype), [source], 16)
    infinity = {"f16": 0x7C00, "bf16": 0x7F80}[dtype]
    finite = np.arange(infinity, dtype=np.uint16).view(numpy_dtype(dtype)).astype(np.float64)
    ties = (finite[:-1] + finite[1:]) / 2
    exact = ties.astype(numpy_dtype(source))
    x = np.concatenate([exact, np.nextafter(exact, exact.dtype.type(0)),
                        np.nextafter(exact, exact.dtype.type(np.inf))])
    even = np.where(np.arange(len(ties)) % 2 == 0, finite[:-1], finite[1:])
    want = np.concatenate([even, finite[:-1], finite[1:]])
    for sign in (1, -1):
        got = program.run("round", x * exact.dtype.type(sign)).astype(np.float64)
        np.testing.assert_array_equal(got, want * sign)


@pytest.mark.parametrize("dtype", HALVES)
def test_half_patterns_survive_load_and_store(dtype: str) -> None:
    program = Program()
    program.add("copy", lambda k, x: x, [dtype], 8)
    x = np.arange(2**16, dtype=np.uint16)
    got = program.run("copy", x.view(numpy_dtype(dtype))).view(np.uint16)
    infinity, quiet = {"f16": (0x7C00, 0x200), "bf16": (0x7F80, 0x40)}[dtype]
    want = np.where((x & 0x7FFF) > infinity, x | quiet, x)
    np.testing.assert_array_equal(got, want)


def test_half_constants() -> None:
    import ml_dtypes

    rng = np.random.default_rng(2)
    spread = rng.standard_normal(500) * 10.0 ** rng.uniform(-8, 8, 500)
    values = np.concatenate([spread, FLOAT_EDGES])
    with np.errstate(all="ignore"):
        for dtype, kind in (("f16", np.float16), ("bf16", ml_dtypes.bfloat16)):
            narrow = values.astype(np.float32)
            want = narrow.astype(kind).astype(np.float64)
            got = [round_to_half(float(v), dtype) for v in narrow]
            np.testing.assert_array_equal(got, want)
    assert literal(300, "u8") == "44"
    assert literal(255, "i8") == "-1"


# ---- memory --------------------------------------------------------------------------------------
@cache
def guarded_page() -> tuple[mmap.mmap, int]:
    """Memory whose last byte is followed by a page that may not be touched: the map and its end."""
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + page), page, 0) == 0
    return memory, page


def at_the_end(count: int, dtype: str) -> np.ndarray:
    """``count`` elements that end at the forbidden page."""
    memory, page = guarded_page()
    kind = numpy_dtype(dtype)
    return np.frombuffer(memory, kind, count, page - count * kind.itemsize)


@pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")
@pytest.mark.parametrize("dtype", ["bool", "i8", "u16", "f16", "bf16", "f32", "f64", "i64"])
def test_tails_stay_inside_the_arrays(dtype: str) -> None:
    program = Program()
    program.add("copy", lambda k, x: x, [dtype], 16)
    kind = numpy_dtype(dtype)
    for count in range(1, 36):
        guarded, want = at_the_end(count, dtype), (np.arange(count) % 2).astype(kind)
        out = np.full(count + 2, 1, kind)
        guarded[:] = want
        program.call("copy", guarded, out[1:], count)
        np.testing.assert_array_equal(out, [1, *want, 1])
        guarded[:] = kind.type(1)
        program.call("copy", want, guarded, count)
        np.testing.assert_array_equal(guarded, want)


@pytest.mark.parametrize("width", [1, 4, 16])
@pytest.mark.parametrize("dtype", ["bool", "u8", "bf16", "f32", "i64"])
def test_strided_memory(dtype: str, width: int) -> None:
    program = Program()
    params = [("ptr", "from"), ("i64", "step"), ("ptr", "to"), ("i64", "n")]

    def whole(k: LaneBuilder) -> None:
        k.scatter(k.gather("%from", "%step", dtype), "%to", "%step")

    def masked(k: LaneBuilder) -> None:
        mask = k.tail_mask("%n")
        k.scatter(k.gather("%from", "%step", dtype, mask, 1), "%to", "%step", mask)

    def indexed(k: LaneBuilder) -> None:
        offsets = k.mul(k.iota("i64"), k.splat(Lane("i64", "%step")))
        k.store(k.gather_at("%from", offsets, dtype, k.tail_mask("%n"), 1), "%to")

    for name, write in (("whole", whole), ("masked", masked), ("indexed", indexed)):
        program.function(name, params, width, write)
    kind = numpy_dtype(dtype)
    for step in (1, 3, -2):
        source = (np.arange(3 * width) % 2).astype(kind)
        picked = slice(0, None, step) if step > 0 else slice(2 * width - 1, None, step)
        first = picked.start or 0
        want = source[picked][:width]
        out = np.zeros_like(source)
        program.call("whole", source[first:], step * kind.itemsize, out[first:], width)
        np.testing.assert_array_equal(out[picked][:width], want)
        out[:] = 1
        program.call("masked", source[first:], step * kind.itemsize, out[first:], width - 1)
        np.testing.assert_array_equal(out[picked][: width - 1], want[:-1])
        assert out[picked][width - 1] == 1
        program.call("indexed", source[first:], step * kind.itemsize, out, width - 1)
        np.testing.assert_array_equal(out[:width], [*want[:-1], kind.type(1)])


# ---- across the elements -------------------------------------------------------------------------
REDUCTIONS: dict[str, Reference] = {"add": np.add, "mul": np.multiply, "min": np.minimum,
                                    "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or}


def halved(meaning: Reference, x: np.ndarray) -> Any:
    while len(x) > 1:
        x = meaning(x[: len(x) // 2], x[len(x) // 2 :])
    return x[0]


@pytest.mark.parametrize("dtype", ["i8", "u32", "i64", "f32", "f64"])
def test_reductions_halve_the_vector(dtype: str) -> None:
    program = Program()
    kinds = [k for k in REDUCTIONS if dtype in INTEGERS or k not in ("and", "or")]
    cases = list(product(kinds, (1, 2, 4, 8, 16)))
    for kind, width in cases:
        def write(k: LaneBuilder, kind: str = kind) -> None:
            one = k.rewritten(width=1)
            one.store(k.reduce(kind, k.load("%x", dtype)), "%out")

        program.function(f"{kind}{width}", [("ptr", "x"), ("ptr", "out")], width, write)
    numbers = np.random.default_rng(3).standard_normal(16) * 40
    x = (abs(numbers) if dtype == "u32" else numbers).astype(numpy_dtype(dtype))
    for kind, width in cases:
        out = np.zeros(1, x.dtype)
        program.call(f"{kind}{width}", x, out)
        assert out[0] == halved(REDUCTIONS[kind], x[:width]), (kind, width)
    if dtype in FLOATS:
        x[11] = np.nan
        for kind in kinds:
            program.call(f"{kind}16", x, out)
            assert np.isnan(out[0]), kind


@pytest.mark.parametrize("width", [1, 2, 4, 8, 64])
def test_masks(width: int) -> None:
    program = Program()

    def write(k: LaneBuilder) -> None:
        one, mask = k.rewritten(width=1), k.load("%mask", "bool")
        one.store(one.convert(k.any(mask), "i64"), "%out")
        one.store(k.first_true(mask), k.fn.offset("%out", 8))
        one.store(one.convert(k.reduce("and", mask), "i64"), k.fn.offset("%out", 16))
        one.store(one.convert(k.reduce("or", mask), "i64"), k.fn.offset("%out", 24))
        k.store(k.tail_mask("%n"), "%tail")

    program.function("masks", [("ptr", "mask"), ("i64", "n"), ("ptr", "out"), ("ptr", "tail")],
                     width, write)
    out, tail = np.zeros(4, np.int64), np.zeros(width, bool)
    for pattern in range(min(2**width, 256)):
        mask = np.array([(pattern >> i) & 1 for i in range(width)], bool)
        remaining = pattern if pattern < 100 else 2**40
        program.call("masks", mask, remaining, out, tail)
        first = int(mask.argmax()) if mask.any() else width
        assert out.tolist() == [mask.any(), first, mask.all(), mask.any()]
        assert tail.tolist() == [i < remaining for i in range(width)]


@pytest.mark.parametrize("dtype", REAL)
def test_iota_and_splat(dtype: str) -> None:
    program = Program()

    def write(k: LaneBuilder) -> None:
        one = k.rewritten(width=1)
        k.store(k.iota(dtype), "%out")
        k.store(k.splat(one.load("%x", dtype)), "%copy")
        one.store(k.element(k.load("%x", dtype), "%i"), "%picked")

    params = [("ptr", "x"), ("i64", "i"), ("ptr", "out"), ("ptr", "copy"), ("ptr", "picked")]
    program.function("write", params, 4, write)
    x = np.array([1, 0, 1, 1], numpy_dtype(dtype))
    out, copy, picked = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    program.call("write", x, 1, out, copy, picked)
    assert out.tolist() == np.arange(4).astype(x.dtype).tolist()
    assert copy.tolist() == [1] * 4
    assert picked[0] == 0


# ---- mistakes ------------------------------------------------------------------------------------
def test_mistakes_are_type_errors() -> None:
    module = ModuleWriter("x86_64-unknown-linux-gnu")
    k = LaneBuilder(FunctionWriter(module, "f", "void", []), 4)
    f32, i32, flag = Lane("f32", "%a"), Lane("i32", "%b"), Lane("bool", "%c")
    mistakes: list[tuple[Callable[[], object], str]] = [
        (lambda: k.add(f32, i32), "add: operands are f32 and i32"),
        (lambda: k.add(1, 2), "all Python numbers"),
        (lambda: k.exp(i32), "exp: not a primitive of i32"),
        (lambda: k.div(i32, 2), "div: not a primitive of i32"),
        (lambda: k.shl(f32, 2), "shl: not a primitive of f32"),
        (lambda: k.sub(flag, flag), "sub: not a primitive of bool"),
        (lambda: k.select(i32, f32, f32), "the condition is i32"),
        (lambda: k.add(i32, 0.5), "0.5 is no constant of i32"),
        (lambda: k.convert(f32, "c64"), "no lanes of c64"),
    ]
    for mistake, message in mistakes:
        with pytest.raises(TypeError, match=message):
            mistake()
    with pytest.raises(ValueError, match="power of two"):
        LaneBuilder(k.fn, 3)
