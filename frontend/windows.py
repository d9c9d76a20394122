"""What functions on images share: arguments for each axis, kinds of padding, nodes of one dtype."""

from __future__ import annotations

import collections.abc
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepforge.frontend.dtypes import DType, bfloat16, float16, float32, float64
from stepforge.frontend.graph import create_op
from stepforge.frontend.node_calls import argument, integer_argument
from stepforge.frontend.operation import Tensor
from stepforge.frontend.scopes import name_scope

FLOATS = (float16, bfloat16, float32, float64)


def channel_axis(data_format: str, axes: int) -> int:
    """The axis of channels of images with so many spatial axes."""
    return 1 if data_format.startswith("NC") else axes + 1


def per_axis(value: Any, axes: int, data_format: str, name: str) -> list[int]:
    """An argument with a value for all axes, for the spatial ones, or one for all of these.

    Raises: ValueError where it has another length.
    """
    if value is None:
        return [1] * (axes + 2)
    sized = isinstance(value, collections.abc.Sized) and not isinstance(value, str)
    values = list(value) if sized else [value]
    if len(values) == axes + 2:
        return [int(n) for n in values]
    if len(values) == 1:
        values = values * axes
    elif len(values) != axes:
        raise ValueError(
            f"{name} should be of length 1, {axes} or {axes + 2}. Received: {name}={values} of "
            f"length {len(values)}"
        )
    inner = [int(n) for n in values]
    return [1, 1, *inner] if channel_axis(data_format, axes) == 1 else [1, *inner, 1]


def padding_and_pairs(padding: Any, axes: int = 4) -> tuple[str, list[int]]:
    """The kind of padding and, where it is a list of pairs, these one after the other.

    Raises: ValueError for a list that has no pair for each of so many axes, TypeError for a kind
    that is no string.
    """
    if isinstance(padding, str):
        if padding == "EXPLICIT":
            raise ValueError(
                "'EXPLICIT' is not a valid value for `padding`. To use explicit padding, `padding` "
                "must be a list."
            )
        return padding, []
    if not isinstance(padding, (list, tuple)):
        raise TypeError(f"Expected string for argument 'padding' not {padding}.")
    for index, pair in enumerate(padding):
        if isinstance(pair, (list, tuple)) and len(pair) == 2:
            continue
        found = f"size {len(pair)}" if isinstance(pair, (list, tuple)) else f"type {type(pair)}"
        raise ValueError(
            "When `padding` is a list, each element of `padding` must be a list/tuple of size 2. "
            f"Received: padding={padding} with element at index {index} of {found}"
        )
    if len(padding) != axes:
        raise ValueError(
            f"When padding is a list, it must be of size {axes}. Received: padding={padding} of "
            f"size {len(padding)}"
        )
    return "EXPLICIT", [int(np.asarray(size)) for pair in padding for size in pair]


def plain_padding(padding: Any) -> str:
    """A kind of padding that is no list. Raises: TypeError where it is none."""
    if not isinstance(padding, str):
        raise TypeError(f"Expected string for argument 'padding' not {padding}.")
    return padding


def images_node(
    type_: str,
    arguments: Sequence[tuple[str, Any]],
    attrs: dict[str, Any],
    name: str | None = None,
    accepts: Sequence[DType] = FLOATS,
) -> list[Tensor]:
    """The outputs of a node whose inputs have one dtype, but for those called sizes or shape.

    Raises: TypeError for a dtype that is not among ``accepts``, or another than the first input's.
    """
    if all(isinstance(value, Tensor) for _, value in arguments):
        return create_op(type_, _inputs(type_, arguments, accepts), attrs, name).outputs
    with name_scope(name, type_, [v for _, v in arguments if isinstance(v, Tensor)]) as scope:
        return create_op(type_, _inputs(type_, arguments, accepts), attrs, scope).outputs


def _inputs(
    type_: str, arguments: Sequence[tuple[str, Any]], accepts: Sequence[DType]
) -> list[Tensor]:
    found: list[Tensor] = []
    first: tuple[str, DType] | None = None
    for label, value in arguments:
        if label.endswith(("sizes", "shape")):
            found.append(integer_argument(type_, label, value))
            continue
        tensor = argument(type_, label, value, first and first[1], first[0] if first else "")
        dtype = tensor.dtype.base_dtype
        if dtype not in accepts:
            raise TypeError(
                f"Value passed to parameter '{label}' has DataType {dtype.name} not in list of "
                f"allowed values: {', '.join(known.name for known in accepts)}"
            )
        first = first or (label, dtype)
        found.append(tensor)
    return found

