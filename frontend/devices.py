"""Device names: parsed, merged and written in TensorFlow's canonical form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeAlias

from stepforge.ir.records import record

DeviceFunction: TypeAlias = Callable[[Any], Any]
_NUMBERS = ("replica", "task")


@record(frozen=True)
class DeviceSpec:
    """A device name in its parts; a part that is None is left open."""

    job: str | None = None
    replica: int | None = None
    task: int | None = None
    device_type: str | None = None
    device_index: int | None = None

    def __post_init__(self) -> None:
        if self.device_type is not None:
            object.__setattr__(self, "device_type", self.device_type.upper())

    @classmethod
    def from_string(cls, text: str) -> DeviceSpec:
        """Parse ``"/job:ps/task:1/gpu:0"``. Raises: ValueError for an unknown or doubled part."""
        fields: dict[str, Any] = {}
        for part in text.split("/"):
            if part:
                found = _parse_part(part.split(":"), text)
                if "device_type" in found and "device_type" in fields:
                    raise ValueError(
                        "Multiple device types are not allowed while parsing the device spec: "
                        f"{text}."
                    )
                fields.update(found)
        return cls(**fields)

    def to_string(self) -> str:
        """The canonical form: ``"/job:ps/task:1/device:GPU:0"``."""
        parts = [f"/job:{self.job}"] if self.job is not None else []
        if self.replica is not None:
            parts.append(f"/replica:{self.replica}")
        if self.task is not None:
            parts.append(f"/task:{self.task}")
        if self.device_type is not None:
            index = "*" if self.device_index is None else self.device_index
            parts.append(f"/device:{self.device_type}:{index}")
        return "".join(parts)

    def make_merged_spec(self, other: DeviceSpec) -> DeviceSpec:
        """This specification where ``other`` leaves a part open, else ``other``."""
        given = {k: v for k, v in vars(other).items() if v is not None}
        return replace(self, **given)


def _parse_part(pieces: list[str], text: str) -> dict[str, Any]:
    key = pieces[0]
    if key == "job" and len(pieces) == 2:
        return {"job": pieces[1]}
    if key in _NUMBERS and len(pieces) == 2:
        return {key: int(pieces[1])}
    if key == "device" and len(pieces) == 3:
        return {"device_type": pieces[1], **_index(pieces[2])}
    if key.upper() in ("CPU", "GPU", "TPU") and len(pieces) <= 2:
        return {"device_type": key, **(_index(pieces[1]) if len(pieces) == 2 else {})}
    raise ValueError(
        f"Unknown attribute '{key}' is encountered while parsing the device spec: '{text}'."
    )


def _index(text: str) -> dict[str, int]:
    return {} if text == "*" else {"device_index": int(text)}


@lru_cache(maxsize=1024)
def canonical(text: str) -> str:
    """The canonical form of a device name. Raises: ValueError where it is malformed."""
    return DeviceSpec.from_string(text).to_string()


@lru_cache(maxsize=1024)
def merge(outer: str, inner: str) -> str:
    """The device of a node in nested scopes: what ``inner`` leaves open comes from ``outer``."""
    spec = DeviceSpec.from_string(outer).make_merged_spec(DeviceSpec.from_string(inner))
    return spec.to_string()


@record(frozen=True)
class DeviceScope:
    """What one ``tf.device`` says: a name, a function of the node, or a reset."""

    name: str = ""
    function: DeviceFunction | None = None
    resets: bool = False

    @classmethod
    def of(cls, given: Any) -> DeviceScope:
        """The scope of ``tf.device(given)``. Raises: ValueError, TypeError for no device."""
        if given is None:
            return cls(resets=True)
        if isinstance(given, DeviceSpec):
            return cls(given.to_string())
        if isinstance(given, str):
            return cls(canonical(given))
        if callable(given):
            return cls(function=given)
        raise TypeError(f"a device is a string, a DeviceSpec, a function or None, not {given!r}")

    def apply(self, op: Any) -> None:
        """Set ``op.device`` as this level does, inner levels having been applied before."""
        if self.function is None:
            op.device = merge(self.name, op.device)
            return
        chosen = self.function(op)
        op.device = (
            chosen.to_string() if isinstance(chosen, DeviceSpec) else canonical(chosen or "")
        )


def apply_scopes(scopes: tuple[DeviceScope, ...], op: Any) -> None:
    """Place ``op``: the innermost scope comes first, a reset hides the scopes outside of it."""
    for scope in reversed(scopes):
        if scope.resets:
            return
        scope.apply(op)


def merged_name(scopes: tuple[DeviceScope, ...]) -> str | None:
    """The one device that all nodes under ``scopes`` get; None where functions have their say."""
    name = ""
    for scope in reversed(scopes):
        if scope.resets:
            return name
        if scope.function is not None:
            return None
        name = merge(scope.name, name)
    return name
