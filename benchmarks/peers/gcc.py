"""C by gcc: compiled when the benchmark runs, and called through cffi's compiled interface.

That is C's cheapest way in from Python.  Outputs are allocated before.  The map has a loop
of its own in C as well, which leaves Python out.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cases import Array, Arrays, Step

FLAGS = ("-O3", "-march=native", "-ffast-math")
TIMED_ELEMENTS = 2_000_000  # in one measurement of C's own loop
SOURCE, HEADER = Path(__file__).with_name("kernels.c"), Path(__file__).with_name("kernels.h")


class Library:
    """The compiled C functions, and pointers to give them."""

    def __init__(self, lib: Any, ffi: Any) -> None:
        self.lib = lib
        self._ffi = ffi

    def pointer(self, array: np.ndarray, type_: str = "float *") -> Any:
        """A pointer to the memory of ``array``, which it keeps alive."""
        return self._ffi.from_buffer(type_, array)


@functools.cache
def library() -> Library | None:
    """The C functions, or None where gcc, cffi or Python's headers are not at hand."""
    include = sysconfig.get_path("include")
    if shutil.which("gcc") is None or not (Path(include) / "Python.h").exists():
        return None
    try:
        import cffi
    except ImportError:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, shared = Path(folder, "c_kernels.c"), Path(folder, "c_kernels.so")
        builder = cffi.FFI()
        builder.cdef(HEADER.read_text())
        builder.set_source("c_kernels", SOURCE.read_text())
        with contextlib.redirect_stdout(io.StringIO()):  # cffi says what it writes
            builder.emit_c_code(str(source))
        options = [*FLAGS, "-shared", "-fPIC", f"-I{include}"]
        subprocess.run(["gcc", *options, "-o", shared, source, "-lm"], check=True)
        spec = importlib.util.spec_from_file_location("c_kernels", shared)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return Library(module.lib, module.ffi)


def call(function: str, inputs: tuple[Any, ...], outputs: tuple[Array, ...], *sizes: int) -> Step:
    """A step that calls a C function with pointers to arrays, numbers as they are, and sizes."""
    found = library()
    assert found is not None
    memory = [found.pointer(a) if isinstance(a, np.ndarray) else a for a in (*inputs, *outputs)]
    return Step(getattr(found.lib, function), (*memory, *sizes), lambda _: outputs)


def empty(*shape: int) -> Array:
    return np.empty(shape, np.float32)


def softmax(a: Arrays) -> Step:
    return call("softmax", (a["x"],), (np.empty_like(a["x"]),), *a["x"].shape)


def softmax_gradient(a: Arrays) -> Step:
    return call("softmax_gradient", (a["x"], a["dy"]), (np.empty_like(a["x"]),), *a["x"].shape)


def logsumexp(a: Arrays) -> Step:
    return call("logsumexp", (a["x"],), (empty(len(a["x"])),), *a["x"].shape)


def logsumexp_gradient(a: Arrays) -> Step:
    return call("logsumexp_gradient", (a["x"], a["dy"]), (np.empty_like(a["x"]),), *a["x"].shape)


def layer_norm(a: Arrays) -> Step:
    inputs = (a["x"], a["scale"], a["shift"])
    return call("layer_norm", inputs, (np.empty_like(a["x"]),), *a["x"].shape)


def layer_norm_gradient(a: Arrays) -> Step:
    rows, columns = a["x"].shape
    outputs = (empty(rows, columns), empty(columns), empty(columns))
    inputs = (a["x"], a["scale"], a["dy"])
    return call("layer_norm_gradient", inputs, outputs, rows, columns)


def saxpy(a: Arrays) -> Step:
    inputs = (float(a["a"]), a["x"], a["y"])
    return call("saxpy", inputs, (np.empty_like(a["x"]),), len(a["x"]))


def dot(a: Arrays) -> Step:
    step = call("dot", (a["x"], a["y"]), (), len(a["x"]))
    return Step(step.function, step.arguments, lambda total: (total,))


def chain(a: Arrays) -> Step:
    inputs = (float(a["a"]), float(a["b"]), a["x"], a["y"])
    return call("fused", inputs, (np.empty_like(a["x"]),), len(a["x"]))


STEPS: dict[str, Callable[[Arrays], Step]] = {
    "normalisation.softmax": softmax,
    "normalisation.softmax_gradient": softmax_gradient,
    "normalisation.logsumexp": logsumexp,
    "normalisation.logsumexp_gradient": logsumexp_gradient,
    "normalisation.layer_norm": layer_norm,
    "normalisation.layer_norm_gradient": layer_norm_gradient,
    "streams.saxpy": saxpy,
    "streams.dot": dot,
    "kernels.chain": chain,
}


def step(kind: str, arrays: Arrays) -> Step | None:
    return None if library() is None else STEPS[kind](arrays)


def own_loop(arrays: Arrays) -> Callable[[], float] | None:
    """The nanoseconds of a call of the map in a loop of C, or None without gcc."""
    made = step("kernels.chain", arrays)
    found = library()
    if made is None or found is None:
        return None
    count = 1 + TIMED_ELEMENTS // len(arrays["x"])
    return lambda: float(found.lib.fused_loop(*made.arguments, count))


def axb_loop(address: int, arrays: Sequence[Array]) -> Callable[[], float] | None:
    """The nanoseconds of a*x+b on 8-vectors of doubles in a loop of C, by the function at
    ``address`` or, where that is 0, C's own; None without gcc.
    """
    found = library()
    if found is None:
        return None
    memory = [found.pointer(array, "double *") for array in arrays]
    count = TIMED_ELEMENTS // len(arrays[0])
    return lambda: float(found.lib.axb_loop(address, *memory, count))
