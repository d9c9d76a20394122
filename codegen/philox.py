"""Philox random numbers as LLVM: functions that fill memory, one for each distribution and dtype.

A call reserves its blocks by an atomic addition to the stream's state, so that steps which run at
the same time never share a number, and draws what ``stepforge.ir.philox`` draws. Each element of a
vector makes a block of its own: two multiplications of 32 x 32 bits a round, for which every word
lives in the lower half of a u64. Two such vectors go side by side, because one alone would wait
for its products.
"""

from __future__ import annotations

from dataclasses import dataclass

from stepforge.codegen import philox_distributions as distributions
from stepforge.codegen.lane_core import Lane, register_element, storage_bytes
from stepforge.codegen.lanes import LaneBuilder
from stepforge.codegen.llvm import UNLIKELY, FunctionWriter, ModuleWriter
from stepforge.codegen.target import Target
from stepforge.ir.philox import (
    BLOCKS_PER_NUMBER,
    KEY_STEPS,
    LOW_WORD,
    MULTIPLIERS,
    ROUNDS,
    TRUNCATION,
    WORDS_PER_NUMBER,
)

STATE_KEY, STATE_RESERVED, STATE_UPPER = 0, 8, 16  # byte offsets in ``Stream.state``
VECTORS = 2  # of counters, side by side


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


@dataclass(frozen=True, slots=True)
class _Key:
    """What a stream's numbers depend on beside the number of the block: u64 of width 1."""

    key: Lane
    upper: Lane


def _load_key(fn: FunctionWriter, state: str) -> _Key:
    key, upper = (fn.load("i64", state, offset) for offset in (STATE_KEY, STATE_UPPER))
    return _Key(Lane("u64", key), Lane("u64", upper))


def _words(k: LaneBuilder, blocks: Lane, key: _Key) -> tuple[Lane, Lane, Lane, Lane]:
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
    """Writes the function that fills memory with one kind of number."""

    def __init__(
        self, module: ModuleWriter, target: Target, name: str, kind: str, dtype: str
    ) -> None:
        self.kind, self.dtype = kind, dtype
        params = [("ptr", "state"), ("ptr", "out"), ("i64", "count")]
        if kind == "uniform_int":
            params += [(register_element(dtype), bound) for bound in ("low", "high")]
        self.fn = fn = FunctionWriter(
            module, name, "void", params, linkage="internal", attributes="noinline"
        )
        self.k = LaneBuilder(fn, VECTORS * target.vector_bits // 64, has_fma=target.has("fma"))
        self.one = self.k.rewritten(width=1)
        self.group = 4 // _words_per_number(dtype)  # numbers of a block
        self.many = self.k.rewritten(width=self.group * self.k.width)
        self.key = _load_key(fn, "%state")
        self.range: distributions.Range | None = None
        self.raw = ""  # where numbers wait for those that replace the rejected ones

    def text(self) -> str:
        """The function: whole turns go to their place, the last one by way of the stack."""
        fn, size, turn = self.fn, storage_bytes(self.dtype), self.many.width
        if self.kind == "uniform_int":
            low, high = Lane(self.dtype, "%low"), Lane(self.dtype, "%high")
            self.range = distributions.integer_range(self.one, low, high)
        reserved = fn.emit(f"mul i64 %count, {BLOCKS_PER_NUMBER}")
        cell = fn.offset("%state", STATE_RESERVED)
        first = fn.emit(f"atomicrmw add ptr {cell}, i64 {reserved} monotonic")
        last_turn = fn.alloca("i8", turn * size, align=64)

        def fill(i: str) -> None:
            whole = fn.emit(f"icmp sge i64 {fn.emit(f'sub i64 %count, {i}')}, {turn}")
            place = fn.offset("%out", fn.emit(f"mul i64 {i}, {size}"))
            place = fn.emit(f"select i1 {whole}, ptr {place}, ptr {last_turn}")
            self.many.store(self._numbers(first, i), place)

        fn.loop(0, "%count", fill, step=turn)
        rest = fn.emit(f"and i64 %count, {turn - 1}")
        done = fn.emit(f"mul i64 {fn.emit(f'sub i64 %count, {rest}')}, {size}")
        self._copy(fn.offset("%out", done), last_turn, fn.emit(f"mul i64 {rest}, {size}"))
        fn.do("ret void")
        return fn.finish()

    def _copy(self, target: str, source: str, size: str) -> None:
        copy = self.fn.module.declare("llvm.memcpy.p0.p0.i64", "void", "ptr, ptr, i64, i1")
        self.fn.call("void", copy, ("ptr", target), ("ptr", source), ("i64", size), ("i1", "false"))

    def _numbers(self, first: str, i: str) -> Lane:
        """The numbers of one turn, from number ``i`` on."""
        k = self.k
        if self.kind == "truncated_normal":
            return self._truncated(first, i)
        words = _words(k, self._blocks(first, f"udiv exact i64 {i}, {self.group}", 1), self.key)
        if self.kind == "uniform":
            return distributions.uniform(k, words, self.dtype)
        if self.range is not None:
            return distributions.uniform_int(k, words, self.range)
        return self.many.convert(distributions.normal(k, words, self.dtype), self.dtype)

    def _blocks(self, first: str, behind: str, step: int) -> Lane:
        """Numbers of blocks, ``step`` apart, the first of them ``behind`` (an instruction)."""
        start = self.fn.emit(f"add i64 {first}, {self.fn.emit(behind)}")
        steps = self.k.mul(self.k.iota("u64"), step)
        return self.k.add(steps, self.k.splat(Lane("u64", start)))

    # ---- truncated ------------------------------------------------------------------------------
    def _truncated(self, first: str, i: str) -> Lane:
        """As many numbers as a block gives are a group, which has all blocks to itself that its
        numbers have reserved: it takes as many as it rejects."""
        fn, many, wide = self.fn, self.many, _computed(self.dtype)
        step = self.group * BLOCKS_PER_NUMBER // 4
        blocks = self._blocks(first, f"mul i64 {i}, {step // self.group}", step)
        numbers = distributions.normal(self.k, _words(self.k, blocks, self.key), self.dtype)
        self.raw = self.raw or fn.alloca("i8", many.width * storage_bytes(wide), align=64)
        many.store(numbers, self.raw)
        rejected = many.ge(many.abs(numbers), TRUNCATION)
        bits = fn.emit(f"bitcast <{many.width} x i1> {rejected.text} to i{many.width}")
        redraw = _redraw(fn.module, wide, self.k)

        def check(group: str) -> None:
            at = fn.emit(f"mul i64 {group}, {self.group}")
            ...

        fn.loop(0, self.k.width, check)
        return many.convert(many.load(self.raw, wide), self.dtype)
