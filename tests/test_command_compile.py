"""``stepforge compile``: each way to keep variables at each level, entry points, what objects need.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepforge.cli import main
from stepforge.codegen.elf import ElfObject

MODEL = """
import numpy as np
import stepforge as tf

x = tf.placeholder(tf.float32, [None, 4], name="x")
start = np.linspace(-1, 1, 12).astype(np.float32).reshape(4, 3)
w = tf.get_variable("dense/w", initializer=start)
b = tf.get_variable("b", initializer=np.float32([1, 2, 3]))
y = tf.nn.softmax(tf.matmul(x, w) + b, name="y")
loss = tf.reduce_sum(tf.square(y), name="loss")
train = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss, name="train")
"""
WAYS = ("baked", "file", "arguments")
LEVELS = ("0", "1", "2")
X = np.random.RandomState(0).standard_normal((5, 4)).astype(np.float32)
LEARN = "--entry-point learn --fetch loss --fetch train --feed x"
STEPS = f"{LEARN} --entry-point ask --fetch y --feed x"
# Of libc and libm, what compiled code may need.
ALLOWED = {"memcpy", "memset", "memmove", "snprintf"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model, and its values after steps as a session gives them."""
    made = tmp_path_factory.mktemp("model")
    (made / "model.py").write_text(MODEL)
    names = runpy.run_path(str(made / "model.py"))
    tf, x, w, b, y = (names[name] for name in ("tf", "x", "w", "b", "y"))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(3):
            session.run(names["train"], {x: X})
        values = session.run({"w": w, "b": b, "y": y}, {x: X})
        np.savez(made / "after.npz", **values)
    return made


def compiled(folder: Path, tmp_path: Path, options: str) -> Any:
    """The names of the Python module that the command writes."""
    path = tmp_path / "net.py"
    command = ["compile", str(folder / "model.py"), "-o", str(path), *options.split()]
    assert main([*command, "-o", str(tmp_path / "net.o")]) == 0
    return runpy.run_path(str(path))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("variables", WAYS)
def test_variables_at_each_level(
    variables: str, level: str, folder: Path, tmp_path: Path
) -> None:
    options = f"{STEPS} --variables {variables} --opt-level {level}"
    net = compiled(folder, tmp_path, options)
    wanted = np.load(folder / "after.npz")
    if variables == "arguments":
        held = {a.name: np.zeros(a.shape, a.dtype) for a in net["learn"]._held}
        held["dense_w"][:] = np.linspace(-1, 1, 12).reshape(4, 3)
        held["b"][:] = [1, 2, 3]
        for _ in range(3):
            net["learn"](X, **held)
        own = {n: held[n] for n in ("dense_w", "b")}
        w, b, y = held["dense_w"], held["b"], net["ask"](X, **own)
    else:
        for _ in range(3):
            net["learn"](X)
        state = net["library"].state
        w, b, y = state["dense/w"], state["b"], net["ask"](X)
    for have, name in ((w, "w"), (b, "b"), (y, "y")):
        np.testing.assert_allclose(have, wanted[name], rtol=1e-5, err_msg=name)
    assert (tmp_path / "net.state").exists() == (variables == "file")
    assert set(ElfObject((tmp_path / "net.o").read_bytes()).undefined) <= ALLOWED


def test_entry_points_are_what_is_exported(folder: Path, tmp_path: Path) -> None:
    compiled(folder, tmp_path, f"{STEPS} --name net")
    found = {s.name for s in ElfObject((tmp_path / "net.o").read_bytes()).exports}
    steps = {f"{step}{end}" for step in ("learn", "ask") for end in ("", "_workspace", "_message")}
    block = {f"net_{name}" for name in ("state_size", "init", "get", "set")}
    assert {name for name in found if not name.endswith("_parallel")} == steps | block


def test_levels_are_different_code(folder: Path, tmp_path: Path) -> None:
    objects = []
    for level in LEVELS:
        compiled(folder, tmp_path, f"--fetch y --feed x --opt-level {level}")
        objects.append((tmp_path / "net.o").read_bytes())
    assert len(set(objects)) == len(LEVELS)


def test_a_library_without_threads_inside(folder: Path, tmp_path: Path) -> None:
    compiled(folder, tmp_path, STEPS)
    text = (tmp_path / "libnet.so").read_bytes()
    assert b"pthread" not in text
    assert b"malloc" not in text
