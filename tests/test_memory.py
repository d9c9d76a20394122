"""Peak memory: what a training step has in use at once is little less than what it takes.

Variables, feeds and results are there either way; the arena is what may be larger than needed.
``needed`` is computed from the finished loops alone: at each operation the bytes of the temporaries
that are between their first and their last use there, and of those the largest sum.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepforge as tf
from stepforge.ir import dims
from stepforge.ir.analyses import used_values
from stepforge.ir.core import Function
from stepforge.ir.types import item_bytes
from stepforge.passes.arena import Layout, Span

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
AT_MOST = 1.2  # times what liveness needs
BATCHES = (1, 8, 24, 32, 100, 1000)


def needed(function: Function, sizes: dict[str, int]) -> int:
    """The most bytes of temporaries that are in use at one operation."""
    root: dict[Any, Any] = {}
    first: dict[Any, int] = {}
    last: dict[Any, int] = {}
    for position, op in enumerate(function.body.ops):
        for value in used_values(op):
            if value in root:
                first.setdefault(root[value], position)
                last[root[value]] = position
        if op.name == "place":
            root[op.result] = op.result
        elif op.name == "view" and op.operands[0] in root:
            root[op.result] = root[op.operands[0]]
        assert op.name != "alloc", "memory whose size is known only while the step runs"
    live = np.zeros(len(function.body.ops), np.int64)
    for value, begin in first.items():
        live[begin : last[value] + 1] += bytes_of(value.type, sizes)
    return int(live.max(initial=0))


def bytes_of(type_: Any, sizes: dict[str, int]) -> int:
    return dims.evaluate(type_.size, sizes) * item_bytes(type_.dtype)


def weights(*shape: int) -> Any:
    return tf.get_variable(f"w_{len(tf.global_variables())}", shape)


def digits_step(batch: int | None) -> tuple[Any, list[Any]]:
    import digits

    model = digits.build()
    return model.train, [model.pixels, model.labels]


def convolution_step(batch: int | None) -> tuple[Any, list[Any]]:
    images = tf.placeholder(tf.float32, [batch, 16, 16, 3])
    labels = tf.placeholder(tf.int32, [batch])
    hidden = images
    for depth, filters in ((3, 8), (8, 16)):
        kernel, bias = weights(3, 3, depth, filters), weights(filters)
        hidden = tf.nn.relu(tf.nn.conv2d(hidden, kernel, [1, 1, 1, 1], "SAME") + bias)
        hidden = tf.nn.max_pool(hidden, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    logits = tf.matmul(tf.reshape(hidden, [-1, 256]), weights(256, 10)) + weights(10)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.train.MomentumOptimizer(0.1, 0.9).minimize(tf.reduce_mean(losses)), [images, labels]


def recurrent_step(batch: int | None) -> tuple[Any, list[Any]]:
    words = tf.placeholder(tf.float32, [batch, 12, 6])
    target = tf.placeholder(tf.float32, [batch, 4])
    enter, again, bias = weights(6, 32), weights(32, 32), weights(32)
    state = tf.zeros([tf.shape(words)[0], 32])
    for turn in range(12):
        state = tf.tanh(tf.matmul(words[:, turn], enter) + tf.matmul(state, again) + bias)
    loss = tf.reduce_mean(tf.square(tf.matmul(state, weights(32, 4)) - target))
    return tf.train.AdamOptimizer(0.1).minimize(loss), [words, target]


def attention_step(batch: int | None) -> tuple[Any, list[Any]]:
    words = tf.placeholder(tf.float32, [batch, 32])
    target = tf.placeholder(tf.float32, [batch, 32])
    normal, heads = layer_norm(words), []
    for _ in range(2):
        query, key, value = (tf.matmul(normal, weights(32, 16)) for _ in range(3))
        scores = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) * 0.25)
        heads.append(tf.matmul(scores, value))
    mixed = words + tf.matmul(tf.concat(heads, axis=1), weights(32, 32))
    inner = tf.nn.relu(tf.matmul(layer_norm(mixed), weights(32, 64)))
    loss = tf.reduce_mean(tf.square(mixed + tf.matmul(inner, weights(64, 32)) - target))
    return tf.train.GradientDescentOptimizer(0.1).minimize(loss), [words, target]


def layer_norm(x: Any) -> Any:
    mean, variance = tf.nn.moments(x, [-1], keep_dims=True)
    return (x - mean) * tf.rsqrt(variance + 1e-5) * weights(32) + weights(32)


@pytest.mark.parametrize("batch", [None, 8, 24, 32])
@pytest.mark.parametrize("build", [digits_step, convolution_step, recurrent_step, attention_step])
def test_a_training_step_takes_little_more_than_liveness_needs(
    build: Callable[..., Any], batch: int | None
) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        fetched, feeds = build(batch)
        session.run(tf.global_variables_initializer())
        step = session.make_callable(fetched, feeds)
        shapes = [[batch or 8, *feed.shape.as_list()[1:]] for feed in feeds]
        step(*[np.zeros(s, f.dtype.as_numpy_dtype) for s, f in zip(shapes, feeds, strict=True)])
        (variant,) = step.program.variants
        assert "alloc" not in {op.name for op in variant.plan.function.body.ops}
        for size in BATCHES if variant.signature.sizes else (batch,):
            sizes = dict.fromkeys(variant.signature.sizes, size)
            need = needed(variant.plan.function, sizes)
            taken = dims.evaluate(variant.plan.arena, sizes)
            given = sum(bytes_of(p.type, sizes) for p in variant.plan.function.params)
            given += sum(v.shape.num_elements() * v.dtype.size for v in tf.global_variables())
            assert need <= taken, size
            assert given + taken <= AT_MOST * (given + need), (size, taken / need)


def spans_of(rng: np.random.Generator, count: int) -> list[Span]:
    """Temporaries of sizes of every kind, alive for a while."""
    n, m = dims.named("n"), dims.named("m")
    sizes = (
        *(64, 4096, 64 * n, 1024 * n, 256 * m, 64 * n * m, 64 * dims.floor_div(4 * n + 63, 64)),
        *(64 * dims.floor_div(4 * n * m + 63, 64), 64 * dims.maximum(n, m), 64 * n - 128),
        *(64 * dims.floor_div(n - 3, 2) + 64, 64 * n - 2560, 0),
    )
    begins = rng.integers(0, 3 * count, count)
    return [
        Span(sizes[rng.integers(len(sizes))], int(begin), int(begin + rng.integers(0, count)))
        for begin in begins
    ]


@pytest.mark.parametrize("seed", range(12))
def test_what_is_alive_together_never_shares_memory(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spans = spans_of(rng, 25)
    layout = Layout(spans)
    for n, m in [(0, 0), (1, 1), (2, 9), (3, 64), (32, 32), (50, 1), (7, 1000), (1000, 3)]:
        sizes = {"n": n, "m": m}
        total = dims.evaluate(layout.size, sizes)
        starts = [dims.evaluate(offset, sizes) for offset in layout.offsets]
        counts = [max(dims.evaluate(span.size, sizes), 0) for span in spans]
        ends = [start + count for start, count in zip(starts, counts, strict=True)]
        assert all(start % 64 == 0 for start in starts)
        assert min(starts) >= 0
        assert max(ends) <= total
        for i, a in enumerate(spans):
            for j, b in enumerate(spans[:i]):
                apart = ends[i] <= starts[j] or ends[j] <= starts[i]
                assert apart or a.last < b.first or b.last < a.first, (i, j, sizes)


def test_known_sizes_have_known_places() -> None:
    layout = Layout([Span(640, 0, 1), Span(128, 1, 2), Span(64, 2, 3), Span(640, 3, 4)])
    assert (layout.offsets, layout.size) == ([0, 640, 768, 0], 832)


def test_only_sizes_that_may_be_the_largest_make_the_end() -> None:
    n = dims.named("n")
    rounded = 64 * dims.floor_div(4 * n + 63, 64)
    layout = Layout([Span(1024 * n, 0, 1), Span(64 * n, 2, 2), Span(rounded, 3, 3)])
    assert layout.offsets == [0, 0, 0]
    assert str(layout.size) == "max(1024*n, 64*floordiv(4*n + 63, 64))"
