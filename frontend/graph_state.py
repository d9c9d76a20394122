"""What ``with`` blocks change about nodes that are made inside them: a graph's state per thread.

Names, control dependencies, devices, colocation and the control flow context. The public functions
of ``scopes`` work on the default graph's state.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from stepforge.frontend.devices import DeviceScope, apply_scopes, merged_name
from stepforge.frontend.names import check_scope_name
from stepforge.frontend.sites import Stack


class ScopeState(threading.local):
    """The state itself. Stacks are tuples, so that a context can put back what it found."""

    def __init__(self) -> None:
        self.name = ""
        self.controllers: tuple[Controller, ...] = ()
        self.devices: tuple[DeviceScope, ...] = ()
        self.device: str | None = ""  # what `devices` come to, None where functions are among them
        self.colocation: tuple[Any, ...] = ()
        self.context: Any = None
        self.gradient_overrides: dict[str, str] = {}
        self.stack: Stack | None = None  # of nodes that no line of a program makes

    def place(self, op: Any) -> None:
        """Give a new node its device and colocation."""
        if self.device is None:
            apply_scopes(self.devices, op)
        else:
            op.device = self.device
        if self.colocation:
            groups = {group for other in self.colocation for group in other.colocation_groups()}
            op.attrs["_class"] = sorted(groups)
            op.device = self.colocation[-1].device

    def control_inputs(self, inputs: Iterable[Any]) -> list[Any]:
        """The control inputs of a new node with data inputs from the nodes ``inputs``.

        A node that already depends on a block's control inputs through its data needs none of them.
        """
        found: list[Any] = []
        sources = set(inputs)
        for controller in self.controllers:
            if not sources.isdisjoint(controller.seen):
                continue
            found += [op for op in controller.inputs if op not in sources and op not in found]
        return found


class Restoring:
    """A context that sets fields of a graph's state and puts the old ones back."""

    def __init__(self, state: ScopeState, enter: Callable[[], dict[str, Any]], result: Any = None):
        self._state, self._enter, self._result = state, enter, result
        self._saved: list[dict[str, Any]] = []

    def __enter__(self) -> Any:
        fields = self._enter()
        state = self._state
        self._saved.append({key: getattr(state, key) for key in fields})
        for key, value in fields.items():
            setattr(state, key, value)
        return self._result

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for key, value in self._saved.pop().items():
            setattr(self._state, key, value)


class Controller:
    """A ``control_dependencies`` block: its control inputs and the nodes made inside so far."""

    def __init__(self, inputs: list[Any]) -> None:
        self.inputs = inputs
        self.seen: set[Any] = set()


def with_devices(state: ScopeState, given: Any) -> Restoring:
    """The context of ``tf.device(given)``. A malformed device fails where the block is entered."""

    def enter() -> dict[str, Any]:
        devices = (*state.devices, DeviceScope.of(given))
        return {"devices": devices, "device": merged_name(devices)}

    return Restoring(state, enter)


def with_controller(state: ScopeState, inputs: list[Any] | None) -> Restoring:
    """The context of ``tf.control_dependencies``; None drops dependencies and control flow."""

    def enter() -> dict[str, Any]:
        if inputs is None:
            return {"controllers": (), "context": None}
        return {"controllers": (*state.controllers, Controller(inputs))}

    return Restoring(state, enter)


def with_colocation(state: ScopeState, op: Any, *, ignore_existing: bool) -> Restoring:
    """The context of ``colocate_with``: nodes go where ``op`` is; device scopes do not matter."""

    def enter() -> dict[str, Any]:
        outer = () if ignore_existing or op is None else state.colocation
        return {"colocation": (*outer, op) if op is not None else ()}

    return Restoring(state, enter)


class GraphNameScope:
    """The context of ``graph.name_scope(name)``: yields the prefix of names, ``scope/``."""

    __slots__ = ("_graph", "_name", "_old")

    def __init__(self, graph: Any, name: Any) -> None:
        self._graph, self._name = graph, name
        self._old: list[str] = []

    def __enter__(self) -> str:
        graph, name = self._graph, self._name
        state = graph.state
        if not name:
            new, prefix = "", ""
        else:
            name = name.decode() if isinstance(name, bytes) else name
            check_scope_name(name, root=not state.name)
            new = name[:-1] if name[-1] == "/" else graph.unique_name(name)
            prefix = new + "/"
        self._old.append(state.name)
        state.name = new
        return prefix

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._graph.state.name = self._old.pop()
