"""Elements at distances that are known: whole vectors are loaded, and shuffled into place.

A processor gathers elements one by one. Where code knows how far they are apart, a few vectors hold
all of them: every other element is in two, the elements of a reversed vector are in one. The
vectors begin with the first element. The last one ends with the last element, so that nothing else
is touched: it overlaps the one before, or is masked where that costs nothing, as then all of them
are aligned if one is.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepforge.codegen.lane_core import Lane, storage_bytes, storage_element
from stepforge.codegen.lane_memory import MemoryLanes

MOST_VECTORS = 8  # that are loaded for one
MOST_INSTEAD = 5  # the same for elements that a processor can gather
GATHERED = 4  # bytes of such elements, at least


class PickLanes(MemoryLanes):
    """Loads of elements at known distances."""

    def picks_well(self, places: Sequence[int], dtype: str) -> bool:
        """Whether ``load_picked`` is better than gathering."""
        most = MOST_VECTORS
        if storage_bytes(dtype) >= GATHERED:
            most = min(MOST_INSTEAD, self.width // 2)
        return self.width > 1 and max(places) - min(places) < self.width * most

    def load_picked(self, pointer: str, places: Sequence[int], dtype: str) -> Lane:
        """Element ``places[i]`` from ``pointer``, for each i below the width; some are negative."""
        low, high = min(places), max(places)
        size = self.width
        while size > high - low + 1:
            size //= 2
        starts = list(range(low, high + 1, size))
        partly = self.capabilities.avx512 and storage_bytes(dtype) >= GATHERED
        if not partly:
            starts[-1] = high + 1 - size
        some = self.rewritten(width=size)
        vectors = [some._part(pointer, start, high + 1 - start, dtype) for start in starts]
        element = storage_element(dtype)
        text = self._picked(vectors, starts, places, size, element)
        return self._from_storage(text, dtype)

    def _part(self, pointer: str, start: int, count: int, dtype: str) -> str:
        """What is stored in a vector from element ``start`` on, or in ``count`` elements of it."""
        place = self.fn.offset(pointer, str(start), f"i{8 * storage_bytes(dtype)}")
        if count < self.width:
            mask = self.numbers([i < count for i in range(self.width)], "bool")
            return self.load_masked(place, dtype, mask, 0).text
        return self._stored(place, dtype)

    def _picked(
        self, vectors: Sequence[str], starts: Sequence[int], places: Sequence[int], size: int,
        element: str,
    ) -> str:
        """``vectors`` of ``size`` elements from ``starts`` on, as one vector of ``places``."""
        sources = [min((place - starts[0]) // size, len(starts) - 1) for place in places]
        found, width, picks = vectors[0], size, [place - starts[0] for place in places]
        for number in range(1, max(len(vectors), 2)):
            other = vectors[number] if number < len(vectors) else "poison"
            chosen = [
                pick if source < number else
                width + place - starts[number] if source == number else None
                for pick, source, place in zip(picks, sources, places, strict=True)
            ]  # fmt: skip
            type_ = f"<{width} x {element}>"
            mask = ", ".join(f"i32 {'poison' if c is None else c}" for c in chosen)
            found = self.fn.emit(
                f"shufflevector {type_} {found}, {type_} {other}, <{self.width} x i32> <{mask}>"
            )
            width, picks = self.width, list(range(self.width))
        return found
