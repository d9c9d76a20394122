"""What this machine can do at best, measured in a moment: bytes and flops per second.

Figures from a data sheet would not do: virtual machines, other processes and clocks that change
make a machine of its own of every run.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import numpy as np

from stepforge.codegen import jit, probes
from stepforge.codegen import target as targets

Call = Callable[[int], Any]  # a kernel that takes so many turns

SECONDS = 0.02  # of one measurement
REPEATS = 3  # of which the best counts: what is in between is the noise of others
SMALLEST, LARGEST = 12 << 10, 192 << 20  # bytes of the three arrays of a triad
_CACHED = 8 << 20  # below, stores past the caches are never faster
_BLOCK = 256  # floats that multiply-adds start from and end in
_GRAIN = 64  # floats that the length of an array is a multiple of


def bandwidth(amount: int, threads: int) -> float:
    """Bytes per second of a triad over ``amount`` bytes, shared by ``threads``."""
    amount = min(max(amount, SMALLEST), LARGEST)
    length = max(_GRAIN, amount // (12 * threads) // _GRAIN * _GRAIN)
    arrays = [[_aligned(length) for _ in range(3)] for _ in range(threads)]
    names = ["triad"] if amount < _CACHED else ["triad", "triad_past_caches"]
    best = 0.0
    for name in names:
        kernel = _function(name, 5)
        addresses = [[array.ctypes.data for array in own] for own in arrays]
        calls = [partial(kernel, *own, length) for own in addresses]
        best = max(best, _rate(calls, 12 * length))
    return best


def flops(dtype: str, threads: int) -> float:
    """Fused multiply-adds of ``f32`` or ``f64`` per second on ``threads``, each for two flops."""
    kernel = _function(f"multiply_adds_{dtype}", 2)
    width = probes.lanes(dtype, targets.host())
    blocks = [_aligned(_BLOCK).view(f"f{probes.item_bytes(dtype)}") for _ in range(threads)]
    for block in blocks:  # chains that come to rest at 2: slow numbers are not what is asked for
        block[:width], block[width : 2 * width] = 0.5, 1.0
    calls = [partial(kernel, block.ctypes.data) for block in blocks]
    return _rate(calls, 2 * probes.CHAINS * width)


def _rate(calls: Sequence[Call], amount: int) -> float:
    """Units per second of all ``calls`` at once, of which a turn does ``amount``.

    How many turns a measurement takes is asked of one call alone, and more than once: threads that
    wait for each other, or a moment in which this process stands still, say nothing of it.
    """
    turns = 1
    while _best_seconds(calls[:1], turns) < SECONDS / 4:
        turns *= 4
    return 2 * turns * amount * len(calls) / _best_seconds(calls, 2 * turns)


def _best_seconds(calls: Sequence[Call], turns: int) -> float:
    return min(_seconds(calls, turns) for _ in range(REPEATS))


def _seconds(calls: Sequence[Call], turns: int) -> float:
    """From the first beginning to the last end of calls side by side, without the interpreter lock.

    Each thread reads the clock itself: what it takes to start and to join threads is not counted.
    """
    start = threading.Barrier(len(calls))

    def span(call: Call) -> tuple[float, float]:
        start.wait()
        began = time.perf_counter()
        call(turns)
        return began, time.perf_counter()

    with ThreadPoolExecutor(len(calls)) as pool:
        spans = list(pool.map(span, calls))
    return max(ended for _, ended in spans) - min(began for began, _ in spans)


def _aligned(length: int) -> np.ndarray[Any, Any]:
    """So many floats at an address that vectors may start at."""
    block = np.zeros(length + 16, np.float32)
    start = -(block.ctypes.data // 4) % 16
    return block[start : start + length]


@cache
def _library() -> jit.Library:
    return jit.build(probes.module_text(targets.host()), "O2", {}, probes.FUNCTIONS)


def _function(name: str, count: int) -> Any:
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * count)(_library()[name])
