"""Variables: kinds, names, assignments, scatter updates, scopes, initializers.

Names, errors and drawn numbers were recorded from TensorFlow 2.21 (compat.v1, v2 behaviour off).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import stepforge as tf


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    with tf.Graph().as_default() as made:
        yield made


@pytest.fixture
def session(graph: Any) -> Iterator[Any]:
    with tf.Session() as made:
        yield made


def node_names() -> list[str]:
    return [op.name for op in tf.get_default_graph().get_operations()]


# ---- what they are -------------------------------------------------------------------------------
def test_a_reference_variable() -> None:
    v = tf.Variable(1.0)
    assert repr(v) == "<tf.Variable 'Variable:0' shape=() dtype=float32_ref>"
    assert v.op.type == "VariableV2"
    assert (v.initializer.name, v.value().name) == ("Variable/Assign", "Variable/read:0")
    assert v.initial_value.name == "Variable/initial_value:0"
    assert v.read_value().name == "read:0"
    assert node_names()[:4] == [
        "Variable/initial_value",
        "Variable",
        "Variable/Assign",
        "Variable/read",
    ]
    assert (v == v, v == 1.0, v in {v: 1}) == (True, False, True)


def test_a_resource_variable() -> None:
    v = tf.Variable(1.0, use_resource=True, name="r")
    assert repr(v) == "<tf.Variable 'r:0' shape=() dtype=float32>"
    assert isinstance(v, tf.Variable)
    assert (v.op.type, v.handle.dtype) == ("VarHandleOp", tf.resource)
    assert node_names() == [
        "r/Initializer/initial_value",
        "r",
        "r/IsInitialized/VarIsInitializedOp",
        "r/Assign",
        "r/Read/ReadVariableOp",
    ]
    assert repr(v.assign(2.0)) == "<tf.Variable 'AssignVariableOp' shape=() dtype=float32>"
    assert v.assign_add(1.0, read_value=False).type == "AssignAddVariableOp"
    assert tf.identity(v).op.inputs[0].name == "Identity/ReadVariableOp:0"


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: tf.Variable(), ValueError, "initial_value must be specified."),
        (lambda: tf.Variable(1.5, dtype=tf.int32), TypeError, "Expected int32, but got 1.5"),
        (lambda: tf.Variable(3, collections="c"), ValueError, "must be a list, tuple, or set"),
        (lambda: tf.Variable(1.0, constraint=3), ValueError, "`constraint` argument"),
        (
            lambda: tf.Variable(tf.placeholder(tf.float32, [None, 2])),
            ValueError,
            "initial_value must have a shape specified",
        ),
    ],
)
def test_construction_errors(make: Callable[[], Any], kind: Any, text: str) -> None:
    with pytest.raises(kind, match=re.escape(text)):
        make()


def test_collections() -> None:
    v = tf.Variable(1.0)
    hidden = tf.Variable(2.0, trainable=False)
    own = tf.Variable(3.0, collections=["c"])
    local = tf.Variable(4.0, collections=[tf.GraphKeys.LOCAL_VARIABLES], trainable=False)
    assert tf.global_variables() == [v, hidden]
    assert tf.trainable_variables() == [v, own]
    assert tf.get_collection("c") == [own]
    assert tf.local_variables() == [local]


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        (lambda w: w + 1, "add:0"),
        (lambda w: 1 - w, "sub:0"),
        (lambda w: -w, "Neg:0"),
        (lambda w: w[0], "strided_slice:0"),
        (lambda w: w @ w, "matmul:0"),
        (lambda w: w > 1, "Greater:0"),
        (lambda w: abs(w), "Abs:0"),
        (lambda w: np.ones((2, 2), np.float32) * w, "mul:0"),
    ],
)
def test_operators(expression: Callable[[Any], Any], name: str) -> None:
    result = expression(tf.Variable([[1.0, 2.0], [3.0, 4.0]], name="w"))
    assert result.name == name
    assert "w/read:0" in [t.name for t in result.op.inputs]


# ---- assignments ---------------------------------------------------------------------------------
def test_assignment_nodes_and_errors() -> None:
    w = tf.Variable(tf.ones([2, 3]), name="w")
    assert repr(w.assign(tf.ones([2, 3]))) == (
        "<tf.Tensor 'Assign:0' shape=(2, 3) dtype=float32_ref>"
    )
    assert tf.assign_sub(w, np.ones([2, 3]), name="sub").op.inputs[1].name == "sub/value:0"
    assert tf.assign(tf.assign_add(w, tf.ones([2, 3])), tf.zeros([2, 3])).op.type == "Assign"
    with pytest.raises(ValueError, match="Shapes must be equal rank, but are 2 and 0"):
        w.assign(1.0)
    with pytest.raises(
        ValueError, match="Dimension 1 in both shapes must be equal, but are 3 and 4"
    ):
        w.assign(tf.ones([2, 4]))
    with pytest.raises(
        TypeError, match="Input 'value' of 'Assign' Op has type int32 that does not"
    ):
        w.assign(tf.ones([2, 3], tf.int32))
    with pytest.raises(TypeError, match="needs a variable"):
        tf.assign(w.value(), 1.0)
    assert tf.assign(w, tf.ones([4, 3]), validate_shape=False).shape.as_list() == [4, 3]


@pytest.mark.parametrize("resource", [False, True])
def test_assignments_run(session: Any, resource: bool) -> None:
    v = tf.Variable([1.0, 2.0], use_resource=resource)
    session.run(v.initializer)
    np.testing.assert_array_equal(session.run(v.assign_add([1.0, 1.0])), [2, 3])
    np.testing.assert_array_equal(session.run(v.assign_sub([0.5, 1.0])), [1.5, 2])
    np.testing.assert_array_equal(session.run(v), [1.5, 2])
    v.load([7.0, 8.0], session)
    np.testing.assert_array_equal(v.eval(session), [7, 8])
    session.run(v.initializer)
    np.testing.assert_array_equal(session.run(v), [1, 2])


def test_reads_before_writes(session: Any) -> None:
    """A consumer of a reference sees the value at entry unless it depends on the write."""
    v = tf.Variable(1.0)
    session.run(v.initializer)
    added, before = v.assign_add(5.0), v + 0
    with tf.control_dependencies([added]):
        after, copied = v + 0, tf.identity(v)
    assert session.run([before, after, copied, added.op])[:3] == [1.0, 6.0, 6.0]


def test_resource_reads_keep_their_place(session: Any) -> None:
    v = tf.Variable(1.0, use_resource=True)
    session.run(v.initializer)
    first = v.read_value()
    added = v.assign_add(5.0)
    assert session.run([first, added]) == [1.0, 6.0]
    assert session.run([v, v.assign_add(1.0)]) == [6.0, 7.0]


def test_uninitialized_variables(session: Any) -> None:
    v = tf.Variable(1.0, name="v")
    tf.Variable(2.0, name="w", use_resource=True)
    with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized value v"):
        session.run(v)
    report = tf.report_uninitialized_variables()
    assert list(session.run(report)) == [b"v", b"w"]
    assert not session.run(tf.is_variable_initialized(v))
    session.run(v.initializer)
    assert session.run(tf.is_variable_initialized(v))
    assert list(session.run(report)) == [b"w"]
    session.run(tf.global_variables_initializer())
    assert list(session.run(report)) == []


def test_initial_values_from_other_variables(session: Any) -> None:
    v = tf.Variable(tf.random_uniform([3], seed=1), name="v")
    w = tf.Variable(v + 1, name="w")
    u = tf.Variable(w.initialized_value() * 2, name="u")
    assert "add_w" in node_names()
    session.run(tf.global_variables_initializer())
    values = session.run([v, w, u])
    np.testing.assert_allclose(values[1], values[0] + 1)
    np.testing.assert_allclose(values[2], values[1] * 2)


# ---- scatter updates -----------------------------------------------------------------------------
SCATTERED = {
    "update": [2.0, 2.0, 4.0],
    "add": [3.0, 2.0, 7.0],
    "sub": [-1.0, 2.0, -1.0],
    "mul": [2.0, 2.0, 12.0],
    "div": [0.5, 2.0, 0.75],
    "min": [1.0, 2.0, 3.0],
    "max": [2.0, 2.0, 4.0],
}


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("kind", SCATTERED)
def test_scatter(session: Any, kind: str, resource: bool) -> None:
    v = tf.Variable([1.0, 2.0, 3.0], use_resource=resource)
    session.run(v.initializer)
    changed = session.run(getattr(tf, f"scatter_{kind}")(v, [0, 2], [2.0, 4.0]))
    np.testing.assert_array_equal(changed, SCATTERED[kind])
    np.testing.assert_array_equal(session.run(v), SCATTERED[kind])


@pytest.mark.parametrize("kind", ["update", "add", "sub"])
def test_scatter_nd(session: Any, kind: str) -> None:
    v = tf.Variable([1.0, 2.0, 3.0])
    session.run(v.initializer)
    changed = session.run(getattr(tf, f"scatter_nd_{kind}")(v, [[0], [2]], [2.0, 4.0]))
    np.testing.assert_array_equal(changed, SCATTERED[kind])


def test_scatter_duplicates_scalars_and_errors(session: Any) -> None:
    v = tf.Variable([1.0, 2.0, 3.0])
    session.run(v.initializer)
    np.testing.assert_array_equal(session.run(tf.scatter_add(v, [0, 0], 5.0)), [11, 2, 3])
    slices = tf.IndexedSlices(tf.constant([1.0]), tf.constant([1]))
    np.testing.assert_array_equal(session.run(v.scatter_sub(slices)), [11, 1, 3])
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"indices\[0\] = 7 is not in \[0, 3\)"
    ):
        session.run(tf.scatter_add(v, [7], [1.0]))
    np.testing.assert_array_equal(session.run(v), [11, 1, 3])
    with pytest.raises(ValueError, match="Dimension 0 in both shapes must be equal"):
        tf.scatter_update(v, [0], [1.0, 2.0])


# ---- the global step -----------------------------------------------------------------------------
def test_global_step(session: Any) -> None:
    assert tf.train.get_global_step() is None
    step = tf.train.create_global_step()
    assert repr(step) == "<tf.Variable 'global_step:0' shape=() dtype=int64_ref>"
    with pytest.raises(ValueError, match='"global_step" already exists'):
        tf.train.create_global_step()
    assert tf.train.get_or_create_global_step() is step
    session.run(step.initializer)
    session.run(step.assign_add(3))
    assert tf.train.global_step(session, step) == 3


# ---- variable scopes -----------------------------------------------------------------------------
def test_get_variable_errors() -> None:
    tf.get_variable("a", [2])
    with pytest.raises(ValueError, match=r"(?s)a already exists, disallowed.*test_variables.py"):
        tf.get_variable("a", [2])
    with pytest.raises(ValueError, match="b did not get an initializer, so its `shape`"):
        tf.get_variable("b")
    with pytest.raises(ValueError, match="If initializer is a constant, do not specify shape"):
        tf.get_variable("c", [2], initializer=tf.ones([2]))
    with pytest.raises(
        ValueError, match="Initializer type '<dtype: 'float32'>' and explicit dtype"
    ):
        tf.get_variable("d", initializer=tf.ones([2]), dtype=tf.int32)
    with pytest.raises(ValueError, match="The initializer passed is not valid"):
        tf.get_variable("e", [None, 2])
    with tf.variable_scope("s", reuse=True), pytest.raises(ValueError, match="s/x does not exist"):
        tf.get_variable("x", [1])


def test_reuse() -> None:
    with tf.variable_scope("vs"):
        x = tf.get_variable("x", [1])
    with tf.variable_scope("vs", reuse=True):
        assert tf.get_variable("x", [1]) is x
        with pytest.raises(ValueError, match=r"specified shape \(2,\) and found shape \(1,\)"):
            tf.get_variable("x", [2])
        with pytest.raises(ValueError, match="specified dtype int32 and found dtype float32_ref"):
            tf.get_variable("x", [1], tf.int32)
    with tf.variable_scope("vs", reuse=tf.AUTO_REUSE):
        assert tf.get_variable("x", [1]) is x
        assert tf.get_variable("new", [1]).name == "vs/new:0"
    with tf.variable_scope("vs") as scope:
        scope.reuse_variables()
        assert tf.get_variable("x", [1]) is x


def test_scope_names() -> None:
    with tf.variable_scope("vs") as outer:
        assert tf.constant(1).name == "vs/Const:0"
        with tf.name_scope("ns"):
            assert tf.get_variable("v", [1]).name == "vs/v:0"
            assert tf.Variable(1.0, name="plain").name == "vs/ns/plain:0"
    with tf.variable_scope("o"), tf.variable_scope(outer):
        assert tf.get_variable("w", [1]).name == "vs/w:0"
        assert tf.constant(1).name == "o/vs/Const:0"
    with tf.variable_scope("vs") as again:
        assert again.original_name_scope == "vs_1/"
    names = []
    for _ in range(2):
        with tf.variable_scope(None, default_name="df") as scope:
            names.append(scope.name)
    assert names == ["df", "df_1"]
    with tf.variable_scope("aux", auxiliary_name_scope=False):
        assert tf.constant(1).name == "Const:0"
        assert tf.get_variable("v", [1]).name == "aux/v:0"
    assert tf.get_variable_scope().name == ""


def test_scope_defaults(session: Any) -> None:
    settings = {
        "initializer": tf.constant_initializer(5.0),
        "regularizer": lambda w: tf.reduce_sum(w) * 2,
        "dtype": tf.float64,
        "custom_getter": lambda getter, name, *a, **k: getter(f"{name}_cg", *a, **k),
    }
    with tf.variable_scope("s", **settings):
        v = tf.get_variable("v", [2])
    assert (v.name, v.dtype.base_dtype) == ("s/v_cg:0", tf.float64)
    session.run(v.initializer)
    (loss,) = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    assert session.run(loss) == 20.0
    with tf.variable_scope("r", use_resource=True):
        assert tf.get_variable("v", [1]).op.type == "VarHandleOp"


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"name_or_scope": None}, TypeError),
        ({"name_or_scope": "a", "reuse": "x"}, ValueError),
        ({"name_or_scope": 3}, TypeError),
    ],
)
def test_scope_errors(arguments: dict[str, Any], kind: Any) -> None:
    with pytest.raises(kind):
        tf.variable_scope(**arguments)


# ---- initializers --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make", "shape", "expected"),
    [
        (lambda: tf.zeros_initializer(), [2], [0, 0]),
        (lambda: tf.ones_initializer, [2], [1, 1]),
        (lambda: tf.constant_initializer([1, 2, 3]), [2, 2], [[1, 2], [3, 3]]),
        (lambda: tf.initializers.identity(2.0), [2, 3], [[2, 0, 0], [0, 2, 0]]),
    ],
)
def test_fixed_initializers(session: Any, make: Any, shape: list[int], expected: Any) -> None:
    v = tf.get_variable("v", shape, initializer=make())
    session.run(v.initializer)
    np.testing.assert_array_equal(session.run(v), expected)


DRAWN = {
    "glorot_uniform": (
        lambda: None,
        [2, 3],
        [[0.5558913, -0.9246924, -0.0902446], [0.7817689, -0.2985592, -0.6891948]],
    ),
    "random_uniform": (
        lambda: tf.random_uniform_initializer(-1, 1, seed=3),
        [3],
        [-0.1978242, -0.2463222, -0.3814144],
    ),
    "random_normal": (
        lambda: tf.random_normal_initializer(1.0, 0.1),
        [3],
        [1.0353692, 1.0663588, 0.9022501],
    ),
    "truncated_normal": (
        lambda: tf.truncated_normal_initializer(stddev=0.1),
        [3],
        [0.0353691, 0.0663588, -0.0977499],
    ),
    "glorot_normal": (
        lambda: tf.glorot_normal_initializer(),
        [2, 2],
        [[0.2843225, 0.5334398], [-0.7857848, 0.6240956]],
    ),
    "fan_out": (
        lambda: tf.variance_scaling_initializer(mode="fan_out", distribution="uniform"),
        [2, 2, 1, 2],
        [
            [[[0.3107527, -0.5169188]], [[-0.0504483, 0.437022]]],
            [[[-0.1668997, -0.3852716]], [[0.5645091, -0.0963317]]],
        ],
    ),
    "untruncated": (
        lambda: tf.variance_scaling_initializer(2.0, distribution="untruncated_normal"),
        [2, 2],
        [[0.3536911, 0.6635877], [-0.9774994, 0.7763614]],
    ),
    "he_normal": (
        lambda: tf.initializers.he_normal(),
        [2, 2],
        [[0.4020928, 0.7543978], [-1.1112674, 0.8826044]],
    ),
    "unit_scaling": (
        lambda: tf.uniform_unit_scaling_initializer(),
        [2, 2],
        [[0.6215054, -1.0338376], [-0.1008966, 0.8740441]],
    ),
    "orthogonal": (
        lambda: tf.orthogonal_initializer(),
        [2, 3],
        [[0.2118169, -0.5854004, 0.7825854], [0.5498096, 0.7333989, 0.3997942]],
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_random_initializers_draw_tensorflows_numbers(session: Any, name: str) -> None:
    make, shape, expected = DRAWN[name]
    tf.set_random_seed(7)
    v = tf.get_variable("v", shape, initializer=make())
    session.run(v.initializer)
    np.testing.assert_allclose(session.run(v), expected, rtol=1e-5, atol=1e-6)


def test_default_initializers() -> None:
    tf.get_variable("f", [2, 3])
    assert "f/Initializer/random_uniform" in node_names()
    assert tf.get_variable("i", [2], tf.int32).initial_value.name == "i/Initializer/zeros:0"
    with pytest.raises(ValueError, match="An initializer for variable c of <dtype: 'complex64'>"):
        tf.get_variable("c", [2], tf.complex64)


def test_orthogonal_columns(session: Any) -> None:
    v = tf.get_variable("v", [5, 3], initializer=tf.orthogonal_initializer(2.0))
    session.run(v.initializer)
    q = session.run(v) / 2
    np.testing.assert_allclose(q.T @ q, np.eye(3), atol=1e-5)


def test_the_size_of_a_variable_whose_values_do_not_matter() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None])
        v = tf.Variable(x, validate_shape=False)
        reset, doubled = v.assign(tf.zeros_like(v)), v.assign(tf.ones_like(v) * 2.0)
        for size in (3, 5):
            session.run(v.initializer, {x: np.arange(size)})
            assert session.run(reset).tolist() == session.run(v).tolist() == [0] * size
            assert session.run(doubled).tolist() == session.run(v).tolist() == [2] * size
    with tf.Session(graph=v.graph) as session, pytest.raises(tf.errors.FailedPreconditionError):
        session.run(reset)
