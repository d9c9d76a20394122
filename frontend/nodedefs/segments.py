"""Node types that combine the rows of a tensor by segment number, sorted or not."""

from __future__ import annotations

from typing import Any, ClassVar

from stepforge.frontend.nodedefs import sizes
from stepforge.frontend.nodedefs.base import NodeDef, define_node
from stepforge.frontend.nodedefs.joining import cut
from stepforge.ir.errors import ShapeError


class Segment(NodeDef):
    """Base of the nodes with sorted segment numbers; the last one tells how many there are."""

    inputs = ("data", "segment_ids")
    kind: ClassVar[str]

    def extract(self, x: Any, node: Any, data: Any, ids: Any) -> Any:
        """Segments without a row are 0 (1 for products)."""
        shape = x.shape(data)
        if len(x.shape(ids)) != 1 or not shape:
            raise ShapeError("segment_ids should be a vector and data have rank 1 or more")
        (count,) = x.shape(ids)
        if isinstance(count - shape[0], int) and count != shape[0]:
            raise ShapeError("segment_ids should be the same size as dimension 0 of input.")
        x.unify(count, shape[0], "segment_ids should be the same size as dimension 0 of input.")
        _require_sorted(x, ids, count)
        dtype = ids.type.dtype
        above = x.emit("add", x.emit("reduce_max", ids, axes=(0,)), x.const(1, dtype))
        (number,) = x.sizes(x.emit("maximum", above, x.const(0, dtype)))
        result = x.emit("segment_sum", data, ids, num=number, kind=self.kind)
        return _zero_where_empty(x, result, ids, number) if self.kind in ("max", "min") else result


def _require_sorted(x: Any, ids: Any, count: Any) -> None:
    rest = sizes.at_least_0(count - 1)
    later, earlier = cut(x, ids, 0, 1, rest), cut(x, ids, 0, 0, rest)
    if count == 0:
        return
    ascending = x.emit("reduce_all", x.emit("greater_equal", later, earlier), axes=(0,))
    x.emit("require", ascending, message="segment ids are not increasing")


def _zero_where_empty(x: Any, result: Any, ids: Any, number: Any) -> Any:
    ones = x.emit("fill", x.const(1, "i32"), shape=x.shape(ids))
    counts = x.emit("segment_sum", ones, ids, num=number, kind="sum")
    rank = len(x.shape(result))
    column = x.emit("reshape", counts, shape=(number, *(1,) * (rank - 1)))
    empty = x.emit("equal", column, x.const(0, "i32"))
    return x.emit("select", empty, x.const(0, result.type.dtype), result)


@define_node
class SegmentSum(Segment):
    """The sum of each segment."""

    kind = "sum"

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Each row gets its segment's."""
        return [tf.gather(grad, op.inputs[1]), None]


@define_node
class SegmentMean(Segment):
    """The mean of each segment."""

    kind = "mean"

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Each row gets its share of its segment's."""
        data, ids = op.inputs
        ones = tf.ones(tf.concat([tf.shape(ids), tf.fill([tf.rank(data) - 1], 1)], 0), grad.dtype)
        return [tf.gather(grad / tf.segment_sum(ones, ids), ids), None]


@define_node
class SegmentProd(Segment):
    """The product of each segment."""

    kind = "prod"

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """The product of the segment's other rows; zeros are fine."""
        ids = op.inputs[1]

        def of_segment(function: Any, rows: Any) -> Any:
            return function(rows, ids)

        return [_product_gradient(tf, op, grad, of_segment, tf.segment_sum, tf.segment_prod), None]


class SegmentExtremum(Segment):
    """Base of ``SegmentMax`` and ``SegmentMin``."""

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Rows that tie share equally."""
        data, ids = op.inputs
        chosen = tf.equal(data, tf.gather(op.outputs[0], ids))
        count = tf.segment_sum(tf.cast(chosen, grad.dtype), ids)
        share = tf.gather(grad / count, ids)
        return [tf.where(chosen, share, tf.zeros_like(share)), None]


@define_node
class SegmentMax(SegmentExtremum):
    """The maximum of each segment."""

    kind = "max"


@define_node
class SegmentMin(SegmentExtremum):
    """The minimum of each segment."""

    kind = "min"


class UnsortedSegment(NodeDef):
    """Base of the nodes that are told how many segments there are; negative numbers count not."""

    inputs = ("data", "segment_ids", "num_segments")
    kind: ClassVar[str]

    def extract(self, x: Any, node: Any, data: Any, ids: Any, num_segments: Any) -> Any:
        """The numbers may have several axes, the first ones of the data."""
        shape, prefix = x.shape(data), x.shape(ids)
        message = f"data.shape = {sizes.bracketed(shape)} does not start with segment_ids.shape = "
        message += sizes.bracketed(prefix)
        if len(prefix) > len(shape):
            raise ShapeError(message)
        for a, b in zip(shape, prefix, strict=False):
            if isinstance(a - b, int) and a != b:
                raise ShapeError(message)
            x.unify(a, b, message)
        number = sizes.scalar(x, num_segments, "num_segments should be a scalar, not shape {}")
        if isinstance(number, int) and number < 0:
            raise ShapeError(f"num_segments should be non-negative, got {number}")
        zero = x.const(0, ids.type.dtype)
        x.emit("check_bounds", x.emit("maximum", ids, zero), limit=number, message="segment_ids")
        return x.emit("segment_sum", data, ids, num=number, kind=self.kind)


def gathered_or_zero(tf: Any, rows: Any, ids: Any) -> Any:
    """For each segment number its row, zeros for negative ones."""
    found = tf.gather(rows, tf.maximum(ids, tf.zeros_like(ids)))
    kept = tf.greater_equal(ids, 0)
    missing = tf.rank(found) - tf.rank(kept)
    shape = tf.concat([tf.shape(kept), tf.fill([missing], 1)], 0)
    return tf.where_v2(tf.reshape(kept, shape), found, tf.zeros_like(found))


def _product_gradient(
    tf: Any, op: Any, grad: Any, of_segment: Any, segment_sum: Any, segment_prod: Any
) -> Any:
    """The gradient of a product by segment: ``product / row``; of a zero that of the other rows."""
    data, ids = op.inputs[:2]
    zero = tf.equal(data, 0)
    zeros = of_segment(segment_sum, tf.cast(zero, tf.int32))
    grad = tf.where_v2(tf.greater(zeros, 1), tf.zeros_like(grad), grad)
    others = of_segment(segment_prod, tf.where_v2(zero, tf.ones_like(data), data))
    inside = tf.maximum(ids, tf.zeros_like(ids))
    quotient = tf.gather(op.outputs[0], inside) / data
    slope = tf.where_v2(zero, tf.gather(others, inside), quotient)
    return gathered_or_zero(tf, grad, ids) * slope


@define_node
class UnsortedSegmentSum(UnsortedSegment):
    """The sum of each segment."""

    kind = "sum"

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Each row gets its segment's."""
        return [gathered_or_zero(tf, grad, op.inputs[1]), None, None]


@define_node
class UnsortedSegmentProd(UnsortedSegment):
    """The product of each segment; 1 for an empty one."""

    kind = "prod"

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """The product of the segment's other rows; zeros are fine."""
        _, ids, number = op.inputs

        def of_segment(function: Any, rows: Any) -> Any:
            return function(rows, ids, number)

        rules = tf.unsorted_segment_sum, tf.unsorted_segment_prod
        return [_product_gradient(tf, op, grad, of_segment, *rules), None, None]


class UnsortedSegmentExtremum(UnsortedSegment):
    """Base of ``UnsortedSegmentMax`` and ``UnsortedSegmentMin``."""

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Rows that tie share equally."""
        data, ids, number = op.inputs
        chosen = tf.equal(data, gathered_or_zero(tf, op.outputs[0], ids))
        count = tf.unsorted_segment_sum(tf.cast(chosen, grad.dtype), ids, number)
        share = gathered_or_zero(tf, grad / count, ids)
        return [tf.where_v2(chosen, share, tf.zeros_like(share)), None, None]


@define_node
class UnsortedSegmentMax(UnsortedSegmentExtremum):
    """The maximum of each segment; the smallest number for an empty one."""

    kind = "max"


@define_node
class UnsortedSegmentMin(UnsortedSegmentExtremum):
    """The minimum of each segment; the largest number for an empty one."""

    kind = "min"
