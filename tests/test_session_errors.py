"""Errors of runs: class, message, node and user's line; devices, options and deadlines."""

from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import stepforge as tf
from stepforge.runtime.config import RunMetadata, RunOptions

ones = np.ones


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    """A default graph for each test."""
    with tf.Graph().as_default() as made:
        yield made


@pytest.fixture
def session() -> Iterator[Any]:
    with tf.Session() as made:
        yield made


# ---- what an error carries -----------------------------------------------------------------------


@pytest.mark.parametrize("entry", ["native", "python"])
def test_an_error_names_node_and_line(
    session: Any, entry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if entry == "python":
        monkeypatch.setenv("STEPFORGE_ENTRY", "python")
    i = tf.placeholder(tf.int32, [None])
    table = tf.constant([1.0, 2.0])
    y = tf.gather(table, i, name="look")  # the user's line
    step = session.make_callable(y, [i])
    array = np.array([0, 5], np.int32)
    for run in (lambda: session.run(y, {i: [0, 5]}), lambda: step([0, 5]), lambda: step(array)):
        for _ in range(2):
            with pytest.raises(tf.errors.InvalidArgumentError) as found:
                run()
            error = found.value
            assert error.op is y.op
            assert error.node_def.name == "look"
            assert error.error_code == tf.errors.INVALID_ARGUMENT == 3
            assert error.message == "indices[1] = 5 is not in [0, 2)\n\t [[{{node look}}]]"
            assert "test_session_errors.py:" in str(error)
            assert 'name="look")  # the user\'s line' in str(error)
    assert step([1, 0]).tolist() == [2, 1]


def test_errors_of_compiling_carry_the_same(session: Any) -> None:
    x, y = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.float32, [None])
    z = tf.add(x, y, name="sum")
    for _ in range(2):
        with pytest.raises(tf.errors.InvalidArgumentError) as found:
            session.run(z, {x: [1, 2], y: [1, 2, 3]})
        error = found.value
        assert error.op is z.op
        assert error.node_def.name == "sum"
        assert error.message == "Incompatible shapes: [2] vs. [3]\n\t [[{{node sum}}]]"
        assert 'z = tf.add(x, y, name="sum")' in str(error)


def test_errors_can_be_pickled(session: Any) -> None:
    x = tf.placeholder(tf.float32, name="x")
    with pytest.raises(tf.errors.InvalidArgumentError) as found:
        session.run(x)
    copy = pickle.loads(pickle.dumps(found.value))
    assert type(copy) is tf.errors.InvalidArgumentError
    assert str(copy) == str(found.value)


def test_classes_and_codes() -> None:
    names = [
        *("Cancelled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound"),
        *("AlreadyExists", "PermissionDenied", "ResourceExhausted", "FailedPrecondition"),
        *("Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss"),
        "Unauthenticated",
    ]
    for code, name in enumerate(names, 1):
        cls = getattr(tf.errors, f"{name}Error")
        error = cls(None, None, "text")
        assert isinstance(error, tf.errors.OpError)
        assert isinstance(error, Exception)
        assert error.error_code == code
        assert (error.op, error.node_def, error.message) == (None, None, "text")
    assert tf.OpError is tf.errors.OpError
    assert tf.errors.CANCELLED == 1
    assert tf.errors.UNAUTHENTICATED == 16


# ---- missing feeds, uninitialised variables ------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "shape", "text"),
    [
        ("float32", None, "dtype float\n"),
        ("float64", [], "dtype double\n"),
        ("int32", [None, 2], r"dtype int32 and shape \[\?,2\]\n"),
        ("float32", [3], r"dtype float and shape \[3\]\n"),
        ("bool", None, "dtype bool\n"),
        ("string", None, "dtype string\n"),
    ],
)
def test_placeholders_must_be_fed(session: Any, dtype: str, shape: Any, text: str) -> None:
    p = tf.placeholder(dtype, shape, name="p")
    text = "^You must feed a value for placeholder tensor 'p' with " + text
    for fetch in (p, tf.identity(p), tf.group(p)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=text) as found:
            session.run(fetch)
        assert found.value.op is p.op


def test_variables_must_be_initialised(session: Any) -> None:
    v = tf.Variable([1.0], name="v")
    add, identity = v.assign_add([1.0]), tf.identity(v)
    scatter = tf.scatter_add(v, [0], [1.0])
    readers = {v + 1: "v/read", add: add.op.name, identity: "v/read", v: None}
    readers.update({v.read_value(): "read", scatter: "ScatterAdd"})
    for fetch, reader in readers.items():
        text = "^Attempting to use uninitialized value v\n"
        with pytest.raises(tf.errors.FailedPreconditionError, match=text) as found:
            session.run(fetch)
        assert getattr(found.value.op, "name", None) == reader
        assert getattr(found.value.node_def, "name", None) == reader
        assert 'name="v")' in str(found.value) or reader is not None
        with pytest.raises(tf.errors.FailedPreconditionError, match=text):
            session.make_callable(fetch)()


def test_resources_must_be_initialised(session: Any) -> None:
    v = tf.Variable([1.0], name="v", use_resource=True)
    y = v + 1
    add = v.assign_add([1.0], read_value=False)
    readers = {v: "v/Read/ReadVariableOp", y: y.op.inputs[0].op.name}
    for fetch, reader in readers.items():
        text = "^Could not find variable v. This could mean that the variable has been deleted"
        with pytest.raises(tf.errors.FailedPreconditionError, match=text) as found:
            session.run(fetch)
        assert found.value.op.name == reader
    text = "^Resource localhost/v/N10tensorflow3VarE does not exist."
    updates = {add: add.name, tf.scatter_update(v, [0], [1.0]): "ResourceScatterUpdate"}
    updates.update({tf.scatter_nd_add(v, [[0]], [1.0]): "ResourceScatterNdAdd"})
    rows = tf.nn.embedding_lookup(v, [0])
    updates.update({tf.gather(v, [0]): "Gather", rows: "embedding_lookup"})
    for fetch, reader in updates.items():
        with pytest.raises(tf.errors.NotFoundError, match=text) as missing:
            session.run(fetch)
        assert missing.value.op.name == reader
    assert session.run(v.assign([2.0])).tolist() == [2]


@pytest.mark.parametrize("resource", [False, True])
def test_counting_up_to_a_limit(session: Any, resource: bool) -> None:
    v = tf.Variable(0, name="v", use_resource=resource)
    count = v.count_up_to(2)
    kind = tf.errors.NotFoundError if resource else tf.errors.FailedPreconditionError
    with pytest.raises(kind):
        session.run(count)
    session.run(v.initializer)
    step = session.make_callable(count)
    assert [session.run(count), step()] == [0, 1]
    for run in (lambda: session.run(count), step):
        with pytest.raises(tf.errors.OutOfRangeError, match=r"^Reached limit of 2\n") as found:
            run()
        assert found.value.op.type == ("ResourceCountUpTo" if resource else "CountUpTo")
        assert found.value.error_code == tf.errors.OUT_OF_RANGE
    assert session.run(v) == 2


# ---- values that do not fit ----------------------------------------------------------------------

F = tf.float32
X, Y = ("x", F, (None, None)), ("y", F, (None, None))
P, Q = ("p", F, (None,)), ("q", F, (None,))
N, K = ("n", tf.int32, (None,)), ("k", tf.int32, ())
CASES: dict[str, tuple[Callable[..., Any], dict[Any, Any], str]] = {
    "reshape": (lambda x: tf.reshape(x, [4, 5]), {X: ones((2, 2))},
                "Input to reshape is a tensor with 4 values, but the requested shape has 20"),
    "reshape with a rest": (lambda x: tf.reshape(x, [-1, 5]), {X: ones((2, 2))},
                            "with 4 values, but the requested shape requires a multiple of 5"),
    "add": (lambda x, y: x + y, {X: ones((1, 2)), Y: ones((3, 3))},
            "Incompatible shapes: [1,2] vs. [3,3]"),
    "matmul": (tf.matmul, {X: ones((1, 2)), Y: ones((3, 2))},
               "Matrix size-incompatible: In[0]: [1,2], In[1]: [3,2]"),
    "concat": (lambda x, y: tf.concat([x, y], 1), {X: ones((1, 2)), Y: ones((3, 2))},
               "ConcatOp : Dimension 0 in both shapes must be equal: shape[0] = [1,2] vs. "
               "shape[1] = [3,2]"),
    "gather": (lambda p, n: tf.gather(p, n), {P: [1, 2], N: [5]},
               "indices[0] = 5 is not in [0, 2)"),
    "negative": (lambda p, n: tf.gather(p, n), {P: [1, 2], N: [0, -1]},
                 "indices[1] = -1 is not in [0, 2)"),
    "scatter": (lambda n, p: tf.scatter_nd(tf.reshape(n, [-1, 1]), p, [3]), {N: [9], P: [1]},
                "indices[0] = [9] does not index into shape [3]"),
    "division": (lambda n, k: n // k, {N: [3], K: 0}, "Integer division by zero"),
    "remainder": (lambda n, k: n % k, {N: [3], K: 0}, "Integer division by zero"),
    "numerics": (lambda p: tf.check_numerics(p, "msg"), {P: [1, np.nan]},
                 "msg : Tensor had NaN values"),
    "infinite": (lambda p: tf.check_numerics(p, "msg"), {P: [1, np.inf]},
                 "msg : Tensor had Inf values"),
    "assertion": (lambda n, k: tf.Assert(k < 1, [n, "hi"]), {N: [1, 2, 3, 4], K: 3},
                  "assertion failed: [1 2 3...] [hi]"),
    "label": (lambda x, n: tf.nn.sparse_softmax_cross_entropy_with_logits(labels=n, logits=x),
              {X: ones((2, 3)), N: [9, 0]},
              "Received a label value of 9 which is outside the valid range of [0, 3)"),
    "labels": (lambda x, y: tf.nn.softmax_cross_entropy_with_logits(labels=y, logits=x),
               {X: ones((2, 3)), Y: ones((3, 2))}, "logits and labels must be broadcastable"),
    "inverse": (tf.matrix_inverse, {X: np.zeros((2, 2))}, "Input is not invertible."),
    "slice": (lambda p: tf.slice(p, [0], [5]), {P: [1]}, "Expected size[0] in [0, 1], but got 5"),
    "index": (lambda p: p[5], {P: [1, 2]}, "slice index 5 of dimension 0 out of bounds."),
    "top_k": (lambda p: tf.nn.top_k(p, 5)[0], {P: [1, 2]}, "input must have at least k columns"),
    "range": (lambda k: tf.range(5, k), {K: 3}, "Requires start <= limit when delta > 0"),
    "range down": (lambda k: tf.range(1, k, -1), {K: 3}, "Requires start >= limit when delta < 0"),
    "split": (lambda p: tf.split(p, 2)[0], {P: [1, 2, 3]},
              "Number of ways to split should evenly divide the split dimension"),
    "stack": (lambda p, q: tf.stack([p, q]), {P: [1, 2, 3], Q: [1]},
              "are 3 and 1. Shapes are [3] and [1]"),
    "squeeze": (lambda x: tf.squeeze(x, [0]), {X: ones((2, 3))},
                "expected a dimension of 1, got 2"),
    "fill": (lambda n: tf.fill(n, 1.0), {N: [2, -1]}, "Dimension -1 must be >= 0"),
    "bias": (tf.nn.bias_add, {X: ones((2, 3)), P: [1, 2]}, "Must provide as many biases"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("known", [False, True], ids=["new", "after a good run"])
def test_messages(session: Any, name: str, known: bool) -> None:
    """The message is the same whether the mistake is met by the compiler or by compiled code."""
    rule, feeds, text = CASES[name]
    inputs = [tf.placeholder(dtype, shape, name=k) for k, dtype, shape in feeds]
    node = rule(*inputs)
    if known:
        session.make_callable(node, inputs)  # compiled for sizes that nobody knows yet
    with pytest.raises(tf.errors.InvalidArgumentError) as found:
        session.run(node, dict(zip(inputs, feeds.values(), strict=True)))
    assert text in str(found.value)
    assert found.value.op is not None
    assert f"[[{{{{node {found.value.op.name}}}}}]]" in found.value.message


def test_values_without_an_error(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None, None])
    assert np.isnan(session.run(tf.cholesky(x), {x: -np.eye(2)})).any()
    n = tf.placeholder(tf.int32, [None])
    assert session.run(tf.one_hot(n, 2), {n: [5]}).tolist() == [[0, 0]]
    p = tf.placeholder(tf.float32, [None])
    found = session.run([tf.log(p), p / (p + 1.0), 1.0 / (p + 1.0)], {p: [-1]})
    assert np.isnan(found[0][0])
    assert np.isinf(found[1][0])
    assert np.isinf(found[2][0])


# ---- Python functions ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "cls"),
    [
        (ZeroDivisionError, tf.errors.UnknownError),
        (ValueError, tf.errors.InvalidArgumentError),
        (TypeError, tf.errors.InvalidArgumentError),
        (StopIteration, tf.errors.OutOfRangeError),
        (NotImplementedError, tf.errors.UnimplementedError),
        (MemoryError, tf.errors.ResourceExhaustedError),
    ],
)
def test_exceptions_of_python_functions(session: Any, raised: Any, cls: Any) -> None:
    def function() -> None:
        raise raised("from inside")

    call = tf.py_func(function, [], tf.float32, name="call")
    with pytest.raises(cls, match=f"^{raised.__name__}: from inside") as found:
        session.run(call)
    assert type(found.value) is cls
    assert found.value.op is call.op
    assert isinstance(found.value.__cause__, raised)


def test_arguments_of_python_functions(session: Any) -> None:
    seen: list[Any] = []

    def function(*arguments: Any) -> Any:
        seen.extend(map(type, arguments))
        arguments[-1][:] = 7
        return arguments[-1]

    fed = np.ones(2, np.float32)
    x, c = tf.placeholder(tf.float32, [2]), tf.constant([1.0, 2.0])
    texts = [tf.constant("a"), tf.constant(["a"])]
    for value in (x, c):
        call = tf.py_func(function, [tf.constant(1.5), *texts, value], tf.float32)
        assert session.run([call, value + 0.0], {x: fed})[0].tolist() == [7, 7]
    assert seen[:4] == [np.float32, bytes, np.ndarray, np.ndarray]
    assert (fed.tolist(), session.run(c).tolist()) == ([1, 1], [1, 2])  # it got copies


def test_results_of_python_functions(session: Any) -> None:
    wrong = tf.py_func(lambda: 1, [], tf.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"0-th value .* is int64"):
        session.run(wrong)
    many = tf.py_func(lambda: (1, 2), [], [tf.int64])
    with pytest.raises(tf.errors.InvalidArgumentError, match="returned 2 values"):
        session.run(many)


def test_an_error_of_the_errors_module_stays_what_it_is(session: Any) -> None:
    def function() -> None:
        raise tf.errors.OutOfRangeError(None, None, "the end")

    with pytest.raises(tf.errors.OutOfRangeError, match=r"^the end") as found:
        session.run(tf.py_func(function, [], tf.float32, name="call"))
    assert found.value.op.name == "call"


def test_an_interrupt_in_a_python_function_passes(session: Any) -> None:
    def function() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.run(tf.py_func(function, [], tf.float32))


# ---- devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["/device:GPU:0", "/gpu:0", "/cpu:1", "/job:ps/task:0"])
def test_devices_that_there_are_not(session: Any, device: str) -> None:
    x = tf.placeholder(tf.float32, [])
    with tf.device(device):
        y = tf.add(x, 1.0, name="placed")
    for _ in range(2):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="Cannot assign a device for operation placed"
        ) as found:
            session.run(y, {x: 1.0})
        assert found.value.op is None
        assert "available devices are [ /job:localhost/replica:0/task:0/device:CPU:0 ]" in str(
            found.value
        )
    assert session.run(x + 1.0, {x: 1.0}) == 2
    assert session.run(y, {y: 5.0}) == 5


def test_soft_placement_and_other_processors(session: Any) -> None:
    x = tf.placeholder(tf.float32, [])
    with tf.device("/gpu:0"):
        y = x + 1.0
    with tf.device("/cpu:1"):
        z = x + 2.0
    with tf.device("/cpu:0"), tf.device("/job:localhost"):
        assert session.run(x + 3.0, {x: 1.0}) == 4
    soft = tf.Session(config=tf.ConfigProto(allow_soft_placement=True))
    assert soft.run([y, z], {x: 1.0}) == [2, 3]
    two = tf.Session(config=tf.ConfigProto(device_count={"CPU": 2}))
    assert two.run(z, {x: 1.0}) == 3
    assert [d.name[-5:] for d in two.list_devices()] == ["CPU:0", "CPU:1"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="Cannot assign a device"):
        two.run(y, {x: 1.0})


def test_list_devices(session: Any) -> None:
    (device,) = session.list_devices()
    assert device.name == "/job:localhost/replica:0/task:0/device:CPU:0"
    assert device.device_type == "CPU"
    assert device.memory_limit_bytes > 0
    assert repr(device).startswith("_DeviceAttributes(/job:localhost/replica:0")


# ---- options -------------------------------------------------------------------------------------


def test_options_and_metadata_of_run(session: Any) -> None:
    x = tf.placeholder(tf.float32, [], name="x")
    y = tf.add(x, 1.0, name="y")
    trace = RunOptions(trace_level=RunOptions.FULL_TRACE, output_partition_graphs=True)
    metadata = RunMetadata()
    for options in (None, RunOptions(), trace):
        for into in (None, metadata):
            assert session.run(y, {x: 1.0}, options, into) == 2
            assert session.run([y], {x: 1.0}, options=options, run_metadata=into) == [2]
    (device,) = metadata.step_stats.dev_stats
    assert device.node_stats[0].node_name == "y"
    assert [node.name for node in metadata.partition_graphs[0].node] == ["y/y", "y"]
    session.run(y, {x: 1.0}, run_metadata=metadata)
    assert metadata == RunMetadata()  # every run begins anew
    for options, into in ((3, None), (None, {}), (RunMetadata(), None), (None, RunOptions())):
        with pytest.raises(TypeError, match=r"must be a tf\.Run"):
            session.run(y, {x: 1.0}, options, into)


def test_deadlines(session: Any) -> None:
    def sleep(seconds: Any) -> Any:
        time.sleep(float(seconds))
        return np.float32(seconds)

    x = tf.placeholder(tf.float32, [])
    slow = tf.py_func(sleep, [x], tf.float32)
    v = tf.Variable(0.0)
    session.run(v.initializer)
    short, long = RunOptions(timeout_in_ms=20), RunOptions(timeout_in_ms=60_000)
    assert session.run(x + 1.0, {x: 0.0}, long) == 1
    assert session.run(slow, {x: 0.0}, long) == 0
    step = session.make_callable(slow, [x], accept_options=True)
    for run in (lambda: session.run(slow, {x: 0.1}, short), lambda: step(0.1, options=short)):
        with pytest.raises(tf.errors.DeadlineExceededError, match="Timed out waiting") as found:
            run()
        assert found.value.op is None
    assert session.run(v.assign(slow), {x: 0.1}, short) > 0  # what is written stays written
    assert session.run(v) > 0
    hasty = tf.Session(config=tf.ConfigProto(operation_timeout_in_ms=20))
    assert hasty.run(slow, {x: 0.0}) == 0
    for run in (lambda: hasty.run(slow, {x: 0.1}), lambda: hasty.make_callable(slow, [x])(0.1)):
        with pytest.raises(tf.errors.DeadlineExceededError, match="Timed out"):
            run()


def test_what_needs_scipy_says_so(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)  # as where it is not installed
    x = tf.placeholder(tf.float32, [None])
    y = tf.lgamma(x, name="gamma")  # the line of it
    with pytest.raises(tf.errors.UnimplementedError, match="the line of it") as caught:
        session.run(y, {x: ones(3)})
    assert "pip install 'stepforge[full]'" in caught.value.message
    assert "gamma" in str(caught.value)
