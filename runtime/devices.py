"""The devices of a session: the processor."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, repr=False)
class DeviceAttributes:
    """A device: its canonical name, type, memory in bytes and incarnation number."""

    name: str
    device_type: str
    memory_limit_bytes: int
    incarnation: int

    def __repr__(self) -> str:
        return (
            f"_DeviceAttributes({self.name}, {self.device_type}, {self.memory_limit_bytes}, "
            f"{self.incarnation})"
        )


def local_devices(count: int = 1) -> list[DeviceAttributes]:
    """``count`` CPU devices."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [
        DeviceAttributes(f"/job:localhost/replica:0/task:0/device:CPU:{i}", "CPU", memory, i + 1)
        for i in range(count)
    ]
