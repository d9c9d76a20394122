"""Warm starts: what an earlier process compiled is used without a pass, and means the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

COUNTED = """
import json, sys
import numpy as np
import stepforge as tf
from stepforge.codegen import jit
from stepforge.runtime import pipeline

passes, texts = [], []
run_passes, compile_text = pipeline.run_passes, jit.compile_text
pipeline.run_passes = lambda *given, **more: passes.append(1) or run_passes(*given, **more)
jit.compile_text = lambda *given, **more: texts.append(1) or compile_text(*given, **more)
sess = tf.Session()
{program}
disk = [entry["disk"] for entry in sess.cache_info()["history"]]
print(json.dumps([result, len(passes), len(texts), disk]))
"""
TRAINING = """
x = tf.placeholder(tf.float32, [None, 4], name="x")
labels = tf.placeholder(tf.int32, [None])
table = tf.constant(np.arange(400, dtype=np.float32).reshape(4, 100) / 400)  # not in the text
w = tf.Variable(tf.random_normal([100, 3], stddev=0.1, seed=1))
logits = tf.matmul(tf.matmul(x, table), w)
loss = tf.reduce_mean(
    tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
)
train = tf.train.AdamOptimizer(0.1).minimize(loss)
sess.run(tf.global_variables_initializer())
data = np.linspace(-1, 1, 20, dtype=np.float32).reshape(5, 4)
result = []
for _ in range(4):
    result.append(float(sess.run([loss, train], {x: data, labels: [0, 1, 2, 1, 0]})[0]))
"""
REFUSING = """
x = tf.placeholder(tf.float64, [None], name="x")
i = tf.placeholder(tf.int32, [], name="i")
{extra}
y = tf.gather(x, i, name="picked")
result = float(sess.run(y, {{x: np.arange(3.0), i: 1}}))
try:
    sess.run(y, {{x: np.arange(3.0), i: 7}})
except tf.errors.InvalidArgumentError as error:
    result = [result, error.op.name, error.message]
"""
RANDOM = """
draws = tf.random_uniform([2000], seed=3)
result = [float(sess.run(tf.reduce_sum(draws))) for _ in range(1)] + sess.run(draws)[:3].tolist()
"""
TEXTS = """
x = tf.placeholder(tf.float64, [None], name="x")
step = sess.make_callable(tf.exp(x) + 1, [x])
result = [step(np.zeros(2)).tolist()]
result += [step.text(stage) for stage in ("graph", "tensor", "fused", "loops", "llvm")]
"""
ADDED = """
from stepforge.passes.order import add_pass
def nothing(function):
    return function
add_pass(nothing, "tensor", after="fold")
x = tf.placeholder(tf.float64, [], name="x")
result = float(sess.run(x * 2, {x: 3.0}))
"""
IN_PYTHON = """
x = tf.placeholder(tf.float64, [2, 2])
result = sess.run(tf.matrix_inverse(x * 2) + 1, {x: np.eye(2)}).tolist()
"""


def run(folder: Path, program: str) -> Any:
    """What a program leaves in ``result``, how often passes and LLVM ran, and what came from disk.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", COUNTED.format(program=textwrap.dedent(program))],
        env={**os.environ, "STEPFORGE_CACHE": str(folder)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("program", [TRAINING, RANDOM, REFUSING.format(extra="")])
def test_a_warm_start_runs_no_pass(tmp_path: Path, program: str) -> None:
    cold, passes, texts, disk = run(tmp_path, program)
    assert passes > 0
    assert texts > 0
    assert not any(entry == "all" for entry in disk)
    warm, passes, texts, disk = run(tmp_path, program)
    assert warm == cold
    assert (passes, texts) == (0, 0)
    assert set(disk) == {"all"}


def test_errors_name_the_node_of_the_program_at_hand(tmp_path: Path) -> None:
    cold = run(tmp_path, REFUSING.format(extra=""))[0]
    program = REFUSING.format(extra="tf.no_op(); tf.constant(1.0)").replace("picked", "chosen")
    warm = run(tmp_path, program)[0]
    assert cold[:2] == [1.0, "picked"]
    assert warm[:2] == [1.0, "chosen"]
    assert warm[2] != cold[2] or "picked" not in cold[2]


def test_stages_are_made_when_they_are_asked_for(tmp_path: Path) -> None:
    cold = run(tmp_path, TEXTS)[0]
    warm, passes, texts, disk = run(tmp_path, TEXTS)
    assert warm == cold
    assert all(cold)
    assert passes > 0  # for the text
    assert texts == 0
    assert disk == ["all"]


def test_other_constants_are_other_functions(tmp_path: Path) -> None:
    cold = run(tmp_path, TRAINING)[0]
    other, passes, *_ = run(tmp_path, TRAINING.replace("/ 400", "/ 500"))
    assert other != cold
    assert passes > 0


@pytest.mark.parametrize(
    ("program", "reason"),
    [(ADDED, "passes were added"), (IN_PYTHON, "it calls Python")],
)
def test_what_has_no_recipe_is_compiled_again(tmp_path: Path, program: str, reason: str) -> None:
    cold = run(tmp_path, program)[0]
    warm, passes, _, disk = run(tmp_path, program)
    assert warm == cold
    assert passes > 0
    assert disk == [f"the object: {reason}"]


def test_a_recipe_without_its_object_is_no_use(tmp_path: Path) -> None:
    cold = run(tmp_path, TRAINING)[0]
    for path in tmp_path.glob("*.object"):
        if b"ELF" in path.read_bytes()[:80]:
            path.unlink()
    again, passes, texts, _ = run(tmp_path, TRAINING)
    assert again == cold
    assert passes > 0
    assert texts > 0
