"""The devices of a session, all of them processors, and what may be placed on them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from stepforge.frontend.devices import DeviceSpec
from stepforge.ir.records import record
from stepforge.runtime.errors import cannot_place

_HERE = {"job": "localhost", "replica": 0, "task": 0}


@record(frozen=True)
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


def check_placement(
    nodes: Iterable[Any], devices: Sequence[DeviceAttributes], *, soft: bool
) -> None:
    """Raises: InvalidArgumentError for a node pinned to a device that is none of ``devices``.

    ``soft`` placement puts what is pinned to another kind of device on the processor.
    """
    for node in nodes:
        if node.device and not _has_place(node.device, len(devices), soft=soft):
            raise cannot_place(node, [device.name for device in devices])


def _has_place(device: str, count: int, *, soft: bool) -> bool:
    spec = DeviceSpec.from_string(device)
    if any(getattr(spec, part) not in (None, here) for part, here in _HERE.items()):
        return False
    if soft or spec.device_type is None:
        return True
    return spec.device_type == "CPU" and (spec.device_index or 0) < count
