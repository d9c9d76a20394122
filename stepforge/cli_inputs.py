"""What commands work on: a Python file that builds a graph, a graph in a file, or IR text.

Running a Python file *is* building the graph: it runs with a fresh default graph, as a module that
is not ``__main__``. Names behind a colon say what of it is meant: functions are called, tensors are
what a command computes.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import runpy
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from stepforge import cli_files
from stepforge.cli_files import CommandError as CommandError
from stepforge.frontend.graph import Graph
from stepforge.frontend.graph_state import Restoring
from stepforge.frontend.graphdef.importing import import_graph_def
from stepforge.frontend.operation import Operation
from stepforge.frontend.variable_lists import global_variables_initializer
from stepforge.ir.core import Module
from stepforge.ir.errors import IRError, OpError
from stepforge.ir.parser import parse_module
from stepforge.ir.types import numpy_dtype
from stepforge.ir.verify import verify_module
from stepforge.runtime.ahead_steps import fetched
from stepforge.runtime.session import Session

INPUT_HELP = """\
The input is one of
  model.py             a Python file that builds a graph when it is run (not as __main__)
  model.py:build       the same, and then a call of build(); what that returns is computed where
                       no --fetch says what else
  model.py:loss,train  the same, and the tensors, operations or functions of these names, which
                       are variables of the file or names in the graph
  model.pb model.pbtxt a GraphDef, as tf.train.write_graph writes it; also model.pb:logits
  model.sf             functions as IR text, as `stepforge dump --stage tensor` prints them;
                       model.sf:step is one of them
Tensors go by their names in the graph (`logits` is `logits:0`), or else by the names that the
Python file has for them.
"""
_SUFFIXES = (".py", *cli_files.GRAPHS, ".sf")
_VARIABLES = ("VariableV2", "VarHandleOp")


@dataclass(frozen=True)
class GraphInput:
    """A graph, a session with the values of its variables, and what was named behind a colon.

    ``named`` has the tensors and operations that are variables of a Python file.
    """

    path: Path
    graph: Graph
    session: Session
    restored: dict[str, Any]
    fetches: tuple[Any, ...]
    named: Mapping[str, Any]

    def element(self, name: str) -> Any:
        """The tensor or operation of that name in the graph, or else in the Python file.

        Raises: CommandError.
        """
        try:
            return fetched(self.graph, name)
        except (KeyError, ValueError) as error:
            if name in self.named:
                return self.named[name]
            near = difflib.get_close_matches(name, self._names())
            more = f" (there is {', '.join(near)})" if near else ""
            raise CommandError(f"{error.args[0]}{more}") from None

    def _names(self) -> list[str]:
        return [*self.named, *(op.name for op in self.graph.get_operations())]


@dataclass(frozen=True)
class Text:
    """Functions of the IR, and the values of their variables."""

    path: Path
    module: Module
    restored: dict[str, Any]


def add_input(parser: argparse.ArgumentParser) -> None:
    """The arguments that say what a command works on."""
    parser.add_argument(
        "input", metavar="INPUT", help="model.py, model.py:function, model.pb, model.pbtxt or"
        " model.sf; see below"
    )
    parser.add_argument(
        "--restore", metavar="FILE.npz",
        help="values of variables by name; without it they have their initial values",
    )


def read(options: argparse.Namespace) -> GraphInput | Text:
    """The input of a command. Raises: CommandError; ValueError, OpError for graphs that are wrong.
    """
    name, _, behind = options.input.partition(":")
    path = cli_files.existing(name)
    if path.suffix not in _SUFFIXES:
        raise CommandError(f"{path}: the name of an input ends in one of {' '.join(_SUFFIXES)}")
    names = [part.strip() for part in behind.split(",") if part.strip()]
    restored = _restored(getattr(options, "restore", None))
    if path.suffix == ".sf":
        return Text(path, _chosen(parse_text(cli_files.read_text(path), path), names), restored)
    graph = Graph()
    build = _import if path.suffix in cli_files.GRAPHS else _run_script
    with graph.as_default():
        fetches, named = build(path, graph, names)
        initialize = [global_variables_initializer(), *_assignments(graph, restored)]
    session = Session(graph=graph)
    session.run(initialize)
    for variable, value in restored.items():
        _restore(session, graph, variable, value)
    return GraphInput(path, graph, session, restored, fetches, named)


# ---- IR text -------------------------------------------------------------------------------------


def parse_text(text: str, path: Path | str) -> Module:
    """The functions in a text, verified. Raises: CommandError."""
    try:
        module = parse_module(text)
        verify_module(module)
    except IRError as error:
        raise CommandError(f"{path} is not IR:\n{error}") from None
    if not module.functions:
        raise CommandError(f"{path} is not IR: it has no function")
    return module


def _chosen(module: Module, names: Sequence[str]) -> Module:
    known = {function.name: function for function in module.functions}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise CommandError(f"there is no function {unknown[0]}: {', '.join(known)}")
    return Module(tuple(known[name] for name in names)) if names else module


# ---- graphs --------------------------------------------------------------------------------------

# What is to be computed, and the tensors and operations that have other names than in the graph.
_Built: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]


def _import(path: Path, graph: Graph, names: Sequence[str]) -> _Built:
    """Fill ``graph`` from a file; no line of a program made its nodes."""
    graph_def = cli_files.read_graph_def(path)
    with Restoring(graph.state, lambda: {"stack": ()}):
        import_graph_def(graph_def, name="")
    return tuple(_named(graph, name) for name in names), {}


def _run_script(path: Path, graph: Graph, names: Sequence[str]) -> _Built:
    """Run a Python file, and the functions among ``names``; what is named or returned, and its
    variables.
    """
    folder = os.path.dirname(os.path.abspath(path))
    sys.path.insert(0, folder)
    try:
        namespace = runpy.run_path(str(path), run_name=path.stem)
        found = [_looked_up(path, graph, namespace, name) for name in names]
    except (CommandError, BrokenPipeError):
        raise
    except Exception as error:
        last = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        where = f" at line {last[-1].lineno}: {last[-1].line}" if last else ""
        text = str(error) if isinstance(error, OpError) else f"{type(error).__name__}: {error}"
        raise CommandError(f"{path} fails{where}\n{text}") from error
    finally:
        sys.path.remove(folder)
    fetches = tuple(element for value in found for element in _elements(graph, value))
    single = ((n, v) for n, v in namespace.items() if not isinstance(v, (Mapping, list, tuple)))
    named = {name: element for name, value in single for element in _elements(graph, value)}
    return fetches, named


def _looked_up(path: Path, graph: Graph, namespace: Mapping[str, Any], name: str) -> Any:
    """What a function returns, the value of a variable of the file, or a tensor of the graph."""
    if name not in namespace:
        try:
            return fetched(graph, name)
        except (KeyError, ValueError):
            raise CommandError(f"{path} has no function or tensor {name}") from None
    value = namespace[name]
    if callable(value):
        return value()
    if not list(_elements(graph, value)):
        raise CommandError(f"{name} of {path} is no function and no tensor, but {value!r}")
    return value


def _elements(graph: Graph, value: Any) -> Iterator[Any]:
    """The tensors and operations in a value, which may be nested."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _elements(graph, part)
    elif not isinstance(value, str):
        with contextlib.suppress(TypeError, ValueError):  # ValueError: it is of another graph
            yield graph.as_graph_element(value)


def _named(graph: Graph, name: str) -> Any:
    try:
        return fetched(graph, name)
    except (KeyError, ValueError) as error:
        raise CommandError(str(error.args[0])) from None


# ---- variables -----------------------------------------------------------------------------------


def _assignments(graph: Graph, restored: Mapping[str, Any]) -> list[Operation]:
    """Nodes that give the variables of an imported graph their first values, as TensorFlow calls
    them; what is restored, and what the graph has lists of, needs none.
    """
    if graph.get_all_collection_keys():
        return []
    operations = graph.get_operations()
    by_name = {op.name: op for op in operations}
    variables = [op.name for op in operations if op.type in _VARIABLES and op.name not in restored]
    return [by_name[f"{n}/Assign"] for n in variables if f"{n}/Assign" in by_name]


def _restored(file: str | None) -> dict[str, Any]:
    if file is None:
        return {}
    arrays = cli_files.read_arrays(cli_files.existing(file))
    return {name.removesuffix(":0"): array for name, array in arrays.items()}


def _restore(session: Session, graph: Graph, name: str, value: Any) -> None:
    try:
        node = graph.get_operation_by_name(name)
    except (KeyError, ValueError):
        node = None
    if node is None or node.type not in _VARIABLES:
        raise CommandError(f"--restore has a value for {name}, which is no variable of the graph")
    dtype = node.attrs["dtype"]
    shape = None if node.attrs.get("_any_shape") else node.attrs["shape"]
    fits = shape is None or (len(shape) == value.ndim and all(
        want in (None, have) for want, have in zip(shape, value.shape, strict=True)
    ))
    if not fits:
        raise CommandError(f"variable {name} has the shape {shape}; --restore gives {value.shape}")
    if not np.can_cast(value.dtype, numpy_dtype(dtype), "same_kind"):
        raise CommandError(f"variable {name} is {dtype}; --restore gives {value.dtype}")
    session.store.cell(node, dtype).value = value
