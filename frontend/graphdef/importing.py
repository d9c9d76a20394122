"""``tf.import_graph_def``: the nodes of a GraphDef added to the default graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from stepforge.frontend.convert import convert_to_tensor
from stepforge.frontend.graph import Graph, get_default_graph
from stepforge.frontend.graphdef import messages
from stepforge.frontend.graphdef.reading import (
    AttributeReader,
    Edge,
    in_order,
    read_edges,
    read_nodes,
    spelled,
)
from stepforge.frontend.operation import Operation, Tensor
from stepforge.frontend.scopes import name_scope

_PREFIX = "loc:@"  # of the node names in `_class`


def import_graph_def(
    graph_def: Any,
    input_map: Mapping[Any, Any] | None = None,
    return_elements: Iterable[Any] | None = None,
    name: str | None = None,
    op_dict: Any = None,
    producer_op_list: Any = None,
) -> list[Any] | None:
    """Add the nodes of ``graph_def`` to the default graph, under the scope ``name`` (``"import"``).

    ``input_map`` maps names of tensors in ``graph_def`` (and ``"^node"``) to tensors of the default
    graph that take their place. Gives the operations (``"node"``) and tensors (``"node:0"``) of
    ``return_elements``, or None. Attributes that stepforge does not know are left out, so
    ``producer_op_list`` is not needed; ``op_dict`` is not used, as in TensorFlow.
    Raises: TypeError and ValueError as TensorFlow does for arguments and graphs that are malformed;
    NotFoundError, which lists every op in the graph that stepforge does not have.
    """
    message = _message(graph_def)
    mapping = _checked_map(input_map)
    wanted = _checked_elements(return_elements)
    graph = get_default_graph()
    if graph.finalized:
        raise RuntimeError("Graph is finalized and cannot be modified.")
    with name_scope(name, "import") as scope:
        tensors = _mapped_tensors(mapping, name)
        _check_graph(graph, mapping)
        importer = _Importer(graph, tensors, scope)
        importer.run(message)
        return None if wanted is None else [importer.element(text) for text in wanted]


# ---- arguments -----------------------------------------------------------------------------------
def _message(graph_def: Any) -> Any:
    """``graph_def``, or a copy of a GraphDef of another class, such as TensorFlow's own."""
    if isinstance(graph_def, messages.GraphDef):
        return graph_def
    descriptor = getattr(graph_def, "DESCRIPTOR", None)
    if getattr(descriptor, "name", "") != "GraphDef":
        raise TypeError("Argument `graph_def` must be a GraphDef proto.")
    copied = messages.GraphDef()
    copied.ParseFromString(graph_def.SerializeToString())
    return copied


def _checked_map(input_map: Any) -> dict[str, Any]:
    if input_map is None:
        return {}
    if not isinstance(input_map, dict):
        raise TypeError(
            f"Argument `input_map` must be a dictionary. Obtained {type(input_map).__name__}"
        )
    if not all(isinstance(key, (str, bytes)) for key in input_map):
        raise TypeError(
            "All keys for argument `input_map` must be strings. Obtained keys: "
            f"{list(input_map.keys())}"
        )
    return {_text(key): value for key, value in input_map.items()}


def _checked_elements(return_elements: Any) -> tuple[str, ...] | None:
    if return_elements is None:
        return None
    elements = tuple(return_elements)
    if not all(isinstance(element, (str, bytes)) for element in elements):
        raise TypeError(
            "Argument `return_elements` must be a list of strings. Obtained "
            f"{return_elements}."
        )
    return tuple(map(_text, elements))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _mapped_tensors(mapping: dict[str, Any], name: str | None) -> dict[tuple[str, int], Any]:
    """What takes the place of each output (node, index), or of a control input (node, -1)."""
    converted = {key: value for key, value in mapping.items() if not _is_element(key, value)}
    if converted and name == "":
        raise ValueError(
            "tf.import_graph_def() requires a non-empty `name` if `input_map` contains non-Tensor "
            "values. Try calling tf.convert_to_tensor() on `input_map` values before calling "
            "tf.import_graph_def()."
        )
    if converted:
        with name_scope("_inputs"):
            converted = {key: convert_to_tensor(value) for key, value in converted.items()}
    return {_source(key): converted.get(key, value) for key, value in mapping.items()}


def _check_graph(graph: Graph, mapping: dict[str, Any]) -> None:
    for key, value in mapping.items():
        if isinstance(value, (Tensor, Operation)) and value.graph is not graph:
            node = getattr(value, "op", value).name
            raise ValueError(
                f"node '{node}' in input_map does not exist in graph (input_map entry: "
                f"{key}->{value.name})"
            )


def _is_element(key: str, value: Any) -> bool:
    return isinstance(value, Tensor) or (key.startswith("^") and isinstance(value, Operation))


def _source(name: str) -> tuple[str, int]:
    """``"node:1"``, ``"node"`` or ``"^node"`` as node and output. Raises: ValueError otherwise."""
    if name.startswith("^"):
        return name[1:], -1
    parts = name.split(":")
    if len(parts) > 2:
        raise ValueError(
            f"Cannot convert '{name}' to a tensor name. Tensor names should not contain more than "
            f"1 `:`. Obtained {len(parts) - 1}"
        )
    if len(parts) == 1:
        return name, 0
    if not (parts[1].isascii() and parts[1].isdecimal()):
        raise ValueError(
            f"Cannot convert {name!r} to a tensor name. Second component of the name following the "
            f"`:` should be an int. Got {parts[1]}."
        )
    return parts[0], int(parts[1])


# ---- nodes ---------------------------------------------------------------------------------------
class _Importer:
    """One import: the nodes made so far, by their names in the GraphDef."""

    def __init__(self, graph: Graph, mapped: dict[tuple[str, int], Any], scope: str) -> None:
        self._graph, self._mapped, self._scope = graph, mapped, scope
        self._made: dict[str, Operation] = {}
        self._used: set[tuple[str, int]] = set()
        self._attributes = AttributeReader(scope)
        self._names: frozenset[str] = frozenset()

    def run(self, message: Any) -> None:
        """Make all nodes. Raises: as ``import_graph_def`` does."""
        nodes = read_nodes(message)
        self._names = frozenset(nodes)
        edges = {name: read_edges(node) for name, node in nodes.items()}
        with self._graph.control_dependencies(None):
            for name in in_order(edges, self._mapped.keys()):
                self._made[name] = self._make(nodes[name], edges[name])
        self._check_map()

    def _make(self, node: Any, edges: list[Edge]) -> Operation:
        inputs = [self._tensor(node, edge) for edge in edges if edge.index >= 0]
        control = [self._control(edge) for edge in edges if edge.index < 0]
        attrs, dtypes = self._attributes.read(node, len(inputs))
        full_name = self._graph.unique_name(node.name)
        if dtypes is not None:
            _check_dtypes(full_name, inputs, dtypes)
        self._colocate(node, attrs)
        with ExitStack() as stack:
            for context in self._contexts(node, control):
                stack.enter_context(context)
            try:
                return self._graph.create_op(node.op, inputs, attrs, full_name + "/")
            except Exception as error:  # rules expect what API functions have checked
                text, line, site = str(error).partition("\n")
                text = f"{text} for '{{{{node {full_name}}}}} = {node.op}'"
                raise ValueError(text + line + site) from error

    def _contexts(self, node: Any, control: list[Any]) -> list[AbstractContextManager[Any]]:
        contexts: list[AbstractContextManager[Any]] = []
        if control:
            contexts.append(self._graph.control_dependencies(control))
        if node.device:
            contexts.append(self._graph.device(node.device))
        return contexts

    def _tensor(self, node: Any, edge: Edge) -> Tensor:
        key = (edge.source, edge.index)
        if key in self._mapped:
            self._used.add(key)
            return self._mapped[key]  # type: ignore[no-any-return]
        outputs = self._made[edge.source].outputs
        if edge.index >= len(outputs):
            raise ValueError(
                f"Node '{node.name}': Connecting to invalid output {edge.index} of source node "
                f"{edge.source} which has {len(outputs)} outputs."
            )
        return outputs[edge.index]

    def _control(self, edge: Edge) -> Any:
        key = (edge.source, edge.index)
        self._used.add(key)
        return self._mapped[key] if key in self._mapped else self._made[edge.source]

    def _colocate(self, node: Any, attrs: dict[str, Any]) -> None:
        groups = attrs.get("_class", [])
        for i, group in enumerate(groups):
            name = group.decode("utf-8", "replace")
            if not name.startswith(_PREFIX):
                continue
            name = name.removeprefix(_PREFIX)
            if name not in self._names:
                raise ValueError(
                    f"Node '{node.name}' expects to be colocated with unknown node '{name}'"
                )
            groups[i] = f"{_PREFIX}{self._scope}{name}".encode()

    def _check_map(self) -> None:
        unused = [
            f"{name}:{index}" if index >= 0 else f"^{name}"
            for name, index in self._mapped.keys() - self._used
            if name not in self._made or index >= len(self._made[name].outputs)
        ]
        if unused:
            raise ValueError(
                "Attempted to map inputs that were not found in graph_def: "
                f"[{', '.join(sorted(unused))}]"
            )

    def element(self, text: str) -> Any:
        """The operation or tensor that ``text`` names. Raises: ValueError where there is none."""
        if ":" not in text:
            if text not in self._made:
                raise ValueError(f"Requested return node '{text}' not found in graph def")
            return self._made[text]
        key = name, index = _source(text)
        if key in self._mapped:
            return self._mapped[key]
        if name not in self._made:
            raise ValueError(f"Requested return tensor '{text}' not found in graph def")
        outputs = self._made[name].outputs
        if index >= len(outputs):
            raise ValueError(
                f"Invalid return output {index} of node '{name}', which has {len(outputs)} "
                "output(s)"
            )
        return outputs[index]


def _check_dtypes(name: str, inputs: list[Tensor], dtypes: list[Any]) -> None:
    for index, (tensor, expected) in enumerate(zip(inputs, dtypes, strict=True)):
        have = tensor.dtype
        if have.base_dtype is not expected.base_dtype or have.is_ref_dtype < expected.is_ref_dtype:
            raise ValueError(
                f"Input {index} of node {name} was passed {spelled(have)} from {tensor.name} "
                f"incompatible with expected {spelled(expected)}."
            )
