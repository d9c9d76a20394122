"""Node types that choose elements by condition or value: ``Where``, ``Select``, ``Unique`` ..."""

from __future__ import annotations

from typing import Any, ClassVar

from stepforge.frontend.nodedefs import sizes
from stepforge.frontend.nodedefs.base import REQUIRED, NodeDef, define_node
from stepforge.ir.errors import ShapeError


@define_node
class Where(NodeDef):
    """The index vectors of the elements that are not 0 or false."""

    inputs = ("input",)
    no_gradient = True

    def extract(self, x: Any, node: Any, condition: Any) -> Any:
        """Their number gets a fresh name."""
        if condition.type.dtype != "bool":
            nothing = x.const(0, condition.type.dtype)
            condition = x.emit("not_equal", x.ranked(condition), nothing)
        return x.emit("where", x.ranked(condition), binds=x.fresh("m"))


@define_node
class Select(NodeDef):
    """Elements or rows of two tensors of one shape: the condition has that shape too, is a scalar,
    or has one element for each row."""

    inputs = ("condition", "t", "e")

    def extract(self, x: Any, node: Any, condition: Any, then: Any, other: Any) -> Any:
        """No broadcasting but that of a vector over rows."""
        chosen, shape = x.shape(condition), x.shape(then)
        shape = sizes.same_shape(x, shape, x.shape(other), "")
        if len(chosen) == 1 and len(shape) > 1:
            sizes.same_shape(x, chosen, shape[:1], "")
            column = (shape[0], *(1,) * (len(shape) - 1))
            condition = x.emit("reshape", condition, shape=column)
        elif chosen:
            sizes.same_shape(x, shape, chosen, "")
            condition = sizes.in_shape(x, condition, shape)
        then, other = (sizes.in_shape(x, value, shape) for value in (then, other))
        return x.emit("select", condition, then, other)

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Each side gets what was taken of it."""
        zeros = tf.zeros_like(grad)
        condition = op.inputs[0]
        return [None, tf.where(condition, grad, zeros), tf.where(condition, zeros, grad)]


@define_node
class SelectV2(NodeDef):
    """Elements of two tensors by a condition; all three broadcast."""

    inputs = ("condition", "t", "e")

    def extract(self, x: Any, node: Any, condition: Any, then: Any, other: Any) -> Any:
        """The IR's select."""
        return x.emit("select", x.ranked(condition), x.ranked(then), x.ranked(other))

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Each side gets what was taken of it, summed where it was repeated."""
        condition, then, other = op.inputs
        zeros = tf.zeros_like(grad)
        sides = tf.where_v2(condition, grad, zeros), tf.where_v2(condition, zeros, grad)
        return [None, tf.sum_to(sides[0], then), tf.sum_to(sides[1], other)]


class Distinct(NodeDef):
    """Base of the nodes that look for equal elements of a vector."""

    attrs: ClassVar[dict[str, Any]] = {"out_idx": "i32"}
    no_gradient = True

    def vector(self, x: Any, value: Any) -> Any:
        """The operand. Raises: ShapeError where it is no vector."""
        rank = len(x.shape(value))
        if rank != 1:
            raise ShapeError(f"Shape must be rank 1 but is rank {rank}")
        return value


@define_node
class Unique(Distinct):
    """The distinct elements of a vector in order of appearance, and each element's among them."""

    inputs = ("x",)
    outputs = 2

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """Their number gets a fresh name."""
        return x.emit(
            "unique", self.vector(x, value), binds=x.fresh("m"), index_dtype=node.attrs["out_idx"]
        )


@define_node
class UniqueWithCounts(Distinct):
    """As ``Unique``, and how often each one appears."""

    inputs = ("x",)
    outputs = 3

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """Their number gets a fresh name."""
        index_dtype = node.attrs["out_idx"]
        value = self.vector(x, value)
        return x.emit("unique_with_counts", value, binds=x.fresh("m"), index_dtype=index_dtype)


@define_node
class ListDiff(Distinct):
    """The elements of a vector that are not in another, and where they are."""

    inputs = ("x", "y")
    outputs = 2

    def extract(self, x: Any, node: Any, value: Any, without: Any) -> Any:
        """Their number gets a fresh name."""
        pair = self.vector(x, value), self.vector(x, without)
        index_dtype = node.attrs["out_idx"]
        return x.emit("setdiff1d", *pair, binds=x.fresh("m"), index_dtype=index_dtype)


@define_node
class ReverseSequence(NodeDef):
    """Each sequence of a batch turned round, up to its own length."""

    inputs = ("input", "seq_lengths")
    attrs: ClassVar[dict[str, Any]] = {"seq_dim": REQUIRED, "batch_dim": 0}

    def extract(self, x: Any, node: Any, value: Any, lengths: Any) -> Any:
        """A gather of the places in their new order, with batch and time in front."""
        shape = x.shape(value)
        rank = len(shape)
        time, batch = node.attrs["seq_dim"], node.attrs["batch_dim"]
        for name, axis in (("seq_dim", time), ("batch_dim", batch)):
            if not 0 <= axis < rank:
                raise ShapeError(f"{name} must be < input rank ({axis} vs. {rank})")
        if time == batch:
            raise ShapeError(f"seq_dim == batch_dim == {time}")
        if len(x.shape(lengths)) != 1:
            raise ShapeError(f"seq_lengths must be 1-dim, not {len(x.shape(lengths))}")
        message = f"Length of seq_lengths != input.dims({batch})"
        x.unify(shape[batch], x.shape(lengths)[0], message)
        _check_lengths(x, lengths, shape[time], time)
        order = (batch, time, *(a for a in range(rank) if a not in (batch, time)))
        rows = x.emit("transpose", value, perm=order)
        places = _turned(x, lengths, shape[time])
        turned = x.emit("gather", rows, places, axis=1, batch_dims=1)
        return x.emit("transpose", turned, perm=tuple(order.index(a) for a in range(rank)))

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Turned round again."""
        axes = {"seq_axis": op.attrs["seq_dim"], "batch_axis": op.attrs["batch_dim"]}
        return [tf.reverse_sequence(grad, op.inputs[1], **axes), None]


def _check_lengths(x: Any, lengths: Any, limit: Any, axis: int) -> None:
    smallest = x.emit(
        "reduce_all", x.emit("greater_equal", lengths, x.const(0, lengths.type.dtype)), axes=(0,)
    )
    x.emit("require", smallest, message="seq_lens < 0")
    within = x.emit("less_equal", lengths, x.dimensions(limit, lengths.type.dtype))
    largest = x.emit("reduce_all", within, axes=(0,))
    x.emit("require", largest, message=f"seq_lens > input.dims({axis})")


def _turned(x: Any, lengths: Any, time: Any) -> Any:
    """The place that each step of each sequence comes from."""
    (count,) = x.shape(lengths)
    dtype = lengths.type.dtype
    column = x.emit("reshape", lengths, shape=(count, 1))
    steps = x.emit("iota", shape=(1, time), axis=1, dtype=dtype)
    backward = x.emit("sub", x.emit("sub", column, x.const(1, dtype)), steps)
    return x.emit("select", x.emit("less", steps, column), backward, steps)
