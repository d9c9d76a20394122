"""Attributes as ``AttrValue`` and back, one rule for each kind that TensorFlow has.

In the graph a dtype is the IR's name of it, a shape a tuple with None for a size that is not known
(or None for all of it), a tensor an array, text a ``str``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stepforge.frontend.dtypes import as_dtype, from_ir

Rule = Callable[[Any], Any]


# ---- writing -------------------------------------------------------------------------------------
def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def _number(name: str) -> int:
    return from_ir(name).as_datatype_enum


_WRITE: dict[str, tuple[str, Rule]] = {
    "string": ("s", _bytes),
    "int": ("i", int),
    "float": ("f", float),
    "bool": ("b", bool),
    "type": ("type", _number),
}  # kind -> the field of AttrValue, what converts to it


def write_attribute(message: Any, kind: str, value: Any) -> None:
    """Write ``value`` into an ``AttrValue``; tensors are written by ``fill_tensor``."""
    if kind.startswith("list("):
        message.list.SetInParent()
        kind = kind[5:-1]
        if kind == "shape":
            for shape in value:
                write_shape(message.list.shape.add(), shape)
        else:
            field, convert = _WRITE[kind]
            getattr(message.list, field).extend(map(convert, value))
    elif kind == "shape":
        write_shape(message.shape, value)
    else:
        field, convert = _WRITE[kind]
        setattr(message, field, convert(value))


def write_shape(message: Any, shape: Sequence[int | None] | None) -> None:
    """Write a shape into a ``TensorShapeProto``."""
    message.SetInParent()
    if shape is None:
        message.unknown_rank = True
        return
    for size in shape:
        message.dim.add(size=-1 if size is None else size)


def kind_of(value: Any) -> str:
    """The kind of an attribute that TensorFlow declares nowhere."""
    if isinstance(value, (list, tuple)):
        return f"list({kind_of(value[0])})" if value else "list(int)"
    kinds = {bool: "bool", int: "int", float: "float"}
    return kinds.get(type(value), "string")


# ---- reading -------------------------------------------------------------------------------------
def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _dtype(number: int) -> str:
    try:
        return as_dtype(number).base_dtype.ir
    except TypeError:
        raise ValueError(f"stepforge has no values of {_dtype_name(number)}") from None


def _dtype_name(number: int) -> str:
    try:
        return f"dtype {as_dtype(number).name}"
    except TypeError:
        return f"dtype number {number}"


def _shape(message: Any) -> tuple[int | None, ...] | None:
    if message.unknown_rank:
        return None
    sizes = tuple(dim.size for dim in message.dim)
    if any(size < -1 for size in sizes):
        raise ValueError(f"Shape {list(sizes)} has dimensions under -1")
    return tuple(None if size == -1 else size for size in sizes)


_READ: dict[str, tuple[str, Rule]] = {
    "s": ("string", _text),
    "i": ("int", int),
    "f": ("float", float),
    "b": ("bool", bool),
    "type": ("type", _dtype),
    "shape": ("shape", _shape),
    "tensor": ("tensor", lambda message: message),
    "func": ("func", lambda message: message.name),
    "placeholder": ("placeholder", str),
}  # the field of AttrValue -> kind, what converts from it


def read_attribute(message: Any, wanted: str = "") -> Any:
    """The value of an ``AttrValue``; a tensor stays a message, for ``read_tensor``.

    Raises: ValueError where it is not of the kind ``wanted``.
    """
    field = message.WhichOneof("value")
    if field is None:
        expected = f" when '{wanted}' expected" if wanted else ""
        raise ValueError(f"AttrValue had no value{expected}")
    if field == "list":
        return _read_list(message.list, wanted)
    kind, convert = _READ[field]
    if wanted and kind != wanted:
        raise ValueError(f"AttrValue had value with type '{kind}' when '{wanted}' expected")
    return convert(getattr(message, field))


def _read_list(message: Any, wanted: str) -> list[Any]:
    filled = [(found.name, values) for found, values in message.ListFields()]
    if not filled:
        if wanted and not wanted.startswith("list("):
            raise ValueError(f"AttrValue had value with type 'list' when '{wanted}' expected")
        return []
    field, values = filled[0]
    kind, convert = _READ[field]
    if wanted and (f"list({kind})" != wanted or len(filled) > 1):
        raise ValueError(f"AttrValue had value with type 'list({kind})' when '{wanted}' expected")
    return [convert(value) for value in values]
