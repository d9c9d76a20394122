"""``STEPFORGE_CHECK=1``: what is planted in a pass, or behind all passes, is found and named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import stepforge as tf
from stepforge.ir import opdef
from stepforge.passes import bufferize, contract, lower_regions, merge_loops, plan
from stepforge.passes.order import ORDER
from stepforge.passes.patterns import ops, rule
from stepforge.passes.rules import x
from stepforge.passes.simplify import simplify

X = np.array([[1, 2, 3], [4, 5, 7]], np.float32)
tanh, sigmoid = ops("tanh sigmoid")


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("STEPFORGE_CHECK", "1")
    with tf.Graph().as_default(), tf.Session() as made:
        yield made


def plant(monkeypatch: pytest.MonkeyPatch, which: str, make: Callable[[Any], Any]) -> None:
    """Replace the last pass of the pipeline that is called ``which``."""
    for level, passes in ORDER.items():
        changed = [make(each) if each.__name__ == which else each for each in passes]
        monkeypatch.setitem(ORDER, level, tuple(changed))


def test_a_wrong_rule_is_named_with_the_line(session: Any, monkeypatch: Any) -> None:
    wrong = rule(tanh(x), sigmoid(x), "f")
    plant(monkeypatch, "simplify", lambda each: partial(simplify, extra=(wrong,)))
    feed = tf.placeholder(tf.float32, [None, 3])
    doubled = tf.add(feed, feed, name="doubled")
    bent = tf.tanh(doubled, name="bent")
    with pytest.raises(tf.errors.InternalError) as caught:
        session.run(tf.reduce_sum(bent), {feed: X})
    text = str(caught.value)
    assert "the pass 'simplify' changes what is computed" in text
    assert "%bent = sigmoid(%doubled)" in text
    assert "test_checking.py" in text
    assert "bent = tf.tanh(doubled" in text  # the user's line
    assert caught.value.op is bent.op


def softmax_sum(session: Any) -> Any:
    feed = tf.placeholder(tf.float32, [None, 3])
    rows = tf.nn.softmax(feed * 0.5, name="rows")
    return session.run(tf.exp(rows, name="after"), {feed: X})


def test_a_wrong_lowering_is_named(session: Any, monkeypatch: Any) -> None:
    def lower(self: Any, k: Any, out: Any, operand: Any) -> None:
        k.copy(operand, out)

    monkeypatch.setattr(type(opdef.lookup("softmax")), "lower", lower)
    with pytest.raises(tf.errors.InternalError, match="the pass 'lower'") as caught:
        softmax_sum(session)
    assert "%rows = softmax" in str(caught.value)
    assert caught.value.op.name == "rows"


def test_a_wrong_fusion_of_loops_is_named(session: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(merge_loops, "local", lambda *args: True)
    feed = tf.placeholder(tf.float32, [2, 3])
    rows = tf.exp(feed)
    with pytest.raises(tf.errors.InternalError, match="the pass 'merge_loops'"):
        session.run([tf.reduce_sum(rows, 1), tf.reverse(rows, [0])], {feed: X})


def test_a_wrong_contraction_is_named(session: Any, monkeypatch: Any) -> None:
    def wrong(function: Any) -> Any:
        made = contract.contract(function)
        assert made is not None
        return type(function)(made.name, without_last_store(made.body), made.globals)

    wrong.__name__ = "contract"
    plant(monkeypatch, "contract", lambda each: wrong)
    with pytest.raises(tf.errors.InternalError, match=r"the pass 'contract'.*was not stored"):
        softmax_sum(session)


def without_last_store(block: Any) -> Any:
    """A block without the last loop in it."""
    loops = [op for op in block.ops if op.name == "for"]
    return type(block)(block.params, tuple(op for op in block.ops if op is not loops[-1]))


def test_a_wrong_plan_is_named(session: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(plan, "last_uses", lambda ops: {})  # every place is free at once
    feed = tf.placeholder(tf.float32, [64, 64])
    first = tf.matmul(feed, feed)
    a, b = tf.matmul(first, feed), tf.matmul(first, feed, transpose_a=True)
    with pytest.raises(tf.errors.InternalError, match="the pass 'plan'"):
        session.run(tf.matmul(a, b), {feed: np.tri(64, dtype=np.float32)})


def test_an_update_in_place_that_comes_too_early_is_named(session: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(bufferize, "_undisturbed", lambda *args: True)
    a, b = tf.Variable([1.0, 2.0]), tf.Variable([3.0, 4.0])
    session.run(tf.global_variables_initializer())
    old_a, old_b = tf.negative(a), tf.negative(b)
    with tf.control_dependencies([old_a, old_b]):
        swap = tf.group(tf.assign(a, old_b), tf.assign(b, old_a))
    with pytest.raises(tf.errors.InternalError, match=r"the pass 'lower'.*@Variable"):
        session.run(swap)
    assert session.run([a, b])[0].tolist() == [1, 2]  # the check ran on copies


def test_wrong_native_code_is_named(session: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(type(opdef.lookup("expm1")), "scalar", lambda self, k, v: k.exp(v))
    feed = tf.placeholder(tf.float32, [None])
    with pytest.raises(tf.errors.InternalError, match="the pass 'native code'"):
        session.run(tf.expm1(feed), {feed: X[0]})


def test_a_pass_that_makes_no_valid_function_is_named(session: Any, monkeypatch: Any) -> None:
    def not_valid(function: Any) -> Any:
        block = type(function.body)(function.params, function.body.ops[1:])
        return type(function)(function.name, block, function.globals)

    plant(monkeypatch, "cse", lambda each: not_valid)
    feed = tf.placeholder(tf.float32, [None])
    with pytest.raises(Exception, match="the pass 'not_valid' made a function that is not valid"):
        session.run(tf.exp(tf.tanh(feed)), {feed: X[0]})


def test_checked_steps_give_what_others_give(session: Any) -> None:
    feed = tf.placeholder(tf.float32, [None, 3])
    v = tf.Variable(np.array([[1, 0], [0, 1], [1, 2]], np.float32))
    loss = tf.reduce_mean(tf.square(tf.nn.log_softmax(tf.matmul(feed, v))))
    train = tf.train.AdamOptimizer(0.1).minimize(loss)
    session.run(tf.global_variables_initializer())
    step = session.make_callable([train, loss], [feed])
    losses = [step(X)[1] for _ in range(3)]  # the first is checked, the others are native
    assert losses[0] > losses[1] > losses[2]
    number = tf.random_uniform([], seed=3)
    drawn = [session.run(number) for _ in range(2)]
    assert drawn[0] != drawn[1]


def test_errors_of_the_user_are_no_findings(session: Any) -> None:
    feed, index = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.int32, [None])
    v = tf.Variable(0.0)
    picked = tf.gather(feed, index)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"= 5 is not in \[0, 3\)"):
        session.run(picked, {feed: X[0], index: [0, 5]})
    with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized"):
        session.run(v + 1.0)


def test_effects_outside_happen_once(session: Any) -> None:
    seen: list[float] = []
    feed = tf.placeholder(tf.float32, [])
    called = tf.py_func(lambda value: seen.append(float(value)) or value, [feed], tf.float32)
    called.set_shape([])
    assert session.run(called * 2.0, {feed: 4.0}) == 8
    assert seen == [4.0]


def test_a_store_can_be_checked_without_the_environment(monkeypatch: Any) -> None:
    monkeypatch.setattr(lower_regions, "combine", lambda k, kind, a, b: a)
    with tf.Graph().as_default(), tf.Session() as session:
        session.store.checked = True
        feed = tf.placeholder(tf.float32, [None])
        with pytest.raises(tf.errors.InternalError, match="the pass 'lower'"):
            session.run(tf.reduce_sum(feed), {feed: X[0]})
