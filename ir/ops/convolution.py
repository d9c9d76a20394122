"""Convolutions and their gradients: images ``[n, *image, c]``, filters ``[*window, c, channels]``.

``strides``, ``low`` (zeros before the image), ``dilations`` and ``size`` have a value for each
spatial axis. ``size`` is that of the result, so that there is one way to say SAME, VALID and
explicit padding: how far the windows reach behind the image follows from their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from stepforge.ir.core import Operand
from stepforge.ir.dims import Dim
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.ops.arrays import Array, narrow, widen
from stepforge.ir.ops.convolution_loops import (
    channel_loops,
    convolve,
    convolve_filter,
    convolve_input,
    depthwise,
    depthwise_filter,
    depthwise_input,
)
from stepforge.ir.ops.inference import (
    REAL,
    check_dtype,
    check_equal,
    check_rank,
    check_same_dtype,
)
from stepforge.ir.ops.windows import Windows, windows_of
from stepforge.ir.types import Type
