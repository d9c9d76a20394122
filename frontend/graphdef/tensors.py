"""Constants as ``TensorProto`` and back.

Files come from anywhere: what a tensor says of its size is compared with the bytes that it brings,
and one value that stands for a whole tensor stays one value in memory until a step needs it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepforge.frontend.dtypes import DType, as_dtype, from_ir
from stepforge.ir.types import numpy_dtype

Array = np.ndarray[Any, Any]
MAX_BYTES = 2**31  # of all tensors of a GraphDef: no file is larger than that
MAX_RANK = 32  # of an array in NumPy 1
_POINTER = 8  # bytes that a string takes at least

# dtype -> the field of single values
_FIELDS = {
    **{"float32": "float_val", "float64": "double_val", "int64": "int64_val", "bool": "bool_val"},
    **dict.fromkeys(("int32", "uint8", "int16", "int8", "uint16"), "int_val"),
    **dict.fromkeys(("float16", "bfloat16"), "half_val"),
    **{"complex64": "scomplex_val", "complex128": "dcomplex_val", "string": "string_val"},
    **{"uint32": "uint32_val", "uint64": "uint64_val"},
}


# dtypes that TensorFlow writes as bytes
_PACKED = frozenset(_FIELDS) - {"string", "bool", "bfloat16", "uint16", "complex64", "complex128"}


def fill_tensor(message: Any, array: Array, dtype: str) -> None:
    """Write ``array``, of the IR's ``dtype``, into a ``TensorProto``.

    As TensorFlow does: several numbers as bytes; as values one number, one that fills the whole
    tensor, strings, and some dtypes.
    """
    kind = from_ir(dtype)
    message.dtype = kind.as_datatype_enum
    message.tensor_shape.SetInParent()
    for size in array.shape:
        message.tensor_shape.dim.add(size=size)
    values = array[(slice(1),) * array.ndim] if _repeats(array) else array
    if values.size > 1 and kind.name in _PACKED:
        message.tensor_content = values.tobytes()
    else:
        _fill_values(message, values.reshape(-1), kind)


def _repeats(array: Array) -> bool:
    """True where one element in memory is all elements."""
    return array.size > 1 and not any(array.strides)


def _encoded(element: Any) -> bytes:
    return element.encode() if isinstance(element, str) else bytes(element)


def _fill_values(message: Any, values: Array, dtype: DType) -> None:
    field = getattr(message, _FIELDS[dtype.name])
    if dtype.name == "string":
        field.extend(map(_encoded, values))
    elif dtype.is_complex:
        field.extend(np.stack([values.real, values.imag], axis=1).reshape(-1).tolist())
    elif _FIELDS[dtype.name] == "half_val":
        field.extend(np.ascontiguousarray(values).view(np.uint16).tolist())
    else:
        field.extend(values.tolist())


def read_tensor(message: Any, room: int = MAX_BYTES) -> Array:
    """The array of a ``TensorProto``. It may be read-only, with one value in memory for all.

    Raises: ValueError for a dtype without values, a shape that is not known, more or fewer bytes
    than the shape takes, and a tensor that takes more than ``room`` bytes.
    """
    dtype = _dtype(message)
    shape = _shape(message, dtype, room)
    if message.tensor_content:
        return _from_content(message.tensor_content, dtype, shape)
    values = _values(message, dtype)
    count = math.prod(shape)
    if not len(values):
        values = np.full(1, b"" if values.dtype == object else 0, values.dtype)
    if count > 1 and len(values) == 1:
        return np.broadcast_to(values.reshape(()), shape)
    if len(values) < count:
        values = np.concatenate([values, np.repeat(values[-1:], count - len(values))])
    return values[:count].reshape(shape)


def _dtype(message: Any) -> DType:
    try:
        dtype = as_dtype(message.dtype)
    except TypeError:
        dtype = None
    if dtype is None or dtype.name not in _FIELDS:
        name = dtype.name if dtype is not None else message.dtype
        raise ValueError(f"Cannot parse tensor from proto: dtype {name} is not supported")
    return dtype


def _shape(message: Any, dtype: DType, room: int) -> tuple[int, ...]:
    if message.tensor_shape.unknown_rank:
        raise ValueError("Cannot parse tensor from proto: the rank of its shape is unknown")
    shape = tuple(dim.size for dim in message.tensor_shape.dim)
    if any(size < 0 for size in shape):
        raise ValueError(f"Shape {list(shape)} is not fully defined")
    if len(shape) > MAX_RANK:
        raise ValueError(f"Cannot parse tensor from proto: rank {len(shape)} is over {MAX_RANK}")
    needed = math.prod(size for size in shape if size) * (dtype.size or _POINTER)
    if needed > room:
        raise ValueError(
            f"Cannot parse tensor from proto: shape {list(shape)} takes {needed} bytes, and the "
            f"constants of a GraphDef at most {MAX_BYTES} together"
        )
    return shape


def _from_content(content: bytes, dtype: DType, shape: tuple[int, ...]) -> Array:
    if dtype.name == "string":
        raise ValueError("Cannot parse tensor from proto: strings as tensor_content")
    needed = math.prod(shape) * dtype.size
    if len(content) != needed:
        raise ValueError(
            f"Cannot parse tensor from proto: shape {list(shape)} of {dtype.name} takes {needed} "
            f"bytes, tensor_content has {len(content)}"
        )
    array: Array = np.frombuffer(content, numpy_dtype(dtype.ir)).copy()
    return array.reshape(shape)


def _values(message: Any, dtype: DType) -> Array:
    field = getattr(message, _FIELDS[dtype.name])
    plain = numpy_dtype(dtype.ir)
    if dtype.name == "string":
        array = np.empty(len(field), object)
        array[:] = list(field)
        return array
    if dtype.is_complex:
        if len(field) % 2:
            raise ValueError("Cannot parse tensor from proto: a complex number has two parts")
        return np.array(field, dtype.real_dtype.as_numpy_dtype).view(plain)
    if _FIELDS[dtype.name] == "half_val":
        return np.array(field, np.int64).astype(np.uint16).view(plain)
    return np.array(field, np.int64 if dtype.is_integer and dtype.size < 4 else None).astype(plain)
