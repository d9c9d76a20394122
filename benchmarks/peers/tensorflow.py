"""TensorFlow: the very program that stepforge runs, through its own ``make_callable``."""

from __future__ import annotations

import contextlib

import tensorflow.compat.v1 as tf

from cases import Arrays, Step, build_of, opened

tf.disable_v2_behavior()
SESSIONS = contextlib.ExitStack()  # open for as long as the process lives


def step(kind: str, arrays: Arrays) -> Step:
    return SESSIONS.enter_context(opened(tf, build_of(kind), arrays))
