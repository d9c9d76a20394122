"""Times things against each other in one run: rounds alternate, and the best round of each counts.

A measurement is a function that runs something often enough to be timed and returns nanoseconds per
execution.  A side of a row is one measurement, or several that are added.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Measurement = Callable[[], float]
UNROLLED = 10
SHORTEST = 1e-3  # seconds of one round; shorter ones measure the clock
LONGEST = 10.0  # seconds of all rounds of a row, but there are at least
FEWEST = 15


@dataclass(frozen=True)
class Side:
    """What is timed, and what the table calls it."""

    label: str
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True)
class Against:
    """``ours`` may take at most ``bound`` times the best of ``sides``.

    There is no side where none is installed, which ``missing`` then says.
    """

    bound: float
    sides: tuple[Side, ...]
    missing: str = ""


@dataclass(frozen=True)
class Row:
    """One step: what it may take against its peers, each of these a line of the table.

    ``beside`` is timed and printed, but bounds nothing.
    """

    step: str
    ours: Side
    against: tuple[Against, ...]
    beside: tuple[Side, ...] = ()

    @property
    def peers(self) -> dict[str, Side]:
        """Every side but ours, by label."""
        sides = [one for bound in self.against for one in bound.sides]
        return {one.label: one for one in (*sides, *self.beside)}


@dataclass(frozen=True)
class Verdict:
    """A bound of a row beside the best of its sides; that is None where there is none."""

    against: Against
    peer: str | None
    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    @property
    def holds(self) -> bool | None:
        return None if self.peer is None else self.ratio <= self.against.bound


@dataclass(frozen=True)
class Result:
    """The best times of a row in nanoseconds, those of the peers by label."""

    row: Row
    ours: float
    peers: Mapping[str, float] = field(default_factory=dict)

    @property
    def verdicts(self) -> Iterator[Verdict]:
        for against in self.row.against:
            labels = [one.label for one in against.sides]
            best = min(labels, key=self.peers.__getitem__, default=None)
            theirs = float("nan") if best is None else self.peers[best]
            yield Verdict(against, best, self.ours, theirs)


def statement(text: str, **names: Any) -> Measurement:
    """Times a Python statement over ``names``; what the loop costs (some 2 ns) is in the figure."""
    once, unrolled = loop_of(text, 1, names), UNROLLED
    once(range(1), time.perf_counter, **names)
    loop = loop_of(text, unrolled, names)
    if once(range(1), time.perf_counter, **names) > SHORTEST:
        loop, unrolled = once, 1
    count = 1
    while loop(range(count), time.perf_counter, **names) < SHORTEST:
        count *= 2

    def measure() -> float:
        seconds = loop(range(count), time.perf_counter, **names)
        return float(seconds) / (count * unrolled) * 1e9

    return measure


def loop_of(text: str, unrolled: int, names: Iterable[str]) -> Callable[..., float]:
    """A loop that runs a statement ``unrolled`` times in each turn, and returns its seconds."""
    body = "\n        ".join([text] * unrolled)
    source = (
        f"def loop(repeats, clock, {', '.join(names)}):\n"
        f"    began = clock()\n    for _ in repeats:\n        {body}\n    return clock() - began\n"
    )
    scope: dict[str, Any] = {}
    exec(source, scope)
    loop: Callable[..., float] = scope["loop"]
    return loop


def side(label: str, text: str, **names: Any) -> Side:
    """A side that is one Python statement."""
    return Side(label, (statement(text, **names),))


def called(label: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Side:
    """A side that calls ``function`` with ``arguments``, each of them a local name of the loop."""
    names = {f"argument{place}": value for place, value in enumerate(arguments)}
    return side(label, f"function({', '.join(names)})", function=function, **names)


def check_equal(step: str, ours: Any, expected: Any, tolerance: float = 0.0) -> None:
    """Stop the benchmark where ``ours`` is not ``expected`` within a relative ``tolerance``."""
    np.testing.assert_allclose(
        ours, expected, rtol=tolerance, atol=tolerance, err_msg=f"{step}: results differ"
    )


def measure(row: Row, rounds: int) -> Result:
    """Time every side of ``row`` in turn, ``rounds`` times or until ``LONGEST`` seconds passed."""
    peers = row.peers
    sides = [row.ours, *peers.values()]
    best = [[float("inf")] * len(one.measurements) for one in sides]
    began = time.perf_counter()
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            for one, times in zip(sides, best, strict=True):
                for place, measurement in enumerate(one.measurements):
                    times[place] = min(times[place], measurement())
            if turn >= FEWEST and time.perf_counter() - began > LONGEST:
                break
    finally:
        gc.enable()
    ours, *theirs = map(sum, best)
    return Result(row, ours, dict(zip(peers, theirs, strict=True)))
