"""TensorFlow's random numbers: Philox 4x32-10, its reservation rule and its distributions, in
NumPy.

A program that sets seeds prints the same losses here as under TensorFlow only if every draw
agrees, so this follows the CPU kernels of TensorFlow bit by bit. A block is the 128 bits (four
words of 32 bits) that the generator makes of a 64-bit key and a 128-bit counter. The key is
``seed``, the counter's upper half ``seed2``, its lower half the number of blocks reserved so far.
A run reserves far more blocks than it reads (256 for each number), which is why the second run
does not go on where the first stopped.

Source: Salmon and others, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011); TensorFlow's
``random_distributions.h``, ``random_op_cpu.h``, ``guarded_philox_random.h`` and
``multinomial_op.cc``.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from stepforge.ir.errors import InvalidArgumentError
from stepforge.ir.types import numpy_dtype

Array: TypeAlias = np.ndarray[Any, Any]

BLOCKS_PER_NUMBER = 256  # what TensorFlow reserves for each number of an output
TRUNCATION = 2.0  # truncated_normal keeps what is nearer to 0 than this
SMALLEST = 1e-7  # a uniform number below this is raised to it before the logarithm is taken
CHUNK_BLOCKS = 1 << 14  # blocks made at a time: ten rounds of four such columns stay in the cache
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
LOW_WORD = 0xFFFFFFFF
MASK_64 = (1 << 64) - 1


class Stream:
    """The state of one random op: ``state`` holds key, reserved blocks and upper counter as three
    u64.

    It stays at one address, so native code may reserve by an atomic addition to ``state[1]``.
    Seeds (0, 0) ask for a start that nobody can foresee, taken from the operating system.
    """

    def __init__(self, seed: int, seed2: int) -> None:
        if seed == 0 and seed2 == 0:
            seed, seed2 = (int.from_bytes(os.urandom(8), "little") for _ in range(2))
        self.state = np.array([seed & MASK_64, 0, seed2 & MASK_64], dtype=np.uint64)
        self._lock = threading.Lock()

    def reserve(self, blocks: int) -> int:
        """Take ``blocks`` blocks and return the number of the first of them."""
        with self._lock:
            first = int(self.state[1])
            self.state[1] = (first + blocks) & MASK_64
        return first

    def words(self, first: int, count: int) -> Array:
        """``count`` words from the start of block ``first`` on."""
        blocks = -(-count // 4)
        out = np.empty((blocks, 4), dtype=np.uint32)
        for start in range(0, blocks, CHUNK_BLOCKS):
            stop = min(start + CHUNK_BLOCKS, blocks)
            self._fill(out[start:stop], np.arange(first + start, first + stop, dtype=np.uint64))
        return out.reshape(-1)[:count]

    def blocks(self, numbers: Array) -> Array:
        """The blocks of the given ``numbers`` (u64), as rows of four words."""
        out = np.empty((numbers.size, 4), dtype=np.uint32)
        for start in range(0, numbers.size, CHUNK_BLOCKS):
            part = slice(start, start + CHUNK_BLOCKS)
            self._fill(out[part], numbers[part])
        return out

    def _fill(self, out: Array, numbers: Array) -> None:
        key, _, upper = (int(word) for word in self.state)
        counter = (
            numbers & LOW_WORD,
            numbers >> 32,
            np.full_like(numbers, upper & LOW_WORD),
            np.full_like(numbers, upper >> 32),
        )
        for column, words in enumerate(_rounds(counter, key & LOW_WORD, key >> 32)):
            out[:, column] = words


def _rounds(counter: tuple[Array, Array, Array, Array], key0: int, key1: int) -> tuple[Array, ...]:
    """Ten rounds over columns of words, each kept in the lower half of a u64."""
    c0, c1, c2, c3 = counter
    for _ in range(ROUNDS):
        product0 = c0 * np.uint64(MULTIPLIERS[0])
        product1 = c2 * np.uint64(MULTIPLIERS[1])
        c0 = (product1 >> 32) ^ c1 ^ np.uint64(key0)
        c2 = (product0 >> 32) ^ c3 ^ np.uint64(key1)
        c1 = product1 & LOW_WORD
        c3 = product0 & LOW_WORD
        key0 = (key0 + KEY_STEPS[0]) & LOW_WORD
        key1 = (key1 + KEY_STEPS[1]) & LOW_WORD
    return c0, c1, c2, c3


def _unit_f32(words: Array) -> Array:
    """Uniform in [0, 1): the lower 23 bits of each word."""
    units: Array = (words & 0x7FFFFF).astype(np.float32) * np.float32(2.0**-23)
    return units


def _unit_f64(words: Array) -> Array:
    """Uniform in [0, 1): 52 bits of each pair of words, the first of which is the upper one."""
    pairs = words.reshape(-1, 2).astype(np.uint64)
    units: Array = ((pairs[:, 0] & 0xFFFFF) << 32 | pairs[:, 1]).astype(np.float64) * 2.0**-52
    return units


def _unit_f16(words: Array) -> Array:
    units: Array = ((words & 0x3FF).astype(np.float32) * np.float32(2.0**-10)).astype(np.float16)
    return units


def _unit_bf16(words: Array) -> Array:
    units: Array = (words & 0x7F).astype(np.float32) * np.float32(2.0**-7)
    return units.astype(numpy_dtype("bf16"))


UNIFORM: dict[str, Callable[[Array], Array]] = {
    "f16": _unit_f16,
    "bf16": _unit_bf16,
    "f32": _unit_f32,
    "f64": _unit_f64,
}
WORDS_PER_NUMBER = {"f64": 2, "i64": 2}  # one word where a dtype is not listed


def _draw(stream: Stream, shape: Sequence[int], dtype: str) -> tuple[Array, int]:
    """Whole groups of words for the numbers of ``shape``, and how many numbers those are."""
    count = math.prod(shape)
    first = stream.reserve(count * BLOCKS_PER_NUMBER)
    words = count * WORDS_PER_NUMBER.get(dtype, 1)
    return stream.words(first, -(-words // 4) * 4), count


def uniform(stream: Stream, shape: Sequence[int], dtype: str) -> Array:
    """Floats in [0, 1) of IR dtype ``dtype``."""
    words, count = _draw(stream, shape, dtype)
    return UNIFORM[dtype](words)[:count].reshape(shape)


def uniform_int(stream: Stream, low: Any, high: Any, shape: Sequence[int], dtype: str) -> Array:
    """Integers in [low, high) of ``dtype`` i32 or i64: words modulo ``high - low``, as TensorFlow
    does.

    Raises: InvalidArgumentError where the range is empty but numbers are wanted.
    """
    low, high = int(low), int(high)
    if low >= high and math.prod(shape):
        raise InvalidArgumentError(None, None, f"Need minval < maxval, got {low} >= {high}")
    words, count = _draw(stream, shape, dtype)
    span = np.uint64(max(high - low, 1))
    if dtype == "i64":
        pairs = words.reshape(-1, 2).astype(np.uint64)
        offsets = (pairs[:, 0] | pairs[:, 1] << 32) % span
    else:
        offsets = words.astype(np.uint64) % span
    numbers: Array = (offsets + np.uint64(low & MASK_64)).view(np.int64)
    return numbers[:count].astype(numpy_dtype(dtype)).reshape(shape)


def _box_muller_f32(words: Array) -> Array:
    """Two normal numbers of each pair of words, in float as TensorFlow's CPU kernels do it.

    Each function of the C library is correctly rounded but for rare cases, so it is taken in
    double here and rounded.
    """
    units = _unit_f32(words).reshape(-1, 2)
    logarithm = np.log(np.maximum(units[:, 0], np.float32(SMALLEST)), dtype=np.float64)
    radius = np.sqrt(np.float32(-2.0) * logarithm.astype(np.float32))
    angle = (2.0 * math.pi * units[:, 1].astype(np.float64)).astype(np.float32).astype(np.float64)
    out = np.empty_like(units)
    out[:, 0] = np.sin(angle).astype(np.float32) * radius
    out[:, 1] = np.cos(angle).astype(np.float32) * radius
    return out.reshape(-1)


def _box_muller_f64(words: Array) -> Array:
    """Two normal numbers of each four words, in double."""
    units = _unit_f64(words).reshape(-1, 2)
    radius = np.sqrt(-2.0 * np.log(np.maximum(units[:, 0], SMALLEST)))
    angle = 2 * math.pi * units[:, 1]
    return np.stack([np.sin(angle) * radius, np.cos(angle) * radius], axis=1).reshape(-1)


def _normals(words: Array, dtype: str) -> Array:
    return _box_muller_f64(words) if dtype == "f64" else _box_muller_f32(words)


def normal(stream: Stream, shape: Sequence[int], dtype: str) -> Array:
    """Normal numbers of mean 0 and deviation 1; f16 and bf16 are rounded from f32."""
    words, count = _draw(stream, shape, dtype)
    return _normals(words, dtype)[:count].astype(numpy_dtype(dtype)).reshape(shape)


def truncated_normal(stream: Stream, shape: Sequence[int], dtype: str) -> Array:
    """Normal numbers nearer to 0 than two deviations.

    Each group of numbers (the four, or two of f64, that a block gives) rejects and draws again
    within blocks of its own, so the groups go forward side by side.
    """
    group = 4 // WORDS_PER_NUMBER.get(dtype, 1)
    count = math.prod(shape)
    first = stream.reserve(count * BLOCKS_PER_NUMBER)
    groups = -(-count // group)
    starts = np.arange(groups, dtype=np.uint64) * np.uint64(group * BLOCKS_PER_NUMBER // 4)
    starts += np.uint64(first)
    out = np.empty((groups, group), dtype=np.float64 if dtype == "f64" else np.float32)
    filled = np.zeros(groups, dtype=np.int64)
    pending = np.arange(groups)
    block = 0
    while pending.size:
        numbers = _normals(stream.blocks(starts[pending] + np.uint64(block)).reshape(-1), dtype)
        for column in numbers.reshape(-1, group).T:
            kept = (np.abs(column) < TRUNCATION) & (filled[pending] < group)
            rows = pending[kept]
            out[rows, filled[rows]] = column[kept]
            filled[rows] += 1
        pending = pending[filled[pending] < group]
        block += 1
    return out.reshape(-1)[:count].astype(numpy_dtype(dtype)).reshape(shape)


def shuffle(stream: Stream, x: Array) -> Array:
    """``x`` with its rows (axis 0) in random order; draws nothing for fewer than two rows."""
    rows = x.shape[0] if x.ndim else 1
    if rows <= 1 or x.size <= 1:
        return np.array(x)
    first = stream.reserve(-(-(rows - 1) // 4))
    words = stream.words(first, rows - 1)
    places = (words % np.arange(rows, 1, -1, dtype=np.uint32)) + np.arange(rows - 1)
    order = list(range(rows))
    for i, place in enumerate(places.tolist()):  # every exchange depends on those before it
        order[i], order[place] = order[place], order[i]
    shuffled: Array = x[np.array(order)]
    return shuffled


def multinomial(stream: Stream, logits: Array, samples: int, dtype: str) -> Array:
    """``samples`` class numbers of each row of ``logits`` [batch, classes] -> [batch, samples].

    Class j is drawn with probability proportional to ``exp(logits[i, j])``; infinite and NaN
    logits have none. TensorFlow restarts the numbers where it cuts a large batch into pieces for
    its threads; here, as in TensorFlow on one thread, the batch is one piece.
    """
    batch = logits.shape[0]
    first = stream.reserve(batch * (-(-samples // 4) * 4) * 2 * BLOCKS_PER_NUMBER)
    units = _unit_f64(stream.words(first, batch * samples * 2)).reshape(batch, samples)
    out = np.empty((batch, samples), dtype=numpy_dtype(dtype))
    for row, (values, unit) in enumerate(zip(logits.astype(np.float64), units, strict=True)):
        finite = np.isfinite(values)
        highest = values.max(where=finite, initial=-np.inf)
        weights = np.exp(np.where(finite, values - highest, -np.inf))
        total = np.cumsum(weights)
        out[row] = np.searchsorted(total, unit * total[-1], side="right")
    return out
