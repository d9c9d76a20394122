"""Convolutions and their gradients: images ``[n, *image, c]``, filters ``[*window, c, channels]``.

``strides``, ``low`` (zeros before the image), ``dilations`` and ``size`` have a value for each
spatial axis. ``size`` is the result's, so that SAME, VALID and explicit padding are one thing: how
far the windows reach behind the image follows from their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from stepforge.ir.core import Block, Operand
from stepforge.ir.dims import Dim
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.ops import convolution_loops as loops
from stepforge.ir.ops.arrays import Array, narrow, widen
from stepforge.ir.ops.epilogue import WithEpilogue
from stepforge.ir.ops.inference import (
    REAL,
    check_dtype,
    check_equal,
    check_rank,
    check_same_dtype,
)
from stepforge.ir.ops.windows import Windows, windows_of
from stepforge.ir.types import Type

Dims = tuple[Dim, ...]
Steps = tuple[int, ...]


class Convolution(OpDef):
    """Base of the ops; ``spatial`` is the number of axes that windows lie along."""

    spatial: ClassVar[int] = 2
    operand_names: ClassVar[tuple[str, str]] = ("x", "filter")

    def infer(
        self,
        a: Type,
        b: Type,
        *,
        strides: Steps = (),
        low: Dims = (),
        size: Dims = (),
        dilations: Steps = (),
    ) -> Type:
        operands = dict(zip(self.operand_names, (a, b), strict=True))
        check_dtype(self.name, REAL, **operands)
        check_same_dtype(self.name, **operands)
        check_rank(self.name, self.spatial + 2, **operands)
        attrs = {"strides": strides, "low": low, "size": size, "dilations": dilations}
        return a.with_shape(self.shape(a, b, self.windows(a, b, attrs), operands))

    def windows(self, a: Type, b: Type, attrs: dict[str, Any]) -> Windows:
        """The windows of the forward convolution."""
        raise NotImplementedError

    def shape(self, a: Type, b: Type, windows: Windows, operands: dict[str, Type]) -> Dims:
        """The result's sizes. Raises: ShapeError where those of the operands do not fit."""
        raise NotImplementedError


class Forward(Convolution):
    """Base of the convolutions themselves."""

    def windows(self, a: Type, b: Type, attrs: dict[str, Any]) -> Windows:
        operands = {"x": a, "filter": b}
        return windows_of(self.name, attrs, operands, image=a.dims[1:-1], window=b.dims[:-2])

    def shape(self, a: Type, b: Type, windows: Windows, operands: dict[str, Type]) -> Dims:
        check_equal(self.name, a.dims[-1], b.dims[-2], "channels differ", operands)
        return (a.dims[0], *windows.out, b.dims[-1])

    def numpy(self, x: Array, filter: Array, **attrs: Any) -> Array:
        windows = self.windows(*_types(x, filter), attrs)
        matrix = widen(filter).reshape(-1, filter.shape[-1])
        with np.errstate(all="ignore"):
            patches = windows.patches(widen(x))
            rows = patches.reshape(_rows(patches, windows), matrix.shape[0])
            shape = (*patches.shape[: 1 + self.spatial], filter.shape[-1])
            return narrow((rows @ matrix).reshape(shape), x.dtype)

    def lower(
        self, k: LoopBuilder, out: Operand, x: Operand, filter: Operand, /, **attrs: Any
    ) -> None:
        loops.convolve(k, out, x, filter, self.windows(x.type, filter.type, attrs))


class InputGradient(Convolution):
    """Base of the gradients in the images, which are transposed convolutions."""

    operand_names = ("dy", "filter")

    def windows(self, a: Type, b: Type, attrs: dict[str, Any]) -> Windows:
        operands = {"dy": a, "filter": b}
        return windows_of(self.name, attrs, operands, window=b.dims[:-2], out=a.dims[1:-1])

    def shape(self, a: Type, b: Type, windows: Windows, operands: dict[str, Type]) -> Dims:
        check_equal(self.name, a.dims[-1], b.dims[-1], "channels differ", operands)
        return (a.dims[0], *windows.image, b.dims[-2])

    def numpy(self, dy: Array, filter: Array, **attrs: Any) -> Array:
        windows = self.windows(*_types(dy, filter), attrs)
        matrix = widen(filter).reshape(-1, filter.shape[-1])
        with np.errstate(all="ignore"):
            columns = widen(dy).reshape(-1, dy.shape[-1]) @ matrix.T
            patches = columns.reshape(*dy.shape[:-1], *filter.shape[:-1])
            return narrow(windows.spread(patches), dy.dtype)

    def lower(
        self, k: LoopBuilder, out: Operand, dy: Operand, filter: Operand, **attrs: Any
    ) -> None:
        loops.convolve_input(k, out, dy, filter, self.windows(dy.type, filter.type, attrs))


class FilterGradient(Convolution):
    """Base of the gradients in the filters."""

    operand_names = ("x", "dy")

    def windows(self, a: Type, b: Type, attrs: dict[str, Any]) -> Windows:
        operands = {"x": a, "dy": b}
        return windows_of(self.name, attrs, operands, image=a.dims[1:-1], out=b.dims[1:-1])

    def shape(self, a: Type, b: Type, windows: Windows, operands: dict[str, Type]) -> Dims:
        check_equal(self.name, a.dims[0], b.dims[0], "batches differ", operands)
        return (*windows.window, a.dims[-1], b.dims[-1])

    def numpy(self, x: Array, dy: Array, **attrs: Any) -> Array:
        windows = self.windows(*_types(x, dy), attrs)
        with np.errstate(all="ignore"):
            patches = windows.patches(widen(x))
            window = patches.shape[1 + self.spatial :]
            rows = patches.reshape(_rows(patches, windows), int(np.prod(window)))
            product = rows.T @ widen(dy).reshape(-1, dy.shape[-1])
            return narrow(product.reshape(*window, dy.shape[-1]), x.dtype)

    def lower(self, k: LoopBuilder, out: Operand, x: Operand, dy: Operand, **attrs: Any) -> None:
        loops.convolve_filter(k, out, x, dy, self.windows(x.type, dy.type, attrs))


def _types(a: Array, b: Array) -> tuple[Type, Type]:
    """Types with the sizes of arrays; dtypes play no role where they are used."""
    return Type("f32", tuple(map(int, a.shape))), Type("f32", tuple(map(int, b.shape)))


def _rows(patches: Array, windows: Windows) -> int:
    return int(np.prod(patches.shape[: 1 + len(windows.out)]))


@define_op
class Conv2d(WithEpilogue, Forward):
    """The sums of a filter's products with what its windows see of images, channels last.

    ``%r = conv2d(%x, %f, low=[2, 2], size=[28, 28]) : f32[n, 28, 28, 32]`` of f32[n, 28, 28, 1] and
    f32[5, 5, 1, 32]. With an epilogue: ``conv2d(%x, %f, %b) |%acc: f32, %p: f32| {...}``.
    """

    cases = (
        "conv2d(f32[2, 5, 6, 3], f32[3, 3, 3, 4])",
        "conv2d(f32[2, 5, 6, 3], f32[3, 2, 3, 4], low=[1, 0], size=[5, 6])",
        "conv2d(f64[1, 7, 8, 2], f64[3, 3, 2, 9], strides=[2, 2], low=[1, 0], size=[4, 4])",
        "conv2d(f32[2, 9, 7, 1], f32[5, 5, 1, 33], low=[2, 2], size=[9, 7])",
        "conv2d(f32[1, 9, 8, 2], f32[3, 3, 2, 3], dilations=[2, 3], low=[2, 3], size=[9, 8])",
        "conv2d(f64[1, 9, 8, 2], f64[2, 3, 2, 3], strides=[2, 1], dilations=[2, 2])",
        "conv2d(f32[3, 4, 5, 6], f32[1, 1, 6, 7])",
        "conv2d(f32[2, 3, 4, 2], f32[1, 1, 2, 5], strides=[2, 3])",
        "conv2d(f32[1, 3, 29, 2], f32[2, 3, 2, 17], low=[0, 1], size=[2, 29])",
        "conv2d(f32[1, 2, 2, 3], f32[3, 3, 3, 1], low=[4, 3], size=[7, 8])",
        "conv2d(f32[0, 4, 4, 2], f32[3, 3, 2, 4])",
        "conv2d(f32[2, 2, 3, 1], f32[3, 3, 1, 4])",
        "conv2d(f16[1, 4, 5, 3], f16[2, 2, 3, 4], low=[1, 1], size=[5, 6])",
        "conv2d(bf16[1, 4, 4, 2], bf16[3, 3, 2, 3])",
        "conv2d(i32[1, 4, 5, 2], i32[2, 3, 2, 3], strides=[1, 2], low=[0, 1], size=[3, 3])",
        "conv2d(u8[1, 3, 3, 1], u8[2, 2, 1, 2])",
    )

    def infer(
        self,
        x: Type,
        filter: Type,
        *operands: Type,
        strides: Steps = (),
        low: Dims = (),
        size: Dims = (),
        dilations: Steps = (),
    ) -> Type:
        return super().infer(
            x, filter, strides=strides, low=low, size=size, dilations=dilations
        )

    def lower_epilogue(
        self,
        k: LoopBuilder,
        out: Operand,
        factors: tuple[Operand, Operand],
        taken: Sequence[Operand],
        region: Block | None,
        **attrs: Any,
    ) -> None:
        x, filter = factors
        loops.convolve(k, out, x, filter, self.windows(x.type, filter.type, attrs), taken, region)


@define_op
class Conv2dInput(InputGradient):
    """The gradient of ``conv2d`` in its images, from that of its result: of ``size`` pixels.

    ``%dx = conv2d_input(%dy, %f, low=[2, 2], size=[28, 28]) : f32[n, 28, 28, 1]``
    """

    cases = (
        "conv2d_input(f32[2, 3, 4, 4], f32[3, 3, 3, 4])",
        "conv2d_input(f32[2, 5, 6, 4], f32[3, 2, 3, 4], low=[1, 0], size=[5, 6])",
        "conv2d_input(f64[1, 4, 4, 9], f64[3, 3, 2, 9], strides=[2, 2], low=[1, 0], size=[7, 8])",
        "conv2d_input(f32[1, 3, 4, 2], f32[5, 4, 17, 2], strides=[2, 3], low=[2, 1], size=[6, 11])",
        "conv2d_input(f32[1, 3, 2, 2], f32[2, 1, 3, 2], strides=[3, 2], size=[9, 4])",
        "conv2d_input(f32[1, 9, 8, 3], f32[3, 3, 2, 3], dilations=[2, 3], low=[2, 3], size=[9, 8])",
        "conv2d_input(f64[1, 4, 6, 3], f64[2, 3, 2, 3], strides=[2, 1], dilations=[2, 2])",
        "conv2d_input(f32[3, 4, 5, 7], f32[1, 1, 6, 7])",
        "conv2d_input(f32[1, 7, 8, 1], f32[3, 3, 3, 1], low=[4, 3], size=[2, 2])",
        "conv2d_input(f32[0, 2, 2, 4], f32[3, 3, 2, 4])",
        "conv2d_input(f16[1, 5, 6, 4], f16[2, 2, 3, 4], low=[1, 1], size=[4, 5])",
        "conv2d_input(i32[1, 3, 3, 3], i32[2, 3, 2, 3], strides=[1, 2], low=[0, 1], size=[4, 5])",
    )


@define_op
class Conv2dFilter(FilterGradient):
    """The gradient of ``conv2d`` in its filter, from that of its result: of ``size`` taps.

    ``%df = conv2d_filter(%x, %dy, low=[2, 2], size=[5, 5]) : f32[5, 5, 1, 32]``
    """

    cases = (
        "conv2d_filter(f32[2, 5, 6, 3], f32[2, 3, 4, 4])",
        "conv2d_filter(f32[2, 5, 6, 3], f32[2, 5, 6, 4], low=[1, 0], size=[3, 2])",
        "conv2d_filter(f64[1, 7, 8, 2], f64[1, 4, 4, 9], strides=[2, 2], low=[1, 0], size=[3, 3])",
        "conv2d_filter(f32[2, 9, 7, 1], f32[2, 9, 7, 33], low=[2, 2], size=[5, 5])",
        "conv2d_filter(f32[1, 9, 8, 2], f32[1, 9, 8, 3], dilations=[2, 3], low=[2, 3], "
        "size=[3, 3])",
        "conv2d_filter(f64[1, 9, 8, 2], f64[1, 4, 4, 3], strides=[2, 1], dilations=[2, 2])",
        "conv2d_filter(f32[3, 4, 5, 6], f32[3, 4, 5, 7])",
        "conv2d_filter(f32[1, 2, 2, 3], f32[1, 7, 8, 1], low=[4, 3], size=[3, 3])",
        "conv2d_filter(f32[0, 4, 4, 2], f32[0, 2, 2, 4])",
        "conv2d_filter(f16[1, 4, 5, 3], f16[1, 5, 6, 4], low=[1, 1], size=[2, 2])",
        "conv2d_filter(i32[1, 4, 5, 2], i32[1, 3, 3, 3], strides=[1, 2], low=[0, 1], size=[2, 3])",
    )


@define_op
class Conv3d(Forward):
    """``conv2d`` with three spatial axes.

    ``%r = conv3d(%x, %f, low=[1, 1, 1], size=[8, 8, 8]) : f32[n, 8, 8, 8, 4]``
    """

    spatial = 3
    cases = (
        "conv3d(f32[2, 4, 5, 3, 2], f32[2, 3, 2, 2, 3])",
        "conv3d(f64[1, 4, 5, 3, 2], f64[2, 3, 3, 2, 3], strides=[2, 1, 2], low=[0, 1, 1], "
        "size=[2, 5, 2])",
        "conv3d(f32[1, 5, 4, 4, 1], f32[2, 2, 2, 1, 2], dilations=[2, 1, 3])",
    )


@define_op
class Conv3dInput(InputGradient):
    """The gradient of ``conv3d`` in its images.

    ``%dx = conv3d_input(%dy, %f, low=[1, 1, 1], size=[8, 8, 8]) : f32[n, 8, 8, 8, 2]``
    """

    spatial = 3
    cases = (
        "conv3d_input(f32[2, 3, 3, 2, 3], f32[2, 3, 2, 2, 3])",
        "conv3d_input(f64[1, 2, 5, 2, 3], f64[2, 3, 3, 2, 3], strides=[2, 1, 2], low=[0, 1, 1], "
        "size=[4, 5, 3])",
    )


@define_op
class Conv3dFilter(FilterGradient):
    """The gradient of ``conv3d`` in its filter.

    ``%df = conv3d_filter(%x, %dy, low=[1, 1, 1], size=[3, 3, 3]) : f32[3, 3, 3, 2, 4]``
    """

    spatial = 3
    cases = (
        "conv3d_filter(f32[2, 4, 5, 3, 2], f32[2, 3, 3, 2, 3])",
        "conv3d_filter(f64[1, 4, 5, 3, 2], f64[1, 2, 5, 2, 3], strides=[2, 1, 2], low=[0, 1, 1], "
        "size=[2, 3, 3])",
    )


# ---- each channel by itself ---------------------------------------------------------------------
@define_op
class DepthwiseConv2d(Forward):
    """Each channel convolved by filters of its own: ``[*window, c, m]`` gives ``c * m`` channels.

    ``%r = depthwise_conv2d(%x, %f, low=[1, 1], size=[8, 8]) : f32[n, 8, 8, 6]``
    """

    cases = (
        "depthwise_conv2d(f32[2, 5, 6, 3], f32[3, 3, 3, 1])",
        "depthwise_conv2d(f64[2, 5, 6, 3], f64[3, 2, 3, 2], low=[1, 0], size=[5, 6])",
        "depthwise_conv2d(f32[1, 7, 8, 17], f32[3, 3, 17, 1], strides=[2, 2], low=[1, 0], "
        "size=[4, 4])",
        "depthwise_conv2d(f32[1, 9, 8, 2], f32[3, 3, 2, 2], dilations=[2, 3], low=[2, 3], "
        "size=[9, 8])",
        "depthwise_conv2d(f16[1, 4, 5, 3], f16[2, 2, 3, 1])",
        "depthwise_conv2d(f32[0, 4, 4, 2], f32[3, 3, 2, 1])",
    )

    def shape(self, a: Type, b: Type, windows: Windows, operands: dict[str, Type]) -> Dims:
        check_equal(self.name, a.dims[-1], b.dims[-2], "channels differ", operands)
        return (a.dims[0], *windows.out, a.dims[-1] * b.dims[-1])

    def numpy(self, x: Array, filter: Array, **attrs: Any) -> Array:
        windows = self.windows(*_types(x, filter), attrs)
        with np.errstate(all="ignore"):
            sums = np.einsum("nijpqc,pqcm->nijcm", windows.patches(widen(x)), widen(filter))
        channels = sums.shape[3] * sums.shape[4]
        return narrow(sums.reshape(*sums.shape[:3], channels), x.dtype)

    def lower(
        self, k: LoopBuilder, out: Operand, x: Operand, filter: Operand, /, **attrs: Any
    ) -> None:
        loops.depthwise(k, out, x, filter, self.windows(x.type, filter.type, attrs))


@define_op
class DepthwiseConv2dInput(InputGradient):
    """The gradient of ``depthwise_conv2d`` in its images.

    ``%dx = depthwise_conv2d_input(%dy, %f, low=[1, 1], size=[8, 8]) : f32[n, 8, 8, 3]``
    """

    cases = (
        "depthwise_conv2d_input(f32[2, 3, 4, 3], f32[3, 3, 3, 1])",
        "depthwise_conv2d_input(f64[2, 5, 6, 6], f64[3, 2, 3, 2], low=[1, 0], size=[5, 6])",
        "depthwise_conv2d_input(f32[1, 4, 4, 17], f32[3, 3, 17, 1], strides=[2, 2], low=[1, 0], "
        "size=[7, 8])",
        "depthwise_conv2d_input(f16[1, 3, 4, 3], f16[2, 2, 3, 1])",
    )

    def shape(self, a: Type, b: Type, windows: Windows, operands: dict[str, Type]) -> Dims:
        check_equal(self.name, a.dims[-1], b.dims[-1] * b.dims[-2], "channels differ", operands)
        return (a.dims[0], *windows.image, b.dims[-2])

    def numpy(self, dy: Array, filter: Array, **attrs: Any) -> Array:
        windows = self.windows(*_types(dy, filter), attrs)
        channels = widen(dy).reshape(*dy.shape[:3], *filter.shape[2:])
        with np.errstate(all="ignore"):
            patches = np.einsum("nijcm,pqcm->nijpqc", channels, widen(filter))
            return narrow(windows.spread(patches), dy.dtype)

    def lower(
        self, k: LoopBuilder, out: Operand, dy: Operand, filter: Operand, **attrs: Any
    ) -> None:
        loops.depthwise_input(k, out, dy, filter, self.windows(dy.type, filter.type, attrs))


@define_op
class DepthwiseConv2dFilter(FilterGradient):
    """The gradient of ``depthwise_conv2d`` in its filter.

    ``%df = depthwise_conv2d_filter(%x, %dy, size=[3, 3], multiplier=2) : f32[3, 3, 3, 2]``
    """

    cases = (
        "depthwise_conv2d_filter(f32[2, 5, 6, 3], f32[2, 3, 4, 3])",
        "depthwise_conv2d_filter(f64[2, 5, 6, 3], f64[2, 5, 6, 6], low=[1, 0], size=[3, 2], "
        "multiplier=2)",
        "depthwise_conv2d_filter(f32[1, 7, 8, 17], f32[1, 4, 4, 17], strides=[2, 2], low=[1, 0], "
        "size=[3, 3])",
        "depthwise_conv2d_filter(f16[1, 4, 5, 3], f16[1, 3, 4, 3])",
    )

    def infer(
        self,
        x: Type,
        dy: Type,
        *,
        strides: Steps = (),
        low: Dims = (),
        size: Dims = (),
        dilations: Steps = (),
        multiplier: Dim = 1,
    ) -> Type:
        attrs = {"strides": strides, "low": low, "size": size, "dilations": dilations}
        found = super().infer(x, dy, **attrs)  # type: ignore[arg-type]
        wanted = x.dims[-1] * multiplier
        check_equal(self.name, dy.dims[-1], wanted, "channels differ", {"x": x, "dy": dy})
        return found.with_shape((*found.dims[:-1], multiplier))

    def windows(self, a: Type, b: Type, attrs: dict[str, Any]) -> Windows:
        return super().windows(a, b, {k: v for k, v in attrs.items() if k != "multiplier"})

    def numpy(self, x: Array, dy: Array, **attrs: Any) -> Array:
        windows = self.windows(*_types(x, dy), attrs)
        channels = widen(dy).reshape(*dy.shape[:3], x.shape[-1], attrs["multiplier"])
        with np.errstate(all="ignore"):
            sums = np.einsum("nijpqc,nijcm->pqcm", windows.patches(widen(x)), channels)
        return narrow(sums, x.dtype)

    def lower(self, k: LoopBuilder, out: Operand, x: Operand, dy: Operand, **attrs: Any) -> None:
        loops.depthwise_filter(k, out, x, dy, self.windows(x.type, dy.type, attrs))
