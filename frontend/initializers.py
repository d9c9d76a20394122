"""Initializers: callables that make the initial value of a variable from its shape and dtype.

Names and seeds of the nodes that they make are TensorFlow 1's, so the same seed gives the same
numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepforge.frontend import api, dtypes
from stepforge.frontend.convert import constant
from stepforge.frontend.dtypes import DType, as_dtype
from stepforge.frontend.operation import Tensor

_TRUNCATED_STDDEV = (
    0.87962566103423978  # of a normal distribution cut off at two standard deviations
)


class Initializer:
    """Base class: ``initializer(shape, dtype)`` gives a tensor."""

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        """The initial value of a variable of ``shape``."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The settings that ``from_config`` takes."""
        return {k: v.name if isinstance(v, DType) else v for k, v in vars(self).items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Initializer:
        """An initializer with the settings that ``get_config`` gave."""
        return cls(**config)


class Zeros(Initializer):
    """All elements 0, False or empty."""

    def __init__(self, dtype: Any = dtypes.float32) -> None:
        self.dtype = as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        """The initial value of a variable of ``shape``."""
        return api.zeros(shape, self.dtype if dtype is None else dtype)  # type: ignore[no-any-return]


class Ones(Initializer):
    """All elements 1."""

    def __init__(self, dtype: Any = dtypes.float32) -> None:
        self.dtype = as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        """The initial value of a variable of ``shape``."""
        return api.ones(shape, self.dtype if dtype is None else dtype)  # type: ignore[no-any-return]


class Constant(Initializer):
    """The elements of ``value``, the last of them repeated to the end.

    Raises: TypeError where ``value`` is no number, list or array; ValueError for too many elements.
    """

    def __init__(
        self, value: Any = 0, dtype: Any = dtypes.float32, verify_shape: bool = False
    ) -> None:
        if not (np.isscalar(value) or isinstance(value, (list, tuple, np.ndarray))):
            raise TypeError(
                f"Invalid type for initial value={value} of type: {type(value).__name__}. Expected "
                "Python scalar, list or tuple of values, or numpy.ndarray."
            )
        self.value, self.dtype, self.verify_shape = value, as_dtype(dtype), verify_shape

    def __call__(
        self,
        shape: Any,
        dtype: Any = None,
        partition_info: Any = None,
        verify_shape: bool | None = None,
    ) -> Tensor:
        """The initial value of a variable of ``shape``."""
        chosen = self.dtype if dtype is None else dtype
        verify = self.verify_shape if verify_shape is None else verify_shape
        return constant(self.value, chosen, shape, verify_shape=verify)


class RandomUniform(Initializer):
    """Uniform in [``minval``, ``maxval``); by default 1 at most for floats."""

    def __init__(
        self,
        minval: Any = 0.0,
        maxval: Any = None,
        seed: int | None = None,
        dtype: Any = dtypes.float32,
    ) -> None:
        self.minval, self.maxval, self.seed = minval, maxval, seed
        self.dtype = as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        """The initial value of a variable of ``shape``."""
        chosen = self.dtype if dtype is None else dtype
        return api.random_uniform(  # type: ignore[no-any-return]
            shape, self.minval, self.maxval, chosen, seed=self.seed
        )


class RandomNormal(Initializer):
    """Normal with ``mean`` and ``stddev``."""

    def __init__(
        self,
        mean: Any = 0.0,
        stddev: Any = 1.0,
        seed: int | None = None,
        dtype: Any = dtypes.float32,
    ) -> None:
        self.mean, self.stddev, self.seed = mean, stddev, seed
        self.dtype = _floating(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        """The initial value of a variable of ``shape``."""
        chosen = self.dtype if dtype is None else dtype
        return api.random_normal(  # type: ignore[no-any-return]
            shape, self.mean, self.stddev, chosen, seed=self.seed
        )


class TruncatedNormal(RandomNormal):
    """Normal, values more than two standard deviations from the mean drawn again."""

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        """The initial value of a variable of ``shape``."""
        chosen = self.dtype if dtype is None else dtype
        return api.truncated_normal(  # type: ignore[no-any-return]
            shape, self.mean, self.stddev, chosen, seed=self.seed
        )


class UniformUnitScaling(Initializer):
    """Uniform, scaled by the number of inputs so that a product keeps the variance."""

    def __init__(
        self, factor: float = 1.0, seed: int | None = None, dtype: Any = dtypes.float32
    ) -> None:
        self.factor, self.seed, self.dtype = factor, seed, _floating(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        """The initial value of a variable of ``shape``."""
        chosen = self.dtype if dtype is None else dtype
        inputs = max(1.0, math.prod(float(n) for n in list(shape)[:-1]))
        limit = math.sqrt(3 / inputs) * self.factor
        return api.random_uniform(  # type: ignore[no-any-return]
            shape, -limit, limit, chosen, seed=self.seed
        )


class VarianceScaling(Initializer):
    """Random with variance ``scale / n``; ``n`` counts inputs, outputs or their mean (``mode``).

    Raises: ValueError for a scale that is not positive, an unknown mode or distribution.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
        dtype: Any = dtypes.float32,
    ) -> None:
        if scale <= 0.0:
            raise ValueError(f"Argument `scale` must be a positive float. Received: {scale}")
        if mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ValueError(
                "Argument `mode` should be one of ('fan_in', 'fan_out', 'fan_avg'). Received: "
                f"{mode}"
            )
        distribution = distribution.lower()
        if distribution not in ("normal", "uniform", "truncated_normal", "untruncated_normal"):
            raise ValueError(
                f"Invalid `distribution` argument: {distribution}. Allowed distributions are "
                "normal, uniform, truncated_normal, untruncated_normal."
            )
        self.scale, self.mode, self.distribution, self.seed = scale, mode, distribution, seed
        self.dtype = _floating(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        """The initial value of a variable of ``shape``."""
        chosen = self.dtype if dtype is None else dtype
        scale = self.scale / max(1.0, _fan(shape, self.mode))
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * scale)
            return api.random_uniform(  # type: ignore[no-any-return]
                shape, -limit, limit, chosen, seed=self.seed
            )
        stddev = math.sqrt(scale)
        if self.distribution == "untruncated_normal":
            return api.random_normal(  # type: ignore[no-any-return]
                shape, 0.0, stddev, chosen, seed=self.seed
            )
        stddev /= _TRUNCATED_STDDEV
        return api.truncated_normal(  # type: ignore[no-any-return]
            shape, 0.0, stddev, chosen, seed=self.seed
        )


class GlorotUniform(VarianceScaling):
    """Xavier's uniform distribution: variance 2 / (inputs + outputs)."""

    def __init__(self, seed: int | None = None, dtype: Any = dtypes.float32) -> None:
        super().__init__(1.0, "fan_avg", "uniform", seed, dtype)

    def get_config(self) -> dict[str, Any]:
        """The settings that ``from_config`` takes."""
        return {"seed": self.seed, "dtype": self.dtype.name}


class GlorotNormal(VarianceScaling):
    """Xavier's normal distribution, truncated: variance 2 / (inputs + outputs)."""

    def __init__(self, seed: int | None = None, dtype: Any = dtypes.float32) -> None:
        super().__init__(1.0, "fan_avg", "truncated_normal", seed, dtype)

    def get_config(self) -> dict[str, Any]:
        """The settings that ``from_config`` takes."""
        return {"seed": self.seed, "dtype": self.dtype.name}


class Orthogonal(Initializer):
    """A random orthogonal matrix times ``gain``; further axes are folded into the rows.

    Raises: ValueError for less than two axes.
    """

    def __init__(
        self, gain: float = 1.0, seed: int | None = None, dtype: Any = dtypes.float32
    ) -> None:
        self.gain, self.dtype, self.seed = gain, _floating(dtype), seed

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        """The initial value of a variable of ``shape``."""
        chosen = self.dtype if dtype is None else dtype
        sizes = [int(n) for n in shape]
        if len(sizes) < 2:
            raise ValueError(
                "The tensor to initialize must be at least two-dimensional. Received: shape="
                f"{shape} of rank {len(sizes)}."
            )
        rows, columns = math.prod(sizes[:-1]), sizes[-1]
        flat = (columns, rows) if rows < columns else (rows, columns)
        drawn = api.random_normal(flat, dtype=chosen, seed=self.seed)
        q, r = api.qr(drawn, full_matrices=False)
        q *= api.sign(api.diag_part(r))
        if rows < columns:
            q = api.matrix_transpose(q)
        return self.gain * api.reshape(q, sizes)  # type: ignore[no-any-return]


class Identity(Initializer):
    """The identity matrix times ``gain``. Raises: ValueError for a shape that is no matrix's."""

    def __init__(self, gain: float = 1.0, dtype: Any = dtypes.float32) -> None:
        self.gain, self.dtype = gain, _floating(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        """The initial value of a variable of ``shape``."""
        sizes = list(shape)
        if len(sizes) != 2:
            raise ValueError(
                "The tensor to initialize must be at least two-dimensional. Received: shape="
                f"{shape} of rank {len(sizes)}."
            )
        chosen = self.dtype if dtype is None else dtype
        made = api.eye(*sizes, dtype=chosen)
        return made if self.gain == 1.0 else self.gain * made  # type: ignore[no-any-return]


def _floating(dtype: Any) -> DType:
    found = as_dtype(dtype)
    if not found.is_floating:
        raise ValueError(f"Argument `dtype` is expected to be floating point. Received: {found}.")
    return found


def _fan(shape: Any, mode: str) -> float:
    inputs, outputs = _fans([int(n) for n in shape])
    return {"fan_in": inputs, "fan_out": outputs, "fan_avg": (inputs + outputs) / 2.0}[mode]


def _fans(sizes: Sequence[int]) -> tuple[float, float]:
    """Inputs and outputs of a weight: the last two axes, times a convolution's window."""
    if not sizes:
        return 1.0, 1.0
    if len(sizes) == 1:
        return float(sizes[0]), float(sizes[0])
    window = float(math.prod(sizes[:-2]))
    return window * sizes[-2], window * sizes[-1]


# ---- named settings of VarianceScaling -----------------------------------------------------------
def lecun_normal(seed: int | None = None) -> VarianceScaling:
    """Normal, truncated: variance 1 / inputs."""
    return VarianceScaling(1.0, "fan_in", "truncated_normal", seed)


def lecun_uniform(seed: int | None = None) -> VarianceScaling:
    """Uniform: variance 1 / inputs."""
    return VarianceScaling(1.0, "fan_in", "uniform", seed)


def he_normal(seed: int | None = None) -> VarianceScaling:
    """Normal, truncated: variance 2 / inputs."""
    return VarianceScaling(2.0, "fan_in", "truncated_normal", seed)


def he_uniform(seed: int | None = None) -> VarianceScaling:
    """Uniform: variance 2 / inputs."""
    return VarianceScaling(2.0, "fan_in", "uniform", seed)
