"""Prints the milliseconds that the first call of the eight-schools step takes in this process.

Counted are ``make_callable`` and the call: extraction, passes, code generation, compilation.  The
import of llvmlite is not, and happens before; nor is building the graph.
"""

from __future__ import annotations

import importlib
import time

import llvmlite.binding  # noqa: F401  (imported here so that it is not counted below)
import numpy as np

from workloads import eight_schools


def main() -> None:
    tf = importlib.import_module("stepforge")
    q, fetches = eight_schools.build(tf)
    point = np.linspace(-0.5, 0.5, 10)
    sess = tf.Session(graph=q.graph)
    began = time.perf_counter()
    sess.make_callable(fetches, [q])(point)
    print((time.perf_counter() - began) * 1e3)
    sess.close()


if __name__ == "__main__":
    main()
