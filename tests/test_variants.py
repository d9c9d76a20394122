"""How often a step is compiled, for which sizes, and why; what is checked at run time instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import stepforge as tf


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    """A default graph for each test."""
    with tf.Graph().as_default() as made:
        yield made


@pytest.fixture
def session() -> Iterator[Any]:
    with tf.Session() as made:
        yield made


def sizes(*unknown: int | None) -> Any:
    return tf.placeholder(tf.float32, list(unknown))


def ones(*shape: int) -> np.ndarray[Any, Any]:
    return np.ones(shape, np.float32)


def compiles(session: Any) -> int:
    count: int = session.cache_info()["compiles"]
    return count


def last_reason(session: Any) -> str:
    reason: str = session.cache_info()["history"][-1]["reason"]
    return reason


# ---- how often -----------------------------------------------------------------------------------


def test_twenty_batch_sizes_compile_once(session: Any) -> None:
    x = sizes(None, 3)
    w = tf.Variable(ones(3, 2))
    session.run(w.initializer)
    y = tf.nn.softmax(tf.matmul(x, w) + tf.reduce_mean(x))
    step = session.make_callable(y, [x])
    before = compiles(session)
    for size in range(20):
        np.testing.assert_allclose(session.run(y, {x: ones(size, 3)}), np.full((size, 2), 0.5))
        assert step(ones(size, 3)).shape == (size, 2)
    assert compiles(session) == before == 2


def test_twenty_sizes_through_lists_compile_once(session: Any) -> None:
    x = sizes(None)
    y = tf.reduce_sum(x)
    for size in range(20):
        assert session.run(y, {x: [1] * size}) == size
    assert compiles(session) == 1


def test_another_dtype_compiles_nothing(session: Any) -> None:
    x = sizes(None)
    y = x * 2
    for dtype in ("float32", "float64", "int32", "int8", "bool", "float16"):
        for _ in range(2):
            assert session.run(y, {x: np.ones(2, dtype)}).tolist() == [2, 2]
    assert compiles(session) == 1


def test_alternating_broadcasts_compile_twice(session: Any) -> None:
    a, b = sizes(None), sizes(None)
    y = a + b
    for _ in range(4):
        assert session.run(y, {a: ones(3), b: ones(3)}).tolist() == [2] * 3
        assert session.run(y, {a: ones(5), b: ones(1)}).tolist() == [2] * 5
        assert session.run(y, {a: ones(1), b: ones(1)}).tolist() == [2]
    assert compiles(session) == 2
    assert session.run(y, {a: ones(1), b: ones(4)}).tolist() == [2] * 4
    assert compiles(session) == 3


def test_the_order_of_feeds_does_not_matter(session: Any) -> None:
    a, b = tf.placeholder(tf.float32, name="a"), tf.placeholder(tf.float32, name="b")
    y = a - b
    for _ in range(2):
        assert session.run(y, {a: 5.0, b: 3.0}) == session.run(y, {b: 3.0, a: 5.0}) == 2
        assert session.run(y, {"b:0": 3.0, a: 5.0}) == session.run({"y": y}, {b: 3, a: 5})["y"] == 2
    assert session.cache_info()["steps"] == 2  # one tensor, and a list of it to be packed
    forward, backward = session.make_callable(y, [a, b]), session.make_callable(y, [b, a])
    assert forward(5.0, 3.0) == backward(3.0, 5.0) == 2


def test_the_graph_may_grow_without_compiling_again(session: Any) -> None:
    x = sizes(None)
    y = x * 2
    session.run(y, {x: [1]})
    for _ in range(5):
        tf.constant(1.0) + y
        session.run(y, {x: [1]})
    assert compiles(session) == 1


# ---- why -----------------------------------------------------------------------------------------


def test_reasons(session: Any) -> None:
    x, a, b = tf.placeholder(tf.float32, name="x"), sizes(None), sizes(None)
    y = x * 2
    session.run(y, {x: 1})
    assert last_reason(session) == "first run of these fetches and feeds"
    session.run(y, {x: [1]})
    assert last_reason(session) == "x:0 has rank 1, not 0 as in the variant before"
    session.make_callable(a + 1, [a])
    assert last_reason(session) == "make_callable"
    total = tf.add(a, b, name="total")
    session.run(total, {a: ones(2), b: ones(2)})
    session.run(total, {a: ones(2), b: ones(1)})
    want = "Placeholder_1:0 has size 1 in axis 0, not Placeholder_0 = 2 as in the variant before"
    assert last_reason(session) == want
    session.run(total, {a: ones(1), b: ones(3)})
    want = "Placeholder_1:0 has size 3 in axis 0, not 1 as in the variant before"
    assert last_reason(session) == want


def test_reasons_of_variables_and_equations(session: Any) -> None:
    v = tf.Variable([1.0], validate_shape=False, name="v")
    session.run(v.initializer)
    y = v + 1
    session.run(y)
    session.run(tf.assign(v, [[1.0, 2.0]], validate_shape=False))
    assert session.run(y).tolist() == [[2, 3]]
    assert last_reason(session) == "variable v has rank 2, not 1 as in the variant before"
    a, b, c = sizes(None), sizes(None, None), sizes(None, None)
    z = a + tf.reshape(b * c, [-1])
    session.run(z, {a: ones(6), b: ones(2, 3), c: ones(2, 3)})
    session.run(z, {a: ones(1), b: ones(2, 3), c: ones(2, 3)})
    assert "Placeholder:0 has size 1 in axis 0" in last_reason(session)


def test_history(session: Any) -> None:
    x = sizes(None)
    session.run(tf.multiply(x, 2.0, name="y"), {x: [1]})
    info = session.cache_info()
    (entry,) = info["history"]
    assert entry["step"] == "y"
    assert entry["feeds"] == ["f32[Placeholder_0]"]
    assert entry["native"]
    assert info["seconds"] == entry["seconds"] > 0
    assert info["steps"] == info["compiles"] == 1


# ---- which sizes ---------------------------------------------------------------------------------


def test_sizes_that_must_be_equal(session: Any) -> None:
    a, b, c = sizes(None, None), sizes(None, None), sizes(None)
    y = tf.matmul(a, b) + c
    for m, k, n in ((2, 3, 4), (5, 1, 2), (1, 1, 1), (0, 3, 2), (2, 0, 3)):
        found = session.run(y, {a: ones(m, k), b: ones(k, n), c: ones(n)})
        np.testing.assert_array_equal(found, np.full((m, n), k + 1))
    assert compiles(session) == 1
    with pytest.raises(tf.errors.InvalidArgumentError, match="Matrix size-incompatible") as error:
        session.run(y, {a: ones(2, 3), b: ones(2, 3), c: ones(3)})
    assert error.value.op.type == "MatMul"


def test_every_broadcast_of_three_operands(session: Any) -> None:
    operands = [sizes(None, None) for _ in range(3)]
    a, b, c = operands
    y = a * b + c
    rng = np.random.default_rng(0)
    for _ in range(24):
        shapes = [tuple(rng.choice([1, n]) for n in (2, 3)) for _ in range(3)]
        values = [rng.integers(0, 5, shape).astype(np.float32) for shape in shapes]
        want = values[0] * values[1] + values[2]
        for _ in range(2):
            found = session.run(y, dict(zip(operands, values, strict=True)))
            np.testing.assert_array_equal(found, want)


def test_broadcasts_of_empty_arrays(session: Any) -> None:
    a, b = sizes(None), sizes(None)
    y = a + b
    for left, right, size in ((0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 1)):
        assert session.run(y, {a: ones(left), b: ones(right)}).shape == (size,)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"shapes: \[0\] vs. \[2\]"):
        session.run(y, {a: ones(0), b: ones(2)})


def test_equations_of_products(session: Any) -> None:
    a, b, c = sizes(None, None), sizes(None), sizes(None)
    y = tf.reshape(a, [-1]) + b * c
    for rows, columns in ((2, 3), (1, 1), (4, 1), (0, 3)):
        count = rows * columns
        found = session.run(y, {a: ones(rows, columns), b: ones(count), c: ones(count)})
        assert found.tolist() == [2] * count
    found = session.run(y, {a: ones(2, 3), b: ones(1), c: ones(1)})
    assert found.tolist() == [2] * 6
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"shapes: \[6\] vs. \[5\]"):
        session.run(y, {a: ones(2, 3), b: ones(5), c: ones(5)})
    found = session.run(y, {a: ones(1, 1), b: ones(5), c: ones(1)})
    assert found.tolist() == [2] * 5


def test_a_size_that_a_sum_of_others_must_be(session: Any) -> None:
    a, b, c = sizes(None), sizes(None), sizes(None)
    y = tf.concat([a, b], 0) * c
    for n, m in ((2, 3), (1, 0), (0, 1)):
        assert session.run(y, {a: ones(n), b: ones(m), c: ones(n + m)}).shape == (n + m,)
    assert compiles(session) == 1
    assert session.run(y, {a: ones(2), b: ones(3), c: ones(1)}).shape == (5,)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Incompatible shapes"):
        session.run(y, {a: ones(2), b: ones(3), c: ones(4)})


def test_callables_of_unknown_sizes_choose_as_runs_do(session: Any) -> None:
    a, b = sizes(None, None), sizes(None)
    step = session.make_callable(a + b, [a, b])
    for shape, size in (((2, 3), 3), ((2, 3), 1), ((4, 1), 5), ((1, 1), 1), ((2, 3), 3)):
        found = step(ones(*shape), ones(size))
        assert found.shape == (shape[0], max(shape[1], size))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[2,3\] vs. \[2\]"):
        step(ones(2, 3), ones(2))


def test_variables_and_feeds_share_sizes(session: Any) -> None:
    v = tf.Variable([1.0, 2.0], validate_shape=False)
    x = sizes(None)
    y = v * x
    session.run(v.initializer)
    assert session.run(y, {x: [1, 1]}).tolist() == [1, 2]
    assert session.run(y, {x: [3]}).tolist() == [3, 6]
    session.run(tf.assign(v, [1.0, 2.0, 3.0], validate_shape=False))
    assert session.run(y, {x: [1, 1, 1]}).tolist() == [1, 2, 3]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"shapes: \[3\] vs. \[2\]"):
        session.run(y, {x: [1, 1]})


def test_set_shape_is_checked_when_a_step_runs(session: Any) -> None:
    x = sizes(None, None)
    y = x * 2
    y.set_shape([None, 3])
    z = y + 1
    assert z.shape.as_list() == [None, 3]
    assert session.run(z, {x: ones(2, 3)}).shape == (2, 3)
    text = "set_shape of mul:0: 2 is not 3"
    with pytest.raises(tf.errors.InvalidArgumentError, match=text) as error:
        session.run(z, {x: ones(2, 2)})
    assert error.value.op is y.op


def test_names_that_look_alike(session: Any) -> None:
    """Names of nodes become names of sizes, symbols and parameters; none of them may meet."""
    with tf.name_scope("a"):
        first = tf.placeholder(tf.float32, [None], name="b")
    second = tf.placeholder(tf.float32, [None], name="a.b")
    third = tf.placeholder(tf.float32, [None], name="m")
    v = tf.Variable(np.arange(3, dtype=np.float32), name="const_0")
    w = tf.Variable(1.0, name="a.b_0")
    session.run([v.initializer, w.initializer])
    kept = tf.boolean_mask(third, third > 0)
    fetches = [first + 1, second + 1, kept + w, v + np.float32([1, 2, 3])]
    found = session.run(fetches, {first: ones(2), second: ones(4), third: [1, -1, 2]})
    assert [f.tolist() for f in found] == [[2] * 2, [2] * 4, [2, 3], [1, 3, 5]]
    assert session.run([v * 2, v], {v: np.zeros(3)})[0].tolist() == [0, 0, 0]
    step = session.make_callable(third * 2, [third, third])  # the last one counts
    assert step([1, 2], [3]).tolist() == [6]


# ---- sizes that only a run tells -----------------------------------------------------------------


def test_sizes_of_results_are_compared_where_they_meet(session: Any) -> None:
    a, b = sizes(None), sizes(None)
    y = tf.boolean_mask(a, a > 0) + tf.boolean_mask(b, b > 0)
    assert session.run(y, {a: [1, -1, 2], b: [3, 4]}).tolist() == [4, 6]
    for _ in range(2):
        text = r"Incompatible shapes: \[2\] vs. \[3\]"
        with pytest.raises(tf.errors.InvalidArgumentError, match=text) as e:
            session.run(y, {a: [1, 2], b: [3, 4, 5]})
        assert e.value.op is y.op
    assert session.run(y, {a: [1], b: [3, 4, 5]}).tolist() == [4, 5, 6]
    assert session.run(y, {a: [1, 2, 3], b: [1, -1]}).tolist() == [2, 3, 4]
    assert session.run(y, {a: [-1], b: [5, -1]}).tolist() == []
    assert compiles(session) == 1


def test_a_result_meets_a_known_size(session: Any) -> None:
    a = sizes(None)
    y = tf.boolean_mask(a, a > 0) * [1.0, 2.0, 3.0]
    assert session.run(y, {a: [5, -1, 5, 5]}).tolist() == [5, 10, 15]
    assert session.run(y, {a: [5, -1]}).tolist() == [5, 10, 15]
    with pytest.raises(tf.errors.InvalidArgumentError, match="Incompatible shapes"):
        session.run(y, {a: [5, 5]})


def test_a_result_meets_a_feed(session: Any) -> None:
    a, b = sizes(None), sizes(None)
    y = tf.boolean_mask(a, a > 0) * b
    assert session.run(y, {a: [5, -1, 5], b: [1, 2]}).tolist() == [5, 10]
    assert session.run(y, {a: [5, -1, 5], b: [3]}).tolist() == [15, 15]
    with pytest.raises(tf.errors.InvalidArgumentError, match="Incompatible shapes"):
        session.run(y, {a: [5, -1, 5], b: [1, 2, 3]})


def test_shapes_that_are_fed(session: Any) -> None:
    x, shape = sizes(None), tf.placeholder(tf.int32, [2])
    y = tf.reshape(x, shape) + tf.zeros(shape)
    assert session.run(y, {x: ones(6), shape: [2, 3]}).shape == (2, 3)
    assert session.run(y, {x: ones(6), shape: [6, 1]}).shape == (6, 1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="reshape"):
        session.run(y, {x: ones(6), shape: [2, 2]})
    with pytest.raises(tf.errors.InvalidArgumentError):
        session.run(tf.zeros(shape), {shape: [2, -1]})


def test_ranks_that_only_a_run_tells(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None, 2])
    y = tf.py_func(lambda a: a * 2, [x], tf.float32)
    fetches = [
        y + 1, tf.reduce_sum(y), tf.matmul(y, y, transpose_b=True), tf.shape(y),
        tf.reshape(y, [-1]), tf.gradients(tf.reduce_sum(y * x), x)[0],
    ]  # fmt: skip
    for _ in range(2):
        found = session.run(fetches, {x: [[1, 2], [3, 4]]})
        assert [f.tolist() for f in found] == [
            [[3, 5], [7, 9]], 20, [[20, 44], [44, 100]], [2, 2], [2, 4, 6, 8], [[2, 4], [6, 8]],
        ]  # fmt: skip
    with pytest.raises(tf.errors.InvalidArgumentError, match="Matrix size-incompatible") as error:
        session.run(tf.matmul(y, y, name="bad"), {x: ones(3, 2)})
    assert error.value.op.name == "bad"


def test_a_shape_that_the_user_knows(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None, 2])
    y = tf.py_func(lambda a: a[:, : int(a[0, 0])], [x], tf.float32)
    y.set_shape([None, 2])
    z = tf.reduce_sum(y, 1) + tf.reduce_mean(x)
    assert session.run(z, {x: [[2, 2]]}).tolist() == [6]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[1,1\] cannot have shape"):
        session.run(z, {x: [[1, 1]]})
