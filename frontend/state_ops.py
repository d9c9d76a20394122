"""Assignments and updates of variables as functions: ``tf.assign``, ``tf.scatter_add`` ...

Each takes a reference variable (or the result of another assignment to it) or a resource variable,
whose own methods then do the work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepforge.frontend.convert import convert_to_tensor
from stepforge.frontend.dtypes import int32
from stepforge.frontend.graph import create_op
from stepforge.frontend.nodedefs.state import variable_output
from stepforge.frontend.operation import Operation, Tensor
from stepforge.frontend.scopes import name_scope


def reference(ref: Any) -> Tensor:
    """The tensor through which ``ref`` is assigned. Raises: TypeError where it is no variable."""
    tensor = getattr(ref, "ref_tensor", ref)
    if not isinstance(tensor, Tensor) or not tensor.dtype.is_ref_dtype:
        raise TypeError(f"an assignment needs a variable, not {ref!r}")
    return tensor


def is_resource(ref: Any) -> bool:
    """True for resource variables."""
    return getattr(ref, "handle", None) is not None


def _assignment(
    type_: str, ref: Any, value: Any, name: str | None, attrs: dict[str, Any]
) -> Tensor:
    target = reference(ref)
    with name_scope(name, type_, [target]) as scope:
        operand = value
        if not isinstance(value, Tensor):
            operand = convert_to_tensor(value, target.dtype.base_dtype, name="value")
        return create_op(type_, [target, operand], attrs, scope).outputs[0]


def assign(
    ref: Any,
    value: Any,
    validate_shape: bool | None = None,
    use_locking: bool | None = None,
    name: str | None = None,
) -> Any:
    """Set a variable; the result has the new value.

    Raises: ValueError where the shape does not fit (unless ``validate_shape`` is False), TypeError
    for another dtype.
    """
    if is_resource(ref):
        return ref.assign(value, name=name)
    attrs = {"validate_shape": validate_shape is not False, "use_locking": use_locking is not False}
    assigned = _assignment("Assign", ref, value, name, attrs)
    if validate_shape is False and not assigned.shape.is_subtype_of(reference(ref).shape):
        variable_output(reference(ref)).op.attrs["_any_shape"] = True
    return assigned


def assign_add(
    ref: Any, value: Any, use_locking: bool | None = None, name: str | None = None
) -> Any:
    """Add to a variable; the result has the new value. Raises: as ``assign``."""
    if is_resource(ref):
        return ref.assign_add(value, name=name)
    return _assignment("AssignAdd", ref, value, name, {"use_locking": bool(use_locking)})


def assign_sub(
    ref: Any, value: Any, use_locking: bool | None = None, name: str | None = None
) -> Any:
    """Subtract from a variable; the result has the new value. Raises: as ``assign``."""
    if is_resource(ref):
        return ref.assign_sub(value, name=name)
    return _assignment("AssignSub", ref, value, name, {"use_locking": bool(use_locking)})


def is_variable_initialized(ref: Any, name: str | None = None) -> Tensor:
    """Whether a variable has a value: a bool scalar."""
    if is_resource(ref):
        found: Tensor = ref.is_initialized(name=name)
        return found
    return create_op("IsVariableInitialized", [reference(ref)], None, name).outputs[0]


def count_up_to(ref: Any, limit: int, name: str | None = None) -> Tensor:
    """Increment an integer variable, which fails at ``limit``; the result has the value before."""
    if is_resource(ref):
        return create_op("ResourceCountUpTo", [ref.handle], {"limit": limit}, name).outputs[0]
    return create_op("CountUpTo", [reference(ref)], {"limit": limit}, name).outputs[0]


# ---- updates of rows -----------------------------------------------------------------------------
def _scatter(type_: str, name: str, doc: str, *, locking: bool = False) -> Callable[..., Any]:
    def function(
        ref: Any,
        indices: Any,
        updates: Any,
        use_locking: bool = locking,
        name: str | None = None,
    ) -> Any:
        if is_resource(ref):
            op = scatter_resource("Resource" + type_, ref, indices, updates, name)
            return ref.read_after(op)
        target = reference(ref)
        with name_scope(name, type_, [target]) as scope:
            where = convert_to_tensor(indices, name="indices", preferred_dtype=int32)
            rows = convert_to_tensor(updates, target.dtype.base_dtype, name="updates")
            attrs = {"use_locking": use_locking}
            return create_op(type_, [target, where, rows], attrs, scope).outputs[0]

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def scatter_resource(
    type_: str, variable: Any, indices: Any, updates: Any, name: str | None = None
) -> Operation:
    """The node of a scatter update of a resource variable."""
    rows = convert_to_tensor(updates, variable.dtype.base_dtype)
    with name_scope(name, type_, [variable]) as scope:
        where = convert_to_tensor(indices, name="indices", preferred_dtype=int32)
        return create_op(type_, [variable.handle, where, rows], None, scope)


def _rows(what: str) -> str:
    return f"""{what} the rows ``updates`` at ``indices`` of a variable's first axis; gives its new
    value.

    ``updates`` has the shape of ``indices`` followed by that of a row, or is a scalar.
    Raises: ValueError where shapes do not fit; a run raises InvalidArgumentError for a bad index.
    """


def _elements(what: str) -> str:
    return f"""{what} ``updates`` at index vectors ``indices``; gives the variable's new value.

    The last axis of ``indices`` indexes the first axes of the variable.
    Raises: ValueError where shapes do not fit; a run raises InvalidArgumentError for a bad index.
    """


scatter_update = _scatter("ScatterUpdate", "scatter_update", _rows("Set"), locking=True)
scatter_add = _scatter("ScatterAdd", "scatter_add", _rows("Add"))
scatter_sub = _scatter("ScatterSub", "scatter_sub", _rows("Subtract"))
scatter_mul = _scatter("ScatterMul", "scatter_mul", _rows("Multiply by"))
scatter_div = _scatter("ScatterDiv", "scatter_div", _rows("Divide by"))
scatter_min = _scatter("ScatterMin", "scatter_min", _rows("Take the minimum with"))
scatter_max = _scatter("ScatterMax", "scatter_max", _rows("Take the maximum with"))
scatter_nd_update = _scatter("ScatterNdUpdate", "scatter_nd_update", _elements("Set"), locking=True)
scatter_nd_add = _scatter("ScatterNdAdd", "scatter_nd_add", _elements("Add"))
scatter_nd_sub = _scatter("ScatterNdSub", "scatter_nd_sub", _elements("Subtract"))
