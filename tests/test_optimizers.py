"""Optimizers, learning rates, moving averages: values and names recorded from TensorFlow 2.21."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import stepforge as tf
from stepforge import train

START = [[1.0, -2.0], [3.0, 0.5], [0.25, 4.0]]
SCALES = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]

# name -> (the optimizer, the variable after three dense steps, after three steps of slices)
STEPS: dict[str, tuple[Callable[[], Any], Any, Any]] = {
    "GradientDescent": (
        lambda: train.GradientDescentOptimizer(0.1),
        [[0.51199996, -0.43200001], [0.192, 0.0039999988], [0.0, -0.032000005]],
        [[-0.0079999976, 0.43200001], [3.0, 0.5], [0.015999997, 0.03199999]],
    ),
    "Momentum": (
        lambda: train.MomentumOptimizer(0.1, 0.9),
        [[0.062000006, 1.0799999], [-2.5619998, -0.46399996], [-0.2025, -2.1919994]],
        [[-0.54799986, -0.43199992], [3.0, 0.5], [-0.21349996, -3.7119997]],
    ),
    "Nesterov": (
        lambda: train.MomentumOptimizer(0.1, 0.9, use_nesterov=True),
        [[-0.10835198, 0.86659187], [-0.91219187, -0.024943992], [5.9008594e-09, -1.9345284]],
        [[-0.48363197, 8.7367668], [3.0, 0.5], [-0.076015994, -0.19955194]],
    ),
    "Adam": (
        lambda: train.AdamOptimizer(0.1),
        [[0.70158732, -1.7006245], [2.7003827, 0.20487225], [-0.03020747, 3.7002749]],
        [[0.70158726, -1.7006245], [3.0, 0.5], [-0.03020744, 3.7002749]],
    ),
    "RMSProp": (
        lambda: train.RMSPropOptimizer(0.1, momentum=0.5),
        [[0.38715401, -1.0266469], [1.9643114, -0.12457296], [-0.083644539, 2.9437046]],
        [[0.094097793, -0.98320591], [3.0, 0.5], [-0.076909885, 2.9455335]],
    ),
    "CenteredRMSProp": (
        lambda: train.RMSPropOptimizer(0.1, centered=True),
        [[0.5589304, -1.2821227], [2.2317686, 0.050475903], [0.00046934094, 3.2148597]],
        [[0.33750007, -1.2478424], [3.0, 0.5], [0.016113015, 3.2163107]],
    ),
    "Adagrad": (
        lambda: train.AdagradOptimizer(0.1),
        [[0.78229922, -1.7759407], [2.7743828, 0.29133651], [0.067368582, 3.7736468]],
        [[0.78050816, -1.775829], [3.0, 0.5], [0.068828948, 3.7736509]],
    ),
    "Adadelta": (
        lambda: train.AdadeltaOptimizer(1.0),
        [[0.99864346, -1.9986433], [2.9986432, 0.49864376], [0.24864444, 3.9986429]],
        [[0.99864346, -1.9986433], [3.0, 0.5], [0.24864444, 3.9986429]],
    ),
    "Ftrl": (
        lambda: train.FtrlOptimizer(
            0.1, l1_regularization_strength=0.01, l2_regularization_strength=0.01
        ),
        [[0.6368438, -1.6988581], [2.7223692, 0.25821364], [0.049892433, 3.7474983]],
        [[0.75574088, -1.7565253], [3.0, 0.5], [0.040945012, 3.7344315]],
    ),
    "FtrlShrinkage": (
        lambda: train.FtrlOptimizer(
            0.1, learning_rate_power=-0.7, l2_shrinkage_regularization_strength=0.1
        ),
        [[0.75969678, -1.8838878], [2.9220984, 0.36752844], [0.10518205, 3.9515841]],
        [[0.91626626, -1.9443893], [3.0, 0.5], [0.07217899, 3.9405627]],
    ),
    "ProximalGradientDescent": (
        lambda: train.ProximalGradientDescentOptimizer(0.1, 0.1, 0.2),
        [[0.45894498, -0.38812], [0.16576956, 0.0], [0.0, -0.01805114]],
        [[-0.0, 0.38811997], [3.0, 0.5], [0.0, 0.018051118]],
    ),
    "ProximalAdagrad": (
        lambda: train.ProximalAdagradOptimizer(
            0.1, 0.1, l1_regularization_strength=0.1, l2_regularization_strength=0.2
        ),
        [[0.7522549, -1.7625926], [2.7659009, 0.28196687], [0.057892617, 3.7695112]],
        [[0.77541459, -1.7724832], [3.0, 0.5], [0.053246055, 3.7674491]],
    ),
}


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    with tf.Graph().as_default() as made:
        yield made


def nodes() -> list[str]:
    """Nodes that are no part of a gradient, as ``name=Type(inputs ^control)``."""
    found = []
    for op in tf.get_default_graph().get_operations():
        control = "".join(f" ^{c.name}" for c in op.control_inputs)
        if not op.name.startswith("gradients"):
            found.append(f"{op.name}={op.type}({','.join(t.name for t in op.inputs)}{control})")
    return found


# ---- values --------------------------------------------------------------------------------------
@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("name", STEPS)
def test_dense_steps(name: str, resource: bool) -> None:
    make, expected, _ = STEPS[name]
    w = tf.Variable(START, use_resource=resource)
    op = make().minimize(tf.reduce_sum(w * w * SCALES))
    np.testing.assert_allclose(after_three(op, w), expected, rtol=1e-6)


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("name", STEPS)
def test_sparse_steps(name: str, resource: bool) -> None:
    make, _, expected = STEPS[name]
    w = tf.Variable(START, use_resource=resource)
    rows = tf.gather(w, [0, 2, 0])
    op = make().minimize(tf.reduce_sum(rows * rows * SCALES))
    np.testing.assert_allclose(after_three(op, w), expected, rtol=1e-6)


def after_three(op: Any, variable: Any) -> Any:
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(3):
            session.run(op)
        return session.run(variable)


def test_constraints_and_global_step() -> None:
    v = tf.Variable(2.0, constraint=lambda value: tf.clip_by_value(value, 0.5, 1.0))
    step = train.get_or_create_global_step()
    op = train.GradientDescentOptimizer(1.0).minimize(v * v, global_step=step)
    assert after_three(op, v) == 0.5
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(op)
        assert session.run(step) == 1


def test_hyperparameters_may_be_tensors_and_functions() -> None:
    v = tf.Variable([1.0, 2.0])
    rate = tf.placeholder(tf.float32, [])
    op = train.MomentumOptimizer(rate, lambda: 0.5).minimize(tf.reduce_sum(v))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(op, {rate: 0.1})
        session.run(op, {rate: 0.2})
        np.testing.assert_allclose(session.run(v), [0.6, 1.6], rtol=1e-6)


def test_half_precision_variables() -> None:
    v = tf.Variable(np.array([1.0, 2.0]), dtype=tf.float64)
    op = train.AdamOptimizer(0.1).minimize(tf.reduce_sum(v * v))
    assert after_three(op, v).dtype == np.float64


# ---- names ---------------------------------------------------------------------------------------
def test_names_of_gradient_descent() -> None:
    w = tf.Variable([1.0, 2.0], name="w")
    before = len(nodes())
    op = train.GradientDescentOptimizer(0.1).minimize(tf.reduce_sum(w))
    assert op.name == "GradientDescent"
    assert [n.partition("=")[0] for n in nodes()[before + 2 :]] == [
        "GradientDescent/learning_rate",
        "GradientDescent/update_w/ApplyGradientDescent",
        "GradientDescent",
    ]
    assert tf.get_collection(tf.GraphKeys.TRAIN_OP) == [op]


def test_names_of_adam() -> None:
    w = tf.Variable([1.0, 2.0], name="w")
    optimizer = train.AdamOptimizer()
    step = train.get_or_create_global_step()
    op = optimizer.minimize(tf.reduce_sum(w), global_step=step)
    assert (op.name, op.type) == ("Adam", "AssignAdd")
    names = [v.op.name for v in tf.global_variables()]
    assert names == ["w", "global_step", "beta1_power", "beta2_power", "w/Adam", "w/Adam_1"]
    assert nodes()[-8:] == [
        "Adam/update_w/ApplyAdam=ApplyAdam(w:0,w/Adam:0,w/Adam_1:0,beta1_power/read:0,"
        "beta2_power/read:0,Adam/learning_rate:0,Adam/beta1:0,Adam/beta2:0,Adam/epsilon:0,"
        "gradients/Sum_grad/ExpandReduced:0)",
        "Adam/mul=Mul(beta1_power/read:0,Adam/beta1:0 ^Adam/update_w/ApplyAdam)",
        "Adam/Assign=Assign(beta1_power:0,Adam/mul:0)",
        "Adam/mul_1=Mul(beta2_power/read:0,Adam/beta2:0 ^Adam/update_w/ApplyAdam)",
        "Adam/Assign_1=Assign(beta2_power:0,Adam/mul_1:0)",
        "Adam/update=NoOp( ^Adam/update_w/ApplyAdam ^Adam/Assign ^Adam/Assign_1)",
        "Adam/value=Const( ^Adam/update)",
        "Adam=AssignAdd(global_step:0,Adam/value:0)",
    ]
    assert optimizer.get_slot_names() == ["m", "v"]
    assert optimizer.get_slot(w, "v").op.name == "w/Adam_1"
    assert [v.op.name for v in optimizer.variables()] == names[2:]


def test_names_of_slices() -> None:
    w = tf.Variable([1.0, 2.0], name="w")
    before = len(nodes())
    train.AdagradOptimizer(0.1).minimize(tf.reduce_sum(tf.gather(w, [0, 1, 1])))
    tail = nodes()[before:]
    assert "w/Adagrad/Initializer/Const=Const()" in tail
    assert tail[-2] == (
        "Adagrad/update_w/SparseApplyAdagrad=SparseApplyAdagrad(w:0,w/Adagrad:0,"
        "Adagrad/learning_rate:0,Adagrad/update_w/UnsortedSegmentSum:0,Adagrad/update_w/Unique:0)"
    )


def test_a_second_optimizer_has_slots_of_its_own() -> None:
    v = tf.Variable(1.0, name="v")
    for _ in range(2):
        train.AdamOptimizer(name="A").minimize(v * v)
    slots = [s.op.name for s in tf.global_variables()][1:]
    assert slots[2:4] + slots[6:] == ["v/A", "v/A_1", "v/A_2", "v/A_3"]
    assert slots[4] == "beta1_power_1"


# ---- errors --------------------------------------------------------------------------------------
def test_errors() -> None:
    optimizer = train.GradientDescentOptimizer(0.1)
    with pytest.raises(ValueError, match="No variables to optimize"):
        optimizer.minimize(tf.constant(1.0))
    v = tf.Variable(1.0, name="v")
    with pytest.raises(
        ValueError, match="No gradients provided for any variable, check your graph"
    ):
        optimizer.minimize(tf.constant(1.0))
    with pytest.raises(ValueError, match="gate_gradients must be one of"):
        optimizer.minimize(v * v, gate_gradients=7)
    with pytest.raises(ValueError, match=r"Invalid type tf\.int32 for Cast:0"):
        optimizer.compute_gradients(tf.cast(v, tf.int32))
    with pytest.raises(ValueError, match=r"No variables provided\."):
        optimizer.apply_gradients([])
    with pytest.raises(ValueError, match="No gradients provided for any variable: "):
        optimizer.apply_gradients([(None, v)])
    with pytest.raises(
        TypeError, match="Input 'delta' of 'ApplyGradientDescent' Op has type string"
    ):
        optimizer.apply_gradients([("a", v)])
    with pytest.raises(ValueError, match="Shapes must be equal rank, but are 0 and 1"):
        optimizer.apply_gradients([(tf.ones([2]), v)])
    with pytest.raises(NotImplementedError, match="Trying to update a Tensor"):
        optimizer.apply_gradients([(3.0, tf.constant(1.0))])
    with pytest.raises(ValueError, match="initial_accumulator_value must be positive"):
        train.AdagradOptimizer(0.1, 0.0)


def test_optimizers_of_programs() -> None:
    """Programs define TensorFlow's hooks."""

    class SignDescent(train.Optimizer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(False, "Sign")

        def _apply_dense(self, grad: Any, var: Any) -> Any:
            return tf.assign_sub(var, tf.sign(grad)).op

    v = tf.Variable([1.0, -5.0])
    assert after_three(SignDescent().minimize(tf.reduce_sum(v * v)), v).tolist() == [0.0, -2.0]


# ---- learning rates ------------------------------------------------------------------------------
RATES: dict[str, tuple[Callable[..., Any], list[float]]] = {
    "exponential": (
        lambda r, s: train.exponential_decay(r, s, 10, 0.5),
        [0.1, 0.0933033, 0.07071068, 0.05, 0.04665165, 0.01767767],
    ),
    "exponential staircase": (
        lambda r, s: train.exponential_decay(r, s, 10, 0.5, staircase=True),
        [0.1, 0.1, 0.1, 0.05, 0.05, 0.025],
    ),
    "natural exponential": (
        lambda r, s: train.natural_exp_decay(r, s, 10, 0.5),
        [0.1, 0.09512295, 0.07788008, 0.06065307, 0.05769498, 0.02865048],
    ),
    "inverse time": (
        lambda r, s: train.inverse_time_decay(r, s, 10, 0.5),
        [0.1, 0.0952381, 0.08, 0.06666667, 0.06451613, 0.04444445],
    ),
    "inverse time staircase": (
        lambda r, s: train.inverse_time_decay(r, s, 10, 0.5, staircase=True),
        [0.1, 0.1, 0.1, 0.06666667, 0.06666667, 0.05],
    ),
    "polynomial": (
        lambda r, s: train.polynomial_decay(r, s, 10, 0.01, power=2.0),
        [0.1, 0.0829, 0.0325, 0.01, 0.01, 0.01],
    ),
    "polynomial cycle": (
        lambda r, s: train.polynomial_decay(r, s, 10, 0.01, cycle=True),
        [0.1, 0.091, 0.055, 0.01, 0.0505, 0.025],
    ),
    "cosine": (
        lambda r, s: train.cosine_decay(r, s, 10, alpha=0.1),
        [0.1, 0.09779754, 0.055, 0.01, 0.01, 0.01],
    ),
    "cosine restarts": (
        lambda r, s: train.cosine_decay_restarts(r, s, 5, 1.5, 0.9, 0.1),
        [0.1, 0.09140576, 0.091, 0.03025, 0.01773481, 0.07472573],
    ),
    "cosine equal restarts": (
        lambda r, s: train.cosine_decay_restarts(r, s, 5, t_mul=1.0),
        [0.1, 0.09045085, 0.1, 0.1, 0.09045085, 0.1],
    ),
    "linear cosine": (
        lambda r, s: train.linear_cosine_decay(r, s, 10),
        [0.1001, 0.08789755, 0.0251, 0.0001, 0.0001, 0.0001],
    ),
    "piecewise": (
        lambda r, s: train.piecewise_constant(s, [1, 10], [r, 0.2, 0.3]),
        [0.1, 0.1, 0.2, 0.2, 0.3, 0.3],
    ),
}


@pytest.mark.parametrize("name", RATES)
def test_learning_rates(name: str) -> None:
    make, expected = RATES[name]
    step = tf.placeholder(tf.int32, [])
    rate = tf.Session().make_callable(make(0.1, step), [step])
    found = [rate(np.int32(n)) for n in (0, 1, 5, 10, 11, 25)]
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-7)


def test_learning_rate_errors() -> None:
    with pytest.raises(ValueError, match="global_step is required"):
        train.exponential_decay(0.1, None, 10, 0.9)
    with pytest.raises(ValueError, match="must have the same dtype as x"):
        train.piecewise_constant(tf.constant(5), [1.0], [0.1, 0.2])
    with pytest.raises(ValueError, match="length of boundaries"):
        train.piecewise_constant(tf.constant(5), [1], [0.1])


# ---- moving averages -----------------------------------------------------------------------------
def test_moving_average_of_a_variable() -> None:
    v = tf.Variable([1.0, 2.0], name="v")
    average = train.ExponentialMovingAverage(0.9)
    update = average.apply([v])
    assert average.average(v).op.name == average.average_name(v) == "v/ExponentialMovingAverage"
    assert tf.moving_average_variables() == [v]
    assert list(average.variables_to_restore()) == ["v/ExponentialMovingAverage"]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(v.assign([3.0, 3.0]))
        for _ in range(2):
            session.run(update)
        np.testing.assert_allclose(session.run(average.average(v)), [1.38, 2.19], rtol=1e-6)


def test_moving_average_of_a_tensor() -> None:
    t = tf.placeholder(tf.float32, [])
    average = train.ExponentialMovingAverage(0.9, num_updates=3, zero_debias=True)
    update = average.apply([t])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for value in (2.0, 4.0):
            session.run(update, {t: value})
        weight = 1 - 4 / 13
        biased = 2 * weight * (4 / 13) + 4 * weight
        expected = biased / (1 - (4 / 13) ** 2)
        np.testing.assert_allclose(session.run(average.average(t)), expected, rtol=1e-5)
