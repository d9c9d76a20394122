"""A picture as SVG: a drawing of its own, the same on every machine, that needs nothing installed.

Colours follow the reader's scheme, light or dark; every box and every arrow has its title.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape
from itertools import pairwise

from stepforge.ir.core import Site
from stepforge.runtime.show.layers import place
from stepforge.runtime.show.markup import attribute
from stepforge.runtime.show.picture import Box, Picture, short

CHARACTER = 6.7  # the width of one, at 11 pixels
LINE = 15.0
MARGIN = 16.0
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_LIGHT = {
    "feed": ("#e3f1e3", "#5b915b"), "const": ("#f2f0ea", "#a09a8a"),
    "state": ("#f3e6f5", "#8a3f8f"), "result": ("#fbeadf", "#b4531a"),
    "op": ("#e8f0fa", "#4a78ad"),
}  # fmt: skip
_DARK = {
    "feed": ("#1c3222", "#5f9c66"), "const": ("#2a2c31", "#7c818a"),
    "state": ("#33223a", "#b57cba"), "result": ("#3a2619", "#f0975a"),
    "op": ("#1d2d42", "#6a9bd3"),
}  # fmt: skip
_PLAIN = """\
text{font:11px ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;fill:#22252b;
text-anchor:middle}
.kind{fill:#6c7079}path{fill:none;stroke:#a9adb5;stroke-width:1.2}.after{stroke-dasharray:4 3}
marker path{fill:#a9adb5;stroke:none}a:hover rect,g:hover>rect{stroke-width:2.4}
path:hover{stroke:#b4531a;stroke-width:2.2}"""
_PLAIN_DARK = "text{fill:#dfe2e7}.kind{fill:#9096a1}path{stroke:#5b616c}marker path{fill:#5b616c}"


def svg(picture: Picture, number: Callable[[Site | None], int] | None = None) -> str:
    """The drawing of a picture, a document of its own.

    ``number`` gives the boxes of a page's drawing those of their nodes.
    """
    labels = [_label(box) for box in picture.boxes]
    sizes = [_size(label) for label in labels]
    placed = place(sizes, [(arrow.source, arrow.target) for arrow in picture.arrows])
    width, height = placed.width + 2 * MARGIN, placed.height + 2 * MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
        f' viewBox="{-MARGIN} {-MARGIN} {width:.1f} {height:.1f}" class="stepforge" role="img">',
        f"<title>{_text(picture.name)}</title>",
        f"<style>{_styles()}</style>",
        '<defs><marker id="stepforge-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"'
        ' markerHeight="7" orient="auto"><path d="M0 .8 8 4 0 7.2z"/></marker></defs>',
    ]
    for arrow, route in zip(picture.arrows, placed.routes, strict=True):
        ends = sizes[arrow.source][1] / 2, sizes[arrow.target][1] / 2
        style = ' class="after"' if arrow.control else ""
        lines.append(
            f'<path{style} d="{_route(route, *ends)}" marker-end="url(#stepforge-head)">'
            f"<title>{_text(arrow.title)}</title></path>"
        )
    for box, label, centre, size in zip(
        picture.boxes, labels, placed.centres, sizes, strict=True
    ):
        of = attribute(number(box.site)) if number is not None else ""
        lines.append(f'<g class="{box.kind}"{of}>{_box(box, label, centre, size)}</g>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _label(box: Box) -> list[tuple[str, str]]:
    """The lines of a box, each with its style; there are no clusters that show the scope."""
    name, kind = box.label
    lines = [(short(f"{box.scope}/{name}") if box.scope else name, ""), (kind, ' class="kind"')]
    return [line for line in lines if line[0]]


def _size(label: Sequence[tuple[str, str]]) -> tuple[float, float]:
    return max(len(text) for text, _ in label) * CHARACTER + 18, LINE * len(label) + 10


def _box(
    box: Box,
    label: Sequence[tuple[str, str]],
    centre: tuple[float, float],
    size: tuple[float, float],
) -> str:
    (x, y), (width, height) = centre, size
    texts = "".join(
        f'<text{style} x="{x:.1f}" y="{y + (i - len(label) / 2 + 0.76) * LINE:.1f}">{_text(text)}'
        "</text>"
        for i, (text, style) in enumerate(label)
    )
    return (
        f'<title>{_text(box.title)}</title><rect x="{x - width / 2:.1f}"'
        f' y="{y - height / 2:.1f}" width="{width:.1f}" height="{height:.1f}" rx="5"/>{texts}'
    )


def _route(points: Sequence[tuple[float, float]], leave: float, arrive: float) -> str:
    """A smooth way through points, from the edge of a box to the edge of another."""
    (x, y), (end_x, end_y) = points[0], points[-1]
    down = 1 if end_y >= y else -1
    points = [(x, y + down * leave), *points[1:-1], (end_x, end_y - down * arrive)]
    out = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for (x, y), (next_x, next_y) in pairwise(points):
        middle = (y + next_y) / 2
        out.append(f"C{x:.1f} {middle:.1f} {next_x:.1f} {middle:.1f} {next_x:.1f} {next_y:.1f}")
    return "".join(out)


def _styles() -> str:
    def kinds(colours: dict[str, tuple[str, str]]) -> str:
        return "".join(f".{k} rect{{fill:{f};stroke:{s}}}" for k, (f, s) in colours.items())

    dark = f"@media (prefers-color-scheme:dark){{{_scoped(_PLAIN_DARK + kinds(_DARK))}}}"
    scheme = "svg.stepforge{color-scheme:light dark}"
    return scheme + _scoped(_PLAIN.replace("\n", "") + kinds(_LIGHT)) + dark


def _scoped(rules: str) -> str:
    """Rules that hold in the drawing only, wherever it is put."""
    return re.sub(r"(^|[},])(?=[^{}]*\{)", r"\1svg.stepforge ", rules)


def _text(text: str) -> str:
    """Text of an element; what XML cannot hold at all becomes a question mark."""
    return escape(_NOT_XML.sub("?", text))
