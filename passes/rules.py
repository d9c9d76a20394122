"""Algebra as a table: what stands on the left may be replaced by what stands on the right.

A rule is two patterns over values ``x y z``, bools ``p q`` and constants ``a b``, and the kinds of
dtype of ``x`` that it holds for (b bool, i signed, u unsigned, f float, c complex). ``RULES`` keep
every bit of a result; ``INEXACT_RULES`` are right for real numbers only, and are off by default.
The tests evaluate both sides of each rule on the numbers at which rules tend to fail. What is known
of ops that move elements is in ``structure``; ``docs/rules.md`` lists both.
"""

from __future__ import annotations

import math
from typing import Any

from stepforge.passes.patterns import Rule, Variable, ops, rule


def power_of_two(a: Any) -> bool:
    """a is a power of two whose reciprocal is exact."""
    mantissa, exponent = math.frexp(a)
    return abs(mantissa) == 0.5 and abs(exponent) <= 14


def positive_power_of_two(a: Any) -> bool:
    """a is a positive power of two."""
    return int(a) > 0 and int(a) & (int(a) - 1) == 0


x, y, z, p, q = (Variable(name) for name in "xyzpq")
a, b = (Variable(name, constant=True) for name in "ab")
abs_, ceil, exp, expm1, floor, log, log1p = ops("abs ceil exp expm1 floor log log1p")
maximum, minimum, neg, reciprocal, relu, relu6 = ops("maximum minimum neg reciprocal relu relu6")
round_, rsqrt, sigmoid, sign, sqrt, square, tanh = ops("round rsqrt sigmoid sign sqrt square tanh")
floor_div, floor_mod, trunc_div, trunc_mod = ops("floor_div floor_mod trunc_div trunc_mod")
squared_difference, select, conj, is_nan, xor = ops(
    "squared_difference select conj is_nan logical_xor"
)
equal, not_equal, less, less_equal, greater, greater_equal = ops(
    "equal not_equal less less_equal greater greater_equal"
)
bit_and, bit_or, bit_xor, bit_not, shift_left, shift_right = ops(
    "bitwise_and bitwise_or bitwise_xor bitwise_not shift_left shift_right"
)

EXACT_GROUPS: dict[str, tuple[Rule, ...]] = {
    # 0.0 + -0.0 is 0.0, so only -0.0 is nothing to floats.
    "Nothing added, nothing multiplied": (
        rule(x + 0, x, "iu"),
        rule(x + -0.0, x, "f"),
        rule(x - 0, x, "iuf"),
        rule(0 - x, -x, "iu"),
        rule(x - x, 0, "iu"),
        rule(x * 0, 0, "iu"),
        rule(x * 1, x, "iuf"),
        rule(x * -1, -x, "if"),
        rule(x / 1, x, "f"),
        rule(x / -1, -x, "f"),
        rule(floor_div(x, 1), x, "iu"),
        rule(trunc_div(x, 1), x, "iu"),
        rule(floor_mod(x, 1), 0, "iu"),
        rule(trunc_mod(x, 1), 0, "iu"),
        rule(squared_difference(x, 0), square(x), "iuf"),
        rule(squared_difference(x, x), 0, "iu"),
    ),
    "Cheaper operations": (
        rule(1 / x, reciprocal(x), "f"),
        rule(x / a, x * reciprocal(a), "f", when=power_of_two),
        rule(floor_mod(x, a), bit_and(x, a - 1), "iu", when=positive_power_of_two),
        rule(trunc_mod(x, a), bit_and(x, a - 1), "u", when=positive_power_of_two),
        rule(x * x, square(x), "iuf"),
        rule(x**0, 1, "iuf"),
        rule(x**1, x, "iuf"),
        rule(x**2, square(x), "iuf", ulps=1),
        rule(x**3, x * square(x), "iu"),
        rule(x**-1, reciprocal(x), "f", ulps=1),
    ),
    "Signs": (
        rule(neg(-x), x, "iufc"),
        rule(x + -y, x - y, "iufc"),
        rule(x - -y, x + y, "iufc"),
        rule(neg(x - y), y - x, "iu"),
        rule(-x * -y, x * y, "iuf"),
        rule(-x / -y, x / y, "f"),
        rule(-x * a, x * neg(a), "if"),
        rule(-x / a, x / neg(a), "f"),
        rule(neg(x * a), x * neg(a), "if"),
        rule(abs_(-x), abs_(x), "if"),
        rule(square(-x), square(x), "iuf"),
        rule(square(abs_(x)), square(x), "iuf"),
        *[rule(abs_(f(x)), f(x), "f") for f in (square, exp, sigmoid, relu)],
        *[rule(relu(f(x)), f(x), "f") for f in (square, exp, sigmoid, abs_, relu6)],
        rule(conj(conj(x)), x, "c"),
    ),
    "Constants meet": (
        rule((x + a) + b, x + (a + b), "iu"),
        rule((x * a) * b, x * (a * b), "iu"),
        rule(x - a, x + neg(a), "iu"),
        rule(maximum(maximum(x, a), b), maximum(x, maximum(a, b)), "iu"),
        rule(minimum(minimum(x, a), b), minimum(x, minimum(a, b)), "iu"),
    ),
    "What was done is not done again": (
        *[rule(f(f(x)), f(x), "if") for f in (abs_, sign)],
        *[rule(f(f(x)), f(x), "f") for f in (relu, relu6)],
        *[rule(f(g(x)), g(x), "f") for f in (floor, ceil, round_) for g in (floor, ceil, round_)],
        *[rule(f(x, x), x, "iuf") for f in (maximum, minimum)],
        rule(relu6(relu(x)), relu6(x), "if"),
        rule(maximum(x, 0), relu(x), "if"),
        rule(minimum(relu(x), 6), relu6(x), "if"),
    ),
    "Logic": (
        rule(~~p, p, "b"),
        rule(p & p, p, "b"),
        rule(p | p, p, "b"),
        rule(p & True, p, "b"),
        rule(p & False, False, "b"),
        rule(p | True, True, "b"),
        rule(p | False, p, "b"),
        rule(p & ~p, False, "b"),
        rule(p | ~p, True, "b"),
        rule(p & (p | q), p, "b"),
        rule(p | (p & q), p, "b"),
        rule(~p & ~q, ~(p | q), "b"),
        rule(~p | ~q, ~(p & q), "b"),
        rule(xor(p, p), False, "b"),
        rule(xor(p, False), p, "b"),
        rule(xor(p, True), ~p, "b"),
    ),
    "Comparisons": (
        rule(~equal(x, y), not_equal(x, y), "biuf"),
        rule(~not_equal(x, y), equal(x, y), "biuf"),
        rule(~less(x, y), greater_equal(x, y), "iu"),  # of NaN, neither is true
        rule(~less_equal(x, y), greater(x, y), "iu"),
        rule(~greater(x, y), less_equal(x, y), "iu"),
        rule(~greater_equal(x, y), less(x, y), "iu"),
        rule(equal(x, x), True, "biu"),
        rule(not_equal(x, x), False, "biu"),
        rule(not_equal(x, x), is_nan(x), "f"),
        rule(equal(x, x), ~is_nan(x), "f"),
        rule(less(x, x), False, "iuf"),
        rule(greater(x, x), False, "iuf"),
        rule(less_equal(x, x), True, "iu"),
        rule(greater_equal(x, x), True, "iu"),
        rule(less(-x, -y), greater(x, y), "f"),
        rule(greater(-x, -y), less(x, y), "f"),
        rule(less(x, 0), False, "u"),
        rule(greater_equal(x, 0), True, "u"),
        rule(equal(x - y, 0), equal(x, y), "iu"),
        rule(equal(p, True), p, "b"),
        rule(equal(p, False), ~p, "b"),
        rule(not_equal(p, True), ~p, "b"),
        rule(not_equal(p, False), p, "b"),
    ),
    "Choices": (
        rule(select(True, x, y), x, "biufc"),
        rule(select(False, x, y), y, "biufc"),
        rule(select(p, x, x), x, "biufc"),
        rule(select(~p, x, y), select(p, y, x), "biufc"),
        rule(select(p, select(p, x, y), z), select(p, x, z), "biufc"),
        rule(select(p, x, select(p, y, z)), select(p, x, z), "biufc"),
        rule(select(p, True, False), p, "b"),
        rule(select(p, False, True), ~p, "b"),
        rule(select(p, True, q), p | q, "b"),
        rule(select(p, q, False), p & q, "b"),
        rule(select(p, False, q), ~p & q, "b"),
        rule(select(p, q, True), ~p | q, "b"),
        rule(select(equal(x, y), x, y), y, "iu"),
        rule(select(less(x, y), x, y), minimum(x, y), "iu"),
        rule(select(less_equal(x, y), x, y), minimum(x, y), "iu"),
        rule(select(greater(x, y), x, y), maximum(x, y), "iu"),
        rule(select(greater_equal(x, y), x, y), maximum(x, y), "iu"),
    ),
    "Bits": (
        rule(bit_and(x, x), x, "iu"),
        rule(bit_or(x, x), x, "iu"),
        rule(bit_xor(x, x), 0, "iu"),
        rule(bit_and(x, 0), 0, "iu"),
        rule(bit_or(x, 0), x, "iu"),
        rule(bit_xor(x, 0), x, "iu"),
        rule(bit_not(bit_not(x)), x, "iu"),
        rule(shift_left(x, 0), x, "iu"),
        rule(shift_right(x, 0), x, "iu"),
    ),
}

INEXACT_GROUPS: dict[str, tuple[Rule, ...]] = {
    "Nothing, but for signs of zero, infinities and NaN": (
        rule(x + 0, x, "f"),
        rule(0 - x, -x, "f"),
        rule(x - x, 0, "f"),
        rule(x * 0, 0, "f"),
        rule(x / x, 1, "f"),
        rule(neg(x - y), y - x, "f"),
    ),
    "Reassociation": (
        rule(x / a, x * reciprocal(a), "f"),
        rule((x + a) + b, x + (a + b), "f"),
        rule((x * a) * b, x * (a * b), "f"),
        rule(x * y + x * z, x * (y + z), "f"),
    ),
    "Powers and roots": (
        rule(x**0.5, sqrt(x), "f"),
        rule(x**3, x * square(x), "f"),
        rule(sqrt(square(x)), abs_(x), "f"),
        rule(square(sqrt(x)), x, "f"),
        rule(1 / sqrt(x), rsqrt(x), "f"),
        rule(reciprocal(sqrt(x)), rsqrt(x), "f"),
        rule(x / sqrt(y), x * rsqrt(y), "f"),
    ),
    "Exponentials and logarithms": (
        rule(exp(log(x)), x, "f"),
        rule(log(exp(x)), x, "f"),
        rule(exp(x) * exp(y), exp(x + y), "f"),
        rule(exp(x) / exp(y), exp(x - y), "f"),
        rule(log(x * exp(y)), log(x) + y, "f"),
        rule(exp(x) - 1, expm1(x), "f"),
        rule(log(1 + x), log1p(x), "f"),
        rule(reciprocal(1 + exp(-x)), sigmoid(x), "f"),
        rule(2 * sigmoid(2 * x) - 1, tanh(x), "f"),
    ),
}

RULES: list[Rule] = [each for group in EXACT_GROUPS.values() for each in group]
INEXACT_RULES: list[Rule] = [each for group in INEXACT_GROUPS.values() for each in group]
SHIPPED = len(RULES)  # how many there are before any is added


def add_rules(group: str, *new: Rule, exact: bool = True) -> None:
    """Put rules at the end of a group of a table, for every ``simplify`` from now on."""
    groups, rules = (EXACT_GROUPS, RULES) if exact else (INEXACT_GROUPS, INEXACT_RULES)
    groups[group] = (*groups.get(group, ()), *new)
    rules.extend(new)
