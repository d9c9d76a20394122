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

from stepforge.codegen import jit, target
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter

# table index -> what the routine is called in BLAS
BLAS = {6: "sgemm", 7: "dgemm", 8: "sgemv", 9: "dgemv"}


@cache
def memory() -> tuple[int, int]:
    """Addresses of ``alloc(bytes) -> pointer aligned to 64, or null`` and ``free(pointer)``."""
    module = ModuleWriter(target.host().triple)
    fn = FunctionWriter(module, "stepforge_alloc", "ptr", [("i64", "size")])
    callee = module.declare("aligned_alloc", "ptr", "i64, i64")
    up = fn.emit("add i64 %size, 127")  # never 0 bytes, and a multiple of the alignment
    whole = fn.emit(f"and i64 {up}, -64")
    fn.do(f"ret ptr {fn.call('ptr', callee, ('i64', '64'), ('i64', whole))}")
    fn.define()
    fn = FunctionWriter(module, "stepforge_free", "void", [("ptr", "block")])
    fn.call("void", module.declare("free", "void", "ptr"), ("ptr", "%block"))
    fn.do("ret void")
    fn.define()
    names = ("stepforge_alloc", "stepforge_free")
    global_library = jit.build(module.text(), "O0", {}, names)
    _KEEP.append(global_library)
    return global_library[names[0]], global_library[names[1]]


_KEEP: list[jit.Library] = []  # code that must stay for the life of the process


@cache
def blas() -> dict[int, int]:
    """Table index -> address of the routine in the OpenBLAS that NumPy brought;

    empty where it has none.
    """
    folder = os.path.join(os.path.dirname(np.__file__), os.pardir, "numpy.libs")
    found = glob.glob(os.path.join(folder, "libscipy_openblas64_*"))
    if not found:
        return {}
    library = ctypes.CDLL(found[0])
    addresses = {}
    for index, name in BLAS.items():
        routine = getattr(library, f"scipy_cblas_{name}64_", None)
        if routine is None:
            return {}
        addresses[index] = ctypes.cast(routine, ctypes.c_void_p).value or 0
    return addresses
