"""From the text of ``graph.proto`` to the descriptor that protobuf makes message classes of.

What protoc would do, for the part of the language that the file uses. So there is no generated
code, and nobody who installs or changes stepforge needs protoc.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Any

_TOKEN = re.compile(r"\w[\w.]*|[{}<>=;,]|\"[^\"]*\"|//[^\n]*|\s+")
_OPTIONAL, _REPEATED = 1, 3  # FieldDescriptorProto.Label
_SCALARS = {
    **{"double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5},
    **{"bool": 8, "string": 9, "bytes": 12, "uint32": 13},
}  # FieldDescriptorProto.Type
_MESSAGE, _ENUM = 11, 14


def file_descriptor(text: str, name: str) -> Any:
    """The ``FileDescriptorProto`` of a proto3 file. Raises: SyntaxError for other text."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    found = FileDescriptorProto(name=name, syntax="proto3")
    reader = _Reader(text, found)
    try:
        reader.read_file()
    except IndexError:
        raise SyntaxError(f"{name} ends too early") from None
    reader.resolve_types()
    return found


class _Reader:
    """Takes tokens from the front and fills in the descriptor as it goes."""

    def __init__(self, text: str, file: Any) -> None:
        parts = _TOKEN.findall(text)
        if sum(map(len, parts)) != len(text):
            raise SyntaxError(f"{file.name} has characters that belong to no token")
        tokens = (part for part in parts if part.strip() and part[:2] != "//")
        self._tokens: deque[str] = deque(tokens)
        self._file = file
        self._kinds: dict[str, int] = {}  # full name -> message or enum
        self._references: list[tuple[Any, str, str]] = []  # field, scope, type as it is written

    def _next(self) -> str:
        return self._tokens.popleft()

    def _expect(self, *wanted: str) -> None:
        for token in wanted:
            found = self._next()
            if found != token:
                raise SyntaxError(f"expected {token!r} in {self._file.name}, found {found!r}")

    def read_file(self) -> None:
        """All messages and enums; fields get their types in the second step."""
        self._expect("syntax", "=", '"proto3"', ";", "package")
        package = self._file.package = self._next()
        self._expect(";")
        while self._tokens:
            kind, name = self._next(), self._next()
            if kind == "message":
                self._message(self._file.message_type.add(name=name), f"{package}.{name}")
            elif kind == "enum":
                self._enum(self._file.enum_type.add(name=name), f"{package}.{name}")
            else:
                raise SyntaxError(f"{self._file.name} has {kind!r} where a message should begin")

    def _enum(self, enum: Any, full_name: str) -> None:
        self._kinds[full_name] = _ENUM
        self._expect("{")
        while (name := self._next()) != "}":
            self._expect("=")
            enum.value.add(name=name, number=int(self._next()))
            self._expect(";")

    def _message(self, message: Any, full_name: str) -> None:
        self._kinds[full_name] = _MESSAGE
        self._expect("{")
        while (token := self._next()) != "}":
            if token == "message":
                name = self._next()
                self._message(message.nested_type.add(name=name), f"{full_name}.{name}")
            elif token == "oneof":
                self._oneof(message, full_name)
            elif token == "map":
                self._map(message, full_name)
            elif token == "repeated":
                self._field(message, full_name, self._next(), _REPEATED)
            else:
                self._field(message, full_name, token)

    def _oneof(self, message: Any, full_name: str) -> None:
        message.oneof_decl.add(name=self._next())
        self._expect("{")
        while (token := self._next()) != "}":
            field = self._field(message, full_name, token)
            field.oneof_index = len(message.oneof_decl) - 1

    def _map(self, message: Any, full_name: str) -> None:
        self._expect("<")
        key = self._next()
        self._expect(",")
        value = self._next()
        self._expect(">")
        entry = message.nested_type.add(name=_entry_name(self._tokens[0]))
        entry.options.map_entry = True
        entry_name = f"{full_name}.{entry.name}"
        self._kinds[entry_name] = _MESSAGE
        for number, (name, kind) in enumerate((("key", key), ("value", value)), 1):
            field = entry.field.add(name=name, number=number, label=_OPTIONAL)
            self._references.append((field, entry_name, kind))
        self._field(message, full_name, entry.name, _REPEATED)

    def _field(self, message: Any, full_name: str, kind: str, label: int = _OPTIONAL) -> Any:
        field = message.field.add(name=self._next(), label=label)
        self._expect("=")
        field.number = int(self._next())
        self._expect(";")
        self._references.append((field, full_name, kind))
        return field

    def resolve_types(self) -> None:
        """Give every field its type: a name is looked up in the scopes around it."""
        for field, scope, kind in self._references:
            if kind in _SCALARS:
                field.type = _SCALARS[kind]
                continue
            while scope and f"{scope}.{kind}" not in self._kinds:
                scope = scope.rpartition(".")[0]
            if not scope:
                raise SyntaxError(f"{self._file.name} has no type {kind!r}")
            field.type_name = f".{scope}.{kind}"
            field.type = self._kinds[f"{scope}.{kind}"]


def _entry_name(field: str) -> str:
    """``attr_name`` -> ``AttrNameEntry``, which is how protobuf wants to find a map's entries."""
    return "".join(part.capitalize() for part in field.split("_")) + "Entry"
