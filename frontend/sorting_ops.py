"""``tf.sort`` and ``tf.argsort``: by the largest elements of rows, as TensorFlow makes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepforge.frontend.array_calls import constant_value, make
from stepforge.frontend.convert import constant_of_array, convert_to_tensor
from stepforge.frontend.graph import create_op
from stepforge.frontend.operation import Tensor
from stepforge.frontend.scopes import name_scope
from stepforge.frontend.shape_ops import rank, shape, transpose

ASCENDING, DESCENDING = "ASCENDING", "DESCENDING"


def sort(
    values: Any, axis: Any = -1, direction: str = ASCENDING, name: str | None = None
) -> Tensor:
    """The elements along ``axis`` in order. Raises: ValueError for a bad direction or axis."""
    with name_scope(name, "sort"):
        return _ordered(convert_to_tensor(values), axis, direction, 0)


def argsort(
    values: Any,
    axis: Any = -1,
    direction: str = ASCENDING,
    stable: bool = False,
    name: str | None = None,
) -> Tensor:
    """The positions that sort the elements along ``axis``; the order of equal elements is kept."""
    with name_scope(name, "argsort"):
        return _ordered(convert_to_tensor(values), axis, direction, 1)


def _ordered(values: Any, axis: Any, direction: str, output: int) -> Tensor:
    """Output 0 (elements) or 1 (positions) of the sort."""
    if direction not in (ASCENDING, DESCENDING):
        raise ValueError(
            f"Argument `direction` should be one of {ASCENDING}, {DESCENDING}. Received: "
            f"direction={direction}"
        )
    place = int(_known(axis))
    back: Any
    if direction == DESCENDING:
        return _largest_first(values, place, output)
    kind = values.dtype.base_dtype
    turned: Any = create_op("Neg", (values,)).outputs[0]
    shift = -1 if kind.is_integer and not kind.is_unsigned else 0
    if kind.is_unsigned:
        turned = kind.max - values  # negation wraps; the distance from the largest number does not
    elif shift:
        turned = turned - 1  # -x - 1 exists for the smallest number too
    result: Any = _largest_first(turned, place, output)
    if output == 1:
        return result  # type: ignore[no-any-return]
    if kind.is_unsigned:
        return kind.max - result  # type: ignore[no-any-return]
    back = create_op("Neg", (result,)).outputs[0]
    return back - 1 if shift else back  # type: ignore[no-any-return]


def _known(axis: Any) -> Any:
    tensor = convert_to_tensor(axis, name="axis")
    known = constant_value(tensor)
    if known is None:
        raise ValueError("The `axis` argument must be constant.")
    return known


def _largest_first(values: Tensor, axis: int, output: int) -> Tensor:
    """``TopKV2`` of all elements along an axis, which comes last meanwhile."""
    count = values.shape.ndims
    if count is not None and not -count <= axis < count:
        raise ValueError(f"`axis` {axis} is out of range for values of rank {count}")
    sizes: Any = shape(values)
    extent = sizes[axis]
    rank(values)  # TensorFlow makes this node, too
    if axis == -1 or axis + 1 == count:
        return _top(values, extent, output)
    if count is None:
        raise ValueError("sort along another axis than the last needs values of known rank")
    order = np.arange(count, dtype=np.int64)
    order[[axis, -1]] = order[[-1, axis]]
    perm = constant_of_array(order, "transposition")
    return transpose(_top(transpose(values, perm), extent, output), perm)


def _top(values: Tensor, extent: Tensor, output: int) -> Tensor:
    arguments = (("input", values, None), ("k", extent, None))
    return make("TopKV2", arguments, {"sorted": True}, None).outputs[output]
