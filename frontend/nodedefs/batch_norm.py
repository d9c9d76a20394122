"""Node types of batch normalisation in one node, as frozen graphs of image models have it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from stepforge.frontend.nodedefs.base import NodeDef, define_node
from stepforge.frontend.nodedefs.layouts import ranked
from stepforge.frontend.nodedefs.sizes import require_equal
from stepforge.ir import dims


@define_node
class FusedBatchNorm(NodeDef):
    """``(x - mean) / sqrt(variance + epsilon) * scale + offset`` for each channel.

    In training mean and variance are those of the batch, and the outputs 1 and 2 what a running
    average gets: the mean and the variance without bias, mixed with the inputs by
    ``exponential_avg_factor``. The outputs after those are for TensorFlow's gradient.
    """

    inputs = ("x", "scale", "offset", "mean", "variance")
    attrs: ClassVar[dict[str, Any]] = {
        "epsilon": 1e-4,
        "exponential_avg_factor": 1.0,
        "data_format": "NHWC",
        "is_training": True,
    }
    outputs = 5

    def extract(self, x: Any, node: Any, value: Any, *vectors: Any) -> Any:
        """In the dtype of the scale."""
        scale, offset, *given = (ranked(x, vector, 1) for vector in vectors)
        attrs = node.attrs
        value = ranked(x, value, len(attrs["data_format"]))
        shape = x.shape(value)
        channel = 1 if attrs["data_format"].startswith("NC") else len(shape) - 1
        for place, part in enumerate((scale, offset, *given), 1):
            if place < 3 or not attrs["is_training"]:  # else it may be empty
                _check_channels(x, self.inputs[place], part, shape[channel])
        axes = tuple(axis for axis in range(len(shape)) if axis != channel)
        column = (shape[channel], *(1,) * (len(shape) - 1 - channel))
        dtype = scale.type.dtype
        wide = x.emit("cast", value, dtype=dtype)
        mean, variance = running = given
        if attrs["is_training"]:
            mean = x.emit("reduce_mean", wide, axes=axes)
            off = x.emit("sub", wide, x.emit("reshape", mean, shape=column))
            variance = x.emit("reduce_mean", x.emit("mul", off, off), axes=axes)
            count = dims.product([shape[axis] for axis in axes])
            batch = mean, _unbiased(x, variance, count)
            pairs = zip(given, batch, strict=True)
            running = [_mixed(x, node, old, new) for old, new in pairs]
        shifted = x.emit("add", variance, x.const(attrs["epsilon"], dtype))
        factor = x.emit("mul", x.emit("rsqrt", shifted), scale)
        rest = x.emit("sub", offset, x.emit("mul", mean, factor))
        factor, rest = (x.emit("reshape", part, shape=column) for part in (factor, rest))
        y = x.emit("add", x.emit("mul", wide, factor), rest)
        extra = [x.const(np.zeros(0), dtype)] * (self.outputs - 5)
        return (x.emit("cast", y, dtype=value.type.dtype), *running, mean, variance, *extra)

    def gradient(self, tf: Any, op: Any, dy: Any, *others: Any) -> list[Any]:
        """To the input, the scale and the offset; statistics of the batch depend on the input."""
        x, scale = (tf.cast(part, op.inputs[1].dtype) for part in op.inputs[:2])
        last = op.attrs["data_format"].startswith("NC")
        rank = op.inputs[0].shape.ndims
        axes = [axis for axis in range(rank) if axis != (1 if last else rank - 1)]
        column = [-1, *[1] * (rank - 2)] if last else [-1]
        mean, variance = (tf.reshape(part, column) for part in op.outputs[3:5])
        width = tf.rsqrt(variance + op.attrs["epsilon"])
        slope, normal = tf.cast(dy, x.dtype), (x - mean) * width
        d_scale, d_offset = tf.reduce_sum(slope * normal, axes), tf.reduce_sum(slope, axes)
        dx = slope
        if op.attrs["is_training"]:
            shares = (tf.reduce_mean(part, axes, keepdims=True) for part in (slope, slope * normal))
            level, tilt = shares
            dx = slope - level - normal * tilt
        dx = tf.cast(dx * width * tf.reshape(scale, column), op.inputs[0].dtype)
        return [dx, d_scale, d_offset, None, None]


def _check_channels(x: Any, name: str, vector: Any, channels: Any) -> None:
    message = f"{name} must have the same number of elements as the channels of x"
    require_equal(x, x.shape(vector)[0], channels, message)


def _unbiased(x: Any, variance: Any, count: Any) -> Any:
    """The variance over ``count - 1`` instead of ``count``."""
    dtype = variance.type.dtype
    number = x.emit("cast", x.dimensions(count, "i64"), dtype=dtype)
    fewer = x.emit("cast", x.dimensions(dims.maximum(count - 1, 1), "i64"), dtype=dtype)
    return x.emit("mul", variance, x.emit("div", number, fewer))


def _mixed(x: Any, node: Any, old: Any, new: Any) -> Any:
    """A running average; the old value may be empty where the factor is 1."""
    factor = node.attrs["exponential_avg_factor"]
    if factor == 1:
        return new
    kept, share = (x.const(part, new.type.dtype) for part in (1 - factor, factor))
    return x.emit("add", x.emit("mul", old, kept), x.emit("mul", new, share))


@define_node
class FusedBatchNormV2(FusedBatchNorm):
    """``FusedBatchNorm`` of an input in another dtype than the statistics."""


@define_node
class FusedBatchNormV3(FusedBatchNorm):
    """``FusedBatchNormV2`` with one more output for the gradient."""

    outputs = 6
