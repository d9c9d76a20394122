"""The process's pool of worker threads: made by the first session that may use it.

Workers are Python daemon threads parked in native code; they never hold the interpreter lock. A
forked child has none of them, so its loops run in the calling thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from functools import cache
from typing import Any

from stepforge.codegen import large_memory, threads


def available() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


class Pool:
    """``address`` of the pool's memory and of the function that runs a loop on it.

    The first loop that is worth it has the workers started: many programs have none.
    """

    def __init__(self, workers: int) -> None:
        library = large_memory.library()  # is never freed
        self._wanted = workers
        self._memory = ctypes.create_string_buffer(threads.POOL_BYTES + 64)
        self.address = -(-ctypes.addressof(self._memory) // 64) * 64
        init, self._worker, self.function = (library[name] for name in threads.FUNCTIONS)
        self._start: Any = ctypes.CFUNCTYPE(None)(self._begin)
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(init)(self.address, self._start)

    def _begin(self) -> None:
        """Start the workers. Where the system has no more threads, there are fewer."""
        run: Any = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._worker)
        started = 0
        with contextlib.suppress(RuntimeError):
            while started < self._wanted:
                name = f"stepforge-worker-{started}"
                threading.Thread(target=run, args=(self.address,), name=name, daemon=True).start()
                started += 1
        while self.cell(threads.READY).value < started:
            time.sleep(1e-5)  # who waits for them may hold the interpreter lock, which they need
        self.cell(threads.WORKERS).value = started

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
