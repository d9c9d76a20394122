"""Random functions compiled ahead of time, as the module that Python loads, and the evaluator."""

from __future__ import annotations

import runpy
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fuzz.checks import Reference, finding
from fuzz.pool import Case
from stepforge.ir.core import Module
from stepforge.runtime import ahead_files
from stepforge.runtime.ahead_problems import CannotCompileAhead
from stepforge.runtime.ahead_steps import compile_ir


def check_ahead(cases: Sequence[Case]) -> int:
    """Compiled steps agree with the evaluator, wherever they can be compiled."""
    return sum(map(_agrees, cases))


def _agrees(case: Case) -> bool:
    function, state = case.function, case.state()
    values = (*function.params, *function.results, *function.globals.values())
    if any(value.type.dtype == "bf16" for value in values):
        return False  # NumPy has bits for it
    module = Module((function,))
    try:
        compiled = compile_ir(module, values=state, name="made", variables="file", level="O1")
    except CannotCompileAhead:
        return False
    with tempfile.TemporaryDirectory() as folder:
        ahead_files.write(compiled, Path(folder, "made.py"))
        made = runpy.run_path(str(Path(folder, "made.py")))
        _compare(case, made, state)
    return True


def _compare(case: Case, made: dict[str, Any], state: dict[str, Any]) -> None:
    reference = Reference(case)
    try:
        returned = made[case.function.name](*case.arguments())
    except made["StepError"] as error:
        if reference.error is None:
            raise finding(case, f"compiled ahead of time, it raises {error}") from None
        return
    if reference.error is not None:
        raise finding(case, f"compiled ahead of time, it does not raise {reference.error!r}")
    results = returned if isinstance(returned, tuple) else (returned,)
    given = [np.asarray(value) for value in results][: len(case.function.results)]
    library = made["library"]
    values = {n: library.state[n] if n in library.variables else state[n] for n in sorted(state)}
    problem = reference.difference([*given, *values.values()])
    if problem:
        raise finding(case, f"compiled ahead of time: {problem}")
