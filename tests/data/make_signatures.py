"""Writes ``frontend/graphdef/signatures.txt``: what TensorFlow declares of our node types.

Run it with TensorFlow and stepforge installed, whenever there is a new node type.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import op_def_registry

import stepforge.frontend.nodedefs
from stepforge.frontend.nodedefs.base import NODES

HEAD = """\
# The ops of TensorFlow that stepforge has: inputs -> outputs; attributes = defaults.
# `T` is an attribute that holds a dtype, `N*T` are N tensors, `*T` tensors of a list of dtypes,
# `&T` is a variable. An attribute without a default must be given, and one that is not listed after
# the `;` too. Written by tests/data/make_signatures.py.
"""


DEFAULTS: dict[str, Callable[[Any], Any]] = {
    "s": bytes.decode,
    "f": lambda number: float(f"{number:g}"),  # the digits of a float32
    "type": lambda number: dtype(number),
    "shape": lambda _: None,
}


def dtype(number: int) -> str:
    return types_pb2.DataType.Name(number)[3:].lower()


def argument(declared: Any) -> str:
    if declared.type_list_attr:
        return f"*{declared.type_list_attr}"
    text = declared.type_attr or dtype(declared.type)
    if declared.number_attr:
        text = f"{declared.number_attr}*{text}"
    return f"&{text}" if declared.is_ref else text


def default(value: Any) -> str:
    kind = value.WhichOneof("value")
    if kind is None:
        return ""
    found = getattr(value, kind)
    if kind == "list":
        found = [element for _, field in found.ListFields() for element in field]
    return f" = {json.dumps(DEFAULTS[kind](found) if kind in DEFAULTS else found)}"


def signature(op: Any) -> str:
    arguments = [*op.input_arg, *op.output_arg]
    implied = {name for a in arguments for name in (a.type_attr, a.number_attr, a.type_list_attr)}
    text = f"{', '.join(map(argument, op.input_arg))} -> {', '.join(map(argument, op.output_arg))}"
    attributes = [
        f"{a.name}: {a.type}{default(a.default_value)}"
        for a in op.attr
        if a.name not in implied or a.HasField("default_value")
    ]
    return "; ".join([text.strip(), *attributes])


def main() -> None:
    for module in pkgutil.iter_modules(stepforge.frontend.nodedefs.__path__):
        importlib.import_module(f"{stepforge.frontend.nodedefs.__name__}.{module.name}")
    found = {name: op_def_registry.get(name) for name in sorted(NODES)}
    lines = [f"{name}: {signature(op)}\n" for name, op in found.items() if op is not None]
    path = Path(__file__).parents[2] / "frontend" / "graphdef" / "signatures.txt"
    path.write_text(HEAD + "".join(lines), encoding="utf-8")
    print("not TensorFlow's:", *(name for name, op in found.items() if op is None))


if __name__ == "__main__":
    main()
