"""Helpers that native code of every step calls: memory, and the matrix products of NumPy's own
BLAS.

They are looked up or made once per process, on first use.
"""

from __future__ import annotations

import ctypes
import glob
import os
from functools import cache

import numpy as np

from stepforge.codegen import large_memory

# table index -> what the routine is called in BLAS
BLAS = {6: "sgemm", 7: "dgemm", 8: "sgemv", 9: "dgemv"}


def memory() -> tuple[int, int]:
    """Addresses of ``alloc(bytes) -> pointer aligned to 64, or null`` and ``free(pointer)``."""
    library = large_memory.library()
    return library["stepforge_alloc"], library["stepforge_free"]


def blas() -> dict[int, int]:
    """Table index -> address of the routine in the OpenBLAS that NumPy brought;

    empty where it has none, or ``STEPFORGE_BLAS`` is ``off``.
    """
    return {} if os.environ.get("STEPFORGE_BLAS") == "off" else _found()


@cache
def blas_library() -> str:
    """The file of the OpenBLAS that NumPy brought; empty where it has none."""
    folder = os.path.join(os.path.dirname(np.__file__), os.pardir, "numpy.libs")
    return next(iter(glob.glob(os.path.join(folder, "libscipy_openblas64_*"))), "")


@cache
def _found() -> dict[int, int]:
    if not blas_library():
        return {}
    library = ctypes.CDLL(blas_library())
    addresses = {}
    for index, name in BLAS.items():
        routine = getattr(library, f"scipy_cblas_{name}64_", None)
        if routine is None:
            return {}
        addresses[index] = ctypes.cast(routine, ctypes.c_void_p).value or 0
    return addresses
