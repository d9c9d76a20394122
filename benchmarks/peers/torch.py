"""torch, eager, as inference runs there: channels first, weights turned before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from cases import Array, Arrays, Step

torch.set_num_threads(1)
torch.set_num_interop_threads(1)


def tensor(array: Array) -> Any:
    return torch.from_numpy(np.ascontiguousarray(array))


def conv_net(a: Arrays) -> Step:
    kernels = [tensor(a[name].transpose(3, 2, 0, 1)) for name in ("w0", "w1")]
    turned = a["w2"].reshape(7, 7, 64, -1).transpose(3, 2, 0, 1)
    hidden, last = tensor(turned.reshape(len(turned), -1)), tensor(a["w3"].T)
    b0, b1, b2, b3 = (tensor(a[f"b{place}"]) for place in range(4))

    @torch.inference_mode()
    def run(x: Any) -> Any:
        value = x.reshape(-1, 1, 28, 28)
        for kernel, bias in zip(kernels, (b0, b1), strict=True):
            value = functional.relu(functional.conv2d(value, kernel, bias, padding=2))
            value = functional.max_pool2d(value, 2)
        value = functional.relu(functional.linear(value.flatten(1), hidden, b2))
        return functional.linear(value, last, b3)

    return Step(run, (tensor(a["x"]),), lambda y: (y.numpy(),))


def attention(a: Arrays) -> Step:
    scale = a["q"].shape[1] ** -0.5

    @torch.inference_mode()
    def run(q: Any, k: Any, v: Any) -> Any:
        return torch.softmax(q @ k.T * scale, 1) @ v

    return Step(run, tuple(tensor(a[name]) for name in "qkv"), lambda y: (y.numpy(),))


STEPS: dict[str, Callable[[Arrays], Step]] = {
    "convolution.conv_net": conv_net,
    "attention.forward": attention,
}


def step(kind: str, arrays: Arrays) -> Step:
    return STEPS[kind](arrays)
