"""From whatever a program passes to a function to a tensor: constants, lists, variables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from stepforge.frontend import dtypes
from stepforge.frontend.dtypes import DType, as_dtype
from stepforge.frontend.graph import create_op, get_default_graph
from stepforge.frontend.indexed_slices import IndexedSlices
from stepforge.frontend.literals import filled, literal
from stepforge.frontend.operation import Operation, Tensor
from stepforge.frontend.scopes import name_scope
from stepforge.frontend.shapes import Dimension, TensorShape, as_shape

Conversion = Callable[..., Any]
_conversions: dict[int, list[tuple[tuple[type, ...], Conversion]]] = {}  # priority -> registered
_DIRECT = (float, int, bool, str, bytes, np.ndarray, np.generic)


def constant(
    value: Any,
    dtype: Any = None,
    shape: Any = None,
    name: str = "Const",
    verify_shape: bool = False,
) -> Tensor:
    """A constant tensor. Python numbers become float32 and int32 (int64 where that is too small).

    ``shape`` fills the tensor up with the last element, or with ``verify_shape`` must be the
    value's own.
    Raises: TypeError where the value has not ``dtype``, ValueError for None or too many elements.
    """
    wanted = None if dtype is None else as_dtype(dtype)
    sizes = None if shape is None else tuple(as_shape(shape).as_list())
    array = _empty(wanted, sizes) if sizes and 0 in sizes else literal(value, wanted)
    if sizes is not None:
        if verify_shape and array.shape != sizes:
            raise TypeError(f"Expected Tensor's shape: {sizes}, but got {array.shape}.")
        array = filled(array, sizes)
    return constant_of_array(array, name)


def _empty(dtype: DType | None, sizes: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    return np.zeros(sizes, (dtype or dtypes.float32).as_numpy_dtype)


def constant_of_array(array: np.ndarray[Any, Any], name: str | None) -> Tensor:
    """A constant with the contents of ``array``, which from here on belongs to the graph."""
    attrs = {"value": array, "dtype": as_dtype(array.dtype).ir}
    return get_default_graph().create_op("Const", (), attrs, name).outputs[0]


def convert_to_tensor(
    value: Any,
    dtype: Any = None,
    name: str | None = None,
    preferred_dtype: Any = None,
    dtype_hint: Any = None,
    as_ref: bool = False,
) -> Tensor:
    """``value`` as a tensor: a tensor itself, a variable's value, a list packed, a constant.

    ``preferred_dtype`` (or ``dtype_hint``) is tried first where ``dtype`` is None.
    Raises: TypeError for what does not convert, ValueError for None or a tensor of another dtype.
    """
    wanted = None if dtype is None else as_dtype(dtype)
    if isinstance(value, Tensor):
        return _checked(value, wanted)
    hint = preferred_dtype if preferred_dtype is not None else dtype_hint
    if wanted is None and hint is not None:
        preferred = _try_preferred(value, as_dtype(hint), name)
        if preferred is not None:
            return preferred
    return _convert(value, wanted, name)


def _checked(tensor: Tensor, wanted: DType | None) -> Tensor:
    if wanted is not None and not wanted.is_compatible_with(tensor.dtype):
        raise ValueError(
            f"Tensor conversion requested dtype {wanted.name} for Tensor with dtype "
            f"{tensor.dtype.name}: {tensor!r}"
        )
    return tensor


def _try_preferred(value: Any, preferred: DType, name: str | None) -> Tensor | None:
    try:
        return _convert(value, preferred, name)
    except (TypeError, ValueError):
        return None


def _convert(value: Any, dtype: DType | None, name: str | None) -> Tensor:
    if isinstance(value, _DIRECT):
        return constant_of_array(literal(value, dtype), name)
    if _conversions:
        registered = _registered(value, dtype, name)
        if registered is not None:
            return registered
    own = getattr(type(value), "__tf_tensor__", None)
    if own is not None:
        return own(value, dtype, name)  # type: ignore[no-any-return]
    if isinstance(value, (list, tuple)):
        packed = _autopacked(value, dtype, name)
        if packed is not None:
            return packed
    if isinstance(value, (TensorShape, Dimension)):
        return _of_shape(value, dtype, name)
    if isinstance(value, IndexedSlices):
        return _of_slices(value, dtype, name)
    if isinstance(value, Operation):
        raise TypeError(f"can't convert Operation '{value.name}' to Tensor")
    return constant_of_array(literal(value, dtype), name)


def _of_shape(value: Any, dtype: DType | None, name: str | None) -> Tensor:
    if dtype is not None and dtype not in (dtypes.int32, dtypes.int64):
        raise TypeError(f"Cannot convert a TensorShape to dtype: {dtype.name}")
    array = literal(value, dtype or dtypes.int32)
    return constant_of_array(array, name or "shape_as_tensor")


def _of_slices(value: IndexedSlices, dtype: DType | None, name: str | None) -> Tensor:
    from stepforge.frontend import api

    if dtype is not None and not dtype.is_compatible_with(value.dtype):
        raise ValueError(
            f"Tensor conversion requested dtype {dtype.name} for IndexedSlices with dtype "
            f"{value.dtype.name}"
        )
    if value.dense_shape is None:
        raise ValueError(
            "Tensor conversion requested for IndexedSlices for argument without dense_shape"
        )
    rows = value.dense_shape[0]  # type: ignore[index]
    return api.unsorted_segment_sum(  # type: ignore[no-any-return]
        value.values, value.indices, rows, name=name
    )


# ---- lists that hold tensors ---------------------------------------------------------------------
def _holds_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or hasattr(type(value), "__tf_tensor__")


def _autopacked(value: Any, dtype: DType | None, name: str | None) -> Tensor | None:
    """``Pack`` of a (nested) list with a tensor somewhere in it; None where there is none."""
    found = _first_dtype(value)
    if found is None:
        return None
    if dtype is not None and dtype != found:
        value = _cast_elements(value, dtype)
        found = dtype
    packed = _pack(value, found, name or "packed")
    assert isinstance(packed, Tensor)
    return packed


def _first_dtype(value: Any) -> DType | None:
    for element in value:
        if _holds_tensor(element):
            return element.dtype.base_dtype  # type: ignore[no-any-return]
        if isinstance(element, (list, tuple)):
            found = _first_dtype(element)
            if found is not None:
                return found
    return None


def _cast_elements(value: Any, dtype: DType) -> Any:
    from stepforge.frontend import api

    if isinstance(value, (list, tuple)):
        return [_cast_elements(element, dtype) for element in value]
    if _holds_tensor(value) and value.dtype.base_dtype != dtype:
        return api.cast(value, dtype)
    return value


def _pack(value: Any, dtype: DType, name: str) -> Any:
    with name_scope(name) as scope:
        elements = [
            _pack(element, dtype, str(i)) if isinstance(element, (list, tuple)) else element
            for i, element in enumerate(value)
        ]
        if not any(map(_holds_tensor, elements)):
            return elements
        tensors = [_element(element, dtype, str(i)) for i, element in enumerate(elements)]
        return create_op("Pack", tensors, {"axis": 0}, scope).outputs[0]


def _element(element: Any, dtype: DType, name: str) -> Tensor:
    if not _holds_tensor(element):
        return constant(element, dtype, name=name)
    if element.dtype.base_dtype != dtype:
        raise TypeError(
            f"Cannot convert a list containing a tensor of dtype {element.dtype} to {dtype} "
            f"(Tensor is: {element!r})"
        )
    return convert_to_tensor(element)


# ---- conversions that programs register ----------------------------------------------------------
def register_tensor_conversion_function(
    base_type: type | tuple[type, ...], conversion_func: Conversion, priority: int = 100
) -> None:
    """Let values of ``base_type`` convert by ``conversion_func(value, dtype, name, as_ref)``.

    A function of lower ``priority`` goes first; one that returns NotImplemented leaves it to the
    next.
    Raises: TypeError where the arguments are no types or no function.
    """
    types = base_type if isinstance(base_type, tuple) else (base_type,)
    if not all(isinstance(t, type) for t in types):
        raise TypeError(
            f"Argument `base_type` must be a type or a tuple of types. Obtained: {base_type}"
        )
    if not callable(conversion_func):
        raise TypeError(f"Argument `conversion_func` must be callable. Received {conversion_func}.")
    _conversions.setdefault(priority, []).append((types, conversion_func))


def _registered(value: Any, dtype: DType | None, name: str | None) -> Tensor | None:
    for priority in sorted(_conversions):
        for types, convert in _conversions[priority]:
            if isinstance(value, types):
                found = convert(value, dtype=dtype, name=name, as_ref=False)
                if found is not NotImplemented:
                    return _converted(found, value, dtype, name, convert)
    return None


def _converted(
    found: Any, value: Any, dtype: DType | None, name: str | None, convert: Conversion
) -> Tensor:
    prefix = f"{name}: " if name else ""
    if not isinstance(found, Tensor):
        raise RuntimeError(
            f"{prefix}Conversion function {convert!r} for type {type(value)} returned non-Tensor: "
            f"{found!r}"
        )
    if dtype is not None and not dtype.is_compatible_with(found.dtype):
        raise RuntimeError(
            f"{prefix}Conversion function {convert!r} for type {type(value)} returned incompatible "
            f"dtype: requested = {dtype.base_dtype.name}, actual = {found.dtype.base_dtype.name}"
        )
    return found


# ---- tensors or slices ---------------------------------------------------------------------------
def convert_to_tensor_or_indexed_slices(
    value: Any, dtype: Any = None, name: str | None = None
) -> Tensor | IndexedSlices:
    """``value`` as a tensor, unless it is an ``IndexedSlices`` of that dtype.

    Raises: as ``convert_to_tensor`` does.
    """
    if not isinstance(value, IndexedSlices):
        return convert_to_tensor(value, dtype, name)
    if dtype is not None and not as_dtype(dtype).is_compatible_with(value.dtype):
        raise ValueError(
            f"Tensor conversion requested dtype {as_dtype(dtype).name} for Tensor with dtype "
            f"{value.dtype.name}: {value}"
        )
    return value


def convert_n_to_tensor(
    values: Iterable[Any], dtype: Any = None, name: str | None = None
) -> list[Tensor]:
    """Each of ``values`` as a tensor; names are ``name_0``, ``name_1`` ..."""
    return [
        convert_to_tensor(value, dtype, None if name is None else f"{name}_{i}")
        for i, value in enumerate(values)
    ]
