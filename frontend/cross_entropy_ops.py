"""Cross entropies of ``tf.nn``: losses of each row of logits against labels.

Arguments go by keyword in TensorFlow 1 because the order of labels and logits changed between
versions; the positional order here is that of 1.5 and later.
"""

from __future__ import annotations

from typing import Any

from stepforge.frontend import elementwise_ops
from stepforge.frontend.array_ops import zeros_like
from stepforge.frontend.convert import convert_to_tensor
from stepforge.frontend.core_ops import stop_gradient
from stepforge.frontend.dtypes import bfloat16, float16, float32
from stepforge.frontend.graph import create_op
from stepforge.frontend.indexing_ops import where
from stepforge.frontend.joining_ops import concat, stack
from stepforge.frontend.nn_ops import relu
from stepforge.frontend.node_calls import call, call_op, integer_argument, renamed
from stepforge.frontend.operation import Tensor
from stepforge.frontend.scopes import name_scope
from stepforge.frontend.shape_ops import rank, reshape, shape, transpose
from stepforge.frontend.slicing import slice


def _both(function: str, labels: Any, logits: Any) -> None:
    if labels is None or logits is None:
        raise ValueError(
            f"Both `labels` and `logits` must be provided for {function}. Received: "
            f"labels={labels} and logits={logits}"
        )


def _as_matrix(value: Tensor) -> Tensor:
    """All axes but the last one flattened into one."""
    count, sizes = rank(value), shape(value)
    width = slice(sizes, [elementwise_ops.subtract(count, 1)], [1])
    return reshape(value, concat([[-1], width], 0))


def _axis_to_end(value: Tensor, axis: int) -> Tensor:
    count = value.shape.ndims
    if count is None:
        raise ValueError("cross entropy over an axis that is not the last wants a known rank")
    axis %= count
    return transpose(value, [n for n in range(count) if n != axis] + [axis])


def _cross_entropy(labels: Any, logits: Any, axis: int, name: str | None) -> Tensor:
    with name_scope(name, "softmax_cross_entropy_with_logits") as scope:
        given = convert_to_tensor(logits, name="logits")
        wanted = convert_to_tensor(labels, name="labels")
        half = given.dtype.base_dtype in (float16, bfloat16)
        precise = elementwise_ops.cast(given, float32) if half else given
        wanted = elementwise_ops.cast(wanted, precise.dtype.base_dtype)
        count = rank(precise)
        if axis != -1:
            precise, wanted = _axis_to_end(precise, axis), _axis_to_end(wanted, axis)
        sizes = shape(precise)
        inputs = (_as_matrix(precise), _as_matrix(wanted))
        loss = call_op("SoftmaxCrossEntropyWithLogits", inputs, None, scope).outputs[0]
        outer = slice(sizes, [0], [elementwise_ops.subtract(count, 1)])
        loss = reshape(loss, outer)
        static = given.shape.sizes
        if static is not None:
            loss.set_shape([n for i, n in enumerate(static) if i != axis % len(static)])
        return elementwise_ops.cast(loss, given.dtype.base_dtype) if half else loss


def softmax_cross_entropy_with_logits_v2(
    labels: Any, logits: Any, axis: Any = None, name: str | None = None, dim: Any = None
) -> Tensor:
    """The cross entropy of softmax(logits) and labels over ``axis``; gradients flow to both."""
    axis = renamed("axis", axis, "dim", dim)
    return _cross_entropy(labels, logits, -1 if axis is None else axis, name)


def softmax_cross_entropy_with_logits(
    labels: Any = None,
    logits: Any = None,
    dim: int = -1,
    name: str | None = None,
    axis: Any = None,
) -> Tensor:
    """The cross entropy of softmax(logits) and labels; labels count as constants for gradients.

    Raises: ValueError where labels or logits are missing.
    """
    _both("softmax_cross_entropy_with_logits", labels, logits)
    with name_scope(name, "softmax_cross_entropy_with_logits_sg") as scope:
        labels = stop_gradient(labels, name="labels_stop_gradient")
    return _cross_entropy(labels, logits, dim if axis is None else axis, scope)


def sparse_softmax_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, name: str | None = None
) -> Tensor:
    """The cross entropy of softmax(logits) over the last axis with class numbers as labels.

    Raises: ValueError where labels or logits are missing or their shapes do not fit; a label out of
    range is an error of the running step.
    """
    _both("sparse_softmax_cross_entropy_with_logits", labels, logits)
    with name_scope(name, "SparseSoftmaxCrossEntropyWithLogits"):
        classes = convert_to_tensor(labels)
        given = convert_to_tensor(logits)
        integer_argument("SparseSoftmaxCrossEntropyWithLogits", "labels", classes)
        half = given.dtype.base_dtype is float16
        precise = elementwise_ops.cast(given, float32) if half else given
        _check_sparse_shapes(classes, given)
        outer = shape(classes)
        if given.shape.ndims == 2:
            loss = _sparse_loss(precise, classes, name)
        else:
            width = shape(given)[-1]  # type: ignore[index]
            matrix = reshape(precise, stack([-1, width]))
            loss = reshape(_sparse_loss(matrix, reshape(classes, [-1]), name), outer)
            loss.set_shape(classes.shape)
        return elementwise_ops.cast(loss, float16) if half else loss


def _check_sparse_shapes(labels: Tensor, logits: Tensor) -> None:
    """Raises: ValueError where the shapes are known not to fit."""
    outer = logits.shape.sizes
    if outer is None:
        return
    if not outer:
        raise ValueError(f"`logits` cannot be a scalar. Received logits={logits}`")
    if labels.shape.ndims not in (None, len(outer) - 1):
        raise ValueError(
            "`labels.shape.rank` must equal `logits.shape.rank - 1`. Received: "
            f"labels.shape={labels.shape} of rank {labels.shape.ndims} and logits.shape="
            f"{logits.shape} of rank {len(outer)}"
        )
    known = labels.shape.is_fully_defined() and None not in outer[:-1]
    if known and tuple(labels.shape.as_list()) != tuple(outer[:-1]):
        raise ValueError(
            "`labels.shape` must equal `logits.shape` except for the last dimension. Received: "
            f"labels.shape={labels.shape} and logits.shape={logits.shape}"
        )


def _sparse_loss(logits: Tensor, labels: Tensor, name: str | None) -> Tensor:
    op = create_op("SparseSoftmaxCrossEntropyWithLogits", (logits, labels), None, name)
    return op.outputs[0]


def _logistic_inputs(labels: Any, logits: Any) -> tuple[Tensor, Tensor]:
    given = convert_to_tensor(logits, name="logits")
    wanted = convert_to_tensor(labels, name="labels")
    if not wanted.shape.is_compatible_with(given.shape):
        raise ValueError(
            f"`logits` and `labels` must have the same shape, received ({given.shape} vs "
            f"{wanted.shape})."
        )
    return given, wanted


def sigmoid_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, name: str | None = None
) -> Tensor:
    """The cross entropy of sigmoid(logits) and labels, without overflow.

    Raises: ValueError where one is missing or the shapes differ.
    """
    _both("sigmoid_cross_entropy_with_logits", labels, logits)
    with name_scope(name, "logistic_loss") as scope:
        x, z = _logistic_inputs(labels, logits)
        zeros = zeros_like(x)
        positive = call("GreaterEqual", (x, zeros))
        above = where(positive, x, zeros)
        below = where(positive, elementwise_ops.neg(x), x)
        linear = above - x * z  # type: ignore[operator]
        return elementwise_ops.add(
            linear, elementwise_ops.log1p(elementwise_ops.exp(below)), scope
        )


def weighted_cross_entropy_with_logits(
    labels: Any = None,
    logits: Any = None,
    pos_weight: Any = None,
    name: str | None = None,
    targets: Any = None,
) -> Tensor:
    """``sigmoid_cross_entropy_with_logits`` with positive labels weighted by ``pos_weight``."""
    labels = renamed("labels", labels, "targets", targets)
    with name_scope(name, "logistic_loss") as scope:
        x, z = _logistic_inputs(labels, logits)
        weight: Any = 1 + (pos_weight - 1) * z
        linear: Any = (1 - z) * x  # type: ignore[operator]
        size = elementwise_ops.neg(elementwise_ops.abs(x))
        tail: Any = elementwise_ops.log1p(elementwise_ops.exp(size))
        tail = tail + relu(elementwise_ops.neg(x))
        return elementwise_ops.add(linear, weight * tail, scope)
