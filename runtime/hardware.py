"""What the processor at hand is called and which caches it has, as far as the system tells."""

from __future__ import annotations

import platform
from pathlib import Path

from stepforge.ir.records import record

_CPUINFO = Path("/proc/cpuinfo")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_KINDS = {"Data": "L{} data", "Instruction": "L{} instructions", "Unified": "L{}"}


@record(frozen=True)
class Cache:
    """A cache of the first processor: what it is called, its bytes, how many processors share it.
    """

    name: str
    size: int
    shared_by: int


def processor_name(cpuinfo: Path = _CPUINFO) -> str:
    """The processor as its maker calls it; what Python knows where the system does not tell."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    fields = (line.partition(":") for line in lines)
    found = next((value.strip() for key, _, value in fields if key.strip() == "model name"), "")
    return found or platform.processor() or platform.machine()


def caches(folder: Path = _CACHES) -> list[Cache]:
    """The caches, nearest first; none where the system does not tell."""
    found = map(_cache, sorted(folder.glob("index*")))
    return [cache for cache in found if cache is not None]


def _cache(folder: Path) -> Cache | None:
    """One cache; a virtual machine may leave any of it out."""
    try:
        level, kind, size, shared = (
            (folder / name).read_text().strip()
            for name in ("level", "type", "size", "shared_cpu_list")
        )
        return Cache(_KINDS[kind].format(level), _bytes(size), _count(shared))
    except (OSError, KeyError, ValueError):
        return None


def _bytes(text: str) -> int:
    """``48K`` as a number."""
    unit = _UNITS.get(text[-1:], 0)
    return int(text[:-1]) * unit if unit else int(text)


def _count(text: str) -> int:
    """How many numbers a list such as ``0-3,8`` has; an empty one has one."""
    ranges = (part.partition("-") for part in text.split(",") if part)
    return sum(int(last or first) - int(first) + 1 for first, _, last in ranges) or 1
