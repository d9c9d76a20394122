"""Node types that reduce axes or run along one: sums and their kin, ``ArgMax``, ``Cumsum``.

The axes are an input (``Sum/reduction_indices``), as in TensorFlow; they must be known when a step
is compiled. Gradients spread a reduced tensor over the input's shape again by ``ExpandReduced``, a
node of ours that stands for the half dozen shape nodes TensorFlow makes there.
"""

from __future__ import annotations

from typing import Any, ClassVar

from stepforge.frontend.extract.messages import told
from stepforge.frontend.nodedefs.base import NodeDef, define_node
from stepforge.frontend.nodedefs.formula import terms
from stepforge.frontend.nodedefs.sizes import (
    bracketed,
    normal_axis,
    require_at_most,
    require_equal,
    static_list,
    static_scalar,
    undetermined,
)
from stepforge.ir import dims
from stepforge.ir.errors import ShapeError


def static_axes(x: Any, indices: Any, rank: int) -> tuple[int, ...] | None:
    """Reduction indices as sorted axes >= 0; None where they are not known.

    Raises: ShapeError for an axis out of range or given twice.
    """
    values = static_list(x, indices)
    if values is None:
        return None
    message = "Invalid reduction dimension {axis} for input with {rank} dimensions."
    axes = [normal_axis(value, rank, message) for value in values]
    for axis in axes:
        if axes.count(axis) > 1:
            raise ShapeError(
                f"Invalid reduction arguments: Axes contains duplicate dimension: {axis}"
            )
    return tuple(sorted(axes))


class Reduction(NodeDef):
    """Base of the reductions: ``op`` is the IR op."""

    inputs = ("input", "reduction_indices")
    attrs: ClassVar[dict[str, Any]] = {"keep_dims": False}
    op: ClassVar[str] = ""

    def extract(self, x: Any, node: Any, value: Any, indices: Any) -> Any:
        """The IR's reduction over the axes."""
        rank = len(x.shape(value))
        axes = static_axes(x, indices, rank)
        keep_dims = node.attrs["keep_dims"]
        if axes is None:
            return undetermined(x, value.type.dtype, rank if keep_dims else None)
        return self.reduce(x, value, axes, keep_dims)

    def reduce(self, x: Any, value: Any, axes: tuple[int, ...], keep_dims: bool) -> Any:
        """The operand of the result, once the axes are known."""
        return x.emit(self.op, value, axes=axes, keep_dims=keep_dims)


def spread(tf: Any, op: Any, value: Any, *, mean: bool = False) -> Any:
    """A tensor of the shape of ``op``'s output over the shape of its input again."""
    return tf.expand_reduced(
        value, op.inputs[0], op.inputs[1], keep_dims=op.get_attr("keep_dims"), mean=mean
    )


@define_node
class Sum(Reduction):
    """The sum over axes."""

    op = "reduce_sum"

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """Each summand gets all of it."""
        return [spread(tf, op, dz), None]


@define_node
class Mean(Reduction):
    """The mean over axes; of integers it truncates."""

    op = "reduce_mean"

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """Each element gets its share."""
        return [spread(tf, op, dz, mean=True), None]


class Extremum(Reduction):
    """Base of ``Max`` and ``Min``."""

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """Elements that tie share equally."""
        chosen = tf.cast(tf.equal(spread(tf, op, op.outputs[0]), op.inputs[0]), dz.dtype)
        keep_dims = op.get_attr("keep_dims")
        count = tf.reduce_sum(chosen, op.inputs[1], keepdims=keep_dims)
        return [chosen / spread(tf, op, count) * spread(tf, op, dz), None]


@define_node
class Max(Extremum):
    """The maximum over axes."""

    op = "reduce_max"


@define_node
class Min(Extremum):
    """The minimum over axes."""

    op = "reduce_min"


@define_node
class Prod(Reduction):
    """The product over axes."""

    op = "reduce_prod"

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """The product of all other elements, by running products from both ends: zeros are fine."""
        others = _product_of_others(tf, op.inputs[0], _known_axes(tf, op))
        return [spread(tf, op, dz) * tf.conj(others), None]


def _known_axes(tf: Any, op: Any) -> list[int] | None:
    """The axes of a reduction node; None for all of them.

    Raises: NotImplementedError where neither is known while the graph is built.
    """
    rank = op.inputs[0].shape.ndims
    axes = tf.constant_value(op.inputs[1])
    if rank is None and op.outputs[0].shape.ndims == 0:
        return None
    if rank is None or axes is None:
        raise NotImplementedError(f"gradient of {op.name}: axes and rank must be known")
    return sorted(int(axis) % rank for axis in axes.reshape(-1))


def _product_of_others(tf: Any, x: Any, axes: list[int] | None) -> Any:
    if axes is None or len(axes) == x.shape.ndims:
        return tf.reshape(_running_products(tf, tf.reshape(x, [-1])), tf.shape(x))
    rank = x.shape.ndims
    order = axes + [axis for axis in range(rank) if axis not in axes]
    moved = tf.transpose(x, order)
    flat = tf.reshape(moved, tf.concat([[-1], tf.shape(moved)[len(axes):]], 0))
    others = tf.reshape(_running_products(tf, flat), tf.shape(moved))
    return tf.transpose(others, [order.index(axis) for axis in range(rank)])


def _running_products(tf: Any, flat: Any) -> Any:
    left = tf.cumprod(flat, axis=0, exclusive=True)
    return left * tf.cumprod(flat, axis=0, exclusive=True, reverse=True)


@define_node
class EuclideanNorm(Reduction):
    """The square root of the sum of squares over axes."""

    def reduce(self, x: Any, value: Any, axes: tuple[int, ...], keep_dims: bool) -> Any:
        """By the formula; of integers too."""
        (v,) = terms(x, value)
        total = (v * v.conj()).fn("reduce_sum", axes=axes, keep_dims=keep_dims)
        if value.type.kind in "iu":
            root = total.fn("cast", dtype="f64").fn("sqrt")
            return root.fn("cast", dtype=value.type.dtype).operand
        return total.fn("sqrt").operand

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """The unit vector, scaled."""
        return [op.inputs[0] / (spread(tf, op, op.outputs[0]) / spread(tf, op, dz)), None]


@define_node
class Any_(Reduction):
    """True where an element along the axes is true."""

    type = "Any"
    op = "reduce_any"
    no_gradient = True


@define_node
class All(Reduction):
    """True where all elements along the axes are true."""

    op = "reduce_all"
    no_gradient = True


@define_node
class ExpandReduced(NodeDef):
    """A reduced tensor spread over the shape of what was reduced; with ``mean`` divided by their
    number.

    The adjoint of ``Sum`` (and ``Mean``): ``like`` gives the shape only.
    """

    inputs = ("value", "like", "reduction_indices")
    attrs: ClassVar[dict[str, Any]] = {"keep_dims": False, "mean": False}

    def extract(self, x: Any, node: Any, value: Any, like: Any, indices: Any) -> Any:
        """A division by the count, a reshape to the kept axes, a broadcast."""
        shape = x.shape(like)
        axes = static_axes(x, indices, len(shape))
        if axes is None:
            return x.emit("broadcast_to", undetermined(x, value.type.dtype, 0), shape=shape)
        if node.attrs["mean"]:
            count = dims.product([shape[axis] for axis in axes])
            number = x.emit("cast", x.dimensions(count, "i64"), dtype=value.type.dtype)
            value = x.emit("div", value, number)
        if not node.attrs["keep_dims"]:
            kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
            have = x.shape(value)
            message = told("A gradient of shape {} is none of {}", have, kept)
            require_equal(x, dims.product(have), dims.product(kept), message)
            value = x.emit("reshape", value, shape=kept)
        return x.emit("broadcast_to", value, shape=shape)

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """Sums, or takes the mean, over the axes."""
        reduce = tf.reduce_mean if op.get_attr("mean") else tf.reduce_sum
        return [reduce(dz, op.inputs[2], keepdims=op.get_attr("keep_dims")), None, None]


class ArgExtremum(NodeDef):
    """Base of ``ArgMax`` and ``ArgMin``: ``op`` is the IR op."""

    inputs = ("input", "dimension")
    attrs: ClassVar[dict[str, Any]] = {"output_type": "i64"}
    no_gradient = True
    op: ClassVar[str]

    def extract(self, x: Any, node: Any, value: Any, dimension: Any) -> Any:
        """Booleans compare as integers; of nothing no element is the largest."""
        shape, dtype = x.shape(value), node.attrs["output_type"]
        rank = len(shape)
        axis = static_scalar(x, dimension)
        if axis is None:
            return undetermined(x, dtype, rank - 1)
        if value.type.dtype == "bool":
            value = x.emit("cast", value, dtype="u8")
        message = (
            "Dimension ({axis}) must be in the range [-{rank}, {rank}), where {rank} is the number "
            "of dimensions in the input."
        )
        axis = normal_axis(axis, rank, message)
        message = f"Reduction axis {axis} is empty in shape {bracketed(shape)}"
        require_at_most(x, 1, shape[axis], message)
        return x.emit(self.op, value, axis=axis, dtype=dtype)


@define_node
class ArgMax(ArgExtremum):
    """The index of the first largest element along an axis."""

    op = "argmax"


@define_node
class ArgMin(ArgExtremum):
    """The index of the first smallest element along an axis."""

    op = "argmin"


class Scan(NodeDef):
    """Base of ``Cumsum`` and ``Cumprod``: ``op`` is the IR op."""

    inputs = ("x", "axis")
    attrs: ClassVar[dict[str, Any]] = {"exclusive": False, "reverse": False}
    op: ClassVar[str]

    def extract(self, x: Any, node: Any, value: Any, axis: Any) -> Any:
        """The IR's running sum or product."""
        rank, given = len(x.shape(value)), static_scalar(x, axis)
        if given is None:
            return undetermined(x, value.type.dtype, rank)
        message = "ScanOp: Expected scan axis in the range [-{rank}, {rank}), but got {axis}"
        flags = {"exclusive": node.attrs["exclusive"], "reverse": node.attrs["reverse"]}
        return x.emit(self.op, value, axis=normal_axis(given, rank, message), **flags)


@define_node
class Cumsum(Scan):
    """The running sum along an axis."""

    op = "cumsum"

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """The running sum the other way round."""
        exclusive, reverse = op.get_attr("exclusive"), op.get_attr("reverse")
        return [tf.cumsum(dz, op.inputs[1], exclusive=exclusive, reverse=not reverse), None]


@define_node
class Cumprod(Scan):
    """The running product along an axis."""

    op = "cumprod"

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """TensorFlow's formula: where x is 0 it gives 0."""
        x, axis = op.inputs
        exclusive, reverse = op.get_attr("exclusive"), op.get_attr("reverse")
        products = tf.cumprod(x, axis, exclusive=exclusive, reverse=reverse)
        total = tf.cumsum(products * dz, axis, exclusive=exclusive, reverse=not reverse)
        return [tf.div_no_nan(total, x), None]
