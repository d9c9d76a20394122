"""What a pass changed, line by line.

A function prints its unnamed values by number, so that one operation less would change every line
behind it. Here values keep the names that they had before the pass, and a value that takes the
place of another one takes its name too: what is left is what the pass did.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from stepforge.ir.core import Block, Function, Value
from stepforge.ir.text import Listing

SMALL = 40_000  # pairs of lines that are compared each with each
CONTEXT = 2  # lines shown around a change
_NOT_PLAIN = re.compile(r"[^\w./-]")
Names: TypeAlias = "dict[Value, str]"


class Edit(NamedTuple):
    """A line that stayed (" "), went ("-") or came ("+"), by its number in that listing."""

    sign: str
    line: int


class Naming:
    """Names for the values of one function after the other; see the module's text."""

    def __init__(self, first: Function) -> None:
        self.names: Names = Listing(first).names
        self._ever = set(self.names.values())
        self._tried: Counter[str] = Counter()

    def follow(self, before: Function, after: Function) -> tuple[Names, Names]:
        """The names of the values of both sides of a pass."""
        old, new = _described(before), _described(after)
        old_names = {value: self.names[value] for value in old}
        free = _Heirs({v: d for v, d in old.items() if v not in new}, old_names)
        made = {v: self.names[v] for v in new if v in old_names}
        for value, described in new.items():
            if value not in made:
                made[value] = free.take(described) or self._fresh(value)
        self.names = made
        return old_names, made

    def _fresh(self, value: Value) -> str:
        base = _NOT_PLAIN.sub("_", value.name)
        while True:
            number = self._tried[base]
            self._tried[base] += 1
            name = f"%{base}_{number}" if base and number else f"%{base or number}"
            if name not in self._ever:
                self._ever.add(name)
                return name


Described: TypeAlias = "tuple[str, str, str]"  # op, node, name


class _Heirs:
    """The names of values that are gone, for those that come in their place."""

    def __init__(self, gone: Mapping[Value, Described], names: Names) -> None:
        self._left: dict[tuple[str, ...], list[str]] = {}
        self._taken: set[str] = set()
        for value, described in gone.items():
            for key in _keys(described):
                self._left.setdefault(key, []).append(names[value])
        for waiting in self._left.values():
            waiting.reverse()

    def take(self, described: Described) -> str:
        """The name of the first value that was described alike; empty where there is none."""
        for key in _keys(described):
            waiting = self._left.get(key, [])
            while waiting:
                name = waiting.pop()
                if name not in self._taken:
                    self._taken.add(name)
                    return name
        return ""


def _keys(described: Described) -> Iterator[tuple[str, ...]]:
    op, _, name = described
    yield described
    if name:
        yield op, name
        yield (name,)


def _described(function: Function) -> dict[Value, Described]:
    """What makes each value and for which node, in the order in which they print."""
    found: dict[Value, Described] = {}

    def visit(block: Block, owner: str, node: str) -> None:
        for param in block.params:
            found[param] = owner, node, param.name
        for op in block.ops:
            place = op.site.node if op.site is not None else ""
            for result in op.results:
                found[result] = op.name, place, result.name
            for region in op.regions:
                visit(region, f"{op.name} region", place)

    visit(function.body, "", "")
    return found


# ---- lines --------------------------------------------------------------------------------------


def edits(before: Sequence[str], after: Sequence[str]) -> list[Edit]:
    """How the lines ``before`` become those ``after``."""
    out: list[Edit] = []
    i = j = 0
    for a, b in _matches(before, after):
        out += [Edit("-", line) for line in range(i, a)] + [Edit("+", line) for line in range(j, b)]
        out.append(Edit(" ", b))
        i, j = a + 1, b + 1
    out += [Edit("-", line) for line in range(i, len(before))]
    return out + [Edit("+", line) for line in range(j, len(after))]


def _matches(before: Sequence[str], after: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of equal lines, rising on both sides: first lines that are there once, then between.

    Linear but for a logarithm; lines of the IR are nearly all different.
    """
    anchors = [(-1, -1), *_anchors(before, after), (len(before), len(after))]
    found: list[tuple[int, int]] = []
    for (a, b), (a_end, b_end) in pairwise(anchors):
        found += _between(before, after, (a + 1, a_end), (b + 1, b_end))
        if a_end < len(before):
            found.append((a_end, b_end))
    return found


def _anchors(before: Sequence[str], after: Sequence[str]) -> list[tuple[int, int]]:
    """Lines that are there once on each side, in the longest order that both agree on."""
    counts, others = Counter(before), Counter(after)
    place = {line: i for i, line in enumerate(before)}
    pairs = [
        (place[line], j)
        for j, line in enumerate(after)
        if others[line] == 1 and counts[line] == 1
    ]
    ends: list[int] = []  # the last place of the best row of each length
    last: list[int] = []  # which pair that is
    previous: list[int] = []
    for number, (i, _) in enumerate(pairs):
        length = bisect_left(ends, i)
        previous.append(last[length - 1] if length else -1)
        ends[length : length + 1] = [i]
        last[length : length + 1] = [number]
    row: list[tuple[int, int]] = []
    number = last[-1] if last else -1
    while number >= 0:
        row.append(pairs[number])
        number = previous[number]
    return row[::-1]


def _between(
    before: Sequence[str], after: Sequence[str], a: tuple[int, int], b: tuple[int, int]
) -> list[tuple[int, int]]:
    low, high = list(before[slice(*a)]), list(after[slice(*b)])
    if not low or not high or len(low) * len(high) > SMALL:
        return []
    blocks = SequenceMatcher(None, low, high, autojunk=False).get_matching_blocks()
    return [(a[0] + m.a + k, b[0] + m.b + k) for m in blocks for k in range(m.size)]


def hunks(found: Sequence[Edit]) -> Iterator[list[Edit] | int]:
    """Changes with the lines around them; between them, how many lines are left out."""
    kept = set[int]()
    for place, edit in enumerate(found):
        if edit.sign != " ":
            kept.update(range(place - CONTEXT, place + CONTEXT + 1))
    current: list[Edit] = []
    skipped = 0
    for place, edit in enumerate(found):
        if place in kept:
            if skipped:
                yield skipped
                skipped = 0
            current.append(edit)
            continue
        if current:
            yield current
            current = []
        skipped += 1
    if current:
        yield current
    if skipped:
        yield skipped
