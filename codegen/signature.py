"""What a compiled step takes and gives: the data that the entry is emitted from.

The native entry, the plain Python entry and the caches all work from a ``Signature``, so they agree
on what they check, on the order of sizes and slots and on the shape of the result.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from stepforge.ir import dims
from stepforge.ir.core import Site
from stepforge.ir.dims import Dim
from stepforge.ir.records import record
from stepforge.ir.types import Type

FIRST_SLOT = 16  # the index of the first slot in a step's table

# What a step's table holds below the slots, by index.
TABLE_ALLOC, TABLE_FREE, TABLE_HOST_CALL, TABLE_PARALLEL_FOR, TABLE_ARENA, TABLE_LOCK = range(6)
# Then the matrix products of a BLAS (6 to 9, see gemm), the entry that takes this table, and the
# table of the variant that is tried next.
TABLE_ENTRY, TABLE_NEXT = 10, 11
# The first argument of ``parallel_for``, which is null where loops run in the calling thread.
TABLE_POOL = 12
# The kernel of another back end, to which the one in the step's module goes on.
TABLE_KERNEL = 13

# Byte offsets in the context that the entry hands to the kernel.
CONTEXT_TABLE, CONTEXT_ARENA, CONTEXT_FRAME, CONTEXT_THREAD_STATE = 0, 8, 16, 24
CONTEXT_CODE, CONTEXT_SITE, CONTEXT_RANK, CONTEXT_ARGS, CONTEXT_EXCEPTION = 32, 36, 40, 48, 176
CONTEXT_BYTES = 184

# Byte offsets in a VarSlot.
SLOT_DATA, SLOT_DIMS, SLOT_RANK, SLOT_DTYPE, SLOT_FLAGS = 0, 8, 16, 20, 24
SLOT_VERSION, SLOT_CAPACITY, SLOT_BYTES = 32, 40, 64

# Kernels that are expected to take longer, in nanoseconds, run without the GIL.
GIL_RELEASE_WORK = 15_000

Structure = Literal["single", "list", "tuple", "packed"]
FetchKind = Literal["dense", "feed", "none", "object"]
SlotKind = Literal["variable", "random"]


@record(frozen=True, slots=True)
class Feed:
    """An argument. A name in its shape is bound where it first stands alone, else checked."""

    name: str
    type: Type
    site: Site | None = None

    @property
    def tensor_name(self) -> str:
        """The name that the user knows it by: ``x:0``."""
        if ":" in self.name:
            return self.name
        node = self.site.node if self.site else self.name
        return node if ":" in node else f"{node}:0"

    @property
    def shape_text(self) -> str:
        """The static shape as TensorFlow writes it: ``(?, 2)``; ``<unknown>`` without a rank."""
        if self.type.shape is None:
            return "<unknown>"
        sizes = [str(d) if isinstance(d, int) else "?" for d in self.type.shape]
        return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


@record(frozen=True, slots=True)
class Slot:
    """A variable or random stream that the step uses; slots stand in the table from index 16."""

    name: str
    type: Type
    kind: SlotKind = "variable"
    read: bool = True
    written: bool = False
    site: Site | None = None

    @property
    def checked(self) -> bool:
        """True where the entry checks the slot and reads its sizes."""
        return self.read or self.kind == "random"


@record(frozen=True, slots=True)
class Fetch:
    """One result.

    ``dense``: an array that the kernel fills (a NumPy scalar for rank 0); ``feed``: the converted
    feed number ``source`` itself; ``none``: ``None``; ``object``: the kernel leaves a new
    reference.
    """

    kind: FetchKind
    type: Type | None = None
    source: int | None = None

    @property
    def dense_type(self) -> Type:
        """The type of a dense fetch. Raises: ValueError where there is none."""
        if self.type is None:
            raise ValueError(f"a {self.kind} fetch has no type")
        return self.type


@record(frozen=True, slots=True)
class Signature:
    """Everything about a kernel that its callers must know.

    ``sizes`` are the entry names in the order of the kernel's ``dims``; ``work`` is the estimated
    time of the kernel in nanoseconds; ``python`` says that it makes host calls, ``locks`` that it
    takes the writer lock.
    """

    name: str
    feeds: tuple[Feed, ...] = ()
    slots: tuple[Slot, ...] = ()
    fetches: tuple[Fetch, ...] = ()
    structure: Structure = "single"
    sizes: tuple[str, ...] = ()
    assumptions: tuple[tuple[Dim, Dim], ...] = ()
    work: Dim = 0
    python: bool = False
    locks: bool = False

    @property
    def takes_objects(self) -> bool:
        """True where feeds are strings and the like, which Python always looks at."""
        return any(feed.type.is_object for feed in self.feeds)

    def __post_init__(self) -> None:
        if self.structure == "single" and len(self.fetches) != 1:
            raise ValueError(f"{self.name}: {len(self.fetches)} fetches are not a single result")
        unbound = self._used_names() - set(entry_sizes(self.feeds, self.slots))
        if unbound:
            raise ValueError(f"{self.name}: no feed or slot binds the sizes {sorted(unbound)}")

    def _used_names(self) -> set[str]:
        used = [self.work, *(d for pair in self.assumptions for d in pair)]
        used += [
            d for fetch in self.fetches if fetch.kind == "dense" for d in fetch.dense_type.dims
        ]
        used += [d for type_ in _checked_types(self.feeds, self.slots) for d in type_.shape or ()]
        return set(self.sizes).union(*(dims.names(d) for d in used))


def entry_sizes(feeds: Iterable[Feed], slots: Iterable[Slot]) -> tuple[str, ...]:
    """The size names that feeds and checked slots bind, in the order in which they are bound."""
    shapes = [type_.shape or () for type_ in _checked_types(feeds, slots)]
    alone = (dims.as_name(d) for shape in shapes for d in shape)
    return tuple(dict.fromkeys(name for name in alone if name))


def _checked_types(feeds: Iterable[Feed], slots: Iterable[Slot]) -> list[Type]:
    return [f.type for f in feeds] + [s.type for s in slots if s.checked]
