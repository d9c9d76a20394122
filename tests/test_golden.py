"""Golden IR: ``golden/<pass>/<case>.sf`` goes in, ``golden/<pass>/<case>.out.sf`` comes out.

Each case is verified and evaluated before and after; passes on tensors have then finished with it.
``pytest --update-golden`` writes what comes out now: read the difference before you keep it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from conftest import GOLDEN

from stepforge.ir import dims
from stepforge.ir.analyses import checked_sizes, entry_sizes
from stepforge.ir.core import Function
from stepforge.ir.evaluate import evaluate, same_value
from stepforge.ir.loop_machine import LoopStep
from stepforge.ir.parser import parse_function
from stepforge.ir.philox import Stream
from stepforge.ir.text import print_function
from stepforge.ir.types import Type, numpy_dtype
from stepforge.ir.verify import verify
from stepforge.passes.bisect import Stage, agree, compare
from stepforge.passes.fuse import fuse
from stepforge.passes.lower import lower
from stepforge.passes.manager import name_of
from stepforge.passes.order import ORDER
from stepforge.passes.plan import plan
from stepforge.passes.prune import prune
from stepforge.passes.simplify import simplify

TENSOR_PASSES: dict[str, Callable[[Function], Function]] = {
    **{name_of(step): step for step in (*ORDER["tensor"], *ORDER["fusion"])},
    "simplify_inexact": partial(simplify, inexact=True),
    "fuse": lambda function: prune(fuse(function)),
}
LOOP_PASSES: dict[str, Callable[[Function], Function]] = {
    name_of(step): step for step in ORDER["loops"]
}
LOWERING = ("lower", "bufferize")  # what bufferize decides shows in what lower makes of it
CASES = sorted(
    path.relative_to(GOLDEN).as_posix().removesuffix(".sf")
    for path in GOLDEN.glob("*/*.sf")
    if not path.name.endswith(".out.sf")
)
SIZES = {"n": 5, "m": 4, "k": 2}


def argument(name: str, type_: Any, rng: np.random.Generator) -> Any:
    """An argument of ``type_``, with the sizes in ``SIZES``; whole numbers keep sums exact."""
    shape = tuple(dims.evaluate(size, SIZES) for size in type_.dims)
    if type_.dtype == "bool":
        return rng.random(shape) < 0.5
    if type_.kind in "iu":
        return rng.integers(1, 4, shape).astype(numpy_dtype(type_.dtype))
    return rng.integers(1, 9, shape).astype(numpy_dtype(type_.dtype))


def state_of(function: Function, rng: np.random.Generator) -> dict[str, Any]:
    return {
        name: Stream(1, 2) if entry.kind == "random" else argument(name, entry.type, rng)
        for name, entry in function.globals.items()
        if entry.kind != "constant"
    }


def step_of(function: Function) -> LoopStep:
    """A function of the loop level whose outputs are the parameters ``out_0``, ``out_1``, ..."""
    outputs = [p for p in function.params if p.name.startswith("out_")]
    return LoopStep(function, tuple(range(len(outputs))), len(outputs))


def apply(name: str, function: Function) -> tuple[str, Stage, Stage]:
    """The text after a pass, and what to evaluate before and after it."""
    if name in TENSOR_PASSES:
        after = TENSOR_PASSES[name](function)
        assert TENSOR_PASSES[name](after) is after or name == "fuse", "it has not finished"
        return print_function(after), function, after
    if name in LOWERING:
        step = lower(function).step()
        return print_function(step.function), function, step
    before = step_of(function)
    if name == "plan":
        planned = plan(function, checked_sizes(function) | entry_sizes(function))
        text = f"// {planned.arena} bytes\n{print_function(planned.function)}"
        return text, before, replace(before, function=planned.function, arena=planned.arena)
    after = LOOP_PASSES[name](function)
    return print_function(after), before, replace(before, function=after)


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str, golden: Callable[[str, str], None]) -> None:
    function = parse_function((GOLDEN / f"{case}.sf").read_text(encoding="utf-8"))
    verify(function)
    text, before, after = apply(case.split("/")[0], function)
    verify(after if isinstance(after, Function) else after.function)
    rng = np.random.default_rng(0)
    given = [p for p in function.params if not (p.type.buffer and p.name.startswith("out_"))]
    arguments = [argument(p.name, p.type, rng) for p in given]
    exact = case.startswith(("prune/", "fold/", "cse/", "simplify/"))
    same = same_value if exact else agree
    stages = [("before", before), (case, after)]
    found = compare(stages, arguments, state_of(function, rng), same)
    assert found is None, found
    golden(f"{case}.out.sf", text)


def test_every_pass_has_cases() -> None:
    passes = {*TENSOR_PASSES, *LOOP_PASSES, *LOWERING, "plan"}
    assert {case.split("/")[0] for case in CASES} == passes


def test_golden_arguments_are_what_functions_take() -> None:
    function = parse_function("func @f(%x: f32[n, 2*m], %p: bool) -> f32[n, 2*m] { return(%x) }")
    rng = np.random.default_rng(0)
    arguments = [argument(p.name, p.type, rng) for p in function.params]
    assert [Type("f32", np.shape(a)).shape for a in arguments] == [(5, 8), ()]
    assert evaluate(function, arguments)[0].shape == (5, 8)
