"""Graphs: names, lookups, scopes, collections, devices, control dependencies, public names.

Names, representations and errors were recorded from TensorFlow 2.21 (compat.v1, v2 behaviour off).
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import stepforge as tf
from stepforge.ir.errors import ShapeError


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    with tf.Graph().as_default() as made:
        yield made


# ---- representations and lookups -----------------------------------------------------------------
def test_representations() -> None:
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    assert repr(x) == "<tf.Tensor 'x:0' shape=(?, 3) dtype=float32>"
    assert str(x) == 'Tensor("x:0", shape=(?, 3), dtype=float32)'
    assert str(tf.placeholder(tf.int32)) == 'Tensor("Placeholder:0", dtype=int32)'
    assert repr(x.op) == "<tf.Operation 'x' type=Placeholder>"
    with tf.device("/cpu:0"):
        assert str(tf.constant(1.0)).endswith("dtype=float32, device=/device:CPU:0)")


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("nope", ValueError, "looks like an (invalid) Operation name, not a Tensor."),
        ("nope:0", KeyError, "The operation, 'nope', does not exist in the graph."),
        ("x", ValueError, "refers to an Operation, not a Tensor."),
        ("x:5", KeyError, "exists but only has 1 outputs."),
        ("a:b:c", ValueError, "looks a like a Tensor name, but is not a valid one."),
        ("", ValueError, "looks like an (invalid) Operation name"),
        (3, TypeError, "Tensor names are strings (or similar), not int."),
    ],
)
def test_get_tensor_by_name_errors(graph: Any, name: Any, kind: Any, text: str) -> None:
    tf.placeholder(tf.float32, name="x")
    with pytest.raises(kind, match=re.escape(text)):
        graph.get_tensor_by_name(name)


def test_lookups(graph: Any) -> None:
    x = tf.placeholder(tf.float32, name="x")
    assert graph.get_tensor_by_name("x:0") is x
    assert graph.as_graph_element(b"x:0") is x
    assert graph.get_operation_by_name("x") is x.op
    assert graph.as_graph_element(x.op) is x.op
    with pytest.raises(ValueError, match="appears to refer to a Tensor"):
        graph.get_operation_by_name("x:0")
    with pytest.raises(TypeError, match="Can not convert a int into a Tensor or Operation"):
        graph.as_graph_element(3)
    with tf.Graph().as_default(), pytest.raises(ValueError, match="is not an element of this"):
        graph.as_graph_element(tf.constant(1))


def test_a_tensor_is_no_python_value() -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    for use in (bool, iter, lambda t: 1 if t else 2, lambda t: 1 < t < 2):
        with pytest.raises(tf.errors.OperatorNotAllowedInGraphError):
            use(x)
    with pytest.raises(TypeError, match="len is not well defined"):
        len(x)
    with pytest.raises(NotImplementedError, match="Cannot convert a symbolic"):
        np.array(x)
    with pytest.raises(TypeError):
        float(x)
    assert (x == x) is True
    assert (x == 1.5) is False
    assert x in {x: 1}
    assert x.ref() == x.ref()


def test_eval_and_run_need_a_session_of_the_graph() -> None:
    x = tf.constant(1.0)
    with pytest.raises(ValueError, match="No default session is registered"):
        x.eval()
    with pytest.raises(ValueError, match="No default session is registered"):
        x.op.run()
    other = tf.Session(graph=tf.Graph())
    with pytest.raises(ValueError, match="the tensor's graph is different"):
        x.eval(session=other)


def test_set_shape() -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    with pytest.raises(
        ValueError, match="Dimension 1 in both shapes must be equal, but are 3 and 4"
    ):
        x.set_shape([2, 4])
    with pytest.raises(ValueError, match="Shapes must be equal rank, but are 2 and 3"):
        x.set_shape([2, 3, 4])
    x.set_shape([7, None])
    assert x.shape.as_list() == [7, 3]
    assert (x + 1).shape.as_list() == [7, 3]
    unknown = tf.placeholder(tf.float32)
    unknown.set_shape([None, 2])
    assert tf.matmul(unknown, tf.ones([2, 5])).shape.as_list() == [None, 5]


def test_attributes_and_consumers() -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    y = x + 1
    assert x.op.get_attr("dtype") is tf.float32
    assert y.op.get_attr("T") is tf.float32
    with pytest.raises(ValueError, match="Operation 'x' has no attr named 'nope'"):
        x.op.get_attr("nope")
    assert x.consumers() == [y.op]
    assert [t.name for t in y.op.inputs] == ["x:0", "add/y:0"]
    assert y.op.colocation_groups() == [b"loc:@add"]
    assert y.op.node_def.input == ["x", "add/y"]


# ---- names ---------------------------------------------------------------------------------------
def test_unique_names(graph: Any) -> None:
    wishes = [graph.unique_name(n) for n in ("foo", "Foo", "foo_1")]
    assert wishes == ["foo", "Foo_1", "foo_1_1"]
    assert graph.unique_name("foo", mark_as_used=False) == "foo_2"
    assert graph.unique_name("foo", mark_as_used=False) == "foo_2"


@pytest.mark.parametrize("name", ["a b", "_a", "a:0"])
def test_invalid_node_names(name: str) -> None:
    with pytest.raises(ValueError, match="is not a valid node name"):
        tf.constant(1, name=name)


def test_invalid_scope_names() -> None:
    with pytest.raises(ValueError, match="'_s' is not a valid root scope name"):
        tf.name_scope("_s").__enter__()
    with tf.name_scope("a"), tf.name_scope("_x") as scope:
        assert scope == "a/_x/"
    with pytest.raises(ValueError, match=r"At least one of name \(None\)"):
        tf.name_scope(None, values=[1]).__enter__()


def test_name_scopes(graph: Any) -> None:
    with tf.name_scope("a/b"):
        assert tf.constant(1).name == "a/b/Const:0"
    with tf.name_scope("a"):
        with tf.name_scope("b"):
            assert graph.get_name_scope() == "a/b_1"
        with tf.name_scope("b") as scope:
            assert scope == "a/b_2/"
        with tf.name_scope("b/") as scope:
            assert (scope, tf.constant(1).name) == ("b/", "b/Const:0")
        with tf.name_scope("") as scope:
            assert (scope, tf.constant(1).name) == ("", "Const:0")
        assert tf.constant(1, name="a/b/zz/").name == "a/b/zz:0"
        with tf.name_scope(None, "dflt", [tf.constant(1)]) as scope:
            assert scope == "a/dflt/"
    with pytest.raises(ValueError, match="Duplicate node name in graph: 'a/b/zz'"):
        tf.no_op(name="a/b/zz/")


def test_a_name_scope_follows_its_values() -> None:
    x = tf.constant(1.0)
    with tf.Graph().as_default(), tf.name_scope("s", values=[x]):
        assert tf.constant(2.0).graph is x.graph


def test_mixing_graphs() -> None:
    x = tf.constant(1.0)
    with tf.Graph().as_default():
        y = tf.constant(1.0)
    with pytest.raises(ValueError, match="must be from the same graph as"):
        x + y


# ---- control dependencies ------------------------------------------------------------------------
def test_control_dependencies() -> None:
    def names(tensor: Any) -> list[str]:
        return [op.name for op in tensor.op.control_inputs]

    c, v = tf.constant(1, name="c"), tf.Variable(1.0, name="v")
    with tf.control_dependencies([c]):
        a = tf.constant(1)
        assert names(a) == ["c"]
        assert names(a + c) == []  # it depends on c by its data
        with tf.control_dependencies([v, tf.constant(2, name="d")]):
            x = tf.constant(1)
            assert names(x) == ["c", "v", "d"]
            assert names(x + 1) == []
            with tf.control_dependencies(None):
                assert names(tf.constant(1)) == []
            with tf.control_dependencies([]):
                assert names(tf.constant(1)) == ["c", "v", "d"]
        with tf.control_dependencies(["c", "c:0", c.op]):
            assert names(tf.constant(1)) == ["c"]


@pytest.mark.parametrize("given", [1.0, None, []])
def test_control_dependencies_of_no_node(given: Any) -> None:
    with pytest.raises(TypeError, match="Can not convert a"):
        tf.control_dependencies([given])


def test_group_and_tuple() -> None:
    c, v = tf.constant(1, name="c"), tf.Variable(1.0, name="v")
    assert tf.group().name == "group_deps"
    assert tf.group(c, [v], name="g").control_inputs == [c.op, v.op]
    gated = tf.tuple([c, None, v])
    assert gated[1] is None
    assert [op.name for op in gated[0].op.control_inputs] == ["tuple/group_deps"]
    with pytest.raises(ValueError, match="must have at least one Tensor"):
        tf.tuple([None])
    with pytest.raises(TypeError, match="zero or more"):
        tf.group(3)


# ---- devices -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("/cpu:0", "/device:CPU:0"),
        ("/gpu:1", "/device:GPU:1"),
        ("/cpu", "/device:CPU:*"),
        ("CPU:0", "/device:CPU:0"),
        ("/job:worker/task:1/gpu:0", "/job:worker/task:1/device:GPU:0"),
        ("cpu:0/job:ps", "/job:ps/device:CPU:0"),
        ("/device:XLA_GPU:0", "/device:XLA_GPU:0"),
        ("/job:a/job:b", "/job:b"),
        ("", ""),
        (None, ""),
    ],
)
def test_canonical_devices(given: Any, canonical: str) -> None:
    with tf.device(given):
        assert tf.constant(1).device == canonical


@pytest.mark.parametrize("given", ["bad", "/cpu:a", "/ps", "/cpu:0/gpu:0", "/device:GPU"])
def test_malformed_devices(given: str) -> None:
    with pytest.raises(ValueError, match=r"device spec|invalid literal"), tf.device(given):
        pass


@pytest.mark.parametrize(
    ("scopes", "device"),
    [
        (("/job:ps/cpu:0", "/gpu:1"), "/job:ps/device:GPU:1"),
        (("/job:ps/cpu:0", "/task:2"), "/job:ps/task:2/device:CPU:0"),
        (("/job:ps", "/task:2", None), ""),
        (("/job:ps", "/task:2", ""), "/job:ps/task:2"),
        (("/job:ps", lambda op: "/gpu:3"), "/job:ps/device:GPU:3"),
        (("/job:ps", lambda op: op.device or "/gpu:7", "/cpu:5"), "/job:ps/device:CPU:5"),
        ((lambda op: "/job:q", lambda op: "/gpu:3"), "/job:q"),
    ],
)
def test_nested_devices(scopes: tuple[Any, ...], device: str) -> None:
    with contextlib.ExitStack() as stack:
        for scope in scopes:
            stack.enter_context(tf.device(scope))
        assert tf.constant(1).device == device


def test_colocation() -> None:
    with tf.device("/cpu:3"):
        c = tf.constant(2, name="c")
    with tf.device("/gpu:0"), tf.colocate_with(c.op):
        d = tf.constant(3)
    assert d.device == "/device:CPU:3"
    assert d.op.colocation_groups() == [b"loc:@c"]


# ---- collections, life ---------------------------------------------------------------------------
def test_collections(graph: Any) -> None:
    graph.add_to_collection("a", 3)
    graph.add_to_collections(["a", "a", "b"], 4)
    graph.add_to_collection(("key",), 5)
    assert tf.get_collection("a") == [3, 4]
    assert graph.get_all_collection_keys() == ["a", "b"]
    assert tf.get_collection("missing") == []
    tf.get_collection_ref("a").append(6)
    assert tf.get_collection("a") == [3, 4, 6]
    v = tf.Variable(1.0, name="s/v")
    assert tf.get_collection("variables", "s") == [v]
    assert tf.get_collection("variables", "x") == []
    graph.clear_collection("a")
    assert tf.get_collection("a") == []


def test_finalized_graphs_stay_as_they_are(graph: Any) -> None:
    x = tf.placeholder(tf.float32, [2])
    graph.finalize()
    assert graph.finalized
    for change in (lambda: x + 1, lambda: tf.constant(1), lambda: graph.add_to_collection("a", 1)):
        with pytest.raises(RuntimeError, match=r"Graph is finalized and cannot be modified\."):
            change()


def test_reset_inside_a_context() -> None:
    with pytest.raises(AssertionError, match="Do not use tf"):
        tf.reset_default_graph()


def test_default_graphs_are_per_thread(graph: Any) -> None:
    found = []
    thread = threading.Thread(target=lambda: found.append(tf.get_default_graph()))
    thread.start()
    thread.join()
    assert found[0] is not graph


def test_threads_may_build_one_graph(graph: Any) -> None:
    def build() -> None:
        with graph.as_default(), tf.name_scope("t"):
            for _ in range(50):
                tf.constant(1.0)

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = [op.name for op in graph.get_operations()]
    assert len(names) == len(set(names)) == 200
    assert [op.id for op in graph.get_operations()] == list(range(200))


# ---- errors --------------------------------------------------------------------------------------
def test_an_error_says_where_and_leaves_the_graph(graph: Any) -> None:
    x, y = tf.ones([2]), tf.ones([3])
    before = len(graph.get_operations())
    with pytest.raises(ShapeError, match=r"'Add' created at .*test_graph\.py") as caught:
        tf.add(x, y)  # this line is quoted
    assert "tf.add(x, y)  # this line is quoted" in str(caught.value)
    assert len(graph.get_operations()) == before


def test_traceback_begins_in_the_users_program() -> None:
    op = tf.constant(1.0).op
    assert op.site.file == __file__
    assert op.traceback[-1].line == "op = tf.constant(1.0).op"
    assert op.traceback[-1].name == "test_traceback_begins_in_the_users_program"


def test_unknown_node_types(graph: Any) -> None:
    with pytest.raises(ValueError, match="Op type not registered 'Nope'"):
        graph.create_op("Nope", [])


# ---- seeds --------------------------------------------------------------------------------------
def test_seeds() -> None:
    assert tf.get_seed(None) == (None, None)
    assert tf.get_seed(5) == (87654321, 5)
    tf.set_random_seed(3)
    tf.constant(1.0)  # other nodes do not count
    assert [tf.get_seed(None), tf.get_seed(5), tf.get_seed(None)] == [(3, 0), (3, 5), (3, 1)]
    tf.set_random_seed(0)
    assert tf.get_seed(0) == (0, 2**31 - 1)


# ---- the facade ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "space",
    ["nn", "train", "errors", "math", "linalg", "random", "initializers", "dtypes", "compat"],
)
def test_every_public_name_exists(space: str) -> None:
    module = getattr(tf, space)
    for name in dir(module):
        assert getattr(module, name, module) is not module, f"{space}.{name}"


def test_every_top_level_name_exists() -> None:
    missing = [name for name in dir(tf) if not hasattr(tf, name)]
    assert missing == []
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        tf.nonsense  # noqa: B018


def test_error_codes() -> None:
    for code in range(1, 17):
        kind = tf.errors.exception_type_from_error_code(code)
        assert tf.errors.error_code_from_exception_type(kind) == code
    assert tf.errors.InvalidArgumentError.error_code == tf.errors.INVALID_ARGUMENT
