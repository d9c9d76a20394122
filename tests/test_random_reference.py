"""Random numbers against TensorFlow's: ``data/random_reference.json`` holds what it drew, run
after run.

Whatever is exact there is exact here. Numbers that went through logarithm, sine and cosine may
differ in the last place, because TensorFlow's C library does not round these correctly in all
cases.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepforge as tf
from stepforge.ir import philox
from stepforge.ir.errors import InvalidArgumentError
from stepforge.ir.philox import Stream

REFERENCE = json.loads((Path(__file__).parent / "data" / "random_reference.json").read_text())
PROBABILITIES = np.array([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]], np.float32)
ROUNDED = 2  # units in the last place


def _entries(case: str) -> list[dict[str, Any]]:
    return [entry for entry in REFERENCE if entry["case"] == case]


def _stream(entry: dict[str, Any]) -> Stream:
    """The stream of a node with the seeds of an entry."""
    graph = tf.Graph()
    graph.seed = entry["graph_seed"]
    with graph.as_default():
        return Stream(*tf.get_seed(entry["op_seed"]))


def scaled(units: Any, factor: float, shift: float) -> Any:
    """``units * factor + shift`` in float, as the graph computes it."""
    return units * np.float32(factor) + np.float32(shift)


Draw = Callable[[Stream, dict[str, Any]], Any]
DRAWS: dict[str, tuple[Draw, int]] = {
    "random_uniform_f32": (lambda s, e: philox.uniform(s, e["shape"], "f32"), 0),
    "random_uniform_f64": (lambda s, e: philox.uniform(s, e["shape"], "f64"), 0),
    "random_uniform_f16": (lambda s, e: philox.uniform(s, e["shape"], "f16"), 0),
    "random_uniform_range_f32": (
        lambda s, e: scaled(philox.uniform(s, e["shape"], "f32"), 8, -3),
        0,
    ),
    "random_uniform_i32_0_100": (
        lambda s, e: philox.uniform_int(s, 0, 100, e["shape"], "i32"),
        0,
    ),
    "random_uniform_i64_m5_1e12": (
        lambda s, e: philox.uniform_int(s, -5, 10**12, e["shape"], "i64"),
        0,
    ),
    "random_normal_f32": (lambda s, e: philox.normal(s, e["shape"], "f32"), ROUNDED),
    "random_normal_f64": (lambda s, e: philox.normal(s, e["shape"], "f64"), ROUNDED),
    "truncated_normal_f32": (lambda s, e: philox.truncated_normal(s, e["shape"], "f32"), ROUNDED),
    "truncated_normal_f64": (lambda s, e: philox.truncated_normal(s, e["shape"], "f64"), ROUNDED),
    "random_shuffle_range": (lambda s, e: philox.shuffle(s, np.arange(e["n"], dtype=np.int32)), 0),
    "multinomial_logits": (
        lambda s, e: philox.multinomial(s, np.log(PROBABILITIES), e["n"], "i64"),
        0,
    ),
    "glorot_uniform_initializer": (
        lambda s, e: _glorot(philox.uniform(s, e["shape"], "f32"), e["n"]),
        0,
    ),
}


def _glorot(units: Any, rows: int) -> Any:
    limit = np.float32(np.sqrt(3.0 / ((rows + 3) / 2.0)))
    return units * (limit - -limit) + -limit


def _compare(found: Any, run: dict[str, Any], places: int, what: str) -> None:
    flat = found.reshape(-1)
    ends = np.concatenate([flat[: len(run["first"])], flat[-len(run["last"]) :]])
    wanted = np.array(run["first"] + run["last"]).astype(flat.dtype)
    if places:
        distance = np.abs(ends - wanted) / np.spacing(np.abs(wanted))
        assert distance.max() <= places, what
        assert abs(flat.astype(np.float64).sum() - run["sum_f64"]) < 1e-6 * flat.size, what
    else:
        np.testing.assert_array_equal(ends, wanted, err_msg=what)
        assert flat.astype(np.float64).sum() == pytest.approx(run["sum_f64"], rel=1e-12), what


@pytest.mark.parametrize("case", DRAWS)
def test_numbers_of_both_runs(case: str) -> None:
    draw, places = DRAWS[case]
    for entry in _entries(case):
        stream = _stream(entry)
        for number, run in enumerate(entry["runs"]):
            seeds = entry["graph_seed"], entry["op_seed"]
            what = f"{case} {seeds} n={entry['n']} run {number}"
            found = draw(stream, entry)
            assert found.dtype == entry["dtype"], what
            assert list(found.shape) == entry["shape"], what
            _compare(found, run, places, what)


BUILDS: dict[str, tuple[Callable[..., Any], int]] = {
    "random_uniform_f32": (lambda n, seed: tf.random_uniform([n], seed=seed), 0),
    "random_uniform_f16": (lambda n, seed: tf.random_uniform([n], dtype=tf.float16, seed=seed), 0),
    "random_uniform_range_f32": (lambda n, seed: tf.random_uniform([n], -3, 5, seed=seed), 0),
    "random_uniform_i32_0_100": (
        lambda n, seed: tf.random_uniform([n], 0, 100, tf.int32, seed=seed),
        0,
    ),
    "random_uniform_i64_m5_1e12": (
        lambda n, seed: tf.random_uniform([n], -5, 10**12, tf.int64, seed=seed),
        0,
    ),
    "random_normal_mean2_std3_f32": (
        lambda n, seed: tf.random_normal([n], 2.0, 3.0, seed=seed),
        ROUNDED,
    ),
    "random_normal_f64": (
        lambda n, seed: tf.random_normal([n], dtype=tf.float64, seed=seed),
        4 * ROUNDED,
    ),
    "truncated_normal_f32": (lambda n, seed: tf.truncated_normal([n], seed=seed), ROUNDED),
    "random_shuffle_range": (lambda n, seed: tf.random_shuffle(tf.range(n), seed=seed), 0),
    "multinomial_logits": (
        lambda n, seed: tf.multinomial(np.log(PROBABILITIES), n, seed=seed),
        0,
    ),
}


@pytest.mark.parametrize("case", BUILDS)
def test_functions_in_a_session(case: str) -> None:
    """Seeds, streams and scaling of the API, run after run."""
    build, places = BUILDS[case]
    for entry in _entries(case)[4:6]:  # both seeds given; 5 numbers and 1000
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(entry["graph_seed"])
            tensor = build(entry["n"], entry["op_seed"])
            for run in entry["runs"]:
                _compare(np.asarray(session.run(tensor)), run, places, case)


def test_graph_seed_counts_random_nodes() -> None:
    (entry,) = _entries("two_ops_one_graph_seed")
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(entry["graph_seed"])
        normal, uniform = tf.random_normal([4]), tf.random_uniform([4])
        first, second = session.run([normal, uniform])
    np.testing.assert_allclose(first, entry["normal_first"], rtol=3e-7)
    np.testing.assert_array_equal(second, np.float32(entry["uniform_second"]))


# The vectors that the authors of the generator published with it.
@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ],
)
def test_published_vectors(counter: Any, key: Any, words: str) -> None:
    stream = Stream(key[0] | key[1] << 32, counter[2] | counter[3] << 32 or 1)
    # both seeds 0 would ask for a random start
    stream.state[2] = counter[2] | counter[3] << 32
    block = stream.blocks(np.array([counter[0] | counter[1] << 32], np.uint64))
    assert " ".join(f"{word:08x}" for word in block[0]) == words


# TensorFlow 2.21 with the seeds (5, 0).
SIXTEEN_BITS = {
    ("uniform", "bf16"): (
        7,
        [
            [0.2265625, 0.15625, 0.4609375, 0.9375, 0.5],
            [0.078125, 0.015625, 0.109375, 0.8125, 0.3984375],
        ],
    ),
    ("normal", "bf16"): (
        7,
        [
            [-1.7109375, -0.6796875, 0.263671875, -0.8515625, -0.193359375],
            [-0.224609375, -0.83984375, 0.004486083984375, -0.5859375, -0.046142578125],
        ],
    ),
    ("normal", "f16"): (
        7,
        [
            [-1.7138671875, -0.6787109375, 0.262939453125, -0.849609375, -0.193603515625],
            [
                -0.224365234375,
                -0.83935546875,
                0.004489898681640625,
                -0.583984375,
                -0.04608154296875,
            ],
        ],
    ),
    ("truncated_normal", "f16"): (
        77,
        [
            [-1.7138671875, -0.6787109375, 0.262939453125, -0.849609375, 0.236083984375],
            [-0.57763671875, 1.45703125, 1.5439453125, 0.06732177734375, 0.26904296875],
        ],
    ),
    ("truncated_normal", "bf16"): (
        77,
        [
            [-1.7109375, -0.6796875, 0.263671875, -0.8515625, 0.236328125],
            [-0.578125, 1.453125, 1.546875, 0.0673828125, 0.26953125],
        ],
    ),
}


@pytest.mark.parametrize(("kind", "dtype"), SIXTEEN_BITS)
def test_sixteen_bits(kind: str, dtype: str) -> None:
    stream = Stream(5, 0)
    count, runs = SIXTEEN_BITS[kind, dtype]
    for wanted in runs:
        found = getattr(philox, kind)(stream, [count], dtype)
        assert found[: len(wanted)].astype(float).tolist() == wanted


def test_rows_are_shuffled_whole() -> None:
    found = philox.shuffle(Stream(5, 0), np.arange(20).reshape(10, 2))
    assert found.tolist() == [
        [14, 15],
        [8, 9],
        [10, 11],
        [18, 19],
        [2, 3],
        [4, 5],
        [16, 17],
        [12, 13],
        [0, 1],
        [6, 7],
    ]
    assert np.array_equal(found[:, 0] + 1, found[:, 1])


@pytest.mark.parametrize("rows", [0, 1])
def test_nothing_to_shuffle_draws_nothing(rows: int) -> None:
    stream = Stream(1, 2)
    assert philox.shuffle(stream, np.zeros((rows, 3))).shape == (rows, 3)
    assert stream.reserve(0) == 0


def test_reserved_blocks() -> None:
    """A run reserves 256 blocks for each number; the next one starts behind them."""
    stream = Stream(3, 4)
    philox.uniform(stream, [2, 3], "f32")
    assert stream.reserve(0) == 6 * 256
    philox.shuffle(stream, np.arange(10))
    assert stream.reserve(0) == 6 * 256 + 3


def test_words_do_not_depend_on_pieces() -> None:
    stream = Stream(3, 4)
    count = 3 * 4 * philox.CHUNK_BLOCKS + 5
    whole = stream.words(7, count)
    np.testing.assert_array_equal(whole[4:44], stream.words(8, 40))
    np.testing.assert_array_equal(whole[-9:], stream.words(7 + count // 4 - 2, 9))


def test_integers_cover_the_whole_range() -> None:
    wide = philox.uniform_int(Stream(1, 2), -(2**63), 2**63 - 1, [1000], "i64")
    assert wide.min() < -(2**62)
    assert wide.max() > 2**62
    narrow = philox.uniform_int(Stream(1, 2), -3, 2, [1000], "i32")
    assert set(narrow.tolist()) == {-3, -2, -1, 0, 1}


def test_empty_range() -> None:
    with pytest.raises(InvalidArgumentError, match="Need minval < maxval, got 5 >= 5"):
        philox.uniform_int(Stream(1, 2), 5, 5, [3], "i32")
    assert philox.uniform_int(Stream(1, 2), 5, 5, [0], "i32").shape == (0,)


def test_impossible_classes_are_not_drawn() -> None:
    logits = np.array([[0.0, -np.inf, 1.0, np.nan]])
    drawn = philox.multinomial(Stream(1, 2), logits, 2000, "i32")
    assert set(drawn.reshape(-1).tolist()) == {0, 2}


def test_streams_without_seeds_differ() -> None:
    first, second = (philox.uniform(Stream(0, 0), [4], "f64") for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("kind", ["uniform", "normal", "truncated_normal"])
def test_distributions(kind: str) -> None:
    """Mean and deviation of many numbers; a truncated normal's deviation is known."""
    numbers = getattr(philox, kind)(Stream(9, 9), [200_000], "f32").astype(np.float64)
    mean, deviation = {
        "uniform": (0.5, 12**-0.5),
        "normal": (0.0, 1.0),
        "truncated_normal": (0.0, 0.87962566),
    }[kind]
    assert abs(numbers.mean() - mean) < 0.01
    assert abs(numbers.std() - deviation) < 0.01
