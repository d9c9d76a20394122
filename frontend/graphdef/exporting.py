"""Graphs as GraphDef messages: ``graph.as_graph_def``, ``op.node_def``, ``write_graph``.

Attributes that TensorFlow has and our nodes have not are those that the inputs tell, and those that
stepforge knows one value of: the default, which a GraphDef may leave out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stepforge.frontend.graphdef import messages
from stepforge.frontend.graphdef.attributes import kind_of, write_attribute
from stepforge.frontend.graphdef.expansions import Expansion, expansion_of
from stepforge.frontend.graphdef.signatures import implied_attributes, signature
from stepforge.frontend.graphdef.tensors import MAX_BYTES, fill_tensor

PRODUCER = 134  # the version of graphs that TensorFlow 1.15 writes; all later ones read it


def graph_def(nodes: Iterable[Any], add_shapes: bool = False) -> Any:
    """A ``GraphDef`` of ``nodes``, our own node types written as nodes of TensorFlow.

    ``add_shapes`` notes static shapes in ``_output_shapes``. Raises: ValueError over 2 GB.
    """
    found = messages.GraphDef()
    found.versions.producer = PRODUCER
    for op in nodes:
        rule = expansion_of(op)
        if rule is not None:
            rule(Expansion(found, op, [input_name(tensor) for tensor in op.inputs]))
            node = found.node[-1]
        else:
            node = found.node.add()
            write_node(node, op)
        if add_shapes and op.outputs:
            shapes = [tensor.shape.sizes for tensor in op.outputs]
            write_attribute(node.attr["_output_shapes"], "list(shape)", shapes)
    if found.ByteSize() >= MAX_BYTES:
        raise ValueError("GraphDef cannot be larger than 2GB.")
    return found


def node_def(op: Any) -> Any:
    """A ``NodeDef`` of one node."""
    found = messages.NodeDef()
    write_node(found, op)
    return found


def write_node(message: Any, op: Any) -> None:
    """Write a node into a ``NodeDef``. Raises: ValueError for an attribute without a value."""
    message.name, message.op, message.device = op.name, op.type, op.device
    message.input.extend(map(input_name, op.inputs))
    message.input.extend(f"^{control.name}" for control in op.control_inputs)
    for name, kind, value in all_attributes(op):
        if kind == "tensor":
            fill_tensor(message.attr[name].tensor, np.asarray(value), op.attrs["dtype"])
        else:
            write_attribute(message.attr[name], kind, value)


def input_name(tensor: Any) -> str:
    """How a GraphDef names a tensor: output 0 has the name of its node."""
    name: str = tensor.op.name
    return name if tensor.value_index == 0 else f"{name}:{tensor.value_index}"


def all_attributes(op: Any) -> Iterator[tuple[str, str, Any]]:
    """Name, kind and value of each attribute, those included that inputs and outputs tell."""
    found = signature(op.type)
    if found is None:
        yield from ((name, kind_of(value), value) for name, value in op.attrs.items())
        return
    inputs = [tensor.dtype for tensor in op.inputs]
    implied = implied_attributes(found, inputs, [tensor.dtype for tensor in op.outputs])
    values = {**op.attrs, **implied, **_OWN.get(op.type, _nothing)(op)}
    for name, attribute in found.attributes.items():
        if name in values:
            yield name, attribute.kind, values[name]
    for name, value in op.attrs.items():
        if name.startswith("_"):
            yield name, kind_of(value), value


def _nothing(op: Any) -> dict[str, Any]:
    return {}


def _shared_name(op: Any) -> dict[str, Any]:
    """TensorFlow takes resource variables of one shared name, an empty one too, for the same."""
    return {"shared_name": op.attrs["shared_name"] or op.name}


_OWN = {"VarHandleOp": _shared_name}


def write_graph(
    graph_or_graph_def: Any, logdir: Any, name: Any, as_text: bool = True
) -> str:
    """Write a graph or GraphDef to the file ``name`` in ``logdir``; gives the path.

    ``as_text`` chooses the text format (``.pbtxt``) over the binary one (``.pb``).
    """
    message = graph_or_graph_def
    if not isinstance(message, messages.GraphDef):
        message = message.as_graph_def()
    path = Path(os.fsdecode(logdir)) / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if as_text:
        from google.protobuf import text_format

        path.write_text(text_format.MessageToString(message), encoding="utf-8")
    else:
        path.write_bytes(message.SerializeToString(deterministic=True))
    return str(path)
