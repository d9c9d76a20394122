"""How long calls take: percentiles over many of them, and what an empty step of the same arguments
takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from stepforge.codegen.signature import Feed
from stepforge.ir.core import Block, Function, Operation, Value
from stepforge.ir.opdef import lookup
from stepforge.ir.records import record
from stepforge.runtime.text_steps import TextProgram

WARM_UP = 3  # calls before: the first compiles, the second may again, the third is as the others
SAMPLE = 5e-6  # seconds of one sample, lest the clock is what is measured
FEWEST = 10  # samples, however long a call takes
PERCENTILES = {"min": 0, "p50": 50, "p90": 90, "p99": 99}


@record(frozen=True)
class Timing:
    """Seconds of a call by ``PERCENTILES``, and how many calls that is from."""

    calls: int
    seconds: dict[str, float]


def time_calls(call: Callable[..., Any], values: Sequence[Any], seconds: float) -> Timing:
    """Call for so many ``seconds``. Calls too short for the clock are timed several at a time."""
    for _ in range(WARM_UP):
        call(*values)
    each = min(_sample(call, values, 1) for _ in range(WARM_UP))
    group = max(1, int(SAMPLE / max(each, 1e-9)))
    end, samples = time.perf_counter() + seconds, list[float]()
    while len(samples) < FEWEST or time.perf_counter() < end:
        samples.append(_sample(call, values, group) / group)
    found = {name: float(np.percentile(samples, p)) for name, p in PERCENTILES.items()}
    return Timing(group * len(samples), found)


def _sample(call: Callable[..., Any], values: Sequence[Any], count: int) -> float:
    started = time.perf_counter()
    for _ in repeat(None, count):
        call(*values)
    return time.perf_counter() - started


def empty_step(feeds: Sequence[Feed]) -> Callable[..., Any]:
    """A step that takes the arguments of ``feeds``, checks them, and does nothing."""
    params = [Value(feed.type, f"x{i}") for i, feed in enumerate(feeds)]
    body = Block(tuple(params), (Operation(lookup("return"), (), {}, (), ()),))
    return TextProgram(Function("empty", body, {}), {}).step  # type: ignore[no-any-return]
