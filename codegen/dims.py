"""Dimension expressions as LLVM instructions: sizes of outputs, estimates of work, checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping

from stepforge.codegen.llvm import FunctionWriter
from stepforge.ir.dims import Apply, Atom, Dim, Expr

Applied = MutableMapping[Apply, str]


def emit_dim(
    fn: FunctionWriter, dim: Dim, env: Mapping[str, str], applied: Applied | None = None
) -> str:
    """Emit the i64 value of ``dim``; ``env`` gives the value of each size name.

    ``applied`` has the values of minima, quotients and the like that are computed already, and
    takes those that are computed here. Computing a size never traps: a division by zero gives 0,
    and that sizes broadcast is checked elsewhere. Raises: KeyError for a name that ``env`` lacks.
    """
    if not isinstance(dim, Expr):
        return str(int(dim))
    total: str | None = None
    for monomial, coefficient in dim.terms:
        factors = [emit_atom(fn, atom, env, applied) for atom in monomial]
        if coefficient != 1 or not factors:
            factors.append(str(coefficient))
        term = factors[0]
        for factor in factors[1:]:
            term = fn.emit(f"mul i64 {term}, {factor}")
        total = term if total is None else fn.emit(f"add i64 {total}, {term}")
    return total or "0"


def emit_product(fn: FunctionWriter, factors: list[str]) -> str:
    """Emit the product of i64 values; ``1`` for none."""
    total = factors[0] if factors else "1"
    for factor in factors[1:]:
        total = fn.emit(f"mul i64 {total}, {factor}")
    return total


def emit_atom(
    fn: FunctionWriter, atom: Atom, env: Mapping[str, str], applied: Applied | None = None
) -> str:
    """Emit the i64 value of a name or a function of sizes; see ``emit_dim``."""
    if isinstance(atom, str):
        return env[atom]
    found = applied.get(atom) if applied is not None else None
    if found is None:
        a, b = (emit_dim(fn, arg, env, applied) for arg in atom.args)
        found = _APPLICATIONS[atom.fn](fn, a, b)
        if applied is not None:
            applied[atom] = found
    return found


def _floor_div(fn: FunctionWriter, a: str, b: str) -> str:
    if b.isdigit() and int(b).bit_count() == 1:
        return fn.emit(f"ashr i64 {a}, {int(b).bit_length() - 1}")
    zero = fn.emit(f"icmp eq i64 {b}, 0")
    divisor = fn.emit(f"select i1 {zero}, i64 1, i64 {b}")
    quotient = fn.emit(f"sdiv i64 {a}, {divisor}")
    remainder = fn.emit(f"srem i64 {a}, {divisor}")
    inexact = fn.emit(f"icmp ne i64 {remainder}, 0")
    signs = fn.emit(f"xor i64 {remainder}, {divisor}")
    differ = fn.emit(f"icmp slt i64 {signs}, 0")
    below = fn.emit(f"and i1 {inexact}, {differ}")
    lower = fn.emit(f"sub i64 {quotient}, 1")
    floor = fn.emit(f"select i1 {below}, i64 {lower}, i64 {quotient}")
    return fn.emit(f"select i1 {zero}, i64 0, i64 {floor}")


def _minimum(fn: FunctionWriter, a: str, b: str) -> str:
    return fn.intrinsic("smin", "i64", "i64", a, b)


def _maximum(fn: FunctionWriter, a: str, b: str) -> str:
    return fn.intrinsic("smax", "i64", "i64", a, b)


def _broadcast(fn: FunctionWriter, a: str, b: str) -> str:
    one = fn.emit(f"icmp eq i64 {a}, 1")
    return fn.emit(f"select i1 {one}, i64 {b}, i64 {a}")


_APPLICATIONS: Mapping[str, Callable[[FunctionWriter, str, str], str]] = {
    "floordiv": _floor_div,
    "min": _minimum,
    "max": _maximum,
    "broadcast": _broadcast,
}
