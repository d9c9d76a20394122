"""The tables of rules test themselves: both sides of each rule are evaluated where rules tend to
fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepforge.ir.evaluate import evaluate
from stepforge.ir.parser import parse_function
from stepforge.ir.text import print_function
from stepforge.ir.types import NUMERIC, Type
from stepforge.ir.verify import verify
from stepforge.passes.bisect import agree
from stepforge.passes.expressions import function_of
from stepforge.passes.patterns import Rule, counterexample, rule, samples
from stepforge.passes.prune import prune
from stepforge.passes.rules import INEXACT_RULES, RULES, a, abs_, p, relu, x, y
from stepforge.passes.rules_page import page
from stepforge.passes.simplify import simplify
from stepforge.passes.structure import lossless
from stepforge.passes.structure_table import INEXACT_STRUCTURE, STRUCTURE

ROOT = Path(__file__).parents[1]
SIZES = {"n": 3, "m": 2}
DTYPES = {
    "b": ["bool"],
    "i": ["i8", "i64"],
    "u": ["u8", "u32"],
    "f": ["f16", "bf16", "f32", "f64"],
    "c": ["c64"],
}
EXACT = [(each, dtype) for each in RULES for kind in each.kinds for dtype in DTYPES[kind]]


@pytest.mark.parametrize(("each", "dtype"), EXACT, ids=str)
def test_rules_keep_every_bit(each: Rule, dtype: str) -> None:
    assert counterexample(each, dtype) is None


@pytest.mark.parametrize("each", INEXACT_RULES, ids=str)
def test_inexact_rules_hold_for_real_numbers(each: Rule) -> None:
    assert counterexample(each, "f32", exact=False) is None
    assert counterexample(each, "f64", exact=False) is None


@pytest.mark.parametrize("each", RULES, ids=str)
def test_rules_are_applied(each: Rule) -> None:
    """The left side of a rule, as a function, does not survive ``simplify``."""
    dtype = DTYPES[each.kinds[0]][-1]
    names = each.names(False)
    function = applied(each, {name: "bool" if name in "pq" else dtype for name in names}, dtype)
    after = simplify(function)
    assert after is not function
    verify(after)
    assert simplify(after) is after


def applied(each: Rule, dtypes: Mapping[str, str], dtype: str) -> Any:
    """The function that returns the left side of a rule, with 8 or 2 for its constants."""
    from stepforge.ir.builder import Builder
    from stepforge.ir.core import Value
    from stepforge.passes.fold import constant_of
    from stepforge.passes.patterns import Apply, Literal, Variable

    params = {name: Value(Type(kind, (4,)), name) for name, kind in dtypes.items()}
    constants = iter((8, 2))
    chosen = {name: constant_of(next(constants), dtype) for name in each.names(True)}
    build = Builder()

    def operand(pattern: Any) -> Any:
        if isinstance(pattern, Variable):
            return chosen[pattern.name] if pattern.constant else params[pattern.name]
        if isinstance(pattern, Literal):
            is_bool = isinstance(pattern.value, bool)
            return constant_of(pattern.value, "bool" if is_bool else dtype)
        assert isinstance(pattern, Apply)
        return build.emit(pattern.op, *map(operand, pattern.args))

    build.emit("return", operand(each.lhs))
    return build.function("f", params.values())


@pytest.mark.parametrize(
    ("wrong", "dtype"),
    [
        (rule(x + 0, x, "f"), "f32"),
        (rule(x - y, y - x, "i"), "i32"),
        (rule(x * 0, 0, "f"), "f64"),
        (rule(x / y, y / x, "c"), "c64"),
        (rule(abs_(relu(x)), abs_(x), "f"), "f32"),
    ],
    ids=str,
)
def test_wrong_rules_are_found_out(wrong: Rule, dtype: str) -> None:
    found = counterexample(wrong, dtype)
    assert found is not None
    assert str(wrong) in found


def test_rules_read_as_algebra() -> None:
    assert str(rule((x + a) * -y, x**2 / y, "f")) == "(x + a) * -y -> (x ** 2) / y"
    assert str(rule(~(p & abs_(x)), p | ~p, "b")) == "not (p and abs(x)) -> p or not p"


EXAMPLES = [
    (*example, exact)
    for table, exact in ((STRUCTURE, True), (INEXACT_STRUCTURE, False))
    for each in table
    for example in each.examples
]


@pytest.mark.parametrize(("before", "after", "types", "exact"), EXAMPLES)
def test_examples_of_structural_rules(
    before: str, after: str, types: dict[str, str], exact: bool
) -> None:
    function, want = function_of(before, types), function_of(after, types)
    verify(function)
    verify(want)
    simplified = prune(simplify(function, inexact=not exact))
    assert print_function(simplified) == print_function(want)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        arguments = [elements(param.type, rng, exact) for param in function.params]
        for new, old in zip(evaluate(want, arguments), evaluate(function, arguments), strict=True):
            assert agree(new, old) if not exact else same_bits(new, old)


def elements(type_: Type, rng: np.random.Generator, exact: bool) -> Any:
    """Elements at which rules tend to fail, or moderate ones."""
    shape = tuple(n if isinstance(n, int) else SIZES[str(n)] for n in type_.dims)
    return (
        rng.choice(samples(type_.dtype), shape)
        if exact
        else rng.uniform(0.5, 2.0, shape).astype(NUMERIC[type_.dtype][0])
    )


def same_bits(new: Any, old: Any) -> bool:
    """Equal in every bit but for which NaN it is."""
    if old.dtype.kind != "f":
        return np.array_equal(new, old)
    numbers = ~np.isnan(old)
    return np.array_equal(new, old, equal_nan=True) and np.array_equal(
        np.signbit(new)[numbers], np.signbit(old)[numbers]
    )


def test_there_are_rules_enough_and_the_page_lists_them() -> None:
    assert len(RULES) + sum(len(each.examples) for each in STRUCTURE) >= 60
    text = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    assert text == page(), "docs/rules.md is not current: make rules"


def test_expressions_say_what_they_cannot_read() -> None:
    with pytest.raises(ValueError, match="z is no operand"):
        function_of("add(x, z)", {"x": "f32[n]"})


def test_what_others_still_need_is_not_taken_apart() -> None:
    function = parse_function("""
    func @f(%x: f32[n, m, 4]) -> f32[n], f32[n, m] {
      %0 = reduce_max(%x, axes=[2]) : f32[n, m]
      %1 = reduce_max(%0, axes=[1]) : f32[n]
      return(%1, %0)
    }""")
    assert simplify(function) is function


@pytest.mark.parametrize(
    "text",
    [  # what is close to a rule and is none
        "reduce_max(broadcast_to(x, shape=[m, n]), axes=[0])",  # m may be 0
        "reduce_sum(reduce_sum(reshape(x, shape=[n, 1, 1]), axes=[1], keep_dims=true), axes=[2])",
        "slice(concat(x, x, axis=0), begin=[n - 1], size=[2])",  # reaches into both
        "concat(slice(x, begin=[0], size=[2]), slice(x, begin=[3], size=[2]), axis=0)",
        'cast(cast(x, dtype="f16"), dtype="f32")',
        'cast(cast(x, dtype="i8"), dtype="i32")',
        "pad(pad(x, 0.0, low=[1], high=[0]), 1.0, low=[1], high=[0])",
    ],
)
def test_near_misses_stay_as_they_are(text: str) -> None:
    function = function_of(text, {"x": "f32[n]", "y": "f32[m]"})
    after = simplify(function)
    arguments = [np.arange(6, dtype=np.float32), np.zeros(2, np.float32)]
    for new, old in zip(evaluate(after, arguments), evaluate(function, arguments), strict=True):
        assert same_bits(new, old)


@pytest.mark.parametrize(
    ("source", "target", "exact"),
    [
        ("bool", "f16", True),
        ("i8", "i16", True),
        ("u8", "i16", True),
        ("i8", "u16", False),
        ("i32", "i32", True),
        ("i16", "f32", True),
        ("i32", "f32", False),
        ("i32", "f64", True),
        ("i8", "f16", False),
        ("bf16", "f32", True),
        ("bf16", "f16", False),
        ("f64", "f32", False),
        ("i8", "bool", False),
        ("f32", "string", False),
    ],
)
def test_lossless_conversions(source: str, target: str, exact: bool) -> None:
    assert lossless(source, target) is exact
