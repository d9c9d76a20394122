"""Shared libraries by a linker of the machine: the compiler driver where that links for the target,
else one of LLVM's linkers, which need neither headers nor libraries of the other system.

What code takes from outside is few functions of libc and libm. ELF and Mach-O find them when the
library loads; a DLL says which DLL they are in, so that import libraries for Windows' own are
written here.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from stepforge.codegen import archive, coff
from stepforge.codegen.target import Target, host

_INSTALL = "install LLD (packages lld, llvm or rustup's toolchain)"
_MACHINES = {"x86_64": 0x8664, "aarch64": 0xAA64}  # as COFF numbers them
_RUNTIME, _KERNEL = "ucrtbase.dll", "ntdll.dll"  # of every Windows since 10
_OF_KERNEL = ("__chkstk",)  # the check of large frames


def link(object_: bytes, target: Target, path: Path) -> None:
    """Write a shared library. Raises: RuntimeError where no linker is at hand, or it fails."""
    format_ = _format(target)
    name, command = _LINKERS[format_]
    driver, linker = _driver(target), shutil.which(name)
    if driver is None and linker is None:
        raise RuntimeError(
            f"{path.name} needs a linker for {target.triple}: {_INSTALL} for {name}, or set CC to a"
            " compiler driver that links for it, or write the object (.o) and link that there"
        )
    path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "steps.o"
        made.write_bytes(object_)
        if driver is not None:
            libraries = [] if target.windows else ["-lm"]
            words = [driver, "-shared", "-o", str(path), str(made), *libraries]
        else:
            words = [str(linker), *command(made, target, path)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{words[0]} could not link {path.name}:\n{done.stderr.strip()}")


def _format(target: Target) -> str:
    if target.windows:
        return "coff"
    return "mach-o" if any(s in target.triple for s in ("darwin", "macos")) else "elf"


def _driver(target: Target) -> str | None:
    """The compiler driver: the one that ``CC`` names, or ``cc`` where the target is this machine.
    """
    named, here = os.environ.get("CC"), host()
    own = here.triple.split("-")[0] == target.triple.split("-")[0]
    if named or (own and _format(here) == _format(target)):
        return shutil.which(named or "cc")
    return None


def _elf(made: Path, target: Target, path: Path) -> list[str]:
    return ["-shared", "-soname", path.name, "-o", str(path), str(made)]


def _mach_o(made: Path, target: Target, path: Path) -> list[str]:
    machine = target.triple.split("-")[0].replace("aarch64", "arm64")
    return [
        "-dylib", "-arch", machine, "-platform_version", "macos", "11.0", "11.0",
        "-undefined", "dynamic_lookup", "-install_name", f"@rpath/{path.name}",
        "-o", str(path), str(made),
    ]  # fmt: skip


def _coff(made: Path, target: Target, path: Path) -> list[str]:
    """``_fltused`` is a mark of objects with floats that nobody looks at: any address will do."""
    files = []
    wanted = [name for name in coff.undefined(made.read_bytes()) if name != "_fltused"]
    for number, name in enumerate(wanted):
        library = made.with_name(f"import_{number}.lib")
        dll = _KERNEL if name in _OF_KERNEL else _RUNTIME
        library.write_bytes(import_library(name, dll, target))
        files.append(str(library))
    return [
        "/dll", "/noentry", "/nodefaultlib", "/alternatename:_fltused=__ImageBase", f"/out:{path}",
        f"/implib:{made.with_suffix('.lib')}", str(made), *files,
    ]  # fmt: skip


def import_library(name: str, dll: str, target: Target) -> bytes:
    """A library that says that the function ``name`` is in ``dll``."""
    machine = _MACHINES[target.triple.split("-")[0]]
    texts = f"{name}\0{dll}\0".encode()
    by_name = 1 << 2  # the name is the symbol's, and that is code
    head = struct.pack("<HHHHIIHH", 0, 0xFFFF, 0, machine, 0, len(texts), 0, by_name)
    return archive.static_library(dll, head + texts, [name, f"__imp_{name}"])


_LINKERS: dict[str, tuple[str, Callable[[Path, Target, Path], list[str]]]] = {
    "elf": ("ld.lld", _elf), "mach-o": ("ld64.lld", _mach_o), "coff": ("lld-link", _coff),
}  # fmt: skip
