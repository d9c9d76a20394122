"""Python's operators on tensors: ``x + 1`` makes a node ``add`` with a constant ``add/y``.

The function forms (``tf.add``, node ``Add``) are in the modules by theme; what differs is names of
scopes and what becomes of an operand that is no tensor. Importing this module defines the
operators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepforge.frontend import comparison_ops, elementwise_ops, linalg_ops
from stepforge.frontend.convert import convert_to_tensor
from stepforge.frontend.dtypes import bool_
from stepforge.frontend.graph import create_op
from stepforge.frontend.node_calls import call
from stepforge.frontend.operation import Tensor
from stepforge.frontend.scopes import name_scope

# A rule makes the node(s) of an operator in the scope of that name, which ends in "/".
Rule = Callable[[Any, Any, str], Tensor]


def _add(x: Tensor, y: Any, scope: str) -> Tensor:
    if not isinstance(y, Tensor):
        y = convert_to_tensor(y, dtype_hint=x.dtype.base_dtype, name="y")
    return call("AddV2", (x, y), None, scope)


def _node(type_: str) -> Rule:
    return lambda x, y, scope: call(type_, (x, y), None, scope)


def _by_dtype(of_bools: Callable[..., Tensor], of_integers: str) -> Rule:
    """A logical operator on bools, a bitwise one on integers."""

    def rule(x: Tensor, y: Any, scope: str) -> Tensor:
        if x.dtype.base_dtype is bool_:
            return of_bools(x, y, scope)
        return call(of_integers, (x, y))

    return rule


# operator -> (node type where two tensors of one dtype need no scope, rule for all other operands)
OPERATORS: dict[str, tuple[str | None, Rule]] = {
    "add": ("AddV2", _add),
    "sub": ("Sub", _node("Sub")),
    "mul": ("Mul", _node("Mul")),
    "truediv": (None, elementwise_ops.truediv),
    "div": (None, elementwise_ops.div),
    "floordiv": ("FloorDiv", _node("FloorDiv")),
    "mod": ("FloorMod", _node("FloorMod")),
    "pow": ("Pow", _node("Pow")),
    "matmul": (None, lambda x, y, scope: linalg_ops.matmul(x, y, name=scope)),
    "and": (None, _by_dtype(comparison_ops.logical_and, "BitwiseAnd")),
    "or": (None, _by_dtype(comparison_ops.logical_or, "BitwiseOr")),
    "xor": (None, _by_dtype(comparison_ops.logical_xor, "BitwiseXor")),
}
COMPARISONS = {
    "lt": comparison_ops.less,
    "le": comparison_ops.less_equal,
    "gt": comparison_ops.greater,
    "ge": comparison_ops.greater_equal,
}


def _forward(name: str, type_: str | None, rule: Rule) -> Callable[[Tensor, Any], Any]:
    def operator(x: Tensor, y: Any) -> Any:
        if type_ is not None and isinstance(y, Tensor) and x.dtype is y.dtype:
            return create_op(type_, (x, y), None, name).outputs[0]
        try:
            with name_scope(None, name, [x, y]) as scope:
                return rule(x, y, scope)
        except (TypeError, ValueError):
            result = _by_other(x, y, name)
            if result is NotImplemented:
                raise
            return result

    return operator


def _by_other(x: Tensor, y: Any, name: str) -> Any:
    """What an operand that knows tensors makes of the operator; NotImplemented for all others."""
    knows_tensors = type(y).__module__.partition(".")[0] not in ("builtins", "numpy")
    reflected = getattr(type(y), f"__r{name}__", None) if knows_tensors else None
    if reflected is None or isinstance(y, Tensor):
        return NotImplemented
    try:
        return reflected(y, x)
    except (TypeError, ValueError):
        return NotImplemented


def _reflected(name: str, rule: Rule) -> Callable[[Tensor, Any], Any]:
    def operator(y: Tensor, x: Any) -> Any:
        with name_scope(None, name, [x, y]) as scope:
            return rule(convert_to_tensor(x, y.dtype.base_dtype, "x"), y, scope)

    return operator


def _invert(x: Tensor) -> Tensor:
    return create_op("LogicalNot" if x.dtype.base_dtype is bool_ else "Invert", (x,)).outputs[0]


def define_operators() -> None:
    """Give ``Tensor`` its operators."""
    for name, (type_, rule) in OPERATORS.items():
        Tensor.overload(f"__{name}__", _forward(name, type_, rule))
        Tensor.overload(f"__r{name}__", _reflected(name, rule))
    for name, function in COMPARISONS.items():
        Tensor.overload(f"__{name}__", _comparison(function))
    Tensor.overload("__neg__", lambda x: create_op("Neg", (x,)).outputs[0])
    Tensor.overload("__abs__", lambda x: elementwise_ops.abs(x))
    Tensor.overload("__invert__", _invert)


def _comparison(function: Callable[..., Tensor]) -> Callable[[Tensor, Any], Tensor]:
    return lambda x, y: function(x, y)


define_operators()
