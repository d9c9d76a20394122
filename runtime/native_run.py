"""``Session.run`` without Python: a native callable that knows which fetches and feeds ran before.

It is installed as the ``run`` attribute of a session. A call whose fetches and feed keys are,
object for object, those of an earlier one goes straight to its step; any other goes to the session,
which runs it and calls ``remember``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from stepforge.codegen import entry_support, jit, layout, target
from stepforge.codegen.entry_support import (
    COUNT_MASK,
    STEP_VECTORCALL,
    call_method,
    decrease,
    increase,
)
from stepforge.codegen.llvm import LIKELY, FunctionWriter, ModuleWriter
from stepforge.runtime import heap_type
from stepforge.runtime.step import step_type

MAX_FEEDS = 64
MAX_ENTRIES = 256  # what ran longest ago is forgotten beyond
_PROMOTE_FROM = 4  # entries this far back move half the way forward when they run

_SLOW, _ENTRIES = 24, 32  # offsets of the two members

# An entry is a tuple. ``kind`` is list or tuple, or None for one fetch; ``fetches`` then is it.
_KIND, _FETCHES, _KEYS, _STEP = (layout.TUPLE_ITEMS + 8 * k for k in range(4))


def make_runner(slow_run: Callable[..., Any]) -> Any:
    """A ``Runner`` that sends what it does not know to ``slow_run(*args, **kwargs)``."""
    if not layout.native_entry():
        return PythonRunner(slow_run)
    return heap_type.allocate(_runner_type(), _call_address(), {_SLOW: slow_run, _ENTRIES: []})


class PythonRunner:
    """A runner without native code: every call is slow."""

    def __init__(self, slow_run: Callable[..., Any]) -> None:
        self.__wrapped__ = slow_run

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """Run the session."""
        return self.__wrapped__(*args, **keywords)

    def remember(self, fetches: Any, feed_keys: tuple[Any, ...], step: Any) -> None:
        """Nothing: there is no native look-up to teach."""

    def forget_all(self) -> None:
        """Nothing, likewise."""


# ---- the Python half of Runner ------------------------------------------------------------------


def _remember(self: Any, fetches: Any, feed_keys: tuple[Any, ...], step: Any) -> None:
    """Let further calls with these fetches and feed keys, in any order, call ``step`` directly.

    ``step`` takes the feeds in the order of ``feed_keys``. Fetches are compared by identity: one
    object, or those in a list or tuple. What native code could not tell apart so is not remembered.
    """
    kind = type(fetches) if type(fetches) in (list, tuple) else None
    flat = tuple(fetches) if kind else (fetches,)
    containers = (list, tuple, dict, set)
    if len(feed_keys) > MAX_FEEDS or any(isinstance(fetch, containers) for fetch in flat):
        return
    if type(step) is not step_type():
        raise TypeError(f"a native runner needs a Step, not {type(step).__name__}")
    entry = (kind, flat if kind else fetches, tuple(feed_keys), step)
    key = _identity(entry)
    others = [known for known in self._entries if _identity(known) != key]
    self._entries[:] = [entry, *others][:MAX_ENTRIES]


def _identity(entry: tuple[Any, ...]) -> tuple[Any, ...]:
    kind, fetches, keys, _ = entry
    flat = fetches if kind else (fetches,)
    return kind, tuple(map(id, flat)), frozenset(map(id, keys))


def _forget_all(self: Any) -> None:
    """Send every further call to the session."""
    self._entries.clear()


def _repr(self: Any) -> str:
    return f"<run of {len(self._entries)} known steps>"


@cache
def _runner_type() -> type[Any]:
    doc = "run(fetches, feed_dict=None): the values of fetches, computed from the values of feeds."
    members = {"__wrapped__": _SLOW, "_entries": _ENTRIES}
    methods = {"remember": _remember, "forget_all": _forget_all, "__repr__": _repr}
    return heap_type.make_type("stepforge.runtime.native_run.Runner", doc, members, methods)


# ---- the native half ----------------------------------------------------------------------------


@cache
def _call_address() -> int:
    host = target.host()
    module = ModuleWriter(host.triple, host.attributes)
    for emit in (_emit_same_fetches, _emit_take_feeds, _emit_call):
        emit(module)
    addresses = entry_support.symbols(module.externals())
    library = jit.build(module.text(), "O1", addresses, ["run"])
    layout.keep(library)
    return library["run"]


def _give(fn: FunctionWriter, condition: str, value: str) -> None:
    """Return the i1 ``value`` where ``condition`` holds, else go on."""
    leave, stay = fn.label("leave"), fn.label("stay")
    fn.branch_if(condition, leave, stay)
    fn.start(leave)
    fn.do(f"ret i1 {value}")
    fn.start(stay)


def _item(fn: FunctionWriter, items: str, index: str) -> str:
    return fn.load("ptr", fn.offset(items, index, "ptr"))


def _emit_same_fetches(module: ModuleWriter) -> None:
    """True where an entry's fetches are these, of that kind, with ``size`` items."""
    params = [
        ("ptr", "known"),
        ("ptr", "kind"),
        ("ptr", "fetches"),
        ("ptr", "items"),
        ("i64", "size"),
    ]
    fn = FunctionWriter(
        module, "same_fetches", "i1", params, linkage="internal", attributes="alwaysinline"
    )
    kind, known = fn.load("ptr", "%known", _KIND), fn.load("ptr", "%known", _FETCHES)
    _give(fn, fn.emit(f"icmp ne ptr {kind}, %kind"), "false")
    single = fn.emit(f"icmp eq ptr %kind, {module.extern('Py_None')}")
    _give(fn, single, fn.emit(f"icmp eq ptr {known}, %fetches"))
    size = fn.load("i64", known, layout.VARIABLE_SIZE)
    _give(fn, fn.emit(f"icmp ne i64 {size}, %size"), "false")
    own = fn.offset(known, layout.TUPLE_ITEMS)

    def compare(i: str) -> None:
        _give(fn, fn.emit(f"icmp ne ptr {_item(fn, own, i)}, {_item(fn, '%items', i)}"), "false")

    fn.loop(0, "%size", compare)
    fn.do("ret i1 true")
    fn.define()


def _emit_take_feeds(module: ModuleWriter) -> None:
    """Put the values of ``feeds`` into ``values`` in the order of ``keys``; false if keys differ.

    Both have ``count`` keys, all different; usually they come in the same order.
    """
    params = [("ptr", "keys"), ("ptr", "feeds"), ("i64", "count"), ("ptr", "values")]
    fn = FunctionWriter(
        module, "take_feeds", "i1", params, linkage="internal", attributes="alwaysinline"
    )
    position, key, value = fn.alloca("i64"), fn.alloca("ptr"), fn.alloca("ptr")
    following = module.declare("PyDict_Next", "i32", "ptr, ptr, ptr, ptr")
    items = fn.offset("%keys", layout.TUPLE_ITEMS)
    fn.store("i64", "0", position)

    def take(i: str) -> None:
        cells = [("ptr", "%feeds"), ("ptr", position), ("ptr", key), ("ptr", value)]
        fn.call("i32", following, *cells)
        wanted = fn.load("ptr", key)
        expected, search = fn.label("expected"), fn.label("search")
        found = fn.label("found")
        same = fn.emit(f"icmp eq ptr {wanted}, {_item(fn, items, i)}")
        fn.branch_if(same, expected, search, LIKELY)
        fn.start(search)
        index = _search(fn, items, wanted)
        end = fn.block
        fn.branch(found)
        fn.start(expected)
        fn.branch(found)
        fn.start(found)
        place = fn.phi("i64", (index, end), (i, expected))
        fn.store("ptr", fn.load("ptr", value), fn.offset("%values", place, "ptr"))

    fn.loop(0, "%count", take)
    fn.do("ret i1 true")
    fn.define()


def _search(fn: FunctionWriter, items: str, wanted: str) -> str:
    """The index of ``wanted``; returns false from the function where it is not there."""

    def compare(j: str, index: str) -> list[str]:
        same = fn.emit(f"icmp eq ptr {_item(fn, items, j)}, {wanted}")
        return [fn.emit(f"select i1 {same}, i64 {j}, i64 {index}")]

    (index,) = fn.loop(0, "%count", compare, carried=[("i64", "-1")])
    _give(fn, fn.emit(f"icmp slt i64 {index}, 0"), "false")
    return index


def _emit_call(module: ModuleWriter) -> None:
    """``run(fetches, feed_dict=None)`` as a vectorcall."""
    params = [("ptr", "self"), ("ptr", "args"), ("i64", "nargsf"), ("ptr", "kwnames")]
    fn = FunctionWriter(module, "run", "ptr", params)
    values = fn.alloca("ptr", MAX_FEEDS)
    slow = fn.label("slow")
    positional = fn.emit(f"and i64 %nargsf, {COUNT_MASK}")
    given = _count_arguments(fn, positional, slow)
    fetches = fn.load("ptr", "%args")
    feeds, count = _count_feeds(fn, given, slow)
    kind, items, size = _look_at_fetches(fn, fetches)
    entries = fn.load("ptr", "%self", _ENTRIES)
    known, number = (
        fn.load("ptr", entries, layout.LIST_ITEMS),
        fn.load("i64", entries, layout.VARIABLE_SIZE),
    )

    def compare(i: str) -> None:
        entry = _item(fn, known, i)
        keys = fn.load("ptr", entry, _KEYS)
        length = fn.load("i64", keys, layout.VARIABLE_SIZE)
        following = fn.label("following")
        _go_on(fn, fn.emit(f"icmp eq i64 {length}, {count}"), following)
        args = [("ptr", entry), ("ptr", kind), ("ptr", fetches), ("ptr", items), ("i64", size)]
        _go_on(fn, fn.call("i1", "@same_fetches", *args), following)
        args = [("ptr", keys), ("ptr", feeds), ("i64", count), ("ptr", values)]
        _go_on(fn, fn.call("i1", "@take_feeds", *args), following)
        _promote(fn, known, i, entry)
        _return_step(fn, entry, values, count)
        fn.start(following)

    fn.loop(0, number, compare)
    fn.branch(slow)
    fn.start(slow)
    session = fn.load("ptr", "%self", _SLOW)
    fn.do(f"ret ptr {call_method(fn, session, '__call__', '%args', positional, '%kwnames')}")
    fn.define()


def _go_on(fn: FunctionWriter, condition: str, otherwise: str) -> None:
    yes = fn.label("yes")
    fn.branch_if(condition, yes, otherwise)
    fn.start(yes)


def _count_arguments(fn: FunctionWriter, positional: str, slow: str) -> str:
    """1 or 2: how many of (fetches, feed_dict) are given, by position or by name in that order."""
    start, keywords, ready = fn.block, fn.label("keywords"), fn.label("ready")
    fn.branch_if(fn.emit("icmp eq ptr %kwnames, null"), ready, keywords, LIKELY)
    fn.start(keywords)
    names = fn.load("i64", "%kwnames", layout.VARIABLE_SIZE)
    total = fn.emit(f"add i64 {positional}, {names}")
    _go_on(fn, fn.emit(f"icmp sle i64 {total}, 2"), slow)
    items = fn.offset("%kwnames", layout.TUPLE_ITEMS)

    def check(k: str) -> None:
        first = fn.emit(f"icmp eq i64 {fn.emit(f'add i64 {k}, {positional}')}, 0")
        texts = (fn.module.extern(f"string_{name}") for name in ("fetches", "feed_dict"))
        wanted = fn.emit(f"select i1 {first}, ptr {next(texts)}, ptr {next(texts)}")
        _go_on(fn, fn.emit(f"icmp eq ptr {_item(fn, items, k)}, {wanted}"), slow)

    fn.loop(0, names, check)
    end = fn.block
    fn.branch(ready)
    fn.start(ready)
    given = fn.phi("i64", (positional, start), (total, end))
    fewer = fn.emit(f"sub i64 {given}, 1")
    _go_on(fn, fn.emit(f"icmp ult i64 {fewer}, 2"), slow)
    return given


def _count_feeds(fn: FunctionWriter, given: str, slow: str) -> tuple[str, str]:
    """The feed dictionary and its size; None and 0 where nothing is fed."""
    none = fn.module.extern("Py_None")
    start, some, filled, ready = fn.block, fn.label("some"), fn.label("filled"), fn.label("ready")
    fn.branch_if(fn.emit(f"icmp eq i64 {given}, 2"), some, ready)
    fn.start(some)
    feeds = fn.load("ptr", "%args", 8)
    fn.branch_if(fn.emit(f"icmp eq ptr {feeds}, {none}"), ready, filled)
    fn.start(filled)
    kind = fn.load("ptr", feeds, layout.OBJECT_TYPE)
    _go_on(fn, fn.emit(f"icmp eq ptr {kind}, {fn.module.extern('PyDict_Type')}"), slow)
    size = fn.call("i64", fn.module.declare("PyDict_Size", "i64", "ptr"), ("ptr", feeds))
    _go_on(fn, fn.emit(f"icmp ule i64 {size}, {MAX_FEEDS}"), slow)
    end = fn.block
    fn.branch(ready)
    fn.start(ready)
    count = fn.phi("i64", ("0", start), ("0", some), (size, end))
    return fn.phi("ptr", (none, start), (feeds, some), (feeds, end)), count


def _look_at_fetches(fn: FunctionWriter, fetches: str) -> tuple[str, str, str]:
    """The kind of ``fetches`` as entries have it, its items and their number."""
    kind = fn.load("ptr", fetches, layout.OBJECT_TYPE)
    types = [fn.module.extern(name) for name in ("PyList_Type", "PyTuple_Type")]
    many_list, other, many_tuple, ready = (fn.label(k) for k in ("list", "other", "tuple", "ready"))
    fn.branch_if(fn.emit(f"icmp eq ptr {kind}, {types[0]}"), many_list, other)
    fn.start(many_list)
    listed = fn.load("ptr", fetches, layout.LIST_ITEMS)
    list_size = fn.load("i64", fetches, layout.VARIABLE_SIZE)
    fn.branch(ready)
    fn.start(other)
    fn.branch_if(fn.emit(f"icmp eq ptr {kind}, {types[1]}"), many_tuple, ready)
    fn.start(many_tuple)
    inside = fn.offset(fetches, layout.TUPLE_ITEMS)
    tuple_size = fn.load("i64", fetches, layout.VARIABLE_SIZE)
    fn.branch(ready)
    fn.start(ready)
    none = fn.module.extern("Py_None")
    found = fn.phi("ptr", (types[0], many_list), (none, other), (types[1], many_tuple))
    items = fn.phi("ptr", (listed, many_list), ("null", other), (inside, many_tuple))
    return (
        found,
        items,
        fn.phi("i64", (list_size, many_list), ("0", other), (tuple_size, many_tuple)),
    )


def _promote(fn: FunctionWriter, known: str, index: str, entry: str) -> None:
    """Swap an entry that stands far back with the one half the way to the front."""

    def swap() -> None:
        nearer = fn.offset(known, fn.emit(f"lshr i64 {index}, 1"), "ptr")
        other = fn.load("ptr", nearer)
        fn.store("ptr", entry, nearer)
        fn.store("ptr", other, fn.offset(known, index, "ptr"))

    fn.if_(fn.emit(f"icmp sge i64 {index}, {_PROMOTE_FROM}"), swap)


def _return_step(fn: FunctionWriter, entry: str, values: str, count: str) -> None:
    """Call the step of an entry; it and the values are held, as both may be forgotten meanwhile."""
    step = fn.load("ptr", entry, _STEP)
    increase(fn, step)
    fn.loop(0, count, lambda i: increase(fn, _item(fn, values, i)))
    code = fn.load("ptr", step, STEP_VECTORCALL)
    args = [("ptr", step), ("ptr", values), ("i64", count), ("ptr", "null")]
    result = fn.call("ptr", code, *args)
    fn.loop(0, count, lambda i: decrease(fn, _item(fn, values, i)))
    decrease(fn, step)
    fn.do(f"ret ptr {result}")
