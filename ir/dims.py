"""Dimension expressions: the sizes that a type may mention.

A dimension is an ``int`` or an ``Expr``, a polynomial with integer coefficients over *atoms*: names
of sizes (non-negative, bound by a parameter type or by an op) and applications of ``floordiv``,
``min``,
``max`` and ``broadcast``.  Expressions are kept in one canonical form, so that two sizes that are
the same polynomial compare equal; that is all that shape inference needs, and it is decided in
microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from functools import lru_cache
from typing import TypeAlias, Union

from stepforge.ir.records import record

# Names, numbers and applications that an expression may have. Programs have tens of them; those
# that are made to be expanded would take all memory and time.
MOST_PARTS = 20_000

Dim: TypeAlias = Union[int, "Expr"]
Atom: TypeAlias = Union[str, "Apply"]
Monomial: TypeAlias = tuple[Atom, ...]


class TooComplex(ValueError):
    """A size is an expression of more than ``MOST_PARTS``."""


@record(frozen=True, slots=True)
class Apply:
    """``fn(*args)`` as an atom; ``fn`` is a key of ``APPLICATIONS``."""

    fn: str
    args: tuple[Dim, ...]
    text: str = field(init=False, repr=False, compare=False)  # what sums are put into order by

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", f"{self.fn}({', '.join(map(str, self.args))})")

    def __str__(self) -> str:
        return self.text


@record(frozen=True, slots=True)
class Expr:
    """A polynomial: pairs of a sorted monomial and its non-zero coefficient, in sorted order.

    Never a plain constant: the functions of this module return an ``int`` for that.
    """

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: Dim) -> Dim:
        return _collect([*self.terms, *_terms(other)])

    __radd__ = __add__

    def __mul__(self, other: Dim) -> Dim:
        if isinstance(other, int):
            return Expr(tuple((m, c * other) for m, c in self.terms)) if other else 0
        _check_parts(len(self.terms) * len(other.terms))
        return _collect((_sorted((*a, *b)), x * y) for a, x in self.terms for b, y in _terms(other))

    __rmul__ = __mul__

    def __neg__(self) -> Dim:
        return self * -1

    def __sub__(self, other: Dim) -> Dim:
        return self + (other * -1)

    def __rsub__(self, other: Dim) -> Dim:
        return (self * -1) + other

    def __floordiv__(self, other: Dim) -> Dim:
        return floor_div(self, other)

    def __rfloordiv__(self, other: Dim) -> Dim:
        return floor_div(other, self)

    def __mod__(self, other: Dim) -> Dim:
        return self - floor_div(self, other) * other

    def __str__(self) -> str:
        return _render(self.terms)

    def __repr__(self) -> str:
        return f"dim({str(self)!r})"


def _terms(dim: Dim) -> tuple[tuple[Monomial, int], ...]:
    if isinstance(dim, Expr):
        return dim.terms
    return (((), int(dim)),) if dim else ()


def _check_parts(count: int) -> None:
    if count > MOST_PARTS:
        raise TooComplex(f"a size is an expression of more than {MOST_PARTS} parts")


def _sorted(atoms: Monomial) -> Monomial:
    return tuple(sorted(atoms, key=str))


def _collect(terms: Iterable[tuple[Monomial, int]]) -> Dim:
    """Sum like monomials and put what is left into canonical order, constants last."""
    total: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        total[monomial] = total.get(monomial, 0) + coefficient
    kept = [(m, c) for m, c in total.items() if c]
    _check_parts(len(kept))
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    kept.sort(key=lambda term: (-len(term[0]), [str(atom) for atom in term[0]]))
    return Expr(tuple(kept))


def _render(terms: tuple[tuple[Monomial, int], ...]) -> str:
    parts: list[str] = []
    for monomial, coefficient in terms:
        factors = [str(atom) for atom in monomial]
        if abs(coefficient) != 1 or not factors:
            factors.insert(0, str(abs(coefficient)))
        sign = "-" if coefficient < 0 else "+"
        body = "*".join(factors)
        if parts:
            parts.append(f" {sign} {body}")
        else:
            parts.append(body if sign == "+" else f"-{body}")
    return "".join(parts)


@lru_cache(maxsize=4096)
def named(name: str) -> Expr:
    """The dimension called ``name``."""
    return Expr((((name,), 1),))


def apply(fn: str, *args: Dim) -> Dim:
    """``fn(*args)`` simplified where that is exact, else as an atom."""
    return APPLICATIONS[fn](*args)


def _atom(fn: str, *args: Dim) -> Expr:
    _check_parts(_parts(args))
    return Expr((((Apply(fn, args),), 1),))


def _parts(args: Iterable[Dim]) -> int:
    """How many parts dimensions have, counted no further than is needed to say that it is too many.
    """
    count, pending = 0, list(args)
    while pending and count <= MOST_PARTS:
        dim = pending.pop()
        count += 1
        if isinstance(dim, Expr):
            for monomial, _ in dim.terms:
                count += len(monomial)
                pending += [a for atom in monomial if isinstance(atom, Apply) for a in atom.args]
    return count


def floor_div(a: Dim, b: Dim) -> Dim:
    """``a // b`` rounded down.

    An exact quotient by a monomial is taken (``28*n*m // (4*m)`` is ``7*n``); that a symbolic
    divisor is not zero is for the op that divides to check at run time.
    Raises: ZeroDivisionError for a literal 0.
    """
    if b == 0:
        raise ZeroDivisionError("a dimension is divided by 0")
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if b == 1 or a == 0:
        return a
    divisor = _terms(b)
    if len(divisor) == 1:
        exact = _exact_quotient(_terms(a), divisor[0])
        if exact is not None:
            return exact
    return _atom("floordiv", a, b)


def _exact_quotient(
    terms: tuple[tuple[Monomial, int], ...], divisor: tuple[Monomial, int]
) -> Dim | None:
    quotient = []
    for monomial, coefficient in terms:
        rest = list(monomial)
        for atom in divisor[0]:
            if atom not in rest:
                return None
            rest.remove(atom)
        if coefficient % divisor[1]:
            return None
        quotient.append((tuple(rest), coefficient // divisor[1]))
    return _collect(quotient)


def monomial(atoms: Monomial) -> Dim:
    """The product of atoms; 1 for none."""
    return Expr(((atoms, 1),)) if atoms else 1


def minimum(a: Dim, b: Dim) -> Dim:
    """The smaller of two dimensions."""
    difference = a - b
    if isinstance(difference, int):
        return a if difference <= 0 else b
    if a == 0 and non_negative(b):
        return 0
    if b == 0 and non_negative(a):
        return 0
    for one, other in ((a, b), (b, a)):
        if any(isinstance(n, int) and n <= 0 for n in _distances(one, "min", other)):
            return one
    return _atom("min", *sorted((a, b), key=str))


def _distances(dim: Dim, fn: str, other: Dim) -> list[Dim]:
    """How far the arguments of ``dim``, where it is nothing but ``fn`` of some, are above
    ``other``.
    """
    if isinstance(dim, Expr) and len(dim.terms) == 1:
        atoms, coefficient = dim.terms[0]
        if coefficient == 1 and len(atoms) == 1 and isinstance(atoms[0], Apply):
            return [arg - other for arg in atoms[0].args] if atoms[0].fn == fn else []
    return []


def maximum(a: Dim, b: Dim) -> Dim:
    """The larger of two dimensions."""
    difference = a - b
    if isinstance(difference, int):
        return a if difference >= 0 else b
    if a == 0 and non_negative(b):
        return b
    if b == 0 and non_negative(a):
        return a
    for one, other in ((a, b), (b, a)):
        if any(isinstance(n, int) and n >= 0 for n in _distances(one, "max", other)):
            return one
    return _atom("max", *sorted((a, b), key=str))


def broadcast(a: Dim, b: Dim) -> Dim:
    """The size that two broadcast dimensions give: equal sizes, or the other one where one is 1.

    A known size other than 1 decides; two unknown ones stay as an atom whose value is checked at
    run time.
    """
    if a == b or b == 1:
        return a
    if a == 1 or isinstance(b, int):
        return b
    if isinstance(a, int):
        return a
    return _atom("broadcast", *sorted((a, b), key=str))


def non_negative(dim: Dim) -> bool:
    """True where the sign is certain: names are sizes, hence at least 0."""
    return all(c >= 0 and all(_non_negative_atom(a) for a in m) for m, c in _terms(dim))


def _non_negative_atom(atom: Atom) -> bool:
    if isinstance(atom, str):
        return True
    if atom.fn == "max":
        return any(non_negative(a) for a in atom.args)
    return all(non_negative(a) for a in atom.args)


APPLICATIONS: Mapping[str, Callable[..., Dim]] = {
    "floordiv": floor_div,
    "min": minimum,
    "max": maximum,
    "broadcast": broadcast,
}


def product(dims: Iterable[Dim]) -> Dim:
    """The product of dimensions; 1 for none."""
    number = 1
    rest: Dim | None = None
    for dim in dims:
        if isinstance(dim, int):
            number *= dim
        else:
            rest = dim if rest is None else rest * dim
    return number if rest is None else rest * number


def coefficients(dim: Dim) -> tuple[int, ...]:
    """The numbers in front of names; a number itself."""
    return tuple(c for _, c in dim.terms) if isinstance(dim, Expr) else (dim,)


@lru_cache(maxsize=4096)
def names(dim: Dim) -> frozenset[str]:
    """Every name that ``dim`` mentions."""
    if not isinstance(dim, Expr):
        return frozenset()
    found: set[str] = set()
    for monomial, _ in dim.terms:
        for atom in monomial:
            if isinstance(atom, str):
                found.add(atom)
            else:
                for arg in atom.args:
                    found |= names(arg)
    return frozenset(found)


def as_name(dim: Dim) -> str | None:
    """The name where ``dim`` is nothing but one name, else None."""
    if isinstance(dim, Expr) and len(dim.terms) == 1:
        monomial, coefficient = dim.terms[0]
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], str):
            return monomial[0]
    return None


def as_quotient(dim: Dim) -> tuple[Dim, int] | None:
    """The dividend and the divisor where ``dim`` is one ``floordiv`` by a positive number."""
    if isinstance(dim, Expr) and len(dim.terms) == 1:
        monomial, coefficient = dim.terms[0]
        if coefficient == 1 and len(monomial) == 1:
            match monomial[0]:
                case Apply("floordiv", (dividend, int(divisor))) if divisor > 0:
                    return dividend, divisor
    return None


def substitute(dim: Dim, values: Mapping[str, Dim]) -> Dim:
    """``dim`` with names replaced by dimensions."""
    if not isinstance(dim, Expr) or not values:
        return dim
    total: Dim = 0
    for monomial, coefficient in dim.terms:
        term: Dim = coefficient
        for atom in monomial:
            if isinstance(atom, str):
                term = term * values.get(atom, named(atom))
            else:
                term = term * apply(atom.fn, *[substitute(a, values) for a in atom.args])
        total = total + term
    return total


def evaluate(dim: Dim, sizes: Mapping[str, int]) -> int:
    """The value of ``dim`` where its names have ``sizes``.

    Raises: KeyError for a name without a size, ValueError where a ``broadcast`` does not fit.
    """
    if not isinstance(dim, Expr):
        return int(dim)
    total = 0
    for monomial, coefficient in dim.terms:
        term = coefficient
        for atom in monomial:
            term *= sizes[atom] if isinstance(atom, str) else _evaluate_apply(atom, sizes)
        total += term
    return total


def _evaluate_apply(atom: Apply, sizes: Mapping[str, int]) -> int:
    a, b = (evaluate(arg, sizes) for arg in atom.args)
    if atom.fn == "broadcast" and a != b and 1 not in (a, b):
        raise ValueError(f"sizes {a} and {b} do not broadcast")
    value = apply(atom.fn, a, b)
    assert isinstance(value, int)
    return value
