"""The rebuild driver keeps what does not change, and the helpers and analyses on operations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from stepforge.ir import analyses, dims, rewrite
from stepforge.ir.builder import Builder
from stepforge.ir.core import Block, Const, Function, Operand, Operation, Symbol, Value
from stepforge.ir.errors import IRError
from stepforge.ir.evaluate import evaluate
from stepforge.ir.parser import parse_function
from stepforge.ir.text import print_function
from stepforge.ir.types import Type
from stepforge.ir.verify import verify

NESTED = """\
func @f(%p: bool, %x: f32[n]) -> f32[n] {
  %0 = neg(%x) : f32[n]
  %1 = cond(%p) : f32[n] then {
    %2 = add(%0, %x) : f32[n]
    %3 = tanh(%2) : f32[n]
    yield(%3)
  } else {
    yield(%0)
  }
  %4 = add(%1, %0) : f32[n]
  return(%4)
}
"""


def keep(op: Operation, build: Builder) -> None:
    """A visitor that changes nothing."""


def negation_to_exp(op: Operation, build: Builder) -> Sequence[Operand] | None:
    """A visitor that replaces one kind of operation."""
    return (build.emit("exp", op.operands[0]),) if op.name == "neg" else None


def test_the_same_function_comes_back_where_nothing_changes() -> None:
    function = parse_function(NESTED)
    assert rewrite.rebuild(function, keep) is function


def test_replaced_values_reach_their_users_in_regions() -> None:
    function = parse_function(NESTED)
    changed = rewrite.rebuild(function, negation_to_exp)
    verify(changed)
    assert print_function(changed) == NESTED.replace("neg(", "exp(")
    assert print_function(function) == NESTED
    old, new = function.body.ops, changed.body.ops
    assert new[1].results is old[1].results  # rebuilt, but still the same value
    region = new[1].regions[0]
    assert region.ops[1] is old[1].regions[0].ops[1]  # not even rebuilt


def test_ops_can_be_inserted_and_erased() -> None:
    function = parse_function(
        "func @f(%x: i32) -> i32 { check_nonzero(%x) %y = neg(%x) : i32 return(%y) }"
    )

    def erase(op: Operation, build: Builder) -> Sequence[Operand] | None:
        return () if op.name == "check_nonzero" else None

    def insert(op: Operation, build: Builder) -> None:
        if op.name == "neg":
            build.emit("require", Const(Type("bool"), True), message="fine")

    erased = rewrite.rebuild(function, erase)
    assert [op.name for op in erased.walk()] == ["neg", "return"]
    names = [op.name for op in rewrite.rebuild(function, insert).walk()]
    assert names == ["check_nonzero", "require", "neg", "return"]


def test_as_many_values_must_replace_as_there_are() -> None:
    with pytest.raises(IRError, match="neg: 2 values replace 1 results"):
        rewrite.rebuild(
            parse_function(NESTED),
            lambda op, build: op.operands * 2 if op.name == "neg" else None,
        )


def test_another_type_is_inferred_again_down_the_line() -> None:
    function = parse_function("""
    func @f(%x: f32[n], %y: f32[3]) -> f32[n, 2] {
      %0 = neg(%x) : f32[n]
      %1 = exp(%0) : f32[n]
      %2 = stack(%1, %1, axis=1) : f32[n, 2]
      return(%2)
    }""")
    y = function.params[1]
    changed = rewrite.rebuild(function, lambda op, build: (y,) if op.name == "neg" else None)
    verify(changed)
    assert changed.result_types == (Type("f32", (3, 2)),)


def test_scopes_are_told_of_regions() -> None:
    class Scope:
        def __init__(self) -> None:
            self.events: list[str] = []

        def enter(self, owner: Operation) -> None:
            self.events.append(f"enter {owner.name}")

        def leave(self, owner: Operation) -> None:
            self.events.append(f"leave {owner.name}")

        def visit(self, op: Operation, build: Builder) -> None:
            self.events.append(op.name)

    scope = Scope()
    rewrite.rebuild(parse_function(NESTED), scope.visit, scope)
    then = ["enter cond", "add", "tanh", "yield", "leave cond"]
    other = ["enter cond", "yield", "leave cond"]
    assert scope.events == ["neg", *then, *other, "cond", "add", "return"]


def test_substitution_reaches_into_regions() -> None:
    function = parse_function(NESTED)
    x = function.params[1]
    y = Value(x.type, "y")
    assert rewrite.substitute(function.body, {}) is function.body
    body = rewrite.substitute(function.body, {x: y})
    assert analyses.free_values(body) == (y,)
    assert rewrite.with_body(function, function.body) is function
    changed = rewrite.with_body(function, Block((function.params[0], y), body.ops))
    verify(changed)


def test_a_region_can_be_inlined_twice() -> None:
    function = parse_function(NESTED)
    region = function.body.ops[1].regions[0]
    build = Builder()
    build.ops.append(function.body.ops[0])
    first = rewrite.inline(region, (), build)
    second = rewrite.inline(region, (), build)
    build.emit("return", build.emit("sub", first[0], second[0]))
    made = build.function("g", function.params)
    verify(made)
    assert len(made.body.ops) == 7
    assert evaluate(made, [True, [1.0, 2.0]])[0].tolist() == [0, 0]


def test_inlining_passes_arguments_and_copies_nested_regions() -> None:
    function = parse_function("""
    func @f(%n: i32) -> i32 {
      %r = while(0: i32) : i32 test |%i: i32| {
        %go = less(%i, %n) : bool
        yield(%go)
      } body |%j: i32| {
        %p = less(%j, 2: i32) : bool
        %1 = cond(%p) : i32 then { %2 = add(%j, 1: i32) : i32 yield(%2) } else { yield(%n) }
        yield(%1)
      }
      return(%r)
    }""")
    build = Builder()
    for start in (1, 7):
        body = function.body.ops[0].regions[1]
        (value,) = rewrite.inline(body, (Const(Type("i32"), start),), build)
        build.emit("check_nonzero", value)
    build.emit("return", value)
    made = build.function("g", function.params)
    verify(made)
    assert evaluate(made, [np.int32(9)])[0] == 9


def test_sizes_can_be_replaced_everywhere() -> None:
    function = parse_function("""
    variable @w: f32[m, k]
    func @f(%x: f32[n, m]) -> f32[n*m] {
      %w = read(@w) : f32[m, k]
      %0 = matmul(%x, %w) : f32[n, k]
      %1 = reshape(%x, shape=[n*m]) : f32[m*n]
      return(%1)
    }""")
    assert rewrite.substitute_sizes(function, {}) is function
    changed = rewrite.substitute_sizes(function, {"m": 4, "n": dims.named("k")})
    verify(changed)
    assert "variable @w: f32[4, k]" in print_function(changed)
    assert "%1 = reshape(%x, shape=[4*k]) : f32[4*k]" in print_function(changed)


def test_map_regions_keeps_the_operation_where_regions_stay() -> None:
    cond = parse_function(NESTED).body.ops[1]
    assert rewrite.map_regions(cond, lambda region: region) is cond
    emptied = rewrite.map_regions(cond, lambda region: Block((), region.ops[-1:]))
    assert [len(r.ops) for r in emptied.regions] == [1, 1]
    assert emptied.results is cond.results


def test_definitions_and_uses() -> None:
    function = parse_function(NESTED)
    zero, cond, add, _ = function.body.ops
    value = zero.result
    assert analyses.definitions(function.body)[value] is zero
    inner = cond.regions[0].ops[0]
    other = cond.regions[1].terminator
    assert analyses.uses(function.body)[value] == [(inner, 0), (other, 0), (add, 1)]
    last = analyses.last_uses(function.body)
    assert (last[value], last[function.params[1]], last[cond.result]) == (2, 1, 2)
    assert analyses.free_values(cond.regions[0]) == (value, function.params[1])
    assert list(analyses.used_values(cond)) == [
        function.params[0],
        value,
        function.params[1],
    ]


def test_effects_come_from_regions_too() -> None:
    function = parse_function("""
    variable @v: f32
    random @s
    func @f(%p: bool, %x: f32) {
      cond(%p) then { write(@v, %x) yield() } else { check_nonzero(3: i32) yield() }
      %0 = cond(%p) : f32 then { %1 = read(@v) : f32 yield(%1) } else { yield(%x) }
      %2 = random_uniform(@s, shape=[3]) : f32[3]
      require(%p, message="p")
      return()
    }""")
    writing, reading, drawing, checking, _ = function.body.ops
    assert analyses.effects(writing) == {"write", "check"}
    assert analyses.effects(reading) == {"read"}
    removable = [analyses.removable(op) for op in (writing, reading, drawing, checking)]
    assert removable == [False, True, True, False]
    assert analyses.written(writing) == {"v"}
    assert analyses.symbols(function.body) == {
        "v": Symbol("v", Type("f32")),
        "s": Symbol("s", Type("resource")),
    }


def test_sizes_of_operations() -> None:
    function = parse_function("""
    variable @v: f32[k, 3]
    func @f(%c: bool[n, 2*l], %u: f32[*]) {
      %0 = where(%c, binds="m") : i64[m, 2]
      %1 = fill(0.0: f32, shape=[m*n]) : f32[m*n]
      %2 = refine(%u, shape=[a, n]) : f32[a, n]
      return()
    }""")
    where, fill, refine, _ = function.body.ops
    assert analyses.entry_sizes(function) == {"k", "n"}
    assert analyses.bound_sizes(where) == ("m",)
    assert analyses.refined_sizes(refine) == ("a", "n")
    assert analyses.mentioned_sizes(fill) == {"m", "n"}
    assert analyses.type_sizes(function.params[0].type) == {"n", "l"}


def test_rebuilding_takes_no_more_than_one_visit_for_each_operation() -> None:
    build = Builder()
    x = first = Value(Type("f32"), "x")
    for _ in range(1000):
        x = build.emit("neg", x)
    build.emit("return", x)
    function: Function = build.function("f", [first])
    visits = []
    rewrite.rebuild(function, lambda op, build: visits.append(op))
    assert visits == list(function.body.ops)
