"""``tf.nn``: pooling by maxima and means, and local response normalisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from stepforge.frontend import dtypes
from stepforge.frontend.convert import constant, convert_to_tensor
from stepforge.frontend.dtypes import as_dtype
from stepforge.frontend.graph import create_op
from stepforge.frontend.node_calls import renamed
from stepforge.frontend.operation import Tensor
from stepforge.frontend.scopes import name_scope
from stepforge.frontend.shape_ops import expand_dims, squeeze
from stepforge.frontend.windows import (
    FLOATS,
    images_node,
    padding_and_pairs,
    per_axis,
    plain_padding,
)

REAL = (
    *FLOATS, dtypes.int32, dtypes.int64, dtypes.uint8, dtypes.int16, dtypes.int8, dtypes.uint16
)
LAYOUTS = {1: "NWC", 2: "NHWC", 3: "NDHWC"}
Pooling = Callable[..., Tensor]


def pooling_node(type_: str, inputs: Sequence[Tensor], attrs: dict[str, Any]) -> Tensor:
    """A node that the gradient of a pooling is made of."""
    return create_op(type_, inputs, attrs).outputs[0]


def _windows(ksize: Any, strides: Any, axes: int, layout: str) -> dict[str, Any]:
    return {
        "ksize": per_axis(ksize, axes, layout, "ksize"),
        "strides": per_axis(strides, axes, layout, "strides"),
        "data_format": layout,
    }


def _largest(
    images: Any, ksize: Any, strides: Any, padding: Any, layout: str, name: str
) -> Tensor:
    attrs = _windows(ksize, strides, 2, layout)
    kind, pairs = padding_and_pairs(padding)
    if 0 in attrs["ksize"]:
        raise ValueError(f"`ksize` cannot be zero. Received: ksize={attrs['ksize']}")
    attrs.update(padding=kind, explicit_paddings=pairs)
    return images_node("MaxPool", (("input", images),), attrs, name, REAL)[0]


def max_pool(
    value: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NHWC",
    name: str | None = None,
    input: Any = None,
) -> Tensor:
    """The maxima of windows of images ``[n, h, w, c]`` (or ``[n, c, h, w]``).

    ``ksize`` and ``strides`` have a value for each axis; ``padding`` is "SAME", "VALID" or a pair
    of sizes for each axis. Raises: ValueError, TypeError for arguments that do not fit.
    """
    images = renamed("input", input, "value", value)
    with name_scope(name, "MaxPool") as scope:
        return _largest(images, ksize, strides, padding, data_format or "NHWC", scope)


def max_pool2d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NHWC",
    name: str | None = None,
) -> Tensor:
    """As ``max_pool``."""
    with name_scope(name, "MaxPool2d") as scope:
        return _largest(input, ksize, strides, padding, data_format or "NHWC", scope)


def max_pool1d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NWC",
    name: str | None = None,
) -> Tensor:
    """The maxima of windows of sequences ``[n, w, c]``."""
    with name_scope(name, "MaxPool1d") as scope:
        kind, pairs = padding_and_pairs(padding, 3)
        attrs, axis = _rows(ksize, strides, data_format or "NWC")
        attrs.update(padding=kind, explicit_paddings=[0, 0, *pairs] if pairs else [])
        images = expand_dims(input, axis)
        made = images_node("MaxPool", (("input", images),), attrs, scope, REAL)[0]
        return squeeze(made, axis)


def _rows(ksize: Any, strides: Any, layout: str) -> tuple[dict[str, Any], int]:
    """The attributes of a node on images of one row, and the axis of these rows."""
    attrs = {
        "ksize": [1, *per_axis(ksize, 1, layout, "ksize")],
        "strides": [1, *per_axis(strides, 1, layout, "strides")],
        "data_format": "NHWC" if layout == "NWC" else "NCHW",
    }
    return attrs, 1 if layout == "NWC" else 2


def max_pool3d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NDHWC",
    name: str | None = None,
) -> Tensor:
    """The maxima of windows of volumes ``[n, d, h, w, c]``."""
    with name_scope(name, "MaxPool3D") as scope:
        attrs = _windows(ksize, strides, 3, data_format or "NDHWC")
        attrs["padding"] = plain_padding(padding)
        return images_node("MaxPool3D", (("input", input),), attrs, scope)[0]


def avg_pool(
    value: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NHWC",
    name: str | None = None,
    input: Any = None,
) -> Tensor:
    """The means of windows of images ``[n, h, w, c]``, of the elements that there are."""
    with name_scope(name, "AvgPool") as scope:
        images = renamed("input", input, "value", value)
        attrs = _windows(ksize, strides, 2, data_format or "NHWC")
        attrs["padding"] = plain_padding(padding)
        return images_node("AvgPool", (("value", images),), attrs, scope)[0]


def avg_pool1d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NWC",
    name: str | None = None,
) -> Tensor:
    """The means of windows of sequences ``[n, w, c]``."""
    with name_scope(name, "AvgPool1D") as scope:
        attrs, axis = _rows(ksize, strides, data_format or "NWC")
        attrs["padding"] = plain_padding(padding)
        images = expand_dims(input, axis)
        return squeeze(images_node("AvgPool", (("value", images),), attrs, scope)[0], axis)


def avg_pool3d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NDHWC",
    name: str | None = None,
) -> Tensor:
    """The means of windows of volumes ``[n, d, h, w, c]``."""
    with name_scope(name, "AvgPool3D") as scope:
        attrs = _windows(ksize, strides, 3, data_format or "NDHWC")
        attrs["padding"] = plain_padding(padding)
        return images_node("AvgPool3D", (("input", input),), attrs, scope)[0]


# ---- in any number of dimensions ----------------------------------------------------------------
def max_pool_v2(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    name: str | None = None,
) -> Tensor:
    """The maxima of windows in as many dimensions as ``input`` has beside images and channels."""
    function = {1: max_pool1d, 2: max_pool2d, 3: max_pool3d}[_spatial(input, data_format)]
    return function(input, ksize, strides, padding, data_format, name)


def avg_pool_v2(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    name: str | None = None,
) -> Tensor:
    """The means of windows in as many dimensions as ``input`` has beside images and channels."""
    function: dict[int, Pooling] = {1: avg_pool1d, 2: avg_pool, 3: avg_pool3d}
    return function[_spatial(input, data_format)](
        input, ksize, strides, padding, data_format, name
    )


def _spatial(input: Any, data_format: str | None) -> int:
    """The number of spatial axes. Raises: ValueError where it is not 1, 2 or 3."""
    rank = input.shape.ndims if isinstance(input, Tensor) else np.ndim(input)
    if rank is None:
        if data_format is None:
            raise ValueError(
                "`input` must have a static shape or `data_format` must be given. Received: "
                f"input.shape={input.shape} and data_format={data_format}"
            )
        rank = len(data_format)
    if not 3 <= rank <= 5:
        raise ValueError(f"`input.shape.rank` must be 3, 4 or 5. Received: rank {rank}.")
    return int(rank) - 2


POOLINGS: dict[tuple[str, int], Pooling] = {
    ("MAX", 1): max_pool1d, ("MAX", 2): max_pool, ("MAX", 3): max_pool3d,
    ("AVG", 1): avg_pool1d, ("AVG", 2): avg_pool, ("AVG", 3): avg_pool3d,
}


def pool(
    input: Any,
    window_shape: Sequence[int],
    pooling_type: str,
    padding: Any,
    dilation_rate: Any = None,
    strides: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    dilations: Any = None,
) -> Tensor:
    """Pooling of ``pooling_type`` "MAX" or "AVG" with a window for the spatial axes alone.

    Raises: ValueError for another type, for strides that skip elements; NotImplementedError for
    dilated windows.
    """
    rates = renamed("dilation_rate", dilation_rate, "dilations", dilations)
    axes = len(window_shape)
    if not 1 <= axes <= 3:
        raise ValueError(
            f"`len(window_shape)` must be 1, 2, or 3. Received: window_shape={window_shape} of "
            f"length {axes}"
        )
    if (pooling_type, axes) not in POOLINGS:
        raise ValueError(f"{axes}-D {pooling_type} pooling is not supported.")
    steps = [1] * axes if strides is None else [int(n) for n in strides]
    if any(step > size for step, size in zip(steps, window_shape, strict=True)):
        raise ValueError(
            "`strides` > `window_shape` not supported due to inconsistency between CPU and GPU "
            f"implementations. Received: strides={strides} and window_shape={window_shape}"
        )
    if rates is not None and max(rates) > 1:
        raise NotImplementedError("pooling with a dilation_rate > 1")
    with name_scope(name, f"{pooling_type.lower()}_pool") as scope:
        value = convert_to_tensor(input, name="input")
        constant([1] * axes, dtypes.int32, name="dilation_rate")  # which TensorFlow has there
        layout = data_format or LAYOUTS[axes]
        return POOLINGS[pooling_type, axes](
            value, list(window_shape), steps, padding, layout, scope
        )


# ---- maxima and where they are ------------------------------------------------------------------
class MaxPoolWithArgmax(NamedTuple):
    """What ``max_pool_with_argmax`` gives."""

    output: Tensor
    argmax: Tensor


def max_pool_with_argmax(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NHWC",
    Targmax: Any = None,
    name: str | None = None,
    output_dtype: Any = None,
    include_batch_in_index: bool = False,
) -> MaxPoolWithArgmax:
    """The maxima of windows of images, and the number of the element that each of them first is.

    Elements are counted over one image, or with ``include_batch_in_index`` over all of them.
    """
    if data_format != "NHWC":
        raise ValueError(
            "`data_format` values other  than 'NHWC' are not supported. Received: "
            f"data_format={data_format}"
        )
    dtype = renamed("output_dtype", output_dtype, "Targmax", Targmax)
    attrs = _windows(ksize, strides, 2, "NHWC")
    del attrs["data_format"]
    attrs.update(
        padding=plain_padding(padding),
        Targmax=as_dtype(dtypes.int64 if dtype is None else dtype).ir,
        include_batch_in_index=include_batch_in_index,
    )
    return MaxPoolWithArgmax(
        *images_node("MaxPoolWithArgmax", (("input", input),), attrs, name, REAL)
    )


# ---- normalisation ------------------------------------------------------------------------------
def local_response_normalization(
    input: Any,
    depth_radius: int = 5,
    bias: float = 1,
    alpha: float = 1,
    beta: float = 0.5,
    name: str | None = None,
) -> Tensor:
    """Images divided by ``(bias + alpha * s) ** beta``, s the sum of the squares of up to
    ``depth_radius`` channels to either side.
    """
    attrs = {
        "depth_radius": int(depth_radius),
        "bias": float(np.float32(bias)),
        "alpha": float(np.float32(alpha)),
        "beta": float(np.float32(beta)),
    }
    accepts = FLOATS[:3]
    return images_node("LRN", (("input", input),), attrs, name, accepts)[0]


lrn = local_response_normalization
