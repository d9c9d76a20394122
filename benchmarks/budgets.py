"""Times of start-up, each the best of several fresh processes with empty caches."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

IMPORT = """
import time
import numpy
began = time.perf_counter()
import stepforge
print((time.perf_counter() - began) * 1e3)
"""


@dataclass(frozen=True)
class Budget:
    """Milliseconds that something took, and may take."""

    what: str
    milliseconds: float
    bound: float


def fresh(arguments: list[str], processes: int) -> float:
    """The smallest number that ``python *arguments`` prints."""
    times = []
    for _ in range(processes):
        with tempfile.TemporaryDirectory() as cache:
            environment = {**os.environ, "XDG_CACHE_HOME": cache}
            done = subprocess.run(
                [sys.executable, *arguments],
                env=environment,
                check=True,
                capture_output=True,
                text=True,
            )
        times.append(float(done.stdout.split()[-1]))
    return min(times)


def budgets(processes: int) -> Iterator[Budget]:
    script = str(Path(__file__).with_name("first_call.py"))
    first = fresh([script], processes)
    yield Budget("first call of the eight-schools step, llvmlite's import apart", first, 100)
    yield Budget("import stepforge, above NumPy's", fresh(["-c", IMPORT], processes), 150)
