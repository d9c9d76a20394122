"""Sizes that only values tell, in code without an interpreter: the caller declares the most that
they can be.

A bound belongs to a tensor. The step checks it where the size is found, gives temporaries memory
for that much, and takes memory for that much for its results; how large those are is a result of
its own, ``NAME_shape``.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import replace

from stepforge.frontend.extract.program import Extraction, Fetched
from stepforge.ir import dims
from stepforge.ir.analyses import bound_sizes, checked_sizes, type_sizes
from stepforge.ir.builder import Builder
from stepforge.ir.core import Block, Function, Operand, Operation
from stepforge.ir.dims import Dim
from stepforge.ir.records import record
from stepforge.ir.rewrite import with_body
from stepforge.passes.manager import run_passes
from stepforge.passes.order import ORDER
from stepforge.runtime.ahead_problems import Problem, unbounded

_MESSAGE = "the size of {name} is {{}}, and its bound is {{}}"


@record(frozen=True)
class Declared:
    """A bound: of a tensor, which is result number ``index`` of the function, at most ``limit``."""

    tensor: str
    index: int
    limit: Dim


@record(frozen=True)
class Sized:
    """A function whose found sizes are results, with the names of all results.

    ``bounds`` are the declared ones by the names of sizes, ``sized`` says of results which one
    tells their shape.
    """

    extraction: Extraction
    function: Function
    results: Sequence[str]
    bounds: Mapping[str, Dim]
    sized: Mapping[str, str]


def parse_bound(text: int | str, labels: Mapping[str, str]) -> Dim:
    """A number, or a sum of products of numbers and of names that feeds gave to sizes.

    ``labels`` maps names of the IR to those. Raises: ValueError.
    """
    known = {label: dims.named(name) for name, label in labels.items()}

    def value(node: ast.AST) -> Dim:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value
        if isinstance(node, ast.Name) and node.id in known:
            return known[node.id]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult):
            left, right = value(node.left), value(node.right)
            return left + right if isinstance(node.op, ast.Add) else left * right
        names = f"sizes of feeds ({', '.join(known) or 'none here'})"
        raise ValueError(f"a bound is made of numbers, + and *, and {names}: {text}")

    try:
        return value(ast.parse(str(text), mode="eval").body)
    except SyntaxError:
        raise ValueError(f"a bound is an expression such as 2*n + 1, not {text!r}") from None


def with_sizes(
    extraction: Extraction, function: Function, results: Sequence[str],
    declared: Sequence[Declared], problems: list[Problem],
) -> Sized:
    """The function without the results that are there for bounds only, and with found shapes."""
    entry = checked_sizes(function)
    bounds: dict[str, Dim] = {}
    names: dict[str, str] = {}
    for bound in declared:
        found = type_sizes(function.results[bound.index].type) - entry
        if not found:
            problems.append(Problem(f"the size of {bound.tensor} does not depend on data"))
        bounds.update(dict.fromkeys(found, bound.limit))
        names.update(dict.fromkeys(found, bound.tensor))
    tensors = [f for f in extraction.fetches if f.kind != "none"]
    pairs = zip(tensors, results, strict=True)
    named = [(fetch.index, name) for fetch, name in pairs if fetch.kind == "value"]
    kept = function.results[: max((index for index, _ in named), default=-1) + 1]
    open_ = {n: type_sizes(kept[i].type) - entry for i, n in named}
    missing = frozenset[str]().union(*open_.values()) - bounds.keys()
    problems += [unbounded(op) for op in function.walk() if not missing.isdisjoint(bound_sizes(op))]
    if not declared and not any(open_.values()):
        return Sized(extraction, function, results, {}, {})
    shapes = {n: f"{n.removesuffix(':0')}_shape" for n, found in open_.items() if found}
    made = _checked(function, kept, [kept[i] for i, n in named if n in shapes], bounds, names)
    fetches = [Fetched("value", len(kept) + i) for i in range(len(shapes))]
    extraction = replace(extraction, fetches=(*extraction.fetches, *fetches))
    function = run_passes(made, ORDER["tensor"])
    return Sized(extraction, function, [*results, *shapes.values()], bounds, shapes)


def _checked(
    function: Function, kept: Sequence[Operand], sized: Sequence[Operand],
    bounds: Mapping[str, Dim], names: Mapping[str, str],
) -> Function:
    """``function`` that checks ``bounds``, and gives ``kept`` and then the shapes of ``sized``."""
    build = Builder()
    for op in function.body.ops[:-1]:
        build.ops.append(op)
        build.site = op.site
        for name in bound_sizes(op):
            if name in bounds:
                _check(build, name, bounds[name], names[name])
    build.site = None
    shapes = [build.emit("dims", values=value.type.dims, dtype="i64") for value in sized]
    build.emit("return", *kept, *shapes)
    return with_body(function, Block(function.params, tuple(build.ops)))


def _check(build: Builder, name: str, limit: Dim, tensor: str) -> None:
    size = dims.named(name)
    values = [build.emit("dims", values=(n,), dtype="i64", scalar=True) for n in (size, limit)]
    fits = build.emit("less_equal", *values)
    build.emit("require", fits, message=_MESSAGE.format(name=tensor), values=(size, limit))


def entry_bounds(
    found: Mapping[str, Dim], declared: Mapping[str, Dim], known: frozenset[str]
) -> dict[str, Dim]:
    """What sizes can be at most, in terms of those that are known at entry; as far as that goes."""
    bounds = {**found, **declared}
    for _ in bounds:  # a bound may mention a size that has one
        bounds = {n: dims.substitute(limit, bounds) for n, limit in bounds.items()}
    return {n: limit for n, limit in bounds.items() if dims.names(limit) <= known}


def unplaced(op: Operation) -> Problem:
    """The problem of a temporary that no bound gives a size."""
    shape = ", ".join(map(str, op.result.type.dims))
    text = f"a temporary of sizes [{shape}] depends on data, and no upper bound is declared"
    return Problem(text, op.site)
