"""How array functions make nodes: inputs of several dtypes, lists of tensors, shapes given in any
way.

What a caller passes that is no tensor becomes a constant inside the scope of the node, called
after the input (``Reshape/shape``), as in TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from stepforge.frontend.convert import convert_to_tensor
from stepforge.frontend.dtypes import DType, int32, int64
from stepforge.frontend.graph import create_op
from stepforge.frontend.operation import Operation, Tensor
from stepforge.frontend.scopes import name_scope
from stepforge.frontend.shapes import TensorShape, dimension_value

# An input's name, its value, and its dtype: one that it must have, a tuple of those that it may
# have (values that are no tensors get the first that fits), or None for any.
Argument: TypeAlias = "tuple[str, Any, DType | tuple[DType, ...] | None]"
INDEX = (int32, int64)


def make(
    type_: str,
    arguments: Sequence[Argument],
    attrs: dict[str, Any] | None = None,
    name: str | None = None,
) -> Operation:
    """A node of ``type_`` with the given inputs.

    Raises: TypeError for an input of a dtype that it may not have.
    """
    if all(isinstance(value, Tensor) for _, value, _ in arguments):
        return create_op(type_, [_tensor(type_, *a) for a in arguments], attrs, name)
    tensors = [value for _, value, _ in arguments if isinstance(value, Tensor)]
    with name_scope(name, type_, tensors) as scope:
        return create_op(type_, [_tensor(type_, *a) for a in arguments], attrs, scope)


def _tensor(
    type_: str, label: str, value: Any, accepts: DType | tuple[DType, ...] | None
) -> Tensor:
    exact = accepts if isinstance(accepts, DType) else None
    if not isinstance(value, Tensor):
        hint = accepts[0] if isinstance(accepts, tuple) else None
        value = _converted(label, value, exact, hint)
    found = value.dtype.base_dtype
    if exact is not None and found is not exact.base_dtype:
        raise TypeError(
            f"Input '{label}' of '{type_}' Op has type {found.name} that does not match expected "
            f"type of {exact.name}."
        )
    if isinstance(accepts, tuple) and found not in accepts:
        raise TypeError(
            f"Value passed to parameter '{label}' has DataType {found.name} not in list of allowed "
            f"values: {', '.join(dtype.name for dtype in accepts)}"
        )
    return value  # type: ignore[no-any-return]


def _converted(label: str, value: Any, exact: DType | None, hint: DType | None) -> Tensor:
    try:
        return convert_to_tensor(value, exact, label, hint)
    except ValueError as error:
        if exact is None or not hasattr(value, "dtype"):
            raise ValueError(
                f"Tried to convert '{label}' to a tensor and failed. Error: {error}"
            ) from None
        return convert_to_tensor(value, None, label)


def same_dtype(values: Sequence[Any]) -> DType | None:
    """The dtype of the first tensor among ``values``, None where there is none."""
    for value in values:
        if isinstance(value, Tensor) or hasattr(type(value), "__tf_tensor__"):
            return value.dtype.base_dtype  # type: ignore[no-any-return]
    return None


def tensor_list(type_: str, label: str, values: Sequence[Any]) -> list[Tensor]:
    """A list input: tensors of one dtype, that of the first tensor among ``values``.

    Raises: TypeError where the dtypes differ.
    """
    dtype = same_dtype(values)
    found = []
    for i, value in enumerate(values):
        if not isinstance(value, Tensor):
            value = _list_element(value, dtype, f"{label}_{i}")
        found.append(value)
    kinds = [tensor.dtype.base_dtype for tensor in found]
    if any(kind is not kinds[0] for kind in kinds):
        raise TypeError(
            f"Tensors in list passed to '{label}' of '{type_}' Op have types "
            f"[{', '.join(kind.name for kind in kinds)}] that don't all match."
        )
    return found


def _list_element(value: Any, dtype: DType | None, label: str) -> Tensor:
    try:
        return convert_to_tensor(value, dtype, label)
    except ValueError:
        if dtype is None:
            raise
        return convert_to_tensor(value, None, label)


def shape_tensor(shape: Any, name: str = "shape") -> Tensor:
    """A shape as a tensor: from a tensor, a TensorShape, a list of sizes and scalar tensors."""
    dtype = None
    if isinstance(shape, (list, tuple)):
        dtype = None if shape else int32
        shape = [dimension_value(size) for size in shape]
    return convert_to_tensor(shape, dtype, name)


def constant_value(tensor: Any, partial: bool = False) -> np.ndarray[Any, Any] | None:
    """The value of a tensor where it is known while the graph is built, else None."""
    if not isinstance(tensor, Tensor):
        tensor = convert_to_tensor(tensor)
    known = tensor.graph.inference.static(tensor.abstract)
    return known  # type: ignore[no-any-return]


def static_shape(value: Any) -> TensorShape:
    """The static shape of a tensor or of what will become one."""
    return value.shape if isinstance(value, Tensor) else TensorShape(np.shape(value))
