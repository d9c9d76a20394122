"""How API functions make one node: arguments become tensors of one dtype inside the node's own
scope.

A Python number beside a tensor becomes a constant called after the parameter (``Mul/y``), of the
tensor's dtype. Where all arguments are tensors already, which is nearly always, nothing of that is
needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stepforge.frontend.convert import convert_to_tensor
from stepforge.frontend.dtypes import DType, int32
from stepforge.frontend.graph import create_op
from stepforge.frontend.nodedefs.base import lookup_node
from stepforge.frontend.operation import Operation, Tensor
from stepforge.frontend.scopes import name_scope


def call(
    type_: str,
    values: Sequence[Any],
    attrs: dict[str, Any] | None = None,
    name: str | None = None,
) -> Tensor:
    """The first output of a node of ``type_`` whose inputs all have the dtype of the first one.

    Raises: TypeError where they have not.
    """
    return call_op(type_, values, attrs, name).outputs[0]


def call_op(
    type_: str,
    values: Sequence[Any],
    attrs: dict[str, Any] | None = None,
    name: str | None = None,
) -> Operation:
    """As ``call``, the node itself."""
    dtype: Any = None
    for value in values:
        if not isinstance(value, Tensor):
            return _converted(type_, values, attrs, name)
        if dtype is None:
            dtype = value.dtype
        elif value.dtype is not dtype and value.dtype.base_dtype is not dtype.base_dtype:
            return _converted(type_, values, attrs, name)  # which raises, in the right words
    return create_op(type_, values, attrs, name)


def _converted(
    type_: str, values: Sequence[Any], attrs: dict[str, Any] | None, name: str | None
) -> Operation:
    labels = [label.lstrip("*") for label in lookup_node(type_).inputs]
    with name_scope(name, type_, [v for v in values if isinstance(v, Tensor)]) as scope:
        tensors: list[Tensor] = []
        dtype = None
        for label, value in zip(labels, values, strict=True):
            tensors.append(argument(type_, label, value, dtype, labels[0]))
            dtype = tensors[0].dtype.base_dtype
        return create_op(type_, tensors, attrs, scope)


def argument(
    type_: str, label: str, value: Any, dtype: DType | None, first: str = "x"
) -> Tensor:
    """The argument ``label`` of a node as a tensor, of ``dtype`` where that is given.

    Raises: TypeError where it has another dtype, that of the argument ``first``.
    """
    if isinstance(value, Tensor):
        tensor = value
    else:
        try:
            return convert_to_tensor(value, dtype, label)
        except ValueError:
            if dtype is None:
                raise
            tensor = convert_to_tensor(value, None, label)
    found = tensor.dtype.base_dtype
    if dtype is not None and found is not dtype:
        raise TypeError(
            f"Input '{label}' of '{type_}' Op has type {found.name} that does not match type "
            f"{dtype.name} of argument '{first}'."
        )
    return tensor


def integer_argument(type_: str, label: str, value: Any) -> Tensor:
    """An argument that counts or chooses axes: int32 or int64.

    Raises: TypeError for another dtype.
    """
    if isinstance(value, Tensor):
        tensor = value
    else:
        empty = isinstance(value, (list, tuple)) and not value
        tensor = convert_to_tensor(value, int32 if empty else None, label)
    if tensor.dtype.base_dtype.name not in ("int32", "int64"):
        raise TypeError(
            f"Value passed to parameter '{label}' has DataType {tensor.dtype.name} not in list of "
            f"allowed values: int32, int64 (of {type_})"
        )
    return tensor


def renamed(new: str, value: Any, old: str, old_value: Any) -> Any:
    """The argument of the two spellings that was given. Raises: ValueError where both were."""
    if old_value is None:
        return value
    if value is not None:
        raise ValueError(f"Cannot specify both '{old}' and '{new}'.")
    return old_value


def unary(name: str, type_: str, doc: str) -> Callable[..., Tensor]:
    """The function ``name(x, name=None)`` that makes a node of ``type_``."""

    def function(x: Any, name: str | None = None) -> Tensor:
        return call(type_, (x,), None, name)

    return named(function, name, f"{doc} Makes a node of type ``{type_}``.")


def binary(name: str, type_: str, doc: str) -> Callable[..., Tensor]:
    """The function ``name(x, y, name=None)`` that makes a node of ``type_``; x and y broadcast."""

    def function(x: Any, y: Any, name: str | None = None) -> Tensor:
        return call(type_, (x, y), None, name)

    return named(function, name, f"{doc} Makes a node of type ``{type_}``.")


def named(function: Callable[..., Tensor], name: str, doc: str) -> Callable[..., Tensor]:
    """A function from a table, with a name and a docstring of its own."""
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function
