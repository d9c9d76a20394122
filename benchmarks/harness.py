"""Times things against each other in one run: rounds alternate, and the best round of each counts.

A measurement is a function that runs something often enough to be timed and returns nanoseconds per
execution.  A side of a row is one measurement, or several that are added.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Measurement = Callable[[], float]
UNROLLED = 10
SHORTEST = 1e-3  # seconds of one round; shorter ones measure the clock


@dataclass(frozen=True)
class Side:
    """What is timed, and what the table calls it."""

    label: str
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True)
class Row:
    """One line of the table: ``ours`` may take at most ``bound`` times ``peer``.

    ``peer`` is None where it is not installed, which ``missing`` then says.  ``beside`` is timed
    and printed, but bounds nothing.
    """

    step: str
    ours: Side
    peer: Side | None
    bound: float
    beside: tuple[Side, ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class Result:
    """The best times of a row in nanoseconds, ``beside`` by label."""

    row: Row
    ours: float
    peer: float | None
    beside: Mapping[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        return None if self.peer is None else self.ours / self.peer

    @property
    def holds(self) -> bool | None:
        return None if self.ratio is None else self.ratio <= self.row.bound


def statement(text: str, **names: Any) -> Measurement:
    """Times a Python statement over ``names``; what the loop costs (some 2 ns) is in the figure."""
    body = "\n        ".join([text] * UNROLLED)
    source = (
        f"def loop(repeats, clock, {', '.join(names)}):\n"
        f"    began = clock()\n    for _ in repeats:\n        {body}\n    return clock() - began\n"
    )
    scope: dict[str, Any] = {}
    exec(source, scope)
    loop = scope["loop"]
    count = 1
    while loop(range(count), time.perf_counter, **names) < SHORTEST:
        count *= 2

    def measure() -> float:
        seconds = loop(range(count), time.perf_counter, **names)
        return float(seconds) / (count * UNROLLED) * 1e9

    return measure


def side(label: str, text: str, **names: Any) -> Side:
    """A side that is one Python statement."""
    return Side(label, (statement(text, **names),))


def check_equal(step: str, ours: Any, expected: Any, tolerance: float = 0.0) -> None:
    """Stop the benchmark where ``ours`` is not ``expected`` within a relative ``tolerance``."""
    np.testing.assert_allclose(
        ours, expected, rtol=tolerance, atol=tolerance, err_msg=f"{step}: results differ"
    )


def measure(row: Row, rounds: int) -> Result:
    """Time every side of ``row`` in turn, ``rounds`` times."""
    sides = [row.ours, *([row.peer] if row.peer else []), *row.beside]
    best = [[float("inf")] * len(one.measurements) for one in sides]
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for one, times in zip(sides, best, strict=True):
                for place, measurement in enumerate(one.measurements):
                    times[place] = min(times[place], measurement())
    finally:
        gc.enable()
    totals = [sum(times) for times in best]
    beside = totals[len(totals) - len(row.beside) :]
    named = {one.label: ns for one, ns in zip(row.beside, beside, strict=True)}
    return Result(row, totals[0], totals[1] if row.peer else None, named)
