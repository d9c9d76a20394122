"""The pass that changes what is computed is found, with its operation and the user's line."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepforge.ir.builder import Builder
from stepforge.ir.core import Const, Function, Operation, Site
from stepforge.ir.parser import parse_function
from stepforge.ir.philox import Stream
from stepforge.ir.rewrite import rebuild, with_operands
from stepforge.ir.types import Type
from stepforge.passes.bisect import bisect
from stepforge.passes.cse import cse
from stepforge.passes.prune import prune
from stepforge.passes.simplify import simplify

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


def sited(text: str) -> Function:
    """A function whose operations have sites."""
    function = parse_function(text)

    def visit(op: Operation, build: Builder) -> Any:
        if not op.results:
            return None
        build.site = Site(op.name, "user.py", 10 + len(build.ops))
        return (build.emit(op.defn, *op.operands, names=[op.result.name]),)

    return rebuild(function, visit)


def add_becomes_mul(function: Function) -> Function:
    """A pass that is wrong for what comes after ``%double``."""

    def visit(op: Operation, build: Builder) -> Any:
        if op.name != "add" or op.result.name != "more":
            return None
        return (build.emit("mul", *op.operands, names=["more"]),)

    return rebuild(function, visit)


def stores_something_else(function: Function) -> Function:
    """A pass that writes the wrong value."""

    def visit(op: Operation, build: Builder) -> Any:
        if op.name == "write":
            build.ops.append(with_operands(op, (op.operands[0], function.params[0])))
            return ()
        return None

    return rebuild(function, visit)


def reads_nothing(function: Function) -> Function:
    """A pass that inserts a failure."""

    def visit(op: Operation, build: Builder) -> None:
        if op.name == "sqrt":
            build.emit("require", Const(Type("bool"), False), message="no")

    return rebuild(function, visit)


def test_bisect_names_pass_operation_and_site() -> None:
    found = bisect(sited(CHAIN), (prune, simplify, add_becomes_mul, cse), [[1.0, 2.0, 3.0]])
    assert found is not None
    assert found.name == "add_becomes_mul"
    assert found.op is not None
    assert found.op.name == "mul"
    assert found.site == Site("add", "user.py", 11)
    assert (
        str(found)
        == """\
the pass 'add_becomes_mul' changes what is computed: result 0 is [1.4142135 2.        2.4494898] \
instead of [1.7320508 2.236068  2.6457512]; first seen: [2. 4. 6.] instead of [3. 5. 7.]
    %more = mul(%double, 1.0: f32) : f32[3]
  'add' created at user.py:11"""
    )


def test_bisect_sees_variables_and_errors() -> None:
    arguments = [np.ones(3, np.float32)]
    state = {"v": np.zeros(3, np.float32)}
    found = bisect(parse_function(CHAIN), (prune, stores_something_else), arguments, state)
    assert found is not None
    assert found.op is not None
    assert (found.name, found.op.name) == ("stores_something_else", "write")
    assert "@v is [1. 1. 1.] instead of [2. 2. 2.]" in found.detail
    assert state["v"].tolist() == [0, 0, 0]
    found = bisect(parse_function(CHAIN), (prune, reads_nothing), arguments, state)
    assert found is not None
    assert found.op is not None
    assert (found.name, found.op.name) == ("reads_nothing", "require")
    assert "it raises InvalidArgumentError: no, before it it raises nothing" in found.detail


def test_bisect_finds_nothing_where_nothing_is_wrong() -> None:
    text = """
    random @s
    func @f(%x: f32[3]) -> f32[3] {
      %0 = random_uniform(@s, shape=[3]) : f32[3]
      %1 = mul(%0, 1.0: f32) : f32[3]
      %2 = add(%x, %1) : f32[3]
      return(%2)
    }"""
    stream = Stream(1, 2)
    before = stream.state.copy()
    passes = (simplify, cse, prune)
    assert bisect(parse_function(text), passes, [[1.0, 2.0, 3.0]], {"s": stream}) is None
    assert stream.state.tolist() == before.tolist()
