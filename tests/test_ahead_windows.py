"""A DLL for Windows runs here, in a loader of the tests' own: its imports, relocations, calls."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ahead_testing import with_linkers

from stepforge.codegen import target
from stepforge.ir.parser import parse_module
from stepforge.runtime import ahead_files
from stepforge.runtime.ahead_steps import compile_ir

TEXT = """
func @f(%x: f32[n, 10], %w: f32[10, 10], %sign: f32) -> f32[n, 10] {
  %c = less(%sign, 0.0: f32) : bool
  require(%c, %sign, message="not {:g} below 0")
  %0 = sin(%x) : f32[n, 10]
  %1 = matmul(%0, %w) : f32[n, 10]
  %2 = tanh(%1) : f32[n, 10]
  %3 = mul(%2, %sign) : f32[n, 10]
  return(%3)
}
"""
LOADER = Path(__file__).with_name("windows_loader.c")
FLAGS = ("-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror")


@pytest.mark.skipif(
    shutil.which("cc") is None or not target.host().triple.startswith("x86_64")
    or not sys.platform.startswith("linux"),
    reason="needs a C compiler for x86-64 Linux",
)
def test_a_dll_computes_and_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_linkers(monkeypatch)
    if shutil.which("lld-link") is None:
        pytest.skip("needs lld-link")
    made = compile_ir(parse_module(TEXT), target=target.chosen("x86_64-windows-msvc"))
    ahead_files.write(made, tmp_path / "f.dll")
    subprocess.run(["cc", *FLAGS, str(LOADER), "-o", "main", "-lm"], cwd=tmp_path, check=True)
    done = subprocess.run(["./main"], cwd=tmp_path, check=True, capture_output=True, text=True)
    wrong, right, *values = done.stdout.splitlines()
    assert wrong == "InvalidArgumentError: not 0.25 below 0"
    assert right == "success"
    x = np.arange(1000, dtype=np.float32).reshape(100, 10)
    w = np.arange(100, dtype=np.float32).reshape(10, 10) / 100
    expected = np.tanh(np.sin(x) @ w) * -0.25
    np.testing.assert_allclose(np.reshape(values, (100, 10)).astype(float), expected, atol=1e-6)
