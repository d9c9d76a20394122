"""``stepforge bench``: its figures fit together, and what it needs it asks for."""

from __future__ import annotations

import json
import re
from itertools import count
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stepforge.cli import main
from stepforge.codegen import probes, target
from stepforge.runtime import machine, timing

MODEL = """
import stepforge as tf

x = tf.placeholder(tf.float32, [None, 8], name="x")
k = tf.placeholder(tf.int32, [None], name="k")
u = tf.placeholder(tf.float32, name="u")
w = tf.get_variable("w", [8, 4], initializer=tf.ones_initializer())
y = tf.nn.relu(tf.matmul(x, w), name="y")
picked = tf.gather(y, k, name="picked")
bump = w.assign_add(tf.ones([8, 4]))
any = tf.exp(u, name="any")
"""


@pytest.fixture(autouse=True)
def _model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "SECONDS", 0.001)
    (tmp_path / "model.py").write_text(MODEL)


def bench(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    status = main(["bench", *words, "--json", "--seconds", "0.02"])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    found: dict[str, Any] = json.loads(printed.out)
    return found


def test_steps_from_the_disk_have_the_same_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPFORGE_CACHE", str(tmp_path / "cache"))
    first, second = (bench(capsys, "model.py:y", "--size", "x_0=16") for _ in range(2))
    assert first["flops"] == second["flops"]
    assert first["bytes_read"] == second["bytes_read"]


def test_figures(capsys: pytest.CaptureFixture[str]) -> None:
    found = bench(capsys, "model.py:y", "--size", "x_0=16")
    assert found["arguments"] == ["x: f32[16, 8]"]
    assert found["native"]
    seconds = found["seconds"]
    assert 0 < seconds["min"] <= seconds["p50"] <= seconds["p90"] <= seconds["p99"]
    assert found["bytes_read"] == 4 * (16 * 8 + 8 * 4)
    assert found["bytes_written"] == 4 * 16 * 4
    assert found["flops"]["f32"] >= 2 * 16 * 8 * 4
    moved = found["bytes_read"] + found["bytes_written"]
    assert found["bytes_per_second"] == pytest.approx(moved / seconds["p50"])
    assert found["least_seconds"]["memory"] == pytest.approx(
        moved / found["machine"]["bytes_per_second"]
    )
    assert found["bound"] == max(found["least_seconds"], key=found["least_seconds"].get)


def test_the_table_says_it_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "model.py:y", "--size", "x_0=2", "--seconds", "0.01"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["step"] == "y(x: f32[2, 8])"
    assert lines["call"].startswith("min ")
    assert " p99 " in lines["call"]
    assert "192 B read, 32 B written: " in lines["bytes"]
    assert re.fullmatch(r"\d+: \S+ [kMG]?FLOP/s of \S+ [MGT]FLOP/s", lines["flops"])
    assert re.fullmatch(
        r"by  (call overhead|memory|compute): at least .+ [num]?s, \d+% of a call", lines["bound"]
    )


def test_types_values_and_updates(capsys: pytest.CaptureFixture[str]) -> None:
    found = bench(
        capsys, "model.py:picked", "--feed", "x:f32[n,8]", "--feed", "k:i32[n]", "--size", "n=3"
    )
    assert sorted(found["arguments"]) == ["k: i32[3]", "x: f32[3, 8]"]
    np.save("x.npy", np.ones((5, 8), np.float32))
    found = bench(capsys, "model.py:picked", "--feed", "x=x.npy", "--feed", "k=[4, 4]")
    assert sorted(found["arguments"]) == ["k: i32[2]", "x: f32[5, 8]"]
    assert bench(capsys, "model.py:bump")["bytes_written"] >= 4 * 32
    found = bench(capsys, "model.py:any", "--feed", "u:f32[2,2]")
    assert found["arguments"] == ["u: f32[2, 2]"]


def test_ir_text_and_what_is_not_native(capsys: pytest.CaptureFixture[str]) -> None:
    Path("f.sf").write_text(
        "func @f(%x: f32[n], %s: string[n]) -> f32[n], string[n] {\n"
        "  %y = exp(%x) : f32[n]\n  return(%y, %s)\n}\n"
    )
    found = bench(capsys, "f.sf", "--size", "n=10")
    assert not found["native"]
    assert found["flops"] == {"f32": 80}
    Path("g.sf").write_text("func @g(%x: f64[n]) -> f64[n] {\n  %y = exp(%x) : f64[n]\n"
                            "  return(%y)\n}\n")
    found = bench(capsys, "g.sf", "--size", "n=10")
    assert found["native"]
    assert (found["bytes_read"], found["flops"]) == (80, {"f64": 80})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.py:picked"], "sizes are missing: --size x_0=... --size k_0=...\n  x: f32["),
        (["model.py:any"], "sizes are missing: --feed 'u:f32[...]'"),
        (["model.py:y", "--size", "n=3"], "sizes are missing: --size x_0=..."),
        (["model.py:y", "--size", "x_0=3", "--size", "n=3"], "--size n: there is no size of that"),
        (["model.py:y", "--size", "x_0"], "a size is written NAME=VALUE, as in n=64, not 'x_0'"),
        (["model.py:y", "--feed", "x:f32[2]"], "x is f32[x_0, 8], not of rank 1"),
        (["model.py:y", "--feed", "x:i32[2,8]"], "x is f32[x_0, 8], not i32"),
        (["model.py:y", "--feed", "x=[1, 2]"], "[1, 2] has the shape [2], but x is f32[x_0, 8]"),
        (["model.py:picked", "--feed", "k=[7]", "--size", "x_0=3"], "indices[0] = 7 is not in [0"),
        (["model.py:y", "--size", "x_0=1000000000000000"], "memory ran out"),
    ],
)
def test_what_is_missing_or_wrong(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words]) == 1
    assert message in capsys.readouterr().err


# ---- the machine ---------------------------------------------------------------------------------
@pytest.mark.parametrize("threads", [1, 2])
def test_figures_of_the_machine_are_plausible(threads: int) -> None:
    """More than a machine of twenty years ago, less than one that there is."""
    assert 1e8 < machine.bandwidth(1 << 20, threads) < 1e14
    assert 1e8 < machine.bandwidth(32 << 20, threads) < 1e14
    for dtype in ("f32", "f64"):
        assert 1e8 < machine.flops(dtype, threads) < 1e14


@pytest.mark.parametrize("threads", [1, 2])
def test_rates_are_those_of_the_undisturbed_calls(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose calls take 35 us and 1 us a turn, and every third of them 50 ms more."""
    now, numbers, lock = 0.0, count(), Lock()

    def call(turns: int) -> None:
        nonlocal now
        with lock:
            now += 35e-6 + 1e-6 * turns + (0.05 if next(numbers) % 3 == 0 else 0.0)

    monkeypatch.setattr(machine, "time", SimpleNamespace(perf_counter=lambda: now))
    assert 0.9e6 < machine._rate([call] * threads, 1) < 1e6


def test_probes_are_made_for_processors_with_other_vectors() -> None:
    for name in ("x86-64", "x86-64-v3", "x86-64-v4"):
        chosen = target.chosen("x86_64-linux-gnu", name)
        text = probes.module_text(chosen)
        assert f"<{probes.lanes('f32', chosen)} x float>" in text
    assert "x float>" in probes.module_text(target.chosen("aarch64-linux-gnu"))


def test_short_calls_are_timed_several_at_a_time() -> None:
    calls: list[int] = []
    found = timing.time_calls(calls.append, [1], 0.01)
    assert found.calls < len(calls) <= found.calls + 3 * timing.WARM_UP
    assert found.calls > 100
    assert 0 < found.seconds["min"] < 1e-4
