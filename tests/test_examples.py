"""The examples and the benchmark run, with short settings; their own checks decide."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(*command: str, cwd: Path) -> str:
    """What a Python program prints; fails where it does not end well."""
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def example(name: str) -> str:
    return str(ROOT / "examples" / name)


def test_digits_learns_and_agrees_with_numpy(tmp_path: Path) -> None:
    short = ("--epochs", "4", "--target", "0.9", "--picture", "digits.png")
    printed = run(example("digits.py"), *short, cwd=tmp_path)
    assert "the first 45 losses of all three agree" in printed
    times = re.findall(r"^(\S+) +[\d.]+ us per step, [\d.]+ x NumPy", printed, re.MULTILINE)
    assert times == ["sess.run", "make_callable", "NumPy"]
    assert (tmp_path / "digits.png").exists() or "matplotlib is not installed" in printed


def test_digits_says_when_it_has_not_learned(tmp_path: Path) -> None:
    command = [sys.executable, example("digits.py"), "--epochs", "1", "--target", "1.0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "is below 100.00%" in done.stderr


def test_hot_loop_finds_the_published_posterior(tmp_path: Path) -> None:
    printed = run(example("hot_loop.py"), "--calls", "30000", cwd=tmp_path)
    assert "ns per call" in printed
    assert "differs" not in printed


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_c_program_reads_digits_as_python_does(tmp_path: Path) -> None:
    in_python = run(example("aot_c/make_digits.py"), "--epochs", "4", cwd=tmp_path)
    source = example("aot_c/main.c")
    warnings = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    libraries = ["-I.", "-L.", "-ldigits", "-Wl,-rpath,."]
    command = ["cc", *warnings, source, "-o", "main", *libraries]
    subprocess.run(command, cwd=tmp_path, check=True)
    in_c = subprocess.run(["./main"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert in_c.stdout.removeprefix("in C") == in_python.removeprefix("in Python")
    assert float(in_c.stdout.split()[2].rstrip("%")) > 90


def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    loss = float(run("-c", code, cwd=tmp_path).split()[0])
    assert loss < 1e-8


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_one_import_line_is_all_that_names_stepforge(path: Path) -> None:
    imports = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Import)]
    ours = [ast.unparse(node) for node in imports if "stepforge" in ast.unparse(node)]
    assert ours == ["import stepforge as tf"]


@pytest.mark.slow
def test_every_benchmark_gives_equal_results(tmp_path: Path) -> None:
    bench = str(ROOT / "benchmarks" / "bench.py")
    printed = run(bench, "--rounds", "1", "--processes", "1", cwd=tmp_path)
    assert "budget 150 ms" in printed
