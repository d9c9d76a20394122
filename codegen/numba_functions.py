"""Scalar functions that generated Python calls and that Python has not.

Plain Python on numbers of one type, which numba compiles on first use; ``type(x)(1)`` is a one of
the type at hand. Division is infallible: x / 0 is 0, and so is its remainder.
"""

from __future__ import annotations

import math
from typing import Any


def floor_div(x: Any, y: Any) -> Any:
    """The quotient of signed integers towards minus infinity; MIN / -1 wraps."""
    if y == 0:
        return type(x)(0)
    return type(x)(-x) if y == -1 else type(x)(x // y)


def floor_mod(x: Any, y: Any) -> Any:
    """What ``floor_div`` leaves, with the sign of y."""
    return type(x)(0) if y == 0 or y == -1 else type(x)(x % y)


def trunc_div(x: Any, y: Any) -> Any:
    """The quotient of signed integers towards zero; MIN / -1 wraps."""
    if y == 0:
        return type(x)(0)
    if y == -1:
        return type(x)(-x)
    quotient = type(x)(x // y)
    inexact = type(x)(quotient * y) != x
    return type(x)(quotient + 1) if inexact and (x < 0) != (y < 0) else quotient


def trunc_mod(x: Any, y: Any) -> Any:
    """What ``trunc_div`` leaves, with the sign of x."""
    if y == 0 or y == -1:
        return type(x)(0)
    rest = type(x)(x % y)
    return type(x)(rest - y) if rest != 0 and (x < 0) != (y < 0) else rest


def whole_div(x: Any, y: Any) -> Any:
    """The quotient of unsigned integers."""
    return type(x)(0) if y == 0 else type(x)(x // y)


def whole_mod(x: Any, y: Any) -> Any:
    """The remainder of unsigned integers."""
    return type(x)(0) if y == 0 else type(x)(x % y)


def whole_power(x: Any, y: Any) -> Any:
    """x to the power y of integers, wrapping; the bits of y count as those of a whole number."""
    result, base, left = type(x)(1), x, y
    while left != 0:
        if left & type(y)(1):
            result = type(x)(result * base)
        base = type(x)(base * base)
        left = type(y)(left >> type(y)(1))
    return result


def signed_power(x: Any, y: Any) -> Any:
    """``whole_power``; for negative y the truncated fraction, with 0 for 1 / 0."""
    if y < 0:
        odd = (y & type(y)(1)) != 0
        unit = x == 1 or x == -1
        return x if unit and odd else type(x)(1 if unit else 0)
    result, base, left = type(x)(1), x, y
    while left != 0:
        if left & type(y)(1):
            result = type(x)(result * base)
        base = type(x)(base * base)
        left = type(y)(left >> type(y)(1))
    return result


def sigmoid(x: Any) -> Any:
    """``1 / (1 + exp(-x))``, without overflow."""
    one = type(x)(1)
    small = math.exp(-abs(x))
    return (small if x < 0 else one) / (one + small)


def size_div(a: int, b: int) -> int:
    """A size divided by another, rounded down; 0 where the divisor is 0."""
    return 0 if b == 0 else a // b


def broadcast(a: int, b: int) -> int:
    """The size that two broadcast sizes give."""
    return b if a == 1 else a


def clamped(index: int, limit: int) -> int:
    """An index below ``limit``, and never below 0."""
    return max(min(index, limit - 1), 0)
