"""Shared libraries without a linker: every kind of relocation and section that objects have."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import cffi
import pytest

from stepforge.codegen import elf_shared, jit, target
from stepforge.codegen.elf import ElfObject

pytestmark = pytest.mark.skipif(
    not target.baseline().triple.startswith("x86_64") or "linux" not in target.baseline().triple,
    reason="for x86-64 Linux",
)

# Addresses in data, data that is written, zeros that the file does not hold, calls out and in.
TEXT = """
@table = constant [2 x ptr] [ptr @twice, ptr @counted]
@state = internal global i64 40
@zeros = internal global [1000 x i64] zeroinitializer, align 64
@outside = constant [1 x ptr] [ptr @cos]
@environ = external global ptr
declare double @exp(double)
declare double @cos(double)

define double @twice(double %x) {
  %y = fadd double %x, %x
  ret double %y
}
define double @sigmoid(double %x) {
  %n = fneg double %x
  %e = call double @exp(double %n)
  %d = fadd double %e, 1.0
  %r = fdiv double 1.0, %d
  ret double %r
}
define i64 @counted() {
  %v = load i64, ptr @state
  %w = add i64 %v, 1
  store i64 %w, ptr @state
  %p = getelementptr i64, ptr @zeros, i64 %w
  %z = load i64, ptr %p
  %s = add i64 %z, %w
  store i64 %s, ptr %p
  ret i64 %s
}
define double @through(i64 %i, double %x) {
  %p = getelementptr [2 x ptr], ptr @table, i64 0, i64 %i
  %f = load ptr, ptr %p
  %y = call double %f(double %x)
  ret double %y
}
define double @cosine(double %x) {
  %f = load ptr, ptr @outside
  %y = call double %f(double %x)
  ret double %y
}
define ptr @surroundings() {
  %p = load ptr, ptr @environ
  ret ptr %p
}
"""
DECLARED = """
double twice(double); double sigmoid(double); int64_t counted(void);
double through(int64_t, double); double cosine(double); void *surroundings(void);
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiled = jit.compile_text(TEXT, "O1", target.baseline(), pic=True)
    path = tmp_path_factory.mktemp("elf") / "libmade.so"
    path.write_bytes(elf_shared.shared_library(compiled, path.name))
    return path


def test_the_library_loads_and_runs(library: Path) -> None:
    ffi = cffi.FFI()
    ffi.cdef(DECLARED)
    code = ffi.dlopen(str(library))
    assert code.twice(2.5) == 5
    assert code.sigmoid(0) == 0.5
    assert [code.counted(), code.counted()] == [41, 42]
    assert code.through(0, 21) == 42
    assert code.cosine(0) == 1
    assert code.surroundings() != ffi.NULL


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
def test_nm_reads_it(library: Path) -> None:
    shown = subprocess.run(["nm", "-D", library], capture_output=True, text=True, check=True)
    names = {line.split()[-1]: line.split()[-2] for line in shown.stdout.splitlines()}
    assert {n for n, kind in names.items() if kind == "U"} == {"cos", "environ", "exp"}
    assert names["twice"] == "T"
    assert "state" not in names


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_programs_link_against_it(library: Path) -> None:
    folder = library.parent
    (folder / "main.c").write_text(
        "#include <stdint.h>\n#include <stdio.h>\ndouble sigmoid(double);\n"
        'int main(void) { printf("%.3f\\n", sigmoid(1)); return 0; }\n'
    )
    command = ["cc", "main.c", "-L.", "-lmade", "-Wl,-rpath,$ORIGIN", "-o", "main"]
    subprocess.run(command, cwd=folder, check=True)
    done = subprocess.run([folder / "main"], capture_output=True, text=True, check=True)
    assert done.stdout == "0.731\n"


def test_an_object_is_read_as_it_is() -> None:
    read = ElfObject(jit.compile_text(TEXT, "O1", target.baseline(), pic=True))
    assert read.undefined == ("cos", "environ", "exp")
    assert {"twice", "table", "outside"} < {s.name for s in read.exports}
    assert ".text" in {s.name for s in read.sections if s.loaded}


def test_other_machines_need_another_linker() -> None:
    text = "define void @f() {\n  ret void\n}\n"
    compiled = jit.compile_text(text, "O0", target.chosen("aarch64-linux-gnu"), pic=True)
    with pytest.raises(ValueError, match="only objects for x86-64"):
        elf_shared.shared_library(compiled, "libf.so")
