"""Times of start-up, each the best of several fresh processes.

The processes have bytecode, as after any first run, but no other cache of an earlier one, but for
the warm start, before which a process ran the same.  What the names of the package load when they
are first used is measured too, as a program pays for it either way.
"""

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
import stepforge as tf
{use}
print((time.perf_counter() - began) * 1e3)
"""


@dataclass(frozen=True)
class Budget:
    """Milliseconds that something took, and may take."""

    what: str
    milliseconds: float
    bound: float


def fresh(
    arguments: list[str],
    processes: int,
    interpreter: str = sys.executable,
    *,
    warm: bool = False,
) -> float:
    """The smallest number that ``python *arguments`` prints; a first process makes bytecode.

    With ``warm``, it leaves the following ones what it compiled, too.
    """
    times = []
    with tempfile.TemporaryDirectory() as bytecode, tempfile.TemporaryDirectory() as compiled:
        for _ in range(processes + 1):
            with tempfile.TemporaryDirectory() as cache:
                environment = {
                    **os.environ,
                    "STEPFORGE_CACHE": compiled if warm else "off",
                    "PYTHONDONTWRITEBYTECODE": "",
                    "PYTHONPYCACHEPREFIX": bytecode,
                    "XDG_CACHE_HOME": cache,
                }
                done = subprocess.run(
                    [interpreter, *arguments],
                    env=environment,
                    check=True,
                    capture_output=True,
                    text=True,
                )
            times.append(float(done.stdout.split()[-1]))
    return min(times[1:])


# What compiles, the kind of its case, and the milliseconds that it may take.
COMPILED = (
    ("chain", "kernels.chain", 25),
    ("eight schools", "eight_schools.density", 60),
    ("MLP forward", "perceptron.forward", 120),
    ("MLP training step", "perceptron.train", 250),
)


def budgets(processes: int, peers: str) -> Iterator[Budget]:
    """Start-up; with an interpreter of ``peers``, compilation against JAX's instead."""
    script = str(Path(__file__).with_name("first_call.py"))
    for name, kind, bound in COMPILED:
        what, ours = f"first call, {name}", fresh([script, "stepforge", kind], processes)
        if peers:
            theirs = fresh([script, "JAX", kind], processes, peers)
            yield Budget(f"{what}, at most JAX's", ours, theirs)
        else:
            yield Budget(what, ours, bound)
    if not peers:
        warm = [str(Path(__file__).with_name("warm_start.py"))]
        yield Budget("warm start, first step of digits", fresh(warm, processes, warm=True), 5)
        alone, used = IMPORT.format(use=""), IMPORT.format(use="tf.Session, tf.placeholder")
        yield Budget("import stepforge, above NumPy's", fresh(["-c", alone], processes), 150)
        what = "the same with tf.Session, tf.placeholder"
        yield Budget(what, fresh(["-c", used], processes), 150)
