"""From Python and NumPy values to the array of a constant, with TensorFlow 1's rules for dtypes.

Python numbers and lists of them become ``float32`` and ``int32`` (``int64`` where that is too
small) and do not convert to a dtype of another kind; NumPy values keep their dtype or are cast to
any other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from stepforge.frontend.dtypes import DType, as_dtype, float32, string
from stepforge.frontend.shapes import Dimension, TensorShape, as_shape
from stepforge.ir.types import Type, numpy_dtype

Array = np.ndarray[Any, Any]
_INT32 = (-(2**31), 2**31)
_ACCEPTS = {
    "b": "b",
    "i": "biu",
    "u": "biu",
    "f": "biuf",
    "c": "biufc",
}  # target kind -> source kinds
_SUPPORTED = "https://www.tensorflow.org/api_docs/python/tf/dtypes"


def literal(value: Any, dtype: DType | None = None) -> Array:
    """The array of a constant with ``value``: of ``dtype`` where that is given, else of the one
    that TensorFlow chooses; strings give an object array of ``bytes``.

    Raises: TypeError for what has no dtype or not the one asked for; ValueError for None and ragged
    lists.
    """
    if type(value) is float and (dtype is None or dtype is float32):
        with np.errstate(over="ignore"):
            return np.array(np.float32(value))
    if isinstance(value, (np.ndarray, np.generic)):
        return _from_numpy(value, dtype)
    if value is None:
        raise ValueError("None values not supported.")
    if isinstance(value, (str, bytes)):
        return _strings(np.array(value, dtype=object), value, dtype)
    if isinstance(value, (memoryview, bytearray)):
        return _from_numpy(np.asarray(value), dtype)
    return _from_python(value, dtype)


def _from_numpy(value: Any, dtype: DType | None) -> Array:
    array = np.asarray(value)
    source = as_dtype(array.dtype)  # raises for a dtype that there is no type for
    target = source if dtype is None else dtype.base_dtype
    if target is string:
        return _strings(np.array(array.astype(object)), value, dtype)
    if source is string:
        raise TypeError(f"Expected {target.name}, but got {value!r} of type 'str'.")
    with np.errstate(all="ignore"):
        return np.array(array, dtype=numpy_dtype(target.ir), order="C")


def _from_python(value: Any, dtype: DType | None) -> Array:
    value = _plain(value)
    array = np.asarray(value)
    if array.dtype.kind in "USO":
        return _from_objects(array, value, dtype)
    if dtype is None:
        return _narrowed(array)
    target = dtype.base_dtype
    if target is string or (array.size and not _fits(array, target)):
        raise _mismatch(value, target)
    with np.errstate(all="ignore"):
        return array.astype(numpy_dtype(target.ir))


def _plain(value: Any) -> Any:
    """Lists and numbers as NumPy takes them: ranges and known shapes become lists."""
    if isinstance(value, range):
        return list(value)
    if isinstance(value, TensorShape):
        return _known_shape(value)
    if isinstance(value, Dimension):
        return _known_size(value)
    if isinstance(value, (list, tuple)) and any(isinstance(v, Dimension) for v in value):
        return [_known_size(v) if isinstance(v, Dimension) else v for v in value]
    return value


def _known_shape(shape: TensorShape) -> list[int | None]:
    if not shape.is_fully_defined():
        raise ValueError(f"Cannot convert a partially known TensorShape {shape} to a Tensor.")
    return shape.as_list()


def _known_size(size: Dimension) -> int:
    if size.value is None:
        raise ValueError(f"Cannot convert an unknown Dimension {size} to a Tensor.")
    return size.value


def _narrowed(array: Array) -> Array:
    """The array in the dtype that TensorFlow gives to Python numbers."""
    if array.dtype == np.float64:
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    if array.dtype == np.int64:
        small = not array.size or (array.min() >= _INT32[0] and array.max() < _INT32[1])
        return array.astype(np.int32) if small else array
    as_dtype(array.dtype)
    return array


def _from_objects(array: Array, value: Any, dtype: DType | None) -> Array:
    objects = array if array.dtype == object else np.array(value, dtype=object)
    if objects.size and all(isinstance(leaf, (str, bytes)) for leaf in objects.flat):
        return _strings(objects, value, dtype)
    wide = dtype is not None and dtype.base_dtype.is_integer
    if wide and all(isinstance(leaf, int) for leaf in objects.flat):
        raise OverflowError("Python int too large to convert to C long")
    if dtype is not None:
        raise _mismatch(value, dtype.base_dtype)
    raise TypeError(
        f"Failed to convert elements of {value} to Tensor. Consider casting elements to a "
        f"supported type. See {_SUPPORTED} for supported TF dtypes."
    )


def _strings(objects: Array, value: Any, dtype: DType | None) -> Array:
    if dtype is not None and dtype.base_dtype is not string:
        raise _mismatch(value, dtype.base_dtype)
    out = np.empty(objects.shape, dtype=object)
    flat = out.reshape(-1)
    for index, leaf in enumerate(objects.flat):
        if not isinstance(leaf, (str, bytes)):
            raise TypeError(f"Expected binary or unicode string, got {leaf!r}")
        flat[index] = leaf.encode() if isinstance(leaf, str) else bytes(leaf)
    return out


def _fits(array: Array, target: DType) -> bool:
    return array.dtype.kind in _ACCEPTS.get(Type(target.ir).kind, "")


def _mismatch(value: Any, target: DType) -> TypeError:
    wrong = next((leaf for leaf in _leaves(value) if not _leaf_fits(leaf, target)), value)
    return TypeError(f"Expected {target.name}, but got {wrong} of type '{type(wrong).__name__}'.")


def _leaf_fits(leaf: Any, target: DType) -> bool:
    if target is string:
        return isinstance(leaf, (str, bytes))
    array = np.asarray(leaf)
    return array.dtype.kind not in "USO" and _fits(array, target)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for element in value:
            yield from _leaves(element)
    else:
        yield value


def filled(array: Array, shape: Any) -> Array:
    """The array laid out in ``shape``, its last element repeated to the end.

    Raises: ValueError where it has more elements than the shape.
    """
    sizes = as_shape(shape).as_list()
    wanted = tuple(n or 0 for n in sizes)
    if array.shape == wanted:
        return array
    count = math.prod(wanted)
    if array.size > count:
        raise ValueError(
            f"Too many elements provided. Takes at most {count}, but got {array.size}."
        )
    flat = array.reshape(-1)
    last = flat[-1] if flat.size else np.zeros((), array.dtype)[()]
    if flat.size <= 1:  # one value in memory, and one in a GraphDef
        return np.broadcast_to(np.array(last, array.dtype), wanted)
    tail = np.full(count - flat.size, last, dtype=array.dtype)
    return np.concatenate([flat, tail]).reshape(wanted)
