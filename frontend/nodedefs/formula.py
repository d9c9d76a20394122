"""What node declarations are written with: operands with Python's operators, and shapes of gradient
rules.

``dy * (1 - y * y)`` says what ``TanhGrad`` is; the same through ``emit`` takes three calls and
hides it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stepforge.frontend.nodedefs.base import GradientRule, NodeDef, define_node


class Term:
    """An operand on its way through a formula. Python numbers take the dtype of the other side."""

    __slots__ = ("operand", "x")

    def __init__(self, x: Any, operand: Any) -> None:
        self.x = x
        self.operand = operand

    def fn(self, op: str, *others: Any, **attrs: Any) -> Term:
        """The IR op ``op`` of this term and further ones."""
        operands = [self._lift(other) for other in others]
        return Term(self.x, self.x.emit(op, self.operand, *operands, **attrs))

    def _lift(self, other: Any) -> Any:
        if isinstance(other, Term):
            return other.operand
        return self.x.const(other, self.operand.type.dtype)

    def _from(self, other: Any, op: str) -> Term:
        return Term(self.x, self.x.emit(op, self._lift(other), self.operand))

    def __add__(self, other: Any) -> Term:
        return self.fn("add", other)

    def __radd__(self, other: Any) -> Term:
        return self._from(other, "add")

    def __sub__(self, other: Any) -> Term:
        return self.fn("sub", other)

    def __rsub__(self, other: Any) -> Term:
        return self._from(other, "sub")

    def __mul__(self, other: Any) -> Term:
        return self.fn("mul", other)

    def __rmul__(self, other: Any) -> Term:
        return self._from(other, "mul")

    def __truediv__(self, other: Any) -> Term:
        return self.fn("div", other)

    def __rtruediv__(self, other: Any) -> Term:
        return self._from(other, "div")

    def __neg__(self) -> Term:
        return self.fn("neg")

    def __lt__(self, other: Any) -> Term:
        return self.fn("less", other)

    def __gt__(self, other: Any) -> Term:
        return self.fn("greater", other)

    def __and__(self, other: Any) -> Term:
        return self.fn("logical_and", other)

    def equals(self, other: Any) -> Term:
        """Elementwise equality (``==`` is left to Python)."""
        return self.fn("equal", other)

    def conj(self) -> Term:
        """The complex conjugate; a real term is its own."""
        return self.fn("conj") if self.operand.type.kind == "c" else self

    def choose(self, yes: Any, no: Any) -> Term:
        """``yes`` where this condition holds, else ``no``; one of them must be a term."""
        model = yes if isinstance(yes, Term) else no
        return Term(self.x, self.x.emit("select", self.operand, model._lift(yes), model._lift(no)))


def terms(x: Any, *operands: Any) -> list[Term]:
    """The operands of a rule as terms."""
    return [Term(x, operand) for operand in operands]


def define_formula(
    type_: str,
    inputs: Sequence[str],
    formula: Callable[..., Term],
    gradient: GradientRule | None = None,
    doc: str = "",
) -> None:
    """Declare a node whose single output is ``formula`` of its inputs.

    ``gradient(tf, op, *grads)`` has no ``self``; without it the node has no gradient.
    """

    def extract(self: NodeDef, x: Any, node: Any, *operands: Any) -> Any:
        return formula(*terms(x, *operands)).operand

    members: dict[str, Any] = {
        "__doc__": doc or f"A formula of {', '.join(inputs)}.",
        "__module__": __name__,
        "inputs": tuple(inputs),
        "extract": extract,
        "no_gradient": gradient is None,
    }
    if gradient is not None:
        rule = gradient
        members["gradient"] = lambda self, tf, op, *grads: rule(tf, op, *grads)
    define_node(type(type_, (NodeDef,), members))


def of_input(rule: GradientRule) -> GradientRule:
    """The gradient of a function of one tensor from ``rule(tf, x, y, dy)``.

    For complex tensors ``x`` and ``y`` are conjugates, as TensorFlow's gradients want them.
    """

    def gradient(tf: Any, op: Any, dy: Any) -> list[Any]:
        return [rule(tf, tf.conj(op.inputs[0]), tf.conj(op.outputs[0]), dy)]

    return gradient


def of_pair(rule: GradientRule) -> GradientRule:
    """The gradients of a broadcasting function of two tensors from ``rule(tf, x, y, z, dz)``.

    What broadcasting repeated is summed up again. Complex tensors come conjugated.
    """

    def gradient(tf: Any, op: Any, dz: Any) -> list[Any]:
        x, y = op.inputs
        found = rule(tf, tf.conj(x), tf.conj(y), tf.conj(op.outputs[0]), dz)
        return [
            None if slope is None else tf.sum_to(slope, source)
            for slope, source in zip(found, (x, y), strict=True)
        ]

    return gradient
