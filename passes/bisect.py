"""Finds the pass that changes what a function computes, and the first operation that shows it.

A compile leaves a ``Trail``: the function as it was extracted and after each pass, at both levels.
``compare`` evaluates one stage after the other on the same arguments and stops at the first whose
results, variables or errors differ from those of the stage before.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from stepforge.ir.analyses import definitions, written
from stepforge.ir.core import Block, Function, Operand, Operation, Site, Value
from stepforge.ir.errors import FailedPreconditionError, IRError, OpError
from stepforge.ir.evaluate import State, evaluate, same_value
from stepforge.ir.evaluate_loops import evaluate_loops
from stepforge.ir.loop_machine import LoopStep
from stepforge.ir.opdef import lookup
from stepforge.ir.philox import Stream
from stepforge.ir.records import record
from stepforge.ir.text import print_operation
from stepforge.ir.types import Type
from stepforge.passes.lower import lower, lowerable
from stepforge.passes.manager import Pass, name_of

Stage: TypeAlias = Function | LoopStep
Same: TypeAlias = Callable[[Any, Any], bool]
TRACED = 4096  # elements that are kept of a value inside of loops
# How far results may be apart, relative to the largest, by the bytes of a float.
TOLERANCES = {2: 2e-2, 4: 1e-4, 8: 1e-9}
FAILURES = (OpError, IRError, ArithmeticError, ValueError, TypeError, KeyError, IndexError)


@record(frozen=True)
class Culprit:
    """The first pass after which something else is computed, and the first op that shows it."""

    name: str
    op: Operation | None
    detail: str

    @property
    def site(self) -> Site | None:
        """Where the user made the op."""
        return None if self.op is None else self.op.site

    def __str__(self) -> str:
        where = f"\n  {self.site}" if self.site else ""
        shown = f"\n    {print_operation(self.op)}" if self.op is not None else ""
        return f"the pass '{self.name}' changes what is computed: {self.detail}{shown}{where}"


@record
class Trail:
    """What a compile was at each of its stages, in order, each with the pass that made it."""

    stages: list[tuple[str, Stage]] = field(default_factory=list)
    around: LoopStep | None = None  # what belongs to the functions of the loop level

    def passed(self, name: str, when: str, function: Function) -> None:
        """Note a stage; what ``run_passes`` takes as ``dump``."""
        if when == "before" and self.stages:
            return
        stage = function if self.around is None else replace(self.around, function=function)
        self.stages.append((name if when == "after" else "input", stage))

    def lowered(self, name: str, step: LoopStep) -> None:
        """Note a stage of the loop level; what follows belongs to it too."""
        self.around = step
        self.stages.append((name, step))


def bisect(
    function: Function,
    passes: Sequence[Pass],
    arguments: Sequence[Any],
    state: State | None = None,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> Culprit | None:
    """The first of ``passes`` that changes a result, a variable or an error; None where none does.

    The function is evaluated before and after each pass, on copies of ``state``.
    """

    def stages() -> Iterator[tuple[str, Stage]]:
        current = function
        yield "input", current
        for step in passes:
            current = step(current)
            yield name_of(step), current

    return compare(stages(), arguments, state, partial(same_value, rtol=rtol, atol=atol))


def agree(new: Any, old: Any) -> bool:
    """True where values are as near as passes that reorder sums may leave them."""
    if not isinstance(old, np.ndarray) or old.dtype.kind not in "fcV":
        return same_value(new, old)
    part = old.dtype.itemsize // 2 if old.dtype.kind == "c" else old.dtype.itemsize
    rtol = TOLERANCES[part]
    size = np.abs(old.astype(np.complex128 if old.dtype.kind == "c" else np.float64))
    largest = np.max(size, initial=0.0, where=np.isfinite(size))
    return same_value(new, old, rtol=rtol, atol=rtol * float(largest))


def compare(
    stages: Iterable[tuple[str, Stage]],
    arguments: Sequence[Any],
    state: State | None = None,
    same: Same = agree,
) -> Culprit | None:
    """The first stage that computes something else than the one before it; None where none does.

    The op that is named is the first whose value differs from the value of the same identity, or
    else of the same name, before the pass.
    """
    before: Run | None = None
    for name, stage in stages:
        if before is not None and stage is before.stage:
            continue
        after = Run(stage, arguments, state)
        if before is not None:
            difference = after.difference(before, same)
            if difference is not None:
                op, detail = difference
                if isinstance(before.stage, Function) and isinstance(stage, LoopStep):
                    op = _wrongly_lowered(before.stage, arguments, state, same) or op
                return Culprit(name, op, detail)
        before = after
    return None


def _wrongly_lowered(
    function: Function, arguments: Sequence[Any], state: State | None, same: Same
) -> Operation | None:
    """The first op that gives something else when the step ends behind it and is lowered."""
    for position, op in enumerate(function.body.ops[:-1]):
        values = tuple([r for r in op.results if isinstance(r.type, Type)])
        ending = Operation(lookup("return"), values)
        body = Block(function.params, (*function.body.ops[: position + 1], ending))
        part = replace(function, body=body)
        if values and lowerable(part) and op.defn.effect != "random":
            run = Run(lower(part).step(), arguments, state)
            if run.difference(Run(part, arguments, state), same) is not None:
                return op
    return None


class Run:
    """One evaluation with every value that was computed on the way."""

    def __init__(self, stage: Stage, arguments: Sequence[Any], state: State | None) -> None:
        self.stage = stage
        self.state = {name: _copied(value) for name, value in (state or {}).items()}
        self.error: Exception | None = None
        self.results: tuple[Any, ...] = ()
        self.values: dict[Value, Any] = {}
        self.steps: dict[Operation, None] = {}  # in the order of their first turn
        try:
            if isinstance(stage, Function):
                self.results = evaluate(stage, arguments, self.state, observe=self._observe)
            else:
                self.results = evaluate_loops(stage, arguments, self.state, observe=self._trace)
        except FAILURES as error:
            self.error = error

    def _observe(self, op: Operation, results: tuple[Any, ...]) -> None:
        self.steps[op] = None
        self.values.update(zip(op.results, results, strict=True))

    def _trace(self, op: Operation, results: tuple[Any, ...]) -> None:
        """Keep what an op inside of loops gives turn by turn, up to a bound."""
        self.steps[op] = None
        for value, now in zip(op.results, results, strict=False):
            known = self.values.get(value)
            if known is None:
                self.values[value] = now.reshape(-1)[:TRACED]
            elif known.size < TRACED:
                self.values[value] = np.concatenate([known, now.reshape(-1)])[:TRACED]

    def difference(self, before: Run, same: Same) -> tuple[Operation | None, str] | None:
        """The op to blame and what differs from the run ``before``; None where nothing does."""
        outcome = self._outcome(before, same)
        if outcome is None or type(self.stage) is not type(before.stage):
            return outcome
        named = before._by_name()
        for op in self.steps:
            for result in op.results:
                old = before.values.get(result, named.get(result.name))
                new = self.values.get(result)
                if old is not None and new is not None and not same(new, old):
                    return op, f"{outcome[1]}; first seen: {_shown(new)} instead of {_shown(old)}"
        return outcome

    def _outcome(self, before: Run, same: Same) -> tuple[Operation | None, str] | None:
        if isinstance(before.error, FailedPreconditionError) and self.error is None:
            return None  # a variable without a value, which nobody needs, may go unread
        if _raised(self.error) != _raised(before.error):
            return self._stopped(), f"{_raised(self.error)}, before it {_raised(before.error)}"
        for i, (new, old) in enumerate(zip(self.results, before.results, strict=True)):
            if not same(new, old):
                detail = f"result {i} is {_shown(new)} instead of {_shown(old)}"
                return self._maker(i), detail
        for name, old in before.state.items():
            if isinstance(old, Stream):
                continue  # a random op that nothing uses may go
            if not same(self.state.get(name), old):
                writers = [op for op in self.steps if name in written(op)]
                detail = f"@{name} is {_shown(self.state.get(name))} instead of {_shown(old)}"
                return writers[-1] if writers else None, detail
        return None

    def _maker(self, index: int) -> Operation | None:
        if not isinstance(self.stage, Function):
            return None
        value: Operand = self.stage.results[index]
        return definitions(self.stage.body).get(value) if isinstance(value, Value) else None

    def _stopped(self) -> Operation | None:
        """The op at which the run ended with an error."""
        function = self.stage if isinstance(self.stage, Function) else self.stage.function
        left = [op for op in function.body.ops[:-1] if op not in self.steps]
        return left[0] if left and self.error and isinstance(self.stage, Function) else None

    def _by_name(self) -> dict[str, Any]:
        """The values whose names are those of one value only."""
        found: dict[str, list[Any]] = {}
        for value, content in self.values.items():
            found.setdefault(value.name, []).append(content)
        return {name: all_[0] for name, all_ in found.items() if name and len(all_) == 1}


def _copied(value: Any) -> Any:
    if not isinstance(value, Stream):
        return copy.deepcopy(value)
    stream = copy.copy(value)
    stream.state = value.state.copy()
    return stream


def _raised(error: Exception | None) -> str:
    if error is None:
        return "it raises nothing"
    text = error.args[0] if error.args else ""  # of an OpError, the message without the site
    return f"it raises {type(error).__name__}: {text}"


def _shown(value: Any) -> str:
    return np.array2string(value, threshold=8) if isinstance(value, np.ndarray) else repr(value)
