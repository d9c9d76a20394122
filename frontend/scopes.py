"""Scopes and collections as functions: ``tf.name_scope``, ``tf.device``, ``tf.get_collection`` ...

They act on the default graph.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any

from stepforge.frontend import default
from stepforge.frontend.graph import Graph, get_default_graph, graph_of, on_default_graph
from stepforge.frontend.graph_state import GraphNameScope


class name_scope:
    """A context that puts ``name/`` before the names of nodes made inside; yields that prefix.

    ``default_name`` stands in where ``name`` is None, as the functions of the API use it; the graph
    is that of ``values``. A name that ends in ``/`` re-enters a scope, None or ``""`` leaves all
    scopes.

    Raises: ValueError for an invalid name, for ``values`` without any name, or of several graphs.
    """

    __slots__ = ("_entered", "_has_values", "_name", "_values")

    def __init__(
        self,
        name: str | None,
        default_name: str | None = None,
        values: Iterable[Any] | None = None,
    ) -> None:
        if default_name is not None and not isinstance(default_name, str):
            raise TypeError(
                f"`default_name` type ({type(default_name)}) is not a string type. You likely "
                "meant to pass this into the `values` kwarg."
            )
        self._name = default_name if name is None else name
        self._has_values = values is not None
        self._values = () if values is None else values
        self._entered: list[tuple[Graph | None, GraphNameScope]] = []

    @property
    def name(self) -> str | None:
        """The name that was asked for."""
        return self._name

    def __enter__(self) -> str:
        if self._name is None and self._has_values:
            raise ValueError(
                "At least one of name (None) and default_name (None) must be provided."
            )
        current = get_default_graph()
        graph = graph_of(self._values) if self._has_values else current
        pushed = None
        if graph is not current:
            default.graphs.push(graph)
            pushed = graph
        scope = GraphNameScope(graph, self._name)
        try:
            prefix = scope.__enter__()
        except BaseException:
            if pushed is not None:
                default.graphs.remove(pushed)
            raise
        self._entered.append((pushed, scope))
        return prefix

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pushed, scope = self._entered.pop()
        scope.__exit__(kind, error, trace)
        if pushed is not None:
            default.graphs.remove(pushed)


def op_scope(
    values: Iterable[Any], name: str | None, default_name: str | None = None
) -> name_scope:
    """The older form of ``name_scope``, with its arguments in another order."""
    return name_scope(name, default_name, values)


def init_scope() -> Any:
    """A context outside of control dependencies and control flow, for what runs before steps."""
    return get_default_graph().control_dependencies(None)


device = on_default_graph(Graph.device)
colocate_with = on_default_graph(Graph.colocate_with)
container = on_default_graph(Graph.container)
control_dependencies = on_default_graph(Graph.control_dependencies)
add_to_collection = on_default_graph(Graph.add_to_collection)
add_to_collections = on_default_graph(Graph.add_to_collections)
get_collection = on_default_graph(Graph.get_collection)
get_collection_ref = on_default_graph(Graph.get_collection_ref)
get_all_collection_keys = on_default_graph(Graph.get_all_collection_keys)
