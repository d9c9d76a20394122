"""``tf.graph_util``: parts of a GraphDef, and variables turned into constants (freezing).

These work on messages; freezing also asks a session for the values of variables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np

from stepforge.frontend.dtypes import as_dtype
from stepforge.frontend.graphdef import messages
from stepforge.frontend.graphdef.attributes import write_attribute
from stepforge.frontend.graphdef.tensors import fill_tensor

_VARIABLES = ("Variable", "VariableV2", "VarHandleOp")
_SKIPPED = ("Identity", "StopGradient")  # what inference does not need
_CHECKS = ("CheckNumerics",)


def extract_sub_graph(graph_def: Any, dest_nodes: Iterable[str]) -> Any:
    """The nodes of ``graph_def`` that ``dest_nodes`` depend on, as a new GraphDef.

    Raises: TypeError for what is no GraphDef or a single name, AssertionError for unknown names.
    """
    if not isinstance(graph_def, messages.GraphDef):
        raise TypeError(
            f"graph_def must be a graph_pb2.GraphDef proto, but got type {type(graph_def)}."
        )
    if isinstance(dest_nodes, str):
        raise TypeError(
            f"dest_nodes must be an iterable of strings, but got type {type(dest_nodes)}."
        )
    nodes = {node.name: node for node in graph_def.node}
    wanted = list(dest_nodes)
    for name in wanted:
        if name not in nodes:
            raise AssertionError(f"{name} is not in graph")
    kept = set()
    while wanted:
        name = wanted.pop()
        if name in nodes and name not in kept:
            kept.add(name)
            wanted += [*map(_source, nodes[name].input), *_colocated(nodes[name])]
    found = messages.GraphDef()
    found.node.extend(node for node in graph_def.node if node.name in kept)
    found.library.CopyFrom(graph_def.library)
    found.versions.CopyFrom(graph_def.versions)
    return found


def _source(text: str) -> str:
    """The node of an input: ``"^node"`` and ``"node:1"`` give ``"node"``."""
    return text.removeprefix("^").split(":")[0]


def _colocated(node: Any) -> list[str]:
    if "_class" not in node.attr:
        return []
    return [group.decode().removeprefix("loc:@") for group in node.attr["_class"].list.s]


# ---- freezing ------------------------------------------------------------------------------------
def convert_variables_to_constants(
    sess: Any,
    input_graph_def: Any,
    output_node_names: Iterable[str],
    variable_names_whitelist: Collection[str] | None = None,
    variable_names_blacklist: Collection[str] | None = None,
) -> Any:
    """A GraphDef of what ``output_node_names`` need, with the variables' values in ``sess`` as
    constants. The two lists choose which variables, by default all.

    Raises: as ``extract_sub_graph`` and ``sess.run`` do.
    """
    inference = extract_sub_graph(input_graph_def, output_node_names)
    variables = [
        node
        for node in inference.node
        if node.op in _VARIABLES
        and (variable_names_whitelist is None or node.name in variable_names_whitelist)
        and node.name not in (variable_names_blacklist or ())
    ]
    reads = _reads(input_graph_def)
    fetches = {node.name: reads.get(node.name, f"{node.name}:0") for node in variables}
    values = sess.run(fetches) if fetches else {}
    found = messages.GraphDef()
    found.library.CopyFrom(inference.library)
    found.versions.CopyFrom(inference.versions)
    handles = {node.name for node in variables if node.op == "VarHandleOp"}
    for node in inference.node:
        if node.name in values:
            _write_constant(found.node.add(), node, np.asarray(values[node.name]))
        elif node.input and _source(node.input[0]) in handles and node.op in _FROZEN:
            _FROZEN[node.op](found, node)
        else:
            found.node.add().CopyFrom(node)
    return found


def _reads(graph_def: Any) -> dict[str, str]:
    """The tensor that gives the value of a resource variable, by the variable's name."""
    reads = (node for node in graph_def.node if node.op == "ReadVariableOp")
    return {_source(node.input[0]): f"{node.name}:0" for node in reads}


def _write_constant(message: Any, variable: Any, value: Any) -> None:
    message.name, message.op, message.device = variable.name, "Const", variable.device
    dtype = as_dtype(variable.attr["dtype"].type).base_dtype
    write_attribute(message.attr["dtype"], "type", dtype.ir)
    fill_tensor(message.attr["value"].tensor, value, dtype.ir)


def _freeze_read(found: Any, node: Any) -> None:
    message = found.node.add(name=node.name, op="Identity", device=node.device)
    message.input.extend(node.input)
    message.attr["T"].CopyFrom(node.attr["dtype"])
    _copy(message, node, ("_class",))


def _freeze_gather(found: Any, node: Any) -> None:
    axis = found.node.add(name=f"{node.name}/axis", op="Const", device=node.device)
    write_attribute(axis.attr["dtype"], "type", "i32")
    fill_tensor(axis.attr["value"].tensor, np.zeros((), np.int32), "i32")
    message = found.node.add(name=node.name, op="GatherV2", device=node.device)
    message.input.extend([*node.input[:2], axis.name, *node.input[2:]])
    message.attr["Tparams"].CopyFrom(node.attr["dtype"])
    write_attribute(message.attr["Taxis"], "type", "i32")
    _copy(message, node, ("Tindices", "batch_dims", "_class"))


def _copy(message: Any, node: Any, names: Iterable[str]) -> None:
    for name in names:
        if name in node.attr:
            message.attr[name].CopyFrom(node.attr[name])


# What reads a resource variable, reads a constant instead.
_FROZEN: Mapping[str, Callable[[Any, Any], None]] = {
    "ReadVariableOp": _freeze_read,
    "ResourceGather": _freeze_gather,
}


# ---- what inference does not need ----------------------------------------------------------------
def remove_training_nodes(input_graph: Any, protected_nodes: Collection[str] | None = None) -> Any:
    """A GraphDef without ``CheckNumerics``, and without ``Identity`` and ``StopGradient`` where no
    control edge or colocation needs them. ``protected_nodes`` stay.
    """
    protected = set(protected_nodes or ())
    spliced: dict[str, str] = {}
    needed = {name for node in input_graph.node for name in _colocated(node)}
    needed |= {_source(text) for node in input_graph.node for text in node.input if text[:1] == "^"}
    for node in input_graph.node:
        controlled = any(text.startswith("^") for text in node.input)
        free = node.name not in needed and not controlled
        removable = node.op in _CHECKS or (node.op in _SKIPPED and free)
        if removable and node.name not in protected:
            spliced[node.name] = node.input[0]
    found = messages.GraphDef()
    for node in input_graph.node:
        if node.name in spliced:
            continue
        message = found.node.add()
        message.CopyFrom(node)
        del message.input[:]
        message.input.extend(text for text in map(_spliced(spliced), node.input) if text)
    return found


def _spliced(spliced: Mapping[str, str]) -> Callable[[str], str]:
    """What an input becomes; nothing for a control input from a node that is gone."""

    def rename(text: str) -> str:
        if text.startswith("^"):
            return "" if text[1:] in spliced else text
        seen = set()
        while (name := re.sub(":0$", "", text)) in spliced and name not in seen:
            seen.add(name)
            text = spliced[name]
        return text

    return rename


def tensor_shape_from_node_def_name(graph: Any, input_name: str) -> Any:
    """The static shape of the tensor ``input_name`` (``"node"`` or ``"node:0"``)."""
    name = input_name if ":" in input_name else f"{input_name}:0"
    return graph.get_tensor_by_name(name).get_shape()
