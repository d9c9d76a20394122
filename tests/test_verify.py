"""The verifier finds every kind of mistake, all of them at once, and shows where they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepforge.ir.builder import Builder
from stepforge.ir.core import (
    Block,
    Const,
    Function,
    Global,
    Module,
    Operation,
    Site,
    Symbol,
    Value,
)
from stepforge.ir.errors import IRError
from stepforge.ir.opdef import lookup
from stepforge.ir.parser import parse_function
from stepforge.ir.types import Type
from stepforge.ir.verify import problems, verify, verify_module

F32 = Type("f32")

VALID = {
    "empty": "func @f() { return() }",
    "sizes in any order": """
        func @f(%x: f32[2*n + m], %y: f32[n, m]) -> f32[2*n + m] { return(%x) }""",
    "a variable binds": """
        variable @w: f32[k, 3]
        func @f() -> f32[k, 3] { %w = read(@w) : f32[k, 3] return(%w) }""",
    "an op binds": """
        func @f(%c: bool[n]) -> f32[m] {
          %r = where(%c, binds="m") : i64[m, 1]
          %z = fill(0.0: f32, shape=[m]) : f32[m]
          return(%z)
        }""",
    "refine binds": """
        func @f(%x: f32[*]) -> f32[n, 3] {
          %y = refine(%x, shape=[n, 3]) : f32[n, 3]
          return(%y)
        }""",
    "dim binds": """
        func @f(%s: i32[2]) -> f32[k] {
          dim(%s, index=0, binds="k")
          %z = fill(0.0: f32, shape=[k]) : f32[k]
          return(%z)
        }""",
    "cond of two sizes": """
        func @f(%p: bool, %x: f32[n], %y: f32[m, 2], %z: f32[l, 2]) -> f32[k, 2] {
          %r = cond(%p, binds=["k"]) : f32[k, 2] then { yield(%y) } else { yield(%z) }
          return(%r)
        }""",
    "a loop of growing size": """
        func @f(%x: f32[n]) -> f32[k] {
          %i, %r = while(0: i32, %x, binds=["k"]) : i32, f32[k]
          test |%j: i32, %s: f32[k]| {
            %go = less(%j, 3: i32) : bool
            yield(%go)
          } body |%j: i32, %s: f32[k]| {
            %t = concat(%s, %x, axis=0) : f32[k + n]
            %2 = add(%j, 1: i32) : i32
            yield(%2, %t)
          }
          return(%r)
        }""",
    "loops with scalar arithmetic": """
        func @f(%x: &f32[n]) {
          for(high=n) |%i: index| {
            %a = load(%x, %i) : f32
            %b = tanh(%a) : f32
            store(%b, %x, %i)
            yield()
          }
          return()
        }""",
}


@pytest.mark.parametrize("text", VALID.values(), ids=VALID.keys())
def test_valid_functions_pass(text: str) -> None:
    verify(parse_function(text))


INVALID = {
    "another result type": (
        "func @f(%x: f32[n]) -> f32[m] { %y = neg(%x) : f32[m] return(%y) }",
        ["neg mentions the size m, which nothing binds"],
    ),
    "inferred type": (
        "func @f(%x: f32[n]) -> f64[n] { %y = neg(%x) : f64[n] return(%y) }",
        ["neg: gives (f32[n]), but its results say (f64[n])"],
    ),
    "shapes": (
        """func @f(%x: f32[2, 3], %y: f32[4, 5]) -> f32[2, 5] {
          %z = matmul(%x, %y) : f32[2, 5]
          return(%z)
        }""",
        ["matmul: inner dimensions differ"],
    ),
    "number of operands": (
        "func @f(%x: f32) -> f32 { %y = add(%x) : f32 return(%y) }",
        ["add: takes 2 operands, not 1"],
    ),
    "attribute missing": (
        "func @f(%x: f32[3]) -> f32 { %y = reduce_sum(%x) : f32 return(%y) }",
        ["reduce_sum: the attribute 'axes' is missing"],
    ),
    "terminators": (
        "func @f(%x: f32) { return() %y = neg(%x) : f32 }",
        ["return: stands before the end", "the function must end in return(...)"],
    ),
    "the wrong terminator": (
        """func @f(%p: bool) {
          cond(%p) then { yield() } else { return() }
          return()
        }""",
        ["return: only yield(...) can end this block"],
    ),
    "branches": (
        """func @f(%p: bool, %x: f32[n], %y: f32[m]) -> f32[n] {
          %r = cond(%p) : f32[n] then { yield(%x) } else { yield(%y, %y) }
          %s = cond(%p) : f32[n] then { yield(%x) } else { yield(%y) }
          return(%r)
        }""",
        [
            "cond: what 'else' yields and what is expected differ in number: 2 and 1",
            "cond: what 'else' yields and what is expected differ: number 0 is f32[m], not f32[n]",
        ],
    ),
    "predicates and regions": (
        "func @f(%p: i32) { cond(%p) then { yield() } return() }",
        ["cond: the predicate must be one bool", "cond: has 1 regions, not 2 (then, else)"],
    ),
    "loop variables": (
        """func @f(%x: f32[n]) -> f32[n] {
          %r = while(%x) : f32[n] test |%s: f32[n]| { yield(%s) }
          body |%s: f32[n]| { %t = concat(%s, %s, axis=0) : f32[2*n] yield(%t) }
          return(%r)
        }""",
        ["what 'test' yields", "number 0 is f32[2*n], not f32[n]"],
    ),
    "a size bound twice": (
        """func @f(%c: bool[n]) {
          %r = where(%c, binds="n") : i64[n, 1]
          return()
        }""",
        ["where: binds the size 'n', which is bound already"],
    ),
    "a size out of its region": (
        """func @f(%p: bool, %c: bool[n]) -> f32[m] {
          cond(%p) then { %r = where(%c, binds="m") : i64[m, 1] yield() } else { yield() }
          %z = fill(0.0: f32, shape=[m]) : f32[m]
          return(%z)
        }""",
        ["fill mentions the size m"],
    ),
    "a size that does not parse": (
        "func @f(%x: f32[nan]) { return() }",
        ["'nan' cannot be the name of a size"],
    ),
    "levels": (
        """func @f(%x: f32[2, 3], %y: &f32[2]) {
          %z = reshape(%x, shape=[6]) : f32[6]
          %v = load(%y, 0) : f32
          return()
        }""",
        ["load: is of the loop level in a function of the tensor level"],
    ),
    "too many regions": (
        "func @f(%x: f32) -> f32 { %y = neg(%x) : f32 { yield() } return(%y) }",
        ["neg: takes 0 regions, not 1"],
    ),
}


@pytest.mark.parametrize(("text", "messages"), INVALID.values(), ids=INVALID.keys())
def test_mistakes_are_found(text: str, messages: list[str]) -> None:
    found = [p.message for p in problems(parse_function(text))]
    assert len(found) == len(messages), found
    for message, want in zip(found, messages, strict=True):
        assert want in message


def function(*ops: Operation, params: tuple[Value, ...] = (), **globals_: Global) -> Function:
    return Function("f", Block(params, (*ops, Operation(lookup("return"), ()))), globals_)


def op(name: str, *operands: Any, results: tuple[Value, ...] = (), **attrs: Any) -> Operation:
    return Operation(lookup(name), operands, attrs, results, (), Site("node", "mlp.py", 3))


def messages(*ops: Operation, **kwargs: Any) -> list[str]:
    return [p.message for p in problems(function(*ops, **kwargs))]


def test_values_are_defined_once_before_they_are_used() -> None:
    x, y = Value(F32, "x"), Value(F32, "y")
    assert messages(op("neg", y, results=(x,)), op("neg", x, results=(y,)), params=(y,)) == [
        "neg: the value 'y' of type f32 is defined twice"
    ]
    assert messages(op("neg", y, results=(x,)), op("neg", x, results=(y,))) == [
        "neg: operand 0 'y' is not visible here; it is defined later or nowhere"
    ]


def test_values_of_a_region_stay_in_it() -> None:
    p, x, y = Value(Type("bool"), "p"), Value(F32, "x"), Value(F32, "y")
    inner = Block((), (op("neg", x, results=(y,)), op("yield")))
    cond = Operation(lookup("cond"), (p,), {}, (), (inner, Block((), (op("yield"),))))
    assert messages(cond, op("neg", y, results=(Value(F32),)), params=(p, x)) == [
        "neg: operand 0 'y' is not visible here; it is defined in another region or nowhere"
    ]


def test_symbols_are_declared_with_their_type() -> None:
    read = op("read", Symbol("w", F32), results=(Value(F32),))
    assert messages(read) == ["read: @w is not declared; add it to the function's globals"]
    assert messages(read, w=Global("variable", Type("f64"))) == [
        "read: @w is used as f32 but declared as f64"
    ]
    assert messages(read, w=Global("variable", F32)) == []
    data = np.zeros(3, np.float32)
    assert messages(w=Global("variable", F32, data), c=Global("constant", F32)) == [
        "@w: a constant, and nothing else, has data",
        "@c: a constant, and nothing else, has data",
    ]
    assert messages(c=Global("constant", F32, data), d=Global("thing", F32)) == [
        "@c is f32, its data has shape [3]",
        "@d has the unknown kind 'thing'",
    ]


def test_constants_and_attributes_are_literals() -> None:
    results = (Value(F32),)
    assert messages(op("neg", Const(F32, 1), results=results)) == [
        "neg: a constant of type f32 holds a int, not a float"
    ]
    assert messages(op("neg", Const(Type("f32", (1,)), 1.0), results=results)) == [
        "neg: a constant in place is a scalar number, not f32[1]"
    ]
    x = Value(Type("f32", (3,)))
    assert messages(op("reduce_sum", x, results=results, axes=[0]), params=(x,)) == [
        "reduce_sum: attribute 'axes' is <list: [0]>, which is no literal"
    ]
    assert messages(op("reduce_sum", x, results=results, axes=(np.int64(0),)), params=(x,)) == [
        "reduce_sum: attribute 'axes' is [<int64: np.int64(0)>], which is no literal"
    ]
    assert messages(op("neg", x, results=(Value(x.type),), scale=2), params=(x,)) == [
        "neg: has no attribute 'scale'"
    ]


def test_the_report_shows_every_problem_where_it_is() -> None:
    x, y = Value(Type("f32", (2,)), "x"), Value(Type("f64", (2,)), "y")
    with pytest.raises(IRError) as error:
        verify(function(op("neg", x, results=(y,)), op("tanh", x, y), params=(x,)))
    assert (
        str(error.value)
        == """\
@f is not valid: 2 problems
  1. neg: gives (f32[2]), but its results say (f64[2])
     'node' created at mlp.py:3
  2. tanh: takes 1 operands, not 2
     'node' created at mlp.py:3
    func @f(%x: f32[2]) {
  >   %y = neg(%x) : f64[2]
      ^ 1
  >   tanh(%x, %y)
      ^ 2
      return()
    }"""
    )


def test_long_functions_are_shown_around_their_problems() -> None:
    build = Builder()
    x = first = Value(F32, "x")
    for _ in range(200):
        x = build.emit("neg", x)
    build.emit("return", x)
    wrong = op("neg", first, results=(Value(Type("f64"), "wrong"),))
    ops = (*build.ops[:100], wrong, *build.ops[100:])
    with pytest.raises(IRError) as error:
        verify(Function("f", Block((first,), ops)))
    lines = str(error.value).splitlines()
    assert "  >   %wrong = neg(%x) : f64" in "\n".join(lines)
    assert lines.count("    ...") == 2
    assert len(lines) < 20


def test_functions_of_a_module_have_names_of_their_own() -> None:
    empty = parse_function("func @f() { return() }")
    verify_module(Module((empty,)))
    with pytest.raises(IRError, match="two functions called @f"):
        verify_module(Module((empty, empty)))
