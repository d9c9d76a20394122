"""Matrix products by register tiles against the library: the table behind ``codegen/gemm.py``.

``python benchmarks/matmul.py [--rounds 20] [--smallest 0]`` prints the table of docs/matmul.md.
Each product is compiled twice, once for each way, and both are timed in turn on one thread. With
``--threads`` the table is tiles on all threads of the machine against tiles on one.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import stepforge as tf
from harness import Against, Row, Side, check_equal, measure, statement
from stepforge.ir import products

SHAPES = (
    *((n, n, n) for n in (16, 32, 64, 128, 256, 384, 512, 768)),
    (4, 1024, 3136), (8, 256, 256), (32, 10, 128), (32, 128, 256), (32, 256, 784),
    (32, 1024, 3136), (256, 128, 256), (256, 256, 784), (1000, 32, 64), (64, 1000, 32),
)  # fmt: skip
FORMS = {"a b": (False, False), "a b'": (False, True), "a' b": (True, False)}
NEVER = 1 << 40


def compiled(
    shape: tuple[int, int, int], form: str, dtype: Any, library_from: int, threads: int = 1
) -> Any:
    """A product as a step that always takes one of the two ways; 0 threads are all there are."""
    (m, n, k), (turned_a, turned_b) = shape, FORMS[form]
    products.LIBRARY_FROM = library_from
    with tf.Graph().as_default():
        a = tf.placeholder(dtype, [k, m] if turned_a else [m, k])
        b = tf.placeholder(dtype, [n, k] if turned_b else [k, n])
        product = tf.matmul(a, b, transpose_a=turned_a, transpose_b=turned_b)
        session = tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=threads))
        return session.make_callable(product, [a, b])


def by_library(shape: tuple[int, int, int], form: str, dtype: Any) -> tuple[Any, Any]:
    """A product by tiles, and by the library."""
    return compiled(shape, form, dtype, NEVER), compiled(shape, form, dtype, 0)


def by_threads(shape: tuple[int, int, int], form: str, dtype: Any) -> tuple[Any, Any]:
    """A product by tiles on all threads, and on one."""
    return compiled(shape, form, dtype, NEVER, 0), compiled(shape, form, dtype, NEVER)


def lines(rounds: int, smallest: int, ways: Callable[..., tuple[Any, Any]]) -> Iterator[str]:
    """The lines of the table of the first of two ways against the second."""
    rng = np.random.default_rng(0)
    yield "| m, n, k | " + " | ".join(f"{d}, {f}" for d in ("f32", "f64") for f in FORMS) + " |"
    yield "|---" * (1 + 2 * len(FORMS)) + "|"
    for m, n, k in SHAPES:
        if m * n * k < smallest:
            continue
        ratios = []
        for dtype in (tf.float32, tf.float64):
            for form, (turned_a, turned_b) in FORMS.items():
                a = rng.random((k, m) if turned_a else (m, k), dtype.as_numpy_dtype)
                b = rng.random((n, k) if turned_b else (k, n), dtype.as_numpy_dtype)
                steps = ways((m, n, k), form, dtype)
                check_equal(f"{m}, {n}, {k}", *(step(a, b) for step in steps), 1e-4)
                ours, theirs = (
                    Side(ways.__name__, (statement("step(a, b)", step=step, a=a, b=b),))
                    for step in steps
                )
                result = measure(Row(form, ours, (Against(1.0, (theirs,)),)), rounds)
                ratios += [f"{verdict.ratio:.2f}" for verdict in result.verdicts]
        yield f"| {m}, {n}, {k} | " + " | ".join(ratios) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--smallest", type=int, default=0, help="leave out fewer multiplications")
    parser.add_argument("--threads", action="store_true", help="all threads against one")
    options = parser.parse_args()
    ways = by_threads if options.threads else by_library
    for line in lines(options.rounds, options.smallest, ways):
        print(line, flush=True)


if __name__ == "__main__":
    main()
