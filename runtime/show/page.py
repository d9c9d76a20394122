"""A step as one self-contained page: its stages side by side, what each pass changed, the memory
plan, and the cost of each kernel.

The page loads nothing. A content security policy lets its own script run and no other, so that even
a name that got through unescaped could do nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from html import escape
from importlib import resources
from pathlib import PurePath
from string import Template

from stepforge.codegen.symbol_names import kernel_label, label_in
from stepforge.ir.core import Operation
from stepforge.passes.history import Change
from stepforge.runtime.show.changes import Edit, Naming, edits, hunks
from stepforge.runtime.show.costs import costs_html
from stepforge.runtime.show.markup import (
    Line,
    ir_lines,
    line_html,
    listing_html,
    node_line,
    shortened,
    text_lines,
)
from stepforge.runtime.show.memory import memory_html
from stepforge.runtime.show.origins import Origins
from stepforge.runtime.show.picture import of_function
from stepforge.runtime.show.subject import Subject
from stepforge.runtime.show.svg import svg

OPEN = ("source", "graph", "tensor", "fused", "loops")  # columns that are not folded at first
LONGEST_TEXT = 20_000  # lines of machine code that are shown
MOST_DRAWN = 200  # boxes
ABOUT = {
    "source": "your program",
    "graph": "the nodes that this step needs",
    "tensor": "after algebra on whole tensors",
    "fused": "operations that share a loop are one",
    "loops": "loops over buffers in one arena",
    "numba": "Python for numba",
    "llvm": "what LLVM is given",
    "asm": "what the processor runs",
}


def page(subject: Subject, stages: Sequence[str] | None = None) -> str:
    """The page of a step, with columns for all of its stages or those that are named."""
    return _Page(subject).html(subject.stages if stages is None else stages)


class _Page:
    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.origins = Origins()
        for node in subject.nodes:
            self.origins.add(node.site)

    def html(self, stages: Iterable[str]) -> str:
        """All of it; the columns come first, since they number the nodes."""
        subject, history = self.subject, self.subject.history
        columns = {stage: self._stage(stage) for stage in stages}
        changes = self._changes()
        memory = costs = '<p class="none">The evaluator runs this step: there are no loops.</p>'
        if "loops" in history.stages:
            memory = memory_html(history.stages["loops"], history.arena, self.origins)
            costs = costs_html(history.stages["fused"], self.origins)
        source, lines = self._source()
        if source:
            columns = {"source": source, **columns}
        script = _asset("page.js")
        facts = [f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in subject.facts.items()]
        return Template(_asset("page.html")).substitute(
            name=escape(subject.name),
            style=_asset("page.css"),
            script=script,
            policy=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            facts="".join(facts),
            columns="".join(
                _column(stage, body, folded=stage not in OPEN and len(columns) > 2)
                for stage, body in columns.items()
            ),
            changes=changes, drawing=self._drawing(), memory=memory, costs=costs,
            origins=self.origins.json(lines),
        )

    # ---- columns --------------------------------------------------------------------------------
    def _stage(self, stage: str) -> str:
        subject = self.subject
        if stage == "graph":
            lines = [node_line(node, self.origins) for node in subject.nodes]
            return listing_html(lines)
        if stage in subject.history.stages:
            function = subject.history.stages[stage]
            return listing_html(ir_lines(function, self.origins, subject.feeds)[1])
        lines = text_lines(subject.text(stage), self._symbols())
        left = len(lines) - LONGEST_TEXT
        more = f'<p class="none">… and {left:,} more lines</p>' if left > 0 else ""
        return listing_html(lines[:LONGEST_TEXT]) + more

    def _symbols(self) -> Callable[[str], list[int]]:
        """The nodes of the kernels that a line of machine code names."""
        of_label: dict[str, list[int]] = {}
        loops = self.subject.history.stages["loops"]
        for op in loops.body.ops:
            of_label.setdefault(kernel_label(op), []).extend(self._inside(op))

        def origins_of(line: str) -> list[int]:
            return list(dict.fromkeys(of_label.get(label_in(line), ())))

        return origins_of

    def _inside(self, op: Operation) -> Iterator[int]:
        sites = [op.site, *(o.site for region in op.regions for o in region.walk())]
        return (self.origins.add(site) for site in sites if site is not None)

    def _source(self) -> tuple[str, dict[tuple[str, int], int]]:
        """The user's files, and the number of each of their lines on the page."""
        out: list[str] = []
        numbers: dict[tuple[str, int], int] = {}
        used = {(site.file, site.line) for site in self.origins.sites}
        for file, lines in self.origins.files().items():
            out.append(f'<h4 title="{escape(file)}">{escape(PurePath(file).name)}</h4>')
            for number, text in lines:
                mark = ""
                if (file, number) in used:
                    numbers[file, number] = len(numbers)
                    mark = f' data-s="{numbers[file, number]}"'
                out.append(line_html(Line(escape(shortened(text))), f' data-n="{number}"{mark}'))
        return "".join(out), numbers

    def _drawing(self) -> str:
        """The last function of tensors, in which a box is a kernel."""
        stages = self.subject.history.stages
        stage = "fused" if "fused" in stages else "tensor"
        drawn = of_function(stages[stage])
        if len(drawn.boxes) > MOST_DRAWN:
            return (
                f'<p class="none">{len(drawn.boxes)} boxes are too many to look at:'
                " --format svg draws them all the same.</p>"
            )
        return (
            f'<p class="hint">The stage {stage}: what becomes one loop is one box.</p>'
            f'<div class="drawing">{svg(drawn, self.origins.add)}</div>'
        )

    # ---- passes ---------------------------------------------------------------------------------
    def _changes(self) -> str:
        naming = Naming(self.subject.function)
        out = []
        for change in self.subject.history.changes:
            if not change.changed:
                out.append(_unchanged(change))
            elif change.name == "lower":  # another language: there is nothing to compare
                naming = Naming(change.after)
                lines = ir_lines(change.after, self.origins, self.subject.feeds, naming.names)[1]
                out.append(_details(change, 0, len(lines), _hunk(_all_new(lines), [], lines)))
            else:
                out.append(self._changed(change, naming))
        return "".join(out)

    def _changed(self, change: Change, naming: Naming) -> str:
        before, after = naming.follow(change.before, change.after)
        sides = [
            ir_lines(f, self.origins, self.subject.feeds, names)
            for f, names in ((change.before, before), (change.after, after))
        ]
        found = edits(sides[0][0], sides[1][0])
        gone = sum(edit.sign == "-" for edit in found)
        came = sum(edit.sign == "+" for edit in found)
        if not gone and not came:
            return _unchanged(change)
        body = "".join(_hunk(each, sides[0][1], sides[1][1]) for each in hunks(found))
        return _details(change, gone, came, body)


def _details(change: Change, gone: int, came: int, body: str) -> str:
    return (
        f'<details class="pass"><summary><b>{escape(change.name)}</b>'
        f'<span class="level">{escape(change.level)}</span>'
        f'<span class="minus">-{gone}</span><span class="plus">+{came}</span>'
        f'<span class="quiet">{_counts(change)}</span></summary>'
        f'<div class="diff" tabindex="0">{body}</div></details>'
    )


def _all_new(lines: Sequence[Line]) -> list[Edit]:
    return [Edit("+", number) for number in range(len(lines))]


def _hunk(hunk: list[Edit] | int, before: list[Line], after: list[Line]) -> str:
    if isinstance(hunk, int):
        return f'<div class="skip">{hunk} unchanged line{"s" * (hunk != 1)}</div>'
    kinds = {" ": "l", "-": "l del", "+": "l add"}
    return "".join(
        line_html((before if sign == "-" else after)[number], kind=kinds[sign])
        for sign, number in hunk
    )


def _counts(change: Change) -> str:
    before, after = (sum(1 for _ in f.walk()) for f in (change.before, change.after))
    return f"{before} → {after} ops, {change.seconds * 1e3:.2f} ms"


def _unchanged(change: Change) -> str:
    return (
        f'<div class="pass idle"><b>{escape(change.name)}</b><span class="level">'
        f'{escape(change.level)}</span><span class="quiet">nothing to change, '
        f"{change.seconds * 1e3:.2f} ms</span></div>"
    )


def _column(stage: str, body: str, *, folded: bool) -> str:
    return (
        f'<section class="column{" folded" * folded}" data-stage="{stage}">'
        f'<h3><button aria-expanded="{str(not folded).lower()}" aria-controls="at-{stage}">'
        f'<span class="fold" aria-hidden="true"></span>{stage}'
        f"<small>{ABOUT.get(stage, '')}</small></button></h3>"
        f'<div class="code" id="at-{stage}" tabindex="0" role="region" aria-label="{stage}">{body}'
        "</div></section>"
    )


@cache
def _asset(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")
