"""What the tests of op declarations share: cases read from their text, inputs, rules run on
arrays.

``ElementBuilder`` implements the primitives of ``scalar`` rules on arrays, independently of the
native back end; ``run_expansion`` evaluates an ``expand`` rule by the ``numpy`` rules of the ops
that it emits.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
from scipy import special

from stepforge.ir import dims, philox
from stepforge.ir.builder import Builder
from stepforge.ir.core import Const, Value
from stepforge.ir.opdef import OpDef, lookup
from stepforge.ir.types import NUMERIC, Type, numpy_dtype, type_of, unify_numpy_shape

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """One application of an op to operands of given types; ``symbols`` says which are
    ``@symbols``.
    """

    text: str
    op: str
    types: tuple[Type, ...]
    symbols: tuple[bool, ...]
    attrs: dict[str, Any]

    @property
    def defn(self) -> OpDef:
        return lookup(self.op)

    @property
    def all_attrs(self) -> dict[str, Any]:
        return {**self.defn.defaults, **self.attrs}

    def results(self) -> tuple[Any, ...]:
        return self.defn.infer_results(self.types, self.attrs)

    def with_sizes(self, sizes: dict[dims.Dim, dims.Dim]) -> Case:
        """The case with other sizes in the operands' shapes."""
        types = [t.with_shape(tuple(sizes.get(n, n) for n in t.dims)) for t in self.types]
        return replace(self, types=tuple(types))


def parse_case(text: str) -> Case:
    """``op(f32[2, 3], @i64, attr=[1, 2])`` as a case."""
    call = ast.parse(text.replace("@", "symbol."), mode="eval").body
    assert isinstance(call, ast.Call)
    assert isinstance(call.func, ast.Name)
    symbols = tuple("symbol." in ast.unparse(node) for node in call.args)
    types = tuple(_type(node) for node in call.args)
    attrs = {keyword.arg: _literal(keyword.value) for keyword in call.keywords if keyword.arg}
    return Case(text, call.func.id, types, symbols, attrs)


def _type(node: ast.expr) -> Type:
    dtype, _, sizes = ast.unparse(node).removeprefix("symbol.").partition("[")
    shape = ast.literal_eval(f"[{sizes.rstrip(']')}]".replace("(", "").replace(")", ""))
    return Type(dtype, tuple(shape))


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return {"true": True, "false": False}[node.id]
    value = ast.literal_eval(node)
    return tuple(value) if isinstance(value, list) else value


# Inputs -------------------------------------------------------------------------------------------


def random_values(type_: Type, rng: np.random.Generator) -> Array:
    """Moderate random elements of a static type."""
    shape = tuple(int(n) for n in type_.dims)  # type: ignore[arg-type]
    if type_.kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    if type_.kind == "o":
        return rng.choice(np.array([b"a", b"bc", b""], object), shape)
    if type_.kind in "iu":
        low = 0 if type_.kind == "u" else -5
        return rng.integers(low, 7, shape).astype(numpy_dtype(type_.dtype))
    values = np.asarray(rng.normal(0, 2, shape))
    if type_.kind == "c":
        values = values + 1j * rng.normal(0, 2, shape)
    return values.astype(numpy_dtype(type_.dtype))


def _below(limit: Any) -> Callable[..., Array]:
    """Integers from 0 to below a limit that is a function of the case."""

    def make(case: Case, type_: Type, rng: np.random.Generator) -> Array:
        high = np.maximum(limit(case, type_), 1)
        return rng.integers(0, high, [int(n) for n in type_.dims]).astype(  # type: ignore[arg-type]
            numpy_dtype(type_.dtype)
        )

    return make


def _positive_definite(case: Case, type_: Type, rng: np.random.Generator) -> Array:
    x = random_values(type_, rng)
    return (x @ np.conj(np.swapaxes(x, -1, -2)) + 2 * np.eye(x.shape[-1])).astype(x.dtype)


def _dominant(case: Case, type_: Type, rng: np.random.Generator) -> Array:
    x = random_values(type_, rng)
    return (x + 9 * np.eye(x.shape[-1])).astype(x.dtype)


def _leading(case: Case, type_: Type) -> Any:
    return np.array(case.types[0].dims[: type_.dims[-1]])  # type: ignore[misc]


# (op, operand number) -> what makes values that the operand may have
SPECIAL: dict[tuple[str, int], Callable[..., Array]] = {
    ("gather", 1): _below(lambda case, _: case.types[0].dims[case.all_attrs["axis"]]),
    ("gather_nd", 1): _below(_leading),
    ("scatter_update", 1): _below(lambda case, _: case.types[0].dims[0]),
    ("scatter_nd_update", 1): _below(_leading),
    ("scatter_nd", 0): _below(lambda case, type_: case.attrs["shape"][: type_.dims[-1]]),
    ("sparse_softmax_cross_entropy", 1): _below(lambda case, _: case.types[0].dims[-1]),
    ("check_bounds", 0): _below(lambda case, _: case.attrs["limit"]),
    ("check_vectors", 0): _below(lambda case, type_: case.attrs["shape"][: type_.dims[-1]]),
    ("check_nonzero", 0): lambda case, type_, rng: random_values(type_, rng) * 2 + 1,
    ("require", 0): lambda case, type_, rng: np.array(True),
    ("assert_true", 0): lambda case, type_, rng: np.array(True),
    ("dim", 0): _below(lambda case, _: 9),
    ("cholesky", 0): _positive_definite,
    ("matrix_inverse", 0): _dominant,
    ("matrix_solve", 0): _dominant,
    ("matrix_triangular_solve", 0): _dominant,
    ("random_uniform_int", 1): lambda case, type_, rng: np.array(-3, numpy_dtype(type_.dtype)),
    ("random_uniform_int", 2): lambda case, type_, rng: np.array(40, numpy_dtype(type_.dtype)),
}


def inputs(case: Case, seed: int = 0) -> list[Any]:
    """Operands for the ``numpy`` rule: arrays, and cells or streams in the place of symbols."""
    rng = np.random.default_rng(seed)
    made: list[Any] = []
    for i, (type_, symbol) in enumerate(zip(case.types, case.symbols, strict=True)):
        if not symbol:
            make = SPECIAL.get((case.op, i))
            made.append(make(case, type_, rng) if make else random_values(type_, rng))
        elif type_.dtype == "resource":
            made.append(philox.Stream(1, seed))
        else:
            made.append(SimpleNamespace(name="v", value=random_values(type_, rng)))
    return made


SPECIAL_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.5, 7.0, -7.25, 1e-3, 60.0, -60.0)
UNUSUAL_FLOATS = (float("nan"), float("inf"), float("-inf"))


def edge_values(dtype: str) -> Array:
    """A vector of the elements of ``dtype`` that rules get wrong most easily."""
    target, kind = numpy_dtype(dtype), NUMERIC[dtype][1]
    if kind == "b":
        return np.array([False, True])
    if kind in "iu":
        limits = np.iinfo(target)
        small = (0, 1, 2, 3, 7, 31, 64, -1, -2, -7)
        ends = (limits.min, limits.min + 1, limits.max, limits.max - 1)
        return np.array([n for n in (*small, *ends) if limits.min <= n <= limits.max], target)
    parts = "f32" if dtype == "c64" else "f64" if dtype == "c128" else dtype
    info = ml_dtypes.finfo(numpy_dtype(parts))
    ends = tuple(float(v) for v in (info.max, info.min, info.tiny, info.eps))
    real = np.array([*SPECIAL_FLOATS, *UNUSUAL_FLOATS, *ends])
    with np.errstate(all="ignore"):
        if kind == "c":
            pairs = np.array(list(itertools.product(real[::3], real[::4])))
            return pairs.astype(numpy_dtype(parts)).view(target)[:, 0]
        return real.astype(target)


# Rules on arrays ----------------------------------------------------------------------------------


def run(case: Case, operands: list[Any]) -> tuple[Any, ...]:
    """What the ``numpy`` rule gives, as a tuple."""
    assert case.defn.numpy is not None
    value = case.defn.numpy(*operands, **case.all_attrs)
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def mismatch(inferred: tuple[Any, ...], values: tuple[Any, ...]) -> str | None:
    """What the values have that their inferred types have not; names are bound by their sizes."""
    if len(inferred) != len(values):
        return f"{len(values)} results, not {len(inferred)}"
    sizes: dict[str, int] = {}
    for type_, value in zip(inferred, values, strict=True):
        if not isinstance(value, np.ndarray):
            return f"a result is no array but {type(value).__name__}"
        actual = type_of(value)
        problem = unify_numpy_shape(type_, value.shape, sizes)
        if actual.dtype != type_.dtype or problem:
            return f"{type_} inferred, {actual} made: {problem}"
    return None


def run_expansion(case: Case, operands: list[Any]) -> tuple[Any, ...]:
    """What the ops of the ``expand`` rule give, as a tuple."""
    assert case.defn.expand is not None
    params = [Value(t) for t in case.types]
    b = Builder()
    made = case.defn.expand(b, *params, **case.all_attrs)
    values: dict[Any, Any] = dict(zip(params, operands, strict=True))

    def value_of(operand: Any) -> Any:
        if isinstance(operand, Const):
            return np.array(operand.value, numpy_dtype(operand.type.dtype))
        return values[operand]

    for op in b.ops:
        assert op.defn.numpy is not None
        result = op.defn.numpy(*[value_of(o) for o in op.operands], **op.all_attrs)
        results = result if isinstance(result, tuple) else (result,)
        assert mismatch(tuple(r.type for r in op.results), results) is None
        values.update(zip(op.results, results, strict=True))
    return tuple(value_of(v) for v in (made if isinstance(made, tuple) else (made,)))


# Comparison ---------------------------------------------------------------------------------------


def ulps(actual: Array, expected: Array) -> float:
    """The largest distance in units of the last place; NaN equals NaN, 0.0 equals -0.0."""
    assert actual.dtype == expected.dtype, f"{actual.dtype} is not {expected.dtype}"
    if actual.dtype.kind == "c":
        parts = (actual.real, expected.real), (actual.imag, expected.imag)
        return max(ulps(np.asarray(a), np.asarray(e)) for a, e in parts)
    exact = actual.dtype.kind in "biuO"
    same = actual == expected if exact else (actual == expected) | (_nan(actual) & _nan(expected))
    if np.all(same):
        return 0.0
    if exact or not np.array_equal(np.isfinite(actual), np.isfinite(expected)):
        return float("inf")
    signed = np.dtype(f"i{actual.dtype.itemsize}")
    ordered = [_ordered(x.view(signed)) for x in (np.atleast_1d(actual), np.atleast_1d(expected))]
    distance = np.abs(ordered[0] - ordered[1])
    return float(np.max(distance[~np.atleast_1d(same)]))


def _nan(x: Array) -> Array:
    return np.asarray(x != x)


def _ordered(bits: Array) -> Array:
    """Bit patterns of floats as integers in the order of the floats."""
    wide = bits.astype(np.float64) if bits.dtype.itemsize == 8 else bits.astype(np.int64)
    low = float(np.iinfo(bits.dtype).min)
    return np.where(bits < 0, low - wide, wide)


# Scalar rules -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Element:
    """The elements of an operand, all at once, as a ``scalar`` rule sees one."""

    dtype: str
    values: Array


def _integer_pow(x: Array, y: Array) -> Array:
    power = [_python_pow(int(a), int(b)) for a, b in zip(x.ravel(), y.ravel(), strict=True)]
    bits = 8 * x.dtype.itemsize
    wrapped = np.array([p & ((1 << bits) - 1) for p in power], np.uint64)
    return wrapped.astype(f"u{x.dtype.itemsize}").view(x.dtype).reshape(x.shape)


def _python_pow(x: int, y: int) -> int:
    if y >= 0:
        return pow(x, y, 1 << 64)
    return x ** (y & 1) if x in (1, -1) else 0


def _quotient(x: Array, y: Array, rounded: Callable[[int, int], int]) -> Array:
    pairs = zip(x.ravel(), y.ravel(), strict=True)
    exact = [0 if b == 0 else rounded(int(a), int(b)) for a, b in pairs]
    bits = 8 * x.dtype.itemsize
    wrapped = np.array([n & ((1 << bits) - 1) for n in exact], np.uint64)
    return wrapped.astype(f"u{x.dtype.itemsize}").view(x.dtype).reshape(x.shape)


def _towards_zero(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _integers_or(
    rounded: Callable[[int, int], int], floats: Callable[..., Array]
) -> Callable[[Array, Array], Array]:
    def primitive(x: Array, y: Array) -> Array:
        return _quotient(x, y, rounded) if x.dtype.kind in "iu" else floats(x, y)

    return primitive


def _pow(x: Array, y: Array) -> Array:
    return _integer_pow(x, y) if x.dtype.kind in "iu" else np.power(x, y)


def _sigmoid(x: Array) -> Array:
    return np.asarray(special.expit(x))


ARRAY_PRIMITIVES: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative,
    "abs": np.abs, "min": np.minimum, "max": np.maximum, "sqrt": np.sqrt, "floor": np.floor,
    "ceil": np.ceil, "trunc": np.trunc, "round_even": np.rint, "copysign": np.copysign,
    "and_": np.bitwise_and, "or_": np.bitwise_or, "xor": np.bitwise_xor, "not_": np.invert,
    "shl": np.left_shift, "shr": np.right_shift, "eq": np.equal, "ne": np.not_equal,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "is_nan": np.isnan, "is_inf": np.isinf, "is_finite": np.isfinite,
    "floor_div": _integers_or(lambda a, b: a // b, np.floor_divide),
    "floor_mod": _integers_or(lambda a, b: a % b, np.remainder),
    "trunc_div": _integers_or(_towards_zero, lambda x, y: np.trunc(x / y)),
    "trunc_mod": _integers_or(lambda a, b: a - _towards_zero(a, b) * b, np.fmod),
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "sin": np.sin,
    "cos": np.cos, "tan": np.tan, "tanh": np.tanh, "sigmoid": _sigmoid, "erf": special.erf,
    "erfc": special.erfc, "pow": _pow, "atan": np.arctan, "atan2": np.arctan2,
    "asin": np.arcsin, "acos": np.arccos, "sinh": np.sinh, "cosh": np.cosh,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
}  # fmt: skip
TESTS = frozenset(("eq", "ne", "lt", "le", "gt", "ge", "is_nan", "is_inf", "is_finite"))


class ElementBuilder:
    """The primitives of ``scalar`` rules on NumPy arrays; 16-bit floats are rounded after each."""

    def constant(self, value: Any, like: Element) -> Element:
        return Element(like.dtype, np.array(value, numpy_dtype(like.dtype)))

    def select(self, condition: Element, x: Any, y: Any) -> Element:
        x, y = self._elements(x, y)
        return Element(x.dtype, np.where(condition.values, x.values, y.values))

    def convert(self, x: Element, dtype: str) -> Element:
        """Python's own numbers, rounded by hand: slow, and independent of the rule under test."""
        target, kind = numpy_dtype(dtype), NUMERIC[dtype][1]
        if kind in "iu":
            values = [_to_integer(v, np.iinfo(target), x.dtype) for v in x.values.ravel()]
            whole = np.array(values, np.uint64).astype(f"u{target.itemsize}").view(target)
            return Element(dtype, whole.reshape(x.values.shape))
        if kind == "b":
            return Element(dtype, np.asarray(x.values != 0))
        with np.errstate(all="ignore"):
            wide = np.float64 if dtype == "f64" else np.float32
            return Element(dtype, x.values.astype(wide).astype(target))

    def _elements(self, *operands: Any) -> list[Element]:
        like = next(o for o in operands if isinstance(o, Element))
        return [o if isinstance(o, Element) else self.constant(o, like) for o in operands]

    def __getattr__(self, primitive: str) -> Callable[..., Element]:
        function = ARRAY_PRIMITIVES[primitive]

        def apply(*operands: Any) -> Element:
            elements = self._elements(*operands)
            assert len({e.dtype for e in elements}) == 1, f"{primitive} of different dtypes"
            dtype = "bool" if primitive in TESTS else elements[0].dtype
            with np.errstate(all="ignore"):
                arrays = np.broadcast_arrays(*[_wide(e) for e in elements])
                return Element(dtype, np.asarray(function(*arrays)).astype(numpy_dtype(dtype)))

        return apply


def _wide(element: Element) -> Array:
    if element.dtype in ("f16", "bf16"):
        return element.values.astype(np.float32)
    return element.values


def _to_integer(value: Any, limits: Any, source: str) -> int:
    """``value`` truncated and saturated (floats) or wrapped (the rest), as bits without sign."""
    mask = (1 << limits.bits) - 1
    if NUMERIC[source][1] != "f":
        return int(value) & mask
    number = float(value)
    if number != number:
        return 0
    if number in (float("inf"), float("-inf")):
        return int(limits.max if number > 0 else limits.min) & mask
    return min(max(int(number), int(limits.min)), int(limits.max)) & mask
