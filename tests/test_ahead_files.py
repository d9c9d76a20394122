"""The files of compiled steps: what C programs link, what objects need, what is in a wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ahead_testing import ALLOWED, Loaded, compile_ahead, network

import stepforge as tf
from stepforge.codegen import elf
from stepforge.runtime import ahead_files
from stepforge.runtime.ahead_steps import Step

pytestmark = pytest.mark.usefixtures("own_graph")


MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include "lib.h"
int main(void) {
    float x[60] = {1}, y[140];
    void *workspace = malloc(f_workspace(2));
    int32_t status = f(x, 2, y, workspace);
    if (status) { puts(f_message(status, workspace)); return 1; }
    printf("%.6f\\n", y[0]);
    free(workspace);
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("file", ["lib.o", "liblib.a", "liblib.so"])
def test_c_programs_link_every_kind_of_file(file: str, tmp_path: Path) -> None:
    x, y, session = network()
    compiled = compile_ahead(Step("f", y, [x]), session=session, name="lib")
    for name in (file, "lib.h"):
        ahead_files.write(compiled, tmp_path / name)
    (tmp_path / "main.c").write_text(MAIN)
    warnings = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    command = ["cc", *warnings, "main.c", file, "-lm", "-Wl,-rpath,$ORIGIN", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True)
    given = np.zeros((2, 30), np.float32)
    given[0, 0] = 1
    assert printed.stdout.strip() == f"{session.run(y, {x: given})[0, 0]:.6f}"


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
def test_nm_shows_what_is_left(tmp_path: Path) -> None:
    x, y, session = network()
    compiled = compile_ahead(Step("f", y, [x]), session=session, name="lib", variables="file")
    written = ahead_files.write(compiled, tmp_path / "lib.o")
    assert [p.name for p in written] == ["lib.o", "lib.state"]
    shown = subprocess.run(["nm", "-u", tmp_path / "lib.o"], capture_output=True, text=True,
                           check=True).stdout
    assert set(shown.replace("U", "").split()) <= ALLOWED


def test_functions_of_libm_come_through_the_shared_library(tmp_path: Path) -> None:
    x = tf.placeholder(tf.float32, [None], "x")
    compiled = compile_ahead(Step("f", [tf.sin(x), tf.cos(x)], [x]))
    assert set(compiled.object.undefined) - ALLOWED <= {"sinf", "cosf"}
    loaded = Loaded(compiled, tmp_path)
    given = np.array([1e9, 3, -5e20], np.float32)  # so large that the polynomials leave it to libm
    sin, cos = np.empty_like(given), np.empty_like(given)
    assert loaded.call("f", given, 3, sin, cos, sizes=(3,)) == 0
    np.testing.assert_allclose(sin, np.sin(given), rtol=1e-6)
    np.testing.assert_allclose(cos, np.cos(given), rtol=1e-6)


def test_a_wheel_holds_the_module_and_its_library(tmp_path: Path) -> None:
    x, y, session = network()
    compiled = compile_ahead(Step("f", y, [x]), session=session, name="lib", variables="file")
    (path,) = ahead_files.write(compiled, tmp_path / "lib.whl")
    assert path.name == "lib-1.0-py3-none-linux_x86_64.whl"
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        wheel.extractall(tmp_path)
    package = {"lib/__init__.py", "lib/liblib.so", "lib/lib.state", "lib/lib.h"}
    assert package < names
    code = (
        "import sys, numpy as np, lib\n"
        "print(lib.f(np.zeros((1, 30)))[0, :3])\n"
        "assert not {'llvmlite', 'stepforge'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code],
                          cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    want = session.run(y, {x: np.zeros((1, 30))})[0, :3]
    np.testing.assert_allclose(np.array(done.stdout.strip("[]\n").split(), float), want, rtol=1e-4)


def test_the_reader_of_elf_names_what_is_defined() -> None:
    x, y, session = network()
    compiled = compile_ahead(Step("f", y, [x]), session=session)
    names = {s.name for s in elf.ElfObject(compiled.object).exports}
    assert names == {"f", "f_parallel", "f_workspace", "f_message"}
    with pytest.raises(ValueError, match="not a little-endian ELF"):
        elf.ElfObject(b"MZ")


def test_a_library_that_is_loaded_may_be_written_anew(tmp_path: Path) -> None:
    x = tf.placeholder(tf.float32, [3], "x")
    given, out = np.ones(3, np.float32), np.empty(3, np.float32)
    loaded = Loaded(compile_ahead(Step("f", x * 2.0, [x])), tmp_path)
    ahead_files.write(compile_ahead(Step("f", x * 3.0, [x])), tmp_path / "libtest.so")
    assert loaded.call("f", given, out) == 0
    assert out[0] == 2
