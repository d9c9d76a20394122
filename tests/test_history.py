"""Passes run once more give what the compile made, and kernels cost what they compute and move."""

from __future__ import annotations

from typing import Any

import pytest

import stepforge as tf
from stepforge.ir import dims
from stepforge.ir.parser import parse_function
from stepforge.ir.text import print_function
from stepforge.passes.cost import kernels, work
from stepforge.passes.history import history


@pytest.fixture
def variant() -> Any:
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 8], name="x")
        w = tf.get_variable("w", [8, 4], initializer=tf.ones_initializer())
        loss = tf.reduce_mean(tf.square(tf.tanh(tf.matmul(x, w))))
        train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
        session = tf.Session(graph=graph)
        session.run(tf.global_variables_initializer())
        return session.make_callable([loss, train], [x]).program.variants[0]


def test_the_history_ends_in_what_was_compiled(variant: Any) -> None:
    found = history(variant.extraction.function)
    for stage in ("tensor", "fused", "loops"):
        assert print_function(found.stages[stage]) == variant.text(stage)
    assert found.arena == variant.plan.arena
    for one, following in zip(found.changes, found.changes[1:], strict=False):
        assert following.before is one.after
    assert found.changes[0].before is variant.extraction.function


def test_passes_are_found_by_name_and_number(variant: Any) -> None:
    found = history(variant.extraction.function)
    folds = [change for change in found.changes if change.name == "fold"]
    assert (found.of("fold"), found.of("fold:2")) == tuple(folds)
    for name in ("melt", "fold:3", "fold:0", "fold:x"):
        with pytest.raises(ValueError, match="there is no pass"):
            found.of(name)


def test_the_cost_of_kernels() -> None:
    function = parse_function("""
func @f(%x: f32[n, 8], %w: f32[8, 4], %v: f64[n]) -> f32[n, 4], f32[n], f64 {
  %0 = matmul(%x, %w) : f32[n, 4] |%acc: f32| {
    %t = tanh(%acc) : f32
    yield(%t)
  }
  %1 = reduce(%0, shape=[n, 4], axes=[1]) : f32[n] |%p: f32| {
    yield(%p)
  }
  %2 = reduce_sum(%v, axes=[0]) : f64
  return(%0, %1, %2)
}
""")
    product, rows, total = kernels(function)
    assert (product.flops, rows.flops, total.flops) == _at(("64*n + 32*n", "4*n", "1"))
    assert product.bytes == _at(("32*n + 128 + 16*n",))[0]
    assert rows.bytes == _at(("16*n + 4*n",))[0]
    assert total.bytes == _at(("8*n + 8",))[0]
    sizes = {"n": 1000}
    together = sum(dims.evaluate(kernel.nanoseconds, sizes) for kernel in kernels(function))
    assert 4 * 1000 < together <= dims.evaluate(work(function), sizes)


def _at(texts: tuple[str, ...]) -> tuple[Any, ...]:
    n = dims.named("n")
    return tuple(eval(text, {"n": n}) for text in texts)
