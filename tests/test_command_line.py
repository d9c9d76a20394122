"""The command line, as its users call it: what it prints, writes, and exits with."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stepforge import cli_progress
from stepforge.cli import main, make_parser
from stepforge.codegen import layout, target
from stepforge.runtime import threads

COMMANDS = ("compile", "run", "bench", "dump", "opt", "devices", "cache", "completion")
MODEL = """
import stepforge as tf

x = tf.placeholder(tf.float32, [None, 4], name="x")
w = tf.get_variable("w", [4, 2], initializer=tf.ones_initializer())
y = tf.tanh(tf.matmul(x, w), name="y")
bump = tf.group(w.assign_add(tf.ones([4, 2])), name="bump")

def more():
    tf.multiply(y, 2.0, name="twice")
    tf.lgamma(y, name="gamma")
"""


def run_python(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_compile_writes_all_that_was_asked_for(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("w.npz", w=np.full((4, 2), 0.25))
    command = "compile model.py:more --restore w.npz --fetch twice --feed x:f32[n,4] --opt-level 1"
    assert main([*command.split(), "-o", "out/net.py", "-o", "out/net.h", "-o", "out/net.o"]) == 0
    printed = capsys.readouterr().out
    for name in ("net.py", "libnet.so", "net.h", "net.o"):
        assert f"wrote out/{name} (" in printed
    assert "int32_t net(const float *x, int64_t n, float *twice, void *workspace);" in (
        model / "out" / "net.h"
    ).read_text()
    code = (
        "import sys, net\nprint(float(net.net([[1, 1, 1, 1]])[0, 0]))\n"
        "assert not {'llvmlite', 'stepforge'} & set(sys.modules)"
    )
    assert float(run_python(code, model / "out")) == pytest.approx(2 * np.tanh(1))


def test_entry_points_share_variables(model: Path) -> None:
    command = (
        "compile model.py --name net -o net_.py --entry-point step --fetch bump"
        " --entry-point predict --fetch y --feed x --opt-level 0"
    )
    assert main(command.split()) == 0
    code = (
        "import net_ as n\nn.step()\nprint(n.library.state['w'][0, 0])\n"
        "print(n.predict([[.1, 0, 0, 0]])[0, 0])"
    )
    w, y = map(float, run_python(code, model).split())
    assert (w, y) == (2, pytest.approx(np.tanh(0.2)))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("compile gone.py -o a.o", "there is no file gone.py"),
        ("compile model.py:none -o a.o", "model.py has no function or tensor none"),
        ("compile model.py -o a.o", "a: nothing to compute: name results with --fetch"),
        ("compile model.py --fetch z -o a.o", "'z' refers to an Operation not in the graph"),
        ("compile model.py --fetch y --feed w -o a.o", "x = tf.placeholder(tf.float32"),
        ("compile model.py --fetch y -o a.exe", "ends in one of .o .a .so"),
        ("compile model.py --fetch y --feed x[3] -o a.o", "a feed is written name"),
        ("compile model.py:more --fetch gamma --feed x -o a.o", "lgamma: has no native lowering"),
        ("compile model.py --fetch y --feed x -o a.so --target-triple aarch64-linux-gnu",
         "needs a linker"),
        ("compile model.py --fetch y --feed x -o a.o --target-triple pdp11", "cannot compile for"),
        ("compile model.py --restore model.py --fetch y -o a.o", "cannot read model.py"),
        ("run model.py", "nothing to compute"),
        ("run model.py --fetch y --feed x", "a feed is written TENSOR=VALUE or FILE.npz"),
        ("run model.py --fetch y --feed x=what", "neither a Python literal"),
        ("dump model.py", "nothing to compute"),
        ("opt model.py", "nothing to compute"),
    ],
)
def test_what_cannot_be_done_is_one_block_and_status_1(
    command: str, message: str, model: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(model))
    assert main(command.split()) == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.startswith("stepforge: error: ")
    assert "Traceback" not in printed.err
    assert not printed.out


def test_wrong_usage_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ([], ["compile"], ["compile", "model.py", "--variables", "lost", "-o", "a.o"]):
        with pytest.raises(SystemExit) as caught:
            main(command)
        assert caught.value.code == 2
    assert "usage: stepforge" in capsys.readouterr().err


def test_an_error_of_the_script_shows_its_line(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (model / "bad.py").write_text("import stepforge as tf\ntf.zeros([2]) + tf.zeros([3])\n")
    assert main(["compile", "bad.py", "--fetch", "y", "-o", "a.o"]) == 1
    assert "bad.py fails at line 2: tf.zeros([2]) + tf.zeros([3])" in capsys.readouterr().err


def test_run_prints_and_keeps_values(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", np.zeros((1, 4)))
    assert main(["run", "model.py", "--fetch", "y", "--feed", "x=x.npy"]) == 0
    assert capsys.readouterr().out == "y = [[0. 0.]]\n"
    feed = "x=[[1, 2, 3, 4]]"
    assert main(["run", "model.py", "--fetch", "y", "--feed", feed, "-o", "out.npz"]) == 0
    np.testing.assert_allclose(np.load("out.npz")["y"], np.tanh([[10, 10]]))


def test_dump_feeds_opt_and_compile(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump", "model.py", "--fetch", "y", "--feed", "x", "--stage", "tensor"]) == 0
    text = capsys.readouterr().out
    (model / "y.sf").write_text(text)
    assert main(["opt", "y.sf", "--passes", "tensor,fusion", "--timings"]) == 0
    printed = capsys.readouterr()
    assert "matmul(%x, %0) : f32[x_0, 2] |" in printed.out  # tanh is its epilogue
    assert "fuse_products" in printed.err
    assert main(["opt", "y.sf", "--passes", "tensor,fusion,lower,loops"]) == 0
    assert "gemm(" in capsys.readouterr().out
    assert main(["opt", "y.sf", "--passes", "sparkle"]) == 1
    assert "there is no pass 'sparkle': prune, fold," in capsys.readouterr().err
    np.savez("w.npz", w=np.ones((4, 2), np.float32))
    feed = "x=[[0.5, 0, 0, 0]]"
    assert main(["run", "y.sf", "--restore", "w.npz", "--feed", feed]) == 0
    assert "0.4621" in capsys.readouterr().out
    assert main(["compile", "y.sf", "--restore", "w.npz", "-o", "y.o", "--opt-level", "0"]) == 0


def devices(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What ``stepforge devices`` says, by label, unfolded."""
    assert main(["devices"]) == 0
    printed = capsys.readouterr().out.replace("\n" + " " * 15, " ")
    return {line[:15].strip(): line[15:] for line in printed.splitlines()}


def test_devices(capsys: pytest.CaptureFixture[str]) -> None:
    rows = devices(capsys)
    assert "/device:CPU:0" in rows["device"]
    assert target.host().cpu in rows["processor"]
    assert all(f"+{name}" in target.host().features for name in rows["features"].split())
    assert rows["vectors"].startswith(f"{target.host().vector_bits} bits")
    assert rows["threads"] == str(threads.available())
    assert rows["entry"].startswith("native: ")
    assert rows["disk cache"].startswith("off")  # as conftest.py has it


@pytest.mark.parametrize(
    ("variable", "value", "label", "said"),
    [
        ("STEPFORGE_BLAS", "off", "BLAS", "none: STEPFORGE_BLAS=off"),
        ("STEPFORGE_ENTRY", "python", "entry", "Python: STEPFORGE_ENTRY=python"),
        ("STEPFORGE_BACKEND", "numba", "back end", "numba"),
    ],
)
def test_devices_say_why(
    variable: str, value: str, label: str, said: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, value)
    assert devices(capsys)[label].startswith(said)


def test_devices_say_what_is_laid_out_otherwise(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "problems", lambda: ["a free-threaded build"])
    assert devices(capsys)["entry"].endswith(": a free-threaded build")


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["compile", "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert "examples:" in printed
    assert "exit status: 0 done, 1 it cannot be done" in printed


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    _, examples = printed.split("example", 1)
    assert f"stepforge {command} " in examples or f"stepforge {command}\n" in examples
    assert "exit status: 0 done, 1 it cannot be done" in printed
    for line in examples.replace("\\\n", " ").splitlines():
        if line.strip().startswith(f"stepforge {command} ") and " > " not in line:
            options = make_parser().parse_args(shlex.split(line)[1:])  # it is understood
            assert callable(options.command)


def test_help_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert all(re.search(rf"\n    {command}\s", printed) for command in COMMANDS)
    assert "exit status:\n  0    done\n  1    it cannot be done" in printed
    assert "STEPFORGE_CACHE" in printed


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1])
def test_debug_shows_where_an_error_comes_from(
    place: int, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "model.py"]
    words.insert(place, "--debug")
    assert main(words) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("Traceback (most recent call last)")
    assert printed.splitlines()[-1].startswith("stepforge: error: nothing to compute")


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (AssertionError("odd"), 3, "AssertionError: odd\nThis is a mistake of stepforge's"),
        (MemoryError(), 1, "memory ran out\n"),
        (KeyboardInterrupt(), 130, ""),
        (RecursionError("maximum recursion depth exceeded"), 1, "maximum recursion depth"),
    ],
)
def test_other_ends(
    error: BaseException, status: int, message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*words: object) -> None:
        raise error

    monkeypatch.setattr("stepforge.runtime.devices.local_devices", fail)
    monkeypatch.setattr("stepforge.cli_devices.local_devices", fail)
    assert main(["devices"]) == status
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed


def test_who_stops_reading_is_no_error(model: Path) -> None:
    (model / "long.py").write_text(MODEL + "\nprint('line\\n' * 100_000)")
    command = f"{sys.executable} -m stepforge run long.py --fetch w | head -n 1; echo $PIPESTATUS"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "line\n0\n"
    assert not done.stderr


# ---- progress ------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_shows_on_a_terminal_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_progress, "PATIENCE", 0.0)
    monkeypatch.setattr(cli_progress, "EVERY", 0.001)
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        with cli_progress.progress("compiling", stream):
            for _ in range(1000):
                if "compiling ... 0 s" in terminal.getvalue():
                    break
                time.sleep(0.01)
    assert "\r\x1b[Kcompiling ... 0 s" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert not pipe.getvalue()


def test_what_is_done_soon_shows_no_progress() -> None:
    terminal = Terminal()
    with cli_progress.progress("compiling", terminal):
        pass
    assert not terminal.getvalue()


def test_python_m_stepforge(model: Path) -> None:
    command = [sys.executable, "-m", "stepforge", "run", "model.py", "--fetch", "w"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("w = [[1. 1.]")
