"""A step that several sides run: stepforge, the same program on TensorFlow, and peers in their own
words.

All of them get the same arrays, and their results are compared before anything is timed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness import check_equal

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Program:
    """A TensorFlow-1 program: placeholders by the name of what they are fed, and fetches."""

    feeds: Mapping[str, Any]
    fetches: list[Any]


Build = Callable[[Any, Arrays], Program]


@dataclass(frozen=True)
class Case:
    """One step: its program, its arrays, and its results in float64.

    ``kind`` names the program, and what the peers wrote for the same, as "module.function" of
    ``workloads``.  ``expected`` is what the last of ``calls`` calls gives, where a step trains.
    """

    name: str
    kind: str
    arrays: Arrays
    expected: tuple[Array, ...]
    tolerance: float
    calls: int = 1


@dataclass(frozen=True)
class Step:
    """What a side calls, again and again, and how to see the results of a call.

    What a training operation returns, None, is no result.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    results: Callable[[Any], Any] = tuple

    def last(self, calls: int) -> list[Array]:
        """The results of the last of ``calls`` calls."""
        for _ in range(calls - 1):
            self.function(*self.arguments)
        found = self.results(self.function(*self.arguments))
        return [np.asarray(r) for r in found if r is not None]


def build_of(kind: str) -> Build:
    """The TensorFlow-1 program that a kind names."""
    module, _, name = kind.partition(".")
    build: Build = getattr(importlib.import_module(f"workloads.{module}"), name)
    return build


@contextmanager
def opened(tf: Any, build: Build, arrays: Arrays) -> Iterator[Step]:
    """The program on ``tf``, while its session is open; on one thread."""
    one_thread = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    with tf.Graph().as_default() as graph:
        program = build(tf, arrays)
        start = tf.global_variables_initializer()
    with closing(tf.Session(graph=graph, config=one_thread)) as sess:
        sess.run(start)
        call = sess.make_callable(program.fetches, list(program.feeds.values()))
        yield Step(call, tuple(arrays[name] for name in program.feeds))


def check(case: Case, label: str, results: list[Array]) -> None:
    """Stop the benchmark where a side's results are not what the case expects."""
    for ours, expected in zip(results, case.expected, strict=True):
        check_equal(f"{case.name}, {label}", ours, expected, case.tolerance)
