"""Calls of entries: kernels that fail, variables, the GIL and the writer lock."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from typing import Any

import entry_testing as testing
import numpy as np
import pytest
from entry_testing import KernelError, M, N, Variable, build, dense, signature_of

from stepforge.codegen import signature as abi
from stepforge.codegen.signature import Fetch
from stepforge.ir.errors import FailedPreconditionError
from stepforge.ir.types import Type
from stepforge.runtime import python_entry

F64, VECTOR = Type("f64"), Type("f64", (N,))


# ---- failure ------------------------------------------------------------------------------------


def test_a_failing_kernel() -> None:
    types = [VECTOR]
    fetches = [*dense(VECTOR, F64), Fetch("feed", VECTOR, 0)]
    step, program = build(signature_of(types, fetches), testing.fail_with(4, 7, 9))
    vector = np.zeros(10_000)
    before = testing.resident_bytes()
    for run in (step, program.miss):
        for _ in range(300):
            with pytest.raises(KernelError) as caught:
                run(vector)
            assert caught.value.args == (4, 7, 9)
    del caught
    assert sys.getrefcount(vector) == 2
    assert testing.resident_bytes() - before < 100 * vector.nbytes


def test_an_exception_in_the_context_is_released() -> None:
    step, program = build(signature_of([], [], python=True), testing.host_call)
    error = OSError("broken")

    def leave(context: int, feeds: int, outs: int) -> int:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(error))
        ctypes.c_void_p.from_address(context + abi.CONTEXT_EXCEPTION).value = id(error)
        return -1

    testing.set_host_call(program, leave)
    for run in (step, program.miss):
        before = sys.getrefcount(error)
        for _ in range(5):
            with pytest.raises(OSError, match="broken"):
                run()
            error.__traceback__ = None
        gc.collect()
        assert sys.getrefcount(error) == before


def test_a_program_that_does_not_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    step, program = build(signature_of([], []), testing.fail_with(1))
    monkeypatch.setattr(program, "fail", lambda context: None)
    for run in (step, program.miss):
        with pytest.raises(SystemError):
            run()


# ---- slots --------------------------------------------------------------------------------------


def read_slots(fn: Any) -> None:
    """Copies variable @v (f64[n]) to output 0 and adds one to the number @c, which is output 1."""
    feeds = [fn.load("ptr", "%feeds", 8 * k) for k in range(2)]
    outs = [fn.load("ptr", "%outs", 8 * k) for k in range(2)]
    copy_memory = fn.module.declare("llvm.memcpy.p0.p0.i64", "void", "ptr, ptr, i64, i1")
    size = fn.emit(f"shl i64 {fn.load('i64', '%dims')}, 3")
    args = [("ptr", outs[0]), ("ptr", feeds[0]), ("i64", size), ("i1", "false")]
    fn.call("void", copy_memory, *args)
    more = fn.emit(f"add i64 {fn.load('i64', feeds[1])}, 1")
    fn.store("i64", more, feeds[1])
    fn.store("i64", more, outs[1])
    testing.succeed(fn)


def test_slots_are_read_and_checked() -> None:
    vector, counter = Variable([1.0, 2.0]), Variable(5, "i64")
    slots = testing.slots_of({"v": (VECTOR, False), "c": (Type("i64"), True)})
    signature = signature_of([], dense(VECTOR, Type("i64")), slots=slots, locks=True)
    step, program = build(signature, read_slots, slots=[vector.address, counter.address])
    assert step()[0].tolist() == [1, 2]
    vector.set([3.0, 4.0, 5.0])
    values, count = step()
    assert values.tolist() == [3, 4, 5]
    assert count == 7
    assert program.misses == 0
    assert program.miss()[1] == 8  # the Python entry reads the same slots
    vector.set(None)
    with pytest.raises(FailedPreconditionError, match="uninitialized value v"):
        step()
    vector.set([1], "f32")
    with pytest.raises(python_entry.VariantMismatch, match="v is not f64"):
        step()
    vector.set([[1.0]])
    with pytest.raises(python_entry.VariantMismatch, match="v has rank 2"):
        step()
    assert list(program.lock) == [0, 0]


@pytest.fixture
def seven_slots() -> tuple[Any, Any, list[Variable]]:
    """A step with more slots than an entry checks in its own code; it computes @v1 + n + m."""
    types = [Type("f32", (2, 3)), F64, VECTOR, Type("i64", (4,)), Type("f64", (2 * N, M)),
             Type("string", None)]  # fmt: skip
    slots = [abi.Slot(f"v{k}", type_, written=k == 1) for k, type_ in enumerate(types)]
    slots.append(abi.Slot("late", Type("f64", (7,)), read=False, written=True))
    variables = [
        Variable(np.zeros((2, 3)), "f32"), Variable(1.5), Variable(np.zeros(3)),
        Variable(np.zeros(4), "i64"), Variable(np.zeros((6, 2))), Variable(0.0), Variable(),
    ]  # fmt: skip

    def sum_up(fn: Any) -> None:
        pointers = [fn.load("ptr", "%feeds", 8 * k) for k in range(7)]
        total = fn.load("double", pointers[1])
        for name in range(2):  # n and m
            size = fn.emit(f"sitofp i64 {fn.load('i64', '%dims', 8 * name)} to double")
            total = fn.emit(f"fadd double {total}, {size}")
        fn.store("double", total, fn.load("ptr", "%outs"))
        testing.succeed(fn)

    signature = signature_of([], dense(F64), "single", slots=tuple(slots))
    assert signature.sizes == ("n", "m")
    addresses = [variable.address for variable in variables]
    return *build(signature, sum_up, slots=addresses), variables


def test_many_slots(seven_slots: Any) -> None:
    step, program, variables = seven_slots
    assert step() == 1.5 + 3 + 2
    assert program.misses == 0
    for index, value, dtype in [
        (0, np.zeros((2, 4)), "f32"), (0, np.zeros((2, 3)), "f64"), (1, [1.0], "f64"),
        (3, np.zeros((2, 2)), "i64"), (4, np.zeros((5, 2)), "f64"), (5, None, "f64"),
    ]:  # fmt: skip
        kept = variables[index].array
        kind = "f32" if index == 0 else "i64" if index == 3 else "f64"
        variables[index].set(value, dtype)
        misses = program.misses
        with pytest.raises((python_entry.VariantMismatch, FailedPreconditionError)):
            step()
        assert program.misses == misses + 1
        variables[index].set(kept, kind)
        assert step() == 6.5
    variables[2].set(np.zeros(5))
    variables[4].set(np.zeros((10, 4)))
    assert step() == 1.5 + 5 + 4


def test_slots_that_are_only_written_are_not_checked() -> None:
    slots = (abi.Slot("v", VECTOR, read=False, written=True),)
    step, program = build(
        signature_of([], [], slots=slots), testing.succeed, slots=[Variable().address]
    )
    assert step() == ()
    assert program.misses == 0


# ---- threads ------------------------------------------------------------------------------------


def wait_for_flag(fn: Any) -> None:
    """Spins until the word that its feed points to is set; gives up with status 1."""
    flag = fn.load("ptr", "%feeds")
    pause = fn.module.declare("sched_yield", "i32", "")

    def spin(i: str) -> None:
        value = fn.emit(f"load atomic i64, ptr {flag} monotonic, align 8")
        done, more = fn.label("done"), fn.label("more")
        fn.branch_if(fn.emit(f"icmp ne i64 {value}, 0"), done, more)
        fn.start(done)
        fn.do("ret i32 0")
        fn.start(more)
        fn.call("i32", pause)

    fn.loop(0, 2_000_000, spin)
    fn.do("ret i32 1")


@pytest.mark.parametrize("work", [10**6, N * 1000])
def test_long_kernels_run_without_the_gil(work: Any) -> None:
    types = [Type("i64", (N,))]
    step, program = build(signature_of(types, [Fetch("none")], "single", work=work), wait_for_flag)
    for run in (step, program.miss):
        flag = np.zeros(100, np.int64)
        before = sys.getrefcount(flag)
        errors: list[BaseException] = []

        def target(run: Any = run, flag: Any = flag, errors: list[BaseException] = errors) -> None:
            try:
                run(flag)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=target)
        thread.start()
        while sys.getrefcount(flag) == before and thread.is_alive():
            pass  # the call is on its way
        flag[0] = 1
        thread.join()
        assert errors == []
    if not isinstance(work, int):  # short work keeps the GIL
        assert step(np.ones(2, np.int64)) is None


def test_feeds_are_held_while_the_gil_is_away() -> None:
    signature = signature_of([Type("f64", (N,))], [Fetch("none")], "single", work=10**6)
    step, program = build(signature, testing.host_call)
    counts: list[int] = []
    vector = np.zeros(4)

    def look(context: int, feeds: int, outs: int) -> int:
        counts.append(sys.getrefcount(vector))
        return 0

    testing.set_host_call(program, look)
    step(vector)
    during, after = counts[0], sys.getrefcount(vector)
    assert during > after
    assert after == 2


def add_slowly(fn: Any) -> None:
    """Reads a number, gives other threads a chance, and writes it back with one more."""
    place = fn.load("ptr", "%feeds")
    value = fn.load("i64", place)
    fn.call("i32", fn.module.declare("sched_yield", "i32", ""))
    fn.store("i64", fn.emit(f"add i64 {value}, 1"), place)
    testing.succeed(fn)


@pytest.mark.parametrize("work", [0, 10**6])
def test_writers_exclude_each_other(work: int) -> None:
    counter = Variable(0, "i64")
    slots = testing.slots_of({"c": (Type("i64"), True)})
    signature = signature_of([], [], slots=slots, locks=True, work=work)
    step, program = build(signature, add_slowly, slots=[counter.address])

    def work_through(run: Any) -> None:
        for _ in range(300):
            run()

    threads = [threading.Thread(target=work_through, args=(r,)) for r in (step, step, program.miss)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.array == 900
    assert list(program.lock) == [0, 0]


def test_the_lock_is_reentrant_and_released_by_failures() -> None:
    step, program = build(signature_of([], [], python=True, locks=True), testing.host_call)
    depths: list[int] = []

    def nested(context: int, feeds: int, outs: int) -> int:
        depths.append(program.lock[1])
        if len(depths) < 3:
            step()
        return 5 if len(depths) == 4 else 0

    testing.set_host_call(program, nested)
    step()
    assert depths == [1, 2, 3]
    with pytest.raises(KernelError):
        step()
    with pytest.raises(TypeError):
        step(1)
    assert list(program.lock) == [0, 0]
