"""Arrays between pages that may not be touched: code that reads beside them crashes."""

from __future__ import annotations

import ctypes
import math
import mmap
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
PAGES = 32  # that may be touched


@cache
def _memory(number: int) -> mmap.mmap:
    """Pages of which the first and the last may not be touched."""
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, (PAGES + 2) * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for fence in (start, start + (PAGES + 1) * page):
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(fence), page, 0) == 0
    return memory


def fenced(value: Array, number: int, *, at_end: bool) -> Array:
    """A copy of ``value`` that ends (or begins) at a forbidden page, in memory ``number``."""
    begin = PAGES * mmap.PAGESIZE - value.nbytes if at_end else 0
    assert begin >= 0, "the array is larger than the memory"
    memory = _memory(number)
    made = np.frombuffer(memory, value.dtype, value.size, mmap.PAGESIZE + begin)
    made = made.reshape(value.shape)
    made[...] = value
    return made


def both_ways(values: Sequence[Array]) -> list[list[Array]]:
    """``values`` with their ends at forbidden pages, then with their begins there.

    The former ones are overwritten by the next call.
    """
    count = len(values)
    return [
        [fenced(v, count * at_end + i, at_end=bool(at_end)) for i, v in enumerate(values)]
        for at_end in (1, 0)
    ]


def about(width: int) -> list[int]:
    """Sizes around those of vectors of ``width`` elements."""
    found = {0, 1, 2, 3}
    for count in (width // 2, width, 2 * width, 3 * width, 8 * width):
        found.update((count - 1, count, count + 1))
    return sorted(found)


def numbers(dtype: np.dtype[Any], *shape: int) -> Array:
    """Small numbers that all dtypes have, no two neighbours alike."""
    flat = np.arange(math.prod(shape)) * 7 % 11
    return (flat % 2 if dtype == np.bool_ else flat).astype(dtype).reshape(shape)
