"""Prints the milliseconds that the first call of a step takes in this process.

    python benchmarks/first_call.py stepforge|JAX KIND

Counted are making the callable and the call: tracing or extraction, passes, code generation,
compilation.  Imports (llvmlite's among them) are not, nor building the graph, setting variables or
moving arrays to a device; nor what Python looks through because of these, in search of cycles.
"""

from __future__ import annotations

import gc
import importlib
import sys
import time

from cases import Case, build_of


def case_of(kind: str) -> Case:
    """The first case of a kind."""
    module = importlib.import_module(f"workloads.{kind.partition('.')[0]}")
    return next(case for case in module.cases() if case.kind == kind)


def stepforge(case: Case) -> float:
    importlib.import_module("llvmlite.binding")
    tf = importlib.import_module("stepforge")
    with tf.Graph().as_default() as graph:
        program = build_of(case.kind)(tf, case.arrays)
        start = tf.global_variables_initializer()
    sess = tf.Session(graph=graph)
    sess.run(start)
    values = [case.arrays[name] for name in program.feeds]
    gc.collect()
    began = time.perf_counter()
    sess.make_callable(program.fetches, list(program.feeds.values()))(*values)
    seconds = time.perf_counter() - began
    sess.close()
    return seconds


def jax(case: Case) -> float:
    step = importlib.import_module("peers.jax").step(case.kind, case.arrays)
    gc.collect()
    began = time.perf_counter()
    step.function(*step.arguments)
    return time.perf_counter() - began


def main() -> None:
    side = {"stepforge": stepforge, "JAX": jax}[sys.argv[1]]
    print(side(case_of(sys.argv[2])) * 1e3)


if __name__ == "__main__":
    main()
