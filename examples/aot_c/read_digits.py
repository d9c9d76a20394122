"""``main.c`` in Python, without stepforge: reads handwritten digits with ``libdigits.so``, by cffi.

    python read_digits.py held_out.bin

A module that spares one these declarations is written by ``tf.ahead.write(compiled, "digits.py")``;
``../aot_training/learn.py`` uses such a one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cffi
import numpy as np

PIXELS = 64
HEADER = 8  # bytes of the number of images
# Of digits.h.
DECLARATIONS = """
int32_t predict(const float *pixels, int64_t n, int64_t *ArgMax, void *workspace);
int64_t predict_workspace(int64_t n);
const char *predict_message(int32_t status, void *workspace);
"""


def predictions(ffi: Any, library: Any, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The digits in rows of pixels. Raises: RuntimeError."""
    guessed = np.empty(len(pixels), np.int64)
    workspace = ffi.new("char[]", max(library.predict_workspace(len(pixels)), 1))
    addresses = ffi.from_buffer("float[]", pixels), ffi.from_buffer("int64_t[]", guessed)
    status = library.predict(addresses[0], len(pixels), addresses[1], workspace)
    if status:
        raise RuntimeError(ffi.string(library.predict_message(status, workspace)).decode())
    return guessed


def main() -> None:
    data = Path(sys.argv[1] if len(sys.argv) > 1 else "held_out.bin").read_bytes()
    count = int(np.frombuffer(data, np.int64, 1)[0])
    pixels = np.frombuffer(data, np.float32, count * PIXELS, HEADER).reshape(count, PIXELS)
    labels = np.frombuffer(data, np.int64, count, HEADER + pixels.nbytes)
    ffi = cffi.FFI()
    ffi.cdef(DECLARATIONS)
    guessed = predictions(ffi, ffi.dlopen("./libdigits.so"), pixels)
    print(f"in Python, compiled: {(guessed == labels).mean():.2%} of {count} images")


if __name__ == "__main__":
    main()
