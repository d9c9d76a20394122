"""Statuses of compiled steps in words: the values that messages quote, as Python formats them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import cffi
import numpy as np
import pytest

from stepforge.codegen import coff, header, target
from stepforge.ir.parser import parse_module
from stepforge.runtime import ahead_files
from stepforge.runtime.ahead import Compiled
from stepforge.runtime.ahead_steps import compile_ir

MESSAGE = "low {:g}, count {}, high {:g}"
TEXT = f"""
func @check(%low: f64, %n: i32, %high: f32) -> f64 {{
  %c = less(%low, 0.0: f64) : bool
  require(%c, %low, %n, %high, message="{MESSAGE}")
  return(%low)
}}
"""
BRACES = """
func @check(%low: f64) -> f64 {
  %c = less(%low, 0.0: f64) : bool
  require(%c, message="a {b} {{c}} {0}")
  return(%low)
}
"""
FLOATS = [
    0.0, 1.5, 1e300, 123456789.0, 0.0001, 1e-5, 5e-324, 100000.0, 999999.5, 1e6,
    1.7976931348623157e308, float("inf"), float("nan"),
]  # fmt: skip


def compiled(text: str = TEXT, triple: str = "") -> Compiled:
    chosen = target.chosen(triple) if triple else None
    return compile_ir(parse_module(text), name="lib", target=chosen, level="O1")


def message(made: Compiled, folder: Path, *arguments: float) -> str:
    """What the step says that gets ``arguments`` and fails, in capitals where that is no error."""
    ahead_files.write(made, folder / "liblib.so")
    ffi = cffi.FFI()
    ffi.cdef(header.declarations(made.library, made.parallel))
    code = ffi.dlopen(str(folder / "liblib.so"))
    memory = np.empty(code.check_workspace(), np.uint8)
    workspace = ffi.cast("void *", memory.ctypes.data)
    status = code.check(*arguments, ffi.new("double *"), workspace)
    assert status != 0
    assert code.check(-1.0, *arguments[1:], ffi.new("double *"), workspace) == 0
    code.check(*arguments, ffi.new("double *"), workspace)
    return ffi.string(code.check_message(status, workspace)).decode()


@pytest.fixture(scope="module")
def made() -> Compiled:
    return compiled()


@pytest.mark.parametrize("value", FLOATS)
def test_floats_are_written_as_python_writes_them(
    value: float, made: Compiled, tmp_path: Path
) -> None:
    with np.errstate(over="ignore"):
        wanted = MESSAGE.format(value, -7, np.float32(-value).item())
    assert message(made, tmp_path, value, -7, -value) == f"InvalidArgumentError: {wanted}"


def test_a_negative_nan_has_no_sign(made: Compiled, tmp_path: Path) -> None:
    nan: Any = -np.float64("nan")
    assert "low nan, count 1, high nan" in message(made, tmp_path, nan, 1, nan)


def test_only_messages_with_floats_need_libc(made: Compiled) -> None:
    assert "snprintf" in made.object.undefined
    assert "snprintf" not in compiled(BRACES).object.undefined


def test_braces_of_a_message_stay(tmp_path: Path) -> None:
    assert message(compiled(BRACES), tmp_path, 1.0) == "InvalidArgumentError: a {b} {{c}} {0}"


# A C library whose decimal point is of two bytes, as in some locales.
MAIN = r"""
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include "lib.h"
int snprintf(char *to, size_t size, const char *form, ...) {
    (void)size;
    (void)form;
    strcpy(to, "-12\xd9\xab" "5e+06");
    return (int)strlen(to);
}
int main(void) {
    double out;
    void *workspace = malloc((size_t)check_workspace());
    puts(check_message(check(1, 2, 3, &out, workspace), workspace));
    free(workspace);
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_decimal_point_is_a_point_in_every_locale(made: Compiled, tmp_path: Path) -> None:
    for name in ("lib.o", "lib.h"):
        ahead_files.write(made, tmp_path / name)
    (tmp_path / "main.c").write_text(MAIN)
    command = ["cc", "-fno-builtin", "main.c", "lib.o", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == (
        "InvalidArgumentError: low -12.5e+06, count 2, high -12.5e+06"
    )


@pytest.mark.parametrize("system", ["pc-windows-msvc", "w64-windows-gnu"])
def test_windows_has_no_snprintf_but_what_its_headers_call(system: str) -> None:
    needed = set(coff.undefined(bytes(compiled(triple=f"x86_64-{system}").object)))
    assert "__stdio_common_vsprintf" in needed
    assert "snprintf" not in needed
    needed = set(coff.undefined(bytes(compiled(BRACES, f"x86_64-{system}").object)))
    assert "__stdio_common_vsprintf" not in needed
