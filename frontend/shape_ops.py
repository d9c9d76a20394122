"""API functions about shapes: asking for them, and giving tensors other ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepforge.frontend.array_calls import INDEX, make
from stepforge.frontend.convert import constant, constant_of_array, convert_to_tensor
from stepforge.frontend.dtypes import as_dtype, int32
from stepforge.frontend.graph import create_op
from stepforge.frontend.joining_ops import concat
from stepforge.frontend.node_calls import renamed
from stepforge.frontend.operation import Tensor
from stepforge.frontend.scopes import name_scope
from stepforge.frontend.shapes import TensorShape, as_shape


def shape(input: Any, name: str | None = None, out_type: Any = int32) -> Tensor:
    """The sizes of a tensor as a vector; a constant where all are known."""
    return shape_of(input, name, True, out_type)


def shape_of(input: Any, name: str | None, optimize: bool, out_type: Any = int32) -> Tensor:
    """``shape``; without ``optimize`` always a node that looks at the tensor."""
    dtype = as_dtype(out_type)
    with name_scope(name, "Shape", [input] if isinstance(input, Tensor) else []) as scope:
        value = convert_to_tensor(input)
        if optimize and value.shape.is_fully_defined():
            return constant(value.shape.as_list(), dtype, name=scope)
        return create_op("Shape", (value,), {"out_type": dtype.ir}, scope).outputs[0]


def shape_n(input: Sequence[Any], out_type: Any = int32, name: str | None = None) -> list[Tensor]:
    """The sizes of several tensors, by one node."""
    values = [convert_to_tensor(value) for value in input]
    attrs = {"out_type": as_dtype(out_type).ir, "N": len(values)}
    return create_op("ShapeN", values, attrs, name).outputs


def size(input: Any, name: str | None = None, out_type: Any = int32) -> Tensor:
    """The number of elements; a constant where it is known."""
    dtype = as_dtype(out_type)
    with name_scope(name, "Size", [input] if isinstance(input, Tensor) else []) as scope:
        value = convert_to_tensor(input)
        count = value.shape.num_elements()
        if count is not None:
            return constant(count, dtype, name=scope)
        return create_op("Size", (value,), {"out_type": dtype.ir}, scope).outputs[0]


def rank(input: Any, name: str | None = None) -> Tensor:
    """The number of axes; a constant where it is known."""
    with name_scope(name, "Rank", [input] if isinstance(input, Tensor) else []) as scope:
        value = convert_to_tensor(input)
        if value.shape.ndims is not None:
            return constant(value.shape.ndims, int32, name=scope)
        return create_op("Rank", (value,), None, scope).outputs[0]


def reshape(tensor: Any, shape: Any, name: str | None = None) -> Tensor:
    """The elements of ``tensor`` in another shape; one size may be -1, what the others leave.

    Raises: ValueError where it is known that the numbers of elements differ.
    """
    arguments = (("tensor", tensor, None), ("shape", shape, INDEX))
    return make("Reshape", arguments, None, name).outputs[0]


def transpose(a: Any, perm: Any = None, name: str = "transpose", conjugate: bool = False) -> Tensor:
    """The axes of ``a`` in the order ``perm``, by default reversed; ``conjugate`` complex ones."""
    with name_scope(name, "transpose", [a] if isinstance(a, Tensor) else []) as scope:
        value = convert_to_tensor(a, name="a")
        if perm is None:
            perm = _reversed_axes(value)
        type_ = "ConjugateTranspose" if conjugate and value.dtype.is_complex else "Transpose"
        arguments = (("x", value, None), ("perm", perm, INDEX))
        return make(type_, arguments, None, scope).outputs[0]


def _reversed_axes(value: Tensor) -> Any:
    count = value.shape.ndims
    if count is not None:
        return np.arange(count - 1, -1, -1, dtype=np.int32)
    last = create_op("Rank", (value,)).outputs[0] - 1  # type: ignore[operator]
    return _range(last, -1, -1)


def _range(start: Any, limit: Any, delta: int) -> Tensor:
    ends = (("start", start, int32), ("limit", limit, int32), ("delta", delta, int32))
    return make("Range", ends).outputs[0]


def matrix_transpose(a: Any, name: str = "matrix_transpose", conjugate: bool = False) -> Tensor:
    """``a`` with its last two axes exchanged. Raises: ValueError where it has not so many."""
    with name_scope(name, "matrix_transpose", [a] if isinstance(a, Tensor) else []):
        value = convert_to_tensor(a, name="a")
        count = value.shape.ndims
        if count is None:
            axes: Any = create_op("Rank", (value,)).outputs[0]
            order: Any = concat([_range(0, axes - 2, 1), [axes - 1, axes - 2]], 0)
            return transpose(value, order, conjugate=conjugate)
        if count < 2:
            raise ValueError(
                "Argument `a` should be a (batch) matrix with rank >= 2. Received `a` = "
                f"{value!r} with shape: {value.shape}"
            )
        order = [*range(count - 2), count - 1, count - 2]
        return transpose(value, order, conjugate=conjugate)


def expand_dims(input: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Tensor:
    """``input`` with one more axis, of size 1. Raises: ValueError for no or a bad axis."""
    place = renamed("axis", axis, "dim", dim)
    if place is None:
        raise ValueError("Must specify an axis argument to tf.expand_dims()")
    arguments = (("input", input, None), ("dim", place, INDEX))
    return make("ExpandDims", arguments, None, name).outputs[0]


def squeeze(
    input: Any, axis: Any = None, name: str | None = None, squeeze_dims: Any = None
) -> Tensor:
    """``input`` without its axes of size 1, or without those in ``axis``.

    Raises: ValueError where one of them is known not to have size 1.
    """
    axes = renamed("axis", axis, "squeeze_dims", squeeze_dims)
    axes = [] if axes is None else np.atleast_1d(np.asarray(axes, dtype=np.int64)).tolist()
    attrs = {"squeeze_dims": tuple(axes)}
    return make("Squeeze", (("input", input, None),), attrs, name).outputs[0]


def broadcast_to(input: Any, shape: Any, name: str | None = None) -> Tensor:
    """``input`` repeated to ``shape``, along axes of size 1 and new leading axes."""
    arguments = (("input", input, None), ("shape", shape, INDEX))
    return make("BroadcastTo", arguments, None, name).outputs[0]


def broadcast_dynamic_shape(shape_x: Any, shape_y: Any, name: str | None = None) -> Tensor:
    """The shape that two shapes (integer vectors) broadcast to."""
    first = convert_to_tensor(shape_x, name="s0")
    arguments = (("s0", first, INDEX), ("s1", shape_y, first.dtype.base_dtype))
    return make("BroadcastArgs", arguments, None, name).outputs[0]


def broadcast_static_shape(shape_x: Any, shape_y: Any) -> TensorShape:
    """The static shape that two static shapes broadcast to. Raises: ValueError."""
    first, second = as_shape(shape_x), as_shape(shape_y)
    if first.sizes is None or second.sizes is None:
        return TensorShape(None)
    count = max(len(first.sizes), len(second.sizes))
    columns = zip(*[(1,) * (count - len(s)) + s for s in (first.sizes, second.sizes)], strict=True)
    return TensorShape([_broadcast_size(a, b, first, second) for a, b in columns])


def _broadcast_size(
    a: int | None, b: int | None, first: TensorShape, second: TensorShape
) -> int | None:
    if a == 1 or a == b:
        return b
    if b == 1:
        return a
    if a is None or b is None:
        return a if b is None else b
    raise ValueError(f"Incompatible shapes for broadcasting: {first} and {second}.")


def invert_permutation(x: Any, name: str | None = None) -> Tensor:
    """The inverse of an order of 0 .. n - 1."""
    return make("InvertPermutation", (("x", x, INDEX),), None, name).outputs[0]


def shape_constant(sizes: Any, name: str) -> Tensor:
    """Known sizes as a constant vector: int32, or int64 where one is too large."""
    values = np.asarray(as_shape(sizes).as_list(), dtype=np.int64)
    small = values.size == 0 or values.max() < 2**31
    return constant_of_array(values.astype(np.int32) if small else values, name)
