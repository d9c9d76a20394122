"""What a GraphDef says, checked before a node is made of it: names, edges, order, attributes.

Errors are TensorFlow's in class and words. A size that a file claims is compared with what the file
brings before anything of that size is made.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from stepforge.frontend.dtypes import DType, from_ir
from stepforge.frontend.graphdef import signatures
from stepforge.frontend.graphdef.attributes import read_attribute
from stepforge.frontend.graphdef.signatures import NO_DEFAULT, Attribute, Signature
from stepforge.frontend.graphdef.tensors import MAX_BYTES, read_tensor
from stepforge.frontend.names import check_op_name
from stepforge.frontend.nodedefs.base import REQUIRED, NodeDef, lookup_node
from stepforge.ir.errors import NotFoundError
from stepforge.ir.records import record

# Outputs of one node, and of all nodes together those that an attribute counts: what splits further
# is an attack rather than a program.
MAX_OUTPUTS, MAX_COUNTED_OUTPUTS = 2**16, 2**18
# What says how to compute, not what.
_HINTS = ("allowed_devices", "debug_name", "grad_a", "grad_b", "grad_x", "grad_y")
_LISTED = 5  # nodes that are named for each op that is missing
_SPELLED = {"float32": "float", "float64": "double", "float16": "half"}


@record(frozen=True)
class Edge:
    """An input: output ``index`` of node ``source``; -1 is a control input. ``text`` as read."""

    text: str
    source: str
    index: int


def spelled(dtype: DType) -> str:
    """A dtype as TensorFlow's runtime prints it: ``float``, ``double_ref``."""
    base = dtype.base_dtype.name
    return _SPELLED.get(base, base) + ("_ref" if dtype.is_ref_dtype else "")


# ---- nodes and edges -----------------------------------------------------------------------------
def read_nodes(graph_def: Any) -> dict[str, Any]:
    """The nodes by name.

    Raises: ValueError for a bad name and a second node of one name; NotFoundError that lists every
    op that stepforge does not have.
    """
    nodes: dict[str, Any] = {}
    for node in graph_def.node:
        try:
            check_op_name(node.name)
        except ValueError:
            raise ValueError(f"Node '{node.name}': Node name contains invalid characters") from None
        if node.name in nodes:
            raise ValueError(f"Node '{node.name}' is not unique")
        nodes[node.name] = node
    _check_types(nodes)
    return nodes


def _check_types(nodes: Mapping[str, Any]) -> None:
    users: dict[str, list[str]] = {}
    for name, node in nodes.items():
        users.setdefault(node.op, []).append(name)
    missing = {type_: names for type_, names in sorted(users.items()) if not _is_known(type_)}
    if missing:
        counted = [f"\n* {type_} ({_listed(names)})" for type_, names in missing.items()]
        raise NotFoundError(
            None,
            None,
            f"Op type not registered {', '.join(map(repr, missing))}: stepforge has no node types "
            f"of these names. The graph has{''.join(counted)}",
        )


def _listed(names: list[str]) -> str:
    more = ", ..." if len(names) > _LISTED else ""
    return f"{len(names)}: {', '.join(names[:_LISTED])}{more}"


def _is_known(type_: str) -> bool:
    try:
        lookup_node(type_)
    except ValueError:
        return False
    return True


def read_edges(node: Any) -> list[Edge]:
    """The inputs of a node, control inputs last. Raises: ValueError for another order."""
    edges = [_edge(text) for text in node.input]
    control = [edge.index < 0 for edge in edges]
    if control != sorted(control):
        raise ValueError(
            f"Node '{node.name}': Control dependencies must come after regular dependencies"
        )
    return edges


def _edge(text: str) -> Edge:
    if text.startswith("^"):
        return Edge(text, text[1:], -1)
    name, colon, index = text.rpartition(":")
    if colon and index.isdecimal() and index.isascii() and len(index) < 10:
        return Edge(text, name, int(index))
    return Edge(text, text, 0)


def in_order(edges: Mapping[str, list[Edge]], mapped: Collection[tuple[str, int]]) -> list[str]:
    """Names of nodes, each after its inputs and otherwise as they come.

    Inputs in ``mapped`` come from elsewhere. Raises: ValueError for an input that is no node, and
    for a cycle.
    """
    waiting: dict[str, int] = {}
    consumers: dict[str, list[str]] = {name: [] for name in edges}
    for name, inputs in edges.items():
        sources = {edge.source for edge in inputs if (edge.source, edge.index) not in mapped}
        unknown = [e.text for e in inputs if e.source in sources and e.source not in edges]
        if unknown:
            raise ValueError(f"Node '{name}': Unknown input node '{unknown[0]}'")
        waiting[name] = len(sources)
        for source in sources:
            consumers[source].append(name)
    place = {name: i for i, name in enumerate(edges)}
    names = list(edges)
    ready = [place[name] for name in names if not waiting[name]]
    found: list[str] = []
    while ready:
        name = names[heapq.heappop(ready)]
        found.append(name)
        for consumer in consumers[name]:
            waiting[consumer] -= 1
            if not waiting[consumer]:
                heapq.heappush(ready, place[consumer])
    if len(found) < len(names):
        raise ValueError(f"{len(names) - len(found)} nodes in a cycle")
    return found


# ---- attributes ----------------------------------------------------------------------------------
class AttributeReader:
    """Reads the attributes of the nodes of one GraphDef, whose constants share ``room`` bytes, and
    whose nodes with a number of outputs that an attribute tells share ``outputs``.
    """

    def __init__(self, scope: str) -> None:
        self._scope = scope  # in front of names that errors mention
        self.room = MAX_BYTES
        self.outputs = MAX_COUNTED_OUTPUTS

    def read(self, node: Any, count: int) -> tuple[dict[str, Any], list[DType] | None]:
        """The attributes that our node type has, and the dtypes that the node's inputs must have.

        ``count`` is the number of inputs. The dtypes are None for an op that TensorFlow does not
        have. Raises: ValueError for missing attributes, those of another kind, and values of
        attributes that stepforge does not have.
        """
        definition = lookup_node(node.op)
        about = f"Op<name={node.op}>; NodeDef: {{{{node {self._scope}{node.name}}}}}"
        found = signatures.signature(node.op)
        own = dict(_private(node))
        if found is None:
            _check_number(about, node, definition, count)
            given = {name: read_attribute(node.attr[name]) for name in definition.attrs}
            return {**given, **own}, None
        values = {key: _value(about, node, attr) for key, attr in found.attributes.items()}
        _check_counts(about, node, found, values, count)
        self._count_outputs(about, found, values)
        if "value" in values:
            values["value"] = self._constant(about, values)
        dtypes = signatures.input_dtypes(found, values)
        return {**_known(about, node, definition, found, values), **own}, dtypes

    def _count_outputs(self, about: str, found: Signature, values: Mapping[str, Any]) -> None:
        if any(output.is_variadic for output in found.outputs):
            self.outputs -= signatures.count_outputs(found, values)
        if self.outputs < 0:
            raise ValueError(f"More than {MAX_COUNTED_OUTPUTS} outputs of all nodes; {about}")

    def _constant(self, about: str, values: Mapping[str, Any]) -> np.ndarray[Any, Any]:
        try:
            array = read_tensor(values["value"], self.room)
        except ValueError as error:
            raise ValueError(f"{error}; {about}") from None
        self.room -= array.nbytes
        declared = from_ir(values["dtype"])
        have = values["value"].dtype
        if have != declared.as_datatype_enum:
            raise ValueError(
                f"dtype {declared.name} is not that of the value, which is number {have}; {about}"
            )
        return array


def _private(node: Any) -> Iterator[tuple[str, Any]]:
    """Attributes that are not the op's own. Tensors and functions among them mean nothing here."""
    for name in sorted(node.attr):
        if not name.startswith("_"):
            continue
        if name == "_class":
            groups = read_attribute(node.attr[name], "list(string)")
            yield name, [group.encode("utf-8", "surrogateescape") for group in groups]
        elif node.attr[name].WhichOneof("value") in ("s", "i", "f", "b"):
            yield name, read_attribute(node.attr[name])


def _value(about: str, node: Any, attribute: Attribute) -> Any:
    if attribute.name in node.attr:
        try:
            value = read_attribute(node.attr[attribute.name], attribute.kind)
        except ValueError as error:
            text = f"{error}\n\t for attr '{attribute.name}'\n\t; {about}"
            raise ValueError(text) from None
        return tuple(value) if attribute.kind == "list(type)" else value
    if attribute.default is NO_DEFAULT:
        raise ValueError(f"NodeDef missing attr '{attribute.name}' from {about}")
    return attribute.default


def _check_counts(
    about: str, node: Any, found: Signature, values: Mapping[str, Any], count: int
) -> None:
    for argument in (*found.inputs, *found.outputs):
        if argument.number and values[argument.number] < 0:
            raise ValueError(
                f"Value for attr '{argument.number}' of {values[argument.number]} must be at least "
                f"minimum 0\n\t; {about}"
            )
    if signatures.count_outputs(found, values) > MAX_OUTPUTS:
        raise ValueError(f"More than {MAX_OUTPUTS} outputs; {about}")
    expected = signatures.count_inputs(found, values)
    if expected != count:
        dtypes = ""
        if expected <= _LISTED:
            dtypes = f" '{', '.join(map(spelled, signatures.input_dtypes(found, values)))}'"
        raise ValueError(
            f"NodeDef expected inputs{dtypes or f' of number {expected}'} do not match {count} "
            f"inputs specified; {about}"
        )


def _check_number(about: str, node: Any, definition: NodeDef, count: int) -> None:
    names = definition.inputs
    variadic = any(name.startswith("*") for name in names)
    if count < len(names) - variadic or (not variadic and count > len(names)):
        raise ValueError(
            f"NodeDef expected inputs '{', '.join(names)}' do not match {count} inputs "
            f"specified; {about}"
        )


def _known(
    about: str, node: Any, definition: NodeDef, found: Signature, values: Mapping[str, Any]
) -> dict[str, Any]:
    """The values that our node type keeps. The others are implied, or must be the default."""
    known: dict[str, Any] = {}
    for name, value in values.items():
        if name in definition.attrs:
            default = definition.attrs[name]
            known[name] = tuple(value) if isinstance(default, tuple) else value
        elif not _is_default(found, name, value):
            raise ValueError(
                f"stepforge knows {name} as {found.attributes[name].default!r} only, not "
                f"{value!r}; {about}"
            )
    missing = [name for name, value in definition.attrs.items() if value is REQUIRED]
    for name in missing:
        if name not in known:
            raise ValueError(f"NodeDef missing attr '{name}' from {about}")
    return known


def _is_default(found: Signature, name: str, value: Any) -> bool:
    if name in _HINTS or signatures.is_implied(found, name):
        return True
    attribute = found.attributes[name]
    if attribute.kind == "float":
        return bool(np.float32(attribute.default) == np.float32(value))
    return bool(attribute.default == value)
