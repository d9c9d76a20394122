"""The graph: nodes in order of creation, their names, collections and the scopes they are made in.

Making a node runs its ``extract`` rule once with the graph's inference extractor, which gives the
dtypes and static shapes of its outputs; a rule that finds a mistake raises before the node is in
the graph.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from stepforge.frontend import default, graph_state, sites
from stepforge.frontend.graph_collections import Collections
from stepforge.frontend.names import NameTable, check_op_name
from stepforge.frontend.nodedefs.base import REQUIRED, NodeDef, lookup_node
from stepforge.frontend.operation import Operation, Tensor
from stepforge.ir.errors import DTypeError, ShapeError, quote


class Graph:
    """A TensorFlow graph. Threads may add nodes at the same time; scopes are per thread."""

    # How notebooks show a graph: set by the layer that draws.
    drawn: ClassVar[Callable[[Graph], str] | None] = None

    def __init__(self) -> None:
        self.state = graph_state.ScopeState()
        self.seed: int | None = None
        self.data: dict[str, Any] = {}  # what other parts keep per graph, under names of their own
        self._operations: list[Operation] = []
        self._by_name: dict[str, Operation] = {}
        self._names = NameTable()
        self._collections = Collections()
        self._lock = threading.RLock()
        self._finalized = False
        self._inference: Any = None
        self._seed_requests = 0
        self._unfeedable: set[Tensor] = set()
        self._unfetchable: set[Operation] = set()

    # ---- nodes ----------------------------------------------------------------------------------
    def create_op(
        self,
        type_: str,
        inputs: Sequence[Tensor],
        attrs: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> Operation:
        """Add a node of ``type_`` and return it.

        ``name`` defaults to the type; one that ends in ``/`` is taken as it is.

        Raises: RuntimeError where the graph is finalized; ValueError for a bad name, an input of
        another graph or shapes that do not fit; TypeError for dtypes that do not fit.
        """
        definition = lookup_node(type_)
        self._check_open()
        for tensor in inputs:
            if tensor.op.graph is not self:
                raise ValueError(f"{tensor} is not from this graph.")
        state = self.state
        stack = sites.user_stack() if state.stack is None else state.stack
        with self._lock:
            full_name = self._node_name(name or type_)
            merged = _attributes(definition, attrs)
            control = state.control_inputs([t.op for t in inputs]) if state.controllers else []
            op = Operation(self, full_name, definition, tuple(inputs), merged, control, stack)
            self._infer(op)
            self._register(op)
        return op

    def _node_name(self, name: str) -> str:
        if name[-1] != "/":
            full_name = self.unique_name(name)
        else:
            full_name = name[:-1]
            if full_name in self._by_name:
                raise ValueError(f"Duplicate node name in graph: '{full_name}'")
        check_op_name(full_name)
        return full_name

    def _infer(self, op: Operation) -> None:
        try:
            values = self.inference.outputs(op)
        except ShapeError as error:
            raise ShapeError(f"{error} for {op.described()}{quote(op.site)}") from None
        except DTypeError as error:
            raise DTypeError(f"{error}{quote(op.site)}") from None
        op.add_outputs(values)

    def _register(self, op: Operation) -> None:
        state = self.state
        state.place(op)
        if state.gradient_overrides and op.type in state.gradient_overrides:
            op.attrs["_gradient_op_type"] = state.gradient_overrides[op.type]
        op.id = len(self._operations)
        self._operations.append(op)
        self._by_name[op.name] = op
        for controller in state.controllers:
            controller.seen.add(op)
        if state.context is not None:
            op.control_flow_context = state.context
            state.context.add_op(op)

    def _repr_html_(self) -> str | None:
        """A drawing, for notebooks."""
        draw = type(self).drawn
        return draw(self) if draw is not None else None

    @property
    def inference(self) -> Any:
        """The extractor that infers the types of this graph's tensors."""
        if self._inference is None:
            from stepforge.frontend.extract.extractor import InferenceExtractor

            self._inference = InferenceExtractor()
        return self._inference

    @property
    def control_flow_context(self) -> Any:
        """The cond branch or while body that nodes are made in now, or None."""
        return self.state.context

    @control_flow_context.setter
    def control_flow_context(self, context: Any) -> None:
        self.state.context = context

    def get_operations(self) -> list[Operation]:
        """All nodes in order of creation."""
        return list(self._operations)

    @property
    def version(self) -> int:
        """A number that grows with every node."""
        return len(self._operations)

    def next_op_seed(self) -> int:
        """The op seed of a node that was given none, in a graph that has a seed: 0, 1, 2 ..."""
        with self._lock:
            self._seed_requests += 1
            return self._seed_requests - 1

    def as_graph_def(self, from_version: int | None = None, add_shapes: bool = False) -> Any:
        """The graph as a ``GraphDef``: all nodes, or those that are newer than ``from_version``.

        ``add_shapes`` notes static shapes. Raises: ImportError where protobuf is not installed,
        ValueError over 2 GB.
        """
        from stepforge.frontend.graphdef import exporting

        return exporting.graph_def(self._operations[from_version or 0 :], add_shapes)

    # ---- finding elements -----------------------------------------------------------------------
    def as_graph_element(
        self, obj: Any, allow_tensor: bool = True, allow_operation: bool = True
    ) -> Any:
        """The Tensor or Operation that ``obj`` is, names, or stands for (a variable).

        Raises: TypeError for what cannot be one, KeyError for an unknown name, ValueError for a
        malformed name or an element of another graph.
        """
        wanted = _wanted(allow_tensor, allow_operation)
        convert = getattr(obj, "_as_graph_element", None)
        found = convert() if convert is not None else obj
        if isinstance(found, bytes):
            found = found.decode()
        if isinstance(found, str):
            return self._named(found, allow_tensor, allow_operation)
        if isinstance(found, Tensor) and allow_tensor:
            if found.graph is not self:
                raise ValueError(f"Tensor {found} is not an element of this graph.")
            return found
        if isinstance(found, Operation) and allow_operation:
            if found.graph is not self:
                raise ValueError(f"Operation {found!r} is not an element of this graph.")
            return found
        raise TypeError(f"Can not convert a {type(obj).__name__} into a {wanted}.")

    def _named(self, name: str, allow_tensor: bool, allow_operation: bool) -> Any:
        if ":" not in name:
            return self._named_operation(name, allow_operation)
        if not allow_tensor:
            raise ValueError(f"Name {name!r} appears to refer to a Tensor, not a Operation.")
        op_name, _, index = name.partition(":")
        if not op_name or not index.isdecimal():
            raise ValueError(
                f"The name {name!r} looks a like a Tensor name, but is not a valid one. Tensor "
                'names must be of the form "<op_name>:<output_index>".'
            )
        problem = f"The name {name!r} refers to a Tensor which does not exist. The operation, "
        op = self._by_name.get(op_name)
        if op is None:
            raise KeyError(f"{problem}{op_name!r}, does not exist in the graph.")
        if int(index) >= len(op.outputs):
            raise KeyError(f"{problem}{op_name!r}, exists but only has {len(op.outputs)} outputs.")
        return op.outputs[int(index)]

    def _named_operation(self, name: str, allow_operation: bool) -> Operation:
        op = self._by_name.get(name)
        form = 'Tensor names must be of the form "<op_name>:<output_index>".'
        if not allow_operation:
            if op is not None:
                raise ValueError(f"The name {name!r} refers to an Operation, not a Tensor. {form}")
            raise ValueError(
                f"The name {name!r} looks like an (invalid) Operation name, not a Tensor. {form}"
            )
        if op is None:
            raise KeyError(f"The name {name!r} refers to an Operation not in the graph.")
        return op

    def get_operation_by_name(self, name: str) -> Operation:
        """The node called ``name``. Raises: TypeError, ValueError, KeyError."""
        if not isinstance(name, (str, bytes)):
            raise TypeError(f"Operation names are strings (or similar), not {type(name).__name__}.")
        found: Operation = self.as_graph_element(name, allow_tensor=False)
        return found

    def get_tensor_by_name(self, name: str) -> Tensor:
        """The tensor called ``name`` (``"node:0"``). Raises: TypeError, ValueError, KeyError."""
        if not isinstance(name, (str, bytes)):
            raise TypeError(f"Tensor names are strings (or similar), not {type(name).__name__}.")
        found: Tensor = self.as_graph_element(name, allow_operation=False)
        return found

    # ---- scopes ---------------------------------------------------------------------------------
    def unique_name(self, name: str, mark_as_used: bool = True) -> str:
        """``name`` in the current scope, with a number where it is taken."""
        scope = self.state.name
        return self._names.unique(f"{scope}/{name}" if scope else name, mark_as_used=mark_as_used)

    def get_name_scope(self) -> str:
        """The current name scope without its last ``/``."""
        return self.state.name

    def name_scope(self, name: str | None) -> AbstractContextManager[str]:
        """A context that puts ``name/`` before names; yields that prefix."""
        return graph_state.GraphNameScope(self, name)

    def device(self, device_name_or_function: Any) -> AbstractContextManager[Any]:
        """A context whose nodes get the given device, where inner contexts leave it open."""
        return graph_state.with_devices(self.state, device_name_or_function)

    def colocate_with(self, op: Any, ignore_existing: bool = False) -> AbstractContextManager[Any]:
        """A context whose nodes are placed where ``op`` is."""
        found = None if op is None else getattr(op, "op", op)
        return graph_state.with_colocation(self.state, found, ignore_existing=ignore_existing)

    def container(self, container_name: str) -> AbstractContextManager[Any]:
        """A context that names the container of stateful nodes; there is one container only."""
        return graph_state.Restoring(self.state, dict, container_name)

    def control_dependencies(
        self, control_inputs: Iterable[Any] | None
    ) -> AbstractContextManager[Any]:
        """A context whose nodes run after ``control_inputs``; None ends outer dependencies.

        Raises: TypeError for what is neither node nor tensor.
        """
        if control_inputs is None:
            return graph_state.with_controller(self.state, None)
        found: dict[Operation, None] = {}
        for given in control_inputs:
            element = self.as_graph_element(getattr(given, "op", given))
            found[element if isinstance(element, Operation) else element.op] = None
        return graph_state.with_controller(self.state, list(found))

    def gradient_override_map(self, op_type_map: dict[str, str]) -> AbstractContextManager[Any]:
        """A context whose nodes of the given types take gradients registered under other names."""
        if not isinstance(op_type_map, dict):
            raise TypeError("`op_type_map` must be a dictionary mapping strings to strings")
        state = self.state
        return graph_state.Restoring(
            state, lambda: {"gradient_overrides": {**state.gradient_overrides, **op_type_map}}
        )

    def as_default(self) -> AbstractContextManager[Graph]:
        """A context in which this is the default graph of the thread."""
        return default.graphs.entered(self)

    # ---- collections ----------------------------------------------------------------------------
    @property
    def collections(self) -> list[Any]:
        """Names of all collections."""
        return [name for name, _ in self._collections.items()]

    def add_to_collection(self, name: Any, value: Any) -> None:
        """Append ``value`` to a collection. Raises: RuntimeError where the graph is finalized."""
        self._check_open()
        self._collections.add(name, value)

    def add_to_collections(self, names: Any, value: Any) -> None:
        """Append ``value`` once to each of several collections."""
        self._check_open()
        self._collections.add_to_all(names, value)

    def get_collection(self, name: Any, scope: str | None = None) -> list[Any]:
        """A copy of a collection, restricted to names that match the pattern ``scope``."""
        return self._collections.find(name, scope)

    def get_collection_ref(self, name: Any) -> list[Any]:
        """A collection's list itself."""
        return self._collections.reference(name)

    def get_all_collection_keys(self) -> list[Any]:
        """Names of collections that are strings."""
        return self._collections.keys()

    def clear_collection(self, name: Any) -> None:
        """Empty a collection. Raises: RuntimeError where the graph is finalized."""
        self._check_open()
        self._collections.clear(name)

    # ---- life -----------------------------------------------------------------------------------
    @property
    def finalized(self) -> bool:
        """True after ``finalize``."""
        return self._finalized

    def finalize(self) -> None:
        """Forbid further nodes."""
        self._finalized = True

    def _check_open(self) -> None:
        if self._finalized:
            raise RuntimeError("Graph is finalized and cannot be modified.")

    @property
    def building_function(self) -> bool:
        """False: there are no function graphs."""
        return False

    def prevent_feeding(self, tensor: Tensor) -> None:
        """Forbid feeds of ``tensor``."""
        self._unfeedable.add(tensor)

    def is_feedable(self, tensor: Tensor) -> bool:
        """False where ``prevent_feeding`` forbade feeds."""
        return tensor not in self._unfeedable

    def prevent_fetching(self, op: Operation) -> None:
        """Forbid fetches of ``op`` and its outputs."""
        self._unfetchable.add(op)

    def is_fetchable(self, tensor_or_op: Any) -> bool:
        """False where ``prevent_fetching`` forbade fetches."""
        return getattr(tensor_or_op, "op", tensor_or_op) not in self._unfetchable


def _wanted(allow_tensor: bool, allow_operation: bool) -> str:
    if allow_tensor and allow_operation:
        return "Tensor or Operation"
    if not allow_tensor and not allow_operation:
        raise ValueError("allow_tensor and allow_operation can't both be False.")
    return "Tensor" if allow_tensor else "Operation"


def _attributes(definition: NodeDef, given: dict[str, Any] | None) -> dict[str, Any]:
    merged = {**definition.attrs, **given} if given else dict(definition.attrs)
    if len(merged) > len(definition.attrs):
        surplus = [k for k in merged if k not in definition.attrs and not k.startswith("_")]
        if surplus:
            raise TypeError(f"{definition.type} has no attribute {surplus[0]!r}")
    for key, value in merged.items():
        if value is REQUIRED:
            raise TypeError(f"{definition.type} needs the attribute {key!r}")
    return merged


_global_lock = threading.Lock()
_global_graph: list[Graph] = []  # at most one: the default graph outside of every `as_default`


def get_default_graph() -> Graph:
    """The default graph of this thread; without ``as_default`` that is one for all threads."""
    stack = default.graphs.stack
    if stack:
        return stack[-1]  # type: ignore[no-any-return]
    with _global_lock:
        if not _global_graph:
            _global_graph.append(Graph())
        return _global_graph[0]


def reset_default_graph() -> None:
    """Begin a new global default graph.

    Raises: AssertionError inside a graph's or a session's context.
    """
    if default.graphs.stack or default.sessions.stack:
        raise AssertionError(
            "Do not use tf.reset_default_graph() to clear nested graphs. If you need a cleared "
            "graph, exit the nesting and create a new graph."
        )
    with _global_lock:
        _global_graph.clear()


def graph_of(values: Iterable[Any]) -> Graph:
    """The graph that ``values`` belong to, the default graph where none of them has one.

    Raises: ValueError where two of them belong to different graphs.
    """
    first: Any = None
    for value in values:
        graph = getattr(value, "graph", None)
        if not isinstance(graph, Graph):
            continue
        if first is None:
            first = value
        elif graph is not first.graph:
            raise ValueError(
                f"{value} must be from the same graph as {first} (graphs are {graph} and "
                f"{first.graph})."
            )
    return get_default_graph() if first is None else first.graph


def create_op(
    type_: str,
    inputs: Sequence[Tensor],
    attrs: dict[str, Any] | None = None,
    name: str | None = None,
) -> Operation:
    """Add a node to the graph of its inputs; see ``Graph.create_op``."""
    graph = graph_of(inputs) if inputs else get_default_graph()
    return graph.create_op(type_, inputs, attrs, name)


def on_default_graph(method: Callable[..., Any]) -> Callable[..., Any]:
    """A function that calls a method of ``Graph`` on the default graph."""

    def function(*args: Any, **keywords: Any) -> Any:
        return method(get_default_graph(), *args, **keywords)

    function.__name__ = function.__qualname__ = method.__name__
    function.__doc__ = method.__doc__
    return function
