"""What a drawing shows, whatever draws it: boxes, arrows between them, and the scopes they are in.

The picture of a graph has its nodes; that of a function has its operations, joined by the values
that pass between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepforge.ir.analyses import used_values
from stepforge.ir.core import Function, Operation, Site, Symbol
from stepforge.ir.records import record
from stepforge.ir.text import Listing

LONGEST = 28  # characters of a line in a box
INNER = 4  # operations of a region that are named


@record(frozen=True)
class Box:
    """A node: two lines of text, what it is in full, its kind (a style), its scope's path, and
    where it comes from.
    """

    label: tuple[str, str]
    title: str
    kind: str = "op"
    scope: str = ""
    site: Site | None = None


@record(frozen=True)
class Arrow:
    """From one box to another, by their numbers; ``title`` says what passes."""

    source: int
    target: int
    title: str = ""
    control: bool = False


@record(frozen=True)
class Picture:
    """Boxes in program order, and arrows from earlier to later ones (but for loops)."""

    name: str
    boxes: Sequence[Box]
    arrows: Sequence[Arrow]


def of_nodes(name: str, nodes: Sequence[Any]) -> Picture:
    """The nodes of a graph and the tensors between them."""
    nodes = _with_inputs(nodes)
    numbers = {node: number for number, node in enumerate(nodes)}
    boxes, arrows = [], []
    for number, node in enumerate(nodes):
        scope, _, leaf = node.name.rpartition("/")
        outputs = ", ".join(f"{t.dtype.name}{t.shape}" for t in node.outputs)
        title = f"{node.name} = {node.type} : {outputs}\n{node.site}"
        label = short(leaf), short(node.type)
        boxes.append(Box(label, title, _kind(node.type), scope, node.site))
        for tensor in node.inputs:
            passes = f"{tensor.name} : {tensor.dtype.name}{tensor.shape}"
            arrows.append(Arrow(numbers[tensor.op], number, passes))
        arrows += [
            Arrow(numbers[other], number, f"after {other.name}", control=True)
            for other in node.control_inputs
            if other in numbers
        ]
    return Picture(name, boxes, arrows)


def _with_inputs(nodes: Sequence[Any]) -> list[Any]:
    """What is fed, before what is computed."""
    fed = {t.op: None for node in nodes for t in node.inputs}
    known = set(nodes)
    return [*(op for op in fed if op not in known), *nodes]


def _kind(type_: str) -> str:
    if type_.startswith("Placeholder"):
        return "feed"
    if type_ == "Const":
        return "const"
    return "state" if type_.startswith(("Variable", "VarHandle", "Assign", "Apply")) else "op"


def of_function(function: Function) -> Picture:
    """The operations of a function, those in regions within what holds them."""
    names = Listing(function).names
    boxes = [Box((short(names[p]), short(str(p.type))), f"{names[p]}: {p.type}", "feed")
             for p in function.params]
    made = {param: number for number, param in enumerate(function.params)}
    arrows = []
    for number, op in enumerate(function.body.ops, len(boxes)):
        results = ", ".join(names[r] for r in op.results)
        types = ", ".join(str(r.type) for r in op.results)
        title = f"{results or op.name} : {types}" if types else op.name
        site = f"\n{op.site}" if op.site is not None else ""
        boxes.append(Box((short(results or _symbols(op)), short(_described(op))), title + site,
                         _ir_kind(op), site=op.site))
        arrows += [
            Arrow(made[value], number, f"{names[value]} : {value.type}")
            for value in used_values(op)
            if value in made
        ]
        made.update(dict.fromkeys(op.results, number))
    return Picture(function.name, boxes, arrows)


def _symbols(op: Operation) -> str:
    return ", ".join(f"@{o.name}" for o in op.operands if isinstance(o, Symbol))


def _described(op: Operation) -> str:
    inside = list(dict.fromkeys(o.name for region in op.regions for o in region.ops[:-1]))
    more = "…" if len(inside) > INNER else ""
    return f"{op.name}: {' '.join(inside[:INNER])}{more}" if inside else op.name


def _ir_kind(op: Operation) -> str:
    if any(isinstance(operand, Symbol) for operand in op.operands):
        return "state"
    return "result" if op.defn.terminator else "op"


def short(text: str) -> str:
    """The end of a text that is too long for a box: of names, that is what differs."""
    return text if len(text) <= LONGEST else f"…{text[1 - LONGEST :]}"


