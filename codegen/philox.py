"""Philox random numbers as LLVM: functions that fill memory, one for each distribution and dtype.

A call reserves its blocks by an atomic addition to the stream's state, so that steps which run at
the same time never share a number, and draws what ``stepforge.ir.philox`` draws. Each element of a
vector makes a block of its own: two multiplications of 32 x 32 bits a round, for which every word
lives in the lower half of a u64. Two such vectors go side by side, because one alone would wait
for its products.
"""

from __future__ import annotations

from typing import TypeAlias

from stepforge.codegen import philox_distributions as distributions
from stepforge.codegen.lane_core import Lane, bits_of, register_element, storage_bytes
from stepforge.codegen.lanes import LaneBuilder
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter
from stepforge.codegen.target import Target
from stepforge.ir.philox import (
    BLOCKS_PER_NUMBER,
    KEY_STEPS,
    LOW_WORD,
    MULTIPLIERS,
    ROUNDS,
    TRUNCATION,
)
from stepforge.ir.records import record

STATE_KEY, STATE_RESERVED, STATE_UPPER = 0, 8, 16  # byte offsets in ``Stream.state``
BLOCK_BITS = 128
VECTORS = 2  # of counters, side by side
Words: TypeAlias = tuple[Lane, Lane, Lane, Lane]


def emit_fill(
    fn: FunctionWriter,
    target: Target,
    kind: str,
    dtype: str,
    state: str,
    out: str,
    count: str,
    *,
    low: Lane | None = None,
    high: Lane | None = None,
) -> None:
    """Write ``count`` (i64 text) numbers of the stream at ``state`` to ``out``.

    ``kind`` is uniform, normal or truncated_normal (f16 bf16 f32 f64), or uniform_int (i32 i64 u32
    u64), which takes integers in [``low``, ``high``).
    """
    name = f"philox_{kind}_{dtype}"
    callee = fn.module.helper(name, lambda: _Fill(fn.module, target, name, kind, dtype).text())
    bounds = [(register_element(x.dtype), x.text) for x in (low, high) if x is not None]
    fn.call("void", callee, ("ptr", state), ("ptr", out), ("i64", count), *bounds)


@record(frozen=True, slots=True)
class _Key:
    """What a stream's numbers depend on beside the number of the block: u64 of width 1."""

    key: Lane
    upper: Lane


def _load_key(fn: FunctionWriter, state: str) -> _Key:
    key, upper = (fn.load("i64", state, offset) for offset in (STATE_KEY, STATE_UPPER))
    return _Key(Lane("u64", key), Lane("u64", upper))


def _words(k: LaneBuilder, blocks: Lane, key: _Key) -> Words:
    """The four words of the blocks of the given numbers, each in the lower half of a u64."""
    one = k.rewritten(width=1)
    c0, c1 = blocks, k.shr(blocks, 32)
    c2, c3 = k.splat(key.upper), k.splat(one.shr(key.upper, 32))
    key0, key1 = key.key, one.shr(key.key, 32)
    for _ in range(ROUNDS):
        product0 = k.mul(k.and_(c0, LOW_WORD), MULTIPLIERS[0])
        product1 = k.mul(k.and_(c2, LOW_WORD), MULTIPLIERS[1])
        c0 = k.xor(k.xor(k.shr(product1, 32), c1), k.splat(key0))
        c2 = k.xor(k.xor(k.shr(product0, 32), c3), k.splat(key1))
        c1, c3 = product1, product0
        key0, key1 = one.add(key0, KEY_STEPS[0]), one.add(key1, KEY_STEPS[1])
    return c0, c1, c2, c3


class _Fill:
    """Writes the function that fills memory with numbers of one kind and dtype."""

    def __init__(
        self, module: ModuleWriter, target: Target, name: str, kind: str, dtype: str
    ) -> None:
        self.kind, self.dtype = kind, dtype
        self.wide = "f64" if dtype == "f64" else "f32"  # what normal numbers are made in
        params = [("ptr", "state"), ("ptr", "out"), ("i64", "count")]
        if kind == "uniform_int":
            params += [(register_element(dtype), bound) for bound in ("low", "high")]
        self.fn = fn = FunctionWriter(
            module, name, "void", params, linkage="internal", attributes="noinline"
        )
        self.k = LaneBuilder(fn, VECTORS * target.vector_bits // 64, target.capabilities)
        self.one = self.k.rewritten(width=1)
        self.group = BLOCK_BITS // bits_of(dtype)  # numbers that a block gives
        self.many = self.k.rewritten(width=self.group * self.k.width)
        self.key = _load_key(fn, "%state")
        self.range: distributions.Range | None = None

    def text(self) -> str:
        """The function: whole turns go to their place, the last numbers by way of the stack."""
        fn, size, turn = self.fn, storage_bytes(self.dtype), self.many.width
        if self.kind == "uniform_int":
            low, high = Lane(self.dtype, "%low"), Lane(self.dtype, "%high")
            self.range = distributions.integer_range(self.one, low, high)
        reserved = fn.emit(f"mul i64 %count, {BLOCKS_PER_NUMBER}")
        cell = fn.offset("%state", STATE_RESERVED)
        first = fn.emit(f"atomicrmw add ptr {cell}, i64 {reserved} monotonic")
        last = fn.alloca("i8", turn * size, align=64)

        def fill(i: str) -> None:
            whole = fn.emit(f"icmp sge i64 {fn.emit(f'sub i64 %count, {i}')}, {turn}")
            place = fn.offset("%out", fn.emit(f"mul i64 {i}, {size}"))
            numbers = self._numbers(first, i)
            self.many.store(numbers, fn.emit(f"select i1 {whole}, ptr {place}, ptr {last}"))

        fn.loop(0, "%count", fill, step=turn)
        rest = fn.emit(f"and i64 %count, {turn - 1}")
        done = fn.emit(f"mul i64 {fn.emit(f'sub i64 %count, {rest}')}, {size}")
        _copy(fn, fn.offset("%out", done), last, fn.emit(f"mul i64 {rest}, {size}"))
        fn.do("ret void")
        return fn.finish()

    def _numbers(self, first: str, i: str) -> Lane:
        """The numbers of one turn, of which ``i`` is the first."""
        if self.kind == "truncated_normal":
            skipped = self.fn.emit(f"mul i64 {i}, {BLOCKS_PER_NUMBER // 4}")
            return self._truncated(self.fn.emit(f"add i64 {first}, {skipped}"))
        used = self.fn.emit(f"udiv exact i64 {i}, {self.group}")
        words = self._words(self.fn.emit(f"add i64 {first}, {used}"), 1)
        if self.kind == "uniform":
            return distributions.uniform(self.k, words, self.dtype)
        if self.range is not None:
            return distributions.uniform_int(self.k, words, self.range)
        return self.many.convert(distributions.normal(self.k, words, self.wide), self.dtype)

    def _words(self, start: str, step: int) -> Words:
        """The words of blocks that are ``step`` apart, from number ``start`` on."""
        steps = self.k.mul(self.k.iota("u64"), step)
        return _words(self.k, self.k.add(steps, self.k.splat(Lane("u64", start))), self.key)

    def _truncated(self, start: str) -> Lane:
        """As the normal numbers of a turn; then each group replaces what it has to reject.

        A group is as many numbers as one block gives. It has all blocks to itself that its numbers
        reserve, and begins with the first of them.
        """
        fn, many, step = self.fn, self.many, self.group * BLOCKS_PER_NUMBER // 4
        numbers = distributions.normal(self.k, self._words(start, step), self.wide)
        waiting = fn.alloca("i8", many.width * storage_bytes(self.wide), align=64)
        many.store(numbers, waiting)
        rejected = fn.alloca("i8", many.width)
        many.store(many.ge(many.abs(numbers), TRUNCATION), rejected)
        redraw = _redraw(fn.module, self.one, self.wide)

        def check(number: str) -> None:
            at = fn.emit(f"mul i64 {number}, {self.group}")
            flags = fn.load(f"i{8 * self.group}", fn.offset(rejected, at))

            def replace() -> None:
                block = fn.emit(f"add i64 {start}, {fn.emit(f'mul i64 {number}, {step}')}")
                place = fn.offset(waiting, at, register_element(self.wide))
                fn.call("void", redraw, ("ptr", "%state"), ("i64", block), ("ptr", place))

            fn.if_(fn.emit(f"icmp ne i{8 * self.group} {flags}, 0"), replace)

        fn.loop(0, self.k.width, check)
        return many.convert(many.load(waiting, self.wide), self.dtype)


def _redraw(module: ModuleWriter, k: LaneBuilder, dtype: str) -> str:
    """A function that goes on with a group whose first block gave a number to reject.

    What is kept of that block and of those that follow moves up, until the group is full.
    """
    name = f"philox_redraw_{dtype}"
    return module.helper(name, lambda: _redraw_text(module, name, k, dtype))


def _redraw_text(module: ModuleWriter, name: str, k: LaneBuilder, dtype: str) -> str:
    params = [("ptr", "state"), ("i64", "first"), ("ptr", "group")]
    fn = FunctionWriter(module, name, "void", params, linkage="internal", attributes="noinline")
    one, key, element = k.rewritten(fn), _load_key(fn, "%state"), register_element(dtype)
    size = BLOCK_BITS // bits_of(dtype)
    kept, filled, block = fn.alloca(element, 2 * size), fn.alloca("i64"), fn.alloca("i64")
    fn.store("i64", "0", filled)
    fn.store("i64", "%first", block)

    def keep(number: Lane) -> None:
        at = fn.load("i64", filled)
        one.store(number, fn.offset(kept, at, element))
        taken = one.convert(one.lt(one.abs(number), TRUNCATION), "i64").text
        fn.store("i64", fn.emit(f"add i64 {at}, {taken}"), filled)

    for i in range(size):
        keep(one.load(fn.offset("%group", i, element), dtype))
    again, full = fn.label("again"), fn.label("full")
    fn.branch(again)
    fn.start(again)
    following = fn.emit(f"add i64 {fn.load('i64', block)}, 1")
    fn.store("i64", following, block)
    words = _words(one, Lane("u64", following), key)
    for number in distributions.normal_columns(one, words, dtype):
        keep(number)
    lacking = fn.emit(f"icmp ult i64 {fn.load('i64', filled)}, {size}")
    fn.branch_if(lacking, again, full)
    fn.start(full)
    _copy(fn, "%group", kept, str(size * storage_bytes(dtype)))
    fn.do("ret void")
    return fn.finish()


def _copy(fn: FunctionWriter, target: str, source: str, size: str) -> None:
    copy = fn.module.declare("llvm.memcpy.p0.p0.i64", "void", "ptr, ptr, i64, i1")
    fn.call("void", copy, ("ptr", target), ("ptr", source), ("i64", size), ("i1", "false"))
