"""Tensors that are kept between runs, and callables that are made from names."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import stepforge as tf
from stepforge.ir.kept_tensors import kept_tensors
from stepforge.python.client import session as client
from stepforge.runtime.config import CallableOptions, RunMetadata, RunOptions


@pytest.fixture
def session() -> Iterator[Any]:
    with tf.Graph().as_default(), tf.Session() as made:
        yield made


def test_a_handle(session: Any) -> None:
    node = tf.get_session_handle(tf.constant(10) * 5)
    assert (node.op.type, node.dtype, node.shape.as_list()) == ("GetSessionHandle", tf.string, [])
    handle = session.run(node)
    name, number, place = handle.handle.split(";")
    assert name == "GetSessionHandle"
    assert number.isdigit()
    assert place == "/job:localhost/replica:0/task:0/device:CPU:0"
    assert str(handle) == handle.handle
    assert handle.eval() == 50
    found = session.run({"a": [node, tf.constant(1)], "b": tf.get_session_handle(tf.ones([2]))})
    assert found["a"][0].eval() == 50
    assert found["a"][1] == 1
    assert found["b"].eval().tolist() == [1, 1]
    assert isinstance(session.make_callable(node)(), bytes)


def test_a_later_run_takes_a_handle(session: Any) -> None:
    handle = session.run(tf.get_session_handle(tf.constant(10) * 5))
    holder, kept = tf.get_session_tensor(handle.handle, tf.int32)
    assert (holder.dtype, kept.dtype, kept.shape.ndims) == (tf.string, tf.int32, None)
    y = kept * 10
    assert session.run(y, {holder: handle.handle}) == 500
    assert session.run(y, {holder: handle}) == 500
    following = tf.get_session_handle(kept + 1)
    for _ in range(5):
        handle = session.run(following, {holder: handle.handle})
    assert handle.eval() == 55
    _, wrong = tf.get_session_tensor(handle.handle, tf.float32)
    with pytest.raises(tf.errors.InvalidArgumentError):
        session.run(wrong, {wrong.op.inputs[0]: handle})
    with pytest.raises(tf.errors.InvalidArgumentError, match="must feed a value"):
        session.run(y)


def test_a_handle_is_fed_for_any_tensor(session: Any) -> None:
    handle = session.run(tf.get_session_handle(tf.constant([1.0, 2.0]) * 5.0))
    p, v = tf.placeholder(tf.float32), tf.Variable([0.0, 0.0])
    session.run(v.initializer)
    assert session.run(p + 1.0, {p: handle}).tolist() == [6, 11]
    assert session.run(v + 1.0, {v: handle}).tolist() == [6, 11]
    assert [x.tolist() for x in session.run([p, p + 1.0], {p: handle})] == [[5, 10], [6, 11]]
    assert session.make_callable(p * 2.0, [p])(handle).tolist() == [10, 20]
    with pytest.raises(tf.errors.InvalidArgumentError, match="to be int32 but float32"):
        session.run(tf.placeholder(tf.int32, name="i") + 1, {"i:0": handle})


def test_what_is_kept_does_not_change(session: Any) -> None:
    v = tf.Variable([1.0])
    session.run(v.initializer)
    handle = session.run(tf.get_session_handle(v + 0.0))
    session.run(v.assign([5.0]))
    assert handle.eval().tolist() == [1]
    handle.eval()[0] = 7
    assert handle.eval().tolist() == [1]


def test_the_handle_of_a_resource_variable(session: Any) -> None:
    v = tf.Variable([1.0, 2.0], name="v", use_resource=True)
    for found in (session.run(v.handle), session.run([v.handle, tf.constant(1)])[0]):
        assert found.dtype == np.dtype([("resource", np.uint8, (1,))])
        assert found.tobytes().endswith(b";localhost;v")
    assert session.make_callable(v.handle)().shape == found.shape


def test_deleting(session: Any) -> None:
    node = tf.get_session_handle(tf.constant(10))
    handle = session.run(node)
    handle.delete()
    for again in (handle.eval, handle.delete):
        with pytest.raises(TypeError, match="may have already been deleted"):
            again()
    handle = session.run(node)
    holder, deleter = tf.delete_session_tensor(handle.handle)
    assert session.run(deleter, {holder: handle.handle}) is None
    holder, kept = tf.get_session_tensor(handle.handle, tf.int32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="is not in the session store"):
        session.run(kept, {holder: handle.handle})
    with pytest.raises(TypeError, match="must be of type Tensor"):
        tf.get_session_handle(3)


def test_a_tensor_goes_with_its_handle(session: Any) -> None:
    node = tf.get_session_handle(tf.constant(10))
    handle = session.run(node)
    text = handle.handle
    assert kept_tensors().get(text) == 10
    del handle
    gc.collect()
    with pytest.raises(tf.errors.InvalidArgumentError):
        kept_tensors().get(text)
    raw = session.run(node).get_raw_handle()
    gc.collect()
    assert kept_tensors().get(raw) == 10
    kept_tensors().forget(raw)


# ---- callables from names ------------------------------------------------------------------------


def test_a_callable_from_names(session: Any) -> None:
    p = tf.placeholder(tf.float32, [2], name="p")
    tf.identity(p * 2.0, name="y")
    tf.reduce_sum(p, name="z")
    v = tf.Variable(1.0, name="v")
    v.assign(5.0, name="set")
    session.run(v.initializer)
    make = session._make_callable_from_options
    step = make(CallableOptions(feed=["p:0"], fetch=["y:0", "z:0"], target=["set"]))
    found = step(np.array([1, 2], np.float32))
    assert isinstance(found, list)
    assert found[0].tolist() == [2, 4]
    assert found[1] == 3
    assert session.run(v) == 5
    assert make(CallableOptions(target=["set"]))() == []
    for given in ((), (1, 2)):
        text = f"Expected 1 feed tensors, but got {len(given)}"
        with pytest.raises(tf.errors.InvalidArgumentError, match=text):
            step(*given)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Tensor no:0 was not found"):
        make(CallableOptions(fetch=["no:0"]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least one target"):
        make(CallableOptions())


def test_options_of_a_callable_from_names(session: Any) -> None:
    tf.constant(1.0, name="k")
    options = CallableOptions(fetch=["k:0"])
    options.run_options.trace_level = RunOptions.FULL_TRACE
    metadata = RunMetadata()
    assert session._make_callable_from_options(options)(run_metadata=metadata) == [1]
    assert len(metadata.step_stats.dev_stats) == 1


def test_names_of_the_client_module() -> None:
    assert client.Session is tf.Session
    assert client.register_session_run_conversion_functions is not None
    assert tf.python.client.session is client
