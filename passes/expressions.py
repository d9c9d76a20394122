"""Functions of one expression, for rules and their tests: ``reshape(reshape(x, shape=[4*n]),
shape=[2*n, 2])``.

Operands are calls, numbers and the names of parameters; attributes are given by keyword, and names
in them are sizes. A number has the dtype of the first operand of its call that is none, or that of
the first parameter.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from stepforge.ir.builder import Builder
from stepforge.ir.core import Const, Function, Operand, Value
from stepforge.ir.dims import Dim, apply, named
from stepforge.ir.parser import parse_type
from stepforge.ir.types import Type

_WORDS = {"true": True, "false": False, "none": None}


def function_of(text: str, types: Mapping[str, str]) -> Function:
    """The function that returns the value of ``text`` for parameters of ``types``.

    Raises: what the ops' inference raises; ValueError for what is no expression.
    """
    params = {name: Value(parse_type(type_), name) for name, type_ in types.items()}
    reader = _Reader(params)
    result = reader.operand(ast.parse(text, mode="eval").body)
    reader.build.emit("return", result)
    return reader.build.function("f", params.values())


class _Reader:
    def __init__(self, params: Mapping[str, Value]) -> None:
        self.params = params
        self.build = Builder()

    def operand(self, node: ast.expr) -> Operand:
        """Emit what computes an operand."""
        if isinstance(node, ast.Name) and node.id in self.params:
            return self.params[node.id]
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            raise ValueError(f"{ast.unparse(node)} is no operand")
        numbers = [(i, _number(arg)) for i, arg in enumerate(node.args)]
        made = {i: self.operand(node.args[i]) for i, number in numbers if number is None}
        like = next(iter(made.values()), None) or next(iter(self.params.values()))
        for i, number in numbers:
            if number is not None:
                dtype = "bool" if isinstance(number, bool) else like.type.dtype
                made[i] = Const(Type(dtype), number)
        attrs = {k.arg: _literal(k.value) for k in node.keywords if k.arg}
        operands = [made[i] for i in range(len(made))]
        result: Operand = self.build.emit(node.func.id, *operands, **attrs)
        return result


def _number(node: ast.expr) -> bool | int | float | None:
    """The number that an operand is, None where it is none."""
    if isinstance(node, ast.Name):
        return _WORDS.get(node.id)
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if isinstance(value, (bool, int, float)) else None


def _literal(node: ast.expr) -> Any:
    """An attribute: numbers, words, texts, lists, and dimension expressions."""
    if isinstance(node, ast.List):
        return tuple([_literal(each) for each in node.elts])
    if isinstance(node, ast.Name):
        return _WORDS[node.id] if node.id in _WORDS else named(node.id)
    if isinstance(node, ast.BinOp):
        return _dimension(node.op, _literal(node.left), _literal(node.right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return apply(node.func.id, *[_literal(arg) for arg in node.args])
    return ast.literal_eval(node)


def _dimension(op: ast.operator, left: Dim, right: Dim) -> Dim:
    if isinstance(op, ast.Add):
        return left + right
    return left - right if isinstance(op, ast.Sub) else left * right
