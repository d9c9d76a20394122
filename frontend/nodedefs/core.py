"""Node types that make values or pass them on: constants, placeholders, checks, Python calls."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, ClassVar

from stepforge.frontend.extract.extractor import InferenceExtractor
from stepforge.frontend.nodedefs.base import REQUIRED, NodeDef, define_node, function_of
from stepforge.ir import dims
from stepforge.ir.core import Value
from stepforge.ir.types import Type


def declared_type(x: Any, node: Any) -> Type:
    """The type that ``dtype`` and ``shape`` attributes declare; unknown sizes get fresh names."""
    shape = node.attrs["shape"]
    if shape is not None:
        shape = tuple(dims.named(x.fresh("d")) if n is None else n for n in shape)
    return Type(node.attrs["dtype"], shape)


@define_node
class Const(NodeDef):
    """A constant: ``value`` is a NumPy array, an object array of bytes for strings."""

    attrs: ClassVar[dict[str, Any]] = {"value": REQUIRED, "dtype": REQUIRED}
    no_gradient = True

    def extract(self, x: Any, node: Any) -> Any:
        """The array as a constant operand."""
        return x.const(node.attrs["value"], node.attrs["dtype"])


@define_node
class Placeholder(NodeDef):
    """A value that must be fed."""

    attrs: ClassVar[dict[str, Any]] = {"dtype": REQUIRED, "shape": None}
    no_gradient = True
    stateful = True

    def extract(self, x: Any, node: Any) -> Any:
        """Reached only where the placeholder was not fed."""
        return x.placeholder(node, declared_type(x, node))


@define_node
class PlaceholderWithDefault(NodeDef):
    """A value that may be fed, else ``input``; ``shape`` may say less than the default's own."""

    inputs = ("input",)
    attrs: ClassVar[dict[str, Any]] = {"dtype": REQUIRED, "shape": None}

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """The default itself; while a graph is built, what a feed may be as well."""
        return Value(declared_type(x, node)) if isinstance(x, InferenceExtractor) else value

    def gradient(self, tf: Any, op: Any, dz: Any) -> Any:
        """Straight through to the default."""
        return [dz]


@define_node
class Identity(NodeDef):
    """A tensor with the same value under a name of its own."""

    inputs = ("input",)

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """The operand."""
        return value

    def gradient(self, tf: Any, op: Any, dz: Any) -> Any:
        """Straight through."""
        return [dz]


@define_node
class IdentityN(NodeDef):
    """Several tensors with the same values under a name of their own."""

    inputs = ("*input",)

    def output_count(self, node: Any) -> int:
        """One output for each input."""
        return len(node.inputs)

    def extract(self, x: Any, node: Any, *values: Any) -> Any:
        """The operands."""
        return values

    def gradient(self, tf: Any, op: Any, *grads: Any) -> Any:
        """Straight through."""
        return list(grads)


@define_node
class StopGradient(NodeDef):
    """The same value, with no gradient to where it comes from."""

    inputs = ("input",)
    no_gradient = True

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """The operand."""
        return value


@define_node
class PreventGradient(NodeDef):
    """The same value; asking for a gradient through it is an error that says ``message``."""

    inputs = ("input",)
    attrs: ClassVar[dict[str, Any]] = {"message": ""}

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """The operand."""
        return value

    def gradient(self, tf: Any, op: Any, dz: Any) -> Any:
        """Raises: LookupError."""
        raise LookupError(f"Gradient explicitly disabled. Reason: {op.attrs['message']!r}.")


@define_node
class NoOp(NodeDef):
    """Does nothing but wait for its control inputs."""

    outputs = 0
    no_gradient = True

    def extract(self, x: Any, node: Any) -> None:
        """Nothing."""


@define_node
class CheckNumerics(NodeDef):
    """The same value; NaN or an infinity in it is an error that says ``message``."""

    inputs = ("tensor",)
    attrs: ClassVar[dict[str, Any]] = {"message": ""}
    stateful = True

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """The operand behind two checks; NaN is reported first."""
        axes = tuple(range(len(x.shape(value))))
        for op, problem in (("is_nan", "NaN"), ("is_inf", "Inf")):
            found = x.emit("reduce_any", x.emit(op, value), axes=axes)
            message = f"{node.attrs['message']} : Tensor had {problem} values"
            x.emit("require", x.emit("logical_not", found), message=message)
        return value

    def gradient(self, tf: Any, op: Any, dz: Any) -> Any:
        """Checks the gradient in turn."""
        return [
            tf.check_numerics(
                dz, "Not a number (NaN) or infinity (Inf) values detected in gradient."
            )
        ]


@define_node
class Assert(NodeDef):
    """An error that quotes ``data`` unless ``condition`` holds."""

    inputs = ("condition", "*data")
    attrs: ClassVar[dict[str, Any]] = {"summarize": 3}
    outputs = 0
    no_gradient = True
    stateful = True

    def extract(self, x: Any, node: Any, condition: Any, *data: Any) -> None:
        """A check whose message quotes the data."""
        x.emit("assert_true", condition, *data, summarize=node.attrs["summarize"] or 3)


def _counter(node: Any) -> Callable[[], int]:
    """How often it was called before."""
    return itertools.count().__next__


@define_node
class Print(NodeDef):
    """The same value; every run prints ``message`` and the values of ``data``."""

    inputs = ("input", "*data")
    attrs: ClassVar[dict[str, Any]] = {"message": "", "first_n": -1, "summarize": 3}
    stateful = True

    def extract(self, x: Any, node: Any, value: Any, *data: Any) -> Any:
        """The operand, after a host op that prints."""
        attrs = node.attrs
        limited = attrs["first_n"] >= 0
        x.emit(
            "print",
            *data,
            text=attrs["message"],
            summarize=attrs["summarize"],
            first_n=attrs["first_n"],
            counter=function_of(node, "print_counters", _counter) if limited else "",
        )
        return value

    def gradient(self, tf: Any, op: Any, dz: Any) -> Any:
        """Straight through to the value."""
        return [dz, *[None] * (len(op.inputs) - 1)]


@define_node
class PyFunc(NodeDef):
    """Calls the Python function registered under ``token``; its results have dtypes ``Tout``."""

    inputs = ("*input",)
    attrs: ClassVar[dict[str, Any]] = {"token": REQUIRED, "Tout": REQUIRED}
    no_gradient = True
    stateful = True

    def output_count(self, node: Any) -> int:
        """One output for each dtype."""
        return len(node.attrs["Tout"])

    def extract(self, x: Any, node: Any, *values: Any) -> Any:
        """A host call whose results have no known rank."""
        return x.emit("py_func", *values, fn=node.attrs["token"], outputs=node.attrs["Tout"])


@define_node
class PyFuncStateless(PyFunc):
    """``PyFunc`` of a function without effects, whose equal calls may share one result."""

    stateful = False
