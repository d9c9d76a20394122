"""Node types that join, cut, pad and rearrange tensors without looking at their elements.

All are slices, concatenations, pads and transposes of the IR; what a size must be so that they fit
is checked here, in TensorFlow's words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from stepforge.frontend.extract.messages import told
from stepforge.frontend.nodedefs import sizes
from stepforge.frontend.nodedefs.base import REQUIRED, NodeDef, define_node
from stepforge.ir import dims
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError


def cut(x: Any, value: Any, axis: int, begin: Dim, size: Dim) -> Any:
    """``size`` elements of one axis, from ``begin`` on."""
    shape = x.shape(value)
    if begin == 0 and size == shape[axis]:
        return value
    begins = tuple(begin if i == axis else 0 for i in range(len(shape)))
    counts = tuple(size if i == axis else n for i, n in enumerate(shape))
    return x.emit("slice", value, begin=begins, size=counts)


def vector(x: Any, node: Any, position: int, operand: Any, length: int, message: str) -> Any:
    """Input ``position`` of ``node``, an integer vector that must have ``length`` elements, as
    sizes.

    Raises: ShapeError with ``message``, which may mention ``{length}``, the one it has.
    """
    shape = x.shape(operand)
    if len(shape) != 1:
        raise ShapeError(f"Shape must be rank 1 but is rank {len(shape)}")
    sizes.require_equal(x, shape[0], length, told(message.format(length="{}"), shape[0]))
    return sizes.vector(x, node, position, operand, length)


@define_node
class ConcatV2(NodeDef):
    """Tensors one after the other along an axis."""

    inputs = ("*values", "axis")
    attrs: ClassVar[dict[str, Any]] = {"N": REQUIRED}

    def extract(self, x: Any, node: Any, *operands: Any) -> Any:
        """Sizes off the axis must agree."""
        *values, axis_operand = operands
        shapes = [x.shape(value) for value in values]
        rank = len(shapes[0])
        if rank == 0:
            raise ShapeError("Can't concatenate scalars (use tf.stack instead)")
        axis = sizes.static_scalar(x, axis_operand)
        if axis is None:
            return sizes.undetermined(x, values[0].type.dtype, rank)
        needed = axis + 1 if axis >= 0 else -axis
        axis = sizes.normal_axis(
            axis, rank, f"Shape must be at least rank {needed} but is rank {rank}"
        )
        joined = list(shapes[0])
        for i, shape in enumerate(shapes[1:], 1):
            joined = _joined(x, joined, shape, axis, i)
        values = [
            sizes.in_shape(x, value, (*joined[:axis], shape[axis], *joined[axis + 1 :]))
            for value, shape in zip(values, shapes, strict=True)
        ]
        return values[0] if len(values) == 1 else x.emit("concat", *values, axis=axis)

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Each tensor gets its piece."""
        *values, axis = op.inputs
        return [*pieces(tf, grad, values, axis), None]


def _joined(
    x: Any, first: Sequence[Dim], shape: Sequence[Dim], axis: int, number: int
) -> list[Dim]:
    """The sizes that two joined tensors have in common; the one of ``axis`` does not count.

    Raises: ShapeError in TensorFlow's words, which differ between building and running.
    """
    building = sizes.building(x)
    both = f"shape[0] = {sizes.bracketed(first)} vs. shape[{number}] = {sizes.bracketed(shape)}"
    if len(shape) != len(first):
        ranks = f"Shape must be rank {len(first)} but is rank {len(shape)}"
        raise ShapeError(
            ranks if building else f"ConcatOp : Ranks of all input tensors should match: {both}"
        )
    if building:
        ends = ((*side[:axis], *side[axis + 1 :]) for side in (first, shape))
        kept = sizes.same_shape(x, next(ends), next(ends), "")
        return [*kept[:axis], first[axis], *kept[axis:]]
    merged = []
    for i, (a, b) in enumerate(zip(first, shape, strict=True)):
        start = f"ConcatOp : Dimension {i} in both shapes must be equal: shape[0] = "
        message = told(f"{start}{{}} vs. shape[{number}] = {{}}", first, shape)
        if i != axis and isinstance(a - b, int) and a != b:
            raise ShapeError(message)
        merged.append(a if i == axis else x.unify(a, b, message))
    return merged


def pieces(tf: Any, whole: Any, values: Sequence[Any], axis: Any) -> list[Any]:
    """``whole``, of the shape of ``values`` joined along the tensor ``axis``, cut up again."""
    if len(values) == 1:
        return [whole]
    lengths = tf.stack([tf.shape(value)[tf.constant_value(axis).item()] for value in values])
    return tf.split(whole, lengths, axis, num=len(values))  # type: ignore[no-any-return]


@define_node
class Pack(NodeDef):
    """Tensors of one shape along a new axis."""

    inputs = ("*values",)
    attrs: ClassVar[dict[str, Any]] = {"axis": 0, "N": None}

    def extract(self, x: Any, node: Any, *values: Any) -> Any:
        """All shapes must agree."""
        shape = x.shape(values[0])
        for value in values[1:]:
            context = "\n\tFrom merging shape 0 with other shapes."
            shape = sizes.same_shape(x, shape, x.shape(value), context)
        values = tuple(sizes.in_shape(x, value, shape) for value in values)
        rank = len(shape)
        text = f"axis = {{axis}} not in [{-rank - 1}, {rank + 1})"
        axis = sizes.normal_axis(node.attrs["axis"], rank + 1, text)
        return x.emit("stack", *values, axis=axis)

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Each tensor gets its row."""
        return list(tf.unstack(grad, num=len(op.inputs), axis=op.attrs["axis"]))


@define_node
class Unpack(NodeDef):
    """The pieces of a tensor along an axis, which they lose."""

    inputs = ("value",)
    attrs: ClassVar[dict[str, Any]] = {"num": REQUIRED, "axis": 0}

    def output_count(self, node: Any) -> int:
        """The attribute ``num``."""
        return int(node.attrs["num"])

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """Slices, reshaped."""
        shape, num = x.shape(value), node.attrs["num"]
        rank = len(shape)
        axis = sizes.normal_axis(
            node.attrs["axis"], rank, f"axis = {{axis}} not in [{-rank}, {rank})"
        )
        message = f"Input shape axis {axis} must equal {num}, got shape {sizes.bracketed(shape)}"
        sizes.require_equal(x, shape[axis], num, message)
        kept = (*shape[:axis], *shape[axis + 1 :])
        return tuple(x.emit("reshape", cut(x, value, axis, i, 1), shape=kept) for i in range(num))

    def gradient(self, tf: Any, op: Any, *grads: Any) -> list[Any]:
        """The stack of all."""
        return [tf.stack(present(tf, op, grads), axis=op.attrs["axis"])]


def present(tf: Any, op: Any, grads: Sequence[Any]) -> list[Any]:
    """The gradients of all outputs; zeros for those that nobody uses."""
    return [
        tf.zeros_like(output) if grad is None else grad
        for output, grad in zip(op.outputs, grads, strict=True)
    ]


@define_node
class Split(NodeDef):
    """A tensor cut into equal pieces along an axis."""

    inputs = ("split_dim", "value")
    attrs: ClassVar[dict[str, Any]] = {"num_split": REQUIRED}

    def output_count(self, node: Any) -> int:
        """The attribute ``num_split``."""
        return int(node.attrs["num_split"])

    def extract(self, x: Any, node: Any, split_dim: Any, value: Any) -> Any:
        """The size must divide."""
        shape, num = x.shape(value), node.attrs["num_split"]
        axis = sizes.static_scalar(x, split_dim)
        if axis is None:
            return tuple(sizes.undetermined(x, value.type.dtype, len(shape)) for _ in range(num))
        axis = _split_axis(axis, len(shape))
        part = dims.floor_div(shape[axis], num)
        wrong = "Number of ways to split should evenly divide the split dimension"
        if sizes.building(x):
            wrong = (
                f"Dimension size must be evenly divisible by {num} but is {shape[axis]}\n\t{wrong}"
            )
        else:
            text = f"{wrong}, but got split_dim {axis} (size = {{}}) and num_split {num}"
            wrong = told(text, shape[axis])
        sizes.require_equal(x, part * num, shape[axis], wrong)
        return tuple(cut(x, value, axis, part * i, part) for i in range(num))

    def gradient(self, tf: Any, op: Any, *grads: Any) -> list[Any]:
        """All pieces joined."""
        return [None, tf.concat(present(tf, op, grads), op.inputs[0])]


def _split_axis(axis: int, rank: int) -> int:
    return sizes.normal_axis(
        axis, rank, "-input rank(-{rank}) <= split_dim < input rank ({rank}), but got {axis}"
    )


@define_node
class SplitV(NodeDef):
    """A tensor cut into pieces of given sizes along an axis; one may be -1, the rest."""

    inputs = ("value", "size_splits", "split_dim")
    attrs: ClassVar[dict[str, Any]] = {"num_split": REQUIRED}

    def output_count(self, node: Any) -> int:
        """The attribute ``num_split``."""
        return int(node.attrs["num_split"])

    def extract(self, x: Any, node: Any, value: Any, size_splits: Any, split_dim: Any) -> Any:
        """The sizes must add up."""
        shape, num = x.shape(value), node.attrs["num_split"]
        axis = sizes.static_scalar(x, split_dim)
        if axis is None:
            return tuple(sizes.undetermined(x, value.type.dtype, len(shape)) for _ in range(num))
        axis = _split_axis(axis, len(shape))
        wrong = f"size_splits must have {num} elements, not {{length}}"
        lengths = _resolved_rest(x, vector(x, node, 1, size_splits, num, wrong), shape[axis])
        starts = [dims.product(()) * 0]
        for length in lengths[:-1]:
            starts.append(starts[-1] + length)
        return tuple(
            cut(x, value, axis, start, length)
            for start, length in zip(starts, lengths, strict=True)
        )

    def gradient(self, tf: Any, op: Any, *grads: Any) -> list[Any]:
        """All pieces joined."""
        return [tf.concat(present(tf, op, grads), op.inputs[2]), None, None]


def _resolved_rest(x: Any, lengths: Sequence[Dim], size: Dim) -> list[Dim]:
    """The lengths with -1 replaced by what is left of ``size``, checked to add up to it."""
    given = [length for length in lengths if length != -1]
    total: Dim = sum(given, 0)
    message = (
        "Determined shape must either match input shape along split_dim exactly if fully "
        "specified, or be less than the size of the input along split_dim if not fully specified.  "
        f"Got: {total}"
    )
    if sizes.building(x):
        message = f"can't split axis of size {size} into pieces of size {sizes.bracketed(lengths)}"
    if len(given) == len(lengths):
        sizes.require_equal(x, total, size, message)
        return list(lengths)
    if len(given) < len(lengths) - 1:
        raise ShapeError("There can only be one -1 in the input.")
    sizes.require_at_most(x, total, size, message)
    return [size - total if length == -1 else length for length in lengths]


@define_node
class Tile(NodeDef):
    """A tensor repeated along its axes."""

    inputs = ("input", "multiples")

    def extract(self, x: Any, node: Any, value: Any, multiples: Any) -> Any:
        """One number for each axis."""
        rank = len(x.shape(value))
        wrong = (
            f"Expected multiples argument to be a vector of length {rank} but got length {{length}}"
        )
        counts = vector(x, node, 1, multiples, rank, wrong)
        for axis, count in enumerate(counts):
            if isinstance(count, int) and count < 0:
                raise ShapeError(f"Expected multiples[{axis}] >= 0, but got {count}")
        return x.emit("tile", value, multiples=counts)

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """The sum over the repetitions."""
        value, multiples = op.inputs
        shape = tf.shape(value, out_type=multiples.dtype)
        single = tf.reshape(tf.stack([multiples, shape], axis=1), [-1])
        repetitions = tf.range(0, 2 * tf.size(multiples), 2)
        return [tf.reduce_sum(tf.reshape(grad, single), repetitions), None]


def _paddings(x: Any, value: Any, paddings: Any) -> tuple[tuple[Dim, ...], tuple[Dim, ...]]:
    """How much is added before and behind each axis."""
    rank = len(x.shape(value))
    shape = x.shape(paddings)
    if len(shape) != 2 or (isinstance(shape[0], int) and shape[0] != rank):
        rows = shape[0] if shape else 0
        raise ShapeError(f"Shape must be rank {rows} but is rank {rank}")
    for have, wanted in zip(shape, (rank, 2), strict=True):
        text = "paddings must be a matrix with 2 columns and a row for each axis: {} with inputs {}"
        sizes.require_equal(x, have, wanted, told(text, shape, x.shape(value)))
    flat = x.sizes(x.emit("reshape", paddings, shape=(2 * rank,)))
    low, high = tuple(flat[::2]), tuple(flat[1::2])
    for before, after in zip(low, high, strict=True):
        if any(isinstance(n, int) and n < 0 for n in (before, after)):
            raise ShapeError(f"Paddings must be non-negative: {before} {after}")
    return low, high


def _unpadded(tf: Any, op: Any, grad: Any) -> Any:
    """The part of ``grad`` where the tensor was."""
    value, paddings = op.inputs[:2]
    begin = tf.reshape(tf.slice(paddings, [0, 0], tf.stack([tf.rank(value), 1])), [-1])
    return tf.slice(grad, begin, tf.shape(value, out_type=paddings.dtype))


@define_node
class Pad(NodeDef):
    """A tensor with zeros around it."""

    inputs = ("input", "paddings")

    def extract(self, x: Any, node: Any, value: Any, paddings: Any) -> Any:
        """A row of two numbers for each axis."""
        low, high = _paddings(x, value, paddings)
        return x.emit("pad", value, x.const(0, value.type.dtype), low=low, high=high)

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """The middle."""
        return [_unpadded(tf, op, grad), None]


@define_node
class PadV2(NodeDef):
    """A tensor with copies of one value around it."""

    inputs = ("input", "paddings", "constant_values")

    def extract(self, x: Any, node: Any, value: Any, paddings: Any, filler: Any) -> Any:
        """A row of two numbers for each axis."""
        low, high = _paddings(x, value, paddings)
        return x.emit("pad", value, filler, low=low, high=high)

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """The middle; none for the value, as in TensorFlow."""
        return [_unpadded(tf, op, grad), None, None]


class Mirrored(NodeDef):
    """Base of ``MirrorPad`` and ``MirrorPadGrad``: ``mode`` is REFLECT or SYMMETRIC."""

    inputs = ("input", "paddings")
    attrs: ClassVar[dict[str, Any]] = {"mode": REQUIRED}


@define_node
class MirrorPad(Mirrored):
    """A tensor with its own mirror images around it."""

    def extract(self, x: Any, node: Any, value: Any, paddings: Any) -> Any:
        """The images must not be longer than what they mirror."""
        low, high = _paddings(x, value, paddings)
        edge = _edge(node)
        for size, before, after in zip(x.shape(value), low, high, strict=True):
            relation = "less than" if edge else "no greater than"
            failed = f"not less than {size}" if edge else f"greater than {size}"
            message = f"paddings must be {relation} the dimension size: {before}, {after} {failed}"
            for amount in {before, after} - {0}:
                sizes.require_at_most(x, amount, size - edge, message)
        return x.emit("mirror_pad", value, low=low, high=high, mode=node.attrs["mode"].lower())

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """The images fold back."""
        return [tf.mirror_pad_grad(grad, op.inputs[1], op.attrs["mode"]), None]


def _edge(node: Any) -> int:
    return int(node.attrs["mode"] == "REFLECT")


@define_node
class MirrorPadGrad(Mirrored):
    """The adjoint of ``MirrorPad``: what was mirrored is added to where it came from."""

    def extract(self, x: Any, node: Any, value: Any, paddings: Any) -> Any:
        """Axis by axis: the middle, plus both ends turned round."""
        low, high = _paddings(x, value, paddings)
        edge = _edge(node)
        for axis, (before, after) in enumerate(zip(low, high, strict=True)):
            size = x.shape(value)[axis] - before - after
            most = before + edge if before != 0 else after + edge
            sizes.require_at_most(x, most, size, "pads are larger than what they mirror")
            middle = cut(x, value, axis, before, size)
            if before != 0:
                image = cut(x, value, axis, 0, before)
                middle = _folded(x, middle, image, axis, edge, size - before - edge)
            if after != 0:
                image = cut(x, value, axis, before + size, after)
                middle = _folded(x, middle, image, axis, size - after - edge, edge)
            value = middle
        return value

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Mirrored again."""
        return [tf.pad(grad, op.inputs[1], op.attrs["mode"]), None]


def _folded(x: Any, middle: Any, image: Any, axis: int, before: Dim, after: Dim) -> Any:
    turned = x.emit("reverse", image, axes=(axis,))
    rank = len(x.shape(middle))
    low = tuple(before if i == axis else 0 for i in range(rank))
    high = tuple(after if i == axis else 0 for i in range(rank))
    spread = x.emit("pad", turned, x.const(0, image.type.dtype), low=low, high=high)
    return x.emit("add", middle, spread)


@define_node
class ReverseV2(NodeDef):
    """A tensor with the order along some axes turned round."""

    inputs = ("tensor", "axis")

    def extract(self, x: Any, node: Any, value: Any, axis: Any) -> Any:
        """The axes must be known when a step is compiled."""
        rank = len(x.shape(value))
        given = sizes.static_list(x, axis)
        if len(x.shape(axis)) != 1:
            raise ShapeError(f"Shape must be rank 1 but is rank {len(x.shape(axis))}")
        if given is None:
            return sizes.undetermined(x, value.type.dtype, rank)
        text = "'axis'[{axis}] is out of valid range [0, {rank}"
        axes = [sizes.normal_axis(a, rank, text) for a in given]
        if len(set(axes)) < len(axes):
            raise ShapeError(
                f"axis {next(a for a in axes if axes.count(a) > 1)} specified more than once."
            )
        return x.emit("reverse", value, axes=tuple(axes)) if axes else value

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Turned round again."""
        return [tf.reverse_v2(grad, op.inputs[1]), None]
