"""Reads the text of the IR back: modules, functions, types and dimension expressions.

A recursive descent over a list of tokens. Every mistake is an ``IRError`` that shows the line with
a caret and says what was expected. Result types are taken from the text; the verifier compares them
with what the ops infer. A function owns the globals declared right above it, and those declared
earlier that it uses.
"""

from __future__ import annotations

import base64
import json
import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Any

import numpy as np

import stepforge.ir.ops  # noqa: F401  (registers the ops that the text may name)
from stepforge.ir import dims
from stepforge.ir.builder import same
from stepforge.ir.core import (
    Block,
    Const,
    Function,
    Global,
    Module,
    Operand,
    Operation,
    Symbol,
    Value,
)
from stepforge.ir.dims import Dim
from stepforge.ir.errors import IRError
from stepforge.ir.opdef import REGISTRY, OpDef
from stepforge.ir.records import record
from stepforge.ir.text import RANDOM_TYPE, listed
from stepforge.ir.tokens import Tokens, near
from stepforge.ir.types import NUMERIC, OBJECTS, AnyType, ListType, Type, item_bytes, numpy_dtype

_DTYPES = (*NUMERIC, *OBJECTS, "index")
_KINDS = ("variable", "random", "constant")
_WORDS = {"true": True, "false": False, "none": None, "inf": float("inf"), "nan": float("nan")}
MOST_DIGITS = 400  # of an integer: no dtype has a tenth of that
LARGEST_NUMBER = 2**64
LARGEST_CONSTANT = 2**60  # elements, so that bytes can be counted in 63 bits
MOST_AXES = 32  # of an array in NumPy 1
RESERVED = frozenset((*_WORDS, *_DTYPES, "list"))  # words that cannot name a size


@record(frozen=True)
class Call:
    """An op applied to types and constants, as the ``cases`` of declarations are written.

    ``@f32[3]`` stands for a symbol of that type.
    """

    defn: OpDef
    operands: tuple[AnyType | Const | Symbol, ...]
    attrs: dict[str, Any] = field(default_factory=dict)


def parse_module(text: str) -> Module:
    """The functions in ``text``. Raises: IRError."""
    return _Parser(text).module()


def parse_function(text: str) -> Function:
    """The one function in ``text``. Raises: IRError, also where there are none or several."""
    functions = parse_module(text).functions
    if len(functions) != 1:
        raise IRError(f"one function was expected, the text has {len(functions)}")
    return functions[0]


def parse_type(text: str) -> AnyType:
    """A type such as ``f32[n, 784]``. Raises: IRError."""
    parser = _Parser(text)
    return parser.whole(parser.type)


def parse_dim(text: str) -> Dim:
    """A dimension expression such as ``28*28*n``. Raises: IRError."""
    parser = _Parser(text)
    return parser.whole(parser.dim)


def parse_call(text: str) -> Call:
    """A case such as ``matmul(f32[3, 4], f32[4, 5], transpose_a=true)``. Raises: IRError."""
    parser = _Parser(text)
    return parser.whole(parser.call)


class _Literals(Tokens):
    """Types, dimensions and literals: what needs no names of values."""

    def type(self) -> AnyType:
        if self.see("list"):
            self.mark("<")
            element = self.type()
            self.mark(">")
            if isinstance(element, ListType):
                raise self.error("a list holds tensors, not lists")
            return ListType(element)
        buffer = self.see("&")
        dtype = self.take("word", "a type")
        if dtype not in _DTYPES:
            raise self.error(f"unknown type '{dtype}'{near(dtype, _DTYPES)}", self.at - 1)
        if not self.see("["):
            return Type(dtype, (), buffer)
        if self.see("*"):
            self.mark("]")
            return Type(dtype, None, buffer)
        return Type(dtype, tuple(self.listed(self.dim, "]")), buffer)

    def dim(self) -> Dim:
        """A sum of products of numbers, names and applications."""
        at, total = self.at, self._product()
        while self.text in ("+", "-"):
            sign = 1 if self.text == "+" else -1
            self.at += 1
            total = self._sized(operator.add, total, self._product() * sign, at)
        return total

    def _product(self) -> Dim:
        at, total = self.at, self._factor()
        while self.see("*"):
            total = self._sized(operator.mul, total, self._factor(), at)
        return total

    def _sized(self, combine: Callable[[Dim, Dim], Dim], a: Dim, b: Dim, at: int) -> Dim:
        """What two dimensions combine to. Raises: IRError where that is out of all proportion."""
        try:
            made = combine(a, b)
        except dims.TooComplex as error:
            raise self.error(str(error), at) from None
        if any(abs(n) > LARGEST_NUMBER for n in dims.coefficients(made)):
            raise self.error(f"a number is at most {LARGEST_NUMBER}", at)
        return made

    def _factor(self) -> Dim:
        sign = 1
        while self.see("-"):
            sign = -sign
        return self._positive() * sign

    def _positive(self) -> Dim:
        if self.see("("):
            inner = self.dim()
            self.mark(")")
            return inner
        if self.kind == "int":
            return self._sized(operator.add, self.integer(), 0, self.at - 1)
        name = self.take("word", "a dimension")
        if self.text != "(" or self.kind != "mark":
            return dims.named(name)
        if name not in dims.APPLICATIONS:
            known = ", ".join(dims.APPLICATIONS)
            raise self.error(f"'{name}' is no function of dimensions ({known})", self.at - 1)
        self.at += 1
        args = self.listed(self.dim, ")")
        if len(args) != 2:
            raise self.error(f"{name} takes two dimensions, not {len(args)}", self.at - 1)
        try:
            return dims.apply(name, *args)
        except (ZeroDivisionError, ValueError) as error:
            raise self.error(str(error), self.at - 1) from None

    def integer(self) -> int:
        """A number without a sign."""
        digits = self.take("int", "a size")
        if len(digits) > MOST_DIGITS:
            raise self.error(f"a number of {len(digits)} digits", self.at - 1)
        return int(digits)

    def string(self) -> str:
        quoted = self.take("string", "a string")
        try:
            return str(json.loads(quoted))
        except json.JSONDecodeError:
            raise self.error("a wrong escape in a string", self.at - 1) from None

    def literal(self) -> Any:
        """The value of an attribute."""
        if self.kind == "string":
            return self.string()
        if self.see("["):
            return tuple(self.listed(self.literal, "]"))
        if self.kind == "word" and self.text in _WORDS:
            self.at += 1
            return _WORDS[self.texts[self.at - 1]]
        if self.text == "&" or (self.kind == "word" and self.text in (*_DTYPES, "list")):
            return self.type()
        if self._is_number() and not self._is_int():
            return self.number()
        return self.dim()

    def _is_number(self) -> bool:
        at = self.at + (self.texts[self.at] == "-")
        return self.kinds[at] in ("int", "float", "complex") or self.texts[at] in ("inf", "nan")

    def _is_int(self) -> bool:
        return self.kinds[self.at + (self.texts[self.at] == "-")] == "int"

    def number(self) -> int | float | complex:
        """A signed number, an ``int`` where it is written without a point."""
        sign = -1 if self.see("-") else 1
        text, kind = self.text, self.kind
        if kind == "int":
            return sign * self.integer()
        self.at += 1
        if kind == "complex" and sign == 1:
            return complex(text)
        if kind == "float" or text in ("inf", "nan"):
            return sign * float(text)
        self.at -= 1
        raise self.expected("a number")

    def element(self, dtype: str) -> Any:
        """One element of a constant of type ``dtype``."""
        if dtype in OBJECTS:
            return self.string().encode("utf-8", "surrogateescape")
        at = self.at
        if self.text in ("true", "false"):
            self.at += 1
            return self.fitted(self.texts[at] == "true", dtype, at)
        return self.fitted(self.number(), dtype, at)

    def fitted(self, value: bool | int | float | complex, dtype: str, at: int) -> Any:
        """``value`` as what a constant of ``dtype`` holds: a Python number of its precision."""
        kind = NUMERIC[dtype][1] if dtype in NUMERIC else "x"
        if isinstance(value, bool) or kind == "b":
            if isinstance(value, bool) and kind == "b":
                return value
        elif kind in "fc" and (kind == "c" or not isinstance(value, complex)):
            with np.errstate(over="ignore"):
                return (complex if kind == "c" else float)(numpy_dtype(dtype).type(value))
        elif isinstance(value, int):
            bounds = np.iinfo(numpy_dtype(dtype))
            if bounds.min <= value <= bounds.max:
                return value
        raise self.error(f"this is no value of type {dtype}", at)


class _Parser(_Literals):
    """Functions: what has names of values and symbols."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.declared: dict[str, Global] = {}  # everything declared so far
        self.globals: dict[str, Global] = {}  # of the function that is being read
        self.values: dict[str, Value] = {}

    def module(self) -> Module:
        functions = []
        while self.kind != "end":
            self.globals = {}
            while self.text in _KINDS:
                self._global()
            functions.append(self._function())
        return Module(tuple(functions))

    def _global(self) -> None:
        kind = self.take("word", "a global")
        name = self._symbol_name()
        if name in self.globals:
            raise self.error(f"@{name} is already declared", self.at - 1)
        if kind == "random" and self.text != ":":
            type_ = RANDOM_TYPE
        else:
            self.mark(":")
            type_ = self._tensor_type()
        data = None
        if kind == "constant":
            self.mark("=")
            data = self._array(type_)
        self.globals[name] = self.declared[name] = Global(kind, type_, data)

    def _tensor_type(self) -> Type:
        at, type_ = self.at, self.type()
        if isinstance(type_, ListType):
            raise self.error("a global is a tensor, not a list", at)
        return type_

    def _array(self, type_: Type) -> np.ndarray[Any, Any]:
        at, dtype = self.at, numpy_dtype(type_.dtype)
        shape = tuple([d for d in type_.shape or () if isinstance(d, int)])
        if type_.shape is None or len(shape) != len(type_.shape):
            raise self.error(f"a constant needs a static shape, {type_} has none", at)
        if len(shape) > MOST_AXES or math.prod(n for n in shape if n) > LARGEST_CONSTANT:
            raise self.error(f"{type_} is too large for a constant", at)
        if self.see("base64"):
            data = self._base64()
            if type_.dtype not in NUMERIC or len(data) != math.prod(shape) * item_bytes(
                type_.dtype
            ):
                raise self.error(f"{len(data)} bytes are no {type_}", at)
            return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype).reshape(shape)
        elements: list[Any] = []
        self._nested(type_.dtype, shape, elements)
        array = np.empty(len(elements), dtype)
        array[:] = elements
        return array.reshape(shape)

    def _base64(self) -> bytes:
        at = self.at
        try:
            return base64.b64decode(self.string(), validate=True)
        except ValueError as error:  # also what is no ASCII
            raise self.error(f"this is no base64: {error}", at) from None

    def _nested(self, dtype: str, shape: tuple[int, ...], elements: list[Any]) -> None:
        if not shape:
            elements.append(self.element(dtype))
            return
        at = self.at
        self.mark("[")
        rows = self.listed(lambda: self._nested(dtype, shape[1:], elements), "]")
        if len(rows) != shape[0]:
            raise self.error(f"a list of {shape[0]} was expected, this has {len(rows)}", at)

    def _symbol_name(self) -> str:
        text = self.take("symbol", "a symbol such as @w")[1:]
        return str(json.loads(text)) if text.startswith('"') else text

    def _function(self) -> Function:
        if not self.see("func"):
            raise self.expected("'func' or a global")
        name = self._symbol_name()
        self.values = {}
        self.mark("(")
        params = self.listed(self._parameter, ")")
        at = self.at
        results = self.series(self.type) if self.see("->") else []
        body = self._block(params)
        function = Function(name, body, self.globals)
        ends = (
            bool(body.ops) and body.terminator.defn.terminator
        )  # if not, the verifier will say so
        given = list(function.result_types) if ends else results
        if given != results:
            raise self.error(
                f"@{name} declares the results ({listed(results)}) but returns ({listed(given)})",
                at,
            )
        return function

    def _parameter(self) -> Value:
        at = self.at
        name = self.take("value", "a parameter such as %x")
        self.mark(":")
        return self._define(name, self.type(), at)

    def _define(self, name: str, type_: AnyType, at: int) -> Value:
        if name in self.values:
            raise self.error(f"{name} is already defined", at)
        value = self.values[name] = Value(type_, "" if name[1:].isdigit() else name[1:])
        return value

    def _block(self, params: Iterable[Value]) -> Block:
        """The ops between braces; what they define is forgotten behind them."""
        outside = len(self.values)
        self.mark("{")
        ops = []
        while not self.see("}"):
            ops.append(self._operation())
        while len(self.values) > outside:
            self.values.popitem()
        return Block(tuple(params), tuple(ops))

    def _operation(self) -> Operation:
        at, names = self.at, []
        if self.kind == "value":
            names = self.series(lambda: self.take("value", "a name such as %y"))
            self.mark("=")
        defn = self._defn()
        self.mark("(")
        operands: list[Operand] = []
        attrs: dict[str, Any] = {}
        self.listed(lambda: self._argument(defn, operands, attrs), ")")
        types = self.series(self.type) if self.see(":") else []
        if len(types) != len(names):
            raise self.error(f"{defn.name} names {len(names)} results but {len(types)} types", at)
        regions = self._regions(defn)
        results = tuple(
            [
                self._define(n, t, at + 2 * i)
                for i, (n, t) in enumerate(zip(names, types, strict=True))
            ]
        )
        return Operation(defn, tuple(operands), attrs, results, regions)

    def _defn(self) -> OpDef:
        name = self.take("word", "an operation")
        defn = REGISTRY.get(name)
        if defn is None:
            raise self.error(f"unknown operation '{name}'{near(name, REGISTRY)}", self.at - 1)
        return defn

    def _argument(self, defn: OpDef, operands: list[Operand], attrs: dict[str, Any]) -> None:
        if self.kind == "word" and self.texts[self.at + 1] == "=":
            self._attribute(defn, attrs)
        else:
            operands.append(self._operand())

    def _attribute(self, defn: OpDef, attrs: dict[str, Any]) -> None:
        at, name = self.at, self.text
        if name not in defn.defaults:
            known = f"; it has {', '.join(defn.defaults)}" if defn.defaults else ""
            raise self.error(f"{defn.name} has no attribute '{name}'{known}", at)
        if name in attrs:
            raise self.error(f"the attribute '{name}' is given twice", at)
        self.at += 2
        value = self.literal()
        if not same(value, defn.defaults[name]):
            attrs[name] = value

    def _operand(self) -> Operand:
        if self.kind == "value":
            value = self.values.get(self.text)
            if value is None:
                raise self.error(f"{self.text} is not defined here{near(self.text, self.values)}")
            self.at += 1
            return value
        return self._symbol() if self.kind == "symbol" else self._constant()

    def _symbol(self) -> Symbol:
        name = self._symbol_name()
        entry = self.declared.get(name)
        if entry is None:
            raise self.error(
                f"@{name} is not declared: write 'variable @{name}: <type>' above the function"
                + near(name, self.declared),
                self.at - 1,
            )
        self.globals.setdefault(name, entry)
        return Symbol(name, entry.type)

    def _constant(self) -> Const:
        at = self.at
        if self.text in ("true", "false"):
            self.at += 1
            dtype = "bool"
        elif self._is_number():
            self.number()
            dtype = "index"
        else:
            raise self.expected("an operand or attribute")
        if self.see(":"):
            dtype = self.take("word", "the type of the constant")
            if dtype not in _DTYPES:
                raise self.error(f"unknown type '{dtype}'{near(dtype, _DTYPES)}", self.at - 1)
        after, self.at = self.at, at
        value = self.element(dtype)
        self.at = after
        return Const(Type(dtype), value)

    def _regions(self, defn: OpDef) -> tuple[Block, ...]:
        regions: list[Block] = []
        while self.text in ("|", "{") or self._label(defn):
            outside = len(self.values)
            params = self.listed(self._parameter, "|") if self.see("|") else []
            regions.append(self._block(params))
            while len(self.values) > outside:
                self.values.popitem()
        return tuple(regions)

    def _label(self, defn: OpDef) -> bool:
        """Move past the label of a region, which the block or its parameters follow."""
        found = self.text in defn.region_names and self.texts[self.at + 1] in ("|", "{")
        self.at += found
        return found

    def call(self) -> Call:
        """An op applied to types and constants."""
        defn = self._defn()
        operands: list[AnyType | Const | Symbol] = []
        attrs: dict[str, Any] = {}

        def argument() -> None:
            if self.kind == "word" and self.texts[self.at + 1] == "=":
                self._attribute(defn, attrs)
            elif self._is_number() or self.text in ("true", "false"):
                operands.append(self._constant())
            elif self.kind == "symbol":
                self.kinds[self.at], self.texts[self.at] = "word", self.text[1:]
                operands.append(Symbol(f"s{len(operands)}", self._tensor_type()))
            else:
                operands.append(self.type())

        self.mark("(")
        self.listed(argument, ")")
        return Call(defn, tuple(operands), attrs)
