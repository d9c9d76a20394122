"""Runs passes in the order that the caller writes down: a tuple of Function to Function.

Between passes the manager verifies, measures and dumps as it is asked. ``passes.bisect`` finds the
pass that changes what a function computes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import field
from pathlib import Path
from typing import TypeAlias

from stepforge.ir.core import Function
from stepforge.ir.errors import IRError
from stepforge.ir.records import record
from stepforge.ir.text import print_function
from stepforge.ir.verify import verify

Pass: TypeAlias = Callable[[Function], Function]
Dump: TypeAlias = "Callable[[str, str, Function], None] | str | Path"


@record(frozen=True)
class Timing:
    """How long a pass took, and the number of operations before and after it."""

    name: str
    seconds: float
    before: int
    after: int

    def __str__(self) -> str:
        return f"{self.name:<16} {self.seconds * 1e3:8.2f} ms  {self.before:6d} -> {self.after} ops"


@record
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
