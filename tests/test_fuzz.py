"""A slice of the fuzzer, the same each time; ``make fuzz`` goes on from there.

The fuzzer is tested too: that its oracle keeps the rules of order, that it finds what is broken on
purpose, and that what it prints shows a finding again.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fuzz.kinds import KINDS, Kind, play
from fuzz.play import check_program
from fuzz.programs import Feed, Node, Oracle, Program, Run, Wrong

import stepforge as tf
from stepforge.frontend.extract.state import StepState
from stepforge.frontend.nodedefs.base import lookup_node
from stepforge.ir.builder import Builder
from stepforge.ir.core import Function, Operation
from stepforge.ir.opdef import lookup
from stepforge.ir.rewrite import rebuild
from stepforge.passes.order import ORDER

SEED = 20
EXAMPLES = {
    "passes": 60, "loops": 40, "native": 4, "ahead": 4, "programs": 20, "gradients": 12,
    "files": 150, "nodes": 60,
}
BY_NAME = {kind.name: kind for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_slice(kind: Kind) -> None:
    found = play(kind, SEED, EXAMPLES[kind.name])
    assert found is None, str(found)


# ---- what is broken on purpose -------------------------------------------------------------------


def swap_subtractions(function: Function) -> Function:
    """A pass that is wrong."""

    def visit(op: Operation, build: Builder) -> Any:
        return [build.emit("sub", *op.operands[::-1])] if op.defn.name == "sub" else None

    return rebuild(function, visit)


def break_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ORDER, "tensor", (*ORDER["tensor"], swap_subtractions))


def break_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ORDER, "loops", (*ORDER["loops"], swap_subtractions))


def break_code(monkeypatch: pytest.MonkeyPatch) -> None:
    defn = lookup("sub")
    monkeypatch.setattr(type(defn), "scalar", lambda self, k, x, y: k.sub(y, x))


def break_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def latest(self: StepState, node: Any, tensor: Any) -> Any:
        return self.latest(self._standing[tensor], node)

    monkeypatch.setattr(StepState, "seen_by", latest)


def break_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    node = type(lookup_node("MatMul"))
    right = node.gradient
    wrong = lambda self, tf, op, dz: right(self, tf, op, dz * 1.001)  # noqa: E731
    monkeypatch.setattr(node, "gradient", wrong)


@pytest.mark.parametrize(
    ("name", "sabotage", "examples"),
    [
        ("passes", break_passes, 200),
        ("loops", break_loops, 200),
        ("native", break_code, 30),
        ("programs", break_order, 100),
        ("gradients", break_gradients, 100),
    ],
)
def test_finds(
    name: str,
    sabotage: Callable[[pytest.MonkeyPatch], None],
    examples: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sabotage(monkeypatch)
    found = play(BY_NAME[name], SEED, examples, small=False)
    assert found is not None


# ---- what is printed -----------------------------------------------------------------------------


def printed(code: str) -> str:
    """What Python prints that runs ``code``."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(code, {})
    return output.getvalue()


def test_a_function_is_shown_as_python(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as inside:
        break_passes(inside)
        found = play(BY_NAME["passes"], SEED, 200)
    assert found is not None
    problem, code = str(found).split("\n\n", 1)
    assert problem.startswith("the pass 'swap_subtractions' changes what is computed")
    assert "= sub(" in code
    assert "no stage is far from the one before" in printed(code)


def test_a_program_is_shown_as_python() -> None:
    program, run = counter([])
    with tf.Graph().as_default():
        output = printed(program.text())
    assert output.split() == ["[np.float32(1.0),", "np.float32(2.0)]"]
    assert run.text() in program.text()


# ---- the oracle ----------------------------------------------------------------------------------


def nothing(*operands: Any) -> None:
    raise AssertionError("it is computed from nothing")


def counter(control: list[int]) -> tuple[Program, Run]:
    """A variable, a read of it that waits for the nodes ``control``, and an update."""
    v = Node("v", "tf.Variable(1.0)", (), nothing, (), "float32", kind="variable")
    one = Node("one", "tf.constant(1.0)", (), lambda: np.float32(1), (), "float32")
    line = "tf.assign_add(v, one)"
    add = Node("add", line, (one,), np.add, (), "float32", kind="write", variable=v)
    waits = tuple([(v, one, add)[i] for i in control])
    read = Node("read", "v + 0.0", (v,), lambda x: x, (), "float32", control=waits)
    run = Run((read, add), "list", {})
    return Program([v, one, add, read], [run]), run


@pytest.mark.parametrize(("control", "seen"), [([], 1), ([0], 1), ([1], 1), ([2], 2), ([1, 2], 2)])
def test_the_oracle_keeps_the_order(control: list[int], seen: float) -> None:
    program, run = counter(control)
    state = {program.variables[0]: np.float32(1)}
    oracle = Oracle(program, run, state)
    assert [float(value) for value in oracle.values] == [seen, 2]
    assert list(oracle.state.values()) == [2]
    check_program(program)


def test_the_oracle_of_what_is_fed() -> None:
    program, _run = counter([2])
    v, _one, add, read = program.nodes
    fed = Run((read,), "single", {add: Feed(np.float32(9))})
    assert Oracle(program, fed, {v: np.float32(1)}).values == [2]  # it runs all the same
    fed = Run((read, add), "list", {v: Feed(np.float32(9))})
    assert Oracle(program, fed, {v: np.float32(1)}).values == [9, 2]  # reads alone are fed
    x = Node("x", "tf.placeholder(tf.float32, [])", (), nothing, (), "float32", kind="feed")
    program.nodes.append(x)
    with pytest.raises(Wrong, match="x is not fed"):
        Oracle(program, Run((x,), "single", {}), {})
    program.runs = [fed, Run((x,), "single", {})]
    check_program(program)


def test_only_what_rounds_is_shaken() -> None:
    program, run = counter([])
    state = {program.variables[0]: np.float32(1)}
    noise = np.random.default_rng(0)
    assert Oracle(program, run, state, noise=noise).values == [1, 2]
    program.nodes[-1].exact = False
    shaken = Oracle(program, run, state, noise=noise).values
    assert shaken[1] == 2
    assert 0 < abs(shaken[0] - 1) < 1e-5
