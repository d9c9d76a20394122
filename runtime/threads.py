"""The process's pool of worker threads: made by the first session that may use it.

Workers are Python daemon threads parked in native code; they never hold the interpreter lock. A
forked child has none of them, so its loops run in the calling thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from functools import cache
from typing import Any

from stepforge.codegen import entry_support, threads


def available() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def several(wanted: int) -> bool:
    """Whether loops of a session that wants so many threads, 0 for all, are ever shared out."""
    return wanted != 1 and available() > 1


class Pool:
    """``address`` of the pool's memory and of the function that runs a loop on it; its threads.

    The first loop that is worth it has the threads started: many programs have none.
    """

    def __init__(self, workers: int) -> None:
        init, worker, self.function = entry_support.symbols(threads.FUNCTIONS).values()
        self._memory = ctypes.create_string_buffer(threads.POOL_BYTES + 64)
        self.address = -(-ctypes.addressof(self._memory) // 64) * 64
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(init)(self.address)
        run: Any = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(worker)
        self.workers = [
            threading.Thread(
                target=run, args=(self.address,), name=f"stepforge-worker-{number}", daemon=True
            )
            for number in range(workers)
        ]
        self._start: Any = ctypes.CFUNCTYPE(None)(self._begin)
        self.cell(threads.START).value = ctypes.cast(self._start, ctypes.c_void_p).value or 0

    def _begin(self) -> None:
        """Start the workers. Where the system has no more threads, loops have fewer of them."""
        with contextlib.suppress(RuntimeError):
            for thread in self.workers:
                thread.start()

    def cell(self, offset: int) -> ctypes.c_int64:
        """A number in the pool's memory."""
        return ctypes.c_int64.from_address(self.address + offset)


@cache
def pool() -> Pool | None:
    """The pool; None where there is one processor only, or in a child of a fork."""
    workers = available() - 1
    return Pool(workers) if workers > 0 and not _FORKED else None


def _alone() -> None:
    """In a forked child there are no workers: the pool counts as busy for ever."""
    if pool.cache_info().currsize:
        left_behind = pool()
        if left_behind is not None:
            left_behind.cell(threads.BUSY).value = 1
    _FORKED.append(True)


_FORKED: list[bool] = []  # not empty in a forked child
os.register_at_fork(after_in_child=_alone)
