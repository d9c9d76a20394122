"""What stepforge is measured against, beside NumPy: functions written by hand for numba and for C.

C is compiled when the benchmark runs and called in two ways: through cffi's compiled interface, its
cheapest way in from Python, with outputs allocated before; and in a loop of its own, which leaves
Python out.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import math
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

GCC_FLAGS = ("-O3", "-march=native", "-ffast-math")
EFFECT = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERROR = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def eight_schools(q: np.ndarray) -> tuple[float, np.ndarray]:
    """Log-density and gradient of the non-centered model at q = [eta (8), mu / 5, log tau]."""
    mu, tau = 5.0 * q[8], math.exp(q[9])
    gradient = np.empty(10)
    total, pull, stretch = q[8] * q[8], 0.0, 0.0
    for i in range(8):
        misfit = (EFFECT[i] - (mu + tau * q[i])) / ERROR[i]
        total += misfit * misfit + q[i] * q[i]
        force = misfit / ERROR[i]
        gradient[i] = tau * force - q[i]
        pull += force
        stretch += force * q[i]
    ratio = tau / 5.0 * (tau / 5.0)
    gradient[8] = 5.0 * pull - q[8]
    gradient[9] = tau * stretch - 2.0 * ratio / (1.0 + ratio) + 1.0
    return -0.5 * total - math.log1p(ratio) + q[9], gradient


def with_numba(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """``function`` compiled by numba, or None where that is not installed."""
    try:
        import numba
    except ImportError:
        return None
    compiled: Callable[..., Any] = numba.njit(function)
    return compiled


C_DECLARATIONS = """
void fused(float a, float b, const float *x, const float *y, float *out, long n);
double fused_loop(float a, float b, const float *x, const float *y, float *out, long n, long count);
void softmax(const float *x, float *out, long rows, long columns);
double softmax_loop(const float *x, float *out, long rows, long columns, long count);
"""

# noipa keeps the loops from merging calls that give the same result.
C_SOURCE = """
#include <math.h>
#include <time.h>

__attribute__((noipa))
void fused(float a, float b, const float *restrict x, const float *restrict y,
           float *restrict out, long n) {
    for (long i = 0; i < n; i++)
        out[i] = tanhf(a * x[i] + b) * expf(-x[i] * x[i]) + sqrtf(fabsf(y[i]));
}

__attribute__((noipa))
void softmax(const float *restrict x, float *restrict out, long rows, long columns) {
    for (long r = 0; r < rows; r++, x += columns, out += columns) {
        float top = x[0], sum = 0;
        for (long i = 1; i < columns; i++) top = x[i] > top ? x[i] : top;
        for (long i = 0; i < columns; i++) { out[i] = expf(x[i] - top); sum += out[i]; }
        float scale = 1 / sum;
        for (long i = 0; i < columns; i++) out[i] *= scale;
    }
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * t.tv_sec + t.tv_nsec;
}

double fused_loop(float a, float b, const float *x, const float *y, float *out, long n,
                  long count) {
    double began = now();
    for (long i = 0; i < count; i++) fused(a, b, x, y, out, n);
    return (now() - began) / count;
}

double softmax_loop(const float *x, float *out, long rows, long columns, long count) {
    double began = now();
    for (long i = 0; i < count; i++) softmax(x, out, rows, columns);
    return (now() - began) / count;
}
"""


class CLibrary:
    """The compiled C functions, and pointers to give them."""

    def __init__(self, lib: Any, ffi: Any) -> None:
        self.lib = lib
        self._ffi = ffi

    def pointer(self, array: np.ndarray) -> Any:
        """A ``float *`` to the memory of ``array``, which it keeps alive."""
        return self._ffi.from_buffer("float *", array)


@functools.cache
def c_library() -> CLibrary | None:
    """The C peers, or None where gcc, cffi or Python's headers are not at hand."""
    include = sysconfig.get_path("include")
    if shutil.which("gcc") is None or not (Path(include) / "Python.h").exists():
        return None
    try:
        import cffi
    except ImportError:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "c_peers.c"), Path(folder, "c_peers.so")
        builder = cffi.FFI()
        builder.cdef(C_DECLARATIONS)
        builder.set_source("c_peers", C_SOURCE)
        with contextlib.redirect_stdout(io.StringIO()):  # cffi says what it writes
            builder.emit_c_code(str(source))
        shared = ["-shared", "-fPIC", f"-I{include}"]
        subprocess.run(["gcc", *GCC_FLAGS, *shared, "-o", library, source, "-lm"], check=True)
        spec = importlib.util.spec_from_file_location("c_peers", library)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return CLibrary(module.lib, module.ffi)
