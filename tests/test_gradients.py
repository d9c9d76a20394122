"""``tf.gradients``: values against finite differences and TensorFlow, its arguments, clipping."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import stepforge as tf

X = [0.7, -1.3, 0.4]
Y = [[1.0, 2.0, 3.0], [0.5, -0.5, 2.5]]


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    with tf.Graph().as_default() as made:
        yield made


def run(*fetches: Any, feed: dict[Any, Any] | None = None) -> list[Any]:
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return session.run(list(fetches), feed)  # type: ignore[no-any-return]


# ---- against finite differences ------------------------------------------------------------------
FORMULAS: dict[str, Callable[[Any, Any], Any]] = {
    "broadcast": lambda x, y: x * y + y / (x + 3.0) - x,
    "matmul": lambda x, y: tf.matmul(y, y, transpose_b=True) * x[0],
    "mean": lambda x, y: tf.reduce_mean(y, 0) * x + tf.reduce_mean(tf.square(y)),
    "softmax": lambda x, y: tf.nn.softmax(y)[:, 1] * tf.reduce_sum(x),
    "product": lambda x, y: tf.reduce_prod(y, 1) * x[1],
    "concat": lambda x, y: tf.concat([y, tf.expand_dims(x, 0)], 0) ** 2,
    "split": lambda x, y: tf.split(y, 3, 1)[1] * tf.unstack(x)[2],
    "gather": lambda x, y: tf.gather(y, [1, 1, 0]) ** 2 * x,
    "chain": lambda x, y: tf.tanh(tf.exp(-tf.square(x)) * tf.sigmoid(y)),
    "used twice": lambda x, y: x * x * x + tf.reduce_sum(y * y * x),
    "reshaped": lambda x, y: tf.reshape(tf.transpose(y), [-1])[1:5] * x[2],
    "norm": lambda x, y: tf.clip_by_norm(y, 2.0) * x,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_finite_differences(name: str) -> None:
    values = [np.array(X), np.array(Y)]
    inputs = [tf.placeholder(tf.float64, v.shape) for v in values]
    loss = tf.reduce_sum(FORMULAS[name](*inputs) * 1.5)
    grads = [tf.convert_to_tensor(g) for g in tf.gradients(loss, inputs)]
    session = tf.Session()
    step = session.make_callable(loss, inputs)
    found = session.run(grads, dict(zip(inputs, values, strict=True)))
    for which, value in enumerate(values):
        for index in np.ndindex(value.shape):
            slope = 0.0
            for sign in (1, -1):
                moved = [v.copy() for v in values]
                moved[which][index] += sign * 1e-5
                slope += sign * float(step(*moved)) / 2e-5
            np.testing.assert_allclose(found[which][index], slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("sizes", [(4, 1), (1, 3), (4, 3)])
def test_broadcasting_of_unknown_sizes(sizes: tuple[int, int]) -> None:
    """What is summed depends on the sizes that are fed."""
    a = tf.placeholder(tf.float32, [None, None])
    b = tf.placeholder(tf.float32, [4, 3])
    grad = tf.gradients(a * b, a)[0]
    assert grad.shape.as_list() == [None, None]
    values = np.ones(sizes, np.float32), np.arange(12, dtype=np.float32).reshape(4, 3)
    axes = tuple(i for i, n in enumerate(sizes) if n == 1)
    (found,) = run(grad, feed={a: values[0], b: values[1]})
    np.testing.assert_array_equal(found, values[1].sum(axes, keepdims=True))


# ---- TensorFlow's conventions --------------------------------------------------------------------
@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (lambda x: tf.maximum(x, 0.0), [1, 0, 1]),
        (lambda x: tf.nn.relu(x), [1, 0, 0]),
        (lambda x: tf.abs(x), [1, -1, 0]),
        (lambda x: tf.sqrt(tf.abs(x)), [0.5, -0.35355338, np.nan]),
        (lambda x: tf.reduce_max(x[0] * tf.constant([1.0, 1.0])), [1, 0, 0]),
        (lambda x: tf.clip_by_value(x, -1.0, 0.5), [0, 0, 1]),
        (lambda x: tf.where(x > 0, x * 2, tf.exp(x)), [2, np.exp(-2), 1]),
    ],
)
def test_conventions(formula: Callable[[Any], Any], expected: list[float]) -> None:
    x = tf.Variable([1.0, -2.0, 0.0])
    np.testing.assert_allclose(run(*tf.gradients(formula(x), x))[0], expected, rtol=1e-6)


def test_second_order_and_hessians() -> None:
    x = tf.Variable([1.0, -2.0, 3.0])
    first = tf.gradients(x**3, x)[0]
    np.testing.assert_allclose(run(*tf.gradients(first, x))[0], [6, -12, 18])
    (hessian,) = run(*tf.hessians(tf.reduce_sum(x**3) + x[0] * x[1], [x]))
    np.testing.assert_allclose(hessian, [[6, 1, 0], [1, -12, 0], [0, 0, 18]])
    p = tf.placeholder(tf.float32, [None])
    with pytest.raises(ValueError, match="must have a static shape"):
        tf.hessians(p * p, p)


# ---- arguments -----------------------------------------------------------------------------------
def test_unconnected() -> None:
    x, y = tf.Variable(1.0), tf.Variable([2.0, 3.0])
    assert tf.gradients(x * 2, y) == [None]
    zeros = tf.gradients(x * 2, [y], unconnected_gradients="zero")
    np.testing.assert_array_equal(run(*zeros)[0], [0, 0])
    with pytest.raises(ValueError, match="Unknown value for unconnected_gradients: 'foo'"):
        tf.gradients(x, y, unconnected_gradients="foo")
    assert tf.gradients(tf.stop_gradient(x), x) == [None]
    assert tf.gradients(tf.cast(x, tf.int32), x) == [None]
    assert tf.gradients(tf.constant(1), x) == [None]


def test_several_ys_and_grad_ys() -> None:
    x = tf.Variable([1.0, 2.0])
    given = tf.constant([1.0, 10.0])
    both = tf.gradients([x * x, x], x, grad_ys=[None, given])[0]
    np.testing.assert_allclose(run(both)[0], [3, 14])
    with pytest.raises(ValueError, match=r"Length mismatch\. Passed 2 grad_ys for 1 ys"):
        tf.gradients(x, x, grad_ys=[given, given])
    with pytest.raises(TypeError, match="Gradients of complex tensors"):
        tf.gradients(tf.complex(1.0, 1.0), x)


def test_intermediates_and_stops() -> None:
    x = tf.Variable(3.0)
    a = x * 2
    b = a * a
    np.testing.assert_allclose(run(*tf.gradients(b, [a, x])), [12, 24])
    assert tf.gradients(b, x, stop_gradients=a) == [None]
    np.testing.assert_allclose(run(*tf.gradients(b + a, [a, x], stop_gradients=[b])), [1, 2])


@pytest.mark.parametrize("resource", [False, True])
def test_slices(resource: bool) -> None:
    table = tf.Variable(np.arange(6.0).reshape(3, 2), dtype=tf.float32, use_resource=resource)
    (one,) = tf.gradients(tf.gather(table, [2, 0, 2]) * 3, table)
    assert isinstance(one, tf.IndexedSlices)
    values, indices = run(one.values, one.indices)
    np.testing.assert_array_equal(indices, [2, 0, 2])
    np.testing.assert_array_equal(values, np.full((3, 2), 3))
    (two,) = tf.gradients(tf.gather(table, [0]) * 2 + tf.gather(table, [1]), table)
    assert isinstance(two, tf.IndexedSlices)
    np.testing.assert_array_equal(run(tf.convert_to_tensor(two))[0], [[2, 2], [1, 1], [0, 0]])
    (dense,) = tf.gradients(tf.gather(table, [0]) + tf.reduce_sum(table), table)
    np.testing.assert_array_equal(run(dense)[0], [[3, 3], [2, 2], [2, 2]])


# ---- structure -----------------------------------------------------------------------------------
def test_names() -> None:
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    w, b = tf.Variable(tf.ones([3, 2]), name="w"), tf.Variable(tf.zeros([2]), name="b")
    y = tf.nn.relu(tf.matmul(x, w) + b)
    loss = tf.reduce_mean(tf.square(y) + y)
    found = tf.gradients(loss, [w, x])
    assert [g.name for g in found] == [
        "gradients/MatMul_grad/MatMul_1:0",
        "gradients/MatMul_grad/MatMul:0",
    ]
    names = [op.name for op in tf.get_default_graph().get_operations()]
    assert "gradients/grad_ys_0" in names
    assert "gradients/AddN" in names
    assert tf.gradients(loss, w, name="mine")[0].name.startswith("mine/")
    assert tf.gradients(loss, w)[0].name.startswith("gradients_1/")
    assert found[1].shape.as_list() == [None, 3]


def test_only_what_lies_between_is_visited() -> None:
    x = tf.Variable(1.0, name="x")
    aside = tf.py_func(lambda v: v, [x], tf.float32)  # has no gradient, and needs none
    y = x * 2
    before = len(tf.get_default_graph().get_operations())
    assert tf.gradients(y + tf.stop_gradient(aside), [y])[0] is not None
    names = [op.name for op in tf.get_default_graph().get_operations()][before:]
    assert not any("mul_grad" in name for name in names)


def test_registered_gradients(graph: Any) -> None:
    name = f"Thrice{id(graph)}"
    tf.RegisterGradient(name)(lambda op, grad: grad * 3.0)
    x = tf.Variable([1.0, 2.0])
    with graph.gradient_override_map({"Square": name}):
        y = tf.square(x)
    np.testing.assert_array_equal(run(*tf.gradients(y, x))[0], [3, 3])
    np.testing.assert_array_equal(run(*tf.gradients(tf.square(x), x))[0], [2, 4])
    with pytest.raises(KeyError, match="Registering two gradient with name"):
        tf.RegisterGradient(name)(lambda op, grad: grad)


def test_custom_gradients() -> None:
    @tf.custom_gradient
    def doubled(x: Any, y: Any) -> Any:
        return x * y, lambda upstream: (upstream * 2.0, upstream * 5.0)

    x, y = tf.Variable([1.0, 2.0]), tf.Variable([3.0, 4.0])
    z = doubled(x, y)
    value, *slopes = run(z, *tf.gradients(z * 10.0, [x, y]))
    np.testing.assert_array_equal(value, [3, 8])
    np.testing.assert_array_equal(slopes, [[20, 20], [50, 50]])


def test_feeding_an_intermediate_cuts() -> None:
    x = tf.placeholder(tf.float32, [3])
    hidden = x * 2
    grad = tf.gradients(hidden * hidden, hidden)[0]
    (found,) = run(grad, feed={hidden: [1.0, 2.0, 3.0]})
    np.testing.assert_array_equal(found, [2, 4, 6])


# ---- clipping ------------------------------------------------------------------------------------
def test_global_norm_and_clipping() -> None:
    x, y = tf.constant([3.0, 0.0]), tf.constant([[4.0]])
    (norm,) = run(tf.global_norm([x, None, y]))
    assert norm == 5.0
    clipped, found = tf.clip_by_global_norm([x, None, y], 1.0)
    assert clipped[1] is None
    values = run(clipped[0], clipped[2], found)
    np.testing.assert_allclose(values[0], [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(values[1], [[0.8]], rtol=1e-6)
    kept, _ = tf.clip_by_global_norm([x], 10.0)
    np.testing.assert_allclose(run(kept[0])[0], [3, 0])
    endless, _ = tf.clip_by_global_norm([tf.constant([np.inf, 1.0])], 1.0)
    assert np.isnan(run(endless[0])[0]).all()
    with pytest.raises(TypeError, match="`t_list` should be a sequence of tensors"):
        tf.global_norm(x)


def test_clip_by_norm() -> None:
    y = tf.constant([[3.0, 4.0], [0.3, 0.4]])
    whole, rows, average = run(
        tf.clip_by_norm(y, 1.0),
        tf.clip_by_norm(y, 1.0, axes=[1]),
        tf.clip_by_average_norm(y, 0.1),
    )
    value = np.array([[3.0, 4.0], [0.3, 0.4]])
    np.testing.assert_allclose(whole, value / np.linalg.norm(value), rtol=1e-6)
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.3, 0.4]], rtol=1e-6)
    np.testing.assert_allclose(average, value * 0.4 / np.linalg.norm(value), rtol=1e-6)
    with pytest.raises(ValueError, match="are incompatible"):
        tf.clip_by_value(tf.constant(1.0), [0.0, 0.0], 1.0)
