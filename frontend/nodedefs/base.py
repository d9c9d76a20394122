"""How a node type is declared: one class with inputs, attributes and rules, in one registry.

A node type is a TensorFlow op (``MatMul``, ``AddV2``, ``Sum``) with TensorFlow's inputs, those that
are ``Const`` nodes there included. ``extract`` says what it means in the IR and thereby also infers
its dtypes and shapes while the graph is built; ``gradient`` is written with API functions.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, TypeVar

from stepforge.ir.host_functions import register_function

GradientRule = Callable[..., Any]
REQUIRED: Final = object()  # the default of an attribute that a caller must give


class NodeDef:
    """Base class of declarations.

    ``extract(self, x, node, *operands)`` returns the operand of the output (a tuple of them for
    several, None for no output); ``x`` is an extractor, ``node`` the graph operation with its
    ``attrs``. ``gradient(self, tf, op, *grads)`` returns one Tensor, IndexedSlices or None per
    input; ``tf`` is the namespace of API functions. A variadic input is written ``"*values"``;
    operands come flat.
    """

    type: ClassVar[str] = ""
    inputs: ClassVar[tuple[str, ...]] = ()
    attrs: ClassVar[dict[str, Any]] = {}
    outputs: ClassVar[int] = 1
    no_gradient: ClassVar[bool] = False  # the node cuts gradients: nothing flows to its inputs
    draws: ClassVar[bool] = False  # has a stream of random numbers
    stateful: ClassVar[bool] = False  # never merged with an equal node, nor folded
    ref_inputs: ClassVar[
        tuple[str, ...]
    ] = ()  # inputs whose operand is the variable's Symbol, unread
    ref_outputs: ClassVar[bool] = False  # outputs have TensorFlow's reference dtypes (float32_ref)

    extract: Callable[..., Any]
    gradient: GradientRule | None = None
    variadic: ClassVar[int] = 0  # the place of the input that is a list, behind all where none is

    def __init_subclass__(cls) -> None:
        starred = (place for place, name in enumerate(cls.inputs) if name.startswith("*"))
        cls.variadic = next(starred, len(cls.inputs))

    def __repr__(self) -> str:
        return f"<node type {self.type}>"

    def output_count(self, node: Any) -> int:
        """The number of outputs of ``node``; ``Split`` and its like read it off an attribute."""
        return self.outputs

    def input_name(self, node: Any, index: int) -> str:
        """The declared name of input ``index`` of ``node``; a variadic list shares one name."""
        names = self.inputs
        if index < self.variadic:
            return names[index]
        surplus = len(node.inputs) - len(names)
        return names[max(self.variadic, index - surplus)].lstrip("*")

    def takes_reference(self, node: Any, index: int) -> bool:
        """True where input ``index`` wants the variable itself rather than its value."""
        return bool(self.ref_inputs) and self.input_name(node, index) in self.ref_inputs


NODES: dict[str, NodeDef] = {}
_Class = TypeVar("_Class", bound=type[NodeDef])


def define_node(cls: _Class) -> _Class:
    """Register a declaration under its ``type``, by default the name of its class.

    Raises: TypeError for a second declaration of one type, and for one without docstring,
    ``extract``, or either ``gradient`` or ``no_gradient``.
    """
    type_ = cls.__dict__.get("type") or cls.__name__
    if type_ in NODES:
        raise TypeError(f"node type {type_} is declared twice")
    if not hasattr(cls, "extract") or not cls.__doc__ or cls.__doc__ == NodeDef.__doc__:
        raise TypeError(f"node type {type_} needs an extract rule and a docstring")
    if cls.gradient is None and not cls.no_gradient:
        raise TypeError(f"node type {type_} needs a gradient rule or no_gradient = True")
    cls.type = type_
    NODES[type_] = cls()
    return cls


def lookup_node(type_: str) -> NodeDef:
    """The declaration of ``type_``; the first miss imports every module of node types.

    Raises: ValueError where stepforge has no such node type.
    """
    found = NODES.get(type_)
    if found is None:
        _import_all()
        found = NODES.get(type_)
    if found is None:
        raise ValueError(f"Op type not registered '{type_}': stepforge has no such node type")
    return found


def _import_all() -> None:
    package = importlib.import_module(__name__.rpartition(".")[0])
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def define_elementwise(
    type_: str,
    op: str,
    inputs: Sequence[str] = ("x",),
    gradient: GradientRule | None = None,
    doc: str = "",
) -> NodeDef:
    """Declare a node that is one elementwise IR op of its inputs.

    ``gradient(tf, op, *grads)`` has no ``self``; without it the node has no gradient.
    """

    def extract(self: NodeDef, x: Any, node: Any, *operands: Any) -> Any:
        return x.emit(op, *operands)

    members: dict[str, Any] = {
        "__doc__": doc or f"Elementwise ``{op}`` of {', '.join(inputs)}.",
        "__module__": __name__,
        "inputs": tuple(inputs),
        "extract": extract,
        "no_gradient": gradient is None,
    }
    if gradient is not None:
        rule = gradient
        members["gradient"] = lambda self, tf, node, *grads: rule(tf, node, *grads)
    define_node(type(type_, (NodeDef,), members))
    return NODES[type_]


def function_of(node: Any, kind: str, make: Callable[[Any], Callable[..., Any]]) -> str:
    """The token of the function of this ``kind`` that a node has: ``make(node)``, once for all."""
    tokens: dict[Any, str] = node.graph.data.setdefault(kind, {})
    if node not in tokens:
        tokens[node] = register_function(make(node))
    return tokens[node]
