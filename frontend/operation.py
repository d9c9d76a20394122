"""Nodes of a graph and the tensors that they give.

Both know their place in the graph and nothing of how they run. What the IR knows of a tensor (its
dtype and symbolic shape) was inferred when its node was made and is kept in ``Tensor.abstract``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from stepforge.frontend import dtypes, shapes, sites
from stepforge.frontend.default import session_for
from stepforge.frontend.dtypes import DType
from stepforge.frontend.nodedefs.base import NodeDef
from stepforge.frontend.shapes import TensorShape
from stepforge.ir.core import Site, Value
from stepforge.ir.types import NUMERIC, ListType, Type

OPERATORS = (
    *("add", "radd", "sub", "rsub", "mul", "rmul", "div", "rdiv", "truediv", "rtruediv"),
    *("floordiv", "rfloordiv", "mod", "rmod", "pow", "rpow", "matmul", "rmatmul"),
    *("lt", "le", "gt", "ge", "and", "rand", "or", "ror", "xor", "rxor"),
    *("invert", "neg", "abs", "getitem"),
)


class OperatorNotAllowedInGraphError(TypeError):
    """A Python operator that needs a value was applied to a tensor, which has none before a run."""


class Operation:
    """One node of a graph. Made by ``Graph.create_op`` only."""

    outputs: list[Tensor]

    def __init__(
        self,
        graph: Any,
        name: str,
        definition: NodeDef,
        inputs: tuple[Tensor, ...],
        attrs: dict[str, Any],
        control_inputs: list[Operation],
        stack: sites.Stack,
    ) -> None:
        self.graph = graph
        self.name = name
        self.type = definition.type
        self.definition = definition
        self.inputs = inputs
        self.attrs = attrs
        self.control_inputs = control_inputs
        self.outputs = []
        self.device = ""
        self.id = -1  # the place in the order of creation; -1 until the node is in its graph
        self.control_flow_context: Any = None
        self._stack = stack
        self._site: Site | None = None

    def __repr__(self) -> str:
        return f"<tf.Operation '{self.name}' type={self.type}>"

    def __str__(self) -> str:
        try:
            return str(self.node_def)
        except ImportError:  # without protobuf there is no node_def
            return repr(self)

    @property
    def site(self) -> Site:
        """Where the user made the node."""
        if self._site is None:
            self._site = sites.site(self.name, self._stack)
        return self._site

    @property
    def traceback(self) -> list[sites.FrameSummary]:
        """The user's stack when the node was made, outermost frame first."""
        return sites.summaries(self._stack)

    @property
    def node_def(self) -> Any:
        """The node as a ``NodeDef``. Raises: ImportError where protobuf is not installed."""
        from stepforge.frontend.graphdef import exporting

        return exporting.node_def(self)

    def described(self) -> str:
        """The node as errors quote it before it is made: its type, attributes, input shapes."""
        attrs = [f"{k}={_literal(v)}" for k, v in sorted(self.attrs.items()) if k[0] != "_"]
        inputs = ", ".join(map(_input_text, self.inputs))
        shapes = ", ".join(_shape_text(tensor.shape) for tensor in self.inputs)
        node = f"{{{{node {self.name}}}}} = {self.type}[{', '.join(attrs)}]({inputs})"
        return f"'{node}' with input shapes: {shapes}."

    def values(self) -> tuple[Tensor, ...]:
        """The outputs as a tuple."""
        return tuple(self.outputs)

    def colocation_groups(self) -> list[bytes]:
        """Names of the groups of nodes that share a device with this one; by default its own."""
        given = self.attrs.get("_class")
        return list(given) if given else [b"loc:@" + self.name.encode()]

    def get_attr(self, name: str) -> Any:
        """An attribute, also one that the inputs tell: dtypes as ``DType``, text as ``bytes``,
        shapes as ``TensorShape``, a constant's value as an array.

        Raises: ValueError where the node has no such attribute.
        """
        from stepforge.frontend.graphdef.exporting import all_attributes

        for found, kind, value in all_attributes(self):
            if found == name:
                return _python_value(kind, value)
        raise ValueError(f"Operation '{self.name}' has no attr named '{name}'.")

    def run(self, feed_dict: Any = None, session: Any = None) -> None:
        """Run the node in ``session`` or the default session.

        Raises: ValueError where there is no session, or one of another graph.
        """
        session = session_for(self.graph, session, noun="operation", verb="execute")
        session.run(self, feed_dict)

    def add_outputs(self, values: tuple[Any, ...]) -> None:
        """Give the node its outputs, one for each inferred IR value; done once, by the graph."""
        self.outputs = [Tensor(self, index, value) for index, value in enumerate(values)]
        for tensor in self.inputs:
            tensor.add_consumer(self)


def _shape_text(shape: TensorShape) -> str:
    """A static shape as error messages have it: ``[?,3]``, or ``<unknown>``."""
    if shape.ndims is None:
        return "<unknown>"
    return f"[{','.join('?' if n is None else str(n) for n in shape.as_list())}]"


def _literal(value: Any) -> str:
    """An attribute as text, dtypes and truth values in TensorFlow's words."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        known = value in NUMERIC or value == "string"
        return f"DT_{dtypes.from_ir(value).label.upper()}" if known else f'"{value}"'
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_literal, value))}]"
    return str(value)


def _input_text(tensor: Tensor) -> str:
    return tensor.op.name if tensor.value_index == 0 else tensor.name
def _python_value(kind: str, value: Any) -> Any:
    if kind.startswith("list("):
        return [_python_value(kind[5:-1], element) for element in value]
    convert = _PYTHON_VALUES.get(kind)
    return convert(value) if convert is not None else value


_PYTHON_VALUES: dict[str, Callable[[Any], Any]] = {
    "type": dtypes.from_ir,
    "string": lambda text: text.encode() if isinstance(text, str) else text,
    "shape": TensorShape,
}


class Tensor:
    """One output of a node: a value of a known dtype that exists while a step runs."""

    __array_priority__ = 100  # NumPy arrays leave binary operators to the tensor

    def __init__(self, op: Operation, index: int, abstract: Any) -> None:
        self.op = op
        self.value_index = index
        self.abstract = abstract  # an IR operand; its type is what is known statically
        self.declared: tuple[int | None, ...] | None = None  # what set_shape said, for extraction
        list_of = isinstance(abstract.type, ListType)
        dtype = dtypes.variant if list_of else dtypes.from_ir(abstract.type.dtype)
        self._dtype = dtype.as_ref() if op.definition.ref_outputs else dtype
        self._shape: TensorShape | None = None
        self._consumers: list[Operation] = []

    @property
    def graph(self) -> Any:
        """The graph that the tensor belongs to."""
        return self.op.graph

    @property
    def name(self) -> str:
        """``"node:0"``: the node's name and the number of the output."""
        return f"{self.op.name}:{self.value_index}"

    @property
    def dtype(self) -> DType:
        """The dtype, a reference dtype for a variable."""
        return self._dtype

    @property
    def device(self) -> str:
        """The node's device."""
        return self.op.device

    @property
    def shape(self) -> TensorShape:
        """The static shape, as far as it is known."""
        if self._shape is None:
            type_ = self.abstract.type
            self._shape = shapes.from_ir(() if isinstance(type_, ListType) else type_.shape)
        return self._shape

    def get_shape(self) -> TensorShape:
        """The static shape, as far as it is known."""
        return self.shape

    def set_shape(self, shape: Any) -> None:
        """Say what the caller knows of the shape; it is checked when the step runs.

        Raises: ValueError where it contradicts what is known already.
        """
        known, said = self.shape, shapes.as_shape(shape)
        if not known.is_compatible_with(said):
            raise _contradiction(known, said)
        merged = known.merge_with(said)
        if merged == known:
            return
        self.declared, self._shape = merged.sizes, merged
        self.abstract = Value(self._refined(merged))

    def _refined(self, merged: TensorShape) -> Type:
        type_: Type = self.abstract.type
        sizes = merged.sizes
        if type_.shape is None or sizes is None:
            opened: Type = self.graph.inference.open_type(type_.dtype, sizes)
            return opened
        pairs = zip(sizes, type_.shape, strict=True)
        return type_.with_shape(tuple(old if new is None else new for new, old in pairs))

    def consumers(self) -> list[Operation]:
        """The nodes that have this tensor as an input."""
        return list(self._consumers)

    def add_consumer(self, op: Operation) -> None:
        """Note that ``op`` takes this tensor; done by the graph."""
        if not self._consumers or self._consumers[-1] is not op:
            self._consumers.append(op)

    def eval(self, feed_dict: Any = None, session: Any = None) -> Any:
        """The tensor's value in ``session`` or the default session.

        Raises: ValueError where there is no session, or one of another graph.
        """
        session = session_for(self.graph, session, noun="tensor", verb="evaluate")
        return session.run(self, feed_dict)

    def ref(self) -> TensorReference:
        """A hashable stand-in that compares by identity."""
        return TensorReference(self)

    experimental_ref = ref

    @classmethod
    def overload(cls, operator_name: str, function: Callable[..., Any]) -> None:
        """Define an operator, e.g. ``"__add__"``; each module of API functions sets its own."""
        setattr(cls, operator_name, function)

    def __repr__(self) -> str:
        return f"<tf.Tensor '{self.name}' shape={self.shape} dtype={self._dtype.name}>"

    def __str__(self) -> str:
        shape = "" if self.shape.ndims is None else f", shape={self.shape}"
        device = f", device={self.device}" if self.device else ""
        return f'Tensor("{self.name}"{shape}, dtype={self._dtype.name}{device})'

    # Equality and hash are object's own: a method in Python would double the cost of a feed_dict.

    def __bool__(self) -> NoReturn:
        raise OperatorNotAllowedInGraphError(
            "Using a symbolic `tf.Tensor` as a Python `bool` is not allowed: "
            f"{self.name} has no value before a session runs. Use `if t is not None:` to test "
            "whether it is defined, and tf.cond or tf.where to depend on its value."
        )

    def __iter__(self) -> Iterator[Any]:
        raise OperatorNotAllowedInGraphError(
            f"Iterating over a symbolic `tf.Tensor` is not allowed: {self.name} has no value "
            "before a session runs. Use tf.unstack, tf.map_fn or tf.while_loop."
        )

    def __len__(self) -> NoReturn:
        raise TypeError(
            f"len is not well defined for a symbolic Tensor ({self.name}). Please call `x.shape` "
            "rather than `len(x)` for shape information."
        )

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        raise NotImplementedError(
            f"Cannot convert a symbolic tf.Tensor ({self.name}) to a numpy array. This error may "
            "indicate that you're trying to pass a Tensor to a NumPy call, which is not supported."
        )


class TensorReference:
    """A hashable stand-in for a tensor or variable that compares by identity."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def deref(self) -> Any:
        """The tensor or variable."""
        return self._target

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorReference) and self._target is other.deref()

    def __hash__(self) -> int:
        return id(self._target)

    def __repr__(self) -> str:
        return f"<Reference wrapping {self._target!r}>"


def _contradiction(known: TensorShape, said: TensorShape) -> ValueError:
    if known.ndims != said.ndims:
        return ValueError(f"Shapes must be equal rank, but are {known.ndims} and {said.ndims}")
    for axis, (have, want) in enumerate(zip(known, said, strict=True)):
        if not have.is_compatible_with(want):
            return ValueError(
                f"Dimension {axis} in both shapes must be equal, but are {have} and {want}. Shapes "
                f"are {bracketed(known)} and {bracketed(said)}."
            )
    raise AssertionError("the shapes are compatible")


def bracketed(shape: TensorShape) -> str:
    """A shape as TensorFlow's runtime prints it: ``[?,3]``."""
    if shape.dims is None:
        return "<unknown>"
    return f"[{','.join(map(str, shape.dims))}]"
