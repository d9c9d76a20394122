"""Python files that build a graph: running one *is* building it.

A file runs with a fresh default graph, as a module that is not ``__main__``, and without arguments.
Names that were given behind a colon say what of it is meant: functions are called, tensors are what
a command computes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import runpy
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stepforge.cli_files import CommandError
from stepforge.frontend.graph import Graph
from stepforge.ir.errors import OpError
from stepforge.ir.records import record
from stepforge.runtime.ahead_steps import fetched


@record(frozen=True)
class Built:
    """A graph, what was named of it, and its tensors and operations that have names of their own in
    a program: as its variables, or as fields of what its functions return.
    """

    graph: Graph
    fetches: tuple[Any, ...]
    named: Mapping[str, Any]


def run_script(path: Path, names: Sequence[str]) -> Built:
    """Run a Python file, and the functions among ``names``. Raises: CommandError."""
    default = Graph()
    try:
        with default.as_default(), _as_program(path):
            namespace = runpy.run_path(str(path), run_name=path.stem)
            own = {name: _value(namespace[name]) for name in names if name in namespace}
        graph = _meant(default, own.values(), namespace.values())
        found = [own[name] if name in own else _in_graph(path, graph, name) for name in names]
        fetches = [list(_elements(graph, value)) for value in found]
    except (CommandError, BrokenPipeError):
        raise
    except (Exception, SystemExit) as error:
        raise CommandError(f"{path} fails{_place(path, error)}\n{_words(error)}") from error
    for name, value, elements in zip(names, found, fetches, strict=True):
        if not elements and not callable(namespace.get(name)):
            raise CommandError(f"{name} of {path} is no function and no tensor, but {value!r}")
    spaces = [*(_fields(own[name]) for name in own), namespace]
    named = {n: e for space in reversed(spaces) for n, e in _named(graph, space)}
    return Built(graph, tuple(element for each in fetches for element in each), named)


@contextlib.contextmanager
def _as_program(path: Path) -> Iterator[None]:
    """The path and arguments of a program that Python is given; afterwards they are as before."""
    folder, arguments = os.path.dirname(os.path.abspath(path)), sys.argv
    sys.path.insert(0, folder)
    sys.argv = [str(path)]
    try:
        yield
    finally:
        sys.argv = arguments
        sys.path.remove(folder)


def _value(named: Any) -> Any:
    return named() if callable(named) else named


def _meant(default: Graph, values: Iterable[Any], others: Iterable[Any]) -> Graph:
    """The graph of what was named; else the default one, or where nothing was added to that, the
    one graph that variables of the program are about.
    """
    own = [default] if default.get_operations() else []
    for graphs in (_graphs(values), own, _graphs(others)):
        known = dict.fromkeys(graphs)
        if len(known) == 1:
            return next(iter(known))
    return default


def _graphs(values: Iterable[Any]) -> Iterator[Graph]:
    for each in values:
        value = list(_fields(each).values()) or each
        if isinstance(value, (list, tuple)):
            yield from _graphs(value)
        else:
            graph = value if isinstance(value, Graph) else getattr(value, "graph", None)
            if isinstance(graph, Graph):
                yield graph


def _in_graph(path: Path, graph: Graph, name: str) -> Any:
    try:
        return fetched(graph, name)
    except (KeyError, ValueError):
        raise CommandError(f"{path} has no function or tensor {name}") from None


def _elements(graph: Graph, value: Any) -> Iterator[Any]:
    """The tensors and operations in a value, which may be nested. Raises: ValueError for those of
    another graph.
    """
    value = list(_fields(value).values()) or value
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _elements(graph, part)
    elif not isinstance(value, str):
        with contextlib.suppress(TypeError):
            yield graph.as_graph_element(value)


def _fields(value: Any) -> Mapping[str, Any]:
    """The parts of a value that have names: of a dictionary, a named tuple, a dataclass."""
    if isinstance(value, Mapping):
        return {name: part for name, part in value.items() if isinstance(name, str)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return dict(value._asdict())
    own = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)} if own else {}


def _named(graph: Graph, namespace: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The names in a program, or in what it gave, of a tensor or an operation of the graph."""
    for name, value in namespace.items():
        if not (_fields(value) or isinstance(value, (Mapping, list, tuple))):
            with contextlib.suppress(ValueError):
                yield from ((name, element) for element in _elements(graph, value))


def _place(path: Path, error: BaseException) -> str:
    last = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return f" at line {last[-1].lineno}: {last[-1].line}" if last else ""


def _words(error: BaseException) -> str:
    return str(error) if isinstance(error, OpError) else f"{type(error).__name__}: {error}"
