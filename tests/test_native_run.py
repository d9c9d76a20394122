"""The native ``Session.run``: what it knows, what it leaves to the session, and what it owns."""

from __future__ import annotations

import collections
import gc
import sys
import threading
import weakref
from typing import Any

import entry_testing as testing
import numpy as np
import pytest
from entry_testing import build, dense, signature_of

from stepforge.codegen.signature import Fetch
from stepforge.ir.types import Type
from stepforge.runtime import native_run
from stepforge.runtime.native_run import PythonRunner, make_runner

F64 = Type("f64")


class Tensor:
    """Compared and hashed by identity."""


class Slow:
    """The session's side: remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any]] = []

    def __call__(self, *args: Any, **keywords: Any) -> str:
        self.calls.append((args, keywords))
        return "slow"


@pytest.fixture(scope="module")
def axb() -> Any:
    """A step that computes a * b + c."""
    return build(signature_of([F64] * 3, dense(F64), "single"), testing.axb_scalar)[0]


@pytest.fixture
def known(axb: Any) -> Any:
    """A runner that knows one fetch with three feeds, and its session and tensors."""
    slow = Slow()
    runner = make_runner(slow)
    tensors = [Tensor() for _ in range(4)]
    runner.remember(tensors[0], tuple(tensors[1:]), axb)
    return runner, slow, tensors


def test_forms_of_the_call(known: Any) -> None:
    runner, slow, (y, a, b, c) = known
    feeds = {a: 2.0, b: np.array(3.0), c: np.float64(4.0)}
    assert runner(y, feeds) == 10
    assert runner(y, feed_dict=feeds) == 10
    assert runner(fetches=y, feed_dict=feeds) == 10
    assert slow.calls == []
    assert runner(feed_dict=feeds, fetches=y) == "slow"  # right, if not fast
    assert slow.calls.pop() == ((), {"feed_dict": feeds, "fetches": y})


def test_feeds_in_any_order(known: Any) -> None:
    runner, slow, (y, a, b, c) = known
    values = {a: 2.0, b: 3.0, c: 4.0}
    for order in ((a, b, c), (c, b, a), (b, c, a), (c, a, b)):
        assert runner(y, {key: values[key] for key in order}) == 10
    assert slow.calls == []


def test_what_the_session_gets(known: Any) -> None:
    runner, slow, (y, a, b, c) = known
    feeds = {a: 1.0, b: 2.0, c: 3.0}
    other = Tensor()
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((), {}),
        ((other, feeds), {}),
        ((y,), {}),
        ((y, {}), {}),
        ((y, {a: 1.0, b: 2.0}), {}),
        ((y, {a: 1.0, b: 2.0, other: 3.0}), {}),
        ((y, {**feeds, other: 3.0}), {}),
        (([y], feeds), {}),
        (((y,), feeds), {}),
        (({"y": y}, feeds), {}),
        ((y, collections.OrderedDict(feeds)), {}),
        ((y, [1, 2]), {}),
        ((y, 3), {}),
        ((y, feeds, None), {}),
        ((y, feeds), {"options": None}),
        ((y,), {"feed": feeds}),
        ((), {"feed_dict": feeds}),
        ((y, feeds, None, None), {}),
        ((y, {Tensor(): k for k in range(100)}), {}),
    ]
    for args, keywords in calls:
        assert runner(*args, **keywords) == "slow"
        assert slow.calls[-1] == (args, keywords)
    assert len(slow.calls) == len(calls)


def test_lists_and_tuples_of_fetches(known: Any, axb: Any) -> None:
    runner, slow, (y, a, b, c) = known
    z, feeds = Tensor(), {a: 1.0, b: 2.0, c: 3.0}
    runner.remember([y, z], (a, b, c), axb)
    runner.remember((z,), (c, b, a), axb)
    assert runner([y, z], feeds) == 5
    assert runner((z,), feeds) == 7
    for fetches in ([z, y], (y, z), [y], [z], [y, z, z], (z, z), [], ()):
        assert runner(fetches, feeds) == "slow"
    runner.remember([], (a, b, c), axb)
    assert runner([], feeds) == 5
    assert len(slow.calls) == 8


def test_no_feeds(known: Any) -> None:
    runner, slow, (y, *_) = known
    step, _ = build(signature_of([], [Fetch("none")], "single"), testing.succeed)
    runner.remember(y, (), step)
    for call in ((y,), (y, None), (y, {})):
        assert runner(*call) is None
    assert runner(y, feed_dict=None) is None
    assert runner(fetches=y) is None
    assert slow.calls == []


def test_forgetting_and_learning_again(known: Any, axb: Any) -> None:
    runner, slow, (y, a, b, c) = known
    feeds = {a: 1.0, b: 2.0, c: 3.0}
    runner.forget_all()
    assert runner(y, feeds) == "slow"
    runner.remember(y, (a, b, c), axb)
    runner.remember(y, (c, b, a), axb)  # replaces the first
    assert runner(y, feeds) == 7
    assert repr(runner) == "<run of 1 known steps>"
    assert len(slow.calls) == 1


def test_many_entries(axb: Any) -> None:
    slow = Slow()
    runner = make_runner(slow)
    keys = tuple(Tensor() for _ in range(3))
    fetches = [Tensor() for _ in range(native_run.MAX_ENTRIES + 10)]
    feeds = dict(zip(keys, (1.0, 2.0, 3.0), strict=True))
    for fetch in fetches:
        runner.remember(fetch, keys, axb)
    for _ in range(3):  # entries move while they run, none gets lost
        for fetch in fetches[10:]:
            assert runner(fetch, feeds) == 5
    assert slow.calls == []
    assert [runner(fetch, feeds) for fetch in fetches[:10]] == ["slow"] * 10


def test_many_feeds() -> None:
    count = native_run.MAX_FEEDS
    types = [Type("f64")] * 10
    step, _ = build(signature_of(types, dense(types[9]), "single"), testing.copy_feeds(types[:1]))
    slow = Slow()
    runner = make_runner(slow)
    y, keys = Tensor(), tuple(Tensor() for _ in range(count + 1))
    runner.remember(y, keys[:10], step)
    assert runner(y, {key: float(k) for k, key in enumerate(keys[:10])}) == 0
    runner.remember(y, keys, step)  # more than it takes: not remembered
    assert runner(y, dict.fromkeys(keys, 1.0)) == "slow"


def test_what_is_not_remembered(known: Any, axb: Any) -> None:
    runner, _, (y, a, b, c) = known
    runner.remember([y, [y]], (a, b, c), axb)
    runner.remember({"y": y}, (a, b, c), axb)
    assert repr(runner) == "<run of 1 known steps>"
    with pytest.raises(TypeError, match="needs a Step, not int"):
        runner.remember(y, (a, b, c), 3)


def test_errors_of_steps_and_sessions(known: Any) -> None:
    runner, _, (y, a, b, c) = known
    with pytest.raises(TypeError, match="b:0"):
        runner(y, {a: 1.0, b: object(), c: 3.0})

    def closed(*args: Any, **keywords: Any) -> Any:
        raise RuntimeError("Attempted to use a closed Session.")

    with pytest.raises(RuntimeError, match="closed Session"):
        make_runner(closed)(y)


def test_references(axb: Any) -> None:
    slow = Slow()
    runner = make_runner(slow)
    y, a, b, c = (Tensor() for _ in range(4))
    number = np.array(1.5)
    feeds = {a: number, b: number, c: number}
    counted = (y, a, b, c, number, feeds, axb, slow)
    start = [sys.getrefcount(value) for value in counted]
    runner.remember(y, (a, b, c), axb)
    runner.remember([y, y], (a, b, c), axb)
    for _ in range(100):
        runner(y, feeds)
    learnt, memory = [sys.getrefcount(value) for value in counted], testing.resident_bytes()
    for _ in range(100_000):
        runner(y, feeds)
        runner([y, y], feed_dict=feeds)
    for _ in range(1000):
        runner(a, feeds)
    slow.calls.clear()
    gc.collect()
    assert [sys.getrefcount(value) for value in counted] == learnt
    assert testing.resident_bytes() - memory < 1_000_000
    runner.forget_all()
    assert [sys.getrefcount(value) for value in counted] == start
    del runner
    assert [sys.getrefcount(value) for value in counted] == [*start[:-1], start[-1] - 1]


def test_cycles_are_collected(axb: Any) -> None:
    class Session:
        def __init__(self) -> None:
            self.run = make_runner(self.slow_run)

        def slow_run(self, *args: Any) -> Any:
            return args

    session = Session()
    tensor = Tensor()
    session.run.remember(tensor, (), axb)
    session.run.remember(session, (session,), axb)
    alive = [weakref.ref(value) for value in (session, session.run, tensor)]
    assert session.run(3) == (3,)
    del session, tensor
    gc.collect()
    assert [reference() for reference in alive] == [None] * 3


def test_the_dictionary_may_change_while_the_step_runs() -> None:
    feeds: dict[Any, Any] = {}
    runner = make_runner(Slow())

    class Clearing:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            feeds.clear()
            runner.forget_all()
            gc.collect()
            return np.array(2.0)

    step, _ = build(signature_of([F64] * 3, dense(F64), "single"), testing.axb_scalar)
    y, a, b, c = (Tensor() for _ in range(4))
    runner.remember(y, (a, b, c), step)
    del step
    feeds.update({a: np.array([3.0])[0], b: Clearing(), c: np.array(1.0)})
    assert runner(y, feeds) == 7


def test_threads(axb: Any) -> None:
    runner = make_runner(Slow())
    keys = tuple(Tensor() for _ in range(3))
    fetches = [Tensor() for _ in range(40)]
    wrong: list[Any] = []

    def work(seed: int) -> None:
        for k in range(3000):
            fetch = fetches[(k * seed) % len(fetches)]
            if k % 50 == 0:
                runner.remember(fetch, keys, axb)
            if k % 1000 == 999:
                runner.forget_all()
            result = runner(fetch, {keys[0]: 2.0, keys[1]: float(seed), keys[2]: 1.0})
            if result not in ("slow", 2.0 * seed + 1):
                wrong.append(result)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 3, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert wrong == []


def test_a_runner_is_an_ordinary_object() -> None:
    slow = Slow()
    runner = make_runner(slow)
    assert callable(runner)
    assert runner.__wrapped__ is slow
    assert "feed_dict" in runner.__doc__
    with pytest.raises(TypeError):
        type(runner)(slow)
    with pytest.raises(AttributeError):
        runner.anything = 1


def test_the_python_runner(monkeypatch: pytest.MonkeyPatch, axb: Any) -> None:
    monkeypatch.setenv("STEPFORGE_ENTRY", "python")
    slow = Slow()
    runner = make_runner(slow)
    assert isinstance(runner, PythonRunner)
    runner.remember(1, (), axb)
    runner.forget_all()
    assert runner(1, feed_dict={}) == "slow"
    assert slow.calls == [((1,), {"feed_dict": {}})]
