"""Places in the arena: temporaries that are alive together lie apart, others may share memory.

Sizes may be symbolic. So the places are chosen for sizes that are likely, the largest temporary
first, each into the tightest gap among those that are alive with it; what is kept of that is only
who lies above whom. The offset of each is then the largest end of those below it: right for every
size, and as tight as the choice was good. Offsets are maxima of few polynomials; where there would
be more, two are replaced by one that is at least as large.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np

from stepforge.ir import dims
from stepforge.ir.dims import Dim
from stepforge.ir.records import record

LIKELY = (32, 128)  # what unknown sizes are taken for: the better of the choices counts
TRIED = (4, 32, 256)  # and what a bound is to lose little at
MOST_TRIED = 128  # temporaries of which more than one layout is made
MOST_TERMS = 4  # polynomials in a maximum
Array: TypeAlias = np.ndarray[Any, Any]
Polynomial: TypeAlias = tuple[int, ...]  # coefficients of the units of a layout
Maximum: TypeAlias = tuple[Polynomial, ...]  # the largest of them


@record(frozen=True)
class Span:
    """A temporary: its bytes, and the first and the last operation that uses it, by position."""

    size: Dim
    first: int
    last: int


class Layout:
    """Places for ``spans``: ``offsets``, in their order, and the ``size`` of the arena."""

    def __init__(self, spans: Sequence[Span], size: int = LIKELY[0]) -> None:
        """``size``: what unknown sizes are taken for."""
        self.spans = spans
        self.units = _units(span.size for span in spans)
        self.sizes = [_coefficients(span.size, self.units) for span in spans]
        self.weights = np.array([[_at(unit, n) for unit in self.units] for n in TRIED])
        likely = np.array([_at(unit, size) for unit in self.units], np.int64)
        self.between = _between(self.units)
        self.first = np.array([span.first for span in spans], np.int64)
        self.last = np.array([span.last for span in spans], np.int64)
        # What is likely empty may not be: it too lies above or below what is alive with it.
        self.likely = np.maximum(np.array(self.sizes, np.int64) @ likely, 1)
        self.starts = self._choose()

    @cached_property
    def _exact(self) -> tuple[list[Maximum], Maximum]:
        """The offset of each span, and the end of the last."""
        nothing: Maximum = ((0,) * len(self.units),)
        offsets, ends = [nothing] * len(self.spans), [nothing] * len(self.spans)
        for index in np.argsort(self.starts, kind="stable"):
            below = [ends[i] for i in self._right_below(index)]
            offsets[index] = self._largest([nothing, *below])
            ends[index] = tuple([_sum(term, self.sizes[index]) for term in offsets[index]])
        return offsets, self._largest([nothing, *ends])

    @property
    def typical(self) -> Array:
        """The bytes of the arena for each of the sizes tried."""
        return np.asarray((self.weights @ np.array(self._exact[1]).T).max(-1))

    @property
    def offsets(self) -> list[Dim]:
        """Where each span begins."""
        return [self._dim(offset) for offset in self._exact[0]]

    @property
    def size(self) -> Dim:
        """The bytes of the arena."""
        return self._dim(self._exact[1])

    # ---- the choice -----------------------------------------------------------------------------
    def _choose(self) -> Array:
        """A start for each span at its likely size; those alive together do not meet."""
        starts = np.zeros(len(self.spans), np.int64)
        placed = np.zeros(len(self.spans), bool)
        for index in np.lexsort((self.first, -self.likely)):
            others = np.flatnonzero(placed & self._alive_with(index))
            starts[index] = _tightest(
                starts[others], starts[others] + self.likely[others], self.likely[index]
            )
            placed[index] = True
        return starts

    def _alive_with(self, index: Any) -> Array:
        alive = (self.first <= self.last[index]) & (self.last >= self.first[index])
        return np.asarray(alive)

    def _right_below(self, index: Any) -> list[Any]:
        """The spans below, but for those that are below one of these in turn."""
        lower = self._alive_with(index) & (self.starts < self.starts[index])
        ends = self.starts + self.likely
        left = np.flatnonzero(lower)
        left = left[np.argsort(-ends[left], kind="stable")]
        found = []
        while left.size:
            highest = left[0]
            found.append(highest)
            left = left[~self._alive_with(highest)[left]]
        return found

    # ---- maxima ---------------------------------------------------------------------------------
    def _largest(self, maxima: Iterable[Maximum]) -> Maximum:
        """An upper bound of ``maxima``, the smallest one where it has not too many terms."""
        terms = list(dict.fromkeys([term for terms in maxima for term in terms]))
        terms = self._needed(terms)
        while len(terms) > MOST_TERMS:
            a, b = min(combinations(terms, 2), key=self._loss)
            terms = self._needed([*[t for t in terms if t not in (a, b)], _bound(a, b)])
        return tuple(terms)

    def _needed(self, terms: list[Polynomial]) -> list[Polynomial]:
        """Those that are larger than all the others for some sizes, as far as can be told."""
        table = np.array(terms, np.int64)
        more = table[None] - table[:, None]  # [i, j]: by what j is larger than i
        lower, upper = self.between
        least = np.maximum(more, 0) @ lower + np.minimum(more, 0) @ upper
        kept = np.ones(len(terms), bool)
        for i in range(len(terms)):
            kept[i] = False
            kept[i] = not _reaches_zero(least[i][kept])
        return [term for term, keep in zip(terms, kept, strict=True) if keep]

    def _loss(self, pair: tuple[Polynomial, Polynomial]) -> float:
        """How much larger their bound is than two polynomials, relative, over the sizes tried."""
        a, b = (self.weights @ np.array(each) for each in pair)
        bound = self.weights @ np.array(_bound(*pair))
        return float(np.sum(bound / np.maximum(np.maximum(a, b), 1)))

    def _dim(self, terms: Maximum) -> Dim:
        made: Dim = 0
        for position, term in enumerate(terms):
            total: Dim = 0
            for coefficient, unit in zip(term, self.units, strict=True):
                total = total + unit * coefficient
            made = dims.maximum(made, total) if position else total
        return made


def tightest(spans: Sequence[Span]) -> Layout:
    """The layout whose arena is the smaller one for most of the sizes tried."""
    layouts = [Layout(spans, LIKELY[0])]
    if len(spans) <= MOST_TRIED and any(not isinstance(span.size, int) for span in spans):
        layouts += [Layout(spans, size) for size in LIKELY[1:]]
    first = np.maximum(layouts[0].typical, 1)
    return min(layouts, key=lambda layout: float((layout.typical / first).sum()))


def _units(sizes: Iterable[Dim]) -> list[Dim]:
    """What sizes are sums of multiples of, none of it negative: that is what compares them."""
    found: dict[Dim, None] = {}
    for size in sizes:
        found.update(dict.fromkeys(_parts(size)))
    return list(found)


def _parts(size: Dim) -> dict[Dim, int]:
    if isinstance(size, int):
        return {1: size}
    if dims.non_negative(size):
        return {dims.monomial(atoms): coefficient for atoms, coefficient in size.terms}
    return {dims.maximum(size, 0): 1}  # less than nothing would let what is above sink too low


def _coefficients(size: Dim, units: Sequence[Dim]) -> Polynomial:
    parts = _parts(size)
    return tuple([parts.get(unit, 0) for unit in units])


def _at(unit: Dim, size: int) -> int:
    return dims.evaluate(unit, dict.fromkeys(dims.names(unit), size))


def _between(units: Sequence[Dim]) -> tuple[Array, Array]:
    """What each unit is at least and at most, in terms that are no rounded quotients.

    Sizes rounded up to whole lines compare so. All is scaled by one number, and thereby whole.
    """
    known = [dims.as_quotient(unit) for unit in units]
    scale = math.lcm(*[by for _, by in filter(None, known)])
    least: list[dict[Dim, int]] = []
    most: list[dict[Dim, int]] = []
    for unit, quotient in zip(units, known, strict=True):
        whole, by = (unit, 1) if quotient is None else quotient
        parts = {term: c * (scale // by) for term, c in _parts(whole).items()}
        most.append(parts)
        least.append({**parts, 1: parts.get(1, 0) - (by - 1) * (scale // by)})
    terms = list(dict.fromkeys([term for parts in (*most, *least) for term in parts]))
    table = [[[parts.get(t, 0) for t in terms] for parts in side] for side in (least, most)]
    return np.array(table[0], np.int64), np.array(table[1], np.int64)


def _tightest(starts: Array, ends: Array, size: Any) -> Any:
    """The start of the smallest gap of at least ``size``, or else the end of all."""
    order = np.argsort(starts, kind="stable")
    begins = np.concatenate([np.zeros(1, np.int64), np.maximum.accumulate(ends[order])])
    rooms = starts[order] - begins[:-1]
    fits = np.flatnonzero(rooms >= size)
    return begins[fits[np.argmin(rooms[fits])]] if fits.size else begins[-1]


def _sum(a: Polynomial, b: Polynomial) -> Polynomial:
    return tuple([x + y for x, y in zip(a, b, strict=True)])


def _bound(a: Polynomial, b: Polynomial) -> Polynomial:
    """At least as large as both, for every size."""
    return tuple(map(max, a, b))


def _reaches_zero(vectors: Array) -> bool:
    """True where one of ``vectors``, or a mean of two with any weights, has nothing negative."""
    if (vectors >= 0).all(-1).any():
        return True
    p, q = vectors[:, None].astype(float), vectors[None].astype(float)
    with np.errstate(all="ignore"):
        even = q / (q - p)  # the weight of p at which the mean is 0
    low = np.where((q < 0) & (p >= 0), even, 0.0).max(-1, initial=0.0)
    high = np.where((p < 0) & (q >= 0), even, 1.0).min(-1, initial=1.0)
    return bool(((low <= high) & ~((p < 0) & (q < 0)).any(-1)).any())
