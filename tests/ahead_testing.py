"""Libraries compiled ahead of time, for tests: a small model, and ways to load what it became."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cffi
import numpy as np
import pytest

import stepforge as tf
from stepforge.codegen import header
from stepforge.runtime import ahead_files
from stepforge.runtime.ahead import Compiled
from stepforge.runtime.ahead_steps import compile_ahead as compile_with

# What LLVM does beyond its short list of passes is tested where steps are.
compile_ahead = functools.partial(compile_with, level="O1")

Module = Callable[..., Any]  # the fixture ``module``: a compiled library to the names of its module
ALLOWED = {"memcpy", "memset", "memmove"}
RANDOM = np.random.RandomState(0)


class Loaded:
    """A compiled library in this process: ``call(name, *arguments)`` gives the status."""

    def __init__(self, compiled: Compiled, folder: Path) -> None:
        path = folder / "libtest.so"
        ahead_files.write(compiled, path)
        self.ffi = cffi.FFI()
        self.ffi.cdef(header.declarations(compiled.library, compiled.parallel))
        self.code = self.ffi.dlopen(str(path))
        self.memory: Any = self.ffi.NULL  # the workspace of the last call

    def pointer(self, value: Any) -> Any:
        is_array = isinstance(value, np.ndarray)
        return self.ffi.cast("void *", value.ctypes.data) if is_array else value

    def call(self, name: str, *arguments: Any, sizes: tuple[int, ...] = ()) -> int:
        self.memory = np.empty(getattr(self.code, f"{name}_workspace")(*sizes), np.uint8)
        passed = [self.pointer(a) for a in (*arguments, self.memory)]
        return int(getattr(self.code, name)(*passed))

    def message(self, name: str, status: int) -> str:
        text = getattr(self.code, f"{name}_message")(status, self.pointer(self.memory))
        return self.ffi.string(text).decode()


def python_module(folder: Path, compiled: Compiled, name: str = "made") -> Any:
    """The names of the Python module of a library, which is run in this process."""
    ahead_files.write(compiled, folder / f"{name}.py")
    namespace: dict[str, Any] = {"__file__": str(folder / f"{name}.py"), "__name__": name}
    exec((folder / f"{name}.py").read_text(), namespace)
    return type("Made", (), {n: staticmethod(v) if callable(v) else v
                             for n, v in namespace.items() if n != "__doc__"})


def network() -> tuple[Any, Any, Any]:
    """A small classifier: the input, its result, a session with its variables."""
    x = tf.placeholder(tf.float32, [None, 30], name="x")
    start = tf.random_normal_initializer(seed=3)
    w = tf.get_variable("w", [30, 70], initializer=start)
    b = tf.get_variable("b", [70], initializer=start)
    y = tf.nn.softmax(tf.tanh(tf.matmul(x, w) + b), name="y")
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    return x, y, session


def with_linkers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the linkers that come with Rust be found, where there are no others."""
    monkeypatch.delenv("CC", raising=False)
    if shutil.which("rustc") is not None:
        command = ["rustc", "--print", "sysroot"]
        root = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        for folder in Path(root, "lib", "rustlib").glob("*/bin/gcc-ld"):
            monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
