"""From the input of a command and its ``--fetch`` and ``--feed`` to a step that can be called.

Where nothing says what is fed, it is what must be: every placeholder that the fetches need, in the
order of the graph.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from stepforge.cli_files import CommandError
from stepforge.cli_inputs import GraphInput, Text
from stepforge.frontend.extract.extractor import identifier
from stepforge.frontend.extract.order import needed
from stepforge.frontend.extract.program import FeedKey, Request, extract
from stepforge.frontend.operation import Operation
from stepforge.ir import dims
from stepforge.ir.core import Function
from stepforge.ir.records import record
from stepforge.ir.types import Type
from stepforge.runtime.feeds import feed_tensor
from stepforge.runtime.text_steps import TextProgram
from stepforge.runtime.variables import VariableStore

_LISTED = 8  # names in a message that offers some


@record(frozen=True)
class Argument:
    """What a step is called with. ``type.shape`` has names for sizes that are not known."""

    name: str
    type: Type
    tensor: Any = None

    @property
    def static(self) -> tuple[int | None, ...] | None:
        """The sizes that are known, None for the others; None without a rank."""
        if self.type.shape is None:
            return None
        return tuple(size if isinstance(size, int) else None for size in self.type.shape)


@record(frozen=True)
class CalledStep:
    """A callable, what it is called with, and what it gives, by name (operations give None)."""

    call: Any
    arguments: tuple[Argument, ...]
    results: tuple[str, ...]
    store: VariableStore


def add_step(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which step of a graph is meant."""
    parser.add_argument("--fetch", action="append", default=[], metavar="TENSOR",
                        help="a result, or an operation to run (once for each)")
    parser.add_argument("--feed", action="append", default=[], metavar="TENSOR",
                        help="what is fed (once for each); without it, the placeholders that the"
                        " fetches need")


def fetches_of(given: GraphInput, names: Sequence[str]) -> list[Any]:
    """What is computed: ``names``, or what was named with the input. Raises: CommandError."""
    found = [given.element(name) for name in names] or list(given.fetches)
    if not found:
        ends = ", ".join(_ends(given))
        raise CommandError(
            "nothing to compute: name results with --fetch"
            + (f" (nothing else uses {ends})" if ends else "")
        )
    return list(dict.fromkeys(found))


def _ends(given: GraphInput) -> list[str]:
    """Tensors that no other node takes: what is probably meant, the last ones."""
    operations = given.graph.get_operations()
    used = {tensor.op for op in operations for tensor in op.inputs}
    used |= {op for each in operations for op in each.control_inputs}
    ends = [op.name for op in operations if op not in used and (op.inputs or op.control_inputs)]
    return ends[-_LISTED:]


def feeds_of(
    given: GraphInput, fetches: Sequence[Any], names: Sequence[str], beside: Sequence[Any] = ()
) -> list[Any]:
    """The fed tensors: ``names``, or the placeholders that ``fetches`` need where ``beside`` are
    fed.
    """
    if names:
        known = [tensor_name(known_name(given, name)) for name in names]
        return [feed_tensor(given.graph, name) for name in known]
    nodes = needed(fetches, set(beside))
    return [node.outputs[0] for node in sorted(nodes, key=lambda node: node.id)
            if node.type == "Placeholder"]


def tensor_name(name: str) -> str:
    """A tensor by the name that users know it by: ``x`` is ``x:0``."""
    return name if ":" in name else f"{name}:0"


def known_name(given: GraphInput | Text, name: str) -> str:
    """What the graph calls a tensor, as short as can be, where a Python file names it otherwise."""
    plain = name.removesuffix(":0")
    if isinstance(given, Text) or plain not in given.named:
        return plain
    element = given.element(plain)  # the graph's own names go first
    return str(element.name).removesuffix(":0")


def argument_of(tensor: Any) -> Argument:
    """What a fed tensor takes. A size that is not known is called ``x_0``: of x, the axis 0."""
    name = tensor.name.removesuffix(":0")
    shape = None
    if tensor.shape.ndims is not None:
        plain = identifier(name.replace(":", "."))
        sizes = enumerate(tensor.shape.as_list())
        shape = tuple(dims.named(f"{plain}_{i}") if n is None else n for i, n in sizes)
    return Argument(name, Type(tensor.dtype.base_dtype.ir, shape), tensor)


def make_step(given: GraphInput | Text, options: argparse.Namespace) -> CalledStep:
    """The step that the options ask for, compiled where its feeds tell enough."""
    if isinstance(given, Text):
        return _text_step(only(given), given)
    fetches = fetches_of(given, options.fetch)
    feeds = feeds_of(given, fetches, options.feed)
    call = given.session.make_callable(fetches, feeds)
    names = tuple(fetch.name.removesuffix(":0") for fetch in fetches)
    return CalledStep(call, tuple(map(argument_of, feeds)), names, given.session.store)


def _text_step(function: Function, given: Text) -> CalledStep:
    program = TextProgram(function, given.restored)
    arguments = tuple(Argument(param.name, param.type) for param in function.params)
    return CalledStep(program.step, arguments, tuple(program.results), program.store)


def only(given: Text) -> Function:
    """The one function of a text. Raises: CommandError where there are several."""
    functions = given.module.functions
    if len(functions) != 1:
        names = ", ".join(function.name for function in functions)
        raise CommandError(
            f"{given.path} has {len(functions)} functions: {given.path}:NAME is one ({names})"
        )
    return functions[0]


def functions_of(given: GraphInput | Text, options: argparse.Namespace) -> list[Function]:
    """The tensor-level functions that an input means, before any pass."""
    if isinstance(given, Text):
        return list(given.module.functions)
    fetches = fetches_of(given, options.fetch)
    fed = map(argument_of, feeds_of(given, fetches, options.feed))
    keys = [FeedKey(argument.tensor, argument.type.dtype, argument.static) for argument in fed]
    name = next((f.op.name for f in fetches if not isinstance(f, Operation)), "step")
    name = name.replace("/", ".") if len(fetches) == 1 else "step"
    return [extract(Request(fetches, keys, given.session.store.shape, name)).function]
