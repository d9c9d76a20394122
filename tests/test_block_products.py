"""Products that take turns with the nests between them: the values of NumPy for any number of
rows, the same bits for any number of threads, and memory for a block of rows only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepforge as tf
from stepforge.ir import dims
from stepforge.passes import block_products
from stepforge.runtime import threads

pytestmark = pytest.mark.usefixtures("own_graph")
WIDTH = 16
SIZES = [(0, 3), (1, 1), (2, 5), (255, 40), (256, 600), (257, 33), (600, 513), (513, 1)]


def attention() -> tuple[list[Any], list[Any]]:
    """Attention, the gradient of the sum of its sines, and what these are of."""
    q, k, v = (tf.placeholder(tf.float32, [None, WIDTH], name=name) for name in "qkv")
    out = tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * 0.25), v)
    return [out, *tf.gradients(tf.reduce_sum(tf.sin(out)), [q, k, v])], [q, k, v]


def reference(q: Any, k: Any, v: Any) -> list[Any]:
    """The same in double precision."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    weights = np.exp(q @ k.T * 0.25)
    weights /= weights.sum(1, keepdims=True)
    out = weights @ v
    slope = np.cos(out)
    inner = slope @ v.T
    scores = weights * (inner - (inner * weights).sum(1, keepdims=True)) * 0.25
    return [out, scores @ k, scores.T @ q, weights.T @ slope]


def arrays(rows: int, columns: int) -> list[Any]:
    rng = np.random.RandomState(rows)
    return [rng.randn(n, WIDTH).astype(np.float32) for n in (rows, columns, columns)]


def step_of(fetches: Any, feeds: Any, **options: Any) -> Any:
    return tf.Session(config=tf.ConfigProto(**options)).make_callable(fetches, feeds)


@pytest.mark.parametrize("backend", ["", "numba"])
def test_attention_and_its_gradient_for_any_number_of_rows(backend: str) -> None:
    if backend:
        pytest.importorskip("numba")
    chosen = tf.ConfigProto.Experimental(executor_type=backend)
    step = step_of(*attention(), experimental=chosen)
    assert step.text("loops").count('binds="rows') == 2  # forward, and back
    for rows, columns in SIZES:
        given = arrays(rows, columns)
        for got, want in zip(step(*given), reference(*given), strict=True):
            np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("rows", [1, 3])
def test_blocks_of_few_rows(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_products, "ROWS", rows)
    step = step_of(*attention())
    given = arrays(20, 7)
    for got, want in zip(step(*given), reference(*given), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5)


@pytest.mark.skipif(threads.available() == 1, reason="there is one processor")
def test_the_number_of_threads_does_not_change_a_bit() -> None:
    given = arrays(1100, 900)
    fetches, feeds = attention()
    alone, shared = (
        step_of(fetches, feeds, intra_op_parallelism_threads=count)(*given) for count in (1, 0)
    )
    for one, other in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one, other)


def test_memory_does_not_grow_with_the_rows() -> None:
    (out, *_), feeds = attention()
    arena = step_of(out, feeds).program.variants[0].plan.arena
    few, many = (
        dims.evaluate(arena, {"q_0": rows, "k_0": 1000}) for rows in (block_products.ROWS, 100_000)
    )
    assert few == many < 3 * block_products.ROWS * 1000 * 4


def test_what_others_read_is_kept_whole() -> None:
    q, k, v = (tf.placeholder(tf.float32, [None, WIDTH], name=name) for name in "qkv")
    weights = tf.nn.softmax(tf.matmul(q, k, transpose_b=True))
    step = step_of([weights, tf.matmul(weights, v)], [q, k, v])
    given = arrays(300, 70)
    found, out = step(*given)
    scores = given[0].astype(np.float64) @ given[1].T
    want = np.exp(scores - scores.max(1, keepdims=True))
    want /= want.sum(1, keepdims=True)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(out, want @ given[2], rtol=1e-4, atol=1e-5)


def test_a_variable_that_is_updated_between_stays_in_order() -> None:
    matrix = tf.get_variable("m", initializer=np.eye(WIDTH, dtype=np.float32))
    x = tf.placeholder(tf.float32, [None, WIDTH], name="x")
    scores = tf.nn.softmax(tf.matmul(x, x, transpose_b=True))
    first = tf.matmul(scores, x)
    with tf.control_dependencies([first]):
        changed = tf.assign_add(matrix, tf.matmul(first, first, transpose_a=True))
    out = tf.matmul(tf.nn.relu(tf.matmul(first, changed)), matrix)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        value = 0.1 * arrays(520, 1)[0]
        got = sess.run(out, {x: value})
    wide = value.astype(np.float64)
    weights = np.exp(wide @ wide.T)
    mixed = weights / weights.sum(1, keepdims=True) @ wide
    after = np.eye(WIDTH) + mixed.T @ mixed
    np.testing.assert_allclose(got, np.maximum(mixed @ after, 0) @ after, rtol=1e-4, atol=1e-6)
