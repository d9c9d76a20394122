"""Lines of a stage as HTML: every value carries its number and that of its node, every line the
numbers of the nodes that it stems from.

Nothing of a program is trusted: names and texts come from files, and all of them are escaped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from stepforge.ir.core import Function, Site, Value
from stepforge.ir.text import Listing
from stepforge.runtime.show.origins import Origins

LONGEST = 600  # characters of a line; constants may have millions
CHUNK = 100  # lines that a browser lays out together, or not at all while they are out of sight
_TOKEN = re.compile(
    r'(?P<s>"(?:[^"\\]|\\.)*")'  # a string
    r"|(?P<v>%[\w./-]+)"
    r'|(?P<g>@(?:[\w./-]+|"(?:[^"\\]|\\.)*"))'  # a global
    r"|(?P<o>\b[a-z_]\w*(?=\())"  # an operation
    r"|(?P<t>&?\b(?:[fiu]\d+|bf16|c\d+|bool|index|string|resource)\b(?:\[[^\]]*\])?)"
)


class Line(NamedTuple):
    """One line of a column: its markup, and the numbers of its nodes."""

    markup: str
    origins: tuple[int, ...] = ()


def ir_lines(
    function: Function, origins: Origins, feeds: Iterable[Site] = (),
    names: Mapping[Value, str] | None = None,
) -> tuple[list[str], list[Line]]:
    """The lines of a function: as they print, and as markup."""
    of_values = origins.of_values(function, feeds)
    listing = Listing(function, names=names)
    numbers = {name: (i, of_values.get(v, -1)) for i, (v, name) in enumerate(listing.names.items())}
    starts = {line: op for op, line in listing.line_of.items()}
    made = [
        Line(highlighted(shortened(text), numbers), origins.of_operation(starts.get(number)))
        for number, text in enumerate(listing.lines)
    ]
    return listing.lines, made


def shortened(text: str) -> str:
    """A line that a page can show."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text):,} characters)"


def highlighted(text: str, numbers: Mapping[str, tuple[int, int]]) -> str:
    """A line of the IR: values with their numbers, and classes for what else is not plain."""
    out: list[str] = []
    end = 0
    seen_op = False
    for match in _TOKEN.finditer(text):
        out.append(escape(text[end : match.start()]))
        end = match.end()
        kind, token = str(match.lastgroup), escape(match[0])
        value, origin = numbers.get(match[0], (-1, -1)) if kind == "v" else (-1, -1)
        if value >= 0:
            out.append(f'<i data-v="{value}"{attribute(origin)}>{token}</i>')
        elif kind == "o" and seen_op:
            out.append(token)  # a function in a size
        else:
            seen_op = seen_op or kind == "o"
            out.append(f'<span class="{kind}">{token}</span>')
    return "".join(out) + escape(text[end:])


def node_line(node: Any, origins: Origins) -> Line:
    """The line of a graph's node: its name, type, inputs and outputs."""
    number = origins.add(node.site)
    inputs = [_reference(t.name.removesuffix(":0"), origins.add(t.op.site)) for t in node.inputs]
    inputs += [_reference(f"^{c.name}", origins.add(c.site)) for c in node.control_inputs]
    outputs = ", ".join(f"{t.dtype.name}{t.shape}" for t in node.outputs)
    kind = f'<span class="o">{escape(node.type)}</span>'
    type_ = f' : <span class="t">{escape(outputs)}</span>' if outputs else ""
    text = f"{_reference(node.name, number)} = {kind}({', '.join(inputs)}){type_}"
    return Line(text, (number,))


def _reference(name: str, number: int) -> str:
    return f'<i data-v="{number}" data-o="{number}">{escape(name)}</i>'


def text_lines(text: str, origins_of: Callable[[str], Sequence[int]]) -> list[Line]:
    """Lines of another language; ``origins_of`` says of each which nodes it stems from."""
    return [Line(escape(shortened(line)), tuple(origins_of(line))) for line in text.splitlines()]


def listing_html(lines: Sequence[Line]) -> str:
    """The lines as numbered elements, in chunks."""
    out = []
    for first in range(0, len(lines), CHUNK):
        chunk = lines[first : first + CHUNK]
        out.append(f'<div class="c" style="--n:{len(chunk)}">')
        out += [line_html(line, f' data-n="{n}"') for n, line in enumerate(chunk, first + 1)]
        out.append("</div>")
    return "".join(out)


def attribute(*numbers: int) -> str:
    """The attribute that says which nodes an element stems from, those that are known."""
    known = " ".join([str(number) for number in numbers if number >= 0])
    return f' data-o="{known}"' if known else ""


def line_html(line: Line, attributes: str = "", kind: str = "l") -> str:
    """One line as an element; an empty one still has its height."""
    of = attribute(*line.origins)
    return f'<div class="{kind}"{attributes}{of}>{line.markup or "&#8203;"}</div>'
