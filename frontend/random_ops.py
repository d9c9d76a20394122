"""API functions that draw random numbers: names, nodes and numbers are TensorFlow's.

Every node has a stream of its own, which starts from the seeds of graph and node and goes on from
run to run.
"""

from __future__ import annotations

from typing import Any

from stepforge.frontend import comparison_ops, elementwise_ops
from stepforge.frontend.array_calls import make, shape_tensor
from stepforge.frontend.convert import convert_to_tensor
from stepforge.frontend.core_ops import Assert, with_dependencies
from stepforge.frontend.dtypes import as_dtype, float32, int32, int64
from stepforge.frontend.graph import create_op
from stepforge.frontend.operation import Tensor
from stepforge.frontend.reduction_ops import reduce_all
from stepforge.frontend.scopes import name_scope
from stepforge.frontend.seeds import get_seed
from stepforge.frontend.shape_ops import shape as shape_of
from stepforge.frontend.slicing import slice as slice_of


def _seeds(seed: int | None) -> dict[str, Any]:
    first, second = get_seed(seed)
    return {"seed": first or 0, "seed2": second or 0}


def _tensors(*values: Any) -> list[Tensor]:
    return [value for value in values if isinstance(value, Tensor)]


def random_uniform(
    shape: Any,
    minval: Any = 0,
    maxval: Any = None,
    dtype: Any = float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Uniform numbers in [minval, maxval); floats by default in [0, 1).

    Raises: ValueError for integers without ``maxval``, or a dtype that there is no distribution
    for.
    """
    kind = as_dtype(dtype).base_dtype
    if kind not in (int32, int64) and not kind.is_floating:
        raise ValueError(f"Argument `dtype` got invalid value {kind}")
    if maxval is None:
        if kind.is_integer:
            raise ValueError(f"Must specify maxval for integer dtype {kind!r}")
        maxval = 1
    from_0 = isinstance(minval, int) and minval == 0
    to_1 = isinstance(maxval, int) and maxval == 1
    with name_scope(name, "random_uniform", _tensors(shape, minval, maxval)) as scope:
        sizes = shape_tensor(shape)
        if kind.is_integer or not (from_0 and to_1):
            minval = convert_to_tensor(minval, kind, "min")
            maxval = convert_to_tensor(maxval, kind, "max")
        seeds = _seeds(seed)
        if kind.is_integer:
            inputs = (sizes, minval, maxval)
            return create_op("RandomUniformInt", inputs, seeds, scope).outputs[0]
        units: Any = create_op("RandomUniform", (sizes,), {**seeds, "dtype": kind.ir}).outputs[0]
        if from_0:
            return units if to_1 else create_op("Mul", (units, maxval)).outputs[0]
        scaled = units * (maxval - minval)
        return create_op("AddV2", (scaled, minval), None, scope).outputs[0]


def _scaled(
    type_: str,
    default_name: str,
    shape: Any,
    mean: Any,
    stddev: Any,
    dtype: Any,
    seed: int | None,
    name: str | None,
) -> Tensor:
    """Numbers of a distribution of mean 0 and deviation 1, scaled and shifted."""
    kind = as_dtype(dtype).base_dtype
    with name_scope(name, default_name, _tensors(shape, mean, stddev)) as scope:
        sizes = shape_tensor(shape)
        centre = convert_to_tensor(mean, kind, "mean")
        spread = convert_to_tensor(stddev, kind, "stddev")
        units: Any = create_op(type_, (sizes,), {**_seeds(seed), "dtype": kind.ir}).outputs[0]
        return create_op("AddV2", (units * spread, centre), None, scope).outputs[0]


def random_normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Normal numbers."""
    return _scaled("RandomStandardNormal", "random_normal", shape, mean, stddev, dtype, seed, name)


def truncated_normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Normal numbers nearer to the mean than two deviations."""
    return _scaled("TruncatedNormal", "truncated_normal", shape, mean, stddev, dtype, seed, name)


def random_shuffle(value: Any, seed: int | None = None, name: str | None = None) -> Tensor:
    """The rows of ``value`` (axis 0) in random order."""
    return make("RandomShuffle", (("value", value, None),), _seeds(seed), name).outputs[0]


def multinomial(
    logits: Any,
    num_samples: Any,
    seed: int | None = None,
    name: str | None = None,
    output_dtype: Any = None,
) -> Tensor:
    """Class numbers drawn for each row of unnormalised log probabilities [batch, classes]."""
    with name_scope(name, "multinomial", _tensors(logits)):
        return _classes(logits, num_samples, output_dtype, seed)


def categorical(
    logits: Any,
    num_samples: Any,
    dtype: Any = None,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Class numbers drawn for each row of unnormalised log probabilities [batch, classes]."""
    with name_scope(name, "categorical", _tensors(logits)):
        return _classes(logits, num_samples, dtype, seed)


def _classes(logits: Any, num_samples: Any, dtype: Any, seed: int | None) -> Tensor:
    values = convert_to_tensor(logits, name="logits")
    kind = int64 if dtype is None else as_dtype(dtype)
    if kind not in (int32, int64):
        raise ValueError(
            f"Argument `dtype` got invalid value {kind}. Supported dtypes: int32, int64"
        )
    arguments = (("logits", values, None), ("num_samples", num_samples, int32))
    attrs = {**_seeds(seed), "output_dtype": kind.ir}
    return make("Multinomial", arguments, attrs).outputs[0]


def random_crop(value: Any, size: Any, seed: int | None = None, name: str | None = None) -> Tensor:
    """A slice of the shape ``size`` at a random place; runs check that it fits."""
    with name_scope(name, "random_crop", _tensors(value, size)) as scope:
        whole = convert_to_tensor(value, name="value")
        sizes = convert_to_tensor(size, int32, "size")
        shape = shape_of(whole)
        fits = reduce_all(comparison_ops.greater_equal(shape, sizes))
        check = Assert(fits, ["Need value.shape >= size, got ", shape, sizes], summarize=1000)
        shape = with_dependencies([check], shape)
        room = shape - sizes + 1
        draws = random_uniform(shape_of(room), 0, sizes.dtype.max, sizes.dtype, seed)
        return slice_of(whole, elementwise_ops.floormod(draws, room, "mod"), sizes, scope)
