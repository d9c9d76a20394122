"""The meaning of the loop level's kernels on images, and of calls of users' machine code."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from stepforge.ir.core import Operation
from stepforge.ir.errors import UnknownError
from stepforge.ir.loop_machine import LoopMachine
from stepforge.ir.numba_functions import NUMBA_FUNCTIONS

Array: TypeAlias = np.ndarray[Any, Any]


def seen(x: Array, tap: Sequence[int], size: Sequence[int], op: Operation, low: Any) -> Array:
    """What the tap of each of ``size`` windows sees of the images ``x``; 0 outside of them."""
    out = np.zeros((x.shape[0], *size, x.shape[-1]), x.dtype)
    places = [
        np.arange(n) * stride - before + t * dilation
        for n, stride, before, t, dilation in zip(
            size, op.attr("strides"), low, tap, op.attr("dilations"), strict=True
        )
    ]
    kept = [(p >= 0) & (p < n) for p, n in zip(places, x.shape[1:], strict=False)]
    inside = [np.flatnonzero(k) for k in kept]
    source = [p[k] for p, k in zip(places, kept, strict=True)]
    everything: Any = slice(None)  # the axis of the images
    to, origin = (everything, *np.ix_(*inside)), (everything, *np.ix_(*source))
    out[to] = x[origin]
    return out


def conv(machine: LoopMachine, op: Operation) -> None:
    """Windows times weights, then what the region makes of each sum."""
    x, packed, out, *others = [machine.value(o) for o in op.operands]
    weights = packed.array
    if weights.ndim == 5:  # by blocks of channels
        weights = np.moveaxis(weights, 0, -2)
        weights = weights.reshape(*weights.shape[:3], -1)
    size, low = machine.shape(op.attr("size")), machine.shape(op.attr("low"))
    total: Any = 0
    for tap in itertools.product(*map(range, weights.shape[:2])):
        total = total + seen(x.array, tap, size, op, low) @ weights[tap]
    pixels = [
        slice(p, p + (n - 1) * e + 1, e)
        for n, e, p in zip(size, op.attr("every"), op.attr("phase"), strict=True)
    ]
    chosen = (slice(None), *pixels)
    if op.regions and total.size:
        taken = [b.array for b in others[int(op.attr("scratch")) :]]
        spread = [np.broadcast_to(t, out.shape)[chosen] for t in taken]
        total = np.reshape(region_of(machine, op, [total, *spread]), total.shape)
    out.array[chosen] = total
    out.written.reshape(out.shape)[chosen] = True


def region_of(machine: LoopMachine, op: Operation, arrays: Sequence[Array]) -> Array:
    """What the region of ``op`` yields for all elements of ``arrays``, side by side."""
    region, outside = op.regions[0], machine.inside_lanes
    flat = [a.reshape(-1) for a in arrays]
    machine.values.update(zip(region.params, flat, strict=True))
    machine.inside_lanes = True
    (result,) = machine.block(region)
    machine.inside_lanes = outside
    return np.broadcast_to(result, flat[0].shape)


def conv_filter(machine: LoopMachine, op: Operation) -> None:
    """Of each tap: what it saw times what came of it, summed up over all windows."""
    x, dy, out = [machine.value(o) for o in op.operands[:3]]
    low = machine.shape(op.attr("low"))
    made = dy.array.reshape(-1, dy.shape[-1])
    for tap in itertools.product(*map(range, out.shape[:2])):
        windows = seen(x.array, tap, dy.shape[1:3], op, low)
        out.array[tap] = windows.reshape(-1, x.shape[-1]).T @ made
    out.written[:] = True


def native_call(machine: LoopMachine, op: Operation) -> None:
    """The user's function on the buffers; it fills the last ones."""
    buffers = [machine.value(o) for o in op.operands]
    try:
        NUMBA_FUNCTIONS[op.attr("fn")].compiled(*[b.array for b in buffers])
    except ImportError:
        raise
    except Exception as error:
        raise UnknownError(None, None, op.attr("message")) from error
    for buffer in buffers[len(buffers) - op.attr("outputs") :]:
        buffer.written[:] = True
