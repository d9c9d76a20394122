"""The reference evaluator: attributes, sizes, state, control flow, failures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepforge.ir.builder import Builder
from stepforge.ir.core import Block, Function, Operation, Site, Value
from stepforge.ir.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    IRError,
    ShapeError,
)
from stepforge.ir.evaluate import as_value, evaluate, is_static, same_results, same_value
from stepforge.ir.opdef import OpDef
from stepforge.ir.parser import parse_function, parse_type
from stepforge.ir.philox import Stream
from stepforge.ir.types import ListType, Type
from stepforge.ir.verify import verify


def run(text: str, *arguments: Any, state: dict[str, Any] | None = None) -> tuple[Any, ...]:
    function = parse_function(text)
    verify(function)
    return evaluate(function, arguments, state)


def test_operands_attributes_and_several_results() -> None:
    text = """
    constant @c: f32[3] = [1.0, 2.0, 4.0]
    func @f(%x: f32[n, 3]) -> f32[3], f32, f32[n, 3] {
      %0 = mul(%x, @c) : f32[n, 3]
      %1 = add(%0, 0.5: f32) : f32[n, 3]
      %2 = reduce_sum(%1, axes=[0]) : f32[3]
      return(%2, 2.0: f32, %1)
    }"""
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    total, two, each = run(text, x)
    np.testing.assert_array_equal(each, x * np.array([1, 2, 4], np.float32) + np.float32(0.5))
    np.testing.assert_array_equal(total, each.sum(0))
    assert total.dtype == np.float32
    assert (two.shape, two.dtype) == ((), np.float32)


def test_sizes_in_attributes_have_their_present_values() -> None:
    text = """
    func @f(%x: f32[n, 2*m], %y: f32[m]) -> f32[2*m*n], i64[2] {
      %0 = reshape(%x, shape=[2*m*n]) : f32[2*m*n]
      %1 = dims(values=[n + 1, floordiv(n, m)], dtype="i64") : i64[2]
      return(%0, %1)
    }"""
    x = np.ones((5, 4), np.float32)
    flat, sizes = run(text, x, np.zeros(2, np.float32))
    assert flat.shape == (20,)
    assert sizes.tolist() == [6, 2]
    with pytest.raises(
        ShapeError, match=r"'x' is no f32\[n, 2\*m\]: dimension 1 is 4, not 2\*m = 6"
    ):
        run(text, x, np.zeros(3, np.float32))


def test_ops_bind_sizes() -> None:
    text = """
    func @f(%c: bool[n], %s: i32[2], %u: f32[*]) -> f32[m], f32[k, 1], f32[a, b] {
      %0 = where(%c, binds="m") : i64[m, 1]
      dim(%s, index=1, binds="k")
      %1 = fill(1.0: f32, shape=[m]) : f32[m]
      %2 = fill(2.0: f32, shape=[k, 1]) : f32[k, 1]
      %3 = refine(%u, shape=[a, b]) : f32[a, b]
      return(%1, %2, %3)
    }"""
    got = run(text, [True, False, True], np.array([7, 4], np.int32), np.zeros((2, 3), np.float32))
    assert [v.shape for v in got] == [(2,), (4, 1), (2, 3)]
    with pytest.raises(InvalidArgumentError, match="cannot have shape"):
        run(text, [True], np.array([7, 4], np.int32), np.float32(1))


STATEFUL = """
variable @v: f32[k]
random @s
func @f(%x: f32[k]) -> f32[k], bool, f32[2] {
  %i = is_initialized(@v) : bool
  %0 = read(@v) : f32[k]
  %1 = add(%0, %x) : f32[k]
  write(@v, %1)
  %2 = random_uniform(@s, shape=[2]) : f32[2]
  %3 = read(@v) : f32[k]
  return(%3, %i, %2)
}
"""


def test_variables_and_streams_live_in_the_state() -> None:
    state = {"v": np.ones(3, np.float32), "s": Stream(1, 0), "other": 5}
    value, initialized, first = run(STATEFUL, [1.0, 2.0, 3.0], state=state)
    assert value.tolist() == [2, 3, 4] == state["v"].tolist()
    assert bool(initialized)
    np.testing.assert_array_equal(first, np.array([0.81269646, 0.07857466], np.float32))
    *_, second = run(STATEFUL, [0.0, 0.0, 0.0], state=state)
    assert not np.array_equal(first, second)
    assert state["other"] == 5


def test_a_failure_leaves_the_variables_alone() -> None:
    text = """
    variable @v: i32
    func @f(%x: i32) -> i32 {
      %0 = read(@v) : i32
      write(@v, 5: i32)
      check_nonzero(%x)
      %1 = trunc_div(%0, %x) : i32
      return(%1)
    }"""
    state: dict[str, Any] = {"v": np.int32(7)}
    with pytest.raises(InvalidArgumentError, match="Integer division by zero"):
        run(text, np.int32(0), state=state)
    assert state["v"] == 7
    assert run(text, np.int32(2), state=state)[0] == 3
    assert state["v"] == 5


def test_reading_needs_a_value_and_errors_name_the_site() -> None:
    function = parse_function(STATEFUL)
    ops = tuple(
        Operation(o.defn, o.operands, o.attrs, o.results, (), Site(f"node{i}", "m.py", i))
        for i, o in enumerate(function.body.ops)
    )
    named = Function("f", Block(function.params, ops), function.globals)
    with pytest.raises(FailedPreconditionError) as error:
        evaluate(named, [np.zeros(3, np.float32)], {})
    assert error.value.site == Site("node1", "m.py", 1)
    assert "uninitialized value v" in str(error.value)


def test_cond_runs_one_branch() -> None:
    text = """
    func @f(%p: bool, %x: i32[n]) -> i32[k] {
      %r = cond(%p, binds=["k"]) : i32[k] then {
        %0 = concat(%x, %x, axis=0) : i32[2*n]
        yield(%0)
      } else {
        check_nonzero(%x)
        yield(%x)
      }
      return(%r)
    }"""
    assert run(text, True, np.array([0, 1], np.int32))[0].tolist() == [0, 1, 0, 1]
    assert run(text, False, np.array([2, 1], np.int32))[0].tolist() == [2, 1]
    with pytest.raises(InvalidArgumentError):
        run(text, False, np.array([0, 1], np.int32))


def test_while_carries_values_whose_sizes_grow() -> None:
    text = """
    func @f(%x: f32[n], %turns: i32) -> f32[k], i32 {
      %i, %r = while(0: i32, %x, binds=["k"]) : i32, f32[k]
      test |%j: i32, %s: f32[k]| {
        %go = less(%j, %turns) : bool
        yield(%go)
      } body |%j: i32, %s: f32[k]| {
        %t = concat(%s, %x, axis=0) : f32[k + n]
        %1 = add(%j, 1: i32) : i32
        yield(%1, %t)
      }
      %2 = fill(1.0: f32, shape=[k]) : f32[k]
      %3 = add(%r, %2) : f32[k]
      return(%3, %i)
    }"""
    for turns in (0, 3):
        grown, count = run(text, [1.0, 2.0], np.int32(turns))
        assert grown.tolist() == [2, 3] * (turns + 1)
        assert count == turns


def test_nested_loops_and_values_from_outside() -> None:
    text = """
    func @f(%n: i32) -> i32 {
      %a, %s = while(0: i32, 0: i32) : i32, i32 test |%i: i32, %t: i32| {
        %0 = less(%i, %n) : bool
        yield(%0)
      } body |%i: i32, %t: i32| {
        %b, %u = while(0: i32, %t) : i32, i32 test |%j: i32, %v: i32| {
          %1 = less(%j, %i) : bool
          yield(%1)
        } body |%j: i32, %v: i32| {
          %2 = add(%v, %i) : i32
          %3 = add(%j, 1: i32) : i32
          yield(%3, %2)
        }
        %4 = add(%i, 1: i32) : i32
        yield(%4, %u)
      }
      return(%s)
    }"""
    assert run(text, np.int32(5))[0] == sum(i * i for i in range(5))


def test_assumptions_are_checked() -> None:
    text = """
    func @f(%x: f32[n], %y: f32[m]) -> f32[n] {
      assume(lhs=n, rhs=m)
      %0 = add(%x, %y) : f32[broadcast(m, n)]
      %1 = refine(%0, shape=[n]) : f32[n]
      return(%1)
    }"""
    assert run(text, [1.0], [2.0])[0].tolist() == [3]
    with pytest.raises(InvalidArgumentError, match="the sizes 1 and 2 are assumed equal"):
        run(text, [1.0], [2.0, 3.0])


def test_arguments_are_converted_safely() -> None:
    text = "func @f(%x: f32[n]) -> f32[n] { return(%x) }"
    assert run(text, [1, 2])[0].dtype == np.float32
    with pytest.raises(TypeError):
        run("func @f(%x: i32) -> i32 { return(%x) }", np.float64(1.5))
    with pytest.raises(ShapeError, match="'x' is no"):
        run(text, np.float32(1))
    with pytest.raises(TypeError, match="@f takes 1 arguments, not 2"):
        run(text, [1.0], [1.0])
    assert as_value(Type("string"), b"ab").item() == b"ab"
    items = [1, 2]
    assert as_value(ListType(Type("i32")), items) is items


class TestWrong(OpDef):
    """Gives f64 where its result says f32."""

    name = "test_wrong"
    defaults: dict[str, Any] = {}  # noqa: RUF012

    def infer(self, x: Type) -> Type:
        return x

    def numpy(self, x: Any) -> Any:
        return np.float64(x)


class TestNothing(OpDef):
    """Has no numpy rule."""

    name = "test_nothing"
    defaults: dict[str, Any] = {}  # noqa: RUF012

    def infer(self, x: Type) -> Type:
        return x


@pytest.mark.parametrize(
    ("defn", "message"),
    [
        (TestWrong(), "test_wrong gave dtype float64 for a result f32"),
        (TestNothing(), "test_nothing has no numpy rule"),
    ],
)
def test_rules_answer_for_what_they_give(defn: OpDef, message: str) -> None:
    build = Builder()
    x = Value(Type("f32"), "x")
    build.emit("return", build.emit(defn, x))
    with pytest.raises(IRError, match=message):
        evaluate(build.function("f", [x]), [1.0])


def test_every_operation_can_be_observed() -> None:
    function = parse_function(
        "func @f(%x: f32) -> f32 { %y = neg(%x) : f32 %z = neg(%y) : f32 return(%z) }"
    )
    seen: list[tuple[str, float]] = []
    evaluate(function, [3.0], observe=lambda op, out: seen.append((op.name, float(out[0]))))
    assert seen == [("neg", -3.0), ("neg", 3.0)]


def test_values_are_compared_with_their_types() -> None:
    one = np.float32(1.0)
    assert same_results([np.array([np.nan, 1.0])], [np.array([np.nan, 1.0])])
    assert same_value(np.array(1.0), np.array(1.0 + 1e-9), rtol=1e-6)
    assert not same_value(np.array(1.0), np.array(1.0 + 1e-9))
    assert not same_value(np.asarray(one), np.array(1.0))
    assert not same_value(np.zeros(2), np.zeros(3))
    assert same_value(np.array([b"a"], object), np.array([b"a"], object))
    assert same_value([np.zeros(2)], [np.zeros(2)])
    assert not same_value([np.zeros(2)], [])
    assert is_static(parse_type("f32[2, 3]"))
    assert is_static(parse_type("f32"))
    assert not is_static(parse_type("f32[2, n]"))
    assert not is_static(parse_type("f32[*]"))
    assert not is_static(parse_type("list<f32>"))
