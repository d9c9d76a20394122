"""API functions that make tensors of a shape: filled, counted and encoded ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepforge.frontend import elementwise_ops
from stepforge.frontend.array_calls import INDEX, make
from stepforge.frontend.convert import constant, convert_to_tensor
from stepforge.frontend.dtypes import (
    DType,
    as_dtype,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int8,
    int32,
    int64,
    string,
    uint8,
)
from stepforge.frontend.graph import create_op
from stepforge.frontend.operation import Tensor
from stepforge.frontend.reduction_ops import reduce_max
from stepforge.frontend.scopes import name_scope
from stepforge.frontend.shape_ops import (
    expand_dims,
    reshape,
    shape_constant,
    shape_of,
    size,
)
from stepforge.frontend.shapes import TensorShape

SMALL = 1000  # filled tensors of fewer elements are constants, if their shape is known


def fill(dims: Any, value: Any, name: str | None = None) -> Tensor:
    """A tensor of the shape ``dims`` in which every element is ``value``."""
    arguments = (("dims", dims, INDEX), ("value", value, None))
    return make("Fill", arguments, None, name).outputs[0]


def _content(number: int, dtype: DType) -> Any:
    if dtype is bool_:
        return bool(number)
    return "" if dtype is string else number


def _filled(number: int, default_name: str, shape: Any, dtype: Any, name: str | None) -> Tensor:
    kind = as_dtype(dtype).base_dtype
    content = _content(number, kind)
    tensors = [shape] if isinstance(shape, Tensor) else []
    with name_scope(name, default_name, tensors) as scope:
        if not isinstance(shape, Tensor):
            known = _known_sizes(shape)
            if known is not None and not np.isscalar(shape) and np.prod(known) < SMALL:
                return constant(content, kind, known, scope)
            if known is None:
                shape = convert_to_tensor(shape, int32)
            else:
                shape = shape_constant(known, "shape_as_tensor")
        if shape.shape.ndims == 0:
            shape = reshape(shape, [-1])
        return fill(shape, constant(content, kind), scope)


def _known_sizes(shape: Any) -> list[int] | None:
    """A shape given as Python values as a list of sizes; None where it holds tensors.

    Raises: ValueError for a shape with unknown sizes.
    """
    if isinstance(shape, (list, tuple)) and any(isinstance(n, Tensor) for n in shape):
        return None
    if isinstance(shape, np.ndarray):
        shape = shape.tolist()
    found = TensorShape(shape)
    if not found.is_fully_defined():
        raise ValueError(f"Cannot convert a partially known TensorShape {found} to a Tensor.")
    return found.as_list()  # type: ignore[return-value]


def zeros(shape: Any, dtype: Any = float32, name: str | None = None) -> Tensor:
    """Zeros (False, empty strings) of a shape that may hold tensors."""
    return _filled(0, "zeros", shape, dtype, name)


def ones(shape: Any, dtype: Any = float32, name: str | None = None) -> Tensor:
    """Ones (True) of a shape that may hold tensors."""
    return _filled(1, "ones", shape, dtype, name)


def zeros_like(
    tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True
) -> Tensor:
    """Zeros in the shape of ``tensor``, and in its dtype where none is given."""
    with name_scope(name, "zeros_like", [tensor] if isinstance(tensor, Tensor) else []) as scope:
        value = convert_to_tensor(tensor, name="tensor")
        kind = value.dtype.base_dtype if dtype is None else as_dtype(dtype).base_dtype
        if optimize and value.shape.is_fully_defined():
            return zeros(value.shape, kind, scope)
        if kind is not value.dtype.base_dtype:
            return zeros(shape_of(value, None, optimize), kind, scope)
        return create_op("ZerosLike", (value,), None, scope).outputs[0]


def ones_like(
    tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True
) -> Tensor:
    """Ones in the shape of ``tensor``, and in its dtype where none is given."""
    with name_scope(name, "ones_like", [tensor] if isinstance(tensor, Tensor) else []) as scope:
        value = convert_to_tensor(tensor, name="tensor")
        kind = value.dtype.base_dtype if dtype is None else as_dtype(dtype).base_dtype
        if optimize and value.shape.is_fully_defined():
            with name_scope("Shape"):
                sizes = shape_constant(value.shape, "shape_as_tensor")
        else:
            sizes = shape_of(value, None, optimize)
        return fill(sizes, constant(_content(1, kind), kind), scope)


# ---- counting ------------------------------------------------------------------------------------
_WIDTH = [int32, int64, float16, bfloat16, float32, float64]  # of a range's ends the latest wins


def range(
    start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: str = "range"
) -> Tensor:
    """``start, start + delta, ...`` without ``limit``; with one argument ``0, 1, ...`` without
    that.

    Raises: ValueError where it is known that ``delta`` does not lead from ``start`` to ``limit``.
    """
    if limit is None:
        start, limit = 0, start
    wanted = None if dtype is None else as_dtype(dtype).base_dtype
    ends = {"start": start, "limit": limit, "delta": delta}
    tensors = [value for value in ends.values() if isinstance(value, Tensor)]
    with name_scope(name, "Range", tensors) as scope:
        parts = {
            label: value if isinstance(value, Tensor) else convert_to_tensor(value, wanted, label)
            for label, value in ends.items()
        }
        kind = wanted or max((v.dtype.base_dtype for v in parts.values()), key=_WIDTH.index)
        arguments = [
            (label, elementwise_ops.cast(value, kind), kind) for label, value in parts.items()
        ]
        return make("Range", arguments, None, scope).outputs[0]


def linspace(start: Any, stop: Any, num: Any, name: str | None = None) -> Tensor:
    """``num`` evenly spaced floats from ``start`` to ``stop``, both included."""
    floats = (float32, bfloat16, float16, float64)
    first = start if isinstance(start, Tensor) else None
    last = stop if isinstance(stop, Tensor) else None
    model = first if first is not None else last
    exact = None if model is None else model.dtype.base_dtype
    if exact is not None and exact not in floats:
        exact = None
    accepts: Any = floats if exact is None else exact
    arguments = (("start", start, accepts), ("stop", stop, accepts), ("num", num, INDEX))
    return make("LinSpace", arguments, None, name).outputs[0]


lin_space = linspace


def one_hot(
    indices: Any,
    depth: Any,
    on_value: Any = None,
    off_value: Any = None,
    axis: int | None = None,
    dtype: Any = None,
    name: str | None = None,
) -> Tensor:
    """``on_value`` (1) at the place of each index along a new axis of ``depth``, else
    ``off_value`` (0).

    Indices out of range give ``off_value`` everywhere. Raises: TypeError where the dtypes differ.
    """
    given = [v for v in (indices, depth, on_value, off_value) if isinstance(v, Tensor)]
    wanted = None if dtype is None else as_dtype(dtype).base_dtype
    with name_scope(name, "one_hot", given) as scope:
        values: dict[str, Any] = {}
        for label, value in (("on_value", on_value), ("off_value", off_value)):
            if value is not None:
                values[label] = convert_to_tensor(value, dtype_hint=wanted)
                _check_same(label, values[label].dtype.base_dtype, wanted)
        found = next((v.dtype.base_dtype for v in values.values()), None)
        kind = wanted or found or float32
        for label, number in (("on_value", 1), ("off_value", 0)):
            if label not in values:
                values[label] = convert_to_tensor(number, kind, label)
        kinds = [values[label].dtype.base_dtype for label in ("on_value", "off_value")]
        if kinds[0] is not kinds[1]:
            raise TypeError(
                f"dtype {kinds[0]} of on_value does not match dtype {kinds[1]} of off_value"
            )
        arguments = (
            ("indices", indices, (int32, int64, uint8, int8)),
            ("depth", depth, (int32,)),
            ("on_value", values["on_value"], None),
            ("off_value", values["off_value"], None),
        )
        attrs = {"axis": -1 if axis is None else axis}
        return make("OneHot", arguments, attrs, scope).outputs[0]


def _check_same(label: str, found: DType, wanted: DType | None) -> None:
    if wanted is not None and found is not wanted:
        raise TypeError(f"dtype {found} of {label} does not match dtype parameter {wanted}")


def sequence_mask(
    lengths: Any, maxlen: Any = None, dtype: Any = bool_, name: str | None = None
) -> Tensor:
    """For each length a row that is true in its first so many places, of ``maxlen`` places.

    ``maxlen`` is by default the largest length. Raises: ValueError where it is no scalar.
    """
    kind = as_dtype(dtype).base_dtype
    tensors = [v for v in (lengths, maxlen) if isinstance(v, Tensor)]
    with name_scope(name, "SequenceMask", tensors):
        value = convert_to_tensor(lengths)
        if maxlen is None:
            largest = reduce_max(value)
            limit = elementwise_ops.maximum(constant(0, largest.dtype), largest)
        else:
            limit = convert_to_tensor(maxlen)
        if limit.shape.ndims not in (None, 0):
            raise ValueError(
                "Argument `maxlen` must be scalar for sequence_mask, received `maxlen` = "
                f"{limit} with shape '{limit.shape}'"
            )
        number = limit.dtype.base_dtype
        ends = (
            ("start", constant(0, number), None),
            ("limit", limit, None),
            ("delta", constant(1, number), None),
        )
        steps = make("Range", ends, None, "Range").outputs[0]
        column = expand_dims(value, -1)
        column = create_op("Cast", (column,), {"DstT": number.ir}).outputs[0]
        mask = create_op("Less", (steps, column)).outputs[0]
        result: Tensor = mask if kind is bool_ else elementwise_ops.cast(mask, kind)
        return result


def meshgrid(*args: Any, indexing: str = "xy", name: str = "meshgrid") -> list[Tensor]:
    """The coordinates of a grid over vectors: one tensor for each, over all of them.

    ``indexing`` "xy" exchanges the first two axes, as plots want it. Raises: ValueError for other
    words.
    """
    if indexing not in ("xy", "ij"):
        raise ValueError(
            f"Argument `indexing` parameter must be either 'xy' or 'ij', got '{indexing}'"
        )
    with name_scope(name, "meshgrid", [a for a in args if isinstance(a, Tensor)]):
        count = len(args)
        columns: list[Any] = [
            reshape(stacked, [1] * i + [-1] + [1] * (count - 1 - i))
            for i, stacked in enumerate(args)
        ]
        values = [convert_to_tensor(a) for a in args]
        lengths = [size(value) for value in values]
        if indexing == "xy" and count > 1:
            rest = [1] * (count - 2)
            columns[0] = reshape(columns[0], [1, -1, *rest])
            columns[1] = reshape(columns[1], [-1, 1, *rest])
            lengths[0], lengths[1] = lengths[1], lengths[0]
        if not values:
            return []
        whole = ones(lengths, values[0].dtype.base_dtype)
        return [column * whole for column in columns]
