"""What may be fetched, in which structures, and what comes back."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

import stepforge as tf
from stepforge.runtime.registered import register_session_run_conversion_functions

DTYPES = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128", "bfloat16"),
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


class Pair(NamedTuple):
    """A named tuple of fetches."""

    left: Any
    right: Any


class Attributes:
    """What the attrs package makes of a class with two attributes."""

    Attribute = collections.namedtuple("Attribute", "name")
    __attrs_attrs__ = (Attribute("first"), Attribute("second"))

    def __init__(self, first: Any, second: Any) -> None:
        self.first, self.second = first, second


# ---- structures ----------------------------------------------------------------------------------


def test_containers(session: Any) -> None:
    a, b = tf.constant(1), tf.constant([2.0])
    assert session.run([a, b]) == [1, [2.0]]
    assert session.run((a, b)) == (1, [2.0])
    assert session.run(Pair(a, b)) == Pair(1, [2.0])
    assert type(session.run(Pair(a, b))) is Pair
    assert session.run({"x": a, "y": [b, (a,)]}) == {"x": 1, "y": [[2.0], (1,)]}
    ordered = session.run(collections.OrderedDict([("z", a), ("y", b)]))
    assert type(ordered) is collections.OrderedDict
    assert list(ordered) == ["z", "y"]
    default = session.run(collections.defaultdict(list, x=a))
    assert default == {"x": 1}
    assert default.default_factory is list
    made = session.run(Attributes(a, {"b": b}))
    assert type(made) is Attributes
    assert (made.first, made.second) == (1, {"b": [2.0]})


def test_empty_containers(session: Any) -> None:
    c = tf.constant(1)
    for fetches in ([], (), {}, collections.OrderedDict(), [[], {}, ()], {"x": []}):
        assert session.run(fetches) == fetches
        assert type(session.run(fetches)) is type(fetches)
    assert session.run([c, [], {"x": ()}]) == [1, [], {"x": ()}]


def test_subclasses_of_list_and_tuple(session: Any) -> None:
    class Items(list[Any]):
        pass

    class Row(tuple[Any, ...]):
        __slots__ = ()

    c = tf.constant(1)
    assert type(session.run(Items([c]))) is list
    assert session.run(Row([c])) == (1,)


def test_operations_give_none(session: Any) -> None:
    v = tf.Variable(1.0)
    assert session.run(v.initializer) is None
    assert session.run([v.initializer, tf.no_op(), v]) == [None, None, 1]
    assert session.run({"op": v.initializer}) == {"op": None}
    assert session.run(v.initializer.name) is None


def test_names(session: Any) -> None:
    tf.constant(3.0, name="a")
    for name in ("a:0", b"a:0", np.str_("a:0")):
        assert session.run(name) == 3
        assert session.run([name, {"x": name}]) == [3, {"x": 3}]
    for name in ("a", b"a"):
        assert session.run(name) is None


def test_variables(session: Any) -> None:
    for resource in (False, True):
        v = tf.Variable([1.0, 2.0], use_resource=resource)
        session.run(v.initializer)
        assert session.run(v).tolist() == [1, 2]
        assert session.run([v, v])[1].tolist() == [1, 2]


def test_indexed_slices(session: Any) -> None:
    values, indices = tf.constant([[1.0, 2.0]]), tf.constant([3])
    found = session.run(tf.IndexedSlices(values, indices, tf.constant([5, 2])))
    assert type(found) is tf.IndexedSlicesValue
    assert found.values.tolist() == [[1, 2]]
    assert found.indices.tolist() == [3]
    assert found.dense_shape.tolist() == [5, 2]
    found = session.run({"g": tf.IndexedSlices(values, indices)})["g"]
    assert found.dense_shape is None
    table = tf.Variable(np.ones((4, 2), np.float32))
    (gradient,) = tf.gradients(tf.gather(table, [1, 1]) * 2.0, table)
    session.run(table.initializer)
    assert session.run(gradient).values.tolist() == [[2, 2], [2, 2]]


def test_registered_types(session: Any) -> None:
    class Square:
        def __init__(self, tensor: Any) -> None:
            self.tensor = tensor

    class Cube(Square):
        pass

    def fetch(square: Square) -> Any:
        return [square.tensor], lambda values: values[0] ** 2

    def feed(square: Square, value: Any) -> Any:
        return [(square.tensor, value**0.5)]

    register_session_run_conversion_functions(Square, fetch, feed)
    x = tf.placeholder(tf.float32, [])
    square = Square(x)
    assert session.run(square, {x: 3.0}) == 9
    assert session.run([square, x + 0.0], {square: 16.0}) == [16, 4]
    for kind in (Square, Cube):
        with pytest.raises(ValueError, match="already been registered"):
            register_session_run_conversion_functions(kind, fetch, feed)


# ---- what cannot be fetched ----------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: [f], lambda f: {"a": (f,)}])
def test_none(session: Any, wrap: Any) -> None:
    tf.constant(1)
    with pytest.raises(TypeError, match="has invalid type"):
        session.run(wrap(None))


def test_a_gradient_that_is_none(session: Any) -> None:
    x, y = tf.constant(1.0), tf.constant(2.0)
    with pytest.raises(TypeError, match="has invalid type"):
        session.run(tf.gradients(y, x))


@dataclasses.dataclass(frozen=True)
class Data:
    """A dataclass is no container of fetches."""

    tensor: Any


@pytest.mark.parametrize(
    "make",
    [
        lambda c: {c},
        lambda c: Data(c),
        lambda c: (f for f in [c]),
        lambda c: {"a": c}.values(),
        lambda c: np.ones(2),
        lambda c: 3,
        lambda c: 3.5,
        lambda c: c.shape,
        lambda c: tf.float32,
    ],
)
def test_what_is_no_fetch(session: Any, make: Any) -> None:
    with pytest.raises(TypeError, match="has invalid type"):
        session.run(make(tf.constant(1)))


@pytest.mark.parametrize("name", ["b:0", "b", "a:1", "a:b:c", "", "a:", ":0", "a:-1", b"zz:0"])
def test_names_of_nothing(session: Any, name: Any) -> None:
    tf.constant(1, name="a")
    with pytest.raises(ValueError, match="cannot be interpreted as a Tensor"):
        session.run(name)
    with pytest.raises(ValueError, match="cannot be interpreted as a Tensor"):
        session.run([name])


def test_finding_elements_by_name(graph: Any) -> None:
    c = tf.constant(1, name="a")
    assert graph.get_tensor_by_name("a:0") is c
    assert graph.get_operation_by_name("a") is c.op
    with pytest.raises(KeyError, match="does not exist"):
        graph.get_tensor_by_name("b:0")
    with pytest.raises(KeyError, match="only has 1 outputs"):
        graph.get_tensor_by_name("a:1")
    with pytest.raises(ValueError, match="refers to an Operation"):
        graph.get_tensor_by_name("a")
    with pytest.raises(KeyError, match="not in the graph"):
        graph.get_operation_by_name("b")
    with pytest.raises(TypeError, match="Can not convert a int"):
        graph.as_graph_element(3)


def test_elements_of_another_graph(session: Any) -> None:
    tf.constant(0)
    with tf.Graph().as_default():
        other = tf.constant(1)
        variable = tf.Variable(1.0)
    for fetch in (other, other.op, [other], {"a": other.op}, variable):
        with pytest.raises(ValueError, match="is not an element of this graph"):
            session.run(fetch)


def test_elements_that_may_not_be_fetched_or_fed(session: Any, graph: Any) -> None:
    c = tf.constant(1.0)
    assert graph.is_fetchable(c)
    assert graph.is_feedable(c)
    graph.prevent_fetching(c.op)
    graph.prevent_feeding(c)
    assert not graph.is_fetchable(c)
    assert not graph.is_feedable(c)
    for fetch in (c, c.op, "Const:0", [c]):
        with pytest.raises(ValueError, match="has been marked as not fetchable"):
            session.run(fetch)
    with pytest.raises(ValueError, match="may not be fed"):
        session.run(c + 1.0, {c: 2.0})
    assert session.run(c + 1.0) == 2


# ---- duplicates ----------------------------------------------------------------------------------


def test_duplicates_are_one_object(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None], name="x")
    y = tf.multiply(x, 2.0, name="y")
    first, second, third = session.run([y, y, "y:0"], {x: [1, 2]})
    assert first is second is third
    found = session.run({"a": y, "b": [y]}, {x: [1, 2]})
    assert found["a"] is found["b"][0]


def test_different_tensors_of_one_value_are_different_objects(session: Any) -> None:
    x = tf.placeholder(tf.float32, [3])
    y = x * 2.0
    for fed in (1.0, 5.0, 9.0):
        found = session.run([y, tf.identity(y), tf.reshape(y, [3, 1]), y + 0.0], {x: [fed] * 3})
        assert [f.ravel().tolist() for f in found] == [[2 * fed] * 3] * 4
        found[0][:] = 0
        assert [f[0] for f in found[1:]] == [2 * fed] * 3


def test_an_assignment_fetched_three_times_runs_once(session: Any) -> None:
    v = tf.Variable(1.0)
    session.run(v.initializer)
    add = v.assign_add(1.0)
    assert session.run([add, add, add.op]) == [2, 2, None]
    assert session.run(v) == 2


# ---- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DTYPES)
def test_values_have_the_exact_dtype(session: Any, name: str) -> None:
    dtype = np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
    scalar = tf.constant(np.array(1, dtype))
    array = tf.constant(np.array([[1, 0]], dtype))
    fed = tf.placeholder(name, [None, 2])
    number, matrix, copy = session.run(
        [scalar, array, tf.identity(fed)], {fed: np.array([[1, 0]], dtype)}
    )
    assert type(number) is dtype.type
    assert number == 1
    for value in (matrix, copy):
        assert type(value) is np.ndarray
        assert value.dtype == dtype
        assert value.tolist() == [[1, 0]]
        assert value.flags.c_contiguous
        assert value.flags.writeable
        assert value.flags.owndata


def test_strings(session: Any) -> None:
    text, array = tf.constant("héllo"), tf.constant([["a", "b\0"]])
    assert session.run(text) == "héllo".encode()
    assert type(session.run(text)) is bytes
    found = session.run(array)
    assert found.dtype == object
    assert found.tolist() == [[b"a", b"b\0"]]
    found[0, 0] = b"changed"
    assert session.run(array).tolist() == [[b"a", b"b\0"]]


@pytest.mark.parametrize("shape", [(0,), (2, 0, 6), (0, 3)])
def test_empty_results(session: Any, shape: tuple[int, ...]) -> None:
    x = tf.placeholder(tf.float32, [None] * len(shape))
    found = session.run([x + 1, tf.zeros(shape), tf.constant(np.zeros(shape))], {x: np.ones(shape)})
    assert [f.shape for f in found] == [shape] * 3


def test_changing_a_result_changes_nothing_else(session: Any) -> None:
    fed = np.ones(3, np.float32)
    x = tf.placeholder(tf.float32, [3])
    c = tf.constant([1.0, 1.0, 1.0])
    v = tf.Variable([1.0, 1.0, 1.0])
    words = tf.placeholder(tf.string, [3])
    session.run(v.initializer)
    fetches = [tf.identity(x), c, v, v.value(), tf.reshape(x, [3, 1]), tf.identity(words)]
    feeds = {x: fed, words: np.array([b"a"] * 3, object)}
    first = session.run(fetches, feeds)
    for value in first:
        value[:] = 7
    assert fed.tolist() == [1, 1, 1]
    again = session.run(fetches, feeds)
    assert [f.ravel().tolist() for f in again[:5]] == [[1, 1, 1]] * 5
    assert again[5].tolist() == [b"a"] * 3


def test_an_assignment_does_not_change_what_was_fetched(session: Any) -> None:
    for resource in (False, True):
        v = tf.Variable(np.zeros(5, np.float32), use_resource=resource)
        session.run(v.initializer)
        before = session.run(v)
        given = session.run(v.assign(tf.ones(5)))
        session.run(v.assign_add(tf.ones(5)))
        assert before.tolist() == [0] * 5
        assert given.tolist() == [1] * 5
        assert session.run(v).tolist() == [2] * 5


def test_only_what_is_needed_runs(session: Any) -> None:
    calls: list[int] = []
    noisy = tf.py_func(lambda: calls.append(1) or np.float32(1), [], tf.float32)
    v = tf.Variable(1.0)
    session.run(v.initializer)
    unused = v.assign(100.0) + noisy
    assert session.run(v + 1.0) == 2
    assert calls == []
    assert session.run(unused) == 101
    assert calls == [1]
