"""API functions that combine rows by segment number, and look-ups in tables of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepforge.frontend import comparison_ops, elementwise_ops
from stepforge.frontend.array_calls import INDEX, make
from stepforge.frontend.array_ops import ones, range
from stepforge.frontend.clipping import clip_by_norm
from stepforge.frontend.convert import convert_to_tensor
from stepforge.frontend.core_ops import identity
from stepforge.frontend.dtypes import int32
from stepforge.frontend.indexing_ops import (
    dynamic_partition,
    gather,
    parallel_dynamic_stitch,
    where,
)
from stepforge.frontend.joining_ops import concat
from stepforge.frontend.operation import Tensor
from stepforge.frontend.scopes import colocate_with, name_scope
from stepforge.frontend.shape_ops import reshape, shape, size


def _segment(type_: str, doc: str) -> Any:
    def function(data: Any, segment_ids: Any, name: str | None = None) -> Tensor:
        arguments = (("data", data, None), ("segment_ids", segment_ids, INDEX))
        return make(type_, arguments, None, name).outputs[0]

    function.__name__ = function.__qualname__ = type_
    function.__doc__ = f"{doc} of the rows of each segment; the numbers must be sorted."
    return function


segment_sum = _segment("SegmentSum", "The sum")
segment_mean = _segment("SegmentMean", "The mean")
segment_prod = _segment("SegmentProd", "The product")
segment_max = _segment("SegmentMax", "The maximum")
segment_min = _segment("SegmentMin", "The minimum")


def _unsorted_segment(type_: str, doc: str) -> Any:
    def function(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Tensor:
        arguments = (
            ("data", data, None),
            ("segment_ids", segment_ids, INDEX),
            ("num_segments", num_segments, INDEX),
        )
        return make(type_, arguments, None, name).outputs[0]

    function.__name__ = function.__qualname__ = type_
    function.__doc__ = f"{doc} of the rows of each of ``num_segments`` segments."
    return function


unsorted_segment_sum = _unsorted_segment("UnsortedSegmentSum", "The sum")
unsorted_segment_prod = _unsorted_segment("UnsortedSegmentProd", "The product")
unsorted_segment_max = _unsorted_segment("UnsortedSegmentMax", "The maximum")
unsorted_segment_min = _unsorted_segment("UnsortedSegmentMin", "The minimum")


def unsorted_segment_mean(
    data: Any, segment_ids: Any, num_segments: Any, name: str | None = None
) -> Tensor:
    """The mean of the rows of each of ``num_segments`` segments; 0 for an empty one."""
    with name_scope(name, "UnsortedSegmentMean"):
        value, ids = convert_to_tensor(data), convert_to_tensor(segment_ids)
        count = _segment_sizes(value, ids, num_segments)
        return unsorted_segment_sum(value, ids, num_segments) / count  # type: ignore[no-any-return]


def unsorted_segment_sqrt_n(
    data: Any, segment_ids: Any, num_segments: Any, name: str | None = None
) -> Tensor:
    """The sum of the rows of each segment divided by the square root of their number."""
    with name_scope(name, "UnsortedSegmentSqrtN"):
        value, ids = convert_to_tensor(data), convert_to_tensor(segment_ids)
        count = elementwise_ops.sqrt(_segment_sizes(value, ids, num_segments))
        return unsorted_segment_sum(value, ids, num_segments) / count  # type: ignore[no-any-return]


def _segment_sizes(value: Tensor, ids: Tensor, num_segments: Any) -> Tensor:
    """The number of rows of each segment, at least 1, shaped to broadcast over rows."""
    number: Any = convert_to_tensor(num_segments)
    single = ones(shape(ids), value.dtype.base_dtype)
    counts = unsorted_segment_sum(single, ids, number)
    ranks = value.shape.ndims, ids.shape.ndims
    if ranks[0] is None or ranks[1] is None:
        raise ValueError("the ranks of the data and of the segment numbers must be known")
    columns = concat([number[None], ones([ranks[0] - ranks[1]], number.dtype)], axis=0)
    return elementwise_ops.maximum(reshape(counts, columns), 1)


# ---- embeddings ----------------------------------------------------------------------------------
def embedding_lookup(
    params: Any,
    ids: Any,
    partition_strategy: str = "mod",
    name: str | None = None,
    validate_indices: bool = True,
    max_norm: float | None = None,
) -> Tensor:
    """The rows ``ids`` of a table, or of several that together are one.

    Of several, row ``id`` is in table ``id % n`` ("mod"), or the tables are consecutive blocks
    ("div"). ``max_norm`` scales longer rows down. Raises: ValueError for no table or another
    strategy.
    """
    tables = list(params) if _is_several(params) else [params]
    if not tables:
        raise ValueError("Argument `params` must not be empty")
    with name_scope(name, "embedding_lookup") as scope:
        values = convert_to_tensor(ids, name="ids")
        if len(tables) > 1:
            return _lookup_in_several(tables, values, partition_strategy, max_norm, scope)
        with colocate_with(tables[0]):
            rows = gather(tables[0], values, name=scope)
        return identity(_clipped(rows, values, max_norm))  # type: ignore[no-any-return]


def _is_several(params: Any) -> bool:
    return isinstance(params, (list, tuple)) or type(params).__name__ == "PartitionedVariable"


def _lookup_in_several(
    tables: Sequence[Any], ids: Tensor, strategy: str, max_norm: float | None, scope: str
) -> Tensor:
    flat: Any = reshape(ids, [-1])
    places = range(size(flat))
    if strategy == "mod":
        part, inner = flat % len(tables), flat // len(tables)
    elif strategy == "div":
        part, inner = _blocks(tables, flat)
    else:
        raise ValueError(
            f"Only 'mod' and 'div' partition strategies are supported, not {strategy!r}"
        )
    numbers = elementwise_ops.cast(part, int32)
    inner_parts = dynamic_partition(inner, numbers, len(tables))
    place_parts = dynamic_partition(places, numbers, len(tables))
    found = []
    for table, rows in zip(tables, inner_parts, strict=True):
        with colocate_with(table):
            found.append(_clipped(gather(table, rows), rows, max_norm))
    joined = parallel_dynamic_stitch(place_parts, found, name=scope)
    row_shape = convert_to_tensor(tables[0]).shape[1:]
    first: Any = shape(tables[0]) if not row_shape.is_fully_defined() else None
    tail = row_shape if first is None else first[1:]
    return reshape(joined, concat([shape(ids), tail], 0))


def _blocks(tables: Sequence[Any], flat: Any) -> tuple[Tensor, Tensor]:
    """Table and row of each id where tables are consecutive blocks, the first ones a row longer."""
    rows = [convert_to_tensor(table).shape[0].value for table in tables]
    if None in rows:
        raise ValueError(
            "embedding_lookup: the number of rows of each table must be known for 'div'"
        )
    total: Any = convert_to_tensor(sum(rows), flat.dtype.base_dtype)
    count = len(tables)
    short, longer = total // count, total % count
    part = elementwise_ops.maximum(flat // (short + 1), (flat - longer) // short)
    inner = where(comparison_ops.less(part, longer), flat % (short + 1), (flat - longer) % short)
    return part, inner


def _clipped(rows: Tensor, ids: Tensor, max_norm: float | None) -> Any:
    """Rows whose norm is larger than ``max_norm`` scaled down to it."""
    if max_norm is None:
        return rows
    first, count = ids.shape.ndims, rows.shape.ndims
    if first is None or count is None:
        raise ValueError("embedding_lookup: the ranks of ids and table must be known for max_norm")
    axes = [first + axis for axis, _ in enumerate([None] * (count - first))]
    return clip_by_norm(rows, max_norm, axes=axes)
