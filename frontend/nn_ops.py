"""``tf.nn``: activations, softmax, biases, dropout, the best k."""

from __future__ import annotations

import numbers
from typing import Any, NamedTuple

import numpy as np

from stepforge.frontend import elementwise_ops, linalg_ops
from stepforge.frontend.convert import constant, convert_to_tensor
from stepforge.frontend.dtypes import as_dtype, float32, int32
from stepforge.frontend.graph import create_op
from stepforge.frontend.indexing_ops import where_v2
from stepforge.frontend.joining_ops import concat
from stepforge.frontend.node_calls import binary, call, integer_argument, renamed
from stepforge.frontend.operation import Tensor
from stepforge.frontend.scopes import name_scope
from stepforge.frontend.seeds import get_seed
from stepforge.frontend.shape_ops import shape, transpose
from stepforge.frontend.shapes import as_shape
from stepforge.ir.errors import InvalidArgumentError

# Nodes that gradients are made of.
relu_grad = binary("relu_grad", "ReluGrad", "The gradient of ``relu`` from dy and its result.")
relu6_grad = binary("relu6_grad", "Relu6Grad", "The gradient of ``relu6`` from dy and its result.")
elu_grad = binary("elu_grad", "EluGrad", "The gradient of ``elu`` from dy and its result.")
selu_grad = binary("selu_grad", "SeluGrad", "The gradient of ``selu`` from dy and its result.")
softplus_grad = binary(
    "softplus_grad", "SoftplusGrad", "The gradient of ``softplus`` from dy and x."
)
softsign_grad = binary(
    "softsign_grad", "SoftsignGrad", "The gradient of ``softsign`` from dy and x."
)
sigmoid, tanh = elementwise_ops.sigmoid, elementwise_ops.tanh


# ---- activations --------------------------------------------------------------------------------
def relu(features: Any, name: str | None = None) -> Tensor:
    """``max(features, 0)``; its gradient at 0 is 0."""
    return call("Relu", (features,), None, name)


def relu6(features: Any, name: str | None = None) -> Tensor:
    """``min(max(features, 0), 6)``."""
    return call("Relu6", (features,), None, name)


def elu(features: Any, name: str | None = None) -> Tensor:
    """``features`` where positive, else ``exp(features) - 1``."""
    return call("Elu", (features,), None, name)


def selu(features: Any, name: str | None = None) -> Tensor:
    """The scaled exponential linear unit."""
    return call("Selu", (features,), None, name)


def softplus(features: Any, name: str | None = None) -> Tensor:
    """``log(1 + exp(features))``."""
    return call("Softplus", (features,), None, name)


def softsign(features: Any, name: str | None = None) -> Tensor:
    """``features / (1 + |features|)``."""
    return call("Softsign", (features,), None, name)


def leaky_relu(features: Any, alpha: float = 0.2, name: str | None = None) -> Tensor:
    """``features`` where positive, else ``alpha * features``; integers become float32."""
    with name_scope(name, "LeakyRelu") as scope:
        value = convert_to_tensor(features, name="features")
        if value.dtype.is_integer:
            value = elementwise_ops.cast(value, float32)
        attrs = {"alpha": float(np.float32(alpha))}  # which is how the attribute is stored
        return create_op("LeakyRelu", (value,), attrs, scope).outputs[0]


def leaky_relu_grad(gradients: Tensor, features: Tensor, alpha: float) -> Tensor:
    """The gradient of ``leaky_relu`` from dy and x."""
    return call("LeakyReluGrad", (gradients, features), {"alpha": alpha})


def crelu(features: Any, name: str | None = None, axis: int = -1) -> Tensor:
    """``relu`` of the features and of their negatives, side by side along ``axis``."""
    with name_scope(name, "CRelu") as scope:
        value = convert_to_tensor(features, name="features")
        return relu(concat([value, elementwise_ops.neg(value)], axis, name=scope))


def swish(features: Any, beta: Any = 1.0) -> Tensor:
    """``features * sigmoid(beta * features)``."""
    value = convert_to_tensor(features, name="features")
    scale = elementwise_ops.cast(convert_to_tensor(beta, name="beta"), value.dtype)
    gate = sigmoid(call("Mul", (scale, value), None, "mul"))
    return call("Mul", (value, gate), None, "mul")


silu = swish


def l2_loss(t: Any, name: str | None = None) -> Tensor:
    """Half the sum of squares."""
    return call("L2Loss", (t,), None, name)


# ---- softmax ------------------------------------------------------------------------------------
def _over_axis(type_: str, logits: Any, axis: Any, name: str | None) -> Tensor:
    """A node that works on the last axis, applied to another one by transposing there and back.

    Raises: InvalidArgumentError for an axis that the logits have not.
    """
    value = convert_to_tensor(logits)
    rank = value.shape.ndims
    if axis is None or axis == -1 or (rank is not None and axis == rank - 1):
        return create_op(type_, (value,), None, name).outputs[0]
    if rank is None:
        raise ValueError(f"{type_}: an axis other than the last one wants logits of known rank")
    if not -rank <= axis < rank:
        raise InvalidArgumentError(
            None, None,
            f"`dim` must be in the range [{-rank}, {rank}) where {rank} is the number of "
            f"dimensions in the input. Received: dim={axis}",
        )
    swapped = list(range(rank))
    swapped[axis], swapped[-1] = swapped[-1], swapped[axis]
    moved = transpose(value, swapped)
    result = create_op(type_, (moved,)).outputs[0]
    return transpose(result, swapped, name=name or "transpose")


def softmax(
    logits: Any, axis: Any = None, name: str | None = None, dim: Any = None
) -> Tensor:
    """``exp(logits) / sum(exp(logits))`` over ``axis``, by default the last one."""
    return _over_axis("Softmax", logits, renamed("axis", axis, "dim", dim), name)


def log_softmax(
    logits: Any, axis: Any = None, name: str | None = None, dim: Any = None
) -> Tensor:
    """``logits - log(sum(exp(logits)))`` over ``axis``, by default the last one."""
    return _over_axis("LogSoftmax", logits, renamed("axis", axis, "dim", dim), name)


# ---- biases and layers --------------------------------------------------------------------------
def bias_add(
    value: Any, bias: Any, data_format: str | None = None, name: str | None = None
) -> Tensor:
    """``value`` plus a vector along the axis of channels. Raises: ValueError for another format."""
    layout = "NHWC"
    if data_format is not None:
        if data_format.startswith("NC"):
            layout = "NCHW"
        elif not (data_format.startswith("N") and data_format.endswith("C")):
            raise ValueError(
                "`data_format` must be of the form `N...C` or `NC...`. Received: "
                f"data_format={data_format}"
            )
    attrs = {"data_format": layout}
    if isinstance(value, Tensor) and isinstance(bias, Tensor):
        return call("BiasAdd", (value, bias), attrs, name)
    with name_scope(name, "BiasAdd") as scope:
        tensor = convert_to_tensor(value, name="input")
        vector = convert_to_tensor(bias, tensor.dtype.base_dtype, "bias")
        return call("BiasAdd", (tensor, vector), attrs, scope)


def bias_add_grad(out_backprop: Any, data_format: str = "NHWC", name: str | None = None) -> Tensor:
    """The sum of a tensor for each channel."""
    return call("BiasAddGrad", (out_backprop,), {"data_format": data_format}, name)


def xw_plus_b(x: Any, weights: Any, biases: Any, name: str | None = None) -> Tensor:
    """``x @ weights + biases``."""
    with name_scope(name, "xw_plus_b") as scope:
        return bias_add(*_layer(x, weights, biases), name=scope)


def relu_layer(x: Any, weights: Any, biases: Any, name: str | None = None) -> Tensor:
    """``relu(x @ weights + biases)``."""
    with name_scope(name, "relu_layer") as scope:
        return relu(bias_add(*_layer(x, weights, biases)), scope)


def _layer(x: Any, weights: Any, biases: Any) -> tuple[Tensor, Tensor]:
    value = convert_to_tensor(x, name="x")
    matrix = convert_to_tensor(weights, name="weights")
    vector = convert_to_tensor(biases, name="biases")
    return linalg_ops.matmul(value, matrix), vector


# ---- dropout ------------------------------------------------------------------------------------
def dropout(
    x: Any,
    keep_prob: Any = None,
    noise_shape: Any = None,
    seed: int | None = None,
    name: str | None = None,
    rate: Any = None,
) -> Tensor:
    """``x`` with elements set to 0 at random, the others scaled so that the mean stays.

    ``rate``, or 1 - ``keep_prob``, is the share that is dropped; ``noise_shape`` broadcasts the
    choice. Raises: ValueError for a rate outside of [0, 1) or an ``x`` that is not floating point.
    """
    rate = _dropout_rate(keep_prob, rate)
    with name_scope(name, "dropout"):
        value = convert_to_tensor(x, name="x")
        dtype = value.dtype.base_dtype
        if not dtype.is_floating:
            raise ValueError(
                "`x.dtype` must be a floating point tensor as `x` will be scaled. Received: "
                f"x_dtype={value.dtype}"
            )
        if isinstance(rate, numbers.Real) and rate == 0:
            get_seed(seed)  # later random nodes get the seeds that they would get otherwise
            return value
        kept, threshold = _scaled(value, rate)
        from stepforge.frontend import random_ops  # which is built from this module's layer

        noise = random_ops.random_uniform(_noise_shape(value, noise_shape), dtype=dtype, seed=seed)
        keep = call("GreaterEqual", (noise, threshold))
        result = where_v2(keep, kept, constant(0, dtype))
        result.set_shape(value.shape)
        return result


def _dropout_rate(keep_prob: Any, rate: Any) -> Any:
    try:
        from_keep = None if keep_prob is None else 1.0 - keep_prob
    except TypeError:
        raise ValueError(
            "`keep_prob` must be a floating point number or Tensor. Received: "
            f"keep_prob={keep_prob}"
        ) from None
    rate = renamed("rate", rate, "keep_prob", from_keep)
    if rate is None:
        raise ValueError(f"`rate` must be provided. Received: rate={rate}")
    if isinstance(rate, numbers.Real) and not 0 <= float(rate) < 1:
        raise ValueError(
            "`rate` must be a scalar tensor or a float in the range [0, 1). Received: "
            f"rate={rate}"
        )
    return rate


def _scaled(value: Tensor, rate: Any) -> tuple[Tensor, Any]:
    """``value / (1 - rate)``, and the rate in its dtype."""
    dtype = value.dtype.base_dtype
    if isinstance(rate, numbers.Real):
        share: Any = rate
        return call("Mul", (value, convert_to_tensor(1 / (1 - share), dtype))), rate
    share = elementwise_ops.cast(convert_to_tensor(rate), dtype, "rate")
    if share.shape.ndims not in (None, 0):
        raise ValueError(f"Shape {share.shape} must have rank 0")
    kept = call("Sub", (constant(1, dtype), share))
    return call("RealDiv", (value, kept)), share


def _noise_shape(value: Tensor, noise_shape: Any) -> Any:
    """Unknown sizes of ``noise_shape`` are those of the value."""
    if noise_shape is None:
        return shape(value)
    try:
        sizes = as_shape(noise_shape).as_list()
    except (TypeError, ValueError):
        return noise_shape
    if value.shape.sizes is None or len(sizes) != len(value.shape.sizes):
        return noise_shape
    return [
        have if size is None else size
        for size, have in zip(sizes, value.shape.sizes, strict=True)
    ]


# ---- the best k ---------------------------------------------------------------------------------
def top_k(
    input: Any, k: Any = 1, sorted: bool = True, index_type: Any = int32, name: str | None = None
) -> TopK:
    """The ``k`` largest elements of the last axis and their indices, as a pair."""
    with name_scope(name, "TopKV2") as scope:
        value = convert_to_tensor(input, name="input")
        count = integer_argument("TopKV2", "k", k)
        attrs = {"sorted": sorted, "index_type": as_dtype(index_type).ir}
        return TopK(*create_op("TopKV2", (value, count), attrs, scope).outputs)


class TopK(NamedTuple):
    """What ``top_k`` gives."""

    values: Tensor
    indices: Tensor


def in_top_k(predictions: Any, targets: Any, k: Any, name: str | None = None) -> Tensor:
    """Whether each target class is among the ``k`` best predictions of its row."""
    with name_scope(name, "in_top_k"), name_scope("InTopKV2") as scope:
        scores = convert_to_tensor(predictions, name="predictions")
        classes = integer_argument("InTopKV2", "targets", targets)
        count = convert_to_tensor(k, classes.dtype.base_dtype, "k")
        return create_op("InTopKV2", (scores, classes, count), None, scope).outputs[0]
