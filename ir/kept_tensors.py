"""Arrays that runs keep for later runs, by the texts (handles) that name them.

They belong to no step: a handle is a value like any other, and nodes find its array here.
"""

from __future__ import annotations

import itertools
import threading
from functools import cache
from typing import Any

import numpy as np

from stepforge.ir.errors import InvalidArgumentError
from stepforge.ir.host_functions import register_function

Array = np.ndarray[Any, Any]
PLACE = "/job:localhost/replica:0/task:0/device:CPU:0"


class KeptTensors:
    """A store of arrays; ``keep``, ``get`` and ``drop`` are what IR calls by their tokens."""

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.keep_token = register_function(self.keep)
        self.get_token = register_function(self.get)
        self.drop_token = register_function(self.drop)

    def keep(self, value: Array) -> Array:
        """Keep a copy of ``value``; its handle, a scalar of text."""
        with self._lock:
            handle = f"GetSessionHandle;{next(self._numbers)};{PLACE}"
            self._arrays[handle] = np.array(value)
        return np.array(handle.encode(), dtype=object)

    def get(self, handle: Any) -> Array:
        """The array of a handle. Raises: InvalidArgumentError where there is none."""
        text = _text(handle)
        found = self._arrays.get(text)
        if found is None:
            message = f"The tensor with handle '{text}' is not in the session store."
            raise InvalidArgumentError(None, None, message)
        return found

    def drop(self, handle: Any) -> None:
        """Let go of an array. Raises: InvalidArgumentError where there is none."""
        self.get(handle)
        self.forget(_text(handle))

    def forget(self, handle: str) -> None:
        """Let go of an array, if it is still kept."""
        self._arrays.pop(handle, None)


def _text(handle: Any) -> str:
    value = handle.item() if isinstance(handle, np.ndarray) else handle
    return value.decode() if isinstance(value, bytes) else str(value)


@cache
def kept_tensors() -> KeptTensors:
    """The store of this process."""
    return KeptTensors()
