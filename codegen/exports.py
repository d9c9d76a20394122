"""What a library that is compiled ahead of time exports: the one description that its code, its C
header and its Python module are written from.

A step is a function of feeds, sizes, variables, results and a workspace; it returns a status.
Variables and random streams that are not baked into the code are *held* by the caller: in one block
of memory (``state``), or as an argument each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from stepforge.codegen.kernel import KernelPlan
from stepforge.codegen.signature import Signature
from stepforge.ir import dims
from stepforge.ir.dims import Dim
from stepforge.ir.records import record
from stepforge.ir.types import COMPLEX, Type, item_bytes

Role = Literal["feed", "size", "held", "state", "result"]

RESERVED = ("state", "workspace", "parallel_for", "pool")  # parameters that are not the user's
ALIGNMENT = 64  # bytes, of what lies in a state block
STREAM = Type("u64", (3,))  # the state of a random stream

# What a workspace begins with: the values of a failed check (their number, then 16 of them), and
# the text of a message. Spare buffers of variables follow, and the arena.
VALUES, TEXT, TEXT_BYTES, SPARES = 0, 136, 568, 704

# Words of C, C++ and Python, which cannot be names of parameters.
_WORDS = frozenset(
    """
    alignas alignof and as asm assert async auto await bool break case catch char class const
    continue def default del delete do double elif else enum except explicit export extern false
    finally float for friend from global goto if import in inline int is lambda long mutable
    namespace new nonlocal not nullptr operator or pass private protected public raise register
    restrict return short signed sizeof static struct switch template this throw true try typedef
    typename union unsigned using virtual void volatile while with xor yield None
    """.split()  # noqa: SIM905 - one word after the other is what there is to read
)


@record(frozen=True, slots=True)
class Held:
    """A variable or random stream that the caller keeps; ``offset`` is its place in the block.

    A ``twofold`` one has two places, because steps make its next value while they need the last: an
    i64 before them says how many bytes behind ``offset`` the value is.
    """

    name: str  # a C identifier
    label: str  # what the user calls it
    type: Type
    offset: int
    twofold: bool = False

    @property
    def bytes(self) -> int:
        """Its size in memory."""
        return static_bytes(self.type)

    @property
    def marker(self) -> int:
        """Where the block says which place of a twofold variable has its value."""
        return self.offset - ALIGNMENT

    @property
    def end(self) -> int:
        """What is behind it in the block."""
        return self.offset + aligned(self.bytes) * (2 if self.twofold else 1)


@record(frozen=True, slots=True)
class Parameter:
    """A parameter of an exported step; ``index`` numbers the feed, slot or fetch that it is.

    Of a result whose shape only the run tells, ``type`` is the largest, and the result ``sized_by``
    is that shape.
    """

    name: str
    role: Role
    type: Type
    index: int = 0
    writable: bool = False
    label: str = ""
    sized_by: str = ""

    @property
    def by_value(self) -> bool:
        """Sizes and scalars are passed as numbers, everything else by its address."""
        if self.role == "size":
            return True
        return self.role == "feed" and not self.type.dims and self.type.dtype not in COMPLEX


@record(frozen=True)
class ExportedStep:
    """One step: what its kernel needs, and how the caller's arguments become that.

    ``held`` are the slots of the plan, in its order, ``swapped`` those whose next value is made in
    another buffer. ``labels`` maps size names to the parameters that give them.
    """

    name: str
    signature: Signature
    plan: KernelPlan
    parameters: tuple[Parameter, ...]
    held: tuple[Held, ...]
    swapped: frozenset[int]
    labels: Mapping[str, str]

    def of(self, *roles: Role) -> list[Parameter]:
        """The parameters of some roles, in order."""
        return [p for p in self.parameters if p.role in roles]

    @property
    def sizes(self) -> list[str]:
        """The names of the size parameters."""
        return [p.name for p in self.of("size")]

    def labelled(self, size: Dim) -> Dim:
        """A size in terms of the parameters."""
        return dims.substitute(size, {n: dims.named(label) for n, label in self.labels.items()})

    def shape(self, type_: Type) -> tuple[Dim, ...]:
        """The shape of a feed or result in terms of the parameters."""
        return tuple(self.labelled(size) for size in type_.dims)

    @property
    def needs_memory(self) -> bool:
        """Whether a call needs a workspace for more than the values of a message."""
        return bool(self.copied) or self.plan.needs_arena

    @property
    def copied(self) -> list[int]:
        """Slots whose next value is made in the workspace, as there is no second place for it."""
        return [slot for slot in sorted(self.swapped) if not self.held[slot].twofold]


@record(frozen=True)
class ExportedLibrary:
    """Steps that share what the caller holds.

    ``block`` says that this is one block of memory; ``image`` is how it begins, None where that is
    not part of the code.
    """

    name: str
    steps: tuple[ExportedStep, ...]
    held: tuple[Held, ...]
    block: bool
    image: bytes | None = None

    @property
    def state_bytes(self) -> int:
        """The size of the block."""
        return self.held[-1].end if self.held else 0

    @property
    def has_state(self) -> bool:
        """Whether there is a block at all."""
        return self.block and bool(self.held)


def static_bytes(type_: Type) -> int:
    """The bytes of a value of static shape."""
    size = type_.size
    assert isinstance(size, int)
    return size * item_bytes(type_.dtype)


def aligned(size: int) -> int:
    """``size`` rounded up to the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def unique_name(wanted: str, taken: set[str]) -> str:
    """A C identifier like ``wanted`` that is not ``taken`` yet, and is from now on."""
    base = re.sub(r"\W", "_", wanted, flags=re.ASCII).strip("_") or "value"
    if base[0].isdigit() or base in _WORDS:
        base = f"{base}_" if base in _WORDS else f"v{base}"
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    taken.add(name)
    return name


def check_name(name: str, others: Iterable[str]) -> None:
    """Raises: ValueError where an entry point cannot be called so."""
    if not re.fullmatch(r"[A-Za-z]\w*", name, flags=re.ASCII) or name in _WORDS:
        raise ValueError(f"an entry point must be a C identifier, not {name!r}")
    if name in others:
        raise ValueError(f"two entry points are called {name}")
