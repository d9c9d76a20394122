"""The memory of a step as a picture: the arena upwards, the operations of the step to the right.

Sizes that only a call knows are taken for a likely number; the table beside the picture has the
formulas.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from html import escape

from stepforge.ir import dims
from stepforge.ir.core import Function, Operation
from stepforge.ir.dims import Dim
from stepforge.ir.records import record
from stepforge.ir.text import Listing
from stepforge.ir.types import item_bytes
from stepforge.passes.plan import last_uses
from stepforge.runtime.show.markup import attribute
from stepforge.runtime.show.origins import Origins
from stepforge.runtime.show.subject import LIKELY_SIZE

WIDTH, HEIGHT = 900, 260  # of the picture
LABELLED = (60, 14)  # the least size of a box that has its name in it
CHARACTER = 6.7  # the width of one


@record(frozen=True)
class Temporary:
    """A buffer: where it lies, how large it is, and the operations between which it is alive."""

    op: Operation
    name: str
    offset: Dim | None  # None: memory of its own, not in the arena
    bytes: Dim
    first: int
    last: int

    @property
    def likely(self) -> tuple[int, int]:
        """Offset and bytes at the likely size."""
        return likely(self.offset or 0), likely(self.bytes)


def likely(size: Dim) -> int:
    """A size where everything unknown has the likely size, or 1 where sizes must then broadcast."""
    for unknown in (LIKELY_SIZE, 1):
        with contextlib.suppress(ValueError):
            return dims.evaluate(size, dict.fromkeys(dims.names(size), unknown))
    return 0


def temporaries(function: Function) -> list[Temporary]:
    """The buffers of a planned function, in order."""
    last = last_uses(function.body.ops)
    names = Listing(function).names
    return [
        Temporary(
            op, names[op.result],
            op.attr("offset") if op.name == "place" else None,
            op.result.type.size * item_bytes(op.result.type.dtype),
            position, last.get(op.result, position),
        )
        for position, op in enumerate(function.body.ops)
        if op.name in ("place", "alloc")
    ]


def memory_html(function: Function, arena: Dim, origins: Origins) -> str:
    """The picture and the table of the memory of a planned function."""
    found = temporaries(function)
    if not found:
        return '<p class="none">This step has no temporaries: results are written in place.</p>'
    unknown = sorted(set[str]().union(*(dims.names(t.bytes) for t in found), dims.names(arena)))
    drawn = f", drawn for {' = '.join(unknown)} = {LIKELY_SIZE}" if unknown else ""
    whole = sum(t.likely[1] for t in found)
    placed = [t for t in found if t.offset is not None]
    about = (
        f"<p>{len(found)} temporaries, <b>{readable(whole)}</b> together, share an arena of"
        f" <b>{readable(likely(arena))}</b>{escape(drawn)}.</p>"
    )
    picture = _picture(placed, likely(arena), len(function.body.ops), origins) if placed else ""
    return about + picture + _table(found, arena, origins)


def _picture(
    placed: Sequence[Temporary], arena: int, steps: int, origins: Origins
) -> str:
    scale = HEIGHT / max(arena, 1)
    out = [
        f'<div class="scroll"><svg class="arena" viewBox="-64 -6 {WIDTH + 70} {HEIGHT + 34}"'
        ' role="img" aria-label="The arena over time">'
    ]
    for part in range(5):
        y = HEIGHT - HEIGHT * part / 4
        out.append(
            f'<line class="grid" x1="0" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="-8" y="{y + 4:.1f}" text-anchor="end">'
            f"{readable(arena * part // 4)}</text>"
        )
    out += [_box(t, scale, WIDTH / max(steps, 1), origins) for t in placed]
    out.append(
        f'<text class="tick" x="0" y="{HEIGHT + 20}">first operation</text>'
        f'<text class="tick" x="{WIDTH}" y="{HEIGHT + 20}" text-anchor="end">operation {steps}'
        "</text></svg></div>"
    )
    return "".join(out)


def _box(temporary: Temporary, scale: float, step: float, origins: Origins) -> str:
    offset, size = temporary.likely
    left, width = temporary.first * step, (temporary.last - temporary.first + 1) * step
    top, height = HEIGHT - (offset + size) * scale, max(size * scale, 1.0)
    node = temporary.op.site.node if temporary.op.site is not None else ""
    title = f"{temporary.name}: {readable(size)} at {offset:,}, for {node}"
    text = ""
    label = node or temporary.name
    fits = int((width - 8) / CHARACTER)
    if width >= LABELLED[0] and height >= LABELLED[1]:
        shown = label if len(label) <= fits else "…" + label[-max(fits - 1, 1) :]
        text = (
            f'<text x="{left + 5:.1f}" y="{top + height / 2 + 4:.1f}">{escape(shown)}</text>'
        )
    return (
        f'<g{attribute(origins.add(temporary.op.site))} class="box"><title>{escape(title)}</title>'
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{max(width - 1, 1):.1f}"'
        f' height="{max(height - 1, 0.8):.1f}" rx="2"/>{text}</g>'
    )


def _table(found: Sequence[Temporary], arena: Dim, origins: Origins) -> str:
    rows = "".join(
        f'<tr{attribute(origins.add(t.op.site))}><td><code>{escape(t.name)}</code></td>'
        f"<td><code>{escape(str(t.op.result.type))}</code></td>"
        f'<td class="what">{escape(t.op.site.node if t.op.site is not None else "")}</td>'
        f'<td class="n">{t.first} to {t.last}</td>'
        f'<td class="long">{size_html(t.bytes)}</td>'
        f'<td class="long">{"own memory" if t.offset is None else size_html(t.offset)}</td></tr>'
        for t in found
    )
    return (
        "<details><summary>All temporaries, their bytes and offsets</summary>"
        "<div class='scroll'><table><thead><tr><th>value</th><th>type</th><th>for</th>"
        f"<th class='n'>alive</th><th>bytes</th><th>offset</th></tr></thead><tbody>{rows}"
        f"<tr><td colspan='4'>the arena</td><td class='long'>{size_html(arena)}</td><td></td></tr>"
        "</tbody></table></div></details>"
    )


def size_html(size: Dim) -> str:
    """A number of bytes, its formula where it is symbolic."""
    if isinstance(size, int):
        return f"{size:,}"
    return f'<code title="{likely(size):,} at {LIKELY_SIZE}">{escape(str(size))}</code>'


def readable(size: float, unit: str = "B") -> str:
    """A number in the unit that people read it in: ``1.5 MB``."""
    steps = {"n": 1e-9, "µ": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    if size == 0:
        return f"0 {unit}".strip()
    fitting = [name for name, step in steps.items() if size >= step]
    prefix = fitting[-1] if fitting else "n"
    value = size / steps[prefix]
    return (f"{value:.3g}" if value < 1000 else f"{value:.0f}") + f" {prefix}{unit}".rstrip()
