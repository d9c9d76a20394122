"""Runs passes in the order that the caller writes down: a tuple of Function to Function.

Between passes the manager verifies, measures and dumps as it is asked. ``bisect`` finds the pass
that changes what a function computes.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from stepforge.ir.analyses import definitions, written
from stepforge.ir.core import Function, Operand, Operation, Site, Value
from stepforge.ir.errors import IRError, OpError
from stepforge.ir.evaluate import State, evaluate, same_value
from stepforge.ir.philox import Stream
from stepforge.ir.text import print_function, print_operation
from stepforge.ir.verify import verify

Pass: TypeAlias = Callable[[Function], Function]
Dump: TypeAlias = "Callable[[str, str, Function], None] | str | Path"


@dataclass(frozen=True)
class Timing:
    """How long a pass took, and the number of operations before and after it."""

    name: str
    seconds: float
    before: int
    after: int

    def __str__(self) -> str:
        return f"{self.name:<16} {self.seconds * 1e3:8.2f} ms  {self.before:6d} -> {self.after} ops"


@dataclass
class Report:
    """What a run of passes leaves behind for the reader."""

    timings: list[Timing] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(map(str, self.timings))


def name_of(step: Pass) -> str:
    """The name of a pass: of the function, also behind ``functools.partial``."""
    inner = getattr(step, "func", step)
    return str(getattr(inner, "__name__", type(inner).__name__))


def run_passes(
    function: Function,
    passes: Sequence[Pass],
    *,
    check: bool = False,
    report: Report | None = None,
    dump: Dump | None = None,
) -> Function:
    """``function`` after all ``passes``.

    ``check`` verifies the function given and the result of each pass that changed it. ``report`` is
    extended by timings. ``dump`` is a function of (pass name, "before" or "after", function), or a
    directory that gets a file ``00_input.sf`` and one for each pass, ``01_prune.sf`` and so on.
    Raises: IRError that names the pass whose result is not valid.
    """
    show = _dumper(dump)
    if check:
        verify(function)
    if passes:
        show(0, "input", "after", function)
    for number, step in enumerate(passes, 1):
        name, before = name_of(step), function
        show(number, name, "before", before)
        start = time.perf_counter()
        function = step(before)
        seconds = time.perf_counter() - start
        if report is not None:
            report.timings.append(Timing(name, seconds, _count(before), _count(function)))
        show(number, name, "after", function)
        if check and function is not before:
            _verify_after(name, function)
    return function


def _count(function: Function) -> int:
    return sum(1 for _ in function.walk())


def _verify_after(name: str, function: Function) -> None:
    try:
        verify(function)
    except IRError as error:
        raise IRError(f"the pass '{name}' made a function that is not valid\n{error}") from None


def _dumper(dump: Dump | None) -> Callable[[int, str, str, Function], None]:
    if dump is None:
        return lambda number, name, when, function: None
    if callable(dump):
        called = dump

        def call(number: int, name: str, when: str, function: Function) -> None:
            if number:
                called(name, when, function)

        return call
    directory = Path(dump)
    directory.mkdir(parents=True, exist_ok=True)

    def write(number: int, name: str, when: str, function: Function) -> None:
        if when == "after":
            path = directory / f"{number:02d}_{name}.sf"
            path.write_text(print_function(function, sites=True), encoding="utf-8")

    return write


@dataclass(frozen=True)
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

    The function is evaluated before and after each pass, on copies of ``state``. The op that is
    named is the first whose value differs from the value of the same identity, or else of the same
    name, before the pass.
    """
    before = _Run(function, arguments, state)
    for step in passes:
        changed = step(function)
        if changed is not function:
            after = _Run(changed, arguments, state)
            difference = after.difference(before, rtol, atol)
            if difference is not None:
                op, detail = difference
                return Culprit(name_of(step), op, detail)
            before = after
        function = changed
    return None


class _Run:
    """One evaluation with every value that was computed on the way."""

    def __init__(self, function: Function, arguments: Sequence[Any], state: State | None) -> None:
        self.function = function
        self.state = {name: _copied(value) for name, value in (state or {}).items()}
        self.error: Exception | None = None
        self.results: tuple[Any, ...] = ()
        self.values: dict[Value, Any] = {}
        self.steps: list[Operation] = []
        try:
            self.results = evaluate(function, arguments, self.state, observe=self._observe)
        except (OpError, IRError, ArithmeticError, ValueError, TypeError, KeyError) as error:
            self.error = error

    def _observe(self, op: Operation, results: tuple[Any, ...]) -> None:
        self.steps.append(op)
        self.values.update(zip(op.results, results, strict=True))

    def difference(
        self, before: _Run, rtol: float, atol: float
    ) -> tuple[Operation | None, str] | None:
        """The op to blame and what differs from the run ``before``; None where nothing does."""
        outcome = self._outcome(before, rtol, atol)
        if outcome is None:
            return None
        named = before._by_name()
        for op in self.steps:
            for result in op.results:
                old = before.values.get(result, named.get(result.name))
                new = self.values[result]
                if old is not None and not same_value(new, old, rtol=rtol, atol=atol):
                    return op, f"{outcome[1]}; first seen: {_shown(new)} instead of {_shown(old)}"
        return outcome

    def _outcome(
        self, before: _Run, rtol: float, atol: float
    ) -> tuple[Operation | None, str] | None:
        if type(self.error) is not type(before.error):
            return self._stopped(), f"{_raised(self.error)}, before it {_raised(before.error)}"
        for i, (new, old) in enumerate(zip(self.results, before.results, strict=True)):
            if not same_value(new, old, rtol=rtol, atol=atol):
                detail = f"result {i} is {_shown(new)} instead of {_shown(old)}"
                return self._maker(self.function.results[i]), detail
        for name, old in before.state.items():
            if isinstance(old, Stream):
                continue  # a random op that nothing uses may go
            if not same_value(self.state.get(name), old, rtol=rtol, atol=atol):
                writers = [op for op in self.steps if name in written(op)]
                detail = f"@{name} is {_shown(self.state.get(name))} instead of {_shown(old)}"
                return writers[-1] if writers else None, detail
        return None

    def _maker(self, value: Operand) -> Operation | None:
        made = definitions(self.function.body)
        return made.get(value) if isinstance(value, Value) else None

    def _stopped(self) -> Operation | None:
        """The op at which the run ended with an error."""
        done = set(self.steps)
        left = [op for op in self.function.body.ops[:-1] if op not in done]
        return left[0] if left and self.error is not None else None

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
    return "it raises nothing" if error is None else f"it raises {type(error).__name__}: {error}"


def _shown(value: Any) -> str:
    return np.array2string(value, threshold=8) if isinstance(value, np.ndarray) else repr(value)
