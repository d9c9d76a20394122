"""Node types about shapes: asking for them, changing them, and making tensors from nothing but a
shape.

What they make of sizes stays symbolic: ``Shape`` gives dimension expressions, and ``Reshape``
takes them, so shape arithmetic in a program costs nothing when a step runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from stepforge.frontend.extract.messages import told
from stepforge.frontend.nodedefs import sizes
from stepforge.frontend.nodedefs.base import REQUIRED, NodeDef, define_node
from stepforge.ir import dims
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError


@define_node
class Shape(NodeDef):
    """The sizes of a tensor as an integer vector."""

    inputs = ("input",)
    attrs: ClassVar[dict[str, Any]] = {"out_type": "i32"}
    no_gradient = True

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """The dimension expressions themselves."""
        if value.type.shape is None:
            return sizes.undetermined(x, node.attrs["out_type"], 1)
        return x.dimensions(x.shape(value), node.attrs["out_type"])


@define_node
class ShapeN(NodeDef):
    """The sizes of several tensors."""

    inputs = ("*input",)
    attrs: ClassVar[dict[str, Any]] = {"out_type": "i32", "N": REQUIRED}
    no_gradient = True

    def extract(self, x: Any, node: Any, *values: Any) -> Any:
        """One vector for each input."""
        return tuple(x.dimensions(x.shape(value), node.attrs["out_type"]) for value in values)


@define_node
class Size(NodeDef):
    """The number of elements."""

    inputs = ("input",)
    attrs: ClassVar[dict[str, Any]] = {"out_type": "i32"}
    no_gradient = True

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """The product of the sizes."""
        if value.type.shape is None:
            return sizes.undetermined(x, node.attrs["out_type"], 0)
        return x.dimensions(dims.product(x.shape(value)), node.attrs["out_type"])


@define_node
class Rank(NodeDef):
    """The number of axes."""

    inputs = ("input",)
    no_gradient = True

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """A constant."""
        if value.type.shape is None:
            return sizes.undetermined(x, "i32", 0)
        return x.const(len(x.shape(value)), "i32")


@define_node
class BroadcastArgs(NodeDef):
    """The shape that two shapes broadcast to."""

    inputs = ("s0", "s1")
    no_gradient = True

    def extract(self, x: Any, node: Any, first: Any, second: Any) -> Any:
        """Shape arithmetic only."""
        shape = x.broadcast(x.sizes(first), x.sizes(second))
        return x.dimensions(shape, first.type.dtype)


@define_node
class Reshape(NodeDef):
    """The same elements in another shape; a size of -1 is what the others leave."""

    inputs = ("tensor", "shape")

    def extract(self, x: Any, node: Any, value: Any, shape: Any) -> Any:
        """The element counts must agree."""
        if value.type.shape is None:
            known = [
                size if isinstance(size, int) and size >= 0 else None
                for size in sizes.vector(x, node, 1, shape)
            ]
            return sizes.undetermined(x, value.type.dtype, known)
        wanted = _wanted_sizes(x, node, x.shape(value), shape)
        return x.emit("reshape", value, shape=reshaped(x, x.shape(value), wanted))

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """The gradient in the old shape."""
        return [tf.reshape(grad, tf.shape(op.inputs[0])), None]


def _wanted_sizes(x: Any, node: Any, have: Sequence[Dim], shape: Any) -> tuple[Dim, ...]:
    """The sizes wanted of ``Reshape``; elements that only the run tells may be -1 there."""
    (count,) = x.shape(shape) if len(x.shape(shape)) == 1 else (None,)
    if not isinstance(count, int):
        return tuple(x.sizes(shape))
    parts = sizes.elements(x, node.inputs[1], shape, count)
    if all(isinstance(part, (int, dims.Expr)) for part in parts):
        return tuple(parts)
    values = [
        x.dimensions(part, "i64")
        if isinstance(part, (int, dims.Expr))
        else x.emit("cast", part, dtype="i64")
        for part in parts
    ]
    product = values[0]
    for value in values[1:]:
        product = x.emit("mul", product, value)
    rest = x.emit("floor_div", x.dimensions(dims.product(have), "i64"), x.emit("neg", product))
    found = []
    for part, value in zip(parts, values, strict=True):
        if not isinstance(part, (int, dims.Expr)):
            is_open = x.emit("equal", value, x.const(-1, "i64"))
            (part,) = x.sizes(x.emit("select", is_open, rest, value))
        found.append(part)
    return tuple(found)


def reshaped(x: Any, have: Sequence[Dim], wanted: Sequence[Dim]) -> tuple[Dim, ...]:
    """``wanted`` with its -1 resolved, checked to have as many elements as ``have``."""
    open_axes = [axis for axis, size in enumerate(wanted) if size == -1]
    if len(open_axes) > 1:
        raise ShapeError(
            f"Only one input size may be -1, not both {open_axes[0]} and {open_axes[1]}"
        )
    for axis, size in enumerate(wanted):
        if isinstance(size, int) and size < -1:
            raise ShapeError(f"Size {axis} must be non-negative, not {size}")
    total = dims.product(have)
    if not open_axes:
        _check_count(x, total, dims.product(wanted), wanted)
        return tuple(wanted)
    known = dims.product([size for size in wanted if size != -1])
    if known == 0 and total != 0:
        raise ShapeError(
            "reshape cannot infer the missing input size for an empty tensor unless all specified "
            "input sizes are non-zero"
        )
    rest = dims.floor_div(total, known) if known != 0 else 0
    if isinstance(total, int) and isinstance(known, int) and rest * known != total:
        raise ShapeError(f"Dimension size must be evenly divisible by {known} but is {total}")
    sizes.require_equal(
        x,
        rest * known,
        total,
        told(
            "Input to reshape is a tensor with {} values, but the requested shape requires a "
            "multiple of {}",
            total,
            known,
        ),
    )
    return tuple(rest if size == -1 else size for size in wanted)


def _check_count(x: Any, total: Dim, count: Dim, wanted: Sequence[Dim]) -> None:
    if isinstance(total, int) and isinstance(count, int) and total != count:
        raise ShapeError(
            f"Cannot reshape a tensor with {total} elements to shape {sizes.bracketed(wanted)} "
            f"({count} elements)"
        )
    text = "Input to reshape is a tensor with {} values, but the requested shape has {}"
    sizes.require_equal(x, total, count, told(text, total, count))


@define_node
class ExpandDims(NodeDef):
    """The tensor with one more axis, of size 1."""

    inputs = ("input", "dim")

    def extract(self, x: Any, node: Any, value: Any, dim: Any) -> Any:
        """A reshape."""
        shape = x.shape(value)
        axis = sizes.static_scalar(x, dim)
        rank = len(shape)
        if axis is None:
            return sizes.undetermined(x, value.type.dtype, rank + 1)
        axis = sizes.normal_axis(
            axis, rank + 1, f"dim {axis} not in the interval [{-rank - 1}, {rank}]."
        )
        return x.emit("reshape", value, shape=(*shape[:axis], 1, *shape[axis:]))

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """The gradient in the old shape."""
        return [tf.reshape(grad, tf.shape(op.inputs[0])), None]


@define_node
class Squeeze(NodeDef):
    """The tensor without its axes of size 1, or without those given."""

    inputs = ("input",)
    attrs: ClassVar[dict[str, Any]] = {"squeeze_dims": ()}

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """A reshape. Without axes the rank of the result depends on which sizes are 1."""
        shape = x.shape(value)
        given = node.attrs["squeeze_dims"]
        if given:
            axes = [_squeezed_axis(x, shape, i, axis) for i, axis in enumerate(given)]
        elif sizes.building(x) and any(not isinstance(size, int) for size in shape):
            return sizes.undetermined(x, value.type.dtype)
        else:
            axes = [axis for axis, size in enumerate(shape) if _is_one(x, axis, size)]
        kept = tuple(size for axis, size in enumerate(shape) if axis not in axes)
        return x.emit("reshape", value, shape=kept)

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """The gradient in the old shape."""
        return [tf.reshape(grad, tf.shape(op.inputs[0]))]


def _squeezed_axis(x: Any, shape: Sequence[Dim], position: int, given: int) -> int:
    rank = len(shape)
    axis = sizes.normal_axis(given, rank, f"squeeze_dims[{position}] not in [{-rank},{rank}).")
    sizes.require_equal(
        x,
        shape[axis],
        1,
        told(f"Can not squeeze dim[{axis}], expected a dimension of 1, got {{}}", shape[axis]),
    )
    return axis


def _is_one(x: Any, axis: int, size: Dim) -> bool:
    """Whether a size is 1. Of an unknown one the answer holds for this variant of the step."""
    if isinstance(size, int):
        return size == 1
    indicator = dims.maximum(0, 1 - (size - 1) * (size - 1))  # 1 for 1, 0 for other sizes
    message = f"squeeze without axes needs to know before the run whether dimension {axis} is 1"
    try:
        x.unify(indicator, 0, message)
    except ShapeError:
        x.unify(size, 1, message)
        return True
    return False


class Transposition(NodeDef):
    """Base of ``Transpose`` and ``ConjugateTranspose``."""

    inputs = ("x", "perm")

    def extract(self, x: Any, node: Any, value: Any, perm: Any) -> Any:
        """The order of axes must be known when a step is compiled."""
        rank = len(x.shape(value))
        order = sizes.static_list(x, perm)
        if order is None:
            return sizes.undetermined(x, value.type.dtype, rank)
        if len(order) != rank:
            raise ShapeError(f"Dimension must be {rank} but is {len(order)}")
        order = [
            sizes.normal_axis(axis, rank, "{axis} is out of range [0 .. {rank})") for axis in order
        ]
        missing = sorted(set(range(rank)) - set(order))
        if missing:
            raise ShapeError(f"{missing[0]} is missing from {{{','.join(map(str, order))}}}.")
        return x.emit("transpose", self.prepared(x, value), perm=tuple(order))

    def prepared(self, x: Any, value: Any) -> Any:
        """What is transposed."""
        return value


@define_node
class Transpose(Transposition):
    """The tensor with its axes in another order."""

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """The inverse order."""
        return [tf.transpose(grad, tf.invert_permutation(op.inputs[1])), None]


@define_node
class ConjugateTranspose(Transposition):
    """The complex conjugate with its axes in another order."""

    def prepared(self, x: Any, value: Any) -> Any:
        """The conjugate of complex values."""
        return x.emit("conj", value) if value.type.kind == "c" else value

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """The inverse order, conjugated."""
        order = tf.invert_permutation(op.inputs[1])
        return [tf.transpose(grad, order, conjugate=True), None]


@define_node
class InvertPermutation(NodeDef):
    """The inverse of an order of 0 .. n - 1."""

    inputs = ("x",)
    no_gradient = True

    def extract(self, x: Any, node: Any, order: Any) -> Any:
        """Known orders at once; others by scattering 0 .. n - 1."""
        if len(x.shape(order)) != 1:
            raise ShapeError("invert_permutation expects a 1D vector.")
        known = x.static(order)
        if known is not None:
            return x.const(_inverse(known), order.type.dtype)
        (count,) = x.shape(order)
        dtype = order.type.dtype
        x.emit("check_bounds", order, limit=count, message="{value} is not between 0 and {limit}")
        places = x.emit("reshape", order, shape=(count, 1))
        numbers = x.emit("iota", shape=(count,), axis=0, dtype=dtype)
        times = x.emit("scatter_nd", places, x.emit("fill", x.const(1, dtype), shape=(count,)),
                       shape=(count,))  # fmt: skip
        missing = x.const(-1, dtype)
        twice = x.emit("select", x.emit("greater", times, x.const(1, dtype)), numbers, missing)
        last = x.emit("reduce_max", twice, axes=(0,))
        fine = x.emit("less", last, x.const(0, dtype))
        x.emit("require", fine, last, message=TWICE)
        return x.emit("scatter_nd", places, numbers, shape=(count,))


TWICE = "{} is duplicated in the input."


def _inverse(order: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    outside = order[(order < 0) | (order >= order.size)]
    if outside.size:
        raise ShapeError(f"{outside[0]} is not between 0 and {order.size}")
    values, times = np.unique(order, return_counts=True)
    if values.size < order.size:
        raise ShapeError(TWICE.format(values[times > 1][0]))
    return np.argsort(order)


@define_node
class BroadcastTo(NodeDef):
    """The tensor repeated to a shape, along axes of size 1 and new leading ones."""

    inputs = ("input", "shape")

    def extract(self, x: Any, node: Any, value: Any, shape: Any) -> Any:
        """The sizes must broadcast."""
        have, wanted = x.shape(value), sizes.vector(x, node, 1, shape)
        if len(have) > len(wanted):
            raise ShapeError(
                f"Rank of input ({len(have)}) must be no greater than rank of output shape "
                f"({len(wanted)})."
            )
        for size in wanted:
            if isinstance(size, int) and size < 0:
                raise ShapeError(f"Dimension {size} must be >= 0")
        message = told("Incompatible shapes: {} vs. {}", have, wanted)
        for a, b in zip(have[::-1], wanted[::-1], strict=False):
            _check_repeated(x, a, b, message)
        return x.emit("broadcast_to", value, shape=wanted)

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """What was repeated is summed up."""
        return [tf.sum_to(grad, op.inputs[0]), None]


def _check_repeated(x: Any, have: Dim, wanted: Dim, message: str) -> None:
    """A size must be 1 or the one that it is repeated to."""
    if isinstance(have, int) and isinstance(wanted, int) and have not in (1, wanted):
        raise ShapeError(message)
    if wanted == 1:
        x.unify(have, 1, message)
    else:
        sizes.require_equal(x, x.broadcast_sizes(have, wanted, message), wanted, message)


@define_node
class Fill(NodeDef):
    """A tensor of one value."""

    inputs = ("dims", "value")
    attrs: ClassVar[dict[str, Any]] = {"index_type": "i32"}

    def extract(self, x: Any, node: Any, shape: Any, value: Any) -> Any:
        """The value must be a scalar."""
        if x.shape(value):
            raise ShapeError(f"Shape must be rank 0 but is rank {len(x.shape(value))}")
        wanted = sizes.vector(x, node, 0, shape)
        for size in wanted:
            if isinstance(size, int) and size < 0:
                raise ShapeError(f"Dimension {size} must be >= 0")
        return x.emit("fill", value, shape=wanted)

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """The sum."""
        return [None, tf.reduce_sum(grad)]


class FillLike(NodeDef):
    """Base of ``ZerosLike`` and ``OnesLike``."""

    inputs = ("x",)
    number: ClassVar[int]

    def extract(self, x: Any, node: Any, like: Any) -> Any:
        """A fill with the sizes of the input."""
        dtype = like.type.dtype
        number = x.const("" if dtype == "string" else self.number, dtype)
        return x.emit("fill", number, shape=x.shape(like))

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Zeros."""
        return [tf.zeros_like(op.inputs[0])]


@define_node
class ZerosLike(FillLike):
    """Zeros in the shape and dtype of a tensor."""

    number = 0


@define_node
class OnesLike(FillLike):
    """Ones in the shape and dtype of a tensor."""

    number = 1
