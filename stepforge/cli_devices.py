"""``stepforge devices``: what there is to compute on, and what of it steps use and why."""

from __future__ import annotations

import argparse
import os
import platform
import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np

from stepforge.cli_parsers import command_parser
from stepforge.codegen import layout, target
from stepforge.codegen.disk_cache import disk_cache
from stepforge.ir import products
from stepforge.runtime import backends, hardware, native, threads
from stepforge.runtime.devices import local_devices

_MORE = """\
  entry       what is called when a step is: native code, or Python where the interpreter's objects
              are not laid out as that code expects (then it says what differs), or where
              STEPFORGE_ENTRY=python
  BLAS        the matrix library that NumPy brought, for large products; STEPFORGE_BLAS=off: none
  back end    what kernels are written by: STEPFORGE_BACKEND, or a session's options
  disk cache  where compiled steps are kept: STEPFORGE_CACHE

example:
  stepforge devices
"""
_LABEL, _WIDTH = 15, 100
_UNITS = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


def add_commands(commands: Any) -> None:
    """Add ``devices`` to the commands."""
    parser = command_parser(commands, "devices", "say what there is to compute on", _MORE)
    parser.set_defaults(command=devices_command)


def devices_command(options: argparse.Namespace) -> None:
    """Print a line for each thing, with long ones folded."""
    for label, text in _rows():
        first = label.ljust(_LABEL)
        print(textwrap.fill(text, _WIDTH, initial_indent=first, subsequent_indent=" " * _LABEL,
                            break_long_words=False, break_on_hyphens=False))


def _rows() -> Iterator[tuple[str, str]]:
    for device in local_devices():
        yield "device", f"{device.name}  {_size(device.memory_limit_bytes)}"
    host, common = target.host(), target.baseline()
    bits = host.vector_bits
    features = (word[1:] for word in host.features.split(",") if word.startswith("+"))
    yield "processor", f"{hardware.processor_name()}, LLVM's {host.cpu} ({host.triple})"
    yield "features", " ".join(sorted(features)) or "none that LLVM knows"
    yield "vectors", f"{bits} bits: {bits // 32} f32 or {bits // 64} f64"
    yield "caches", ", ".join(map(_cache, hardware.caches())) or "the system does not tell"
    yield "threads", str(threads.available())
    yield "BLAS", _blas()
    yield "entry", _entry()
    yield "back end", backends.chosen("")
    yield "disk cache", _disk()
    yield "ahead of time", (
        f"{common.cpu}, vectors of {common.vector_bits} bits (--target-cpu native: as above)"
    )


def _cache(cache: hardware.Cache) -> str:
    shared = f" (for {cache.shared_by} processors)" if cache.shared_by > 1 else ""
    return f"{cache.name} {_size(cache.size)}{shared}"


def _blas() -> str:
    if native.blas():
        least = products.LIBRARY_FROM
        return (f"{os.path.basename(native.blas_library())}, which NumPy brought: for products of"
                f" at least {least} rows, columns and depth; our own kernels for all others")
    off = os.environ.get("STEPFORGE_BLAS") == "off"
    reason = "STEPFORGE_BLAS=off" if off else "NumPy brought no OpenBLAS"
    return f"none: {reason}; our own kernels for all products"


def _entry() -> str:
    made_for = f"{platform.python_implementation()} {platform.python_version()}, NumPy"
    made_for += f" {np.__version__}"
    if layout.native_entry():
        return f"native: objects of {made_for} are laid out as it expects"
    if layout.problems():
        return f"Python, because of {made_for}: {'; '.join(layout.problems())}"
    return "Python: STEPFORGE_ENTRY=python"


def _disk() -> str:
    cache = disk_cache()
    if cache is None:
        return "off: STEPFORGE_CACHE says so, or its folder cannot be trusted"
    return str(cache.folder)


def _size(count: int) -> str:
    unit, size = next(((u, s) for u, s in _UNITS if count >= s), ("bytes", 1))
    return f"{count / size:.4g} {unit}"
