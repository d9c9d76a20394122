"""Sessions on the numba back end: how it is chosen, and that steps behave as on LLVM."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepforge as tf
from stepforge.codegen import numba_library

pytest.importorskip("numba", reason="numba is not installed")


def config(backend: str) -> tf.ConfigProto:
    return tf.ConfigProto(experimental=tf.ConfigProto.Experimental(executor_type=backend))


@pytest.fixture(autouse=True)
def fresh_graph() -> Iterator[None]:
    with tf.Graph().as_default():
        yield


def test_the_back_end_is_chosen_by_the_executor_type(monkeypatch: pytest.MonkeyPatch) -> None:
    y = tf.placeholder(tf.float32, [None], name="x") * 2.0

    def used(executor: str) -> tuple[str, str]:
        with tf.Session(config=config(executor)) as session:
            step = session.make_callable(y, ["x:0"])
            np.testing.assert_array_equal(step([1, 2]), [2, 4])
            (compiled,) = session.cache_info()["history"]
            return compiled["backend"], compiled["note"]

    assert used("") == used("DEFAULT") == used("llvm") == ("llvm", "")
    assert used("numba") == ("numba", "")
    monkeypatch.setenv("STEPFORGE_BACKEND", "numba")
    assert used("") == ("numba", "")
    assert used("llvm") == ("llvm", "")
    with pytest.raises(tf.errors.NotFoundError, match="given executor type: gpu"):
        tf.Session(config=config("gpu")).run(y, {"x:0": [1]})


def test_the_text_is_python_that_can_be_read_and_run() -> None:
    x = tf.placeholder(tf.float32, [None, 4], name="x")
    centred = tf.subtract(x, tf.reduce_mean(x, 1, keepdims=True), name="centred")
    variance = tf.reduce_mean(tf.square(centred), 1, keepdims=True)
    normal = tf.multiply(centred, tf.rsqrt(variance + 1e-3), name="normal")
    images = np.random.RandomState(0).normal(size=(5, 4)).astype(np.float32)
    with tf.Session(config=config("numba")) as session, tf.Session() as other:
        step = session.make_callable(normal, [x])
        text, on_llvm = step.text("numba"), other.make_callable(normal, [x])
        assert (text, step.text("loops")) == (on_llvm.text("numba"), on_llvm.text("loops"))
        np.testing.assert_allclose(step(images), on_llvm(images), rtol=1e-5, atol=1e-6)
    assert "centred" in text
    assert f"normal ({Path(__file__).name}:" in text
    (kernel,) = [n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef)]
    assert len([n for n in kernel.body if isinstance(n, ast.For)]) == 1  # one pass over the rows
    namespace: dict[str, Any] = {}
    exec(text, namespace)
    assert namespace["kernel"].address


def training_step() -> tuple[Any, Any, Any]:
    """Placeholders and fetches of a small classifier that is trained with momentum."""
    x = tf.placeholder(tf.float32, [None, 6], name="x")
    labels = tf.placeholder(tf.int32, [None], name="labels")
    hidden = x
    for layer, width in enumerate((8, 3)):
        shape = [int(hidden.shape[1]), width]
        start = np.random.RandomState(layer).normal(0, 0.5, shape).astype(np.float32)
        weights = tf.get_variable(f"w{layer}", initializer=tf.constant(start))
        bias = tf.get_variable(f"b{layer}", [width], initializer=tf.zeros_initializer())
        hidden = tf.matmul(tf.tanh(hidden) if layer else hidden, weights) + bias
    loss = tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=hidden)
    )
    train = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
    return [x, labels], [train, loss], tf.trainable_variables()


def test_a_training_step_agrees_and_fails_as_on_llvm() -> None:
    feeds, fetches, variables = training_step()
    random = np.random.RandomState(0)
    images = random.normal(size=(20, 6)).astype(np.float32)
    labels = random.randint(0, 3, 20).astype(np.int32)
    losses, weights, errors = [], [], []
    for backend in ("llvm", "numba"):
        with tf.Session(config=config(backend)) as session:
            session.run(tf.global_variables_initializer())
            step = session.make_callable(fetches, feeds)
            losses.append([step(images[:n], labels[:n])[1] for n in (20, 20, 7, 20)])
            before = session.run(variables)
            with pytest.raises(tf.errors.InvalidArgumentError) as caught:
                step(images, labels + 1)
            errors.append(str(caught.value))
            np.testing.assert_equal(session.run(variables), before)
            weights.append(before)
            kinds = {entry["backend"] for entry in session.cache_info()["history"]}
            assert kinds == {backend}
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)
    assert errors[0] == errors[1]
    assert "which is outside the valid range of [0, 3)" in errors[0]


def both(fetches: Any, feed: dict[Any, Any]) -> list[Any]:
    """What a fetch gives on each back end, run three times in sessions of their own."""
    results = []
    for backend in ("llvm", "numba"):
        with tf.Session(config=config(backend)) as session:
            session.run(tf.global_variables_initializer())
            results.append([session.run(fetches, feed) for _ in range(3)])
            assert session.cache_info()["history"][-1]["backend"] == backend
    return results


def test_random_numbers_are_the_same() -> None:
    draws = [
        tf.random_uniform([3, 5], seed=1),
        tf.random_normal([4], dtype=tf.float64, seed=2),
        tf.random_uniform([6], 2, 100, tf.int32, seed=3) + 1,
    ]
    llvm, numba = both(draws, {})
    np.testing.assert_equal(numba, llvm)
    assert not np.array_equal(numba[0][0], numba[1][0])


def test_host_calls_and_sizes_that_only_values_tell() -> None:
    x = tf.placeholder(tf.float32, [None], name="x")
    places = tf.where(x > 0.0)
    special = tf.lgamma(tf.boolean_mask(x, x > 0.0)) * 2.0
    llvm, numba = both([places, special, tf.unique(tf.cast(x, tf.int32))[0]], {x: [1, -2, 3, 3.5]})
    np.testing.assert_equal(numba, llvm)
    np.testing.assert_array_equal(numba[0][0], [[0], [2], [3]])


def test_variables_change_their_size_and_are_updated_in_place() -> None:
    x = tf.placeholder(tf.float32, [None], name="x")
    v = tf.Variable(np.zeros(2, np.float32), validate_shape=False, name="v")
    grown = tf.assign(v, tf.concat([v, x], 0), validate_shape=False)
    llvm, numba = both(grown, {x: [1.0, 2.0]})
    np.testing.assert_equal(numba, llvm)
    assert [len(each) for each in numba] == [4, 6, 8]


def test_what_numba_has_not_runs_on_llvm() -> None:
    x = tf.placeholder(tf.float16, [None], name="x")
    with tf.Session(config=config("numba")) as session:
        step = session.make_callable(x + 1.0, [x])
        assert step(np.ones(2, np.float16)).tolist() == [2, 2]
        (compiled,) = session.cache_info()["history"]
        assert (compiled["backend"], compiled["note"]) == ("llvm", "numba has no elements of f16")
        assert step.text("numba") == "# numba has no elements of f16\n"


def test_the_plain_python_entry_runs_numba_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPFORGE_ENTRY", "python")
    x = tf.placeholder(tf.float64, [2, None], name="x")
    with tf.Session(config=config("numba")) as session:
        step = session.make_callable(tf.reduce_sum(x, axis=1), [x])
        assert type(step).__name__ == "PythonStep"
        np.testing.assert_array_equal(step([[1, 2, 3], [4, 5, 6]]), [6, 15])


def test_other_sizes_and_variants_hand_over() -> None:
    x = tf.placeholder(tf.float32, [None], name="x")
    y = tf.placeholder(tf.float32, [None], name="y")
    with tf.Session(config=config("numba")) as session:
        step = session.make_callable(x + y, [x, y])
        for n, m in ((3, 3), (5, 5), (1, 4), (3, 3), (1, 2)):
            got = step(np.ones(n, np.float32), np.arange(m, dtype=np.float32))
            np.testing.assert_array_equal(got, np.arange(max(n, m)) + 1.0)


def test_without_numba_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    numba_library.numba.cache_clear()
    try:
        with (
            tf.Session(config=config("numba")) as session,
            pytest.raises(ImportError, match=r"pip install 'stepforge\[full\]'"),
        ):
            session.run(tf.placeholder(tf.float32, name="x") * 2.0, {"x:0": 1.0})
    finally:
        numba_library.numba.cache_clear()
