"""Whole programs compiled ahead of time give what a session gives, or say why they cannot be."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from ahead_testing import ALLOWED, RANDOM, Module, compile_ahead
from graphdefs.programs import PROGRAMS

import stepforge as tf
from stepforge.runtime.ahead_problems import CannotCompileAhead
from stepforge.runtime.ahead_steps import Step

pytestmark = pytest.mark.usefixtures("own_graph")

# What has no native lowering in them, or needs a bound.
CANNOT = {
    "elementwise": "lgamma", "choices": "top_k", "algebra": "cholesky", "scattering": "unique",
    "complex_numbers": "complex", "strings": "the feed x is string",
}  # fmt: skip


def opened() -> tf.Session:
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    return session


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_gives_what_the_session_gives(name: str, module: Module) -> None:
    feeds, fetches = PROGRAMS[name](tf)
    step, variables = Step("f", list(fetches), list(feeds)), "file" if len(name) % 2 else "baked"
    if name in CANNOT:
        with pytest.raises(CannotCompileAhead, match=CANNOT[name]):
            compile_ahead(step, session=opened())
        return
    made = compile_ahead(step, session=opened(), variables=variables)
    assert set(made.object.undefined) <= ALLOWED
    results: Any = module(made).f(*feeds.values())
    wanted = [value for value in opened().run(fetches, feeds) if value is not None]
    given = results if isinstance(results, tuple) else (results,)
    for have, want in zip(given, wanted, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5)


def test_a_row_that_a_checked_loop_fills_is_on_the_stack(module: Module) -> None:
    """Such a loop is in the driver, which must not ask for memory in each of its turns."""
    words = tf.placeholder(tf.int32, [None, 3], "words")
    table = tf.constant(RANDOM.normal(size=(10, 4)).astype(np.float32))
    y = tf.reduce_mean(tf.nn.embedding_lookup(table, words), axis=1)
    given = RANDOM.randint(0, 10, (50, 3)).astype(np.int32)
    step: Any = tf.Session().make_callable(y, [words])
    np.testing.assert_allclose(
        step(given), module(compile_ahead(Step("f", y, [words]))).f(given), rtol=1e-6
    )
    row = 3 * 4 * 4
    assert not re.search(rf"call ptr %\w+\(i64 {row}\)", step.text("llvm"))
