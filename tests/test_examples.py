"""The examples and the benchmark run, with short settings; their own checks decide."""

from __future__ import annotations

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepforge as tf

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(*command: str, cwd: Path, path: str = "") -> str:
    """What a Python program prints; fails where it does not end well."""
    environment = {**os.environ, "PYTHONPATH": path} if path else None
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=300,
        env=environment,
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


# ---- reading digits in C, in Rust, in Python without stepforge -----------------------------------

ALONE = """
import runpy, sys
sys.modules.update(stepforge=None, llvmlite=None)
sys.argv[:] = sys.argv[1:]
sys.path.insert(0, "")
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with the compiled classifier, and how many digits it reads in a session."""
    folder = tmp_path_factory.mktemp("classifier")
    printed = run(example("aot_c/make_digits.py"), "--epochs", "4", cwd=folder)
    share = printed.removeprefix("in Python: ")
    assert float(share.split("%")[0]) > 90
    return folder, share


def ends(command: list[str], folder: Path) -> str:
    """What a program prints behind its name."""
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.partition(": ")[2]


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_c_program_reads_digits_as_python_does(classifier: tuple[Path, str]) -> None:
    folder, share = classifier
    warnings = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    libraries = ["-I.", "-L.", "-ldigits", "-Wl,-rpath,."]
    command = ["cc", *warnings, example("aot_c/main.c"), "-o", "in_c", *libraries]
    subprocess.run(command, cwd=folder, check=True)
    assert ends(["./in_c"], folder) == share


@pytest.mark.skipif(shutil.which("rustc") is None, reason="needs a Rust compiler")
def test_a_rust_program_reads_digits_as_python_does(classifier: tuple[Path, str]) -> None:
    folder, share = classifier
    libraries = ["-L", ".", "-l", "digits", "-C", "link-arg=-Wl,-rpath,."]
    options = ["--edition", "2021", "-D", "warnings", "-o", "in_rust"]
    command = ["rustc", example("aot_rust/main.rs"), *options, *libraries]
    subprocess.run(command, cwd=folder, check=True)
    assert ends(["./in_rust"], folder) == share


def test_python_reads_digits_without_stepforge(classifier: tuple[Path, str]) -> None:
    folder, share = classifier
    command = [sys.executable, "-c", ALONE, example("aot_c/read_digits.py")]
    assert ends(command, folder) == share


# ---- training in C, in Python without stepforge, and in a session -------------------------------

RATE = 0.02


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the compiled learner, for this processor as sessions compile for it."""
    folder = tmp_path_factory.mktemp("learner")
    run(example("aot_training/build.py"), "--target-cpu", "native", cwd=folder)
    return folder


def learned_in_a_session(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The variables of the example, with the steps that the programs do."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))  # and afterwards the path is as before
    build = runpy.run_path(example("aot_training/build.py"))
    with tf.Graph().as_default(), tf.Session() as session:
        model = build["build"]()
        variables = tf.global_variables()
        session.run(tf.global_variables_initializer())
        next(v for v in variables if v.op.name == "rate").load(RATE, session)
        step = session.make_callable(model.train, [model.pixels, model.labels])
        rows = build["rows"]()
        for start in range(0, len(rows), 32):
            batch = rows[start : start + 32]
            step(*(np.ascontiguousarray(batch[name]) for name in ("pixels", "label")))
        return {v.op.name: session.run(v) for v in variables}


def test_python_learns_with_the_compiled_step_as_a_session_does(
    learner: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--rate", str(RATE), "--checkpoint", "python.state")
    printed = run("-c", ALONE, example("aot_training/learn.py"), *options, cwd=learner)
    assert "right so far" in printed
    state = runpy.run_path(str(learner / "online.py"))["library"].state
    state.memory[:] = np.fromfile(learner / "python.state", np.uint8)
    wanted = learned_in_a_session(monkeypatch)
    assert set(state) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(state[name], value, err_msg=name)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_c_program_learns_as_python_does(learner: Path) -> None:
    warnings = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    libraries = ["-I.", "-L.", "-lonline", "-Wl,-rpath,."]
    command = ["cc", *warnings, example("aot_training/main.c"), "-o", "main", *libraries]
    subprocess.run(command, cwd=learner, check=True)
    given = ["./main", "stream.bin", "c.state", str(RATE)]
    in_c = subprocess.run(given, cwd=learner, check=True, capture_output=True, text=True)
    options = ("--rate", str(RATE), "--checkpoint", "python.state")
    assert run(example("aot_training/learn.py"), *options, cwd=learner, path=".") == in_c.stdout
    assert (learner / "c.state").read_bytes() == (learner / "python.state").read_bytes()
    *_, last, _ = in_c.stdout.splitlines()
    assert float(last.split()[4].rstrip("%")) > 80


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
