"""Minima and maxima of dimensions take in what already decides them."""

from __future__ import annotations

import random

from stepforge.ir import dims

N, M = dims.named("n"), dims.named("m")


def test_a_minimum_of_a_minimum() -> None:
    least = dims.minimum(4 * N + 4, M)
    for other in (M, M + 3, 4 * N + 4, 4 * N + 9, least):
        assert dims.minimum(least, other) == dims.minimum(other, least) == least
    assert dims.minimum(least, M - 1) != least
    assert dims.minimum(2 * least, M) != 2 * least
    assert dims.minimum(least + 1, M) != least + 1


def test_a_maximum_of_a_maximum() -> None:
    most = dims.maximum(4 * N + 4, M)
    for other in (M, M - 3, 4 * N + 4, 4 * N, most):
        assert dims.maximum(most, other) == dims.maximum(other, most) == most
    assert dims.maximum(most, M + 1) != most
    assert dims.maximum(dims.minimum(N, M), N) != dims.minimum(N, M)


def test_the_largest_of_many_that_are_alike_is_one() -> None:
    """What an arena holds in turn: each layer of a network needs the same."""
    total: dims.Dim = 8192
    for _ in range(30):
        total = dims.maximum(256 * dims.minimum(N, 384) + 49152, total)
    assert total == dims.maximum(256 * dims.minimum(N, 384) + 49152, 8192)


def test_values_stay_what_they_are() -> None:
    generator = random.Random(3)
    for _ in range(300):
        a, b, c = (generator.choice([N, M]) + generator.randint(-3, 3) for _ in range(3))
        sizes = {"n": generator.randint(0, 9), "m": generator.randint(0, 9)}
        x, y, z = (dims.evaluate(each, sizes) for each in (a, b, c))
        assert dims.evaluate(dims.minimum(dims.minimum(a, b), c), sizes) == min(x, y, z)
        assert dims.evaluate(dims.maximum(c, dims.maximum(a, b)), sizes) == max(x, y, z)
        assert dims.evaluate(dims.maximum(c, dims.minimum(a, b)), sizes) == max(z, min(x, y))
