"""The simple passes: values kept, nothing rebuilt where nothing changes; and their manager."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepforge.ir.builder import Builder
from stepforge.ir.core import Const, Function, Operand, Value
from stepforge.ir.dims import named
from stepforge.ir.errors import IRError
from stepforge.ir.evaluate import evaluate, same_results
from stepforge.ir.opdef import OpDef
from stepforge.ir.parser import parse_function, parse_module
from stepforge.ir.philox import Stream
from stepforge.ir.text import print_function, print_module
from stepforge.ir.types import NUMERIC, Type
from stepforge.ir.verify import verify
from stepforge.passes.bisect import bisect
from stepforge.passes.cse import cse
from stepforge.passes.expand import expand
from stepforge.passes.fold import constant_of, fold, fold_scalar
from stepforge.passes.manager import Report, name_of, run_passes
from stepforge.passes.prune import prune
from stepforge.passes.simplify import simplify

GOLDEN = Path(__file__).parent / "golden"
PASSES: dict[str, Callable[[Function], Function]] = {
    "prune": prune,
    "fold": fold,
    "cse": cse,
    "simplify": simplify,
    "simplify_inexact": partial(simplify, inexact=True),
    "expand": expand,
}
SIZES = {"n": 3, "m": 4, "k": 2}


def example(type_: Any, rng: np.random.Generator) -> Any:
    """An argument of ``type_``, with the sizes in ``SIZES``."""
    shape = tuple(n if isinstance(n, int) else SIZES[str(n)] for n in type_.dims)
    if type_.dtype == "bool":
        return rng.random(shape) < 0.5
    if type_.kind in "iu":
        return rng.integers(1, 5, shape).astype(NUMERIC[type_.dtype][0])
    return rng.uniform(0.5, 2.0, shape).astype(NUMERIC[type_.dtype][0])


def assert_same_values(before: Function, after: Function, rtol: float) -> None:
    rng = np.random.default_rng(0)
    arguments = [example(p.type, rng) for p in before.params]
    outcomes = []
    for function in (before, after):
        rng = np.random.default_rng(1)
        state: dict[str, Any] = {
            name: Stream(1, 2) if entry.kind == "random" else example(entry.type, rng)
            for name, entry in before.globals.items()
            if entry.kind != "constant"
        }
        results = evaluate(function, arguments, state)
        state = {name: value for name, value in state.items() if not isinstance(value, Stream)}
        outcomes.append([*results, *[state[name] for name in sorted(state)]])
    assert same_results(*outcomes, rtol=rtol)


@pytest.mark.parametrize("name", PASSES)
def test_passes_return_the_same_object_where_nothing_changes(name: str) -> None:
    function = parse_function("""
    variable @w: f32[3, 2]
    constant @c: f32[2] = [1.0, 2.0]
    func @f(%x: f32[n, 3]) -> f32[n, 2] {
      %0 = read(@w) : f32[3, 2]
      %1 = matmul(%x, %0) : f32[n, 2]
      %2 = add(%1, @c) : f32[n, 2]
      %3 = tanh(%2) : f32[n, 2]
      return(%3)
    }""")
    assert PASSES[name](function) is function


def test_simplify_keeps_the_users_names() -> None:
    function = parse_function("""
    func @f(%x: f32[n]) -> f32[n], i32[n] {
      %0 = neg(%x) : f32[n]
      %difference = add(%x, %0) : f32[n]
      %i = cast(%difference, dtype="i32") : i32[n]
      %zero = sub(%i, %i) : i32[n]
      return(%difference, %zero)
    }""")
    text = print_function(simplify(function))
    assert "%difference = sub(%x, %x) : f32[n]" in text
    assert "%zero = fill(0: i32, shape=[n]) : i32[n]" in text


def test_prune_keeps_the_read_that_tells_a_size() -> None:
    source = """variable @v: f32[n, 2]
func @f(%x: f32[m]) -> f32[{0}] {{
  %0 = read(@v) : f32[n, 2]
  %1 = fill(1.0: f32, shape=[{0}]) : f32[{0}]
  return(%1)
}}
"""
    assert "read(@v)" in print_function(prune(parse_function(source.format("n"))))
    pruned = prune(parse_function(source.format("m")))
    assert "read(@v)" not in print_function(pruned)
    assert not pruned.globals


def test_folding_is_bounded() -> None:
    function = parse_function("""
    func @f() -> i32[8] {
      %0 = dims(values=[1, 2, 3, 4, 5, 6, 7, 8]) : i32[8]
      %1 = add(%0, 1: i32) : i32[8]
      return(%1)
    }""")
    assert fold(function, small=4) is function
    assert fold(function, largest=16) is function
    folded = fold(function)
    assert [op.name for op in folded.walk()] == ["return"]
    (data,) = [entry.data for entry in folded.globals.values() if entry.type.shape == (8,)][-1:]
    assert evaluate(folded, [])[0].tolist() == list(range(2, 10))
    assert data is not None


def test_constants_hold_python_numbers() -> None:
    assert constant_of(np.float32(0.1), "f32") == Const(Type("f32"), float(np.float32(0.1)))
    assert constant_of(np.int8(3), "i8") == Const(Type("i8"), 3)
    assert constant_of(np.array(1 + 2j), "c64") == Const(Type("c64"), 1 + 2j)
    assert constant_of(np.bool_(1), "bool") == Const(Type("bool"), True)
    two = Const(Type("f32"), 2.0)
    assert fold_scalar(Builder().operation("add", [two, two], {})) == Const(Type("f32"), 4.0)
    x = Value(Type("f32"))
    assert fold_scalar(Builder().operation("add", [x, two], {})) is None


def test_cse_tells_attributes_apart() -> None:
    """Attributes that Python calls equal, such as 0.0 and -0.0, make different operations."""

    class Scaled(OpDef):
        """An operation with an attribute of any type."""

        name = "test_scaled"
        defaults: dict[str, Any] = {"by": None}  # noqa: RUF012

        def infer(self, x: Any, *, by: Any = None) -> Any:
            return x

    build, defn = Builder(), Scaled()
    x = Value(Type("f32"), "x")
    values = [0.0, -0.0, 0, False, 0j, (0,), (False,), (0.0,), (-0.0,)]
    made = [build.emit(defn, x, by=value) for value in (*values, *values)]
    build.emit("return", *made)
    assert len(cse(build.function("f", [x])).body.ops) == len(values) + 1


def test_expand_can_be_told_to_keep_operations() -> None:
    function = parse_function("""
    func @f(%x: f32[3]) -> f32[2, 3] {
      %pair = stack(%x, %x, axis=0) : f32[2, 3]
      return(%pair)
    }""")
    assert expand(function, lambda op: op.name == "stack") is function
    assert (
        print_function(expand(function))
        == """\
func @f(%x: f32[3]) -> f32[2, 3] {
  %0 = reshape(%x, shape=[1, 3]) : f32[1, 3]
  %1 = reshape(%x, shape=[1, 3]) : f32[1, 3]
  %pair = concat(%0, %1, axis=0) : f32[2, 3]
  return(%pair)
}
"""
    )


def test_an_expansion_must_give_the_declared_types() -> None:
    class Wrong(OpDef):
        """Expands to another shape than it infers."""

        name = "test_wrong_expansion"
        defaults: dict[str, Any] = {}  # noqa: RUF012

        def infer(self, x: Type) -> Type:
            return x

        def expand(self, b: Builder, x: Operand) -> Operand:
            return b.emit("reshape", x, shape=(1, 3))

    build = Builder()
    x = Value(Type("f32", (3,)), "x")
    build.emit("return", build.emit(Wrong(), x))
    message = r"test_wrong_expansion expands to \(f32\[1, 3\]\), not \(f32\[3\]\)"
    with pytest.raises(IRError, match=message):
        expand(build.function("f", [x]))


CHAIN = """\
variable @v: f32[3]
func @f(%x: f32[3]) -> f32[3] {
  %double = add(%x, %x) : f32[3]
  %more = add(%double, 1.0: f32) : f32[3]
  %root = sqrt(%more) : f32[3]
  write(@v, %double)
  return(%root)
}
"""


def not_valid(function: Function) -> Function:
    """A pass that loses what is used later."""
    return Function(
        function.name, type(function.body)(function.params, function.body.ops[1:]), function.globals
    )


def test_the_manager_verifies_times_and_dumps(tmp_path: Path) -> None:
    function, report = parse_function(CHAIN), Report()
    seen: list[tuple[str, str]] = []
    passes = (prune, partial(fold, small=4), simplify)
    after = run_passes(
        function,
        passes,
        check=True,
        report=report,
        dump=lambda name, when, function: seen.append((name, when)),
    )
    assert evaluate(after, [[1.0, 2.0, 3.0]])[0].shape == (3,)
    names = [name_of(each) for each in passes]
    assert names == ["prune", "fold", "simplify"] == [t.name for t in report.timings]
    assert seen == [(name, when) for name in names for when in ("before", "after")]
    assert "prune" in str(report)
    run_passes(function, passes, dump=tmp_path / "dump")
    files = sorted(path.name for path in (tmp_path / "dump").iterdir())
    assert files == ["00_input.sf", "01_prune.sf", "02_fold.sf", "03_simplify.sf"]
    text = (tmp_path / "dump" / "00_input.sf").read_text(encoding="utf-8")
    assert print_function(parse_function(text)) == CHAIN
    with pytest.raises(IRError, match="the pass 'not_valid' made a function that is not valid"):
        run_passes(function, (prune, not_valid), check=True)


def test_all_passes_together_on_a_training_step() -> None:
    module = parse_module((GOLDEN / "training.sf").read_text(encoding="utf-8"))
    for function in module.functions:
        after = run_passes(function, (prune, fold, simplify, cse, prune), check=True)
        assert_same_values(function, after, 1e-6)
        assert len(after.body.ops) < len(function.body.ops)
    assert print_module(module)


TYPES = {dtype: Type(dtype, (named("n"), 2)) for dtype in ("f32", "i32", "bool")}
OPS = {
    "f32": ["add", "sub", "mul", "div", "neg", "abs", "square", "maximum", "relu", "sign", "pow"],
    "i32": ["add", "sub", "mul", "neg", "abs", "maximum", "minimum", "bitwise_and", "sign"],
    "bool": ["logical_and", "logical_or", "logical_not", "logical_xor"],
}
UNARY = ["neg", "abs", "square", "relu", "sign", "logical_not"]
COMPARISONS = ["equal", "not_equal", "less", "greater_equal"]
NUMBERS = {
    "f32": [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, float("inf"), float("nan")],
    "i32": [0, 1, -1, 2, -(2**31)],
    "bool": [True, False],
}


@st.composite
def functions(draw: st.DrawFn) -> Function:
    """Straight-line functions of elementwise, moving and branching ops over three dtypes."""
    build = Builder()
    params = [Value(type_, dtype) for dtype, type_ in TYPES.items()]
    pool: dict[str, list[Any]] = {dtype: [p] for dtype, p in zip(TYPES, params, strict=True)}
    for _ in range(draw(st.integers(1, 14))):
        dtype = draw(st.sampled_from(sorted(TYPES)))
        pool[dtype].append(_operation(draw, build, dtype, pool))
    build.emit("return", *[values[-1] for values in pool.values()])
    return build.function("f", params)


def _operation(draw: st.DrawFn, build: Builder, dtype: str, pool: dict[str, list[Any]]) -> Any:
    def operand(of: str) -> Any:
        number = st.sampled_from(NUMBERS[of]).map(lambda value: Const(Type(of), value))
        return draw(st.one_of(st.sampled_from(pool[of]), number))

    def full(of: str) -> Any:
        return draw(st.sampled_from(pool[of]))

    kind = draw(st.integers(0, 9))
    if kind == 0:
        return build.emit("select", full("bool"), operand(dtype), operand(dtype))
    if kind == 1:
        turned = build.emit("transpose", full(dtype), perm=(1, 0))
        return build.emit("transpose", turned, perm=(1, 0))
    if kind == 2:
        number = Const(Type(dtype), draw(st.sampled_from(NUMBERS[dtype])))
        return build.emit("fill", number, shape=TYPES[dtype].shape)
    if kind == 3:
        other = draw(st.sampled_from(["f32", "i32", "bool"]))
        return build.emit("cast", full(other), dtype=dtype)
    if kind == 4 and dtype == "bool":
        other = draw(st.sampled_from(["f32", "i32"]))
        return build.emit(draw(st.sampled_from(COMPARISONS)), full(other), operand(other))
    name = draw(st.sampled_from(OPS[dtype]))
    first = full(dtype)
    return build.emit(name, first) if name in UNARY else build.emit(name, first, operand(dtype))


@settings(max_examples=60, deadline=None)
@given(functions())
def test_passes_keep_the_values_of_any_function(function: Function) -> None:
    numbers = np.array([[0.0, -0.0], [1.5, -2.0], [np.inf, np.nan], [-np.inf, 1e-45]], np.float32)
    arguments = [numbers, np.array([[0, 1], [-1, 7], [2**31 - 1, -(2**31)], [3, -5]], np.int32)]
    arguments.append(numbers > 0)
    verify(function)
    assert print_function(parse_function(print_function(function))) == print_function(function)
    passes = (prune, fold, simplify, cse, expand, fold, simplify, cse, prune)
    found = bisect(function, passes, arguments, rtol=0.0, atol=0.0)
    assert found is None, f"{found}\n{print_function(function)}"
    run_passes(function, passes, check=True)
