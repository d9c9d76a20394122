"""Sessions: where variables live and where fetches and feeds meet their compiled step.

``Session.run`` and ``make_callable`` share one cache of programs. The instance's ``run`` is a
native look-up that hands a known combination of fetches and feeds straight to its step; ``_run`` is
the way in for everything else.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from stepforge.codegen import large_memory
from stepforge.codegen.signature import Structure
from stepforge.frontend import default
from stepforge.frontend.graph import Graph, get_default_graph
from stepforge.ir.errors import OpError
from stepforge.runtime import errors
from stepforge.runtime.callables import EmptyCallable, NamedCallable, SteppingCallable
from stepforge.runtime.config import CallableOptions, ConfigProto
from stepforge.runtime.devices import DeviceAttributes, check_placement, local_devices
from stepforge.runtime.feeds import bind_feeds, feed_tensors, is_composite
from stepforge.runtime.fetches import FetchTree, bind_fetches, named_element
from stepforge.runtime.native_run import make_runner
from stepforge.runtime.program import Program
from stepforge.runtime.tracing import check_options, run_with_options
from stepforge.runtime.variables import VariableStore
from stepforge.runtime.variant import Variant

_SESSIONS: weakref.WeakSet[BaseSession] = weakref.WeakSet()


class BaseSession:
    """What ``Session`` and ``InteractiveSession`` share."""

    def __init__(
        self, target: str = "", graph: Graph | None = None, config: ConfigProto | None = None
    ) -> None:
        _check_arguments(target, graph, config)
        self._graph = graph if graph is not None else get_default_graph()
        self._config = config if config is not None else ConfigProto()
        self._devices = local_devices(max(1, self._config.device_count.get("CPU", 1)))
        self.closed = False
        self.store = _new_store(self._config)
        self._programs: dict[Any, Program] = {}
        self._packing: weakref.WeakSet[Program] = weakref.WeakSet()
        self._compiles: list[dict[str, Any]] = []
        self._mutex = threading.RLock()
        self._runner: Any = None
        timed = self._config.operation_timeout_in_ms
        if type(self).run in (BaseSession.run, Session.run) and not timed:
            self._runner = make_runner(self._run)
            self.run = self._runner  # type: ignore[method-assign]
        _SESSIONS.add(self)

    # ---- properties -----------------------------------------------------------------------------
    @property
    def graph(self) -> Graph:
        """The graph that this session runs."""
        return self._graph

    @property
    def graph_def(self) -> Any:
        """The graph as a ``GraphDef``."""
        return self._graph.as_graph_def()

    @property
    def sess_str(self) -> bytes:
        """The target: local sessions have none."""
        return b""

    # ---- running --------------------------------------------------------------------------------
    def run(
        self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None
    ) -> Any:
        """Compute ``fetches`` (tensors, operations, names, in any nesting) and return their values.

        ``feed_dict`` maps tensors to values that replace them. Raises: RuntimeError for a closed
        session, TypeError and ValueError for fetches and feeds that are none, OpError as operations
        do.
        """
        return self._run(fetches, feed_dict, options, run_metadata)

    def _run(
        self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None
    ) -> Any:
        self.check_open()
        check_options(options, run_metadata)
        tree = bind_fetches(self._graph, fetches, handles=True)
        tensors, values = bind_feeds(self._graph, feed_dict)
        if not tree.leaves:
            return tree.pack([])
        program = self._program(tree, tensors)
        given = dict(zip(tensors, values, strict=True))
        feeds = [given[tensor] for tensor in program.feeds]
        result = self._run_step(program, feeds, options, run_metadata)
        if tree.structure == "packed":
            return tree.pack(result)
        if self._runner is not None and _are_tensors(fetches, tree, feed_dict, tensors):
            self._runner.remember(fetches, program.feeds, program.step)
        return result

    def _run_step(
        self, program: Program, values: Sequence[Any], options: Any, run_metadata: Any
    ) -> Any:
        timeout = self._config.operation_timeout_in_ms
        if options is None and run_metadata is None and not timeout:
            return program.step(*values)
        return run_with_options(program, values, options, run_metadata, timeout)

    def _program(self, tree: FetchTree, tensors: list[Any], *, ordered: bool = False) -> Program:
        """The program of fetches and feeds, in any order of feeds unless it must be ``ordered``."""
        structure: Structure = "list" if tree.structure == "packed" else tree.structure
        key: Any = structure, tree.leaves, frozenset(tensors)
        found = self._programs.get(key)
        if found is not None and (not ordered or found.feeds == tuple(tensors)):
            return found
        with self._mutex:
            self.check_open()
            if ordered and key in self._programs:  # in another order
                key = structure, tree.leaves, tuple(tensors)
            if key not in self._programs:
                made = Program(self, tree.leaves, tensors, structure, None, _name(tree.leaves))
                self._programs[key] = made
            return self._programs[key]

    def _packing_program(self, tree: FetchTree, tensors: list[Any]) -> Program:
        """A program that builds the fetch structure itself; it lives as long as its callable."""
        with self._mutex:
            self.check_open()
            made = Program(self, tree.leaves, tensors, "packed", tree.pack, _name(tree.leaves))
            self._packing.add(made)
        return made

    def make_callable(
        self, fetches: Any, feed_list: Any = None, accept_options: bool = False
    ) -> Callable[..., Any]:
        """A function of the values of ``feed_list``, in order, that returns the values of
        ``fetches``.

        Where each key feeds one tensor and there are no options it is the compiled step itself.
        Raises: TypeError where ``feed_list`` is no list or tuple, and what ``run`` raises for
        fetches and feed keys, at once.
        """
        self.check_open()
        if feed_list is not None and not isinstance(feed_list, (list, tuple)):
            raise TypeError("Argument `feed_list` must be a list or tuple.")
        tree = bind_fetches(self._graph, fetches)
        keys = list(feed_list or ())
        tensors = [tensor for key in keys for tensor in feed_tensors(self._graph, key)]
        if not tree.leaves:
            return EmptyCallable(self)
        if tree.structure == "packed":
            program = self._packing_program(tree, tensors)
        else:
            program = self._program(tree, tensors, ordered=True)
        with contextlib.suppress(OpError):  # what a step cannot do is told when it is called
            program.prepare()
        composite = any(is_composite(key) for key in keys)
        if not composite and not accept_options and not self._config.operation_timeout_in_ms:
            return program.step  # type: ignore[no-any-return]
        run = functools.partial(self._run_step, program)
        return SteppingCallable(
            program, run, keys if composite else None, accept_options=accept_options
        )

    def _make_callable_from_options(self, options: CallableOptions) -> NamedCallable:
        """A function of ready arrays for ``options.feed`` that gives the values of
        ``options.fetch``, after ``options.target`` ran; all three are names.

        Raises: InvalidArgumentError for names that are not in the graph, or nothing to run.
        """
        fetches = [named_element(self._graph, name) for name in options.fetch]
        targets = [named_element(self._graph, name, node=True) for name in options.target]
        feeds = [named_element(self._graph, name) for name in options.feed]
        if not fetches and not targets:
            raise errors.nothing_to_run()
        step = self.make_callable(fetches + targets, feeds, accept_options=True)

        def run(values: Sequence[Any], metadata: Any) -> list[Any]:
            return step(*values, options=options.run_options, run_metadata=metadata)  # type: ignore[no-any-return]

        return NamedCallable(run, len(feeds), len(fetches))

    # ---- life -----------------------------------------------------------------------------------
    def close(self) -> None:
        """Release the session; further runs raise RuntimeError, in all threads.

        Steps that run at the time come to their end.
        """
        with self._mutex:
            self.closed = True
            programs = [*self._programs.values(), *self._packing]
            self._programs.clear()
            self.store = _new_store(self._config)
        if self._runner is not None:
            self._runner.forget_all()
        for program in programs:
            program.close()
        large_memory.trim()

    def as_default(self) -> AbstractContextManager[Any]:
        """A context in which this session is the default one; leaving it does not close it."""
        return default.sessions.entered(self)

    def check_open(self) -> None:
        """Raises: RuntimeError where the session was closed or its graph has no nodes."""
        if self.closed:
            raise errors.closed_session()
        if not self._graph.version:
            raise errors.empty_graph()

    # ---- looking at it --------------------------------------------------------------------------
    def compiled(self, program: Program, variant: Variant, reason: str) -> None:
        """Record a compile."""
        self._compiles.append(
            {
                "step": program.name,
                "reason": reason,
                "seconds": variant.seconds,
                "feeds": [str(f.type) for f in variant.signature.feeds],
                "native": variant.native,
                "stored": variant.stored,
                "disk": variant.disk,
                "backend": variant.backend,
                "note": variant.note,
            }
        )

    def cache_info(self) -> dict[str, Any]:
        """How many steps and variants there are, and why each was compiled.

        ``stored`` says that the machine code came from disk; ``disk`` tells in words what did, and
        why not the rest.
        """
        return {
            "steps": len(self._programs) + len(self._packing),
            "compiles": len(self._compiles),
            "seconds": sum(c["seconds"] for c in self._compiles),
            "history": list(self._compiles),
        }

    def annotate(self, error: BaseException) -> None:
        """Give an error of a step the graph node that it stems from."""
        site = getattr(error, "site", None)
        if isinstance(error, OpError) and site is not None and error.op is None:
            with contextlib.suppress(KeyError, ValueError):
                error.attach(self._graph.get_operation_by_name(site.node))

    def list_devices(self) -> list[DeviceAttributes]:
        """The devices of this session. Raises: CancelledError where it was closed."""
        if self.closed:
            raise errors.closed_devices()
        return list(self._devices)

    def check_placement(self, nodes: Iterable[Any]) -> None:
        """Raises: InvalidArgumentError for a node pinned to a device that the session has not."""
        check_placement(nodes, self._devices, soft=self._config.allow_soft_placement)


class Session(BaseSession):
    """Runs a graph: ``Session(target='', graph=None, config=None)``."""

    def __enter__(self) -> Session:
        if getattr(self, "_contexts", None):
            raise RuntimeError(
                "Session context managers are not re-entrant. Use `Session.as_default()`"
                " if you want to enter a session multiple times."
            )
        self._contexts = [self._graph.as_default(), default.sessions.entered(self)]
        for context in self._contexts:
            context.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        contexts, self._contexts = self._contexts, []
        try:
            for context in reversed(contexts):
                context.__exit__(*exc)
        finally:
            self.close()

    @staticmethod
    def reset(target: str, containers: Any = None, config: Any = None) -> None:
        """Clear the variables of a distributed server: there is none in a local session."""
        raise errors.no_session_factory(target)


class InteractiveSession(BaseSession):
    """A session that is the default one from its construction until it is closed."""

    _open = 0

    def __init__(
        self, target: str = "", graph: Graph | None = None, config: ConfigProto | None = None
    ) -> None:
        super().__init__(target, graph, config)
        if InteractiveSession._open:
            warnings.warn(
                "An interactive session is already active. This can cause out-of-memory errors"
                " in some cases. You must explicitly call `InteractiveSession.close()` to release"
                " resources held by the other session(s).",
                stacklevel=2,
            )
        InteractiveSession._open += 1
        self._contexts = [default.sessions.entered(self, enforce_nesting=False)]
        if graph is not None:
            self._contexts.append(default.graphs.entered(graph, enforce_nesting=False))
        for context in self._contexts:
            context.__enter__()

    def close(self) -> None:
        """Release the session and take it off the stack of default sessions."""
        if not self.closed:
            InteractiveSession._open -= 1
            for context in self._contexts:
                context.__exit__(None, None, None)
        super().close()


def _check_arguments(target: Any, graph: Any, config: Any) -> None:
    if isinstance(target, ConfigProto):
        raise TypeError("target must be a string: did you mean Session(config=...)?")
    if not isinstance(target, (str, bytes)):
        raise TypeError("target must be a string")
    if target:
        raise errors.no_session_factory(target)
    if graph is not None and not isinstance(graph, Graph):
        raise TypeError("graph must be a tf.Graph")
    if config is not None and not isinstance(config, ConfigProto):
        raise TypeError("config must be a tf.ConfigProto")


def _are_tensors(fetches: Any, tree: FetchTree, feed_dict: Any, tensors: list[Any]) -> bool:
    """True where fetches and feed keys are the graph elements themselves, not names of them."""
    given = fetches if isinstance(fetches, (list, tuple)) else (fetches,)
    return all(g is leaf for g, leaf in zip(given, tree.leaves, strict=True)) and all(
        key is tensor for key, tensor in zip(feed_dict or (), tensors, strict=False)
    )


def _new_store(config: ConfigProto) -> VariableStore:
    return VariableStore(
        config.intra_op_parallelism_threads, backend=config.experimental.executor_type
    )


def _name(leaves: Any) -> str:
    return str(leaves[0].name).split(":")[0].replace("/", ".") if len(leaves) == 1 else "step"


def _drawn(graph: Graph) -> str:
    from stepforge.runtime.show.notebook import graph_html

    return graph_html(graph)


def _unlock_after_fork() -> None:
    for session in list(_SESSIONS):
        session.store.unlock()


Graph.drawn = _drawn
os.register_at_fork(after_in_child=_unlock_after_fork)
__all__ = ["InteractiveSession", "Session"]
