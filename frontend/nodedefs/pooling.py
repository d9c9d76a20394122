"""Node types of pooling and of local response normalisation, with their gradients."""

from __future__ import annotations

from typing import Any, ClassVar

from stepforge.frontend.nodedefs import sizes
from stepforge.frontend.nodedefs.base import REQUIRED, NodeDef, define_node
from stepforge.frontend.nodedefs.formula import Term
from stepforge.frontend.nodedefs.indexing import checked_vectors
from stepforge.frontend.nodedefs.layouts import (
    Layout,
    layout_of,
    only_spatial,
    padding_of,
    placed,
    ranked,
    steps,
)
from stepforge.ir import dims
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError

Dims = tuple[Dim, ...]
WINDOWS: dict[str, Any] = {"ksize": REQUIRED, "strides": REQUIRED, "padding": REQUIRED}
ATTRS_2D: dict[str, Any] = {**WINDOWS, "data_format": "NHWC"}
ATTRS_3D: dict[str, Any] = {**WINDOWS, "data_format": "NDHWC"}
ATTRS_MAX: dict[str, Any] = {**ATTRS_2D, "explicit_paddings": []}


class Pool(NodeDef):
    """Base of all nodes; ``types`` are the pooling, its gradient, and where there is one that
    gradient's.
    """

    rank: ClassVar[int] = 4
    types: ClassVar[tuple[str, ...]]

    def layout(self, node: Any) -> Layout:
        """The layout of the images."""
        return layout_of(node, self.rank)

    def windows(self, x: Any, node: Any, image: Dims) -> tuple[dict[str, Any], Dims]:
        """The attributes of the IR op on images of a size, and the number of windows.

        Raises: ShapeError for what cannot be.
        """
        layout = self.layout(node)
        strides = steps(node, "strides", layout, "Stride must be > 0, but got {}")
        window = steps(node, "ksize", layout, "Sliding window ksize must be > 0, but got {}")
        for name in ("ksize", "strides"):
            only_spatial(x, node, layout, name, "Non-spatial pooling is not yet supported.")
        padding = padding_of(node, layout)
        for axis, pair in enumerate(padding[1]):
            _check_padding(x, pair, window[axis], image[axis])
        found = placed(x, padding, image, window, strides, (1,) * len(window))
        return found.steps(window=window), found.size

    def like(self, tf: Any, op: Any, place: int, *inputs: Any) -> Any:
        """The node at ``place`` of ``types``, with the attributes of ``op``."""
        attrs = {name: op.attrs[name] for name in self.attrs}
        return tf.pooling_node(self.types[place], inputs, attrs)


def _check_padding(x: Any, pair: tuple[int, int], window: int, image: Dim) -> None:
    """Each window sees something of the image. Raises: ShapeError."""
    for size in pair:
        if size >= window:
            raise ShapeError(f"Padding {size} needs to be smaller than the window size {window}")
    if any(pair) and not sizes.building(x):
        sizes.require_at_most(x, 1, image, "Explicit padding wants an image that is not empty")


# ---- maxima -------------------------------------------------------------------------------------
class Maxima(Pool):
    """Base of the poolings by maxima."""

    inputs = ("input",)

    def extract(self, x: Any, node: Any, images: Any) -> Any:
        """The IR's ``max_pool``, of images with channels last; or maxima of channels."""
        layout = self.layout(node)
        images = layout.last(x, ranked(x, images, self.rank))
        if len(node.attrs["ksize"]) == self.rank and node.attrs["ksize"][layout.outer[1]] > 1:
            return layout.back(x, _of_channels(x, node, layout, images))
        windows, size = self.windows(x, node, x.shape(images)[1:-1])
        return layout.back(x, x.emit("max_pool", images, size=size, **windows))

    def gradient(self, tf: Any, op: Any, dy: Any) -> list[Any]:
        """Each maximum's goes to the first place where it is."""
        return [self.like(tf, op, 1, op.inputs[0], op.outputs[0], dy)]


def _of_channels(x: Any, node: Any, layout: Layout, images: Any) -> Any:
    """Maxima of as many channels each as the window has."""
    window = node.attrs["ksize"][layout.outer[1]]
    if max(layout.picked(node.attrs["ksize"])) > 1:
        raise ShapeError(
            "MaxPooling supports exactly one of pooling across depth or pooling across "
            "width/height."
        )
    if node.attrs["strides"][layout.outer[1]] != window:
        raise ShapeError(
            "Depthwise max pooling requires the depth window to equal the depth stride."
        )
    *outer, depth = x.shape(images)
    count = dims.floor_div(depth, window)
    message = "Depthwise max pooling requires the depth window to evenly divide the input depth"
    sizes.require_equal(x, count * window, depth, message)
    apart = x.emit("reshape", images, shape=(*outer, count, window))
    return x.emit("reduce_max", apart, axes=(len(outer) + 1,))


class AtMaxima(Pool):
    """Base of the nodes about the places of maxima: images, their maxima, and values."""

    inputs = ("orig_input", "orig_output", "grad")
    op: ClassVar[str]
    following: ClassVar[int]  # the place in ``types`` of the gradient

    def extract(self, x: Any, node: Any, images: Any, maxima: Any, values: Any) -> Any:
        """The IR op, of images with channels last."""
        layout = self.layout(node)
        images, maxima, values = (
            layout.last(x, ranked(x, value, self.rank)) for value in (images, maxima, values)
        )
        shape = x.shape(images)
        windows, size = self.windows(x, node, shape[1:-1])
        pooled = (shape[0], *size, shape[-1])
        maxima = sizes.in_shape(x, maxima, pooled)
        values = sizes.in_shape(x, values, pooled if self.op == "max_pool_input" else shape)
        return layout.back(x, x.emit(self.op, images, maxima, values, **windows))

    def gradient(self, tf: Any, op: Any, g: Any) -> list[Any]:
        """Linear in the values; the places do not move."""
        images, maxima, _ = op.inputs
        slope = self.like(tf, op, self.following, images, maxima, g)
        return [tf.zeros_like(images), tf.zeros_like(maxima), slope]


TYPES_MAX = ("MaxPool", "MaxPoolGrad", "MaxPoolGradGrad")
TYPES_MAX_3D = ("MaxPool3D", "MaxPool3DGrad", "MaxPool3DGradGrad")


@define_node
class MaxPool(Maxima):
    """The maxima of windows of images."""

    types, attrs = TYPES_MAX, ATTRS_MAX


@define_node
class MaxPoolGrad(AtMaxima):
    """The gradient of ``MaxPool``."""

    types, attrs = TYPES_MAX, ATTRS_MAX
    op, following = "max_pool_input", 2


@define_node
class MaxPoolGradGrad(AtMaxima):
    """The gradient of ``MaxPoolGrad`` in what it puts at the places of maxima."""

    types, attrs = TYPES_MAX, ATTRS_MAX
    op, following = "max_pool_pick", 1


@define_node
class MaxPool3D(Maxima):
    """The maxima of windows of volumes."""

    types, attrs, rank = TYPES_MAX_3D, ATTRS_3D, 5


@define_node
class MaxPool3DGrad(AtMaxima):
    """The gradient of ``MaxPool3D``."""

    types, attrs, rank = TYPES_MAX_3D, ATTRS_3D, 5
    op, following = "max_pool_input", 2


@define_node
class MaxPool3DGradGrad(AtMaxima):
    """The gradient of ``MaxPool3DGrad`` in what it puts at the places of maxima."""

    types, attrs, rank = TYPES_MAX_3D, ATTRS_3D, 5
    op, following = "max_pool_pick", 1


@define_node
class MaxPoolWithArgmax(Pool):
    """The maxima of windows of images, and the number of the element that each of them is."""

    inputs, outputs = ("input",), 2
    types = ("MaxPoolWithArgmax", "MaxPoolGradWithArgmax")
    attrs: ClassVar[dict[str, Any]] = {
        **WINDOWS, "Targmax": "i64", "include_batch_in_index": False,
    }

    def layout(self, node: Any) -> Layout:
        """Channels come last."""
        return Layout(self.rank, False)

    def extract(self, x: Any, node: Any, images: Any) -> Any:
        """The IR's ``max_pool`` and ``arg_max_pool``, whose pixels become elements."""
        images = ranked(x, images, self.rank)
        _, *image, depth = x.shape(images)
        windows, size = self.windows(x, node, tuple(image))
        maxima = x.emit("max_pool", images, size=size, **windows)
        pixels = Term(x, x.emit("arg_max_pool", images, size=size, **windows))
        shape = x.shape(maxima)
        channel = Term(x, x.emit("iota", shape=shape, axis=3, dtype="i64"))
        numbers = pixels * Term(x, x.dimensions(depth, "i64")) + channel
        if node.attrs["include_batch_in_index"]:
            numbers = numbers + _offsets(x, shape, dims.product(image) * depth)
        return maxima, x.emit("cast", numbers.operand, dtype=node.attrs["Targmax"])

    def gradient(self, tf: Any, op: Any, dy: Any, dargmax: Any) -> list[Any]:
        """Each maximum's goes to its element."""
        return [self.like(tf, op, 1, op.inputs[0], dy, op.outputs[1])]


def _offsets(x: Any, shape: Dims, size: Dim) -> Term:
    """For each element of a shape the number of elements of the images before its own."""
    image = Term(x, x.emit("iota", shape=shape, axis=0, dtype="i64"))
    return image * Term(x, x.dimensions(size, "i64"))


@define_node
class MaxPoolGradWithArgmax(Pool):
    """The gradient of ``MaxPoolWithArgmax``: values at the elements with given numbers."""

    inputs = ("input", "grad", "argmax")
    attrs: ClassVar[dict[str, Any]] = {
        **WINDOWS, "Targmax": "i64", "include_batch_in_index": False,
    }
    no_gradient = True

    def extract(self, x: Any, node: Any, images: Any, values: Any, argmax: Any) -> Any:
        """A scatter into all images laid end to end."""
        images, values = ranked(x, images, self.rank), ranked(x, values, self.rank)
        shape, pooled = x.shape(images), x.shape(values)
        argmax = sizes.in_shape(x, ranked(x, argmax, self.rank), pooled)
        numbers = Term(x, x.emit("cast", argmax, dtype="i64"))
        if not node.attrs["include_batch_in_index"]:
            numbers = numbers + _offsets(x, pooled, dims.product(shape[1:]))
        whole, count = dims.product(shape), dims.product(pooled)
        indices = x.emit("reshape", numbers.operand, shape=(count, 1))
        indices = checked_vectors(x, indices, (whole,), 1)
        flat = x.emit("scatter_nd", indices, x.emit("reshape", values, shape=(count,)),
                      shape=(whole,))
        return x.emit("reshape", flat, shape=shape)


# ---- means --------------------------------------------------------------------------------------
class Means(Pool):
    """Base of the poolings by means."""

    inputs = ("value",)

    def extract(self, x: Any, node: Any, images: Any) -> Any:
        """The IR's ``avg_pool``, of images with channels last."""
        layout = self.layout(node)
        images = layout.last(x, ranked(x, images, self.rank))
        windows, size = self.windows(x, node, x.shape(images)[1:-1])
        return layout.back(x, x.emit("avg_pool", images, size=size, **windows))

    def gradient(self, tf: Any, op: Any, dy: Any) -> list[Any]:
        """Each element of a window gets its share."""
        return [self.like(tf, op, 1, tf.shape(op.inputs[0]), dy)]


class MeansGradient(Pool):
    """Base of the gradients of poolings by means."""

    inputs = ("orig_input_shape", "grad")

    def extract(self, x: Any, node: Any, given: Any, dy: Any) -> Any:
        """The IR's ``avg_pool_input``, of images with channels last."""
        layout = self.layout(node)
        dy = layout.last(x, ranked(x, dy, self.rank))
        if given.type.shape != (self.rank,):
            return sizes.undetermined(x, dy.type.dtype, self.rank)
        shape = layout.ordered(sizes.vector(x, node, 0, given, self.rank))
        windows, size = self.windows(x, node, shape[1:-1])
        dy = sizes.in_shape(x, dy, (shape[0], *size, shape[-1]))
        return layout.back(x, x.emit("avg_pool_input", dy, size=shape[1:-1], **windows))

    def gradient(self, tf: Any, op: Any, g: Any) -> list[Any]:
        """The pooling."""
        return [None, self.like(tf, op, 0, g)]


@define_node
class AvgPool(Means):
    """The means of windows of images."""

    types, attrs = ("AvgPool", "AvgPoolGrad"), ATTRS_2D


@define_node
class AvgPoolGrad(MeansGradient):
    """The gradient of ``AvgPool``."""

    types, attrs = ("AvgPool", "AvgPoolGrad"), ATTRS_2D


@define_node
class AvgPool3D(Means):
    """The means of windows of volumes."""

    inputs = ("input",)
    types, attrs, rank = ("AvgPool3D", "AvgPool3DGrad"), ATTRS_3D, 5


@define_node
class AvgPool3DGrad(MeansGradient):
    """The gradient of ``AvgPool3D``."""

    types, attrs, rank = ("AvgPool3D", "AvgPool3DGrad"), ATTRS_3D, 5


# ---- normalisation ------------------------------------------------------------------------------
ATTRS_LRN: dict[str, Any] = {"depth_radius": 5, "bias": 1.0, "alpha": 1.0, "beta": 0.5}


class _Neighbours:
    """Sums over neighbouring channels, as a product with a matrix that has ones in a band."""

    def __init__(self, x: Any, node: Any, images: Any) -> None:
        self.x, self.shape, self.dtype = x, x.shape(images), images.type.dtype
        *outer, depth = self.shape
        self.rows = dims.product(outer), depth
        radius = node.attrs["depth_radius"]
        ones = x.emit("fill", x.const(1.0, "f32"), shape=(depth, depth))
        self.band = x.emit("matrix_band_part", ones, lower=radius, upper=radius)

    def term(self, images: Any) -> Term:
        """An operand as a matrix of pixels by channels, in single precision."""
        wide = self.x.emit("cast", images, dtype="f32")
        return Term(self.x, self.x.emit("reshape", wide, shape=self.rows))

    def sums(self, value: Term) -> Term:
        """For each channel the sum of its neighbours."""
        return value.fn("matmul", Term(self.x, self.band))

    def images(self, value: Term) -> Any:
        """The result in the shape and dtype of the images."""
        whole = self.x.emit("reshape", value.operand, shape=self.shape)
        return self.x.emit("cast", whole, dtype=self.dtype)


def _scale(neighbours: _Neighbours, node: Any, pixels: Term) -> Term:
    sums = neighbours.sums(pixels.fn("square"))
    alpha: float = node.attrs["alpha"]
    bias: float = node.attrs["bias"]
    return sums * alpha + bias


@define_node
class LRN(NodeDef):
    """Images divided by a power of what the squares of neighbouring channels add up to."""

    inputs = ("input",)
    attrs = ATTRS_LRN

    def extract(self, x: Any, node: Any, images: Any) -> Any:
        """``input / (bias + alpha * sum(input²)) ** beta``."""
        images = ranked(x, images, 4)
        neighbours = _Neighbours(x, node, images)
        pixels = neighbours.term(images)
        scale = _scale(neighbours, node, pixels)
        return neighbours.images(pixels * scale.fn("pow", -node.attrs["beta"]))

    def gradient(self, tf: Any, op: Any, dy: Any) -> list[Any]:
        """``LRNGrad``."""
        attrs = {name: op.attrs[name] for name in ATTRS_LRN}
        return [tf.pooling_node("LRNGrad", (dy, op.inputs[0], op.outputs[0]), attrs)]


@define_node
class LRNGrad(NodeDef):
    """The gradient of ``LRN``."""

    inputs = ("input_grads", "input_image", "output_image")
    attrs = ATTRS_LRN
    no_gradient = True

    def extract(self, x: Any, node: Any, slopes: Any, images: Any, results: Any) -> Any:
        """What the neighbours of a channel have of its square goes back to it."""
        images = ranked(x, images, 4)
        shape = x.shape(images)
        slopes, results = (
            sizes.in_shape(x, ranked(x, value, 4), shape) for value in (slopes, results)
        )
        neighbours = _Neighbours(x, node, images)
        dy, pixels, y = (neighbours.term(value) for value in (slopes, images, results))
        scale = _scale(neighbours, node, pixels)
        shared = neighbours.sums(dy * y / scale)
        factor = 2.0 * node.attrs["alpha"] * node.attrs["beta"]
        own = dy * scale.fn("pow", -node.attrs["beta"])
        return neighbours.images(own - pixels * shared * factor)
