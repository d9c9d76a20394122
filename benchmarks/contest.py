"""Makes rows of cases: finds the peers of each, checks them, and hands them to be timed.

The peers NumPy, numba and gcc run in this process.  The others are large, and want versions of what
they share with stepforge, so that they live in an environment of their own: one child process for
each, which gets the arrays of a case as a file and is asked for one measurement at a time.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from cases import Case, Step, build_of, check, opened
from harness import Against, Row, Side, called

HERE = ("gcc", "numba", "NumPy")
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    **dict.fromkeys(("NUMBA_NUM_THREADS", "NPROC"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
CHILD = str(Path(__file__).with_name("child.py"))
Bounds = tuple[tuple[float, tuple[str, ...]], ...]  # at most so many times the best of these


class Child:
    """A peer in a process of its own, which runs ``child.py`` with another interpreter."""

    def __init__(self, interpreter: str, label: str, folder: Path) -> None:
        self.label = label
        self._folder = folder
        self._errors: IO[bytes] = (folder / f"{label}.log").open("w+b")
        self._process = subprocess.Popen(
            [interpreter, CHILD, label],
            env={**os.environ, **ONE_THREAD},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
        )

    def ask(self, **question: Any) -> Any:
        """The answer of the process; where it died, what it last said."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it ended, so that there is no answer either
            print(json.dumps(question), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace")
            raise RuntimeError(f"{self.label} stopped:\n{said[-3000:]}")
        return json.loads(answer)

    def side(self, case: Case) -> Side | None:
        """``case`` on this peer, checked; None where the peer is not installed."""
        inputs, outputs = self._folder / "inputs.npz", self._folder / "outputs.npz"
        np.savez(inputs, **dict(case.arrays))
        question = {"kind": case.kind, "calls": case.calls}
        key = self.ask(do="open", inputs=str(inputs), outputs=str(outputs), **question)
        if key is None:
            return None
        with np.load(outputs) as results:
            check(case, self.label, [results[name] for name in results.files])
        return Side(self.label, (lambda: float(self.ask(do="time", key=key)),))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._errors.close()


@dataclass
class Peers:
    """The peers at hand: those of this process, or with an ``interpreter`` all of them."""

    interpreter: str = ""
    _children: dict[str, Child] = field(default_factory=dict)
    _folder: tempfile.TemporaryDirectory[str] = field(default_factory=tempfile.TemporaryDirectory)

    def side(self, label: str, case: Case) -> Side | None:
        """``case`` on a peer, its results checked; None where the peer is not at hand."""
        if label not in HERE:
            if not self.interpreter:
                return None
            if label not in self._children:
                self._children[label] = Child(self.interpreter, label, Path(self._folder.name))
            return self._children[label].side(case)
        step = step_of(label, case)
        if step is None:
            return None
        check(case, label, step.last(case.calls))
        return called(label, step.function, step.arguments)

    def close(self) -> None:
        for child in self._children.values():
            child.close()
        self._folder.cleanup()


def step_of(label: str, case: Case) -> Step | None:
    """What a peer of this process wrote for ``case``."""
    make: Callable[..., Step | None] = importlib.import_module(f"peers.{label.lower()}").step
    return make(case.kind, case.arrays)


def rows(tf: Any, peers: Peers, case: Case, bounds: Bounds) -> Iterator[Row]:
    """The row of a case, while its session is open.

    With peers of other environments it has only the bounds that they take part in, and without them
    only those that something here does; where that leaves none, there is no row.
    """
    wanted = [
        (bound, labels)
        for bound, labels in bounds
        if any((label in HERE) != bool(peers.interpreter) for label in labels)
    ]
    if not wanted:
        return
    with opened(tf, build_of(case.kind), case.arrays) as step:
        check(case, "stepforge", step.last(case.calls))
        ours = called("stepforge", step.function, step.arguments)
        against = tuple(
            Against(bound, found(peers, labels, case), " and ".join(labels) + " are missing")
            for bound, labels in wanted
        )
        yield Row(case.name, ours, against)


def found(peers: Peers, labels: tuple[str, ...], case: Case) -> tuple[Side, ...]:
    sides = (peers.side(label, case) for label in labels)
    return tuple(one for one in sides if one is not None)
