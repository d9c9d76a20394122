"""``variable_scope`` and ``get_variable``.

Names of variables come from variable scopes alone; entering one also opens a name scope, for the
nodes that are made in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any

from stepforge.frontend.graph import get_default_graph, graph_of
from stepforge.frontend.graph_collections import GraphKeys
from stepforge.frontend.scopes import name_scope
from stepforge.frontend.variable_store import AUTO_REUSE, VariableScope, open_scopes
from stepforge.frontend.variables import (
    Variable,
    VariableAggregation,
    VariableSynchronization,
)


def get_variable_scope() -> VariableScope:
    """The current variable scope."""
    return open_scopes().current


def get_variable(
    name: str,
    shape: Any = None,
    dtype: Any = None,
    initializer: Any = None,
    regularizer: Any = None,
    trainable: bool | None = None,
    collections: Any = None,
    caching_device: Any = None,
    partitioner: Any = None,
    validate_shape: bool = True,
    use_resource: bool | None = None,
    custom_getter: Any = None,
    constraint: Any = None,
    synchronization: VariableSynchronization = VariableSynchronization.AUTO,
    aggregation: VariableAggregation = VariableAggregation.NONE,
) -> Any:
    """Find or make the variable ``name`` of the current variable scope.

    Without an initializer floats begin with Glorot's uniform distribution, others with zeros.
    Raises: ValueError where it exists but may not be reused, does not exist but may not be made, or
    has another shape or dtype.
    """
    return get_variable_scope().get_variable(
        name,
        shape=shape,
        dtype=dtype,
        initializer=initializer,
        regularizer=regularizer,
        trainable=trainable,
        collections=collections,
        caching_device=caching_device,
        partitioner=partitioner,
        validate_shape=validate_shape,
        use_resource=use_resource,
        custom_getter=custom_getter,
        constraint=constraint,
        synchronization=synchronization,
        aggregation=aggregation,
    )


def get_local_variable(name: str, *args: Any, **keywords: Any) -> Any:
    """``get_variable`` of a local variable, which is not trained."""
    keywords["trainable"] = False
    keywords["collections"] = [*(keywords.get("collections") or ()), GraphKeys.LOCAL_VARIABLES]
    return get_variable(name, *args, **keywords)


class variable_scope:
    """A context in which ``get_variable`` puts ``name/`` before names; yields the scope.

    A string prolongs the current scope, a ``VariableScope`` returns to that scope. Without
    ``name_or_scope`` the name is ``default_name``, with a number where that was used already.
    ``reuse`` is True (find only), ``AUTO_REUSE`` (find or make), or None or False (as outside); the
    other settings are defaults for ``get_variable``. ``auxiliary_name_scope=False`` leaves the name
    scope as it is.

    Raises: TypeError without any name, ValueError for a bad ``reuse``.
    """

    def __init__(
        self,
        name_or_scope: Any,
        default_name: str | None = None,
        values: Iterable[Any] | None = None,
        initializer: Any = None,
        regularizer: Any = None,
        caching_device: Any = None,
        partitioner: Any = None,
        custom_getter: Any = None,
        reuse: Any = None,
        dtype: Any = None,
        use_resource: bool | None = None,
        constraint: Any = None,
        auxiliary_name_scope: bool = True,
    ) -> None:
        if default_name is None and name_or_scope is None:
            raise TypeError("If default_name is None then name_or_scope is required")
        if reuse not in (True, False, None) and reuse is not AUTO_REUSE:
            raise ValueError("The reuse parameter must be True or False or None.")
        _check_scope_arguments(name_or_scope, auxiliary_name_scope)
        self._name_or_scope, self._default_name = name_or_scope, default_name
        self._values = () if values is None else tuple(values)
        self._reuse = None if reuse is False else reuse
        self._settings = {
            "initializer": initializer,
            "regularizer": regularizer,
            "caching_device": caching_device,
            "partitioner": partitioner,
            "dtype": dtype,
            "use_resource": use_resource,
        }
        self._custom_getter, self._constraint = custom_getter, constraint
        self._auxiliary_name_scope = auxiliary_name_scope
        self._exits: list[ExitStack] = []

    def __enter__(self) -> VariableScope:
        with ExitStack() as stack:
            graph = graph_of(self._values)
            stack.enter_context(graph.as_default())
            prefix = self._enter_name_scope(stack)
            scope = self._scope(prefix)
            stack.enter_context(
                OpenScope(scope, jump=isinstance(self._name_or_scope, VariableScope))
            )
            self._exits.append(stack.pop_all())
        return scope

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exits.pop().__exit__(kind, error, trace)

    def _enter_name_scope(self, stack: ExitStack) -> str | None:
        if not self._auxiliary_name_scope:
            current = get_default_graph().get_name_scope()
            return stack.enter_context(name_scope(f"{current}/" if current else None))
        name = self._name_or_scope
        if isinstance(name, VariableScope):
            name = name.name.rpartition("/")[2]
        elif name is None:
            name = self._default_name
        if not name:
            return None  # the root variable scope
        return stack.enter_context(name_scope(name))

    def _scope(self, prefix: str | None) -> VariableScope:
        outer = open_scopes().current
        given = self._name_or_scope
        if isinstance(given, VariableScope):
            base, name, inherited = given, given.name, given.reuse
            constraint = self._constraint if self._constraint is not None else given.constraint
            original = given.original_name_scope
        else:
            if given is None and self._reuse:
                raise ValueError("reuse=True cannot be used without a name_or_scope")
            name = _unique(self._default_name or "") if given is None else given
            base, inherited, constraint = outer, outer.reuse, self._constraint
            original = name if prefix is None else prefix
            name = f"{outer.name}/{name}" if outer.name else name
        scope = base.copy(name=name, original_name_scope=original, **self._settings)
        scope.reuse, scope.constraint = self._reuse or inherited, constraint
        if self._custom_getter is not None:
            scope.custom_getter = _wrapped(self._custom_getter, base.custom_getter)
        return scope


def _check_scope_arguments(name_or_scope: Any, auxiliary_name_scope: Any) -> None:
    if not isinstance(auxiliary_name_scope, bool):
        raise TypeError(
            f"The auxiliary_name_scope must be `True` or `False`, while get {auxiliary_name_scope}"
        )
    if name_or_scope is not None and not isinstance(name_or_scope, (str, VariableScope)):
        raise TypeError("VariableScope: name_or_scope must be a string or VariableScope.")


def _unique(default_name: str) -> str:
    scopes = open_scopes()
    outer = scopes.current.name
    name = f"{outer}/{default_name}" if outer else default_name
    if not scopes.counts.get(name):
        return default_name
    number = 1
    while scopes.counts.get(f"{name}_{number}"):
        number += 1
    return f"{default_name}_{number}"


def _wrapped(getter: Any, outer: Any) -> Any:
    """A getter that goes through ``getter`` first and through the outer scope's after it."""
    if outer is None:
        return getter

    def both(true_getter: Any, *args: Any, **keywords: Any) -> Any:
        return getter(partial(outer, true_getter), *args, **keywords)

    return both


class OpenScope:
    """Makes a scope the current one. After a jump, the counts of default names are as they were."""

    def __init__(self, scope: VariableScope, *, jump: bool) -> None:
        self._scope, self._jump = scope, jump

    def __enter__(self) -> VariableScope:
        scopes = open_scopes()
        self._outer = scopes.current
        scopes.counts[self._scope.name] = scopes.counts.get(self._scope.name, 0) + 1
        self._counts = dict(scopes.counts)
        scopes.current = self._scope
        return self._scope

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        scopes = open_scopes()
        if scopes.current is not self._scope:
            raise RuntimeError("Improper nesting of variable_scope.")
        if self._jump:
            scopes.counts = self._counts
        else:
            scopes.close_subscopes(self._scope.name)
        scopes.current = self._outer


def variable_op_scope(
    values: Iterable[Any], name_or_scope: Any, default_name: str | None = None, **settings: Any
) -> variable_scope:
    """The older form of ``variable_scope``, with its arguments in another order."""
    return variable_scope(name_or_scope, default_name, values, **settings)


def fixed_size_partitioner(num_shards: int, axis: int = 0) -> Callable[..., list[int]]:
    """A partitioner into parts along an axis; scopes keep partitioners, but do not partition."""

    def partitioner(shape: Any, **_: Any) -> list[int]:
        parts = [1] * len(shape)
        parts[axis] = min(num_shards, int(shape[axis]))
        return parts

    return partitioner


def no_regularizer(_: Any) -> None:
    """Keeps a variable free of the scope's regularizer."""


__all__ = [
    "AUTO_REUSE",
    "Variable",
    "VariableScope",
    "fixed_size_partitioner",
    "get_local_variable",
    "get_variable",
    "get_variable_scope",
    "no_regularizer",
    "variable_op_scope",
    "variable_scope",
]
