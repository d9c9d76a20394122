"""Lists of variables, nodes that initialise them, and the global step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepforge.frontend import dtypes
from stepforge.frontend.convert import constant
from stepforge.frontend.core_ops import Assert, group, no_op
from stepforge.frontend.graph import Graph, get_default_graph
from stepforge.frontend.graph_collections import GraphKeys
from stepforge.frontend.operation import Operation, Tensor
from stepforge.frontend.scopes import device, name_scope
from stepforge.frontend.state_ops import is_variable_initialized


def global_variables(scope: str | None = None) -> list[Any]:
    """What ``global_variables_initializer`` initialises; ``scope`` is a pattern of names."""
    return get_default_graph().get_collection(GraphKeys.GLOBAL_VARIABLES, scope)


def all_variables() -> list[Any]:
    """``global_variables`` under its older name."""
    return global_variables()


def local_variables(scope: str | None = None) -> list[Any]:
    """Variables that belong to one process and are not saved."""
    return get_default_graph().get_collection(GraphKeys.LOCAL_VARIABLES, scope)


def trainable_variables(scope: str | None = None) -> list[Any]:
    """Variables that optimizers change by default."""
    return get_default_graph().get_collection(GraphKeys.TRAINABLE_VARIABLES, scope)


def model_variables(scope: str | None = None) -> list[Any]:
    """Variables that libraries marked as a model's."""
    return get_default_graph().get_collection(GraphKeys.MODEL_VARIABLES, scope)


def moving_average_variables(scope: str | None = None) -> list[Any]:
    """Variables that have a moving average."""
    return get_default_graph().get_collection(GraphKeys.MOVING_AVERAGE_VARIABLES, scope)


def variables_initializer(var_list: Sequence[Any], name: str = "init") -> Operation:
    """A node that gives each of ``var_list`` its initial value."""
    if not var_list:
        return no_op(name)
    return group(*[variable.initializer for variable in var_list], name=name)


def global_variables_initializer() -> Operation:
    """A node that gives all global variables their initial values."""
    return variables_initializer(global_variables())


def local_variables_initializer() -> Operation:
    """A node that gives all local variables their initial values."""
    return variables_initializer(local_variables())


def initialize_all_variables() -> Operation:
    """``global_variables_initializer`` under its older name."""
    return global_variables_initializer()


def initialize_local_variables() -> Operation:
    """``local_variables_initializer`` under its older name."""
    return local_variables_initializer()


def initialize_variables(var_list: Sequence[Any], name: str = "init") -> Operation:
    """``variables_initializer`` under its older name."""
    return variables_initializer(var_list, name)


def report_uninitialized_variables(
    var_list: Sequence[Any] | None = None, name: str = "report_uninitialized_variables"
) -> Any:
    """A string vector with the names of variables that have no value; by default of all of them."""
    from stepforge.frontend import api

    chosen = global_variables() + local_variables() if var_list is None else list(var_list)
    with name_scope(name), device("/cpu:0"):
        if not chosen:
            return constant([], dtypes.string)
        flags = api.stack([is_variable_initialized(variable) for variable in chosen])
        missing = api.logical_not(flags)
        names = constant([variable.op.name for variable in chosen])
        return api.boolean_mask(names, missing)


def assert_variables_initialized(var_list: Sequence[Any] | None = None) -> Operation | None:
    """A node whose run fails where a variable has no value; None where there is no variable."""
    chosen = global_variables() + local_variables() if var_list is None else list(var_list)
    if not chosen:
        return None
    checks = [
        Assert(is_variable_initialized(v), [f"Attempting to use uninitialized value {v.op.name}"])
        for v in chosen
    ]
    return group(*checks)


# ---- the global step -----------------------------------------------------------------------------
def get_global_step(graph: Graph | None = None) -> Any:
    """The graph's global step, None where it has none.

    Raises: ValueError where it has several, TypeError where it is no integer scalar.
    """
    graph = graph or get_default_graph()
    found = graph.get_collection(GraphKeys.GLOBAL_STEP)
    if len(found) > 1:
        raise ValueError(
            "Multiple items found in collection 'global_step', but there should be only one: "
            f"{found}."
        )
    if found:
        assert_global_step(found[0])
        return found[0]
    try:
        tensor = graph.get_tensor_by_name("global_step:0")
    except KeyError:
        return None
    assert_global_step(tensor)
    return tensor


def create_global_step(graph: Graph | None = None) -> Any:
    """Make the graph's global step, an int64 variable. Raises: ValueError where there is one."""
    from stepforge.frontend.initializers import Zeros
    from stepforge.frontend.variable_scope import get_variable

    graph = graph or get_default_graph()
    if get_global_step(graph) is not None:
        raise ValueError('"global_step" already exists.')
    with graph.as_default(), graph.name_scope(None):
        return get_variable(
            GraphKeys.GLOBAL_STEP,
            shape=[],
            dtype=dtypes.int64,
            initializer=Zeros(),
            trainable=False,
            collections=[GraphKeys.GLOBAL_VARIABLES, GraphKeys.GLOBAL_STEP],
        )


def get_or_create_global_step(graph: Graph | None = None) -> Any:
    """The graph's global step, made where there is none."""
    graph = graph or get_default_graph()
    found = get_global_step(graph)
    return create_global_step(graph) if found is None else found


def assert_global_step(global_step_tensor: Any) -> None:
    """Raises: TypeError where the argument is no integer scalar variable or tensor."""
    if not isinstance(global_step_tensor, Tensor) and not hasattr(
        global_step_tensor, "initializer"
    ):
        raise TypeError(
            f'Existing "global_step" must be a Variable or Tensor: {global_step_tensor}.'
        )
    if not global_step_tensor.dtype.base_dtype.is_integer:
        raise TypeError(
            f'Existing "global_step" does not have integer type: {global_step_tensor.dtype}'
        )
    if global_step_tensor.get_shape().ndims not in (0, None):
        raise TypeError(f'Existing "global_step" is not scalar: {global_step_tensor.get_shape()}')


def global_step(sess: Any, global_step_tensor: Any) -> int:
    """The value of the global step in a session."""
    return int(sess.run(global_step_tensor))
