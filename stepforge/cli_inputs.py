"""What commands work on: a Python file that builds a graph, a graph in a file, or IR text.

Names behind a colon say what of it is meant. A Python file is run (``cli_scripts``), everything
else is only read.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepforge import cli_files
from stepforge.cli_files import CommandError as CommandError
from stepforge.cli_scripts import Built, run_script
from stepforge.frontend.graph import Graph
from stepforge.frontend.graph_state import Restoring
from stepforge.frontend.graphdef.importing import import_graph_def
from stepforge.frontend.operation import Operation
from stepforge.frontend.variable_lists import global_variables_initializer
from stepforge.ir.core import Module
from stepforge.ir.errors import IRError
from stepforge.ir.parser import parse_module
from stepforge.ir.records import record
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


@record(frozen=True)
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
        return list({**self.named, **{op.name: op for op in self.graph.get_operations()}})


@record(frozen=True)
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
    build = _import if path.suffix in cli_files.GRAPHS else run_script
    built = build(path, names)
    with built.graph.as_default():
        initialize = [global_variables_initializer(), *_assignments(built.graph, restored)]
    session = Session(graph=built.graph)
    session.run(initialize)
    for variable, value in restored.items():
        _restore(session, built.graph, variable, value)
    return GraphInput(path, built.graph, session, restored, built.fetches, built.named)


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

def _import(path: Path, names: Sequence[str]) -> Built:
    """A graph from a file; no line of a program made its nodes."""
    graph_def, graph = cli_files.read_graph_def(path), Graph()
    with graph.as_default(), Restoring(graph.state, lambda: {"stack": ()}):
        import_graph_def(graph_def, name="")
    return Built(graph, tuple(_named(graph, name) for name in names), {})


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
