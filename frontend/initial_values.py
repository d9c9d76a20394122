"""Initial values that are computed from other variables.

One run initialises all variables, so an initial value must not read a variable that has no value
yet. The nodes between such a read and the initial value are made a second time, on
``InitializedValue`` nodes.
"""

from __future__ import annotations

from typing import Any

from stepforge.frontend.graph import create_op
from stepforge.frontend.graph_collections import GraphKeys
from stepforge.frontend.operation import Operation, Tensor

_READS_SAFELY = (
    "IsVariableInitialized",
    "VarIsInitializedOp",
    "ReadVariableOp",
    "InitializedValue",
)


def guarded(initial_value: Tensor, name: str) -> Tensor:
    """``initial_value`` or a copy of it that takes initial values for variables that have none yet.

    ``name`` is that of the variable to be initialised; copied nodes get it as a suffix.
    """
    needed = _depends_on_variables(initial_value.op)
    if not needed:
        return initial_value
    copies: dict[Tensor, Tensor] = {}
    for op in needed:  # in order of creation, so inputs come first
        _copy(op, name, copies)
    return copies.get(initial_value, initial_value)


def _depends_on_variables(root: Operation) -> list[Operation]:
    """The nodes under ``root`` in order of creation; none where no variable is among them."""
    found: set[Operation] = set()
    pending = [root]
    while pending:
        op = pending.pop()
        if op in found:
            continue
        if op.control_flow_context is not None:
            return []
        found.add(op)
        if op.type not in _READS_SAFELY:
            pending += [tensor.op for tensor in op.inputs]
    if not any(op.type == "VariableV2" for op in found):
        return []
    return sorted(found, key=lambda op: op.id)


def _copy(op: Operation, name: str, copies: dict[Tensor, Tensor]) -> None:
    if op.type in _READS_SAFELY:
        return
    if op.type == "VariableV2":
        variable = _variable_of(op)
        if variable is not None:
            inputs = [op.outputs[0], variable.initial_value]
            made = create_op("InitializedValue", inputs, None, "cond/Merge")
            copies[op.outputs[0]] = made.outputs[0]
        return
    inputs = [copies.get(tensor, tensor) for tensor in op.inputs]
    if all(new is old for new, old in zip(inputs, op.inputs, strict=True)):
        return
    made = create_op(op.type, inputs, dict(op.attrs), f"{op.name}_{name}/")
    copies.update(zip(op.outputs, made.outputs, strict=True))


def _variable_of(op: Operation) -> Any:
    for key in (GraphKeys.GLOBAL_VARIABLES, GraphKeys.LOCAL_VARIABLES):
        for variable in op.graph.get_collection(key):
            if variable.op is op:
                return variable
    return None
