"""The language of the algebra: patterns of elementwise ops, written with Python's operators, and
rules of two patterns.

``counterexample`` evaluates both sides of a rule, so that a table of rules is its own test.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stepforge.ir.opdef import lookup
from stepforge.ir.records import record
from stepforge.ir.types import NUMERIC, numpy_dtype

Number = bool | int | float
SYMBOLS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "pow": "**",
    "logical_and": "and",
    "logical_or": "or",
    "logical_not": "not ",
    "neg": "-",
}  # how ops are written in texts
BOOLS = "pq"  # names of variables that stand for bools


class Pattern:
    """Base class: Python's operators make patterns of patterns."""

    def __add__(self, other: Pattern | Number) -> Apply:
        return apply("add", self, other)

    def __radd__(self, other: Number) -> Apply:
        return apply("add", other, self)

    def __sub__(self, other: Pattern | Number) -> Apply:
        return apply("sub", self, other)

    def __rsub__(self, other: Number) -> Apply:
        return apply("sub", other, self)

    def __mul__(self, other: Pattern | Number) -> Apply:
        return apply("mul", self, other)

    def __rmul__(self, other: Number) -> Apply:
        return apply("mul", other, self)

    def __truediv__(self, other: Pattern | Number) -> Apply:
        return apply("div", self, other)

    def __rtruediv__(self, other: Number) -> Apply:
        return apply("div", other, self)

    def __pow__(self, other: Pattern | Number) -> Apply:
        return apply("pow", self, other)

    def __and__(self, other: Pattern | bool) -> Apply:
        return apply("logical_and", self, other)

    def __or__(self, other: Pattern | bool) -> Apply:
        return apply("logical_or", self, other)

    def __neg__(self) -> Apply:
        return apply("neg", self)

    def __invert__(self) -> Apply:
        return apply("logical_not", self)


@record(frozen=True)
class Variable(Pattern):
    """Stands for any operand, or for a constant only; the same one wherever it appears."""

    name: str
    constant: bool = False

    def __str__(self) -> str:
        return self.name


@record(frozen=True)
class Literal(Pattern):
    """A number, of the dtype that its place asks for. 0 and -0.0 are two numbers."""

    value: Number

    def __str__(self) -> str:
        return str(self.value)


@record(frozen=True)
class Apply(Pattern):
    """An op without attributes."""

    op: str
    args: tuple[Pattern, ...]

    def __str__(self) -> str:
        return self._text()[1:-1] if self._infix() else self._text()

    def _infix(self) -> bool:
        return self.op in SYMBOLS and len(self.args) == 2

    def _text(self) -> str:
        parts = [arg._text() if isinstance(arg, Apply) else str(arg) for arg in self.args]
        if self._infix():
            return f"({f' {SYMBOLS[self.op]} '.join(parts)})"
        if self.op in SYMBOLS:
            return f"{SYMBOLS[self.op]}{parts[0]}"
        return f"{self.op}({', '.join(str(arg) for arg in self.args)})"


def apply(op: str, *args: Pattern | Number) -> Apply:
    """``op`` applied to patterns and numbers."""
    return Apply(op, tuple([a if isinstance(a, Pattern) else Literal(a) for a in args]))


def ops(names: str) -> Iterator[Callable[..., Apply]]:
    """Functions that make patterns of the ops in ``names``."""
    for name in names.split():
        yield lambda *args, op=name: apply(op, *args)


@record(frozen=True)
class Rule:
    """``lhs`` may become ``rhs`` where ``x`` is of ``kinds`` and the constants satisfy ``when``.

    Kinds of dtypes: b bool, i signed, u unsigned, f float, c complex. ``ulps`` is by how many units
    in the last place a reference may differ that is itself rounded twice.
    """

    lhs: Apply
    rhs: Pattern
    kinds: str
    when: Callable[..., bool] | None = None
    ulps: int = 0

    def __str__(self) -> str:
        return f"{self.lhs} -> {self.rhs}"

    def names(self, constant: bool) -> list[str]:
        """The names of the values, or of the constants, that stand on the left, sorted."""
        return sorted({v.name for v in _variables(self.lhs) if v.constant == constant})

    def applies(self, values: Mapping[str, Any]) -> bool:
        """True where the constants, which ``values`` gives by name, satisfy ``when``."""
        return self.when is None or self.when(*[values[name] for name in self.names(True)])


def rule(
    lhs: Apply,
    rhs: Pattern | Number,
    kinds: str,
    *,
    when: Callable[..., bool] | None = None,
    ulps: int = 0,
) -> Rule:
    """A rule whose right side may be a number."""
    return Rule(lhs, rhs if isinstance(rhs, Pattern) else Literal(rhs), kinds, when, ulps)


_EDGES: dict[str, tuple[Any, ...]] = {
    "b": (False, True),
    "i": (0, 1, -1, 2, -3, 7, "min", "max"),
    "u": (0, 1, 2, 3, 7, "max"),
    "f": (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -3.7, 1e-5, 1e-40, 6e4, 3e38, "inf", "-inf", "nan"),
    "c": (0j, 1 + 0j, -1 + 0.5j, 2 - 3j, complex("inf"), complex("nan")),
}


def samples(dtype: str) -> np.ndarray[Any, Any]:
    """Values of ``dtype`` on which rules tend to fail."""
    kind, real = NUMERIC[dtype][1], numpy_dtype(dtype)
    values = _EDGES[kind]
    if kind in "iu":
        values = tuple([getattr(np.iinfo(real), v) if isinstance(v, str) else v for v in values])
    with np.errstate(over="ignore"):
        return np.asarray([real.type(v) for v in values], real)


def counterexample(rule: Rule, dtype: str, *, exact: bool = True) -> str | None:
    """Where the two sides of ``rule`` differ with ``x`` of ``dtype``; None where they never do.

    Exact sides agree in every bit, but for which NaN it is; others closely on moderate positive
    numbers.
    """
    values = samples(dtype) if exact else np.linspace(0.5, 2.0, 7).astype(numpy_dtype(dtype))
    names, constants = rule.names(False), rule.names(True)
    columns = [samples("bool") if name in BOOLS else values for name in names]
    grid = [column.ravel() for column in np.meshgrid(*columns, indexing="ij")]
    for chosen in itertools.product(values, repeat=len(constants)):
        bound = dict(zip(constants, chosen, strict=True))
        if not rule.applies(bound):
            continue
        env = {**dict(zip(names, grid, strict=True)), **bound}
        with np.errstate(all="ignore"):
            left = value_of(rule.lhs, env, dtype)
            right = np.broadcast_to(value_of(rule.rhs, env, dtype), left.shape)
        wrong = np.flatnonzero(~_agree(left, right, rule.ulps if exact else None))
        if left.dtype != right.dtype or wrong.size:
            at = int(wrong[0]) if wrong.size else 0
            case = {name: np.ravel(v)[at if np.ndim(v) else 0] for name, v in env.items()}
            return f"{rule}: {left[at]} is not {right[at]} for {case}"
    return None


def value_of(pattern: Pattern, env: Mapping[str, Any], dtype: str) -> np.ndarray[Any, Any]:
    """A pattern evaluated by the numpy rules of its ops."""
    if isinstance(pattern, Variable):
        return np.asarray(env[pattern.name])
    if isinstance(pattern, Literal):
        is_bool = isinstance(pattern.value, bool)
        return np.asarray(pattern.value).astype(np.dtype(bool) if is_bool else numpy_dtype(dtype))
    assert isinstance(pattern, Apply)
    meaning = lookup(pattern.op).numpy
    assert meaning is not None
    return np.asarray(meaning(*[value_of(arg, env, dtype) for arg in pattern.args]))


def _agree(
    left: np.ndarray[Any, Any], right: np.ndarray[Any, Any], ulps: int | None
) -> np.ndarray[Any, Any]:
    if left.dtype.kind == "V":  # bfloat16, exact in f32
        left, right = left.astype(np.float32), right.astype(np.float32)
    if left.dtype.kind not in "fc":
        return np.asarray(left == right)
    if left.dtype.kind == "c":
        parts = _agree(left.real, right.real, ulps), _agree(left.imag, right.imag, ulps)
        return np.asarray(parts[0] & parts[1])
    near = np.equal(left, right) & (np.signbit(left) == np.signbit(right))
    with np.errstate(invalid="ignore"):
        if ulps is None:
            near |= np.isclose(left, right, rtol=1e-4, atol=1e-5)
        elif ulps:
            near |= np.abs(left - right) <= ulps * np.spacing(np.abs(left))
    return np.asarray(near | (np.isnan(left) & np.isnan(right)))


def _variables(pattern: Pattern) -> Sequence[Variable]:
    if isinstance(pattern, Variable):
        return [pattern]
    return [v for arg in getattr(pattern, "args", ()) for v in _variables(arg)]
