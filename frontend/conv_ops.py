"""``tf.nn``: convolutions, their transposes and gradients, by channel and with dilation.

A dilated convolution is one node with ``dilations``; TensorFlow takes some of them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepforge.frontend.convert import constant, convert_to_tensor
from stepforge.frontend.dtypes import int32
from stepforge.frontend.graph import create_op
from stepforge.frontend.joining_ops import concat
from stepforge.frontend.node_calls import renamed
from stepforge.frontend.operation import Tensor
from stepforge.frontend.scopes import name_scope
from stepforge.frontend.shape_ops import expand_dims, reshape, shape, squeeze
from stepforge.frontend.windows import (
    FLOATS,
    images_node,
    padding_and_pairs,
    per_axis,
    plain_padding,
)

ONES = (1, 1, 1, 1)


def convolution_node(type_: str, inputs: Sequence[Tensor], attrs: dict[str, Any]) -> Tensor:
    """A node that the gradient of a convolution is made of."""
    return create_op(type_, inputs, attrs).outputs[0]


def _node(
    type_: str, arguments: Sequence[tuple[str, Any]], attrs: dict[str, Any], name: str | None
) -> Tensor:
    accepts = FLOATS if type_.startswith(("Depthwise", "Conv3D")) else (*FLOATS, int32)
    return images_node(type_, arguments, attrs, name, accepts)[0]


def _attrs(
    strides: Any, padding: Any, data_format: str | None, dilations: Any, cudnn: Any = None
) -> dict[str, Any]:
    """The attributes of a node in two dimensions. Raises: ValueError, TypeError."""
    layout = data_format or "NHWC"
    kind, pairs = padding_and_pairs(padding)
    attrs = {
        "strides": per_axis(strides, 2, layout, "strides"),
        "padding": kind,
        "explicit_paddings": pairs,
        "data_format": layout,
        "dilations": per_axis(dilations, 2, layout, "dilations"),
    }
    return attrs if cudnn is None else {**attrs, "use_cudnn_on_gpu": bool(cudnn)}


def _by_batch(
    images: Any, rank: int, name: str | None, operation: Callable[[Any, str | None], Tensor]
) -> Tensor:
    """``operation`` on images whose batches have any number of axes."""
    have = images.shape.ndims if isinstance(images, Tensor) else np.ndim(images)
    if have is None or have <= rank:
        return operation(images, name)
    with name_scope(name, "squeeze_batch_dims"):
        value = convert_to_tensor(images, name="input")
        flat = reshape(value, concat([[-1], _sizes(value)[1 - rank :]], 0))
        made = operation(flat, None)
        batch, inner = _sizes(value)[: 1 - rank], _sizes(made)[1:]
        result = reshape(made, concat([batch, inner], 0))
        result.set_shape([*value.shape.as_list()[: 1 - rank], *made.shape.as_list()[1:]])
        return result


def _sizes(value: Tensor) -> Any:
    """All sizes: numbers where they are known, else a tensor."""
    known = value.shape.as_list()
    return shape(value) if None in known else known


# ---- two dimensions -----------------------------------------------------------------------------
def conv2d(
    input: Any,
    filter: Any = None,
    strides: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str | None = "NHWC",
    dilations: Any = ONES,
    name: str | None = None,
    filters: Any = None,
) -> Tensor:
    """Images ``[n, h, w, c]`` (or ``[n, c, h, w]``) convolved with ``[kh, kw, c, channels]``.

    ``padding`` is "SAME", "VALID" or a pair of sizes for each axis.
    Raises: ValueError, TypeError for arguments that do not fit.
    """
    weights = renamed("filters", filters, "filter", filter)
    attrs = _attrs(strides, padding, data_format, dilations, use_cudnn_on_gpu)
    return _by_batch(
        input, 4, name,
        lambda images, scope: _node(
            "Conv2D", (("input", images), ("filter", weights)), attrs, scope
        ),
    )


def conv2d_backprop_input(
    input_sizes: Any,
    filter: Any = None,
    out_backprop: Any = None,
    strides: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str | None = "NHWC",
    dilations: Any = ONES,
    name: str | None = None,
    filters: Any = None,
) -> Tensor:
    """The gradient of ``conv2d`` in its images, which have ``input_sizes``."""
    weights = renamed("filters", filters, "filter", filter)
    attrs = _attrs(strides, padding, data_format, dilations, use_cudnn_on_gpu)
    arguments = (("input_sizes", input_sizes), ("filter", weights), ("out_backprop", out_backprop))
    return _node("Conv2DBackpropInput", arguments, attrs, name)


def conv2d_backprop_filter(
    input: Any,
    filter_sizes: Any,
    out_backprop: Any,
    strides: Any,
    padding: Any,
    use_cudnn_on_gpu: bool = True,
    data_format: str | None = "NHWC",
    dilations: Any = ONES,
    name: str | None = None,
) -> Tensor:
    """The gradient of ``conv2d`` in its filter, which has ``filter_sizes``."""
    attrs = _attrs(strides, padding, data_format, dilations, use_cudnn_on_gpu)
    arguments = (("input", input), ("filter_sizes", filter_sizes), ("out_backprop", out_backprop))
    return _node("Conv2DBackpropFilter", arguments, attrs, name)


def conv2d_transpose(
    value: Any = None,
    filter: Any = None,
    output_shape: Any = None,
    strides: Any = None,
    padding: Any = "SAME",
    data_format: str | None = "NHWC",
    name: str | None = None,
    input: Any = None,
    filters: Any = None,
    dilations: Any = None,
) -> Tensor:
    """The transpose of ``conv2d``: images ``output_shape`` of ``value`` and
    ``[kh, kw, channels, c]``.
    """
    images = renamed("input", input, "value", value)
    weights = renamed("filters", filters, "filter", filter)
    with name_scope(name, "conv2d_transpose") as scope:
        attrs = _attrs(strides, padding, data_format, dilations, True)
        arguments = (
            ("input_sizes", output_shape), ("filter", weights), ("out_backprop", images)
        )
        return _node("Conv2DBackpropInput", arguments, attrs, scope)


def atrous_conv2d(
    value: Any, filters: Any, rate: Any, padding: Any, name: str | None = None
) -> Tensor:
    """A convolution whose taps are ``rate`` pixels apart."""
    rates = [int(n) for n in np.broadcast_to(rate, (2,))]
    return convolution(value, filters, padding, dilation_rate=rates, name=name)


# ---- one dimension ------------------------------------------------------------------------------
LAYOUTS_1D = {None: "NHWC", "NWC": "NHWC", "NHWC": "NHWC", "NCW": "NCHW", "NCHW": "NCHW"}


def _layout_1d(data_format: str | None) -> tuple[str, int]:
    """The layout of two dimensions that one is computed in, and the axis that it lacks."""
    if data_format not in LAYOUTS_1D:
        raise ValueError(
            f"`data_format` must be 'NWC' or 'NCW'. Received: data_format={data_format}"
        )
    layout = LAYOUTS_1D[data_format]
    return layout, -3 if layout == "NHWC" else -2


def conv1d(
    value: Any = None,
    filters: Any = None,
    stride: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool | None = None,
    data_format: str | None = None,
    name: str | None = None,
    input: Any = None,
    dilations: Any = None,
) -> Tensor:
    """Sequences ``[n, w, c]`` convolved with ``[kw, c, channels]``, as images of one row."""
    sequences = renamed("input", input, "value", value)
    with name_scope(name, "conv1d") as scope:
        layout, axis = _layout_1d(data_format)
        rows = expand_dims(sequences, axis)
        weights = expand_dims(filters, 0)
        attrs = {
            "strides": [1, *per_axis(stride, 1, layout, "stride")],
            "padding": plain_padding(padding),
            "data_format": layout,
            "dilations": [1, *per_axis(dilations, 1, layout, "dilations")],
            "use_cudnn_on_gpu": True if use_cudnn_on_gpu is None else use_cudnn_on_gpu,
        }
        made = _by_batch(
            rows, 4, scope,
            lambda images, inner: _node(
                "Conv2D", (("input", images), ("filter", weights)), attrs, inner
            ),
        )
        return squeeze(made, [axis])


def conv1d_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str | None = "NWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """The transpose of ``conv1d``: sequences ``output_shape`` of ``input``."""
    with name_scope(name, "conv1d_transpose") as scope:
        layout, axis = _layout_1d(data_format)
        axis += 4
        rows, weights = expand_dims(input, axis), expand_dims(filters, 0)
        given: Any = output_shape if isinstance(output_shape, Tensor) else list(output_shape)
        sizes = concat([given[:axis], [1], given[axis:]], 0)
        attrs = {
            "strides": [1, *per_axis(strides, 1, layout, "stride")],
            "padding": plain_padding(padding),
            "data_format": layout,
            "dilations": [1, *per_axis(dilations, 1, layout, "dilations")],
        }
        arguments = (("input_sizes", sizes), ("filter", weights), ("out_backprop", rows))
        return squeeze(_node("Conv2DBackpropInput", arguments, attrs, scope), axis)


# ---- three dimensions, and any ------------------------------------------------------------------
def conv3d(
    input: Any,
    filter: Any = None,
    strides: Any = None,
    padding: Any = None,
    data_format: str | None = "NDHWC",
    dilations: Any = (1, 1, 1, 1, 1),
    name: str | None = None,
    filters: Any = None,
) -> Tensor:
    """Volumes ``[n, d, h, w, c]`` convolved with ``[kd, kh, kw, c, channels]``."""
    weights = renamed("filters", filters, "filter", filter)
    layout = data_format or "NDHWC"
    attrs = {
        "strides": per_axis(strides, 3, layout, "strides"),
        "padding": plain_padding(padding),
        "data_format": layout,
        "dilations": per_axis(dilations, 3, layout, "dilations"),
    }
    return _node("Conv3D", (("input", input), ("filter", weights)), attrs, name)


def conv3d_transpose(
    value: Any,
    filter: Any = None,
    output_shape: Any = None,
    strides: Any = None,
    padding: Any = "SAME",
    data_format: str | None = "NDHWC",
    name: str | None = None,
    input: Any = None,
    filters: Any = None,
    dilations: Any = None,
) -> Tensor:
    """The transpose of ``conv3d``: volumes ``output_shape`` of ``value``."""
    volumes = renamed("input", input, "value", value)
    weights = renamed("filters", filters, "filter", filter)
    with name_scope(name, "conv3d_transpose") as scope:
        layout = data_format or "NDHWC"
        attrs = {
            "strides": per_axis(strides, 3, layout, "strides"),
            "padding": plain_padding(padding),
            "data_format": layout,
            "dilations": per_axis(dilations, 3, layout, "dilations"),
        }
        arguments = (
            ("input_sizes", output_shape), ("filter", weights), ("out_backprop", volumes)
        )
        return _node("Conv3DBackpropInputV2", arguments, attrs, scope)


def convolution(
    input: Any,
    filter: Any = None,
    padding: Any = None,
    strides: Any = None,
    dilation_rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    filters: Any = None,
    dilations: Any = None,
) -> Tensor:
    """A convolution in as many dimensions as the filter says, one to three.

    Raises: ValueError where nobody knows how many, or for strides with dilation.
    """
    weights = renamed("filters", filters, "filter", filter)
    rates = renamed("dilation_rate", dilation_rate, "dilations", dilations)
    images = input if isinstance(input, Tensor) else convert_to_tensor(input, name="input")
    kernel = weights if isinstance(weights, Tensor) else convert_to_tensor(weights, name="filters")
    rank = kernel.shape.ndims or images.shape.ndims
    if rank not in (3, 4, 5):
        raise ValueError(f"`num_spatial_dims` must be 1, 2, or 3. Received: {rank and rank - 2}.")
    layout = data_format or {3: "NWC", 4: "NHWC", 5: "NDHWC"}[rank]
    steps = per_axis(strides, rank - 2, layout, "strides")
    spread = per_axis(rates, rank - 2, layout, "dilations")
    if max(steps) > 1 and max(spread) > 1:
        raise ValueError(
            "`strides > 1` not supported in conjunction with `dilation_rate > 1`. Received: "
            f"strides={strides} and dilation_rate={rates}"
        )
    function = {3: conv1d, 4: conv2d, 5: conv3d}[rank]
    with name_scope(name, "convolution") as scope:
        if rank == 3:
            return conv1d(images, kernel, steps, padding, data_format=layout, name=scope,
                          dilations=spread)
        return function(  # type: ignore[operator, no-any-return]
            images, kernel, steps, padding, data_format=layout, dilations=spread, name=scope
        )


# ---- each channel by itself ---------------------------------------------------------------------
def depthwise_conv2d_native(
    input: Any,
    filter: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NHWC",
    dilations: Any = ONES,
    name: str | None = None,
) -> Tensor:
    """Each channel of ``[n, h, w, c]`` convolved with ``[kh, kw, c, m]``, m filters for each."""
    attrs = _attrs(strides, padding, data_format, dilations)
    return _node("DepthwiseConv2dNative", (("input", input), ("filter", filter)), attrs, name)


def depthwise_conv2d_native_backprop_input(
    input_sizes: Any,
    filter: Any,
    out_backprop: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NHWC",
    dilations: Any = ONES,
    name: str | None = None,
) -> Tensor:
    """The gradient of ``depthwise_conv2d`` in its images, which have ``input_sizes``."""
    attrs = _attrs(strides, padding, data_format, dilations)
    arguments = (("input_sizes", input_sizes), ("filter", filter), ("out_backprop", out_backprop))
    return _node("DepthwiseConv2dNativeBackpropInput", arguments, attrs, name)


def depthwise_conv2d_native_backprop_filter(
    input: Any,
    filter_sizes: Any,
    out_backprop: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NHWC",
    dilations: Any = ONES,
    name: str | None = None,
) -> Tensor:
    """The gradient of ``depthwise_conv2d`` in its filter, which has ``filter_sizes``."""
    attrs = _attrs(strides, padding, data_format, dilations)
    arguments = (("input", input), ("filter_sizes", filter_sizes), ("out_backprop", out_backprop))
    return _node("DepthwiseConv2dNativeBackpropFilter", arguments, attrs, name)


def _dilated_by_channel(
    images: Tensor, weights: Tensor, strides: Any, padding: Any, rate: Any,
    data_format: str | None, name: str,
) -> Tensor:
    """``depthwise_conv2d_native`` with the nodes that TensorFlow makes of the filter and rate."""
    rates = [1, 1] if rate is None else [int(n) for n in rate]
    shape(weights)
    constant(rates, int32, name="dilation_rate")
    layout = data_format or "NHWC"
    return depthwise_conv2d_native(
        images, weights, strides, padding, layout, per_axis(rates, 2, layout, "rate"), name
    )


def depthwise_conv2d(
    input: Any,
    filter: Any,
    strides: Any,
    padding: Any,
    rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    dilations: Any = None,
) -> Tensor:
    """``depthwise_conv2d_native`` whose taps are ``rate`` pixels apart."""
    rate = renamed("rate", rate, "dilations", dilations)
    with name_scope(name, "depthwise") as scope:
        images = convert_to_tensor(input, name="tensor_in")
        weights = convert_to_tensor(filter, name="filter_in")
        return _dilated_by_channel(images, weights, strides, padding, rate, data_format, scope)


def separable_conv2d(
    input: Any,
    depthwise_filter: Any,
    pointwise_filter: Any,
    strides: Any,
    padding: Any,
    rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    dilations: Any = None,
) -> Tensor:
    """``depthwise_conv2d``, then a convolution of single pixels that mixes the channels.

    Raises: ValueError where the second filter is not one pixel wide.
    """
    rate = renamed("rate", rate, "dilations", dilations)
    with name_scope(name, "separable_conv2d") as scope:
        images = convert_to_tensor(input, name="tensor_in")
        by_channel = convert_to_tensor(depthwise_filter, name="depthwise_filter")
        pointwise = convert_to_tensor(pointwise_filter, name="pointwise_filter")
        for size in (pointwise.shape.as_list() if pointwise.shape.ndims == 4 else [])[:2]:
            if size not in (None, 1):
                raise ValueError(f"Dimensions {size} and 1 are not compatible")
        mixed = _dilated_by_channel(
            images, by_channel, strides, padding, rate, data_format, "depthwise"
        )
        return conv2d(mixed, pointwise, ONES, "VALID", data_format=data_format, name=scope)
