"""What every random function must satisfy: passes, loops and native code agree with the evaluator.

Where reordered sums and other roundings may show, results are compared within what the function
itself makes of tiny errors: it is evaluated again with noise behind every inexact operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from native import NativeModule

from fuzz.pool import Case
from fuzz.shared import MARGIN, RUNS, Array, Finding, distance, literal
from stepforge.ir.analyses import checked_sizes
from stepforge.ir.builder import Builder
from stepforge.ir.core import Const, Function, Global, Operand, Operation, Symbol
from stepforge.ir.errors import OpError
from stepforge.ir.evaluate import evaluate, same_value
from stepforge.ir.parser import parse_function
from stepforge.ir.philox import Stream
from stepforge.ir.rewrite import rebuild, with_globals, with_operands
from stepforge.ir.text import print_function
from stepforge.ir.types import Type
from stepforge.ir.verify import verify
from stepforge.passes.bisect import Trail, compare
from stepforge.passes.lower import lower, lowerable
from stepforge.passes.manager import run_passes
from stepforge.passes.order import ORDER
from stepforge.passes.plan import plan

NOISE = {"f16": 2.0**-9, "bf16": 2.0**-6, "f32": 2.0**-21, "f64": 2.0**-49}
STREAM = Symbol("noise", Type("resource"))


def reproducer(case: Case) -> str:
    """Python that plays a case again; it runs from the folder of the repository."""
    arguments = ",\n    ".join(map(literal, case.arguments()))
    state = ", ".join(f"'{name}': {literal(value)}" for name, value in case.state().items())
    return (
        "import sys\n\nsys.path.insert(0, 'tests')\nimport numpy as np\n"
        f"from fuzz.replay import replay\n\nreplay(\n    '''\n{print_function(case.function)}"
        f"''',\n    [{arguments}],\n    {{{state}}},\n)"
    )


def finding(case: Case, problem: str) -> Finding:
    """A finding with what plays it again."""
    return Finding(f"{problem}\n\n{reproducer(case)}")


def noisy(case: Case) -> Function:
    """The function with errors of the size of rounding, of each element its own, before and behind
    every operation that may round differently elsewhere.
    """

    def visit(op: Operation, build: Builder) -> Any:
        if op.defn.terminator or not op.results or all(r in case.exact for r in op.results):
            return None
        operands = tuple([_shaken(o, build) for o in op.operands])
        build.ops.append(with_operands(op, operands))
        results = [_shaken(result, build) for result in build.ops[-1].results]
        return results if op.defn.elementwise else [_moved(r, build) for r in results]

    function = rebuild(case.function, visit)
    return with_globals(function, {**function.globals, "noise": Global("random", STREAM.type)})


def _noise(value: Operand, build: Builder, middle: float) -> Operand | None:
    """Numbers around ``middle`` that differ by what rounding may be; None for no floats."""
    dtype, scale = value.type.dtype, NOISE.get(value.type.dtype)
    if scale is None or value.type.shape is None:
        return None
    drawn = build.emit("random_uniform", STREAM, shape=value.type.dims, dtype=dtype)
    spread = build.emit("mul", drawn, Const(Type(dtype), 2 * scale))
    return build.emit("add", spread, Const(Type(dtype), middle - scale))  # type: ignore[no-any-return]


def _shaken(value: Operand, build: Builder) -> Operand:
    """Each element with a small relative error."""
    factor = _noise(value, build, 1.0)
    return value if factor is None else build.emit("mul", value, factor)


def _moved(value: Operand, build: Builder) -> Operand:
    """Each element with an error that is small beside the largest one: terms may cancel."""
    step = _noise(value, build, 0.0)
    if step is None:
        return value
    size = build.emit("abs", value)
    finite = build.emit(
        "select", build.emit("is_finite", size), size, Const(size.type.with_shape(()), 0.0)
    )
    axes = tuple(range(value.type.rank))
    largest = build.emit("reduce_max", finite, axes=axes)
    floor = build.emit("maximum", largest, Const(largest.type, 0.0))
    return build.emit("add", value, build.emit("mul", step, floor))  # type: ignore[no-any-return]


class Reference:
    """What the evaluator gives for a case, and how far off a correct result may be."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.state = case.state()
        self.error: Exception | None = None
        self.results: tuple[Any, ...] = ()
        try:
            self.results = evaluate(case.function, case.arguments(), self.state)
        except OpError as error:
            self.error = error
        self._spread: list[Array] | None = None
        self._noisy = noisy(case)

    @property
    def values(self) -> list[Any]:
        """The results, then the variables."""
        return [*self.results, *[self.state[name] for name in sorted(self.state)]]

    def spread(self) -> list[Array]:
        """How far noise moves each element; NaN where it makes it finite or not."""
        if self._spread is None:
            self._spread = list(map(self._rounding, range(len(self.values))))
            for seed in range(RUNS):
                state = {**self.case.state(), "noise": Stream(seed, 1)}
                moved = list(evaluate(self._noisy, self.case.arguments(), state))
                moved += [state[name] for name in sorted(self.state)]
                for index, (new, old) in enumerate(zip(moved, self.values, strict=True)):
                    self._spread[index] = np.maximum(self._spread[index], distance(new, old))
        return self._spread

    def _rounding(self, index: int) -> Array:
        """What noise behind the last operation may do: a few draws do not show it everywhere."""
        value = self.values[index]
        results = self.case.function.results[index : index + 1]
        inexact = any(result not in self.case.exact for result in results)
        scale = NOISE.get(results[0].type.dtype, 0.0) if inexact else 0.0
        return scale * np.nan_to_num(distance(value, np.zeros_like(value)))

    def difference(self, values: Sequence[Any]) -> str:
        """In words, which of ``values`` is wrong; nothing where none is."""
        for index, (new, old) in enumerate(zip(values, self.values, strict=True)):
            if new.dtype != old.dtype or new.shape != old.shape:
                return f"value {index} is {new.dtype}{new.shape}, not {old.dtype}{old.shape}"
            if same_value(new, old):
                continue
            if old.dtype.kind in "biu":
                return f"value {index} is {new} instead of {old}"
            allowed = MARGIN * self.spread()[index]
            with np.errstate(all="ignore"):
                wrong = distance(new, old) > allowed  # NaN allows everything
            if np.any(wrong):
                with np.printoptions(threshold=20):
                    return f"value {index} is {new} instead of {old}, allowed is {allowed}"
        return ""


def check_passes(case: Case) -> None:
    """Tensor passes keep every bit, and the text parses back."""
    text = print_function(case.function)
    if print_function(parse_function(text)) != text:
        raise finding(case, "the text does not parse back to the same function")
    trail = Trail()
    run_passes(case.function, ORDER["tensor"], check=True, dump=trail.passed)
    culprit = compare(trail.stages, case.arguments(), case.state(), same_bits)
    if culprit is not None:
        raise finding(case, str(culprit))


def same_bits(new: Any, old: Any) -> bool:
    """Equal; of floats, up to the rounding of powers that became products."""
    if same_value(new, old):
        return True
    if not isinstance(old, np.ndarray) or old.dtype.kind not in "fV" or new.dtype != old.dtype:
        return False
    limit = {2: 2e-2, 4: 1e-5, 8: 1e-13}[old.dtype.itemsize]
    return same_value(new, old, rtol=limit)


def loop_stages(function: Function, trail: Trail) -> None:
    """Note every stage of the loop level, behind the tensor passes."""
    trail.stages.append(("tensor passes", function))
    fused = run_passes(function, ORDER["fusion"], check=True, dump=trail.passed)
    step = lower(fused).step()
    verify(step.function)
    trail.lowered("lower", step)
    loops = run_passes(step.function, ORDER["loops"], check=True, dump=trail.passed)
    planned = plan(loops, checked_sizes(fused))
    verify(planned.function)
    trail.lowered("plan", replace(step, function=planned.function, arena=planned.arena))


def check_loops(case: Case) -> None:
    """Fusion, lowering and the passes on loops agree with the evaluator."""
    function = run_passes(case.function, ORDER["tensor"])
    if not lowerable(function):
        return
    trail = Trail()
    loop_stages(function, trail)
    reference = Reference(case)

    def same(new: Any, old: Any) -> bool:
        if same_value(new, old) or not isinstance(old, np.ndarray):
            return same_value(new, old)
        known = [i for i, value in enumerate(reference.values) if value.shape == old.shape]
        spreads = [reference.spread()[i] for i in known]
        allowed = np.max([MARGIN * s for s in spreads], axis=0) if spreads else 0.0
        with np.errstate(all="ignore"):
            return new.shape == old.shape and not np.any(distance(new, old) > allowed)

    culprit = compare(trail.stages, case.arguments(), case.state(), same)
    if culprit is not None:
        raise finding(case, str(culprit))


def alone(function: Function) -> bool:
    """True where a step needs no host: neither for operations nor for results of unknown size."""
    lowered = lower(run_passes(function, ORDER["fusion"]))
    return not lowered.host_operations and len(lowered.outputs) == lowered.results


def check_native(cases: Sequence[Case]) -> int:
    """Native code agrees with the evaluator; all functions are compiled as one module."""
    chosen, functions = [], []
    for case in cases:
        function = run_passes(case.function, ORDER["tensor"])
        if lowerable(function) and alone(function):
            chosen.append(case)
            functions.append(function)
    if not functions:
        return 0
    module = NativeModule(functions)
    for number, case in enumerate(chosen):
        reference = Reference(case)
        state = {n: v for n, v in case.state().items() if n in functions[number].globals}
        got = module.run(number, case.arguments(), state)
        if isinstance(got, str):
            message = reference.error.args[0] if reference.error is not None else "nothing"
            if got != message:
                raise finding(case, f"native code raises {got!r}, the evaluator {message!r}")
            continue
        if reference.error is not None:
            raise finding(case, f"native code does not raise {reference.error!r}")
        state = {**case.state(), **state}
        problem = reference.difference([*got, *[state[name] for name in sorted(state)]])
        if problem:
            raise finding(case, f"native code: {problem}")
    return len(chosen)
