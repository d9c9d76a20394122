"""The message classes ``GraphDef``, ``NodeDef``, ``AttrValue`` ..., made on first use.

They live in a descriptor pool of their own and in a package of their own. protobuf is loaded by
nothing else in stepforge.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from stepforge.frontend.graphdef.proto_text import file_descriptor

NAMES = (
    *("GraphDef", "NodeDef", "AttrValue", "NameAttrList", "TensorProto", "TensorShapeProto"),
    *("VersionDef", "FunctionDef", "FunctionDefLibrary", "OpDef", "OpList"),
)


@lru_cache(maxsize=1)
def _classes() -> dict[str, Any]:
    try:
        from google.protobuf import descriptor_pool, message_factory
    except ImportError:
        raise ImportError(
            "GraphDef messages need protobuf: pip install protobuf (or 'stepforge[full]')"
        ) from None
    path = Path(__file__).with_name("graph.proto")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file_descriptor(path.read_text(encoding="utf-8"), "stepforge/graph.proto"))
    find = pool.FindMessageTypeByName
    return {name: message_factory.GetMessageClass(find(f"stepforge.{name}")) for name in NAMES}


def __getattr__(name: str) -> Any:
    """A message class. Raises: ImportError where protobuf is not installed."""
    if name not in NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _classes()[name]
