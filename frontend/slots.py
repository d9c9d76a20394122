"""Slots: variables that an optimizer or a moving average keeps beside another variable.

A slot is called ``<variable>/<name>``; that name is made unique as a variable scope's default name
is.
"""

from __future__ import annotations

from typing import Any

from stepforge.frontend import api
from stepforge.frontend.initializers import Zeros
from stepforge.frontend.operation import Tensor
from stepforge.frontend.scopes import colocate_with
from stepforge.frontend.variable_scope import get_variable, get_variable_scope, variable_scope


def create_slot(primary: Any, val: Any, name: str, colocate_with_primary: bool = True) -> Any:
    """A slot of ``primary`` that begins with the tensor ``val``."""
    settings = {"initializer": val, "validate_shape": val.shape.is_fully_defined()}
    return _slot(primary, name, settings, colocate_with_primary)


def create_slot_with_initializer(
    primary: Any,
    initializer: Any,
    shape: Any,
    dtype: Any,
    name: str,
    colocate_with_primary: bool = True,
) -> Any:
    """A slot of ``primary`` that begins with what an initializer gives."""
    settings = {"initializer": initializer, "shape": shape, "dtype": dtype}
    return _slot(primary, name, settings, colocate_with_primary)


def create_zeros_slot(
    primary: Any, name: str, dtype: Any = None, colocate_with_primary: bool = True
) -> Any:
    """A slot of ``primary`` that begins with zeros."""
    dtype = (primary.dtype if dtype is None else dtype).base_dtype
    shape = primary.get_shape()
    if shape.is_fully_defined():
        return create_slot_with_initializer(
            primary, Zeros(), shape, dtype, name, colocate_with_primary
        )
    value = primary if isinstance(primary, Tensor) else primary.initialized_value()
    zeros = api.zeros(api.shape(value), dtype=dtype)
    return create_slot(primary, zeros, name, colocate_with_primary)


def _slot(primary: Any, name: str, settings: dict[str, Any], colocate: bool) -> Any:
    resource = getattr(primary, "handle", None) is not None
    with variable_scope(None, f"{primary.op.name}/{name}"):
        get_variable_scope().set_partitioner(None)
        if not colocate:
            return get_variable("", trainable=False, use_resource=resource, **settings)
        with colocate_with(primary.op):
            return get_variable("", trainable=False, use_resource=resource, **settings)
