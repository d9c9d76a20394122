"""Scalar rules as Python expressions: the primitives of the ``ScalarBuilder`` contract, for numba.

A primitive gives a ``Term``, an expression that knows its dtype and how tightly it binds; nothing
is written until a statement needs it. numba computes integers in 64 bits and mixes dtypes as it
likes, so constants are typed and narrow integers are brought back to their dtype after each
primitive: the values are those of the LLVM lanes. 16-bit floats have no terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from stepforge.codegen.kernel import NotSupported
from stepforge.ir.records import record
from stepforge.ir.types import NUMERIC

# How tightly an expression binds, from Python's grammar.
CHOICE, NEGATION, COMPARISON, OR, XOR, AND, SHIFT, SUM, PRODUCT, SIGN, ATOM = range(11)

# IR dtype -> the name of numba's type
NUMBA_NAMES = {
    "bool": "boolean",
    **{name: NUMERIC[name][0] for name in NUMERIC if name not in ("bool", "f16", "bf16")},
}
_SYMBOLS = {
    "add": ("+", SUM), "sub": ("-", SUM), "mul": ("*", PRODUCT), "div": ("/", PRODUCT),
    "and_": ("&", AND), "or_": ("|", OR), "xor": ("^", XOR),
}  # fmt: skip
_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
# primitives of floats that are functions of the same name in Python's math module
FUNCTIONS = frozenset(
    ("exp", "expm1", "log", "log1p", "pow", "erf", "erfc", "sin", "cos", "tan", "asin", "acos",
     "atan", "atan2", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh")
)  # fmt: skip
# primitives of floats -> functions of ``numba_library``
_LIBRARY = {
    "sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "round_even": "nearest",
    "copysign": "copysign", "min": "minimum", "max": "maximum", "fma": "fma",
    "sigmoid": "sigmoid", "trunc_mod": "fmod",
}  # fmt: skip
# primitives of integers -> functions of ``numba_library``, for signed and unsigned ones
_INTEGER_LIBRARY = {
    "floor_div": ("floor_div", "whole_div"),
    "floor_mod": ("floor_mod", "whole_mod"),
    "trunc_div": ("trunc_div", "whole_div"),
    "trunc_mod": ("trunc_mod", "whole_mod"),
    "pow": ("signed_power", "whole_power"),
}
LIBRARY = "stepforge.codegen.numba_library"


@record(frozen=True, eq=False, slots=True)
class Term:
    """An expression of an IR dtype: ``form`` has ``{0}``, ``{1}`` for its operands.

    ``level`` is how tightly it binds, ``needs`` how tightly each operand has to, so as to stand
    there without parentheses.
    """

    dtype: str
    form: str
    operands: tuple[Term, ...] = ()
    needs: tuple[int, ...] = ()
    level: int = ATOM


Given: TypeAlias = "Term | int | float"


def kind_of(dtype: str) -> str:
    """``b i u f`` of dtypes that terms have. Raises: NotSupported for the others."""
    if dtype == "index":
        return "i"
    if dtype not in NUMBA_NAMES or NUMERIC[dtype][1] == "c":
        raise NotSupported(f"elements of {dtype}")
    return NUMERIC[dtype][1]


def literal(value: Any, dtype: str) -> str:
    """A number of ``dtype`` in Python, without its type: integers wrap, floats are rounded."""
    kind = kind_of(dtype)
    if kind == "b":
        return str(bool(value))
    if kind == "f":
        return _float_literal(float(value), dtype)
    bits = 64 if dtype == "index" else NUMERIC[dtype][2]
    wrapped = int(value) & ((1 << bits) - 1)
    return str(wrapped - (1 << bits) if kind == "i" and wrapped >> (bits - 1) else wrapped)


def _float_literal(value: float, dtype: str) -> str:
    if math.isnan(value):
        return "nan"
    if dtype == "f64" or math.isinf(value):
        return repr(value)
    with np.errstate(over="ignore"):
        rounded = np.float32(value)
    return _float_literal(float(rounded), "f64") if np.isinf(rounded) else str(rounded)


class ScalarText:
    """The scalar builder. ``use(module, name)`` is told which names the expressions mention."""

    def __init__(self, use: Callable[[str, str], object]) -> None:
        self._use = use

    # ---- terms ----------------------------------------------------------------------------------
    def constant(self, value: float, like: Term | str) -> Term:
        """A Python number of the dtype ``like`` (a term or a name)."""
        dtype = like.dtype if isinstance(like, Term) else like
        text = literal(value, dtype)
        for name in ("inf", "nan"):
            if name in text:
                self._use("math", name)
        if dtype in ("bool", "f64", "i64", "index"):  # Python's own
            return Term(dtype, text, level=SIGN if text.startswith("-") else ATOM)
        return Term(dtype, f"{self._type(dtype)}({text})")

    def _type(self, dtype: str) -> str:
        name = NUMBA_NAMES[dtype]
        self._use("numba", name)
        return name

    def _terms(self, *values: Given) -> tuple[Term, ...]:
        like = next(v for v in values if isinstance(v, Term))
        return tuple(v if isinstance(v, Term) else self.constant(v, like) for v in values)

    def _narrowed(self, term: Term) -> Term:
        """``term``, which numba computes in 64 bits, as the integer of its dtype."""
        if kind_of(term.dtype) not in "iu" or term.dtype in ("i64", "u64", "index"):
            return term
        form = f"{self._type(term.dtype)}({term.form})"
        return Term(term.dtype, form, term.operands, term.needs)

    def _call(self, module: str, name: str, *operands: Term, dtype: str = "") -> Term:
        if module:
            self._use(module, name)
        places = ", ".join(f"{{{i}}}" for i in range(len(operands)))
        needs = (CHOICE,) * len(operands)
        return Term(dtype or operands[0].dtype, f"{name}({places})", operands, needs)

    def _infix(self, symbol: str, level: int, a: Term, b: Term) -> Term:
        form = f"{{0}} {symbol} {{1}}"
        return self._narrowed(Term(a.dtype, form, (a, b), (level, level + 1), level))

    # ---- primitives -----------------------------------------------------------------------------
    def __getattr__(self, name: str) -> Callable[..., Term]:
        """Every primitive that is no method of its own. Raises: AttributeError."""
        if name in _SYMBOLS:
            return partial(self._arithmetic, name)
        if name in _COMPARISONS:
            return partial(self._compare, _COMPARISONS[name])
        if name in FUNCTIONS or name in _LIBRARY or name in _INTEGER_LIBRARY:
            return partial(self._function, name)
        raise AttributeError(name)

    def _arithmetic(self, name: str, x: Given, y: Given) -> Term:
        a, b = self._terms(x, y)
        if a.dtype == "bool" and name in ("add", "mul"):
            name = {"add": "or_", "mul": "and_"}[name]
        symbol, level = _SYMBOLS[name]
        return self._infix(symbol, level, a, b)

    def _compare(self, symbol: str, x: Given, y: Given) -> Term:
        form, needs = f"{{0}} {symbol} {{1}}", (OR, OR)
        return Term("bool", form, self._terms(x, y), needs, COMPARISON)

    def _function(self, name: str, *values: Given) -> Term:
        operands = self._terms(*values)
        kind = kind_of(operands[0].dtype)
        if kind == "f":
            return self._float_function(name, operands)
        if name in ("min", "max"):
            if kind == "b":
                return self._arithmetic("and_" if name == "min" else "or_", *operands)
            return self._call("", name, *operands)
        if name in ("floor", "ceil", "trunc", "round_even"):
            return operands[0]
        if name == "fma":
            return self._arithmetic("add", self._arithmetic("mul", *operands[:2]), operands[2])
        if name not in _INTEGER_LIBRARY:
            raise TypeError(f"{name}: not a primitive of {operands[0].dtype}")
        return self._call(LIBRARY, _INTEGER_LIBRARY[name][kind == "u"], *operands)

    def _float_function(self, name: str, operands: tuple[Term, ...]) -> Term:
        if name in _COMPOSED:
            return _COMPOSED[name](self, *operands)
        if name in _LIBRARY:
            return self._call(LIBRARY, _LIBRARY[name], *operands)
        return self._call("math", name, *operands)

    def neg(self, x: Term) -> Term:
        """-x; integers wrap."""
        if kind_of(x.dtype) == "u":
            return self._arithmetic("sub", 0, x)
        return self._narrowed(Term(x.dtype, "-{0}", (x,), (SIGN,), SIGN))

    def abs(self, x: Term) -> Term:
        """The magnitude; that of the smallest integer wraps to itself."""
        return self._call("", "abs", x) if kind_of(x.dtype) in "if" else x

    def not_(self, x: Term) -> Term:
        """All bits the other way."""
        if x.dtype == "bool":
            return Term("bool", "not {0}", (x,), (NEGATION,), NEGATION)
        return self._arithmetic("xor", x, -1)

    def shl(self, x: Given, count: Given) -> Term:
        """x shifted left by ``count`` modulo the width."""
        return self._shift("<<", x, count)

    def shr(self, x: Given, count: Given) -> Term:
        """x shifted right by ``count`` modulo the width; signed integers keep their sign."""
        return self._shift(">>", x, count)

    def _shift(self, symbol: str, x: Given, count: Given) -> Term:
        last = NUMERIC[self._terms(x, count)[0].dtype][2] - 1
        if isinstance(count, Term):
            a, b = self._terms(x, self._arithmetic("and_", count, last))
        else:
            a, b = self._terms(x, int(count) & last)
        return self._infix(symbol, SHIFT, a, b)

    def select(self, condition: Term, x: Given, y: Given) -> Term:
        """x where ``condition`` (bool) holds, else y."""
        a, b = self._terms(x, y)
        form, needs = "{1} if {0} else {2}", (NEGATION, NEGATION, CHOICE)
        return Term(a.dtype, form, (condition, a, b), needs, CHOICE)

    def is_nan(self, x: Term) -> Term:
        """True of NaN; no integer is one."""
        return self.ne(x, x) if kind_of(x.dtype) == "f" else self.constant(False, "bool")

    def is_inf(self, x: Term) -> Term:
        """True of both infinities."""
        if kind_of(x.dtype) != "f":
            return self.constant(False, "bool")
        return self.eq(self.abs(x), math.inf)

    def is_finite(self, x: Term) -> Term:
        """True of what is neither infinite nor NaN."""
        if kind_of(x.dtype) != "f":
            return self.constant(True, "bool")
        return self.lt(self.abs(x), math.inf)

    def convert(self, x: Term, dtype: str) -> Term:
        """x as ``dtype``: floats to integers by truncation, with NaN 0, and saturating."""
        source, target = kind_of(x.dtype), kind_of(dtype)
        if x.dtype == dtype:
            return x
        if target == "b":
            return self.ne(x, 0)
        if source == "f" and target != "f":
            return self._call(LIBRARY, f"to_{NUMBA_NAMES[dtype]}", x, dtype=dtype)
        name = "int64" if dtype == "index" else NUMBA_NAMES[dtype]
        return self._call("numba", name, x, dtype=dtype)


# ---- division of floats, as NumPy does it --------------------------------------------------------
def _float_crosses(k: ScalarText, rest: Term, y: Term) -> Term:
    """Whether a remainder with the sign of the dividend has not that of the divisor."""
    return k.and_(k.ne(rest, 0), k.ne(k.lt(rest, 0), k.lt(y, 0)))


def _float_floor_div(k: ScalarText, x: Term, y: Term) -> Term:
    """NumPy's ``floor_divide``: the whole number that goes with ``_float_floor_mod``."""
    rest, plain = k.trunc_mod(x, y), k.div(x, y)
    quotient = k.div(k.sub(x, rest), y)
    quotient = k.select(_float_crosses(k, rest, y), k.sub(quotient, 1), quotient)
    below = k.floor(quotient)
    whole = k.select(k.gt(k.sub(quotient, below), 0.5), k.add(below, 1), below)
    whole = k.select(k.eq(quotient, 0), k.copysign(k.constant(0, x), plain), whole)
    return k.select(k.eq(y, 0), plain, whole)


def _float_floor_mod(k: ScalarText, x: Term, y: Term) -> Term:
    """NumPy's ``remainder``: with the sign of y."""
    rest = k.trunc_mod(x, y)
    moved = k.select(_float_crosses(k, rest, y), k.add(rest, y), rest)
    signed = k.select(k.eq(rest, 0), k.copysign(k.constant(0, x), y), moved)
    return k.select(k.eq(y, 0), rest, signed)


_COMPOSED: dict[str, Callable[[ScalarText, Term, Term], Term]] = {
    "trunc_div": lambda k, x, y: k.trunc(k.div(x, y)),
    "floor_div": _float_floor_div,
    "floor_mod": _float_floor_mod,
}
