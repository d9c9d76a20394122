"""What commands work on: a Python file that builds a graph, or the text of the IR.

Running the file *is* building the graph: it runs with a fresh default graph, as a module that is
not ``__main__``; a function named behind a colon is called after that.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stepforge.frontend.graph import Graph
from stepforge.frontend.variable_lists import global_variables_initializer
from stepforge.ir.core import Module
from stepforge.ir.errors import IRError, OpError
from stepforge.ir.parser import parse_module
from stepforge.runtime.session import Session

INPUT_HELP = """\
The input is one of
  model.py         a Python file that builds a graph when it is run (not as __main__)
  model.py:build   the same, and then a call of build()
  model.sf         functions as IR text, as `stepforge dump --stage tensor` prints them
Tensors go by their names in the graph: `logits` is `logits:0`.
"""


class CommandError(Exception):
    """What a command cannot do; the text is for the user."""


@dataclass(frozen=True)
class Script:
    """A graph, a session with the values of its variables, and where it came from."""

    path: Path
    graph: Graph
    session: Session
    restored: dict[str, Any]


@dataclass(frozen=True)
class Text:
    """Functions of the IR, and the values of their variables."""

    path: Path
    module: Module
    restored: dict[str, Any]


def add_input(parser: argparse.ArgumentParser) -> None:
    """The arguments that say what a command works on."""
    parser.add_argument("input", help="model.py, model.py:function or model.sf")
    parser.add_argument(
        "--restore", metavar="FILE.npz",
        help="values of variables by name; without it they have their initial values",
    )


def read(options: argparse.Namespace) -> Script | Text:
    """The input of a command. Raises: CommandError."""
    name, _, function = options.input.partition(":")
    path = Path(name)
    if not path.is_file():
        raise CommandError(f"there is no file {path}")
    restored = _restored(options.restore)
    if path.suffix == ".sf":
        try:
            return Text(path, parse_module(path.read_text(encoding="utf-8")), restored)
        except IRError as error:
            raise CommandError(f"{path} is not IR:\n{error}") from None
    graph = Graph()
    with graph.as_default():
        _run_script(path, function)
        initialize = global_variables_initializer()
    session = Session(graph=graph)
    session.run(initialize)
    for variable, value in restored.items():
        _restore(session, graph, variable, value)
    return Script(path, graph, session, restored)


def _run_script(path: Path, function: str) -> None:
    folder = os.path.dirname(os.path.abspath(path))
    sys.path.insert(0, folder)
    try:
        namespace = runpy.run_path(str(path), run_name=path.stem)
        if function:
            if not callable(namespace.get(function)):
                raise CommandError(f"{path} has no function {function}")
            namespace[function]()
    except CommandError:
        raise
    except Exception as error:
        last = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        where = f" at line {last[-1].lineno}: {last[-1].line}" if last else ""
        text = str(error) if isinstance(error, OpError) else f"{type(error).__name__}: {error}"
        raise CommandError(f"{path} fails{where}\n{text}") from error
    finally:
        sys.path.remove(folder)


def _restored(file: str | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        with np.load(file) as archive:
            return {name.removesuffix(":0"): archive[name] for name in archive.files}
    except (OSError, ValueError) as error:
        raise CommandError(f"cannot read {file}: {error}") from None


def _restore(session: Session, graph: Graph, name: str, value: Any) -> None:
    try:
        node = graph.get_operation_by_name(name)
    except KeyError:
        raise CommandError(f"--restore has a value for {name}, which the graph has not") from None
    cell = session.store.cell(node, node.outputs[0].dtype.base_dtype.ir)
    shape = session.store.shape(node)
    if shape is not None and shape != value.shape:
        raise CommandError(f"variable {name} has the shape {shape}; --restore gives {value.shape}")
    cell.value = value
