"""What a session remembers between runs: the values of variables and the states of random streams.

A variable's buffer is memory that native code reads and writes through its *slot* (layout in
``codegen.signature`` and ``codegen.memory``); Python sees copies.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from stepforge.codegen import memory as slots
from stepforge.codegen import signature as abi
from stepforge.ir.philox import Stream
from stepforge.ir.types import NUMERIC, numpy_dtype
from stepforge.runtime import native

MAX_RANK = 32
_CODES = {name: code for code, name in enumerate(NUMERIC)}


class Cell:
    """One variable of one session; ``address`` is that of its slot."""

    def __init__(self, name: str, dtype: str) -> None:
        self.name = name
        self.dtype = dtype
        self._memory = ctypes.create_string_buffer(slots.SLOT_ALL_BYTES + 64)
        base = ctypes.addressof(self._memory)
        self.address = -(-base // 64) * 64
        self._dims = (ctypes.c_int64 * MAX_RANK)()
        self._put(ctypes.c_int64, abi.SLOT_DIMS, ctypes.addressof(self._dims))
        self._put(ctypes.c_int32, abi.SLOT_DTYPE, _CODES.get(dtype, -1))
        self._object: Any = None  # the value where it is no number

    def _put(self, kind: Any, offset: int, value: int) -> None:
        kind.from_address(self.address + offset).value = value

    def _get(self, kind: Any, offset: int) -> int:
        return kind.from_address(self.address + offset).value or 0

    @property
    def initialized(self) -> bool:
        """Whether there is a value."""
        return bool(self._get(ctypes.c_int32, abi.SLOT_FLAGS) & 1)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The value's shape; None where there is no value."""
        if not self.initialized:
            return None
        return tuple(self._dims[: self._get(ctypes.c_int32, abi.SLOT_RANK)])

    @property
    def value(self) -> Any:
        """A copy of the value; None where there is none."""
        shape = self.shape
        if shape is None or self.dtype not in NUMERIC:
            return self._object
        dtype = numpy_dtype(self.dtype)
        out = np.empty(shape, dtype)
        ctypes.memmove(out.ctypes.data, self._get(ctypes.c_void_p, abi.SLOT_DATA), out.nbytes)
        return out

    @value.setter
    def value(self, value: Any) -> None:
        array = np.asarray(value, numpy_dtype(self.dtype), order="C")
        if self.dtype not in NUMERIC:
            self._object = array
        else:
            self._reserve(array.nbytes)
            data = self._get(ctypes.c_void_p, abi.SLOT_DATA)
            ctypes.memmove(data, array.ctypes.data, array.nbytes)
        for axis, size in enumerate(array.shape):
            self._dims[axis] = size
        self._put(ctypes.c_int32, abi.SLOT_RANK, array.ndim)
        self._put(ctypes.c_int32, abi.SLOT_FLAGS, 1)
        self._put(ctypes.c_int64, abi.SLOT_VERSION, self._get(ctypes.c_int64, abi.SLOT_VERSION) + 1)

    def _reserve(self, size: int) -> None:
        data = self._get(ctypes.c_void_p, abi.SLOT_DATA)
        if data and self._get(ctypes.c_int64, abi.SLOT_CAPACITY) >= size:
            return
        alloc, free = native.memory()
        block = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int64)(alloc)(size)
        if not block:
            raise MemoryError(f"no memory for a variable of {size} bytes")
        if data:
            ctypes.CFUNCTYPE(None, ctypes.c_void_p)(free)(data)
        self._put(ctypes.c_int64, abi.SLOT_DATA, block)
        self._put(ctypes.c_int64, abi.SLOT_CAPACITY, size)

    def __del__(self) -> None:
        blocks = [self._get(ctypes.c_void_p, o) for o in (abi.SLOT_DATA, slots.SLOT_SPARE)]
        retired = self._get(ctypes.c_void_p, slots.SLOT_RETIRED)
        while retired:
            blocks.append(retired)
            retired = ctypes.c_void_p.from_address(retired).value or 0
        if any(blocks):
            release = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(native.memory()[1])
            for block in blocks:
                if block:
                    release(block)


class VariableStore:
    """The variables and random streams of a session, by graph node.

    ``threads`` is how many its steps may use; 0 means as many as there are processors. ``checked``
    lets the first run of each step check every pass that compiled it; see ``checking``. ``backend``
    makes their kernels; see ``backends``.
    """

    def __init__(self, threads: int = 0, checked: bool = False, backend: str = "") -> None:
        self.threads = threads
        self.checked = checked
        self.backend = backend
        self._cells: dict[Any, Cell] = {}
        self._streams: dict[Any, Stream] = {}
        # The lock word that writing steps take: the owner's thread and how often it holds it.
        self._lock = (ctypes.c_int64 * 2)()

    @property
    def lock_address(self) -> int:
        """Where the lock word is."""
        return ctypes.addressof(self._lock)

    def cell(self, node: Any, dtype: str) -> Cell:
        """The cell of a variable node, empty at first."""
        found = self._cells.get(node)
        if found is None:
            found = self._cells.setdefault(node, Cell(node.name, dtype))
        return found

    def shape(self, node: Any) -> tuple[int, ...] | None:
        """The shape of a variable's value; None where it has none."""
        cell = self._cells.get(node)
        return cell.shape if cell is not None else None

    def stream(self, node: Any) -> Stream:
        """The stream of a random node; it starts where the node's seeds say."""
        found = self._streams.get(node)
        if found is None:
            made = Stream(int(node.attrs.get("seed", 0)), int(node.attrs.get("seed2", 0)))
            found = self._streams.setdefault(node, made)
        return found

    def unlock(self) -> None:
        """Forget who holds the lock: in a forked child, the owner is not there any more."""
        self._lock[0] = self._lock[1] = 0
