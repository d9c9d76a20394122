"""Clipping: of values, and of gradients by their norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepforge.frontend import api
from stepforge.frontend.convert import (
    constant,
    convert_to_tensor,
    convert_to_tensor_or_indexed_slices,
)
from stepforge.frontend.indexed_slices import IndexedSlices
from stepforge.frontend.operation import Tensor
from stepforge.frontend.scopes import colocate_with, name_scope


def _values(t: Any, name: str) -> Any:
    found = convert_to_tensor_or_indexed_slices(t, name=name)
    return found.values if isinstance(found, IndexedSlices) else found


def _like(t: Any, values: Tensor) -> Any:
    """``values`` in the form that ``t`` has."""
    return (
        IndexedSlices(values, t.indices, t.dense_shape) if isinstance(t, IndexedSlices) else values
    )


def clip_by_value(t: Any, clip_value_min: Any, clip_value_max: Any, name: str | None = None) -> Any:
    """``t`` with values below the minimum or above the maximum replaced by these.

    Raises: ValueError where the bounds would broadcast ``t`` to another shape.
    """
    with name_scope(name, "clip_by_value", [t, clip_value_min, clip_value_max]) as scope:
        values = _values(t, "t")
        lower = api.minimum(values, clip_value_max)
        values.shape.assert_is_compatible_with(lower.shape)
        clipped = api.maximum(lower, clip_value_min, name=scope)
        values.shape.assert_is_compatible_with(clipped.shape)
    return _like(t, clipped)


def clip_by_norm(t: Any, clip_norm: Any, axes: Any = None, name: str | None = None) -> Any:
    """``t`` scaled down so that its L2 norm (along ``axes``) is at most ``clip_norm``."""
    with name_scope(name, "clip_by_norm", [t, clip_norm]) as scope:
        values = _values(t, "t")
        squares = api.reduce_sum(values * values, axes, keepdims=True)
        positive = squares > 0  # the square root has no derivative at 0
        safe = api.where(positive, squares, api.ones_like(squares))
        norm = api.where(positive, api.sqrt(safe), squares)
        scaled = values * clip_norm
        values.shape.assert_is_compatible_with(scaled.shape)
        clipped = api.identity(scaled / api.maximum(norm, clip_norm), name=scope)
    return _like(t, clipped)


def clip_by_average_norm(t: Any, clip_norm: Any, name: str | None = None) -> Tensor:
    """``t`` scaled down so that its L2 norm per element is at most ``clip_norm``."""
    with name_scope(name, "clip_by_average_norm", [t, clip_norm]) as scope:
        value: Any = convert_to_tensor(t, name="t")
        count = api.cast(api.size(value), value.dtype.base_dtype)
        squares = value * value
        inverse = api.rsqrt(api.reduce_sum(squares, api.range(api.rank(value))))
        one: Any = constant(1.0, value.dtype.base_dtype)
        factor = api.minimum(inverse * count, one / clip_norm)
        scaled = value * clip_norm * factor
        return api.identity(scaled, name=scope)  # type: ignore[no-any-return]


def _tensors(t_list: Any) -> list[Any]:
    if isinstance(t_list, str) or not isinstance(t_list, Sequence):
        raise TypeError(f"`t_list` should be a sequence of tensors. Received {type(t_list)}.")
    return [
        None if t is None else convert_to_tensor_or_indexed_slices(t, name=f"t_{i}")
        for i, t in enumerate(t_list)
    ]


def global_norm(t_list: Any, name: str | None = None) -> Tensor:
    """The L2 norm of all tensors together; None is left out.

    Raises: TypeError where ``t_list`` is no sequence.
    """
    found = [t for t in _tensors(t_list) if t is not None]
    with name_scope(name, "global_norm", found):
        halves = []
        for t in found:
            values = t.values if isinstance(t, IndexedSlices) else t
            with colocate_with(values):
                halves.append(api.l2_loss(values))
        total = api.reduce_sum(api.stack(halves) if halves else constant([]))
        two = constant(2.0, total.dtype.base_dtype)
        return api.sqrt(total * two, name="global_norm")  # type: ignore[no-any-return]


def clip_by_global_norm(
    t_list: Any, clip_norm: Any, use_norm: Any = None, name: str | None = None
) -> tuple[list[Any], Tensor]:
    """All tensors scaled down so that their norm together is at most ``clip_norm``, and that norm.

    A norm that is not finite makes all results NaN. Raises: TypeError where ``t_list`` is no
    sequence.
    """
    given = _tensors(t_list)
    norm: Any = global_norm(given, name) if use_norm is None else use_norm
    with name_scope(name, "clip_by_global_norm", [t for t in given if t is not None]) as scope:
        one: Any = constant(1.0, norm.dtype.base_dtype)
        factor = clip_norm * api.minimum(1.0 / norm, one / clip_norm)
        factor = factor + (norm - norm)
        clipped: list[Any] = []
        for i, t in enumerate(given):
            if t is None:
                clipped.append(None)
                continue
            values = t.values if isinstance(t, IndexedSlices) else t
            with colocate_with(values):
                scaled = api.identity(values * factor, name=f"{scope}_{i}")
            clipped.append(_like(t, scaled))
    return clipped, norm
