"""API functions that read and write elements by index or condition: ``tf.gather`` ..."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from stepforge.frontend import elementwise_ops
from stepforge.frontend.array_calls import INDEX, constant_value, make, tensor_list
from stepforge.frontend.convert import constant, convert_to_tensor
from stepforge.frontend.dtypes import as_dtype, bool_, int16, int32
from stepforge.frontend.graph import create_op
from stepforge.frontend.joining_ops import concat, tile
from stepforge.frontend.operation import Tensor
from stepforge.frontend.reduction_ops import reduce_max, reduce_prod
from stepforge.frontend.scopes import name_scope
from stepforge.frontend.shape_ops import broadcast_to, expand_dims, reshape, shape, squeeze

_INDICES = (int32, INDEX[1], int16)


# ---- gather, scatter -----------------------------------------------------------------------------
def gather(
    params: Any,
    indices: Any,
    validate_indices: bool | None = None,
    name: str | None = None,
    axis: Any = None,
    batch_dims: int = 0,
) -> Tensor:
    """Slices of ``params`` along ``axis`` (by default ``batch_dims``); runs check that the indices
    exist.

    The first ``batch_dims`` axes of ``params`` and ``indices`` go together.
    """
    place = batch_dims if axis is None else axis
    first = not isinstance(place, Tensor) and int(place) == 0
    if first and hasattr(params, "sparse_read"):
        return params.sparse_read(indices, name=name)  # type: ignore[no-any-return]
    arguments = (("params", params, None), ("indices", indices, _INDICES), ("axis", place, INDEX))
    return make("GatherV2", arguments, {"batch_dims": int(batch_dims)}, name).outputs[0]


def gather_v2(
    params: Any,
    indices: Any,
    validate_indices: bool | None = None,
    axis: Any = None,
    batch_dims: int = 0,
    name: str | None = None,
) -> Tensor:
    """``gather`` with its arguments in the order of TensorFlow 2."""
    return gather(params, indices, validate_indices, name, axis, batch_dims)


def batch_gather(params: Any, indices: Any, name: str | None = None) -> Tensor:
    """``gather`` along the last axis of ``indices``, all axes before which go together."""
    with name_scope(name, "BatchGather"):
        places = convert_to_tensor(indices, name="indices")
        if places.shape.ndims is None:
            raise ValueError("batch_gather does not allow indices with unknown shape.")
        last = places.shape.ndims - 1
        return gather(params, places, axis=last, batch_dims=last)


def gather_grad(
    dy: Any, indices: Any, params: Any, axis: int, batch_dims: int = 0, name: str | None = None
) -> Tensor:
    """The gradient of ``gather`` from that of its result, in the shape of ``params``."""
    arguments = (("dy", dy, None), ("indices", indices, _INDICES), ("params", params, None))
    return make("GatherGrad", arguments, {"axis": axis, "batch_dims": batch_dims}, name).outputs[0]


def gather_nd(params: Any, indices: Any, name: str | None = None, batch_dims: int = 0) -> Tensor:
    """Slices of ``params`` at the index vectors in the last axis of ``indices``.

    Raises: NotImplementedError for ``batch_dims`` other than 0.
    """
    if batch_dims:
        raise NotImplementedError("gather_nd with batch_dims; use gather with batch_dims")
    arguments = (("params", params, None), ("indices", indices, _INDICES))
    return make("GatherNd", arguments, None, name).outputs[0]


def scatter_nd(indices: Any, updates: Any, shape: Any, name: str | None = None) -> Tensor:
    """Zeros of ``shape`` with ``updates`` added up at index vectors."""
    places = indices if isinstance(indices, Tensor) else None
    sizes: Any = INDEX if places is None else places.dtype.base_dtype
    arguments = (
        ("indices", indices, _INDICES),
        ("updates", updates, None),
        ("shape", shape, sizes),
    )
    return make("ScatterNd", arguments, None, name).outputs[0]


def _tensor_scatter(type_: str, doc: str) -> Any:
    def function(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Tensor:
        value = tensor if isinstance(tensor, Tensor) else convert_to_tensor(tensor)
        arguments = (
            ("tensor", value, None),
            ("indices", indices, _INDICES),
            ("updates", updates, value.dtype.base_dtype),
        )
        return make(type_, arguments, None, name).outputs[0]

    function.__name__ = function.__qualname__ = type_
    function.__doc__ = f"``tensor`` with {doc} at index vectors."
    return function


tensor_scatter_update = tensor_scatter_nd_update = _tensor_scatter(
    "TensorScatterUpdate", "``updates`` instead of its own slices"
)
tensor_scatter_add = tensor_scatter_nd_add = _tensor_scatter(
    "TensorScatterAdd", "``updates`` added"
)
tensor_scatter_sub = tensor_scatter_nd_sub = _tensor_scatter(
    "TensorScatterSub", "``updates`` subtracted"
)
tensor_scatter_max = tensor_scatter_nd_max = _tensor_scatter(
    "TensorScatterMax", "the larger of itself and ``updates``"
)
tensor_scatter_min = tensor_scatter_nd_min = _tensor_scatter(
    "TensorScatterMin", "the smaller of itself and ``updates``"
)


# ---- conditions ----------------------------------------------------------------------------------
def where(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor:
    """Elements of ``x`` where ``condition`` holds, of ``y`` elsewhere; without both the index
    vectors of the true elements.

    ``x`` and ``y`` have one shape; ``condition`` has it too, is a scalar, or has one element for
    each row. Raises: ValueError where only one of them is given or the shapes are known not to fit.
    """
    return _where("Select", condition, x, y, name)


def where_v2(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor:
    """As ``where``, but all three broadcast."""
    return _where("SelectV2", condition, x, y, name)


def _where(type_: str, condition: Any, x: Any, y: Any, name: str | None) -> Tensor:
    if x is None and y is None:
        if not isinstance(condition, Tensor):
            condition = convert_to_tensor(condition, preferred_dtype=bool_)
        return create_op("Where", (condition,), None, name).outputs[0]
    if x is None or y is None:
        raise ValueError("x and y must both be non-None or both be None.")
    model = next((v for v in (x, y) if isinstance(v, Tensor)), None)
    dtype = None if model is None else model.dtype.base_dtype
    if model is None:
        with name_scope(name, type_) as scope:
            first = convert_to_tensor(x, name="t")
            dtype = first.dtype.base_dtype
            arguments: Any = (("condition", condition, bool_), ("t", first, None), ("e", y, dtype))
            return make(type_, arguments, None, scope).outputs[0]
    arguments = (("condition", condition, bool_), ("t", x, dtype), ("e", y, dtype))
    return make(type_, arguments, None, name).outputs[0]


def boolean_mask(tensor: Any, mask: Any, name: str = "boolean_mask", axis: Any = None) -> Tensor:
    """The slices of ``tensor`` where ``mask`` is true; the mask covers its axes from ``axis`` (0)
    on.

    Raises: ValueError for a scalar mask, one of unknown rank, or one whose shape is known not to
    fit.
    """
    with name_scope(name):
        value = convert_to_tensor(tensor, name="tensor")
        chosen = convert_to_tensor(mask, name="mask")
        count = chosen.shape.ndims
        if count == 0:
            raise ValueError("mask cannot be scalar.")
        if count is None:
            raise ValueError(
                "Number of mask dimensions must be specified, even if some dimensions are None.  "
                "E.g. shape=[None] is ok, but shape=None is not."
            )
        place = _known_axis(axis)
        value.shape[place : place + count].assert_is_compatible_with(chosen.shape)
        rows = reshape(value, _covered_as_one(value, place, count))
        flat = reshape(chosen, [-1])
        return gather(rows, squeeze(where_v2(flat), axis=[1]), axis=place)


def _covered_as_one(value: Tensor, place: int, count: int) -> Tensor:
    """The shape of ``value`` with ``count`` axes from ``place`` on made one."""
    masked: Any = shape(value)
    covered = reduce_prod(masked[place : place + count], [0])
    before: Any = shape(value)
    ahead = before[:place]
    behind: Any = shape(value)
    return concat([ahead, [covered], behind[place + count :]], 0)


def _known_axis(axis: Any) -> int:
    if axis is None:
        return 0
    known: Any = constant_value(axis) if isinstance(axis, Tensor) else np.asarray(axis)
    if known is None:
        raise ValueError("boolean_mask: the axis must be known while the graph is built")
    return int(known)


# ---- distinct elements ---------------------------------------------------------------------------
class Unique(NamedTuple):
    """What ``tf.unique`` gives."""

    y: Tensor
    idx: Tensor


class UniqueWithCounts(NamedTuple):
    """What ``tf.unique_with_counts`` gives."""

    y: Tensor
    idx: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, as in TensorFlow


class ListDiff(NamedTuple):
    """What ``tf.setdiff1d`` gives."""

    out: Tensor
    idx: Tensor


def unique(x: Any, out_idx: Any = int32, name: str | None = None) -> Unique:
    """The distinct elements of a vector in order of appearance, and each element's among them."""
    attrs = {"out_idx": as_dtype(out_idx).ir}
    return Unique(*make("Unique", (("x", x, None),), attrs, name).outputs)


def unique_with_counts(x: Any, out_idx: Any = int32, name: str | None = None) -> UniqueWithCounts:
    """As ``unique``, and how often each one appears."""
    attrs = {"out_idx": as_dtype(out_idx).ir}
    return UniqueWithCounts(*make("UniqueWithCounts", (("x", x, None),), attrs, name).outputs)


def setdiff1d(x: Any, y: Any, index_dtype: Any = int32, name: str | None = None) -> ListDiff:
    """The elements of a vector that are not in another, and where they are."""
    value = x if isinstance(x, Tensor) else convert_to_tensor(x)
    attrs = {"out_idx": as_dtype(index_dtype).ir}
    arguments = (("x", value, None), ("y", y, value.dtype.base_dtype))
    return ListDiff(*make("ListDiff", arguments, attrs, name).outputs)


listdiff = setdiff1d


# ---- partitions ----------------------------------------------------------------------------------
def dynamic_partition(
    data: Any, partitions: Any, num_partitions: int, name: str | None = None
) -> list[Tensor]:
    """The slices of ``data`` sorted into tensors by the numbers in ``partitions``."""
    arguments = (("data", data, None), ("partitions", partitions, int32))
    attrs = {"num_partitions": int(num_partitions)}
    return make("DynamicPartition", arguments, attrs, name).outputs


def dynamic_stitch(indices: Sequence[Any], data: Sequence[Any], name: str | None = None) -> Tensor:
    """One tensor with the slices of all ``data`` at their ``indices``; later ones win."""
    return _stitch("DynamicStitch", indices, data, name)


def parallel_dynamic_stitch(
    indices: Sequence[Any], data: Sequence[Any], name: str | None = None
) -> Tensor:
    """As ``dynamic_stitch``."""
    return _stitch("ParallelDynamicStitch", indices, data, name)


def _stitch(type_: str, indices: Sequence[Any], data: Sequence[Any], name: str | None) -> Tensor:
    if len(indices) != len(data):
        raise ValueError(
            f"List argument 'data' to '{type_}' Op with length {len(data)} must match length "
            f"{len(indices)} of argument 'indices'."
        )
    tensors = [v for v in (*indices, *data) if isinstance(v, Tensor)]
    with name_scope(name, type_, tensors) as scope:
        inputs = tensor_list(type_, "indices", indices) + tensor_list(type_, "data", data)
        return create_op(type_, inputs, {"N": len(indices)}, scope).outputs[0]


# ---- repetition ----------------------------------------------------------------------------------
def repeat(input: Any, repeats: Any, axis: int | None = None, name: str | None = None) -> Tensor:
    """Each element of ``input`` along ``axis`` repeated; without an axis those of the flat tensor.

    ``repeats`` is a number, or a vector with one number for each element.
    """
    value = reshape(input, [-1]) if axis is None else convert_to_tensor(input)
    with name_scope(name, "Repeat", [value]):
        times = elementwise_ops.cast(convert_to_tensor(repeats, name="repeats"), int32)
        count = value.shape.with_rank_at_least(1).ndims
        if count is None:
            raise ValueError("repeat: the rank of the input must be known")
        place = (axis or 0) % count
        if times.shape.num_elements() == 1:
            return _repeat_all(value, reshape(times, []), place, count)
        return _repeat_each(value, times, place, count)


def _spread(value: Tensor, times: Tensor, place: int, count: int) -> Tensor:
    """``value`` with a new axis behind ``place`` along which it is repeated."""
    multiples = [1] * (place + 1) + [times] + [1] * (count - 1 - place)
    return tile(expand_dims(value, place + 1), multiples)


def _repeat_all(value: Tensor, times: Tensor, place: int, count: int) -> Tensor:
    sizes: Any = shape(value)
    spread = _spread(value, times, place, count)
    return reshape(spread, concat([sizes[:place], [times * sizes[place]], sizes[place + 1 :]], 0))


def _repeat_each(value: Tensor, times: Tensor, place: int, count: int) -> Tensor:
    """Every element as often as the largest number says, masked to its own number."""
    sizes: Any = shape(value)
    each = broadcast_to(times, [sizes[place]])
    most = elementwise_ops.maximum(constant(0, name="zero"), reduce_max(each))
    ends = (("start", constant(0), None), ("limit", most, None), ("delta", constant(1), None))
    steps: Any = make("Range", ends, None, "Range").outputs[0]
    mask = steps < expand_dims(each, -1)
    return boolean_mask(_spread(value, most, place, count), mask, axis=place)
