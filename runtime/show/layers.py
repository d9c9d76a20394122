"""Where boxes go in a drawing: in layers, so that arrows point down, and with few crossings.

Each box is one layer below the last of its inputs; what has none lies right above its first use.
An arrow over several layers gets a point in each. Points of a layer are ordered by the mean place
of their neighbours, to and fro; then each moves as near to its neighbours as its order allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from stepforge.ir.records import record

SWEEPS = 6
GAP = 26.0  # between neighbours in a layer
THIN = 12.0  # the width of a point of an arrow
BETWEEN = 44.0  # between layers


@record(frozen=True)
class Placed:
    """Centres of the boxes, the points of each arrow from first to last, and the whole size."""

    centres: list[tuple[float, float]]
    routes: list[list[tuple[float, float]]]
    width: float
    height: float


def place(
    sizes: Sequence[tuple[float, float]], arrows: Sequence[tuple[int, int]]
) -> Placed:
    """Places for boxes of ``sizes``; what points back to an earlier box is drawn upwards."""
    forward = [(a, b) if a < b else (b, a) for a, b in arrows]
    levels = _levels(len(sizes), forward)
    drawing = _Drawing(sizes, levels, forward)
    drawing.order()
    drawing.spread()
    return drawing.placed(arrows)


def _levels(count: int, arrows: Iterable[tuple[int, int]]) -> list[int]:
    """The layer of each box: the longest way to it, but sources close to their first use."""
    levels = [0] * count
    users: list[list[int]] = [[] for _ in range(count)]
    sources = [True] * count
    for a, b in sorted(arrows, key=lambda arrow: arrow[1]):
        if a != b:
            levels[b] = max(levels[b], levels[a] + 1)
            users[a].append(b)
            sources[b] = False
    for box in range(count):
        if sources[box] and users[box]:
            levels[box] = min(levels[user] for user in users[box]) - 1
    return levels


class _Drawing:
    """Points in layers: the boxes, numbered as they are, and behind them those of arrows."""

    def __init__(
        self,
        sizes: Sequence[tuple[float, float]],
        levels: Sequence[int],
        arrows: Sequence[tuple[int, int]],
    ) -> None:
        self.widths = [width for width, _ in sizes]
        self.heights = [height for _, height in sizes]
        self.layers: list[list[int]] = [[] for _ in range(max(levels, default=-1) + 1)]
        for box, level in enumerate(levels):
            self.layers[level].append(box)
        self.chains: list[list[int]] = []
        self.above: list[list[int]] = [[] for _ in sizes]
        self.below: list[list[int]] = [[] for _ in sizes]
        for a, b in arrows:
            self._chain(a, b, levels)
        self.x = [0.0] * len(self.widths)

    def _chain(self, a: int, b: int, levels: Sequence[int]) -> None:
        chain = [a]
        for level in range(levels[a] + 1, levels[b]):
            self.layers[level].append(len(self.widths))
            chain.append(len(self.widths))
            self.widths.append(THIN)
            self.above.append([])
            self.below.append([])
        chain.append(b)
        self.chains.append(chain)
        for upper, lower in pairwise(chain):
            self.below[upper].append(lower)
            self.above[lower].append(upper)

    def order(self) -> None:
        """Sort each layer by the mean place of its points' neighbours, downwards and upwards."""
        places = [0.0] * len(self.widths)
        for layer in self.layers:
            _number(layer, places)
        for sweep in range(SWEEPS):
            down = sweep % 2 == 0
            near = self.above if down else self.below
            for layer in self.layers if down else reversed(self.layers):
                wanted = {p: _mean([places[n] for n in near[p]], places[p]) for p in layer}
                layer.sort(key=wanted.__getitem__)
                _number(layer, places)

    def spread(self) -> None:
        """Places along each layer, from the order."""
        for layer in self.layers:
            self._settle(layer, [0.0] * len(layer))
        for sweep in range(SWEEPS):
            down = sweep % 2 == 0
            near = self.above if down else self.below
            for layer in self.layers if down else reversed(self.layers):
                wanted = [_mean([self.x[n] for n in near[p]], self.x[p]) for p in layer]
                self._settle(layer, wanted)
        left = min((x - w / 2 for x, w in zip(self.x, self.widths, strict=True)), default=0.0)
        self.x = [x - left for x in self.x]

    def _settle(self, layer: Sequence[int], wanted: Sequence[float]) -> None:
        """The places nearest to those wanted, in order and apart.

        What would overlap forms a block, which lies at the mean of what its members want.
        """
        starts, reach = [], 0.0  # how far each lies from the first, packed
        for place, point in enumerate(layer):
            if place:
                before = layer[place - 1]
                reach += (self.widths[before] + self.widths[point]) / 2 + self._gap(before, point)
            starts.append(reach)
        blocks: list[tuple[float, int]] = []  # mean of what is wanted of the first, and members
        for want, start in zip(wanted, starts, strict=True):
            mean, count = want - start, 1
            while blocks and blocks[-1][0] > mean:
                other, members = blocks.pop()
                mean = (mean * count + other * members) / (count + members)
                count += members
            blocks.append((mean, count))
        means = [mean for mean, count in blocks for _ in range(count)]
        for point, mean, start in zip(layer, means, starts, strict=True):
            self.x[point] = mean + start

    def _gap(self, a: int, b: int) -> float:
        boxes = len(self.heights)
        return GAP if a < boxes and b < boxes else GAP / 2

    def placed(self, arrows: Sequence[tuple[int, int]]) -> Placed:
        """The drawing."""
        boxes = len(self.heights)
        y = [0.0] * len(self.widths)
        top = 0.0
        for layer in self.layers:
            height = max((self.heights[p] for p in layer if p < boxes), default=0.0)
            for point in layer:
                y[point] = top + height / 2
            top += height + BETWEEN
        routes = []
        for (a, b), chain in zip(arrows, self.chains, strict=True):
            points = [(self.x[p], y[p]) for p in chain]
            routes.append(points if a <= b else points[::-1])
        width = max((x + w / 2 for x, w in zip(self.x, self.widths, strict=True)), default=0.0)
        centres = [(self.x[box], y[box]) for box in range(boxes)]
        return Placed(centres, routes, width, max(top - BETWEEN, 0.0))


def _number(layer: Sequence[int], places: list[float]) -> None:
    """Places from 0 to 1, so that wide and narrow layers compare."""
    for number, point in enumerate(layer):
        places[point] = (number + 0.5) / len(layer)


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
