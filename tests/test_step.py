"""The ``Step`` object: references, life time, and what it has beside its call."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import sys
import weakref
from typing import Any

import entry_testing as testing
import numpy as np
import pytest
from entry_testing import N, build, dense, signature_of

from stepforge.codegen.signature import Fetch
from stepforge.ir.types import Type
from stepforge.runtime.step import PythonStep, make_step, retarget, step_type

F64, VECTOR = Type("f64"), Type("f64", (N,))


# ---- references ---------------------------------------------------------------------------------


def test_a_million_calls_leak_nothing() -> None:
    scalar, _ = build(signature_of([F64] * 3, dense(F64), "single"), testing.axb_scalar, level="O2")
    vector, _ = build(
        signature_of([VECTOR] * 3, [*dense(VECTOR), Fetch("none")], "list"), testing.axb_vector
    )
    number, array = np.array(2.0), np.arange(8.0)
    descr, kind = array.dtype, type(number[()])
    counted = (number, array, descr, kind, scalar, vector)
    for _ in range(1000):
        scalar(number, 3.0, number)
        vector(array, array, array)
    gc.collect()
    before = [sys.getrefcount(value) for value in counted]
    growths = []
    for _ in range(3):  # what leaks grows each time; what others keep in this process does not
        memory = testing.resident_bytes()
        for _ in range(250_000):
            scalar(number, 3.0, number)
        for _ in range(100_000):
            vector(array, array, array)
        gc.collect()
        growths.append(testing.resident_bytes() - memory)
    assert min(growths) < 800_000
    assert [sys.getrefcount(value) for value in counted] == before


def test_refusals_and_errors_leak_nothing() -> None:
    step, _ = build(signature_of([VECTOR] * 3, dense(VECTOR), "single"), testing.axb_vector)
    array, values = np.arange(8.0), [1.0] * 8
    for _ in range(100):
        step(array, values, array)
    gc.collect()
    before, memory = sys.getrefcount(array), testing.resident_bytes()
    for _ in range(1000):
        step(array, values, array)
        with pytest.raises(ValueError, match="shape"):
            step(array, 1.0, array)
    gc.collect()
    assert sys.getrefcount(array) == before
    assert testing.resident_bytes() - memory < 2_000_000


def test_steps_in_cycles_are_collected() -> None:
    class Node:
        pass

    step, program = build(signature_of([], []), testing.succeed)
    node = Node()
    node.step, program.node = step, node  # type: ignore[attr-defined]
    alive = [weakref.ref(value) for value in (node, step, program, program.library)]
    assert gc.is_tracked(step)
    del node, step, program
    gc.collect()
    assert [reference() for reference in alive] == [None] * 4


def test_steps_die_with_their_last_reference() -> None:
    step, program = build(signature_of([], []), testing.succeed)
    kind_before = sys.getrefcount(step_type())
    alive, called = weakref.ref(program), []
    reference = weakref.ref(step, called.append)
    del step, program
    assert alive() is None
    assert called == [reference]
    kind_after = sys.getrefcount(step_type())
    assert kind_after == kind_before - 1


def test_a_step_may_lose_its_last_reference_while_it_runs() -> None:
    class Evil:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            box.clear()
            gc.collect()
            return np.arange(8.0)

    box = [build(signature_of([VECTOR] * 3, dense(VECTOR), "single"), testing.axb_vector)[0]]
    array = np.ones(8)
    assert box[0](Evil(), array, array).tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


# ---- the object ---------------------------------------------------------------------------------


class Shown(testing.Program):
    """A program with everything that a step shows."""

    doc = "Computes nothing."
    signature = inspect.signature(lambda a: None)

    def text(self, stage: str = "fused") -> str:
        return f"text of {stage}"

    def dump(self, folder: str, *, stages: int = 0) -> tuple[str, int]:
        return folder, stages

    def memory(self) -> dict[str, int]:
        return {"arena": 0}

    def reduce(self) -> Any:
        return str, ("rebuilt",)

    def miss(self, *arguments: Any, **keywords: Any) -> Any:
        return arguments, keywords


@pytest.mark.parametrize("mode", ["native", "python"])
def test_what_a_step_shows(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPFORGE_ENTRY", mode)
    program = Shown(signature_of([], []))
    step = make_step(program)
    assert type(step) is (PythonStep if mode == "python" else step_type())
    assert step(1, k=2) == ((1,), {"k": 2})
    assert step.text() == "text of fused"
    assert step.text("llvm") == "text of llvm"
    assert step.dump("out", stages=3) == ("out", 3)
    assert step.memory() == {"arena": 0}
    assert repr(step) == "<step tested>"
    assert step.__doc__ == "Computes nothing."
    assert inspect.signature(step) == Shown.signature
    assert pickle.loads(pickle.dumps(step)) == copy.copy(step) == "rebuilt"
    assert step.program is program
    assert callable(step)
    assert weakref.ref(step)() is step
    with pytest.raises(AttributeError):
        step.anything = 1
    assert "compiled step" in (type(step).__doc__ or "")
    with pytest.raises((TypeError, AttributeError)):
        type(step)().text()


def test_a_step_of_a_bare_program() -> None:
    step, _ = build(signature_of([], []), testing.succeed)
    with pytest.raises(TypeError, match="cannot pickle <step tested>"):
        pickle.dumps(step)
    with pytest.raises(AttributeError):
        step.text()
    assert step.__doc__ is None
    assert inspect.isclass(step_type())
    assert step_type().__module__ == "stepforge.runtime.step"


def test_retargeting() -> None:
    signature = signature_of([], dense(Type("i64")), "single")

    def give(number: int) -> Any:
        def body(fn: Any) -> None:
            fn.store("i64", str(number), fn.load("ptr", "%outs"))
            testing.succeed(fn)

        return body

    step, first = build(signature, give(1))
    _, second = build(signature, give(2))
    assert step() == 1
    retarget(step, second.table_address)
    assert step() == 2
    retarget(step)
    assert step() == 1  # by way of the program
    assert first.misses == 1
    retarget(step, second.table_address)
    assert step() == 2
