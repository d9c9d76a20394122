"""Steps compiled for other machines and processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ahead_testing import compile_ahead, network

import stepforge as tf
from stepforge.codegen import target
from stepforge.runtime import ahead_files
from stepforge.runtime.ahead_steps import Step


@pytest.fixture(autouse=True)
def _graph() -> Any:
    with tf.Graph().as_default():
        yield


@pytest.mark.parametrize(
    ("triple", "magic", "words"),
    [
        ("aarch64-unknown-linux-gnu", b"\x7fELF", ["fmla", ".4s", "ret"]),
        ("arm64-apple-macosx11", b"\xcf\xfa\xed\xfe", ["fmla", "ret"]),
        ("x86_64-pc-windows-msvc", b"\x64\x86", ["vfmadd", "ymm", "retq"]),
    ],
)
def test_objects_for_other_machines(
    triple: str, magic: bytes, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y, session = network()
    chosen = target.chosen(triple)
    compiled = compile_ahead(Step("f", y, [x]), session=session, target=chosen)
    assert compiled.object.startswith(magic)
    assembly = compiled.assembly()
    assert all(word in assembly for word in words)
    if chosen.windows:
        assert "/EXPORT:f_workspace" in assembly
    monkeypatch.delenv("CC", raising=False)
    suffix = ahead_files.shared_suffix(chosen)
    with pytest.raises(RuntimeError, match=f"needs a linker for {triple}: set CC"):
        ahead_files.write(compiled, tmp_path / f"f{suffix}")


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
