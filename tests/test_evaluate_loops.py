"""The reference evaluator of loops: the meaning of every op after lowering, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from contract import Case, inputs, parse_case

from stepforge.ir import dims
from stepforge.ir.analyses import checked_sizes
from stepforge.ir.builder import Builder
from stepforge.ir.core import Function, Value
from stepforge.ir.errors import FailedPreconditionError, InvalidArgumentError, IRError, ShapeError
from stepforge.ir.evaluate import evaluate
from stepforge.ir.evaluate_loops import HANDLERS, evaluate_loops
from stepforge.ir.loop_machine import LoopStep
from stepforge.ir.opdef import REGISTRY, lookup
from stepforge.ir.parser import parse_function
from stepforge.ir.philox import Stream
from stepforge.ir.verify import verify
from stepforge.passes.bisect import agree
from stepforge.passes.expand import expand
from stepforge.passes.fuse import fuse
from stepforge.passes.lower import lower, lowerable
from stepforge.passes.manager import run_passes
from stepforge.passes.order import ORDER
from stepforge.passes.plan import plan

lookup("add")  # fills the registry
MOST_CASES = 8  # of one op
QUIET = ("print", "py_func", "numba_call", "assert_true")
OPS = [
    name
    for name, defn in sorted(REGISTRY.items())
    if defn.cases and defn.level != "loop" and name not in QUIET
]


def function_of(case: Case) -> Function:
    build = Builder()
    params = [Value(t, f"x{i}") for i, t in enumerate(case.types)]
    made = build.emit(case.op, *params, **case.attrs)
    build.emit("return", *(made if isinstance(made, tuple) else (made,)))
    return build.function("f", params)


def symbolic(case: Case) -> Case:
    """The case with a name for each size of its operands; equal sizes share a name, 1 stays."""
    sizes: dict[Any, Any] = {n: dims.named(f"n{n}") for t in case.types for n in t.dims if n != 1}
    return case.with_sizes(sizes)


def planned(function: Function) -> LoopStep:
    """The function after all passes, as ``plan`` leaves it."""
    step = lower(fuse(expand(function))).step()
    loops = run_passes(step.function, ORDER["loops"])
    made = plan(loops, checked_sizes(function))
    verify(made.function)
    return replace(step, function=made.function, arena=made.arena)


@pytest.mark.parametrize("name", OPS)
def test_loops_mean_what_tensors_mean(name: str) -> None:
    """Straight after lowering turn by turn, after all passes by lanes, for names as sizes."""
    cases = lookup(name).cases
    for case in map(parse_case, cases[:: max(1, len(cases) // MOST_CASES)]):
        for variant, lanes in ((case, False), (symbolic(case), True)):
            try:
                function = function_of(variant)
            except ShapeError:
                continue
            if any(case.symbols) or not lowerable(function):
                continue
            step = planned(function) if lanes else lower(function).step()
            arrays = inputs(case)
            got = evaluate_loops(step, arrays, lanes=lanes)
            for value, want in zip(got, evaluate(function, arrays), strict=True):
                assert agree(value, want), f"{case.text}: {value} is not {want}"


def test_every_op_of_the_loop_level_has_a_meaning() -> None:
    loops = {name for name, defn in REGISTRY.items() if defn.level == "loop"}
    assert loops == HANDLERS.keys() | {"for"}


def run(text: str, *arguments: Any, state: dict[str, Any] | None = None, **more: Any) -> Any:
    function = parse_function(text)
    verify(function)
    outputs = tuple(range(len(function.params) - len(arguments)))
    step = LoopStep(function, outputs, len(outputs), **more)
    return evaluate_loops(step, arguments, state)


X = np.arange(4, dtype=np.float32)


def test_lanes_and_turns_give_the_same() -> None:
    text = """
    func @f(%x: &f32[n], %out: &f32) {
      %s = for(10.0: f32, high=n, simd=true, combine=["add"]) : f32 |%i: index, %c: f32| {
        %v = load(%x, %i) : f32
        %t = add(%c, %v) : f32
        yield(%t)
      }
      store(%s, %out)
      return()
    }"""
    for size in (0, 1, 9):
        x = np.arange(size, dtype=np.float32)
        step = LoopStep(parse_function(text), (0,), 1)
        results = [evaluate_loops(step, [x], lanes=lanes)[0] for lanes in (True, False)]
        assert results == [10 + x.sum()] * 2


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("%v = load(%x, 4) : f32  store(%v, %out, 0)", "takes index 4 of axis 0"),
        ("%v = load(%out, 0) : f32  store(%v, %out, 0)", "reads what nothing stored"),
        ("store(1.0: f32, %out, 0)", "result 0 was not stored in full"),
        ("%w = view(%x, shape=[2, 4]) : &f32[2, 4]  %v = load(%w, 1, 0) : f32  "
         "store(%v, %out, 0)", "leaves a memory of 4 elements"),
        ("for(high=4, simd=true) |%i: index| { %v = load(%x, %i) : f32  store(%v, %out, 0)  "
         "yield() }", "stores to one place in several lanes"),
        ("%p = place(shape=[4]) : &f32[4]  copy(%x, %p)  copy(%p, %out)", "could not broadcast"),
    ],
)  # fmt: skip
def test_what_native_code_would_not_notice(body: str, problem: str) -> None:
    text = "func @f(%x: &f32[n], %out: &f32[4]) {" + body + " return() }"
    with pytest.raises((IRError, ValueError), match=problem):
        run(text, X)


def test_places_share_the_arena() -> None:
    text = """
    func @f(%x: &f32[4], %out: &f32[4]) {
      %a = place(shape=[4]) : &f32[4]
      %b = place(shape=[4], offset=8) : &f32[4]
      copy(%x, %a)
      copy(%x, %b)
      copy(%a, %out)
      return()
    }"""
    (overlapping,) = run(text, X, arena=64)
    assert overlapping.tolist() == [0, 1, 0, 1]


def test_variables_change_as_they_would_natively() -> None:
    text = """
    variable @v: f32[4]
    func @f(%x: &f32[4]) {
      %v = slot(@v) : &f32[4]
      copy(%x, %v)
      %bad = greater(1.0: f32, 0.0: f32) : bool
      fail_if(%bad, 3, message="{} is too late")
      return()
    }"""
    state: dict[str, Any] = {"v": np.zeros(4, np.float32)}
    with pytest.raises(InvalidArgumentError, match="3 is too late"):
        run(text, X, state=state)
    assert state["v"].tolist() == X.tolist()
    with pytest.raises(FailedPreconditionError, match="uninitialized value v"):
        run(text, X, state={})


def test_new_slots_and_streams() -> None:
    text = """
    variable @v: f32[n]
    random @s
    func @f(%x: &f32[m], %out: &f32[3]) {
      %t = new_slot(@v, shape=[m]) : &f32[m]
      copy(%x, %t)
      commit(@v, %t)
      philox(@s, %out, kind="uniform")
      return()
    }"""
    state = {"v": np.zeros(2, np.float32), "s": Stream(1, 2)}
    (drawn,) = run(text, X, state=state)
    assert state["v"].tolist() == X.tolist()
    assert ((drawn >= 0) & (drawn < 1)).all()
    assert state["s"].state[1] > 0


def test_sizes_that_nothing_binds() -> None:
    function = parse_function("func @f(%out: &f32) { store(1.0: f32, %out)  return() }")
    late = LoopStep(function, (0,), 1, arena=dims.named("q"))
    with pytest.raises(IRError, match="the size 'q' is not bound"):
        evaluate_loops(late, [])
    with pytest.raises(ShapeError, match=r"'x' is no &f32\[4\]"):
        run("func @f(%x: &f32[4]) { return() }", X[:2])


def test_a_loop_stays_behind_the_check_of_what_it_reads() -> None:
    function = parse_function("""func @f(%x: f32[k], %y: f32[n, 3]) -> f32[n, 3], f32[n, n] {
  %0 = softmax(%y) : f32[n, 3]
  require_equal(lhs=k, rhs=3*n, message="sizes differ")
  %1 = reshape(%x, shape=[n, 3]) : f32[n, 3]
  %2 = softmax(%1) : f32[n, 3]
  %3 = matmul(%2, %2, transpose_b=true) : f32[n, n]
  return(%0, %3)
}
""")
    step = planned(function)
    names = [op.name for op in step.function.body.ops]
    assert names.count("for") == 2
    assert names.index("for") < names.index("fail_unless") < names.index("view")
    with pytest.raises(InvalidArgumentError, match="sizes differ: 1 is not 6"):
        evaluate_loops(step, [np.ones(1, "f4"), np.ones((2, 3), "f4")])
