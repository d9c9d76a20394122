"""Warm starts: what an earlier process compiled is used without a pass, and means the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepforge as tf
from stepforge.codegen.disk_cache import DiskCache

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
PLAIN = """
x = tf.placeholder(tf.int32, [], name="x")
y = tf.placeholder(tf.int32, [], name="y")
result = int(sess.run((y + x) - y, {x: 3, y: 4}))
"""
RULE = f"""
from stepforge.passes.patterns import rule
from stepforge.passes.rules import add_rules, x, y
add_rules("Wrong, so that it shows", rule((x + y) - y, y, "i"))
{PLAIN}
"""
WRITTEN = """
from stepforge.runtime import recipe_keys
recipe_keys.LOADED = 0  # as if every file had been written since
x = tf.placeholder(tf.float64, [], name="x")
result = float(sess.run(x * 2, {x: 3.0}))
"""
CONSTANTS = """
half = np.arange(400).reshape(20, 20) / 512
given = tf.constant(half, dtype=tf.bfloat16)
turned = tf.transpose(tf.constant(half[:, ::-1].T.astype(np.float32)))  # is folded
i = tf.placeholder(tf.int32, [], name="i")
rows = [tf.cast(given[i], tf.float32), turned[i], tf.cast((given + given)[i], tf.float32)]
result = [row.tolist() for row in sess.run(rows, {i: 3})]
"""
NAN = """
nan = np.array([{bits}], np.uint64).view(np.float64)[0]
x = tf.placeholder(tf.float64, [], name="x")
y = tf.where(x > 0, tf.constant(nan), x)
result = hex(sess.run(y, {{x: 3.0}}).view(np.uint64))
"""
IN_PYTHON = """
x = tf.placeholder(tf.float64, [2, 2])
result = sess.run(tf.matrix_inverse(x * 2) + 1, {x: np.eye(2)}).tolist()
"""


def start(folder: Path, program: str, **environment: str) -> subprocess.Popen[str]:
    """A process that runs a program and keeps what it compiles in ``folder``."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", COUNTED.format(program=textwrap.dedent(program))],
        env={**os.environ, "STEPFORGE_CACHE": str(folder), **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def outcome(process: subprocess.Popen[str]) -> Any:
    """What a program leaves in ``result``, how often passes and LLVM ran, and what came from disk.
    """
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return json.loads(output)


def run(folder: Path, program: str, **environment: str) -> Any:
    """The ``outcome`` of a process of its own."""
    return outcome(start(folder, program, **environment))


def recipes(cache: DiskCache) -> list[str]:
    """The keys of the recipes in a cache."""
    contents = {entry.key: cache.get(entry.key) for entry in cache.entries()}
    return [key for key, content in contents.items() if content and content.startswith(b"{")]


@pytest.mark.parametrize("program", [TRAINING, RANDOM, CONSTANTS, REFUSING.format(extra="")])
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
    [
        (ADDED, "passes or rules were added"),
        (RULE, "passes or rules were added"),
        (WRITTEN, "the sources were written after they were loaded, or when cannot be told"),
        (IN_PYTHON, "it calls Python"),
    ],
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


# ---- files that are no recipes ------------------------------------------------------------------
DAMAGE: list[Callable[[str, dict[str, Any]], Any]] = [
    lambda key, recipe: None,
    lambda key, recipe: [],
    lambda key, recipe: {},
    lambda key, recipe: {**recipe, "extra": 1},
    lambda key, recipe: {**recipe, "object": "0" * 64},
    lambda key, recipe: {**recipe, "object": key},  # which is no object
    lambda key, recipe: {**recipe, "slots": [["nothing", "f32", "variable", True, False]]},
    lambda key, recipe: {**recipe, "fetches": [["dense", "f32[", None]]},
    lambda key, recipe: {**recipe, "checks": [["message", "error", 10**6]]},
    lambda key, recipe: {**recipe, "constants": [["const_0", "f64", [3], "!"]]},
    lambda key, recipe: {**recipe, "exports": ["kernel", "nothing"]},
    lambda key, recipe: {**recipe, "work": [["n"]]},
]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DiskCache:
    """A cache of its own, which this process uses."""
    monkeypatch.setenv("STEPFORGE_CACHE", str(tmp_path))
    return DiskCache(tmp_path)


def picked() -> tuple[float, str]:
    """A value out of a session of its own, and what of its step came from disk."""
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float64, [None], name="x")
        y = tf.gather(x, [2])
        value = float(sess.run(y, {x: np.arange(3.0)})[0])
        return value, sess.cache_info()["history"][0]["disk"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_no_recipe_is_as_good_as_none(cache: DiskCache, damage: Any) -> None:
    picked()
    assert picked() == (2.0, "all")
    (key,) = recipes(cache)
    cache.put(key, json.dumps(damage(key, json.loads(cache.get(key) or b""))).encode())
    assert picked() == (2.0, "the object: it is new here")
    assert picked() == (2.0, "all")


# ---- what recipes do not share ------------------------------------------------------------------
def test_rules_that_were_added_stay_in_their_process(tmp_path: Path) -> None:
    assert run(tmp_path, RULE)[0] == 4
    assert run(tmp_path, PLAIN)[0] == 3
    assert run(tmp_path, RULE)[0] == 4


def test_every_nan_is_a_constant_of_its_own(tmp_path: Path) -> None:
    for bits in ("0x7ff8000000000000", "0xfff8000000000000", "0x7ff8000000000001"):
        assert run(tmp_path, NAN.format(bits=bits))[0] == bits


def test_the_plain_entry_has_recipes_of_its_own(tmp_path: Path) -> None:
    cold = run(tmp_path, REFUSING.format(extra=""))[0]
    plain, passes, *_ = run(tmp_path, REFUSING.format(extra=""), STEPFORGE_ENTRY="python")
    assert plain == cold
    assert passes > 0
    again = run(tmp_path, REFUSING.format(extra=""), STEPFORGE_ENTRY="python")
    assert again == [cold, 0, 0, ["all"]]
    assert run(tmp_path, REFUSING.format(extra="")) == [cold, 0, 0, ["all"]]


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    together = [start(tmp_path, TRAINING) for _ in range(3)]
    results = [outcome(process)[0] for process in together]
    assert results == results[:1] * 3
    assert run(tmp_path, TRAINING)[:3] == [results[0], 0, 0]
