"""Node types about shapes: asking for them, changing them, and making tensors from nothing but a
shape.

What they make of sizes stays symbolic: ``Shape`` gives dimension expressions, and ``Reshape``
takes them, so shape arithmetic in a program costs nothing when a step runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

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
        wanted = sizes.vector(x, node, 1, shape)
        if value.type.shape is None:
            known = [size if isinstance(size, int) and size >= 0 else None for size in wanted]
            return sizes.undetermined(x, value.type.dtype, known)
        return x.emit("reshape", value, shape=reshaped(x, x.shape(value), wanted))

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """The gradient in the old shape."""
        return [tf.reshape(grad, tf.shape(op.inputs[0])), None]


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
        f"Input to reshape is a tensor with {total} values, but the requested shape requires a "
        f"multiple of {known}",
    )
    return tuple(rest if size == -1 else size for size in wanted)


def _check_count(x: Any, total: Dim, count: Dim, wanted: Sequence[Dim]) -> None:
    if isinstance(total, int) and isinstance(count, int) and total != count:
        raise ShapeError(
            f"Cannot reshape a tensor with {total} elements to shape {sizes.bracketed(wanted)} "
            f"({count} elements)"
        )
    message = (
        f"Input to reshape is a tensor with {total} values, but the requested shape has {count}"
    )
    sizes.require_equal(x, total, count, message)


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
        """A reshape. Without axes it depends on which sizes are 1, and so does the result's rank."""
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
        f"Can not squeeze dim[{axis}], expected a dimension of 1, got {shape[axis]}",
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
        known = x.static(order)
        if known is not None:
            return x.const(_inverse(known), order.type.dtype)
        (count,) = x.shape(order)
        x.emit("check_bounds", order, limit=count, message="indices")
        places = x.emit("reshape", order, shape=(count, 1))
        numbers = x.emit("iota", shape=(count,), axis=0, dtype=order.type.dtype)
        return x.emit("scatter_nd", places, numbers, shape=(count,))


def _inverse(order: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if sorted(order.tolist()) != list(range(order.size)):
        raise ShapeError(f"{order.tolist()} is no permutation of 0 .. {order.size - 1}")
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
        message = f"Incompatible shapes: {sizes.bracketed(have)} vs. {sizes.bracketed(wanted)}"
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
        x.broadcast_sizes(have, wanted)


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


@define_node
class Range(NodeDef):
    """``start, start + delta, ...`` up to, and without, ``limit``."""

    inputs = ("start", "limit", "delta")
    no_gradient = True

    def extract(self, x: Any, node: Any, start: Any, limit: Any, delta: Any) -> Any:
        """Known numbers at once, so that they can be axes or shapes; others by counting."""
        first, last, step = (x.static(operand) for operand in (start, limit, delta))
        dtype = start.type.dtype
        if first is not None and last is not None and step is not None:
            count: Dim = _known_count(first, last, step)
            if isinstance(count, int) and count <= SHORT:
                return x.const(first + np.arange(count).astype(first.dtype) * step, dtype)
        elif start.type.kind in "iu":
            count = _integer_count(x, start, limit, delta)
        else:
            wide = [x.emit("cast", operand, dtype="f64") for operand in (limit, start, delta)]
            span = x.emit("div", x.emit("sub", *wide[:2]), wide[2])
            count = _count(x, x.emit("cast", x.emit("ceil", span), dtype="i64"), step)
        numbers = x.emit("iota", shape=(count,), axis=0, dtype=dtype)
        if step is None or step != 1:
            numbers = x.emit("mul", numbers, delta)
        return numbers if first is not None and first == 0 else x.emit("add", numbers, start)


SHORT = 64  # ranges up to this length are constants, which rules can look into


def _known_count(start: Any, limit: Any, delta: Any) -> int:
    """The length of a range of known numbers. Raises: ShapeError where it has no direction."""
    if delta == 0:
        raise ShapeError(f"Requires delta != 0: {delta}")
    if (limit - start) * np.sign(delta) < 0:
        raise ShapeError(f"{_direction(delta)}: {start}/{limit}")
    if start.dtype.kind in "iu":
        return -((int(start) - int(limit)) // int(delta))
    return math.ceil((float(limit) - float(start)) / float(delta))


def _direction(delta: Any) -> str:
    sign, order = ("<", ">=") if delta < 0 else (">", "<=")
    return f"Requires start {order} limit when delta {sign} 0"


def _integer_count(x: Any, start: Any, limit: Any, delta: Any) -> Dim:
    """``limit - start`` divided by ``delta``, rounded up; sizes stay expressions."""
    step = x.static(delta)
    if step is None:
        x.emit("check_nonzero", delta, message="Requires delta != 0")
        short = x.emit("floor_div", x.emit("sub", start, limit), delta)
        return _count(x, x.emit("neg", short), None)
    span = x.emit("sub", limit, start) if step > 0 else x.emit("sub", start, limit)
    size = abs(int(step))
    if size > 1:
        dtype = start.type.dtype
        span = x.emit("add", span, x.const(size - 1, dtype))
        span = x.emit("floor_div", span, x.const(size, dtype))
    return _count(x, span, step)


def _count(x: Any, length: Any, delta: Any) -> Dim:
    """A computed length as a size that is checked not to be negative."""
    known = x.known(length)
    if known is not None and sizes.non_negative(known.item()):
        return known.item()  # type: ignore[no-any-return]
    message = (
        "Requires start and limit in the direction of delta" if delta is None else _direction(delta)
    )
    positive = x.emit("greater_equal", length, x.const(0, length.type.dtype))
    x.emit("require", positive, message=message)
    return x.sizes(length)[0]  # type: ignore[no-any-return]


@define_node
class LinSpace(NodeDef):
    """``num`` evenly spaced numbers from ``start`` to ``stop``, both included."""

    inputs = ("start", "stop", "num")

    def extract(self, x: Any, node: Any, start: Any, stop: Any, num: Any) -> Any:
        """``start + i * step``, the last one exactly ``stop``."""
        for operand in (start, stop, num):
            if x.shape(operand):
                raise ShapeError(f"Shape must be rank 0 but is rank {len(x.shape(operand))}")
        (count,) = x.sizes(num)
        if isinstance(count, int) and count <= 0:
            raise ShapeError(f"Requires num > 0: {count}")
        dtype = start.type.dtype
        last = dims.maximum(count - 1, 1)
        intervals = x.emit("cast", x.dimensions(last, "i64"), dtype=dtype)
        step = x.emit("div", x.emit("sub", stop, start), intervals)
        places = x.emit("iota", shape=(count,), axis=0, dtype="i64")
        numbers = x.emit("mul", x.emit("cast", places, dtype=dtype), step)
        at_end = x.emit("equal", places, x.dimensions(last, "i64"))
        return x.emit("select", at_end, stop, x.emit("add", numbers, start))

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Each number is a mixture of the two ends."""
        start, stop, num = op.inputs
        share = tf.linspace(tf.zeros_like(start), tf.ones_like(stop), num)
        return [tf.reduce_sum(grad * (1 - share)), tf.reduce_sum(grad * share), None]
