"""Softmax and its cross entropies, over the last axis.

A row with a NaN or with +inf gives NaN throughout: TensorFlow leaves zeros in places, which
nobody needs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepforge.ir.combining import identity
from stepforge.ir.core import Const, Operand
from stepforge.ir.dims import Dim
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.ops.arrays import Array, narrow, widen
from stepforge.ir.ops.inference import (
    FLOAT,
    INTEGER,
    broadcast_types,
    check_dtype,
    check_min_rank,
    check_same_dtype,
    known_dims,
    merge_dims,
)
from stepforge.ir.types import Type

WIDE = {"f16": "f32", "bf16": "f32"}
SOFTMAX_SHAPES = (
    "f32[2, 3]",
    "f32[5]",
    "f64[2, 3, 4]",
    "f16[2, 3]",
    "bf16[2, 3]",
    "f32[0, 3]",
    "f32[2, 1]",
)


def shifted(logits: Array) -> Array:
    """Logits less the largest of their row, so that no exponential overflows."""
    largest = np.max(logits, -1, keepdims=True, initial=-np.inf)
    return np.asarray(logits - largest)


def row_sums(terms: Array) -> Array:
    """Sums over the last axis, kept with size 1."""
    return np.asarray(np.sum(terms, -1, keepdims=True))


class Row:
    """One row of an operand, for the lowering of row-wise ops:

    what broadcasts to ``at`` of ``shape``.
    """

    def __init__(
        self, k: LoopBuilder, buffer: Operand, shape: Sequence[Dim], at: Sequence[Operand]
    ) -> None:
        self.k, self.buffer, self.shape, self.at = k, buffer, shape, at

    def load(self, j: Operand) -> Operand:
        """Element ``j`` of the row."""
        return self.k.element(self.buffer, self.shape, (*self.at, j))

    def store(self, value: Operand, j: Operand) -> None:
        """Set element ``j`` of the row, rounded to the buffer's dtype."""
        if value.type.dtype != self.buffer.type.dtype:
            value = self.k.emit("cast", value, dtype=self.buffer.type.dtype)
        self.k.store(value, self.buffer, *self.at, j)


def wide(k: LoopBuilder, value: Operand) -> Operand:
    """A 16-bit element as f32, in which rows are computed; others as they are."""
    if value.type.dtype in ("f16", "bf16"):
        return k.emit("cast", value, dtype="f32")  # type: ignore[no-any-return]
    return value


def row_maximum(k: LoopBuilder, size: Dim, row: Row) -> Operand:
    """The largest element of a row, -inf of an empty one.

    A NaN is passed over: it turns up again in the sum of exponentials.
    """
    dtype = WIDE.get(row.buffer.type.dtype, row.buffer.type.dtype)

    def larger(j: Operand, largest: Operand) -> list[Operand]:
        value = wide(k, row.load(j))
        return [k.emit("select", k.emit("greater", value, largest), value, largest)]

    return k.accumulate(size, [identity("max", dtype)], larger, combine=["max"], simd=True)[0]


def row_exponentials(
    k: LoopBuilder, size: Dim, row: Row, largest: Operand, out: Row | None
) -> Operand:
    """The sum of ``exp(row - largest)``, whose terms are stored to ``out``."""

    def term(j: Operand) -> Operand:
        value = k.emit("exp", k.emit("sub", wide(k, row.load(j)), largest))
        if out is not None:
            out.store(value, j)
        return value  # type: ignore[no-any-return]

    return k.fold(size, "add", largest.type.dtype, term, simd=True)


@define_op
class Softmax(OpDef):
    """``exp(x)`` divided by its sum over the last axis. ``%r = softmax(%x) : f32[n, 10]``"""

    cases = tuple(f"softmax({x})" for x in SOFTMAX_SHAPES)

    def infer(self, x: Type) -> Type:
        check_dtype("softmax", FLOAT, x=x)
        check_min_rank("softmax", 1, x=x)
        return x

    def numpy(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            terms = np.exp(shifted(widen(x)))
            return narrow(terms / row_sums(terms), x.dtype)

    def lower(self, k: LoopBuilder, out: Operand, x: Operand) -> None:
        shape = x.type.dims
        with k.nest(shape[:-1], simd=False) as at:
            source, target = Row(k, x, shape, at), Row(k, out, shape, at)
            largest = row_maximum(k, shape[-1], source)
            share = k.emit("reciprocal", row_exponentials(k, shape[-1], source, largest, target))
            with k.loop(shape[-1], simd=True) as j:
                target.store(k.emit("mul", wide(k, target.load(j)), share), j)


@define_op
class LogSoftmax(OpDef):
    """The logarithm of ``softmax``, without overflow. ``%r = log_softmax(%x) : f32[n, 10]``"""

    cases = tuple(f"log_softmax({x})" for x in SOFTMAX_SHAPES)

    def infer(self, x: Type) -> Type:
        check_dtype("log_softmax", FLOAT, x=x)
        check_min_rank("log_softmax", 1, x=x)
        return x

    def numpy(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            logits = shifted(widen(x))
            return narrow(logits - np.log(row_sums(np.exp(logits))), x.dtype)

    def lower(self, k: LoopBuilder, out: Operand, x: Operand) -> None:
        shape = x.type.dims
        with k.nest(shape[:-1], simd=False) as at:
            source, target = Row(k, x, shape, at), Row(k, out, shape, at)
            largest = row_maximum(k, shape[-1], source)
            total = row_exponentials(k, shape[-1], source, largest, None)
            log_total = k.emit("log", total)
            with k.loop(shape[-1], simd=True) as j:
                shifted_value = k.emit("sub", wide(k, source.load(j)), largest)
                target.store(k.emit("sub", shifted_value, log_total), j)


@define_op
class SoftmaxCrossEntropy(OpDef):
    """The cross entropy of ``softmax(logits)`` to ``labels`` (distributions), and its gradient.

    ``%loss, %backprop = softmax_cross_entropy(%logits, %labels) : f32[n], f32[n, 10]``; the
    operands broadcast; ``backprop`` is ``softmax(logits) - labels``.
    """

    cases = (
        "softmax_cross_entropy(f32[4, 3], f32[4, 3])",
        "softmax_cross_entropy(f64[3], f64[3])",
        "softmax_cross_entropy(f32[2, 4, 3], f32[2, 4, 3])",
        "softmax_cross_entropy(f32[1, 3], f32[2, 3])",
        "softmax_cross_entropy(f16[2, 3], f16[2, 3])",
        "softmax_cross_entropy(bf16[2, 3], bf16[2, 3])",
        "softmax_cross_entropy(f32[0, 3], f32[0, 3])",
    )

    def infer(self, logits: Type, labels: Type) -> tuple[Type, Type]:
        op = "softmax_cross_entropy"
        check_dtype(op, FLOAT, logits=logits, labels=labels)
        check_same_dtype(op, logits=logits, labels=labels)
        check_min_rank(op, 1, logits=logits, labels=labels)
        shape = broadcast_types(op, logits=logits, labels=labels)
        whole = logits.with_shape(shape)
        return whole.with_shape(whole.dims[:-1]), whole

    def numpy(self, logits: Array, labels: Array) -> tuple[Array, Array]:
        shape = np.broadcast_shapes(logits.shape, labels.shape)
        with np.errstate(all="ignore"):
            x, targets = shifted(np.broadcast_to(widen(logits), shape)), widen(labels)
            terms = np.exp(x)
            total = row_sums(terms)
            loss = np.sum(targets * (np.log(total) - x), -1)
            return narrow(loss, logits.dtype), narrow(terms / total - targets, logits.dtype)

    def lower(
        self, k: LoopBuilder, loss: Operand, backprop: Operand, logits: Operand, labels: Operand
    ) -> None:
        shape = backprop.type.dims
        with k.nest(shape[:-1], simd=False) as at:
            x, targets = (Row(k, operand, shape, at) for operand in (logits, labels))
            out = Row(k, backprop, shape, at)
            size = shape[-1]
            largest = row_maximum(k, size, x)
            total = row_exponentials(k, size, x, largest, out)
            log_total, share = k.emit("log", total), k.emit("reciprocal", total)

            def term(j: Operand) -> Operand:
                target = wide(k, targets.load(j))
                out.store(k.emit("sub", k.emit("mul", wide(k, out.load(j)), share), target), j)
                logit = k.emit("sub", wide(k, x.load(j)), largest)
                return k.emit("mul", target, k.emit("sub", log_total, logit))  # type: ignore

            value = k.fold(size, "add", total.type.dtype, term, simd=True)
            k.store(k.cast(value, loss.type.dtype), loss, *at)


@define_op
class SparseSoftmaxCrossEntropy(OpDef):
    """The cross entropy of ``softmax(logits)`` to class numbers ``labels``, and its gradient.

    A label outside of [0, classes) gives a NaN loss and a row of NaN (extraction emits
    ``check_bounds``).
    ``%loss, %backprop = sparse_softmax_cross_entropy(%logits, %labels) : f32[n], f32[n, 10]``
    """

    cases = (
        "sparse_softmax_cross_entropy(f32[4, 3], i32[4])",
        "sparse_softmax_cross_entropy(f64[3], i64)",
        "sparse_softmax_cross_entropy(f32[2, 4, 3], i64[2, 4])",
        "sparse_softmax_cross_entropy(f16[2, 3], i32[2])",
        "sparse_softmax_cross_entropy(bf16[2, 3], u8[2])",
        "sparse_softmax_cross_entropy(f32[0, 3], i32[0])",
    )

    def infer(self, logits: Type, labels: Type) -> tuple[Type, Type]:
        op = "sparse_softmax_cross_entropy"
        operands = {"logits": logits, "labels": labels}
        check_dtype(op, FLOAT, logits=logits)
        check_dtype(op, INTEGER, labels=labels)
        check_min_rank(op, 1, logits=logits)
        shapes = {"logits": logits.dims[:-1], "labels": known_dims(op, labels=labels)}
        batch = merge_dims(op, shapes, operands, "batches")
        return logits.with_shape(batch), logits.with_shape((*batch, logits.dims[-1]))

    def numpy(self, logits: Array, labels: Array) -> tuple[Array, Array]:
        with np.errstate(all="ignore"):
            x = shifted(widen(logits))
            terms = np.exp(x)
            total = row_sums(terms)
            wide = labels.astype(np.int64)[..., None]
            hot = wide == np.arange(x.shape[-1])
            valid = hot.any(-1)
            picked = np.sum(np.where(hot, x, 0), -1)
            loss = np.where(valid, np.log(total)[..., 0] - picked, np.nan)
            backprop = np.where(valid[..., None], terms / total - hot, np.nan)
            return narrow(loss, logits.dtype), narrow(backprop, logits.dtype)

    def lower(
        self, k: LoopBuilder, loss: Operand, backprop: Operand, logits: Operand, labels: Operand
    ) -> None:
        shape = backprop.type.dims
        size = shape[-1]
        with k.nest(shape[:-1], simd=False) as at:
            x, out = Row(k, logits, shape, at), Row(k, backprop, shape, at)
            label = k.emit("cast", k.element(labels, shape[:-1], at), dtype="i64")
            largest = row_maximum(k, size, x)
            total = row_exponentials(k, size, x, largest, out)
            dtype = total.type.dtype
            end = k.emit("from_index", k.index(offset=size), dtype="i64")
            below = k.emit("less", label, Const(label.type, 0))
            outside = k.emit("logical_or", below, k.emit("greater_equal", label, end))
            share = k.emit("reciprocal", total)
            invalid = k.emit("select", outside, Const(total.type, np.nan), Const(total.type, 0.0))
            with k.loop(size, simd=True) as j:
                here = k.emit("equal", k.emit("from_index", j, dtype="i64"), label)
                hot = k.emit("cast", here, dtype=dtype)
                gradient = k.emit("sub", k.emit("mul", wide(k, out.load(j)), share), hot)
                out.store(k.emit("add", gradient, invalid), j)
            picked = k.emit("sub", wide(k, x.load(k.to_index(label, size))), largest)
            value = k.emit("add", k.emit("sub", k.emit("log", total), picked), invalid)
            k.store(k.cast(value, loss.type.dtype), loss, *at)
