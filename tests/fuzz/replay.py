"""Plays a function again, from the text that a finding prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes  # noqa: F401 - names of dtypes in arguments
import numpy as np
from native import NativeModule

from fuzz.checks import alone, loop_stages
from stepforge.ir.errors import OpError
from stepforge.ir.evaluate import evaluate
from stepforge.ir.parser import parse_function
from stepforge.passes.bisect import Trail, compare
from stepforge.passes.lower import lowerable
from stepforge.passes.manager import run_passes
from stepforge.passes.order import ORDER


def replay(text: str, arguments: Sequence[Any], state: dict[str, Any]) -> None:
    """Print what a function gives to the evaluator and to native code, and which stage of the
    compile first computes something else.
    """
    function = parse_function(text)
    held = {name: np.copy(value) for name, value in state.items()}
    try:
        print("evaluated:", *evaluate(function, arguments, held), held, sep="\n")
    except OpError as error:
        print("evaluated: it raises", error)
    trail = Trail()
    optimized = run_passes(function, ORDER["tensor"], check=True, dump=trail.passed)
    if lowerable(optimized):
        loop_stages(optimized, trail)
    print(compare(trail.stages, arguments, state) or "no stage is far from the one before")
    if lowerable(optimized) and alone(optimized):
        held = {n: np.copy(v) for n, v in state.items() if n in optimized.globals}
        got = NativeModule([optimized]).run(0, arguments, held)
        print("native:", *([got] if isinstance(got, str) else [*got, held]), sep="\n")
