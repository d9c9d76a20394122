"""Compiled functions bear the user's names: in their symbols, for perf, and in a real gdb."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import stepforge as tf
from stepforge.codegen.elf import ElfObject
from stepforge.codegen.jit import compile_text
from stepforge.codegen.symbol_names import LONGEST, kernel_label, label_in
from stepforge.ir.core import Site
from stepforge.ir.opdef import lookup
from stepforge.ir.parser import parse_function

LINUX = pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64", reason="needs x86-64 Linux"
)
PROGRAM = """
import os, signal, sys
import numpy as np
import stepforge as tf
x = tf.placeholder(tf.float32, [None, 100], name="x")
y = tf.tanh(tf.multiply(x, 2.0, name="twice"), name="layer/y")
step = tf.Session().make_callable(y, [x])
"""


def run(code: str, **variables: str) -> str:
    environment = {**os.environ, "STEPFORGE_CACHE": "off", **variables}
    done = subprocess.run([sys.executable, "-c", PROGRAM + code], env=environment, check=True,
                          capture_output=True, text=True, timeout=120)
    return done.stdout


def step_of(name: str) -> Any:
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 100], name="x")
        y = tf.tanh(tf.multiply(x, 2.0, name="twice"), name=name)
        return tf.Session(graph=graph).make_callable(y, [x])


def test_functions_of_nests_are_named_after_nodes() -> None:
    step = step_of("layer/y")
    text = step.text("llvm")
    assert "@kernel_layer_y_twice_nest0(" in text
    symbols = [s.name for s in ElfObject(compile_text(text)).symbols]
    assert "kernel_layer_y_twice_nest0" in symbols
    assert "kernel_layer_y_twice_nest0" in step.text("asm")
    (nest,) = [op for op in step.program.variants[0].stages["loops"].body.ops if op.name == "for"]
    assert set(map(label_in, text.splitlines())) == {"", kernel_label(nest)}


def test_products_are_named_after_their_epilogues() -> None:
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 64], name="x")
        w = tf.placeholder(tf.float32, [64, 64], name="w")
        with tf.name_scope("layer"):
            h = tf.nn.relu(tf.matmul(x, w), name="h")
        more = tf.nn.relu(tf.matmul(h, w), name="again")
        step: Any = tf.Session(graph=graph).make_callable([h, more], [x, w])
    labels = set(map(label_in, step.text("llvm").splitlines()))
    assert labels == {"", "layer_h_MatMul"}  # equal functions are one, named after the first


def test_convolutions_are_named_after_what_they_give() -> None:
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 9, 9, 4], name="x")
        w = tf.placeholder(tf.float32, [3, 3, 4, 8], name="w")
        with tf.name_scope("layer"):
            h = tf.nn.relu(tf.nn.conv2d(x, w, [1, 1, 1, 1], "VALID", name="windows"), name="h")
            again = tf.nn.relu(tf.nn.conv2d(x + 1.0, w, [1, 1, 1, 1], "VALID"))
        (slope,) = tf.gradients(tf.nn.conv2d(x, w, [1, 2, 2, 1], "SAME", name="other"), w)
        step: Any = tf.Session(graph=graph).make_callable([h, again, slope], [x, w])
    named = set(re.findall(r"define [^\n]*@(conv_f32_\w+_[0-9a-f]{12})\(", step.text("llvm")))
    # Equal functions are one, named after the first.
    assert sorted(map(label_in, named)) == ["Conv2DBackpropFilter", "layer_h_windows"]
    lines = [line for line in step.text("asm").splitlines() if line.startswith("conv_f32_layer")]
    assert set(map(label_in, lines)) == {"layer_h_windows"}


def test_labels_are_short_and_plain() -> None:
    function = parse_function("func @f() {\n  for(high=8) |%i: index| {\n    yield()\n  }\n"
                              "  return()\n}\n")
    loop = function.body.ops[0]
    assert kernel_label(loop) == "step"
    for node in ("a/" * 100 + "b", '"; DROP', "ß", "..."):
        named = type(loop)(lookup("for"), (), loop.attrs, (), loop.regions, Site(node))
        assert re.fullmatch(r"[A-Za-z0-9](?:\w*[A-Za-z0-9])?", kernel_label(named))
        assert len(kernel_label(named)) <= LONGEST


def test_equal_nests_share_a_function_whatever_their_names() -> None:
    with tf.Graph().as_default() as graph:
        feeds = [tf.placeholder(tf.float32, [None, 100], name=f"x{i}") for i in range(3)]
        fetches = [tf.tanh(x * 2.0, name=f"tanh_of_{x.op.name}") for x in feeds]
        step: Any = tf.Session(graph=graph).make_callable(fetches, feeds)
    text = step.text("llvm")
    (defined,) = re.findall(r"define [^\n]*@(kernel_\w+_nest\d+)\(", text)
    assert defined == "kernel_tanh_of_x0_mul_nest0"
    assert len(re.findall(rf"ptr @{defined}\b", text)) == 3  # by the pool


@LINUX
def test_perf_finds_every_function_in_its_map() -> None:
    printed = run("""
maps = [line.split() for line in open("/proc/self/maps")]
code = [[int(a, 16) for a in m[0].split("-")] for m in maps if "x" in m[1]]
found = {}
for line in open(f"/tmp/perf-{os.getpid()}.map"):
    start, size, name = line.split(" ", 2)
    start, size = int(start, 16), int(size, 16)
    assert size > 0 and any(low <= start and start + size <= high for low, high in code), line
    found[name.rstrip()] = start
assert found["entry"] == step.program.variants[0].entry_address
pid = os.fork()
if not pid:
    tf.Session().make_callable(tf.exp(x, name="child"), [x])
    lines = open(f"/tmp/perf-{os.getpid()}.map").read()
    os.remove(f"/tmp/perf-{os.getpid()}.map")
    os._exit("kernel_child_nest0" not in lines or "kernel_layer_y_twice_nest0" not in lines)
assert os.waitpid(pid, 0)[1] == 0
os.remove(f"/tmp/perf-{os.getpid()}.map")
print(*found)
""", STEPFORGE_PERF="1")
    assert {"kernel_layer_y_twice_nest0", "entry"} <= set(printed.split())


@LINUX
def test_nobody_is_told_who_did_not_ask() -> None:
    code = 'from stepforge.codegen import jit_symbols\nprint(jit_symbols.map_file().exists())'
    assert run(code, STEPFORGE_PERF="0", STEPFORGE_GDB="").strip() == "False"


@LINUX
@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_gdb_stops_in_a_nest_and_knows_who_called(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM + "os.kill(os.getpid(), signal.SIGTRAP)\n"
                                "step(np.ones((1000, 100), np.float32))\n")
    commands = ["run", "break kernel_layer_y_twice_nest0", "continue", "backtrace 2", "kill"]
    arguments = [part for command in commands for part in ("-ex", command)]
    environment = {**os.environ, "STEPFORGE_CACHE": "off", "STEPFORGE_GDB": "1"}
    done = subprocess.run(
        ["gdb", "-q", "-nx", "-batch", *arguments, "--args", sys.executable, str(script)],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )
    if "SIGTRAP" not in done.stdout:
        pytest.skip(f"gdb cannot run programs here: {done.stderr[-200:]}")
    assert re.search(r"hit Breakpoint 1, 0x\w+ in kernel_layer_y_twice_nest0", done.stdout)
    assert re.search(r"#1 +0x\w+ in (kernel|variant|entry)", done.stdout)
