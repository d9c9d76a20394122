"""A picture as text for Graphviz: scopes of names are clusters, hovering shows what a box is."""

from __future__ import annotations

from dataclasses import field

from stepforge.ir.records import record
from stepforge.runtime.show.picture import Box, Picture

STYLES = {
    "feed": 'fillcolor="#e3f1e3", color="#5b915b"',
    "const": 'fillcolor="#f2f0ea", color="#a09a8a"',
    "state": 'fillcolor="#f3e6f5", color="#8a3f8f"',
    "result": 'fillcolor="#fbeadf", color="#b4531a"',
    "op": 'fillcolor="#e8f0fa", color="#4a78ad"',
}


@record
class _Scope:
    boxes: list[int] = field(default_factory=list)
    inner: dict[str, _Scope] = field(default_factory=dict)


def dot(picture: Picture) -> str:
    """The text of a picture in Graphviz's language."""
    lines = [
        f"digraph {quoted(picture.name)} {{",
        '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=10];',
        '  edge [color="#8a8f98", arrowsize=0.6];',
    ]
    root = _Scope()
    for number, box in enumerate(picture.boxes):
        scope = root
        for part in filter(None, box.scope.split("/")):
            scope = scope.inner.setdefault(part, _Scope())
        scope.boxes.append(number)
    _scope(root, "", picture, lines)
    for arrow in picture.arrows:
        style = ", style=dashed" if arrow.control else ""
        tip = quoted(arrow.title)
        lines.append(f"  n{arrow.source} -> n{arrow.target} [tooltip={tip}{style}];")
    return "\n".join([*lines, "}"]) + "\n"


def _scope(scope: _Scope, path: str, picture: Picture, lines: list[str]) -> None:
    indent = "  " * (path.count("/") + 1)
    lines += [f"{indent}{_box(number, picture.boxes[number])}" for number in scope.boxes]
    for name, inner in scope.inner.items():
        inside = f"{path}{name}/"
        lines.append(f"{indent}subgraph {quoted('cluster_' + inside)} {{")
        lines.append(f'{indent}  label={quoted(name)}; color="#c9c5ba"; fontname="Helvetica";')
        _scope(inner, inside, picture, lines)
        lines.append(f"{indent}}}")


def _box(number: int, box: Box) -> str:
    label = quoted("\n".join(filter(None, box.label)))
    return f"n{number} [label={label}, tooltip={quoted(box.title)}, {STYLES[box.kind]}];"


def quoted(text: str) -> str:
    """A string of the language, which has escapes of its own for labels."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
