"""Steps compiled for other machines and processors."""

from __future__ import annotations

import functools
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ahead_testing import ALLOWED, compile_ahead, network, with_linkers

import stepforge as tf
from stepforge.codegen import coff, elf, target
from stepforge.runtime import ahead_files
from stepforge.runtime.ahead import Compiled
from stepforge.runtime.ahead_steps import Step

pytestmark = pytest.mark.usefixtures("own_graph")


TRIPLES = {
    "aarch64-unknown-linux-gnu": ["fmla", ".4s", "ret"],
    "arm64-apple-macosx11": ["fmla", "ret"],
    "x86_64-apple-macosx11": ["vfmadd", "%ymm", "retq"],
    "x86_64-pc-windows-msvc": ["vfmadd", "%ymm", "retq"],
    "aarch64-pc-windows-msvc": ["fmla", "ret"],
}
LINKERS = {"unknown": "ld.lld", "apple": "ld64.lld", "pc": "lld-link"}
EXPORTED = ("f", "f_message", "f_parallel", "f_workspace")


@functools.cache
def compiled_for(triple: str) -> Compiled:
    with tf.Graph().as_default():
        x, y, session = network()
        step = Step("f", [y, tf.sin(x)], [x])
        return compile_ahead(step, session=session, name="lib", target=target.chosen(triple))


def elf_symbols(data: bytes) -> tuple[set[str], set[str]]:
    """What an object defines for others, and what it needs."""
    read = elf.ElfObject(data)
    return {s.name for s in read.exports}, set(read.undefined)


def mach_o_symbols(data: bytes) -> tuple[set[str], set[str]]:
    """The same of a Mach-O file, from the table that its LC_SYMTAB (2) names."""
    count, place = struct.unpack_from("<I", data, 16)[0], 32
    for _ in range(count):
        command, size = struct.unpack_from("<II", data, place)
        if command == 2:
            start, number, texts, _ = struct.unpack_from("<4I", data, place + 8)
        place += size
    defined, needed = set(), set()
    for index in range(number):
        name, kind, section, _, _ = struct.unpack_from("<IBBHQ", data, start + 16 * index)
        text = data[texts + name : data.index(b"\0", texts + name)].decode()
        if kind & 1:
            (defined if section else needed).add(text.removeprefix("_"))
    return defined, needed


@pytest.mark.parametrize(
    ("triple", "head"),
    [
        ("aarch64-unknown-linux-gnu", (b"\x7fELF\2\1", 18, 183)),
        ("arm64-apple-macosx11", (b"\xcf\xfa\xed\xfe", 4, 12)),
        ("x86_64-apple-macosx11", (b"\xcf\xfa\xed\xfe", 4, 7)),
        ("x86_64-pc-windows-msvc", (b"", 0, 0x8664)),
        ("aarch64-pc-windows-msvc", (b"", 0, 0xAA64)),
    ],
)
def test_objects_for_other_machines(triple: str, head: tuple[bytes, int, int]) -> None:
    compiled = compiled_for(triple)
    data, (magic, place, machine) = bytes(compiled.object), head
    assert data.startswith(magic)
    assert struct.unpack_from("<H", data, place)[0] == machine
    assembly = compiled.assembly()
    assert all(word in assembly for word in TRIPLES[triple])
    if compiled.target.windows:
        assert all(f"/EXPORT:{name}" in assembly for name in EXPORTED)
        needed = set(coff.undefined(data)) - {"_fltused", "__chkstk"}
    else:
        defined, needed = (mach_o_symbols if "apple" in triple else elf_symbols)(data)
        assert defined == set(EXPORTED)
    assert needed <= ALLOWED | {"sinf", "bzero"}


@pytest.mark.skipif(shutil.which("llvm-nm") is None, reason="needs llvm-nm")
@pytest.mark.parametrize("triple", TRIPLES)
def test_archives_tell_linkers_what_they_have(triple: str, tmp_path: Path) -> None:
    path = tmp_path / "libf.a"
    ahead_files.write(compiled_for(triple), path)
    command = ["llvm-nm", "--print-armap", str(path)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {line.partition(" in ")[0] for line in text.splitlines() if " in steps.o" in line}
    assert found == {("_" if "apple" in triple else "") + name for name in EXPORTED}


@pytest.mark.skipif(shutil.which("llvm-objdump") is None, reason="needs llvm-objdump")
@pytest.mark.parametrize("triple", TRIPLES)
def test_a_disassembler_reads_the_code(triple: str, tmp_path: Path) -> None:
    path = tmp_path / "f.o"
    ahead_files.write(compiled_for(triple), path)
    command = ["llvm-objdump", "-d", "-r", "--no-show-raw-insn", str(path)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "<unknown>" not in text
    assert "sinf" in text  # a call with a relocation
    words = {"fmla", "ret"} if "64-pc" not in triple and "x86" not in triple else {"ret"}
    assert all(word in text for word in words)
    absolute = ("R_AARCH64_ABS", "ARM64_RELOC_UNSIGNED", "X86_64_RELOC_UNSIGNED")
    assert not any(kind in text for kind in absolute)  # the code lies anywhere


@pytest.mark.parametrize("triple", TRIPLES)
def test_llvms_linkers_make_shared_libraries(
    triple: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_linkers(monkeypatch)
    linker = LINKERS[triple.split("-")[1]]
    if shutil.which(linker) is None:
        pytest.skip(f"needs {linker}")
    compiled = compiled_for(triple)
    path = tmp_path / f"libf{ahead_files.shared_suffix(compiled.target)}"
    ahead_files.write(compiled, path)
    data = path.read_bytes()
    if compiled.target.windows:
        assert data[:2] == b"MZ"
        assert b"ucrtbase.dll\0" in data
        assert all(name.encode() + b"\0" in data for name in EXPORTED)
    elif "apple" in triple:
        assert struct.unpack_from("<I", data, 12)[0] == 6  # a dylib
        assert set(EXPORTED) <= mach_o_symbols(data)[0]
    else:
        assert struct.unpack_from("<H", data, 16)[0] == 3  # a shared object
        assert all(name.encode() + b"\0" in data for name in EXPORTED)


@pytest.mark.parametrize(
    ("triple", "linker"),
    [("aarch64-unknown-linux-gnu", "ld.lld"), ("arm64-apple-macosx11", "ld64.lld"),
     ("x86_64-pc-windows-msvc", "lld-link")],
)
def test_without_a_linker_it_is_said_what_to_install(
    triple: str, linker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    compiled = compiled_for(triple)
    suffix = ahead_files.shared_suffix(compiled.target)
    wanted = f"needs a linker for {triple}: install LLD .* for {linker}, or set CC"
    with pytest.raises(RuntimeError, match=wanted):
        ahead_files.write(compiled, tmp_path / f"f{suffix}")
    wrong = ".so" if suffix != ".so" else ".dll"
    with pytest.raises(ValueError, match=f"shared libraries of {triple} are {suffix}"):
        ahead_files.write(compiled, tmp_path / f"f{wrong}")


def test_code_for_arm_gives_the_same_under_an_emulator(tmp_path: Path) -> None:
    emulator, driver = shutil.which("qemu-aarch64"), shutil.which("aarch64-linux-gnu-gcc")
    if emulator is None or driver is None or shutil.which("cc") is None:
        pytest.skip("needs qemu-aarch64, aarch64-linux-gnu-gcc and cc")
    triple = "aarch64-unknown-linux-gnu"
    values = {}
    for name in (triple, target.host().triple):
        compiled = compiled_for(name)
        folder = tmp_path / name
        for file in ("f.o", "lib.h"):
            ahead_files.write(compiled, folder / file)
        (folder / "main.c").write_text(
            '#include <stdio.h>\n#include <stdlib.h>\n#include "lib.h"\nint main(void) {\n'
            "float x[150], y[350], s[150]; for (int i = 0; i < 150; i++) x[i] = i / 100.f;\n"
            "void *w = malloc(f_workspace(5)); int status = f(x, 5, y, s, w);\n"
            'for (int i = 0; i < 150; i++) printf("%d %.9g %.9g\\n", status, y[2 * i], s[i]); }\n'
        )
        command = [driver if name == triple else "cc", "-static", "main.c", "f.o", "-lm"]
        subprocess.run(command, cwd=folder, check=True)
        command = [*([emulator] if name == triple else []), "./a.out"]
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        values[name] = np.loadtxt(done.stdout.splitlines())
    np.testing.assert_allclose(*values.values(), rtol=1e-5)
    np.testing.assert_allclose(values[triple][:, 2], np.sin(np.arange(150) / 100), rtol=1e-5)
    assert not values[triple][:, 0].any()


def test_features_choose_the_vectors() -> None:
    x, y, session = network()
    for cpu, features, register in (
        ("x86-64", "", "xmm"), ("x86-64-v3", "", "ymm"), ("x86-64-v4", "", "zmm"),
        ("x86-64", "+avx,+fma", "ymm"),
    ):
        chosen = target.chosen("x86_64-unknown-linux-gnu", cpu, features)
        text = compile_ahead(Step("f", y, [x]), session=session, target=chosen).assembly()
        widest = next(r for r in ("zmm", "ymm", "xmm") if f"%{r}" in text)
        assert widest == register, (cpu, features)


# ---- what users write ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("triple", "full", "format_"),
    [
        ("x86_64-windows-msvc", "x86_64-unknown-windows-msvc", "COFF"),
        ("aarch64-linux-gnu", "aarch64-unknown-linux-gnu", "ELF"),
        ("x86_64-macosx11", "x86_64-unknown-macosx11", "MachO"),
        ("arm64-apple-macosx11", "arm64-apple-macosx11", "MachO"),
    ],
)
def test_a_triple_may_leave_the_vendor_out(triple: str, full: str, format_: str) -> None:
    made = target.chosen(triple)
    assert made.triple == full
    assert target.llvm().get_object_format(made.triple) == format_


@pytest.mark.parametrize(
    ("triple", "cpu", "features", "unknown"),
    [
        ("x86_64-unknown-linux-gnu", "potato", "", "potato"),
        ("x86_64-unknown-linux-gnu", "", "+avx2,+steam,-coal", r"\+steam, -coal"),
        ("aarch64-linux-gnu", "x86-64-v3", "+crypto", "x86-64-v3"),
    ],
)
def test_processors_and_features_that_there_are_not(
    triple: str, cpu: str, features: str, unknown: str
) -> None:
    with pytest.raises(ValueError, match=f"LLVM knows no {unknown} for "):
        target.chosen(triple, cpu, features)


def test_a_processor_by_its_name() -> None:
    made = target.chosen("aarch64-linux-gnu", "cortex-a72", "+crypto")
    assert (made.cpu, made.features) == ("cortex-a72", "+crypto")
