"""Statistics and normalisation of ``tf.nn``: moments, batch normalisation, unit vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepforge.frontend import elementwise_ops, reduction_ops
from stepforge.frontend.array_ops import zeros_like
from stepforge.frontend.convert import constant, convert_to_tensor
from stepforge.frontend.core_ops import stop_gradient
from stepforge.frontend.dtypes import float16, float32
from stepforge.frontend.graph import create_op
from stepforge.frontend.indexing_ops import gather
from stepforge.frontend.node_calls import call, renamed
from stepforge.frontend.operation import Tensor
from stepforge.frontend.scopes import name_scope
from stepforge.frontend.shape_ops import shape, squeeze


def moments(
    x: Any,
    axes: Any,
    shift: Any = None,
    name: str | None = None,
    keep_dims: Any = None,
    keepdims: Any = None,
) -> tuple[Tensor, Tensor]:
    """Mean and variance over ``axes``; ``shift`` is ignored, as in TensorFlow."""
    keep = bool(renamed("keepdims", keepdims, "keep_dims", keep_dims))
    with name_scope(name, "moments"):
        given = convert_to_tensor(x)
        half = given.dtype.base_dtype is float16
        value = elementwise_ops.cast(given, float32) if half else given
        mean = reduction_ops.reduce_mean(value, axes, keepdims=True, name="mean")
        distance = elementwise_ops.squared_difference(value, stop_gradient(mean))
        variance = reduction_ops.reduce_mean(distance, axes, keepdims=True, name="variance")
        return _finished((mean, variance), axes, keep, half)


def _finished(
    pair: tuple[Tensor, Tensor], axes: Any, keep: bool, half: bool
) -> tuple[Tensor, Tensor]:
    if not keep:
        pair = squeeze(pair[0], axes), squeeze(pair[1], axes)
    if half:
        pair = elementwise_ops.cast(pair[0], float16), elementwise_ops.cast(pair[1], float16)
    return pair


def weighted_moments(
    x: Any,
    axes: Any,
    frequency_weights: Any,
    name: str | None = None,
    keep_dims: Any = None,
    keepdims: Any = None,
) -> tuple[Tensor, Tensor]:
    """Mean and variance over ``axes`` of elements that count ``frequency_weights`` times."""
    keep = bool(renamed("keepdims", keepdims, "keep_dims", keep_dims))
    with name_scope(name, "weighted_moments"):
        value = convert_to_tensor(x, name="x")
        weights: Any = convert_to_tensor(frequency_weights, name="frequency_weights")
        half = value.dtype.base_dtype is float16
        value = elementwise_ops.cast(value, float32) if half else value
        weights = elementwise_ops.cast(weights, value.dtype.base_dtype)
        sum_, no_nan = reduction_ops.reduce_sum, elementwise_ops.div_no_nan
        total = sum_(weights * value, axes, name="weighted_input_sum", keepdims=True)
        spread = weights + zeros_like(value)
        weight = sum_(spread, axes, name="sum_of_weights", keepdims=True)
        mean = no_nan(total, weight)
        distance = weights * elementwise_ops.squared_difference(value, mean)
        total = sum_(distance, axes, name="weighted_distsq", keepdims=True)
        return _finished((mean, no_nan(total, weight)), axes, keep, half)


def sufficient_statistics(
    x: Any,
    axes: Sequence[int],
    shift: Any = None,
    keep_dims: Any = None,
    name: str | None = None,
    keepdims: Any = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Count, sum, sum of squares (both of ``x - shift``) over ``axes``, and the shift."""
    keep = bool(renamed("keepdims", keepdims, "keep_dims", keep_dims))
    chosen = list(set(axes))
    with name_scope(name, "sufficient_statistics"):
        value = convert_to_tensor(x, name="x")
        count = _count(value, chosen)
        offset = None if shift is None else convert_to_tensor(shift, name="shift")
        if offset is None:
            first, second = value, elementwise_ops.square(value)
        else:
            first = elementwise_ops.subtract(value, offset)
            second = elementwise_ops.squared_difference(value, offset)
        first = reduction_ops.reduce_sum(first, chosen, keepdims=keep, name="mean_ss")
        second = reduction_ops.reduce_sum(second, chosen, keepdims=keep, name="var_ss")
        return count, first, second, offset


def _count(value: Tensor, axes: Sequence[int]) -> Tensor:
    """The number of elements along ``axes``, in the value's dtype."""
    sizes = value.shape.sizes
    if sizes is not None and all(sizes[axis] is not None for axis in axes):
        count = 1
        for axis in axes:
            count *= sizes[axis] or 0
        return constant(count, value.dtype.base_dtype)
    dims = elementwise_ops.cast(shape(value), value.dtype.base_dtype)
    places = [axis if axis >= 0 or sizes is None else axis + len(sizes) for axis in axes]
    return reduction_ops.reduce_prod(gather(dims, places), name="count")


def normalize_moments(
    counts: Any, mean_ss: Any, variance_ss: Any, shift: Any, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """Mean and variance from what ``sufficient_statistics`` gives."""
    with name_scope(name, "normalize"):
        divisor = elementwise_ops.reciprocal(counts, name="divisor")
        if shift is None:
            shifted = mean = elementwise_ops.multiply(mean_ss, divisor, name="mean")
        else:
            shifted = elementwise_ops.multiply(mean_ss, divisor, name="shifted_mean")
            mean = elementwise_ops.add(shifted, shift, name="mean")
        variance = elementwise_ops.subtract(
            elementwise_ops.multiply(variance_ss, divisor),
            elementwise_ops.square(shifted),
            name="variance",
        )
        return mean, variance


def batch_normalization(
    x: Any,
    mean: Any,
    variance: Any,
    offset: Any,
    scale: Any,
    variance_epsilon: Any,
    name: str | None = None,
) -> Any:
    """``(x - mean) / sqrt(variance + epsilon) * scale + offset``; offset and scale may be None."""
    with name_scope(name, "batchnorm"):
        value: Any = convert_to_tensor(x)
        middle: Any = convert_to_tensor(mean)
        width: Any = convert_to_tensor(variance)
        inverse: Any = elementwise_ops.rsqrt(width + variance_epsilon)
        if scale is not None:
            inverse = inverse * scale
        dtype = value.dtype.base_dtype
        scaled = value * elementwise_ops.cast(inverse, dtype)
        base = -middle * inverse if offset is None else offset - middle * inverse
        return scaled + elementwise_ops.cast(base, dtype)


def batch_norm_with_global_normalization(
    t: Any = None,
    m: Any = None,
    v: Any = None,
    beta: Any = None,
    gamma: Any = None,
    variance_epsilon: Any = None,
    scale_after_normalization: Any = None,
    name: str | None = None,
    input: Any = None,
    mean: Any = None,
    variance: Any = None,
) -> Any:
    """``batch_normalization`` under its first name."""
    value = renamed("input", input, "t", t)
    centre, width = renamed("mean", mean, "m", m), renamed("variance", variance, "v", v)
    scale = gamma if scale_after_normalization else None
    return batch_normalization(value, centre, width, beta, scale, variance_epsilon, name)


def l2_normalize(
    x: Any, axis: Any = None, epsilon: float = 1e-12, name: str | None = None, dim: Any = None
) -> Tensor:
    """``x`` scaled to unit length over ``axis``; shorter vectors than sqrt(epsilon) stay shorter.
    """
    axis = renamed("axis", axis, "dim", dim)
    with name_scope(name, "l2_normalize") as scope:
        value = convert_to_tensor(x, name="x")
        if value.dtype.is_complex:
            return _unit_complex(value, axis, epsilon, scope)
        total = reduction_ops.reduce_sum(elementwise_ops.square(value), axis, keepdims=True)
        return elementwise_ops.multiply(value, _inverse_root(total, epsilon), scope)


def _inverse_root(squares: Tensor, epsilon: float) -> Tensor:
    return elementwise_ops.rsqrt(elementwise_ops.maximum(squares, epsilon))


def _unit_complex(value: Tensor, axis: Any, epsilon: float, scope: str) -> Tensor:
    real, imag = elementwise_ops.real, elementwise_ops.imag
    squares = [elementwise_ops.square(part(value)) for part in (real, imag)]
    total = reduction_ops.reduce_sum(call("AddV2", squares, None, "add"), axis, keepdims=True)
    inverse = _inverse_root(real(total), epsilon)
    first = elementwise_ops.multiply(real(value), inverse)
    return elementwise_ops.complex(first, elementwise_ops.multiply(imag(value), inverse), scope)


def fused_batch_norm(
    x: Any,
    scale: Any,
    offset: Any,
    mean: Any = None,
    variance: Any = None,
    epsilon: float = 0.001,
    data_format: str = "NHWC",
    is_training: bool = True,
    name: str | None = None,
    exponential_avg_factor: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalisation of images in one node: the result, mean and variance.

    Without ``is_training`` mean and variance are those given, otherwise those of the batch.
    Raises: ValueError where statistics are missing.
    """
    if (not is_training or exponential_avg_factor != 1.0) and (mean is None or variance is None):
        raise ValueError(
            "Both `mean` and `variance` must be a 1D tensor when `is_training` is False or "
            f"`exponential_avg_factor` != 1.0. Received: `mean` {mean!r} and `variance` "
            f"{variance!r}"
        )
    value = convert_to_tensor(x, name="input")
    parts = [convert_to_tensor(scale, name="scale"), convert_to_tensor(offset, name="offset")]
    given = [constant([]) if part is None else part for part in (mean, variance)]
    attrs = {
        "epsilon": epsilon,
        "exponential_avg_factor": exponential_avg_factor,
        "data_format": data_format,
        "is_training": is_training,
    }
    with name_scope(name, "FusedBatchNormV3", [value]) as scope:
        named = zip(given, ("mean", "variance"), strict=True)
        statistics = [convert_to_tensor(part, name=label) for part, label in named]
        op = create_op("FusedBatchNormV3", [value, *parts, *statistics], attrs, scope)
    return op.outputs[0], op.outputs[1], op.outputs[2]
