"""The entry in plain Python: what native entries refuse, and everything where they cannot be used.

``convert_feed`` gives the array that a feed stands for, or the error that TensorFlow raises for it.
``call_kernel`` does for arrays what a native entry does: checks, sizes, outputs, the lock, the
kernel, errors, the result's structure.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from stepforge.codegen import entry_support, layout
from stepforge.codegen import signature as abi
from stepforge.codegen.conversions import conversions
from stepforge.codegen.signature import Feed, Fetch, Signature, Slot
from stepforge.ir import dims
from stepforge.ir.errors import FailedPreconditionError, ResourceExhaustedError, quote
from stepforge.ir.types import NUMERIC, Type, numpy_dtype
from stepforge.runtime.step import Program

Array: TypeAlias = "np.ndarray[Any, Any]"
_SLOT = struct.Struct("qqiii")  # how ``signature`` lays a slot out, from its data to its flags
_DTYPE_NUMBERS = {name: number for number, name in enumerate(NUMERIC)}


class VariantMismatch(Exception):
    """These arrays do not fit this signature's sizes or assumptions; another variant may."""


# ---- feeds --------------------------------------------------------------------------------------


def convert_feed(value: Any, feed: Feed) -> Array:
    """The array that ``value`` stands for: ``np.asarray(value)``, cast to the feed's dtype.

    Raises: TypeError for a bare int that the dtype does not have and for what is no array of it,
    ValueError for nested lists that are no array and for shapes that the static shape excludes.
    """
    array = _converted(value, feed)
    if feed.type.shape is not None and not _compatible(array.shape, feed.type):
        raise ValueError(
            f"Cannot feed value of shape {array.shape} for Tensor {feed.tensor_name}, "
            f"which has shape {feed.shape_text}{quote(feed.site)}"
        )
    return array


def _compatible(shape: tuple[int, ...], type_: Type) -> bool:
    return len(shape) == type_.rank and all(
        not isinstance(want, int) or have == want
        for have, want in zip(shape, type_.dims, strict=True)
    )


def _converted(value: Any, feed: Feed) -> Array:
    dtype = feed.type.dtype
    if isinstance(value, int):
        _check_int(value, feed)
    try:
        if dtype in NUMERIC:
            if layout.native_entry():
                conversions().learn(value, dtype)
            return np.asarray(value).astype(numpy_dtype(dtype), copy=False)
        return _strings(value) if dtype == "string" else np.asarray(value, dtype=object)
    except (TypeError, ValueError, OverflowError) as error:
        cls = ValueError if isinstance(error, ValueError) else TypeError
        raise cls(f"Cannot feed Tensor {feed.tensor_name}: {error}{quote(feed.site)}") from error


def _check_int(value: int, feed: Feed) -> None:
    """Of a bare int, nothing may be lost; arrays and lists wrap, floats round."""
    _, kind, bits = NUMERIC.get(feed.type.dtype, ("object", "o", 0))
    if kind in "fc":
        return
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if kind == "i" else (0, 2**bits)
    if kind == "b":
        low, high = 0, 2
    if kind == "o" or not low <= value < high:
        raise TypeError(
            f"Type of feed value {value} with type {type(value)} is not compatible with Tensor "
            f"type {numpy_dtype(feed.type.dtype).name} of {feed.tensor_name}. Try explicitly "
            f"setting the type of the feed tensor to a larger type (e.g. int64).{quote(feed.site)}"
        )


def _strings(value: Any) -> Array:
    """An array of bytes objects; text is encoded as UTF-8."""
    array = np.asarray(value, dtype=object)  # another dtype would lose zero bytes at ends
    flat = [_encoded(item) for item in array.ravel().tolist()]
    result = np.empty(len(flat), dtype=object)
    result[:] = flat
    return result.reshape(array.shape)


def _encoded(item: object) -> bytes:
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, bytes):
        return item
    raise TypeError(f"{item!r} is not a string")


# ---- the call -----------------------------------------------------------------------------------


def call_kernel(
    signature: Signature,
    kernel_address: int,
    table_address: int,
    arrays: Sequence[Array],
    program: Program,
) -> Any:
    """Run a kernel on arrays that ``convert_feed`` gave; the result in the signature's structure.

    Raises: VariantMismatch where sizes or assumptions do not hold, FailedPreconditionError for a
    variable without value, what ``program.fail`` raises where the kernel fails.
    """
    lock = layout.word(table_address, 8 * abi.TABLE_LOCK) if signature.locks else 0
    with locked(lock):
        call = _Call(signature, table_address, arrays)
        status = call.run(kernel_address)
    if status:
        call.drop_results()
        _fail(call, program)
    values = call.results()
    if signature.structure == "single":
        return values[0]
    if signature.structure == "tuple":
        return tuple(values)
    return program.pack(values) if signature.structure == "packed" else values


def check_call(signature: Signature, table_address: int, arrays: Sequence[Array]) -> None:
    """Raise what ``call_kernel`` would before it runs the kernel."""
    _Call(signature, table_address, arrays)


def _fail(call: _Call, program: Program) -> None:
    try:
        program.fail(call.context_address)
    finally:
        call.take(call.context_address + abi.CONTEXT_EXCEPTION)
    raise SystemError(f"{call.signature.name}: the kernel failed without an error")


@contextmanager
def locked(word: int) -> Iterator[None]:
    """Hold the writer lock at the address ``word``; 0 for a step that takes none."""
    if not word:
        yield
        return
    known = entry_support.symbols(["stepforge_lock", "stepforge_unlock"])
    function = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
    function(known["stepforge_lock"])(word)
    try:
        yield
    finally:
        ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(known["stepforge_unlock"])(word)


def out_of_memory(shape: Sequence[int], dtype: str) -> ResourceExhaustedError:
    """The error for a tensor that there is no memory for."""
    return ResourceExhaustedError(
        None, None, f"OOM when allocating tensor with shape{list(shape)} and type"
        f" {numpy_dtype(dtype).name}"
    )


class _Call:
    """One call of a kernel: its memory, and the objects that must outlive it."""

    def __init__(self, signature: Signature, table_address: int, arrays: Sequence[Array]) -> None:
        self.signature = signature
        self.arrays = arrays
        self.table = table_address
        self.sizes: dict[str, int] = {}
        self._late: list[tuple[int, dims.Dim]] = []
        self._held: list[Array] = []
        feeds = [
            self._feed(array, feed) for array, feed in zip(arrays, signature.feeds, strict=True)
        ]
        slots = [self._slot(index, slot) for index, slot in enumerate(signature.slots)]
        self._check_sizes()
        self._feeds = (ctypes.c_void_p * max(len(feeds) + len(slots), 1))(*feeds, *slots)
        self._outs = (ctypes.c_void_p * max(len(signature.fetches), 1))()
        self._dense = [self._room(index, fetch) for index, fetch in enumerate(signature.fetches)]
        self._dims = (ctypes.c_int64 * max(len(signature.sizes), 1))(
            *(self.sizes[name] for name in signature.sizes)
        )
        self._context = (ctypes.c_int64 * (abi.CONTEXT_BYTES // 8))()
        self._frame: list[Any] = []

    @property
    def context_address(self) -> int:
        return ctypes.addressof(self._context)

    # ---- arguments ------------------------------------------------------------------------------

    def _feed(self, array: Array, feed: Feed) -> int:
        if feed.type.is_object:
            self._held.append(array)
            if feed.type.shape is not None:
                self._bind(feed.name, feed.type, array.shape)
            return id(array)
        array = np.require(array, numpy_dtype(feed.type.dtype), ["C", "A"])
        self._held.append(array)
        self._bind(feed.name, feed.type, array.shape)
        return int(array.ctypes.data)

    def _slot(self, index: int, slot: Slot) -> int:
        place = layout.word(self.table, 8 * (abi.FIRST_SLOT + index))
        data, sizes, rank, number, flags = _SLOT.unpack(ctypes.string_at(place, _SLOT.size))
        if slot.checked:
            if not flags & 1:
                raise FailedPreconditionError(
                    None, None, f"Attempting to use uninitialized value {slot.name}", site=slot.site
                )
            if not slot.type.is_object:
                if number != _DTYPE_NUMBERS[slot.type.dtype]:
                    raise VariantMismatch(f"{slot.name} is not {slot.type.dtype}")
                shape = struct.unpack(f"{rank}q", ctypes.string_at(sizes, 8 * rank))
                self._bind(slot.name, slot.type, shape)
        return int(data)

    def _bind(self, name: str, type_: Type, shape: tuple[int, ...]) -> None:
        if len(shape) != type_.rank:
            raise VariantMismatch(f"{name} has rank {len(shape)}, not {type_.rank}")
        for have, want in zip(shape, type_.dims, strict=True):
            bound = dims.as_name(want)
            if bound is not None and bound not in self.sizes:
                self.sizes[bound] = have
            else:
                self._late.append((have, want))

    def _check_sizes(self) -> None:
        for pair in (*self._late, *self.signature.assumptions):
            have, want = (dims.evaluate(dim, self.sizes) for dim in pair)
            if have != want:
                raise VariantMismatch(f"{pair[0]} is not {pair[1]} = {want}")

    # ---- the kernel -----------------------------------------------------------------------------

    def run(self, kernel_address: int) -> int:
        """Call the kernel, without the GIL where it is worth while; its status."""
        held = self.signature.python or self._work() <= abi.GIL_RELEASE_WORK
        make = ctypes.PYFUNCTYPE if held else ctypes.CFUNCTYPE
        kernel = make(ctypes.c_int32, *[ctypes.c_void_p] * 4)(kernel_address)
        self._store(abi.CONTEXT_TABLE, self.table)
        if self.signature.python:
            self._store(abi.CONTEXT_FRAME, id(self._frame))
        memory = (self._context, self._feeds, self._outs, self._dims)
        status = int(kernel(*(ctypes.addressof(block) for block in memory)))
        code = ctypes.c_int32.from_address(self.context_address + abi.CONTEXT_CODE)
        code.value = status
        return status

    def _work(self) -> int:
        return dims.evaluate(self.signature.work, self.sizes)

    def _store(self, offset: int, value: int) -> None:
        self._context[offset // 8] = value

    # ---- results --------------------------------------------------------------------------------

    def _room(self, index: int, fetch: Fetch) -> Array | None:
        if fetch.kind != "dense":
            return None
        shape = [dims.evaluate(dim, self.sizes) for dim in fetch.dense_type.dims]
        try:
            array = np.empty(shape, numpy_dtype(fetch.dense_type.dtype))
        except (MemoryError, ValueError):  # the latter for what no memory could hold
            raise out_of_memory(shape, fetch.dense_type.dtype) from None
        self._outs[index] = array.ctypes.data
        return array

    def results(self) -> list[Any]:
        """The fetched values, in order."""
        return [self._result(index, fetch) for index, fetch in enumerate(self.signature.fetches)]

    def _result(self, index: int, fetch: Fetch) -> Any:
        array = self._dense[index]
        if array is not None:
            return array if array.ndim else array[()]
        if fetch.kind == "feed":
            return self.arrays[fetch.source or 0]
        return (
            self.take(ctypes.addressof(self._outs) + 8 * index) if fetch.kind == "object" else None
        )

    def drop_results(self) -> None:
        """Give up what a failed kernel left."""
        for index, fetch in enumerate(self.signature.fetches):
            if fetch.kind == "object":
                self.take(ctypes.addressof(self._outs) + 8 * index)

    def take(self, address: int) -> Any:
        """The object that a cell owns, which is then empty; None for an empty cell."""
        cell = ctypes.c_void_p.from_address(address)
        if not cell.value:
            return None
        value = ctypes.cast(cell.value, ctypes.py_object).value
        cell.value = None
        layout.PYTHON.Py_DecRef(ctypes.py_object(value))
        return value
