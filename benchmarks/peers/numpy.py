"""NumPy, where a step is more than a line of it: convolutions by im2col, attention."""

from __future__ import annotations

from collections.abc import Callable

from cases import Array, Arrays, Step
from workloads import attention, convolution

STEPS: dict[str, Callable[[Arrays], Array]] = {
    "attention.forward": attention.in_numpy,
    "convolution.one_layer": convolution.one_layer_in_numpy,
    "convolution.conv_net": convolution.conv_net_in_numpy,
}


def step(kind: str, arrays: Arrays) -> Step:
    return Step(STEPS[kind], (arrays,), lambda found: (found,))
