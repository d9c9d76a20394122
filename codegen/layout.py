"""Where CPython and NumPy keep things: addresses of their C functions and offsets in their objects.

Entries read feeds by field loads and box results by stores. That is only right while the structures
are what we think, so ``problems`` proves every offset on known objects before a native entry is
used; where one differs (another implementation, a free-threaded build) the plain Python entry takes
its place.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import numpy as np

from stepforge.ir.types import NUMERIC, numpy_dtype

OBJECT_TYPE = 8
VARIABLE_SIZE = 16  # of tuples and lists
TUPLE_ITEMS = tuple.__basicsize__
LIST_ITEMS = 24  # a pointer to the items
FLOAT_VALUE = 16
SCALAR_VALUE = 16  # of NumPy's scalar objects

# An int is digits of 30 bits. Before 3.12 the word at 16 is the number of digits with the sign;
# since then it is that number times 8, with 0, 1, 2 for positive, zero, negative in its low bits.
LONG_TAG = 16
LONG_DIGITS = 24
LONG_HAS_TAG = sys.version_info >= (3, 12)

ARRAY_DATA, ARRAY_RANK, ARRAY_DIMS, ARRAY_STRIDES = 16, 24, 32, 40
ARRAY_DESCR, ARRAY_FLAGS = 56, 64
CONTIGUOUS_ALIGNED = 0x101  # flag bits

# Of a dtype object: kind, character, byte order, a byte of flags, and the type number, in one word.
DESCR_WORD = 24
DESCR_BYTE_ORDER = 26
DESCR_TYPE_NUMBER = 28
DESCR_WORD_MASK = 0xFFFFFFFF00FFFFFF

BUILTIN_DTYPES = tuple(name for name in NUMERIC if name != "bf16")

_NUMPY_API = {
    "PyArray_Scalar": 60,
    "PyArray_NewFromDescr": 94,
    "PyDataMem_SetHandler": 304,
    "PyDataMem_GetHandler": 305,
}
_TP_ALLOC = 47  # the number of that slot for PyType_GetSlot


# CPython's functions, by a handle of our own: signatures set on ctypes.pythonapi are everyone's.
PYTHON = ctypes.PyDLL(ctypes.pythonapi._name, handle=ctypes.pythonapi._handle)


def native_entry() -> bool:
    """True where native entries may be used: the layout is proven, the user did not object."""
    return os.environ.get("STEPFORGE_ENTRY") != "python" and not problems()


def type_word(dtype: str) -> int:
    """The word at ``DESCR_WORD`` of a dtype object, masked, as a signed 64-bit number."""
    descr = numpy_dtype(dtype)
    order = "=" if descr.isnative and descr.itemsize > 1 else "|"
    packed = struct.pack("<3cxi", *(c.encode() for c in (descr.kind, descr.char, order)), descr.num)
    return int.from_bytes(packed, "little", signed=True)


# ---- addresses ----------------------------------------------------------------------------------


def addresses(names: Iterable[str]) -> dict[str, int]:
    """The addresses of those names that are CPython's or NumPy's, under the names that entries use.

    Beside the C functions: ``PyFloat_Type`` and other types, ``Py_None``, ``numpy_true``,
    ``string_x`` (an interned string), and per dtype ``descr_f32`` (the dtype object),
    ``scalar_f32`` (the type of its scalars) and ``alloc_f32`` (what allocates them). Other names
    are left out.
    """
    found = {name: _address(name) for name in names}
    return {name: address for name, address in found.items() if address is not None}


@cache
def _address(name: str) -> int | None:
    if name in _OBJECTS:
        return id(_OBJECTS[name])
    if name in _NUMPY_API:
        return int(_numpy_functions()[_NUMPY_API[name]])
    family, _, rest = name.partition("_")
    if family in _FAMILIES:
        return _FAMILIES[family](rest)
    if name.startswith("Py") or name in ("usleep", "sched_yield"):
        function = getattr(PYTHON, name, None)
        return ctypes.cast(function, ctypes.c_void_p).value if function else None
    return None


_OBJECTS: dict[str, object] = {
    "Py_None": None,
    "RuntimeError": RuntimeError,
    "Py_True": True,
    "numpy_true": np.True_,
    "numpy_false": np.False_,
    "PyBool_Type": bool,
    "PyLong_Type": int,
    "PyFloat_Type": float,
    "PyTuple_Type": tuple,
    "PyList_Type": list,
    "PyDict_Type": dict,
    "PyArray_Type": np.ndarray,
}


def keep(value: Any) -> int:
    """Keep an object for the life of the process, as native code needs it; its address."""
    PYTHON.Py_IncRef(ctypes.py_object(value))
    return id(value)


def _descr(dtype: str) -> int:
    if dtype == "bf16":  # proven here, because the proof at start does not load ml_dtypes
        for problem in check_scalar(dtype):
            raise RuntimeError(f"unexpected layout of {problem}")
    return keep(numpy_dtype(dtype))


def _scalar_alloc(dtype: str) -> int:
    get_slot = PYTHON.PyType_GetSlot
    get_slot.restype, get_slot.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_int]
    return int(get_slot(numpy_dtype(dtype).type, _TP_ALLOC))


_FAMILIES: dict[str, Callable[[str], int]] = {
    "string": lambda text: keep(sys.intern(text)),
    "descr": _descr,
    "scalar": lambda dtype: keep(numpy_dtype(dtype).type),
    "alloc": _scalar_alloc,
}


@cache
def _numpy_functions() -> Any:
    """NumPy's table of C functions."""
    core = "numpy._core" if hasattr(np, "_core") else "numpy.core"  # NumPy 2 and 1
    module = importlib.import_module(f"{core}._multiarray_umath")
    get_pointer = PYTHON.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    capsule = module._ARRAY_API
    return ctypes.cast(get_pointer(capsule, None), ctypes.POINTER(ctypes.c_void_p))


# ---- the proof ----------------------------------------------------------------------------------


def problems() -> list[str]:
    """What differs from the layout that native entries assume; empty where they may be used."""
    return list(_found())


@cache
def _found() -> list[str]:
    return prove()


def prove() -> list[str]:
    """Look for problems now; ``problems`` remembers what this finds."""
    build = list(_check_build())
    if build:
        return build  # reading objects by offset might not even be safe
    return [text for check in _CHECKS for text in check()]


def _check_build() -> Iterator[str]:
    if sys.implementation.name != "cpython":
        yield f"{sys.implementation.name} is not CPython"
    if os.name != "posix":
        yield f"{os.name} is not POSIX"  # the shared code waits by sched_yield and usleep
    if "t" in sys.abiflags:
        yield "a free-threaded build"
    if sys.byteorder != "little" or struct.calcsize("P") != 8:
        yield "not a little-endian 64-bit machine"
    if sys.int_info.bits_per_digit != 30:
        yield f"ints have digits of {sys.int_info.bits_per_digit} bits"


def word(address: int, offset: int = 0) -> int:
    """The signed 64-bit number in memory ``offset`` bytes behind ``address``."""
    return ctypes.c_int64.from_address(address + offset).value


def _half_word(value: object, offset: int) -> int:
    return ctypes.c_int32.from_address(id(value) + offset).value


def _check_array() -> Iterator[str]:
    array = np.arange(120, dtype=np.float64)[:60].reshape(3, 4, 5)[:, ::-1]
    address = id(array)
    expected = {
        "type": (word(address, OBJECT_TYPE), id(np.ndarray)),
        "data": (word(address, ARRAY_DATA), array.__array_interface__["data"][0]),
        "rank": (_half_word(array, ARRAY_RANK), 3),
        "dims": ([word(word(address, ARRAY_DIMS), 8 * k) for k in range(3)], [3, 4, 5]),
        "strides": (
            [word(word(address, ARRAY_STRIDES), 8 * k) for k in range(3)],
            list(array.strides),
        ),
        "descr": (word(address, ARRAY_DESCR), id(array.dtype)),
        "flags": (_half_word(array, ARRAY_FLAGS), array.flags.num),
        "contiguous flag": (_half_word(array.copy(), ARRAY_FLAGS) & CONTIGUOUS_ALIGNED, 0x101),
        "strided flag": (_half_word(array, ARRAY_FLAGS) & CONTIGUOUS_ALIGNED, 0x100),
    }
    for name, (found, wanted) in expected.items():
        if found != wanted:
            yield f"ndarray {name}: {found} is not {wanted}"


def _check_dtypes() -> Iterator[str]:
    mask = int.from_bytes(DESCR_WORD_MASK.to_bytes(8, "little"), "little", signed=True)
    for name in BUILTIN_DTYPES:
        address = id(np.zeros(1, numpy_dtype(name)).dtype)
        if word(address, DESCR_WORD) & mask != type_word(name):
            yield f"dtype {name}: word {word(address, DESCR_WORD):#x}"
    foreign = np.dtype(">f8")
    if bytes((ctypes.c_char * 1).from_address(id(foreign) + DESCR_BYTE_ORDER)) != b">":
        yield "dtype byte order"


def _check_scalars() -> Iterator[str]:
    for name in BUILTIN_DTYPES:
        yield from check_scalar(name)
    if np.bool_(1) is not np.True_ or np.bool_(0) is not np.False_:
        yield "NumPy bools are not single objects"


def check_scalar(name: str) -> Iterator[str]:
    """Prove the layout of one dtype's scalar objects, of a given and of an allocated one."""
    dtype = numpy_dtype(name)
    value = dtype.type(1.5 - 2j if dtype.kind == "c" else 77)
    held = ctypes.string_at(id(value) + SCALAR_VALUE, dtype.itemsize)
    if type(value) is not dtype.type or held != np.asarray(value).tobytes():
        yield f"scalar {name}: {held!r}"
    elif name not in ("bool", "bf16"):  # those two are not allocated by entries
        signature = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.c_ssize_t)
        made = signature(_scalar_alloc(name))(dtype.type, 0)
        ctypes.memmove(id(made) + SCALAR_VALUE, held, dtype.itemsize)
        if type(made) is not dtype.type or made != value:
            yield f"allocated scalar {name}: {made!r}"


def _check_python_objects() -> Iterator[str]:
    first, second = object(), object()
    many, number = [first, second] * 7, float("2.5")  # alive while they are looked at
    if word(word(id(many), LIST_ITEMS), 8) != id(second):
        yield "list items"
    pair = (first, second)
    if word(id(pair), TUPLE_ITEMS + 8) != id(second) or word(id(pair), VARIABLE_SIZE) != 2:
        yield "tuple items"
    if word(id(many), VARIABLE_SIZE) != 14:
        yield "list size"
    if ctypes.c_double.from_address(id(number) + FLOAT_VALUE).value != 2.5:
        yield "float value"
    for bits in (0, 1, 29, 30, 31, 59):
        for value in ((1 << bits) - 1, 1 << bits, -(1 << bits), 1 - (1 << bits)):
            if _read_long(value) != value:
                yield f"int {value}: {_read_long(value)}"


def _read_long(value: int) -> int | None:
    """An int of at most two digits, read as entries read it."""
    tag = word(id(value), LONG_TAG)
    if LONG_HAS_TAG:
        count, negative = tag >> 3, tag & 3 == 2
    else:
        count, negative = abs(tag), tag < 0
    if count > 2:
        return None
    digits = [
        ctypes.c_uint32.from_address(id(value) + LONG_DIGITS + 4 * k).value for k in range(count)
    ]
    magnitude = sum(digit << (30 * k) for k, digit in enumerate(digits))
    return -magnitude if negative else magnitude


def _check_functions() -> Iterator[str]:
    new = ctypes.PYFUNCTYPE(
        ctypes.py_object,
        ctypes.py_object,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_void_p,
    )
    shape = (ctypes.c_int64 * 2)(2, 3)
    descr = keep(np.dtype(np.float32))  # the function takes a reference of its own
    made = new(_numpy_functions()[_NUMPY_API["PyArray_NewFromDescr"]])(
        np.ndarray, descr, 2, ctypes.addressof(shape), None, None, 0, None
    )
    if type(made) is not np.ndarray or made.shape != (2, 3) or made.dtype != np.float32:
        yield "PyArray_NewFromDescr"
    box = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    value = ctypes.c_float(1.5)
    scalar = box(_numpy_functions()[_NUMPY_API["PyArray_Scalar"]])(
        ctypes.addressof(value), np.dtype(np.float32), None
    )
    if scalar != np.float32(1.5):
        yield "PyArray_Scalar"
    get, use = (
        _numpy_functions()[_NUMPY_API[f"PyDataMem_{name}Handler"]] for name in ("Get", "Set")
    )
    handler = ctypes.PYFUNCTYPE(ctypes.py_object)(get)()
    if ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(use)(handler) is not handler:
        yield "PyDataMem_SetHandler"


_CHECKS = (
    _check_array,
    _check_dtypes,
    _check_scalars,
    _check_python_objects,
    _check_functions,
)
