"""Prints the IR: one line for each operation, in time linear in the size of the function.

``%r = name(operands, attr=value) : types`` and regions ``label |%a: t| { ... }``; the parser reads
it back. Values keep the names that the user gave them, made unique by ``_1``; the others are
numbered.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from stepforge.ir.builder import same
from stepforge.ir.core import (
    Block,
    Function,
    Global,
    Module,
    Operand,
    Operation,
    Site,
    Symbol,
    Value,
)
from stepforge.ir.dims import Expr
from stepforge.ir.types import NUMERIC, ListType, Type, numpy_dtype

LARGEST_LIST = 64  # elements of a constant that are written out; more of them become base64
RANDOM_TYPE = Type("resource")  # of the global that a random stream is, where nothing else is said
_PLAIN = re.compile(r"[\w./-]+")
_NOT_PLAIN = re.compile(r"[^\w./-]")


def print_function(function: Function, *, sites: bool = False) -> str:
    """The text of a function behind its globals; ``sites`` adds where the user made each op."""
    return "\n".join(Listing(function, sites=sites).lines) + "\n"


def print_module(module: Module, *, sites: bool = False) -> str:
    """The text of all functions, each preceded by its own globals."""
    return "\n".join(print_function(function, sites=sites) for function in module.functions)


def print_operation(op: Operation) -> str:
    """The text of one operation, its regions included; operands show their names only."""
    listing = Listing()
    listing.operation(op, "")
    return "\n".join(listing.lines)


class Listing:
    """The lines of a printed function, and the index of the line on which each operation begins.

    ``names`` are those of values that have one already, with their ``%``; whoever gives some sees
    to it that they are unique, and gives all.
    """

    def __init__(
        self,
        function: Function | None = None,
        *,
        sites: bool = False,
        names: Mapping[Value, str] | None = None,
    ) -> None:
        self.lines: list[str] = []
        self.line_of: dict[Operation, int] = {}
        self.names: dict[Value, str] = dict(names or {})
        self._sites = sites
        self._used: dict[str, int] = {}  # name -> the last suffix tried to make it unique
        self._numbered = 0
        if function is not None:
            self._function(function)

    def name(self, value: Value) -> str:
        """The name under which ``value`` prints, given when it is first asked for."""
        name = self.names.get(value)
        if name is None:
            name = self.names[value] = "%" + self._unique(value.name)
        return name

    def _unique(self, wanted: str) -> str:
        if not wanted:
            self._numbered += 1
            return str(self._numbered - 1)
        name = wanted if _PLAIN.fullmatch(wanted) else _NOT_PLAIN.sub("_", wanted)
        if name.isdigit():
            name = f"_{name}"  # bare numbers are for values without a name
        if name not in self._used:
            self._used[name] = 0
            return name
        suffix = self._used[name] + 1
        while f"{name}_{suffix}" in self._used:
            suffix += 1
        self._used[name] = suffix
        self._used[f"{name}_{suffix}"] = 0
        return f"{name}_{suffix}"

    def operand(self, operand: Operand) -> str:
        """An operand as it stands in an argument list."""
        if isinstance(operand, Value):
            return self.name(operand)
        if isinstance(operand, Symbol):
            return symbol_text(operand.name)
        text = element_text(operand.value, operand.type.dtype)
        return text if operand.type.dtype in ("bool", "index") else f"{text}: {operand.type}"

    def _function(self, function: Function) -> None:
        self.lines += [global_text(name, entry) for name, entry in function.globals.items()]
        params = ", ".join([f"{self.name(p)}: {p.type}" for p in function.params])
        results = ""
        if function.body.ops and function.body.terminator.defn.terminator and function.results:
            results = f" -> {listed(function.result_types)}"
        self.lines.append(f"func {symbol_text(function.name)}({params}){results} {{")
        self._block(function.body, "  ")
        self.lines.append("}")

    def _block(self, block: Block, indent: str) -> None:
        for op in block.ops:
            self.operation(op, indent)

    def operation(self, op: Operation, indent: str) -> None:
        """Add the lines of ``op``, indented by ``indent``."""
        self.line_of[op] = len(self.lines)
        defaults = op.defn.defaults
        arguments = [self.operand(o) for o in op.operands]
        if op.attrs:
            arguments += [
                f"{name}={literal_text(value)}"
                for name, value in op.attrs.items()
                if name not in defaults or not same(value, defaults[name])
            ]
        line = f"{indent}{op.name}({', '.join(arguments)})"
        if op.results:
            names = ", ".join([self.name(r) for r in op.results])
            line = (
                f"{indent}{names} = {line[len(indent) :]} : {listed([r.type for r in op.results])}"
            )
        if op.regions:
            self._regions(op, line, indent)
        else:
            self.lines.append(line + self._site(op.site))

    def _regions(self, op: Operation, line: str, indent: str) -> None:
        labels = op.defn.region_names
        for i, region in enumerate(op.regions):
            label = f" {labels[i]}" if i < len(labels) and labels[i] else ""
            params = ", ".join([f"{self.name(p)}: {p.type}" for p in region.params])
            line += label + (f" |{params}|" if params else "") + " {"
            self.lines.append(line + (self._site(op.site) if i == 0 else ""))
            self._block(region, indent + "  ")
            line = indent + "}"
        self.lines.append(line)

    def _site(self, site: Site | None) -> str:
        if site is None or not self._sites:
            return ""
        place = f" {site.file}:{site.line}" if site.file else ""
        return f"  // '{site.node}'{place}".replace("\n", " ")


def listed(types: Iterable[Any]) -> str:
    """Types between commas."""
    return ", ".join(map(str, types))


def symbol_text(name: str) -> str:
    """``@name``, quoted where it is not made of letters, digits and ``_ . / -``."""
    return f"@{name}" if _PLAIN.fullmatch(name) else f"@{json.dumps(name)}"


def global_text(name: str, entry: Global) -> str:
    """The declaration of a global, on one line."""
    text = f"{entry.kind} {symbol_text(name)}"
    if entry.kind != "random" or entry.type != RANDOM_TYPE:
        text += f": {entry.type}"
    return text if entry.data is None else f"{text} = {array_text(entry.data, entry.type.dtype)}"


def array_text(data: np.ndarray[Any, Any], dtype: str) -> str:
    """The elements of a constant: nested lists, or base64 of little-endian bytes where large."""
    if data.size <= LARGEST_LIST or dtype not in NUMERIC:
        return _nested(data.tolist(), data.ndim, dtype)
    swapped = data.astype(data.dtype.newbyteorder("<"), copy=False)
    return f'base64"{base64.b64encode(np.ascontiguousarray(swapped).tobytes()).decode()}"'


def _nested(data: Any, rank: int, dtype: str) -> str:
    if rank == 0:
        return element_text(data, dtype)
    return f"[{', '.join([_nested(part, rank - 1, dtype) for part in data])}]"


def element_text(value: Any, dtype: str) -> str:
    """One element of type ``dtype``; floats in the fewest digits that read back the same."""
    kind = NUMERIC[dtype][1] if dtype in NUMERIC else ""
    if kind == "f":
        return float_text(float(value), dtype)
    if kind == "c":
        part = "f32" if dtype == "c64" else "f64"
        number = complex(value)
        imag = float_text(number.imag, part)
        sign = "" if imag.startswith("-") else "+"
        return f"({float_text(number.real, part)}{sign}{imag}j)"
    if kind == "b":
        return "true" if value else "false"
    if kind or dtype == "index":
        return str(int(value))
    return string_text(value)


def float_text(value: float, dtype: str = "f64") -> str:
    """``value``, rounded to ``dtype``, in the fewest digits that read back the same."""
    if dtype == "f64":
        return repr(value)
    with np.errstate(over="ignore"):
        text = str(numpy_dtype(dtype).type(value))
    return f"{text}.0" if text.lstrip("-").isdigit() else text


def string_text(value: str | bytes) -> str:
    """A quoted string, all ASCII; bytes that are not UTF-8 become lone surrogates."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    return json.dumps(str(value))


def literal_text(value: Any) -> str:
    """The value of an attribute. What is no literal prints as ``<...>``, which does not parse."""
    write = _LITERALS.get(type(value))
    return write(value) if write else f"<{type(value).__name__}: {value!r}>"


def _tuple_text(values: Iterable[Any]) -> str:
    return f"[{', '.join([literal_text(v) for v in values])}]"


_LITERALS: dict[type, Callable[[Any], str]] = {
    bool: lambda v: "true" if v else "false",
    int: str,
    float: repr,
    complex: lambda v: element_text(v, "c128"),
    str: string_text,
    type(None): lambda v: "none",
    tuple: _tuple_text,
    Expr: str,
    Type: str,
    ListType: str,
}
LITERAL_TYPES = tuple(_LITERALS)
