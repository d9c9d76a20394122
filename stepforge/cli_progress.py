"""A line on the terminal for what takes long, so that nobody wonders whether it hangs.

It is there only while it takes long, only on a terminal, and only on the standard error stream.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

PATIENCE = 1.0  # seconds before the line appears
EVERY = 0.2  # seconds between two of its states
_CLEAR = "\r\x1b[K"


@contextlib.contextmanager
def progress(what: str, stream: TextIO | None = None) -> Iterator[None]:
    """Show ``what`` and for how long it goes on, until the block ends."""
    out = sys.stderr if stream is None else stream
    if not out.isatty():
        yield
        return
    done = threading.Event()
    line = threading.Thread(target=_show, args=(what, out, done), daemon=True)
    line.start()
    try:
        yield
    finally:
        done.set()
        line.join()


def _show(what: str, out: TextIO, done: threading.Event) -> None:
    started = time.monotonic()
    if done.wait(PATIENCE):
        return
    while not done.wait(EVERY):
        seconds = time.monotonic() - started
        print(f"{_CLEAR}{what} ... {seconds:.0f} s", end="", file=out, flush=True)
    print(_CLEAR, end="", file=out, flush=True)
