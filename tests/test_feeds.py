"""What may be fed: keys, values of every kind and layout, and what is refused."""

from __future__ import annotations

import collections
import re
import types
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import stepforge as tf

NUMBERS = [
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
]


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    """A default graph for each test."""
    with tf.Graph().as_default() as made:
        yield made


@pytest.fixture
def session() -> Iterator[Any]:
    with tf.Session() as made:
        yield made


def fed(session: Any, dtype: str, value: Any, shape: Any = None) -> Any:
    """What a placeholder passes on."""
    x = tf.placeholder(dtype, shape)
    return session.run(tf.identity(x), {x: value})


# ---- keys ----------------------------------------------------------------------------------------


def test_keys_of_every_kind(session: Any) -> None:
    x = tf.placeholder(tf.float32, [], name="x")
    v = tf.Variable(1.0, name="v")
    resource = tf.Variable(1.0, name="r", use_resource=True)
    session.run(tf.global_variables_initializer())
    assert session.run(x + 1, {x: 2.0}) == 3
    for name in ("x:0", b"x:0"):
        assert session.run(x + 1, {name: 2.0}) == 3
    for key in (v, v.op.outputs[0], v.value(), "v:0", "v/read:0"):
        assert session.run(v + 1, {key: 5.0}) == 6
    assert session.run(resource, {resource: 5.0}) == 5
    for proxy in (types.MappingProxyType({x: 2.0}), collections.OrderedDict({x: 2.0})):
        assert session.run(x + 1, proxy) == 3


def test_indexed_slices_as_key(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None, 2])
    slices = tf.IndexedSlices(x, tf.placeholder(tf.int32, [None]))
    value = tf.IndexedSlicesValue(np.ones((1, 2), np.float32), np.array([3], np.int32), None)
    for given in (value, (value.values, value.indices)):
        found = session.run([x * 2, slices.indices * 2], {slices: given})
        assert [f.tolist() for f in found] == [[[2, 2]], [6]]


def test_nested_tuples(session: Any) -> None:
    a, b, c = (tf.placeholder(tf.float32, [None], name=n) for n in "abc")
    total = a + 10 * b + 100 * c
    one, two, three = (np.full(2, n, np.float32) for n in (1, 2, 3))
    for value in ((one, (two, three)), [one, [two, three]], ([1, 1], ((2, 2), three))):
        assert session.run(total, {(a, ("b:0", c)): value}).tolist() == [321, 321]
    for wrong in (one, (one,), (one, two), (one, (two, three, one)), 3):
        with pytest.raises(ValueError, match="Could not flatten dictionary"):
            session.run(total, {(a, (b, c)): wrong})
    with pytest.raises(TypeError, match="Cannot interpret feed_dict key as Tensor"):
        session.run(total, {(a, 3): (one, two)})


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x.op,
        lambda x: "x",
        lambda x: 3,
        lambda x: None,
        lambda x: "nothing:0",
        lambda x: "x:1",
        lambda x: "x:y",
        lambda x: tf.float32,
    ],
)
def test_keys_that_are_no_tensor(session: Any, make: Any) -> None:
    x = tf.placeholder(tf.float32, [], name="x")
    with pytest.raises(TypeError, match="Cannot interpret feed_dict key as Tensor"):
        session.run(x, {make(x): 1.0})


def test_a_key_of_another_graph(session: Any) -> None:
    c = tf.constant(1)
    with tf.Graph().as_default():
        other = tf.placeholder(tf.float32)
    text = r"Cannot interpret feed_dict key as Tensor: .* is not an element of this graph"
    with pytest.raises(TypeError, match=text):
        session.run(c, {other: 1.0})


@pytest.mark.parametrize("feeds", [[1], 3, "x", [("x:0", 1)]])
def test_feeds_that_are_no_mapping(session: Any, feeds: Any) -> None:
    x = tf.placeholder(tf.float32, name="x")
    with pytest.raises(TypeError, match="mapping"):
        session.run(x, feeds)


def test_no_feeds(session: Any) -> None:
    c = tf.constant(1)
    for feeds in (None, {}, collections.OrderedDict()):
        assert session.run(c, feeds) == session.run(c, feed_dict=feeds) == 1


def test_one_tensor_by_object_and_by_name(session: Any) -> None:
    x = tf.placeholder(tf.float32, [], name="x")
    assert session.run(x + 0, {x: 1.0, "x:0": 2.0}) == 2
    assert session.run(x + 0, {"x:0": 2.0, x: 1.0}) == 1


# ---- where feeds cut -----------------------------------------------------------------------------


def test_an_intermediate_cuts_the_graph(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None])
    v = tf.Variable([1.0])
    calls: list[int] = []
    noisy = tf.py_func(lambda a: calls.append(1) or a, [x * v], tf.float32)
    noisy.set_shape([None])
    y = noisy + 1
    assert session.run(y, {noisy: [1, 2]}).tolist() == [2, 3]  # neither fed nor initialised
    assert calls == []
    hidden = tf.square(x)
    (gradient,) = tf.gradients(hidden * hidden, hidden)
    assert session.run(gradient, {hidden: [3]}).tolist() == [6]


def test_a_fed_output_leaves_the_other_outputs(session: Any) -> None:
    x = tf.placeholder(tf.float32, [4])
    first, second = tf.split(x, 2)
    found = session.run([first + 0, second + 0], {x: [1, 2, 3, 4], first: [8, 9]})
    assert [f.tolist() for f in found] == [[8, 9], [3, 4]]


def test_constants_may_be_fed(session: Any) -> None:
    x = tf.placeholder(tf.float32, [3, 2])
    c, shape = tf.constant(2.0), tf.constant([2, 3])
    y = c * 3 + 1
    assert session.run([y, c], {c: 5.0}) == [16, 5]
    assert session.run([y, c]) == [7, 2]
    z = tf.reshape(x, shape)
    assert session.run(z, {x: np.ones((3, 2)), shape: [3, 2]}).shape == (3, 2)
    assert session.run(z, {x: np.ones((3, 2))}).shape == (2, 3)


def test_a_fed_variable_is_replaced_where_it_is_read(session: Any) -> None:
    v = tf.Variable([1.0, 2.0])
    assign, add = v.assign([7.0, 8.0]), v.assign_add([1.0, 1.0])
    y = v + 1
    assert session.run(y, {v: [5, 6]}).tolist() == [6, 7]  # it has no value of its own yet
    session.run(v.initializer)
    assert session.run([y, v], {v: [5, 6]})[1].tolist() == [5, 6]
    assert session.run(v).tolist() == [1, 2]
    found = session.run([y, assign], {v: [5, 6]})
    assert [f.tolist() for f in found] == [[6, 7], [7, 8]]
    assert session.run(v).tolist() == [7, 8]
    assert session.run(add, {v: [5, 6]}).tolist() == [8, 9]  # an update is no read
    with tf.control_dependencies([assign]):
        after = v + 1
    assert session.run(after, {v: [5, 6]}).tolist() == [6, 7]


def test_a_fed_assignment_does_not_run(session: Any) -> None:
    v = tf.Variable(1.0)
    session.run(v.initializer)
    assign = v.assign(5.0)
    twice = tf.assign_add(assign, 1.0)
    assert session.run(assign * 2, {assign: 10.0}) == 20
    assert session.run(v) == 1
    assert session.run(twice, {assign: 10.0}) == 2  # the variable behind is still found
    assert session.run(v) == 2


def test_a_default_is_used_where_nothing_is_fed(session: Any) -> None:
    x = tf.placeholder_with_default(tf.constant([1.0, 2.0]), [None])
    assert session.run(x + 1).tolist() == [2, 3]
    assert session.run(x + 1, {x: [5]}).tolist() == [6]


def test_unneeded_feeds_are_looked_at(session: Any) -> None:
    c = tf.constant(1)
    x = tf.placeholder(tf.float32, [2])
    assert session.run(c, {x: [1, 2]}) == 1
    with pytest.raises(ValueError, match="Cannot feed value of shape"):
        session.run(c, {x: [1]})
    with pytest.raises(ValueError, match="could not convert string"):
        session.run(c, {x: "abc"})
    with pytest.raises(TypeError, match=r"cannot be a tf\.Tensor"):
        session.run(c, {x: tf.zeros(2)})


# ---- fed and fetched -----------------------------------------------------------------------------


def test_what_is_fed_and_fetched_is_the_array_itself(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None])
    array = np.ones(3, np.float32)
    for _ in range(3):
        assert session.run(x, {x: array}) is array
        found = session.run([x, x + 1], {x: array})
        assert found[0] is array
    converted = session.run(x, {x: [1, 2]})
    assert converted.dtype == np.float32
    assert converted.tolist() == [1, 2]


def test_a_number_fed_and_fetched_is_an_array(session: Any) -> None:
    x = tf.placeholder(tf.float32, [])
    for value in (1, 1.0, np.float32(1), np.float64(1), True, np.array(1)):
        for _ in range(3):
            found = session.run(x, {x: value})
            assert type(found) is np.ndarray
            assert (found.dtype, found.shape, found[()]) == (np.float32, (), 1)


def test_text_fed_and_fetched_stays_text(session: Any) -> None:
    x, words = tf.placeholder(tf.string, []), tf.placeholder(tf.string, [None])
    for value in ("abc", b"abc"):
        found = session.run(x, {x: value})
        assert type(found) is np.ndarray
        assert found[()] == value
    assert session.run(words, {words: ["a", b"b\0"]}).tolist() == ["a", b"b\0"]


# ---- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NUMBERS, "bool", "bfloat16"])
def test_every_dtype_and_shape_comes_through(session: Any, name: str) -> None:
    dtype = np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
    x, unknown = tf.placeholder(name, [None, None, None]), tf.placeholder(name)
    y = [tf.identity(x), tf.identity(unknown)]
    for shape in ((2, 3, 4), (2, 0, 6), (1, 1, 1)):
        array = (np.arange(np.prod(shape)).reshape(shape) % 3).astype(dtype)
        for found in session.run(y, {x: array, unknown: array}):
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("name", ["float32", "int64", "complex64", "bool"])
def test_layouts(session: Any, name: str) -> None:
    x = tf.placeholder(name, [None, None])
    y = tf.identity(x)
    base = (np.arange(24).reshape(4, 6) % 5).astype(name)
    swapped = base.astype(base.dtype.newbyteorder())
    read_only = base.copy()
    read_only.setflags(write=False)
    memory = np.empty(base.nbytes + 1, np.uint8)
    unaligned = memory[1:].view(name).reshape(base.shape)
    unaligned[...] = base
    arrays = [
        np.asfortranarray(base), base[::2, ::-1], base.T, base[:, :0],
        np.broadcast_to(base[:1], (3, 6)), swapped, read_only, unaligned,
        np.ma.masked_array(base, base == 1), base.view(np.matrix),
    ]  # fmt: skip
    for array in arrays:
        for _ in range(2):
            np.testing.assert_array_equal(session.run(y, {x: array}), np.asarray(array))


def test_whatever_numpy_makes_an_array_of(session: Any) -> None:
    class Convertible:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
            return np.array([1.0, 2.0])

    values = [
        [1, 2], (1, 2), [True, 2.0], np.array([1, 2]), [np.float32(1), np.int8(2)], range(1, 3),
        memoryview(np.array([1.0, 2.0])), bytearray(b"\1\2"), Convertible(), ["1", "2"],
        np.array([1, 2], object),
    ]  # fmt: skip
    for value in values:
        assert fed(session, "float32", value, [2]).tolist() == [1, 2], value


def test_conversions_are_numpys(session: Any) -> None:
    assert fed(session, "int32", [1.9, -1.9]).tolist() == [1, -1]
    assert fed(session, "int32", 1.9) == 1
    with pytest.warns(RuntimeWarning, match="overflow"):
        assert fed(session, "float32", np.float64(1e300)) == np.inf
    assert fed(session, "float32", np.array([0.1])) == np.float32(0.1)
    assert np.isnan(fed(session, "float32", None))
    assert np.isnan(fed(session, "float64", [1.0, None])).tolist() == [False, True]
    assert fed(session, "float32", "1.5") == 1.5
    assert fed(session, "bool", [0, 2, 0.5]).tolist() == [False, True, True]
    with pytest.warns(np.exceptions.ComplexWarning):
        assert fed(session, "float32", 1 + 2j) == 1


def test_lists_and_arrays_of_large_ints_wrap(session: Any) -> None:
    assert fed(session, "int32", [2**40 + 5]).tolist() == [5]
    assert fed(session, "uint8", np.array([300])).tolist() == [44]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("int32", 2**40), ("uint8", 300), ("uint8", -1), ("int8", 128), ("bool", 2), ("string", 1),
     ("int64", 2**70)],
)  # fmt: skip
def test_bare_ints_that_do_not_fit(session: Any, dtype: str, value: int) -> None:
    x = tf.placeholder(dtype)
    y = tf.identity(x)
    for run in (lambda: session.run(y, {x: value}), lambda: session.make_callable(y, [x])(value)):
        with pytest.raises(TypeError, match="is not compatible with Tensor type"):
            run()


def test_text(session: Any) -> None:
    given = ["a", b"b\0", "é\0", np.str_("n"), np.bytes_(b"o")]
    want = [b"a", b"b\0", "é\0".encode(), b"n", b"o"]
    assert fed(session, "string", given).tolist() == want
    assert fed(session, "string", np.array(["ab", "c"])).tolist() == [b"ab", b"c"]
    assert fed(session, "string", np.array([[b"ab", b"c"]])).tolist() == [[b"ab", b"c"]]
    assert fed(session, "string", "é") == "é".encode()
    assert fed(session, "string", np.array([], object), [None]).shape == (0,)
    with pytest.raises(TypeError, match="is not a string"):
        fed(session, "string", [1, 2])


def test_unknown_ranks(session: Any) -> None:
    x = tf.placeholder(tf.float32)
    y = tf.reduce_sum(x) + 2 * x
    for value, want in ((3, 9.0), ([1, 2], [5, 7]), ([[1], [2]], [[5], [7]])):
        for _ in range(2):
            assert session.run(y, {x: value}).tolist() == want


# ---- values that are refused ---------------------------------------------------------------------


def test_tensors_are_no_values(session: Any) -> None:
    x = tf.placeholder(tf.float32, name="x")
    y, value, variable = x + 1, tf.constant(1.0, name="value"), tf.Variable(1.0)
    runs = [
        lambda v: session.run(y, {x: v}),
        lambda v: y.eval({x: v}),
        lambda v: y.op.run({x: v}),
        lambda v: session.make_callable(y, [x])(v),
    ]
    for run in runs:
        for given in (value, variable):
            with pytest.raises(TypeError, match=r"value of a feed cannot be a tf\.Tensor object"):
                run(given)
    with pytest.raises(TypeError, match=r'object was Tensor\("value:0".*key Tensor\("x:0"'):
        session.run(y, {x: value})


def test_values_that_are_no_arrays(session: Any) -> None:
    x = tf.placeholder(tf.int32, name="x")
    with pytest.raises(ValueError, match="inhomogeneous"):
        session.run(x, {x: [[1], [2, 3]]})
    with pytest.raises(TypeError, match="generator"):
        session.run(x, {x: (i for i in range(3))})
    with pytest.raises((TypeError, ValueError), match="x:0"):
        session.run(x, {x: object()})
    with pytest.raises((TypeError, ValueError), match="x:0"):
        session.run(x, {x: {"a": 1}})


@pytest.mark.parametrize(
    ("shape", "value", "text"),
    [
        ([None, 2], [1.0], "(1,) for Tensor x:0, which has shape (?, 2)"),
        ([None, 2], np.zeros((2, 3)), "(2, 3) for Tensor x:0, which has shape (?, 2)"),
        ([], [1.0], "(1,) for Tensor x:0, which has shape ()"),
        ([3], 1.0, "() for Tensor x:0, which has shape (3,)"),
        ([None], np.zeros((2, 0)), "(2, 0) for Tensor x:0, which has shape (?,)"),
    ],
)
def test_static_shapes(session: Any, shape: Any, value: Any, text: str) -> None:
    text = re.escape("Cannot feed value of shape " + text)
    x = tf.placeholder(tf.float32, shape, name="x")
    y = x + 1
    for run in (lambda: session.run(y, {x: value}), lambda: session.make_callable(y, [x])(value)):
        with pytest.raises(ValueError, match=text):
            run()


def test_the_static_shape_of_any_key_counts(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None])
    y = tf.reshape(x, [2, 3], name="y")
    c = tf.constant([1.0, 2.0])
    for key in (y, c, "y:0"):
        with pytest.raises(ValueError, match="Cannot feed value of shape"):
            session.run(y * 2, {key: [1.0, 2.0, 3.0]})


def test_set_shape_of_a_placeholder_is_checked(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None, None])
    y = x * 2
    x.set_shape([None, 3])
    assert session.run(y, {x: np.ones((1, 3))}).tolist() == [[2, 2, 2]]
    with pytest.raises(ValueError, match="Cannot feed value of shape"):
        session.run(y, {x: np.ones((1, 2))})


def test_a_feed_may_be_the_array_of_an_earlier_result(session: Any) -> None:
    x, z = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.float32, [None])
    v = tf.Variable([1.0, 2.0])
    session.run(v.initializer)
    value = session.run(v)
    for _ in range(3):
        value = session.run(x * 2 + z, {x: value, z: value})
    assert value.tolist() == [27, 54]
    session.run(v.assign(x), {x: value})
    value[:] = 0
    assert session.run(v).tolist() == [27, 54]
