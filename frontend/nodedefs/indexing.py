"""Node types that read and write elements by index: gathers, scatters, one-hot codes, partitions.

What can fail is a check of its own, emitted before: that indices are in range. The IR's gathers
and scatters cannot fail then. A gather from axis 0 has a sparse gradient (``IndexedSlices``),
which is what makes training an embedding of a million rows cost only the rows that were looked up.
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


def checked(x: Any, indices: Any, limit: Dim, message: str = "indices") -> Any:
    """``indices`` as i32 or i64, which the step checks to be in [0, limit)."""
    if indices.type.dtype not in ("i32", "i64"):
        indices = x.emit("cast", indices, dtype="i32")
    known = x.static(indices)
    inside = known is not None and isinstance(limit, int) and ((known >= 0) & (known < limit)).all()
    if not inside:
        x.emit("check_bounds", indices, limit=limit, message=message)
    return indices


# ---- gathering whole slices ----------------------------------------------------------------------
class GatherNode(NodeDef):
    """Base of the gathers along one axis."""

    def gathered(
        self, x: Any, node: Any, params: Any, indices: Any, axis: int | None, batch_dims: int
    ) -> Any:
        """The slices of ``params``, where the axis is known."""
        outer, inner = x.shape(params), x.shape(indices)
        if not outer:
            built = "Shape must be at least rank 1 but is rank 0"
            raise ShapeError(
                built if sizes.building(x) else "params must be at least 1 dimensional"
            )
        batch_dims = batch_count(batch_dims, len(inner))
        if axis is None:
            return sizes.undetermined(
                x, params.type.dtype, len(outer) + len(inner) - 1 - batch_dims
            )
        needed = axis + 1 if axis >= 0 else -axis
        text = f"Shape must be at least rank {needed} but is rank {{rank}}"
        axis = sizes.normal_axis(axis, len(outer), text)
        if axis < batch_dims:
            raise ShapeError(
                f"batch_dims ({batch_dims}) must be less than or equal to axis ({axis})"
            )
        for i, (a, b) in enumerate(zip(outer[:batch_dims], inner[:batch_dims], strict=True)):
            text = "params.shape[{}]: {} should be equal to indices.shape[{}]: {}"
            x.unify(a, b, told(text, i, a, i, b))
        indices = checked(x, indices, outer[axis])
        return x.emit("gather", params, indices, axis=axis, batch_dims=batch_dims)


def batch_count(batch_dims: int, rank: int) -> int:
    """``batch_dims`` of indices of ``rank``, counted from the front. Raises: ShapeError."""
    if not -rank <= batch_dims <= rank:
        raise ShapeError(
            f"Expected batch_dims in the range [{-rank}, {rank}], but got {batch_dims}"
        )
    return batch_dims + rank if batch_dims < 0 else batch_dims


@define_node
class GatherV2(GatherNode):
    """Slices of ``params`` along an axis; the first ``batch_dims`` axes go together."""

    inputs = ("params", "indices", "axis")
    attrs: ClassVar[dict[str, Any]] = {"batch_dims": 0}

    def extract(self, x: Any, node: Any, params: Any, indices: Any, axis: Any) -> Any:
        """A check of the indices, and a gather."""
        place = sizes.static_scalar(x, axis)
        return self.gathered(x, node, params, indices, place, node.attrs["batch_dims"])

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Sparse for axis 0, else scattered into zeros."""
        params, indices, axis = op.inputs
        place = tf.constant_value(axis)
        if place is None:
            raise NotImplementedError(f"gradient of {op.name}: the axis must be known")
        if place == 0:
            return [sparse_rows(tf, params, indices, grad), None, None]
        batch_dims = op.attrs["batch_dims"]
        return [tf.gather_grad(grad, indices, params, int(place), batch_dims), None, None]


@define_node
class Gather(GatherNode):
    """Slices of ``params`` along axis 0."""

    inputs = ("params", "indices")
    attrs: ClassVar[dict[str, Any]] = {"validate_indices": True}

    def extract(self, x: Any, node: Any, params: Any, indices: Any) -> Any:
        """A check of the indices, and a gather."""
        return self.gathered(x, node, params, indices, 0, 0)

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Sparse rows."""
        return [sparse_rows(tf, op.inputs[0], op.inputs[1], grad), None]


def sparse_rows(tf: Any, params: Any, indices: Any, grad: Any) -> Any:
    """The gradient of a gather from axis 0 as ``IndexedSlices`` of flat indices."""
    shape = tf.shape(params)
    count = tf.expand_dims(tf.size(indices), 0)
    values = tf.reshape(grad, tf.concat([count, shape[1:]], 0))
    return tf.IndexedSlices(values, tf.reshape(indices, count), shape)


@define_node
class GatherGrad(NodeDef):
    """The adjoint of ``GatherV2``: ``dy`` added up at the indices, in the shape of ``params``."""

    inputs = ("dy", "indices", "params")
    attrs: ClassVar[dict[str, Any]] = {"axis": REQUIRED, "batch_dims": 0}

    def extract(self, x: Any, node: Any, dy: Any, indices: Any, params: Any) -> Any:
        """Rows of a matrix, numbered by batch and index, scattered and moved back in place."""
        outer, inner = x.shape(params), x.shape(indices)
        axis = sizes.normal_axis(node.attrs["axis"], len(outer), "axis {axis}")
        batch = batch_count(node.attrs["batch_dims"], len(inner))
        between, count = axis - batch, len(inner) - batch
        moved = [*range(batch), *range(axis, axis + count), *range(batch, axis)]
        moved += range(axis + count, len(x.shape(dy)))
        extent, kept = outer[axis], (*outer[batch:axis], *outer[axis + 1 :])
        rows = dims.product(inner)
        updates = x.emit("transpose", dy, perm=tuple(moved))
        updates = x.emit("reshape", updates, shape=(rows, *kept))
        places = x.emit("reshape", _rows(x, indices, batch, extent), shape=(rows, 1))
        height = dims.product(outer[:batch]) * extent
        total = x.emit("scatter_nd", places, updates, shape=(height, *kept))
        total = x.emit("reshape", total, shape=(*outer[:batch], extent, *kept))
        back = [*range(batch), *range(batch + 1, batch + 1 + between), batch]
        back += range(batch + 1 + between, len(outer))
        return x.emit("transpose", total, perm=tuple(back))

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """The gather."""
        indices, axis, batch = op.inputs[1], op.attrs["axis"], op.attrs["batch_dims"]
        return [tf.gather(grad, indices, axis=axis, batch_dims=batch), None, None]


def _rows(x: Any, indices: Any, batch: int, extent: Dim) -> Any:
    """Indices within each batch as row numbers of all batches together."""
    wide = x.emit("cast", indices, dtype="i64")
    shape = x.shape(indices)
    step: Dim = extent
    for axis in reversed(range(batch)):
        numbers = x.emit(
            "iota", shape=(shape[axis], *(1,) * (len(shape) - 1 - axis)), axis=0, dtype="i64"
        )
        wide = x.emit("add", wide, x.emit("mul", numbers, x.dimensions(step, "i64")))
        step = step * shape[axis]
    return wide


# ---- index vectors -------------------------------------------------------------------------------
def index_depth(x: Any, indices: Any) -> int | None:
    """The length of each index vector, None where it is not known. Raises: ShapeError."""
    shape = x.shape(indices)
    if not shape:
        raise ShapeError("Shape must be at least rank 1 but is rank 0")
    return x.at_hand(shape[-1])  # type: ignore[no-any-return]


def checked_vectors(
    x: Any, indices: Any, shape: Sequence[Dim], depth: int, into: str = "shape {shape}"
) -> Any:
    """Index vectors into ``shape``, which the step checks; ``into`` names it in the error."""
    if depth > len(shape):
        raise ShapeError(
            "index innermost dimension length must be <= params rank; "
            f"saw: {depth} vs. {len(shape)}"
        )
    if indices.type.dtype not in ("i32", "i64"):
        indices = x.emit("cast", indices, dtype="i32")
    if depth:
        message = f"indices{{place}} = {{value}} does not index into {into}"
        x.emit("check_vectors", indices, shape=tuple(shape), message=message)
    return indices


@define_node
class GatherNd(NodeDef):
    """Slices of ``params`` at the index vectors in the last axis of ``indices``."""

    inputs = ("params", "indices")
    attrs: ClassVar[dict[str, Any]] = {"bad_indices_policy": ""}

    def extract(self, x: Any, node: Any, params: Any, indices: Any) -> Any:
        """Checks of the indices, and a gather."""
        shape, depth = x.shape(params), index_depth(x, indices)
        if depth is None:
            return sizes.undetermined(x, params.type.dtype)
        into = f"param shape {{shape}}, node name: {node.name}"
        indices = checked_vectors(x, indices, shape, depth, into)
        return x.emit("gather_nd", params, indices)

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Sparse for rows of axis 0, else scattered into zeros."""
        params, indices = op.inputs
        shape = tf.shape(params, out_type=indices.dtype)
        if indices.shape.ndims == 2 and indices.shape[-1].value == 1:
            return [tf.IndexedSlices(grad, tf.squeeze(indices, -1), shape), None]
        return [tf.scatter_nd(indices, grad, shape), None]


def checked_updates(x: Any, indices: Any, updates: Any, shape: Sequence[Dim], depth: int) -> Any:
    """The updates, which must have the shape of the slices at ``indices``."""
    slices = (*x.shape(indices)[:-1], *shape[depth:])
    where, given = x.shape(indices), x.shape(updates)
    outer = len(where) - 1
    rows = told(
        f"Dimensions [0,{outer}) of indices[shape={{}}] must match "
        f"dimensions [0,{outer}) of updates[shape={{}}]",
        where,
        given,
    )
    rest = told(
        f"Dimensions [{depth},{len(shape)}) of input[shape={{}}] must match "
        f"dimensions [{outer},{len(given)}) of updates[shape={{}}]",
        shape,
        given,
    )
    if len(given) != len(slices):
        raise ShapeError(rows if len(given) < outer else rest)
    for axis, (a, b) in enumerate(zip(slices, given, strict=True)):
        x.unify(a, b, rows if axis < outer else rest)
    return sizes.in_shape(x, updates, slices)


@define_node
class ScatterNd(NodeDef):
    """Zeros of ``shape`` with ``updates`` added up at index vectors."""

    inputs = ("indices", "updates", "shape")
    attrs: ClassVar[dict[str, Any]] = {"bad_indices_policy": ""}

    def extract(self, x: Any, node: Any, indices: Any, updates: Any, shape: Any) -> Any:
        """Checks of the indices, and a scatter."""
        whole, depth = sizes.vector(x, node, 2, shape), index_depth(x, indices)
        if depth is None:
            return sizes.undetermined(x, updates.type.dtype, len(whole))
        indices = checked_vectors(x, indices, whole, depth)
        updates = checked_updates(x, indices, updates, whole, depth)
        return x.emit("scatter_nd", indices, updates, shape=whole)

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """The gather."""
        return [None, tf.gather_nd(grad, op.inputs[0]), None]


class TensorScatter(NodeDef):
    """Base of the nodes that combine slices of a tensor with ``updates``; ``kind`` says how."""

    inputs = ("tensor", "indices", "updates")
    attrs: ClassVar[dict[str, Any]] = {"bad_indices_policy": ""}
    kind: ClassVar[str]

    def extract(self, x: Any, node: Any, value: Any, indices: Any, updates: Any) -> Any:
        """Checks of the indices, and a scatter."""
        shape, depth = x.shape(value), index_depth(x, indices)
        if depth is None:
            return sizes.undetermined(x, value.type.dtype, len(shape))
        indices = checked_vectors(x, indices, shape, depth)
        updates = checked_updates(x, indices, updates, shape, depth)
        return x.emit("scatter_nd_update", value, indices, updates, kind=self.kind)


@define_node
class TensorScatterUpdate(TensorScatter):
    """A tensor with other slices in some places."""

    kind = "update"

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """The places belong to the updates."""
        _, indices, updates = op.inputs
        kept = tf.tensor_scatter_update(grad, indices, tf.zeros_like(updates))
        return [kept, None, tf.gather_nd(grad, indices)]


@define_node
class TensorScatterAdd(TensorScatter):
    """A tensor with updates added in some places."""

    kind = "add"

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Both get all of it."""
        return [grad, None, tf.gather_nd(grad, op.inputs[1])]


@define_node
class TensorScatterSub(TensorScatter):
    """A tensor with updates subtracted in some places."""

    kind = "sub"

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """The updates get it negated."""
        return [grad, None, -tf.gather_nd(grad, op.inputs[1])]


class TensorScatterExtremum(TensorScatter):
    """Base of ``TensorScatterMax`` and ``TensorScatterMin``."""

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Elements that tie share equally."""
        value, indices, updates = op.inputs
        chosen = tf.cast(tf.equal(value, op.outputs[0]), grad.dtype)
        places = tf.cast(tf.equal(updates, tf.gather_nd(op.outputs[0], indices)), grad.dtype)
        shape = tf.shape(value, out_type=indices.dtype)
        share = grad / (chosen + tf.scatter_nd(indices, places, shape))
        return [share * chosen, None, tf.gather_nd(share, indices) * places]


@define_node
class TensorScatterMax(TensorScatterExtremum):
    """A tensor with the larger of itself and updates in some places."""

    kind = "max"


@define_node
class TensorScatterMin(TensorScatterExtremum):
    """A tensor with the smaller of itself and updates in some places."""

    kind = "min"


# ---- codes, partitions ---------------------------------------------------------------------------
@define_node
class OneHot(NodeDef):
    """``on_value`` at the place that each index gives along a new axis, else ``off_value``."""

    inputs = ("indices", "depth", "on_value", "off_value")
    attrs: ClassVar[dict[str, Any]] = {"axis": -1}
    no_gradient = True

    def extract(self, x: Any, node: Any, indices: Any, depth: Any, on: Any, off: Any) -> Any:
        """The depth may be a size of another tensor."""
        rank = len(x.shape(indices))
        count = sizes.scalar(x, depth, "depth must be a scalar, but got: {}")
        if isinstance(count, int) and count < 0:
            raise ShapeError(f"depth must be non-negative, got: {count}")
        text = f"Expected axis to be -1 or between [0, {rank + 1}).  But received: {{axis}}"
        axis = sizes.normal_axis(node.attrs["axis"], rank + 1, text)
        return x.emit("one_hot", indices, on, off, depth=count, axis=axis)


@define_node
class DynamicPartition(NodeDef):
    """The slices of a tensor sorted into as many tensors as there are partition numbers."""

    inputs = ("data", "partitions")
    attrs: ClassVar[dict[str, Any]] = {"num_partitions": REQUIRED}

    def output_count(self, node: Any) -> int:
        """The attribute ``num_partitions``."""
        return int(node.attrs["num_partitions"])

    def extract(self, x: Any, node: Any, data: Any, partitions: Any) -> Any:
        """For each number the places where it stands, and a gather."""
        shape, prefix = x.shape(data), x.shape(partitions)
        sizes.same_shape(x, shape[: len(prefix)], prefix, "")
        number = node.attrs["num_partitions"]
        partitions = checked(x, partitions, number, "partitions")
        count = dims.product(prefix)
        rows = x.emit("reshape", data, shape=(count, *shape[len(prefix) :]))
        keys = x.emit("reshape", partitions, shape=(count,))
        return tuple(self._part(x, rows, keys, i) for i in range(number))

    def _part(self, x: Any, rows: Any, keys: Any, number: int) -> Any:
        here = x.emit("equal", keys, x.const(number, keys.type.dtype))
        places = x.emit("where", here, binds=x.fresh("m"))
        flat = x.emit("reshape", places, shape=x.shape(places)[:1])
        return x.emit("gather", rows, flat, axis=0, batch_dims=0)

    def gradient(self, tf: Any, op: Any, *grads: Any) -> list[Any]:
        """Each slice gets its own back."""
        data, partitions = op.inputs
        prefix = tf.shape(partitions)
        numbers = tf.reshape(tf.range(tf.size(partitions)), prefix)
        places = tf.dynamic_partition(numbers, partitions, len(grads))
        filled = [
            tf.zeros_like(output) if grad is None else grad
            for output, grad in zip(op.outputs, grads, strict=True)
        ]
        joined = tf.dynamic_stitch(places, filled)
        return [tf.reshape(joined, tf.shape(data)), None]


class Stitch(NodeDef):
    """Base of ``DynamicStitch`` and ``ParallelDynamicStitch``."""

    inputs = ("*indices", "*data")
    attrs: ClassVar[dict[str, Any]] = {"N": REQUIRED}

    def extract(self, x: Any, node: Any, *operands: Any) -> Any:
        """Of equal indices the later slice wins; places without a slice are zeros."""
        count = node.attrs["N"]
        indices, data = operands[:count], operands[count:]
        flat, rows = [], []
        tail = x.shape(data[0])[len(x.shape(indices[0])) :]
        for places, values in zip(indices, data, strict=True):
            prefix = x.shape(places)
            sizes.same_shape(x, (*prefix, *tail), x.shape(values), "")
            number = dims.product(prefix)
            flat.append(x.emit("reshape", places, shape=(number,)))
            rows.append(x.emit("reshape", values, shape=(number, *tail)))
        keys = flat[0] if count == 1 else x.emit("concat", *flat, axis=0)
        updates = rows[0] if count == 1 else x.emit("concat", *rows, axis=0)
        height = _height(x, keys)
        keys = checked(x, keys, height)
        zeros = x.emit("fill", x.const(0, updates.type.dtype), shape=(height, *tail))
        return x.emit("scatter_update", zeros, keys, updates, kind="update")

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Each slice gets what lies at its place."""
        count = op.attrs["N"]
        return [None] * count + [tf.gather(grad, places) for places in op.inputs[:count]]


def _height(x: Any, keys: Any) -> Dim:
    """One more than the largest index; 0 where there is none."""
    known = x.static(keys)
    if known is not None:
        return int(known.max()) + 1 if known.size else 0
    largest = x.emit("reduce_max", keys, axes=(0,))
    dtype = keys.type.dtype
    above = x.emit("add", largest, x.const(1, dtype))
    return x.sizes(x.emit("maximum", above, x.const(0, dtype)))[0]  # type: ignore[no-any-return]


@define_node
class DynamicStitch(Stitch):
    """Slices of several tensors put at given places of one."""


@define_node
class ParallelDynamicStitch(Stitch):
    """As ``DynamicStitch``."""
