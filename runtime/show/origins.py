"""Where things come from: numbers for the user's nodes, the same in every column of a page.

A value is that of the node whose name it bears, which passes keep, or else of the operation that
makes it; an operation knows its node by its site.
"""

from __future__ import annotations

import json
import linecache
from collections.abc import Iterable
from dataclasses import field

from stepforge.ir.core import Block, Function, Operation, Site, Value
from stepforge.ir.records import record

WHOLE_FILE = 1500  # lines of a source file that is shown whole
AROUND = 4  # lines shown around those that made a node, of longer files


@record
class Origins:
    """Numbers of nodes, in the order in which they are first met."""

    sites: list[Site] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)  # by node, and by the name of a value

    def add(self, site: Site | None) -> int:
        """The number of a site's node; -1 for no site."""
        if site is None:
            return -1
        number = self._numbers.get(site.node)
        if number is None:
            number = len(self.sites)
            self._numbers[site.node] = number
            self._numbers.setdefault(site.node.replace("/", "."), number)
            self.sites.append(site)
        return number

    def named(self, name: str, otherwise: int = -1) -> int:
        """The number of the node whose value is called ``name``, else ``otherwise``."""
        return self._numbers.get(name, otherwise) if name else otherwise

    def of_operation(self, op: Operation | None) -> tuple[int, ...]:
        """The numbers of what an operation stems from: its site, and the names of its results."""
        if op is None:
            return ()
        found = [self.add(op.site), *(self.named(result.name) for result in op.results)]
        return tuple(dict.fromkeys(number for number in found if number >= 0))

    def of_values(self, function: Function, feeds: Iterable[Site] = ()) -> dict[Value, int]:
        """The number of each value of a function whose first parameters are ``feeds``."""
        found: dict[Value, int] = {}

        def visit(block: Block, owner: int) -> None:
            for param in block.params:
                found[param] = self.named(param.name, owner)
            for op in block.ops:
                number = self.add(op.site)
                for result in op.results:
                    found[result] = self.named(result.name, number)
                for region in op.regions:
                    visit(region, number)

        visit(function.body, -1)
        found.update({p: self.add(s) for p, s in zip(function.params, feeds, strict=False)})
        return found

    def json(self, lines: dict[tuple[str, int], int]) -> str:
        """For the page's script: of each node its name, its place, and its source line's number."""
        rows = [
            [s.node, f"{s.file}:{s.line}" if s.file else "", lines.get((s.file, s.line), -1)]
            for s in self.sites
        ]
        return json.dumps(rows).replace("<", "\\u003c")

    def files(self) -> dict[str, list[tuple[int, str]]]:
        """The readable source files, each with the numbers and texts of the lines to show."""
        wanted: dict[str, set[int]] = {}
        for site in self.sites:
            if site.file:
                wanted.setdefault(site.file, set()).add(site.line)
        found = {}
        for file, numbers in wanted.items():
            linecache.checkcache(file)  # a program that was changed and run again
            text = linecache.getlines(file)
            if text:
                shown = [n for n in _shown(numbers, len(text)) if 1 <= n <= len(text)]
                found[file] = [(n, text[n - 1].rstrip("\n")) for n in shown]
        return found


def _shown(numbers: set[int], length: int) -> list[int]:
    if length <= WHOLE_FILE:
        return list(range(1, length + 1))
    return sorted({n for line in numbers for n in range(line - AROUND, line + AROUND + 1)})
