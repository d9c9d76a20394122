"""Node types of convolutions and of their gradients, in two and three dimensions and by channel.

The gradient of each of the three nodes of a family consists of the other two, so that gradients of
any order exist. A filter that takes fewer channels than the images have convolves groups of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from stepforge.frontend.extract.messages import told
from stepforge.frontend.nodedefs import sizes
from stepforge.frontend.nodedefs.base import REQUIRED, NodeDef, define_node
from stepforge.frontend.nodedefs.joining import cut
from stepforge.frontend.nodedefs.layouts import (
    Layout,
    Placed,
    layout_of,
    only_spatial,
    padding_of,
    placed,
    ranked,
    steps,
)
from stepforge.ir.core import Value
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError

Dims = tuple[Dim, ...]
UNSUPPORTED = "Current implementation does not yet support {} in the batch and depth dimensions."
ATTRS_2D: dict[str, Any] = {
    "strides": REQUIRED, "use_cudnn_on_gpu": True, "padding": REQUIRED, "explicit_paddings": [],
    "data_format": "NHWC", "dilations": [1, 1, 1, 1],
}
ATTRS_3D: dict[str, Any] = {
    "strides": REQUIRED, "padding": REQUIRED, "data_format": "NDHWC", "dilations": [1, 1, 1, 1, 1],
}
ATTRS_DEPTHWISE = {name: value for name, value in ATTRS_2D.items() if name != "use_cudnn_on_gpu"}


class Family(NodeDef):
    """Base of all nodes; ``types`` are the convolution and its gradients in input and filter."""

    rank: ClassVar[int] = 4
    op: ClassVar[str] = "conv2d"
    types: ClassVar[tuple[str, str, str]]

    def windows(self, x: Any, node: Any, layout: Layout, image: Dims, window: Dims) -> Placed:
        """The windows of the convolution on images of size ``image``. Raises: ShapeError."""
        strides = steps(node, "strides", layout, "Stride must be > 0, but got {}")
        dilations = steps(node, "dilations", layout, "Dilation rate must be >= 1, but got {}")
        for name in ("strides", "dilations"):
            only_spatial(x, node, layout, name, UNSUPPORTED.format(name))
        return placed(x, padding_of(node, layout), image, window, strides, dilations)

    def like(self, tf: Any, op: Any, place: int, *inputs: Any) -> Any:
        """The node of the family at ``place`` of ``types``, with the attributes of ``op``."""
        attrs = {name: op.attrs[name] for name in self.attrs}
        return tf.convolution_node(self.types[place], inputs, attrs)

    def groups(self, x: Any, depth: Dim, taken: Dim, channels: Dim) -> int:
        """How many groups the channels of images fall into, of which a filter takes ``taken``.

        Raises: ShapeError where it does not come out even.
        """
        if not isinstance(depth, int) or not isinstance(taken, int) or taken in (0, depth):
            message = "input depth must be evenly divisible by filter depth: {} vs {}"
            x.unify(depth, taken, told(message, depth, taken))
            return 1
        if depth % taken:
            raise ShapeError(
                f"Depth of input ({depth}) is not a multiple of input depth of filter ({taken})"
            )
        count = depth // taken
        if isinstance(channels, int) and channels % count:
            raise ShapeError(
                f"Depth of output ({channels}) is not a multiple of the number of groups ({count})"
            )
        return count

    def emit(self, x: Any, suffix: str, operands: Sequence[Any], groups: int, **attrs: Any) -> Any:
        """An IR op of the family for each group of the operands' last axes, side by side."""
        parts = []
        for number in range(groups):
            group = [_part(x, operand, number, groups) for operand in operands]
            parts.append(x.emit(self.op + suffix, *group, **attrs))
        last = len(x.shape(parts[0])) - 1
        return parts[0] if groups == 1 else x.emit("concat", *parts, axis=last)

    def result_gradient(self, x: Any, dy: Any, batch: Dim, windows: Placed) -> Any:
        """The gradient of a convolution's result, which a run requires to have its sizes."""
        shape = x.shape(dy)
        for axis, (actual, computed) in enumerate(zip(shape[1:-1], windows.size, strict=True), 1):
            message = f"{self.type}: Size of out_backprop doesn't match computed: actual = {{}}, "
            message += f"computed = {{}} spatial_dim: {axis}"
            sizes.require_equal(x, actual, computed, told(message, actual, computed))
        return sizes.in_shape(x, dy, (batch, *windows.size, shape[-1]))


def fit(x: Any, a: Dim, b: Dim, message: str) -> Dim:
    """Declare two sizes equal; ``message`` is that of the running step. Raises: ShapeError."""
    if isinstance(a, int) and isinstance(b, int) and a != b:
        raise ShapeError(f"Dimensions must be equal, but are {a} and {b}. {message}")
    size: Dim = x.unify(a, b, message)
    return size


def _part(x: Any, value: Any, number: int, groups: int) -> Any:
    """One of so many groups of what is in the last axis."""
    if groups == 1:
        return value
    shape = x.shape(value)
    size = shape[-1] // groups
    return cut(x, value, len(shape) - 1, number * size, size)


class Forward(Family):
    """Base of the convolutions."""

    inputs = ("input", "filter")

    def extract(self, x: Any, node: Any, images: Any, weights: Any) -> Any:
        """The IR's convolution, of images with channels last."""
        layout = layout_of(node, self.rank)
        images = layout.last(x, ranked(x, images, self.rank))
        weights = ranked(x, weights, self.rank)
        shape, taps = x.shape(images), x.shape(weights)
        groups = self.groups(x, shape[-1], taps[-2], taps[-1])
        windows = self.windows(x, node, layout, shape[1:-1], taps[:-2])
        result = self.emit(
            x, "", (images, weights), groups, size=windows.size, **windows.attrs()
        )
        return layout.back(x, result)

    def gradient(self, tf: Any, op: Any, dy: Any) -> list[Any]:
        """By the nodes of the family."""
        images, weights = op.inputs
        shape, taps = tf.shape_n([images, weights])
        return [
            self.like(tf, op, 1, shape, weights, dy), self.like(tf, op, 2, images, taps, dy)
        ]


class ByInput(Family):
    """Base of the gradients in the images, which are the transposed convolutions."""

    inputs = ("input_sizes", "filter", "out_backprop")

    def extract(self, x: Any, node: Any, given: Any, weights: Any, dy: Any) -> Any:
        """The IR's gradient, of images with channels last."""
        layout = layout_of(node, self.rank)
        weights = ranked(x, weights, self.rank)
        dy = layout.last(x, ranked(x, dy, self.rank))
        taps, slopes = x.shape(weights), x.shape(dy)
        self.check_channels(x, taps, slopes[-1])
        wanted = self.sizes(x, node, layout, given)
        if wanted is None:
            return sizes.undetermined(x, dy.type.dtype, self.rank)
        if len(wanted) == self.rank - 2:
            wanted = (slopes[0], *wanted, taps[-2])
        message = told("input_sizes and out_backprop must have the same batch size: {} vs {}",
                       wanted[0], slopes[0])
        batch = fit(x, wanted[0], slopes[0], message)
        windows = self.windows(x, node, layout, wanted[1:-1], taps[:-2])
        if sizes.building(x):
            return layout.back(x, Value(dy.type.with_shape((batch, *wanted[1:]))))
        groups = self.groups(x, wanted[-1], taps[-2], taps[-1])
        dy = self.result_gradient(x, dy, batch, windows)
        result = self.emit(
            x, "_input", (dy, weights), groups, size=wanted[1:-1], **windows.attrs()
        )
        return layout.back(x, result)

    def check_channels(self, x: Any, taps: Dims, channels: Dim) -> None:
        """A result has as many channels as there are filters. Raises: ShapeError."""
        fit(x, channels, taps[-1],
            told("filter and out_backprop must have the same out_depth: {} vs {}",
                 taps[-1], channels))

    def sizes(self, x: Any, node: Any, layout: Layout, given: Any) -> Dims | None:
        """``input_sizes`` (or the spatial ones alone), channels last; None where not known yet."""
        shape = given.type.shape
        if shape is None or len(shape) != 1 or not isinstance(shape[0], int):
            return None
        if shape[0] not in (self.rank, self.rank - 2):
            raise ShapeError(
                f"{self.type} requires input_sizes to contain {self.rank} values or "
                f"{self.rank - 2} values, but got: {shape[0]}"
            )
        found = sizes.vector(x, node, 0, given, shape[0])
        return layout.ordered(found) if shape[0] == self.rank else found

    def gradient(self, tf: Any, op: Any, g: Any) -> list[Any]:
        """By the nodes of the family."""
        _, weights, dy = op.inputs
        return [
            None,
            self.like(tf, op, 2, g, tf.shape(weights), dy),
            self.like(tf, op, 0, g, weights),
        ]


class ByFilter(Family):
    """Base of the gradients in the filter."""

    inputs = ("input", "filter_sizes", "out_backprop")

    def extract(self, x: Any, node: Any, images: Any, given: Any, dy: Any) -> Any:
        """The IR's gradient, of images with channels last."""
        layout = layout_of(node, self.rank)
        images = layout.last(x, ranked(x, images, self.rank))
        dy = layout.last(x, ranked(x, dy, self.rank))
        known = given.type.shape is not None and len(given.type.shape) == 1
        if not known or given.type.shape != (self.rank,):
            return sizes.undetermined(x, images.type.dtype, self.rank)
        taps = sizes.vector(x, node, 1, given, self.rank)
        shape, slopes = x.shape(images), x.shape(dy)
        batches = told("input and out_backprop must have the same batch size: {} vs {}",
                       shape[0], slopes[0])
        batch = fit(x, shape[0], slopes[0], batches)
        windows = self.windows(x, node, layout, shape[1:-1], taps[:-2])
        if sizes.building(x):
            return Value(dy.type.with_shape(tuple(taps)))
        dy = self.result_gradient(x, dy, batch, windows)
        return self.computed(x, images, dy, taps, windows)

    def computed(self, x: Any, images: Any, dy: Any, taps: Dims, windows: Placed) -> Any:
        """The filter's gradient."""
        depth, channels = x.shape(images)[-1], x.shape(dy)[-1]
        fit(x, channels, taps[-1],
            told("filter and out_backprop must have the same out_depth: {} vs {}",
                 taps[-1], channels))
        groups = self.groups(x, depth, taps[-2], taps[-1])
        return self.emit(x, "_filter", (images, dy), groups, size=taps[:-2], **windows.attrs())

    def gradient(self, tf: Any, op: Any, g: Any) -> list[Any]:
        """By the nodes of the family."""
        images, _, dy = op.inputs
        return [
            self.like(tf, op, 1, tf.shape(images), g, dy),
            None,
            self.like(tf, op, 0, images, g),
        ]


# ---- the families -------------------------------------------------------------------------------
FAMILY_2D = ("Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter")
FAMILY_3D = ("Conv3D", "Conv3DBackpropInputV2", "Conv3DBackpropFilterV2")
FAMILY_DEPTHWISE = (
    "DepthwiseConv2dNative",
    "DepthwiseConv2dNativeBackpropInput",
    "DepthwiseConv2dNativeBackpropFilter",
)


@define_node
class Conv2D(Forward):
    """A convolution of images."""

    types, attrs = FAMILY_2D, ATTRS_2D


@define_node
class Conv2DBackpropInput(ByInput):
    """The gradient of ``Conv2D`` in its images."""

    types, attrs = FAMILY_2D, ATTRS_2D


@define_node
class Conv2DBackpropFilter(ByFilter):
    """The gradient of ``Conv2D`` in its filter."""

    types, attrs = FAMILY_2D, ATTRS_2D


@define_node
class Conv3D(Forward):
    """A convolution of volumes."""

    types, attrs, op, rank = FAMILY_3D, ATTRS_3D, "conv3d", 5


@define_node
class Conv3DBackpropInputV2(ByInput):
    """The gradient of ``Conv3D`` in its volumes."""

    types, attrs, op, rank = FAMILY_3D, ATTRS_3D, "conv3d", 5


@define_node
class Conv3DBackpropFilterV2(ByFilter):
    """The gradient of ``Conv3D`` in its filter."""

    types, attrs, op, rank = FAMILY_3D, ATTRS_3D, "conv3d", 5


class Depthwise(Family):
    """Base of the family whose filter has some for each channel: ``[*window, c, m]``."""

    types, attrs, op = FAMILY_DEPTHWISE, ATTRS_DEPTHWISE, "depthwise_conv2d"

    def groups(self, x: Any, depth: Dim, taken: Dim, channels: Dim) -> int:
        """All channels are computed at once."""
        fit(x, depth, taken,
            told("input and filter must have the same depth: {} vs {}", depth, taken))
        return 1


@define_node
class DepthwiseConv2dNative(Depthwise, Forward):
    """A convolution of each channel of images by itself."""

    def gradient(self, tf: Any, op: Any, dy: Any) -> list[Any]:
        """By the nodes of the family; each asks for the sizes by itself."""
        images, weights = op.inputs
        return [
            self.like(tf, op, 1, tf.shape(images), weights, dy),
            self.like(tf, op, 2, images, tf.shape(weights), dy),
        ]


@define_node
class DepthwiseConv2dNativeBackpropInput(Depthwise, ByInput):
    """The gradient of ``DepthwiseConv2dNative`` in its images."""

    def check_channels(self, x: Any, taps: Dims, channels: Dim) -> None:
        """A result has a channel for each filter of each channel. Raises: ShapeError."""
        fit(x, channels, taps[-2] * taps[-1],
            told("depth_multiplier * in_depth not equal to out_depth: {} vs {}",
                 taps[-2] * taps[-1], channels))


@define_node
class DepthwiseConv2dNativeBackpropFilter(Depthwise, ByFilter):
    """The gradient of ``DepthwiseConv2dNative`` in its filter."""

    def computed(self, x: Any, images: Any, dy: Any, taps: Dims, windows: Placed) -> Any:
        """The filter's gradient."""
        *window, depth, multiplier = taps
        self.groups(x, x.shape(images)[-1], depth, multiplier)
        fit(x, x.shape(dy)[-1], depth * multiplier,
            told("depth_multiplier * in_depth not equal to out_depth: {} vs {}",
                 depth * multiplier, x.shape(dy)[-1]))
        attrs = windows.attrs(size=tuple(window), multiplier=multiplier)
        return x.emit("depthwise_conv2d_filter", images, dy, **attrs)
