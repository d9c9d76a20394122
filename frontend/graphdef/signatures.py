"""What TensorFlow declares of each op: the dtypes of inputs and outputs, attributes and defaults.

Our nodes keep no attribute that their inputs make plain (``T``, ``N``, ``Tidx``), a GraphDef holds
them all. ``implied_attributes`` finds them; ``count_inputs`` and ``input_dtypes`` go the other way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

from stepforge.frontend.dtypes import DType, as_dtype, from_ir
from stepforge.ir.records import record

NO_DEFAULT: Final = object()


@record(frozen=True)
class Argument:
    """An input or output: ``dtype`` is a dtype or the attribute that holds one.

    ``number`` is the attribute that counts a list of tensors of one dtype; with ``is_list`` the
    attribute ``dtype`` holds a list of dtypes.
    """

    dtype: str
    number: str = ""
    is_list: bool = False
    is_reference: bool = False

    @property
    def is_variadic(self) -> bool:
        """True where the argument is any number of tensors."""
        return self.is_list or bool(self.number)


@record(frozen=True)
class Attribute:
    """An attribute: ``kind`` as in ``list(int)``; ``default`` may be ``NO_DEFAULT``."""

    name: str
    kind: str
    default: Any = NO_DEFAULT


@record(frozen=True)
class Signature:
    """What TensorFlow declares of an op."""

    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]
    attributes: Mapping[str, Attribute]


@lru_cache(maxsize=1)
def _lines() -> dict[str, str]:
    text = Path(__file__).with_name("signatures.txt").read_text(encoding="utf-8")
    lines = (line.partition(": ") for line in text.splitlines() if line[:1] != "#")
    return {name: rest for name, _, rest in lines}


@cache
def signature(type_: str) -> Signature | None:
    """The signature of an op, None for a node type that TensorFlow does not have."""
    line = _lines().get(type_)
    if line is None:
        return None
    arguments, *declared = line.split("; ")
    inputs, _, outputs = (_arguments(part) for part in arguments.partition("->"))
    attributes = {a.name: a for a in map(_attribute, declared)}
    for argument in (*inputs, *outputs):
        for attribute in _implied(argument):
            attributes.setdefault(attribute.name, attribute)
    return Signature(inputs, outputs, attributes)


def _arguments(text: str) -> tuple[Argument, ...]:
    return tuple(_argument(part.strip()) for part in text.split(",") if part.strip(" ->"))


def _argument(text: str) -> Argument:
    if text[0] == "*":
        return Argument(text[1:], is_list=True)
    number, _, dtype = text.rpartition("*")
    return Argument(dtype.lstrip("&"), number, is_reference=text[0] == "&")


def _attribute(text: str) -> Attribute:
    name, _, rest = text.partition(": ")
    kind, given, default = rest.partition(" = ")
    value = json.loads(default) if given else NO_DEFAULT
    return Attribute(name, kind, as_dtype(value).ir if given and kind == "type" else value)


def _implied(argument: Argument) -> Iterator[Attribute]:
    """The attributes that an argument tells."""
    if argument.number:
        yield Attribute(argument.number, "int")
    if not _is_dtype(argument.dtype):
        yield Attribute(argument.dtype, "list(type)" if argument.is_list else "type")


def _is_dtype(name: str) -> bool:
    """True for the name of a dtype; ``U`` is NumPy's name of one, and here an attribute."""
    try:
        as_dtype(name)
    except TypeError:
        return False
    return name.islower()


# ---- from tensors to attributes ------------------------------------------------------------------
def implied_attributes(
    found: Signature, inputs: Sequence[DType], outputs: Sequence[DType]
) -> dict[str, Any]:
    """The attributes that dtypes and numbers of inputs and outputs tell, in the graph's form."""
    attributes: dict[str, Any] = {}
    for arguments, dtypes in ((found.inputs, inputs), (found.outputs, outputs)):
        for argument, group in _groups(arguments, dtypes):
            names = [dtype.base_dtype.ir for dtype in group]
            if argument.number:
                attributes.setdefault(argument.number, len(names))
            if argument.is_list:
                attributes.setdefault(argument.dtype, tuple(names))
            elif names and argument.dtype in found.attributes:
                attributes.setdefault(argument.dtype, names[0])
    return attributes


def _groups(
    arguments: Sequence[Argument], dtypes: Sequence[DType]
) -> Iterator[tuple[Argument, Sequence[DType]]]:
    """The tensors of each argument; several lists in one signature are of the same length."""
    variadic = sum(argument.is_variadic for argument in arguments)
    length = (len(dtypes) - len(arguments) + variadic) // variadic if variadic else 0
    start = 0
    for argument in arguments:
        stop = start + (length if argument.is_variadic else 1)
        yield argument, dtypes[start:stop]
        start = stop


# ---- from attributes to tensors ------------------------------------------------------------------
def count_inputs(found: Signature, attributes: Mapping[str, Any]) -> int:
    """How many inputs a node with these attributes has."""
    return sum(_length(argument, attributes) for argument in found.inputs)


def count_outputs(found: Signature, attributes: Mapping[str, Any]) -> int:
    """How many outputs a node with these attributes has."""
    return sum(_length(argument, attributes) for argument in found.outputs)


def _length(argument: Argument, attributes: Mapping[str, Any]) -> int:
    if argument.is_list:
        return len(attributes[argument.dtype])
    return int(attributes[argument.number]) if argument.number else 1


def input_dtypes(found: Signature, attributes: Mapping[str, Any]) -> list[DType]:
    """The dtype of every input of a node with these attributes, references as such."""
    expected: list[DType] = []
    for argument in found.inputs:
        if argument.is_list:
            expected += map(from_ir, attributes[argument.dtype])
            continue
        name = attributes.get(argument.dtype)
        dtype = as_dtype(argument.dtype) if name is None else from_ir(name)
        dtype = dtype.as_ref() if argument.is_reference else dtype
        expected += [dtype] * _length(argument, attributes)
    return expected


def is_implied(found: Signature, name: str) -> bool:
    """True where inputs and outputs tell the attribute ``name``."""
    arguments = (*found.inputs, *found.outputs)
    return any(name in (argument.dtype, argument.number) for argument in arguments)
