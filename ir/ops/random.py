"""Random numbers. Operand 0 is the symbol of the op's stream, whose numbers are those of
TensorFlow.

The ``numpy`` rules get the stream itself (``stepforge.ir.philox.Stream``).
"""

from __future__ import annotations

from typing import Any, ClassVar

from stepforge.ir import dims
from stepforge.ir.core import Const, Operand
from stepforge.ir.dims import Dim
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.ops.arrays import Array
from stepforge.ir.ops.inference import (
    FLOAT,
    INDICES,
    REAL,
    check_dtype,
    check_rank,
    check_same_dtype,
)
from stepforge.ir.types import Type

Dims = tuple[Dim, ...]


def _philox() -> Any:
    from stepforge.ir import philox  # only a program that draws needs it

    return philox


class RandomOp(OpDef):
    """Base class: an op that draws from a stream."""

    effect = "random"


def float_cases(name: str) -> tuple[str, ...]:
    """Test cases of the distributions of floats."""
    typed = tuple(f'shape=[2, 3], dtype="{dtype}"' for dtype in FLOAT.listed)
    return tuple(f"{name}(@resource, {attrs})" for attrs in (*typed, "shape=[]", "shape=[0, 2]"))


class FloatDistribution(RandomOp):
    """Base class: floats of ``dtype`` from a fixed distribution, for loops of this ``kind``."""

    kind: ClassVar[str]

    def infer(self, stream: Type, *, shape: Dims, dtype: str = "f32") -> Type:
        result = Type(dtype, shape)
        check_dtype(self.name, FLOAT, result=result)
        return result

    def lower(
        self, k: LoopBuilder, out: Operand, stream: Operand, *, shape: Dims, dtype: str
    ) -> None:
        k.emit("philox", stream, out, kind=self.kind)


@define_op
class RandomUniform(FloatDistribution):
    """Floats in [0, 1). ``%r = random_uniform(@s, shape=[n, 3], dtype="f32") : f32[n, 3]``"""

    kind = "uniform"
    cases = float_cases("random_uniform")

    def numpy(self, stream: Any, *, shape: tuple[int, ...], dtype: str) -> Array:
        numbers: Array = _philox().uniform(stream, shape, dtype)
        return numbers


@define_op
class RandomNormal(FloatDistribution):
    """Floats of mean 0 and deviation 1.

    ``%r = random_normal(@s, shape=[n, 3], dtype="f32") : f32[n, 3]``
    """

    kind = "normal"
    cases = float_cases("random_normal")

    def numpy(self, stream: Any, *, shape: tuple[int, ...], dtype: str) -> Array:
        numbers: Array = _philox().normal(stream, shape, dtype)
        return numbers


@define_op
class TruncatedNormal(FloatDistribution):
    """Normal floats nearer to 0 than two deviations.

    ``%r = truncated_normal(@s, shape=[n, 3], dtype="f32") : f32[n, 3]``
    """

    kind = "truncated_normal"
    cases = float_cases("truncated_normal")

    def numpy(self, stream: Any, *, shape: tuple[int, ...], dtype: str) -> Array:
        numbers: Array = _philox().truncated_normal(stream, shape, dtype)
        return numbers


@define_op
class RandomUniformInt(RandomOp):
    """Integers in [low, high).

    ``%r = random_uniform_int(@s, 0: i32, 10: i32, shape=[n]) : i32[n]``
    """

    cases = (
        "random_uniform_int(@resource, i32, i32, shape=[5])",
        "random_uniform_int(@resource, i64, i64, shape=[2, 3])",
        "random_uniform_int(@resource, i32, i32, shape=[])",
    )

    def infer(self, stream: Type, low: Type, high: Type, *, shape: Dims) -> Type:
        check_dtype("random_uniform_int", INDICES, low=low, high=high)
        check_same_dtype("random_uniform_int", low=low, high=high)
        check_rank("random_uniform_int", 0, low=low, high=high)
        return low.with_shape(shape)

    def numpy(self, stream: Any, low: Array, high: Array, *, shape: tuple[int, ...]) -> Array:
        dtype = "i64" if low.dtype.itemsize == 8 else "i32"
        numbers: Array = _philox().uniform_int(stream, low, high, shape, dtype)
        return numbers

    def lower(
        self,
        k: LoopBuilder,
        out: Operand,
        stream: Operand,
        low: Operand,
        high: Operand,
        *,
        shape: Dims,
    ) -> None:
        first, last = k.element(low, (), ()), k.element(high, (), ())
        size = k.emit("from_index", k.index(offset=dims.product(shape)), dtype="i64")
        empty = k.emit("greater_equal", first, last)
        wrong = k.emit("logical_and", empty, k.emit("greater", size, Const(size.type, 0)))
        k.emit("fail_if", wrong, first, last, message="Need minval < maxval, got {} >= {}")
        k.emit("philox", stream, out, first, last, kind="uniform_int")


@define_op
class Shuffle(RandomOp):
    """The rows (axis 0) of ``x`` in random order. ``%r = shuffle(@s, %x) : f32[n, 3]``"""

    cases = (
        "shuffle(@resource, f32[5, 2])",
        "shuffle(@resource, i32[1])",
        "shuffle(@resource, bool)",
        "shuffle(@resource, string[3])",
    )

    def infer(self, stream: Type, x: Type) -> Type:
        return x

    def numpy(self, stream: Any, x: Array) -> Array:
        rows: Array = _philox().shuffle(stream, x)
        return rows


@define_op
class Multinomial(RandomOp):
    """``samples`` class numbers of each row, of probability proportional to ``exp(logits)``.

    ``%r = multinomial(@s, %logits, samples=4) : i64[n, 4]``
    """

    cases = (
        "multinomial(@resource, f32[3, 4], samples=5)",
        'multinomial(@resource, f64[1, 2], samples=2, dtype="i32")',
        "multinomial(@resource, f16[2, 3], samples=0)",
    )

    def infer(self, stream: Type, logits: Type, *, samples: Dim, dtype: str = "i64") -> Type:
        check_dtype("multinomial", REAL, logits=logits)
        check_dtype("multinomial", INDICES, result=Type(dtype))
        check_rank("multinomial", 2, logits=logits)
        return Type(dtype, (logits.dims[0], samples))

    def numpy(self, stream: Any, logits: Array, *, samples: int, dtype: str) -> Array:
        classes: Array = _philox().multinomial(stream, logits, samples, dtype)
        return classes
