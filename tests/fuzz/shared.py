"""What functions and programs share: how findings are shown, and how far apart numbers are."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
RUNS = 3  # evaluations with noise
MARGIN = 12.0  # how many times what noise did is still no finding


class Finding(AssertionError):
    """A difference, with Python that shows it again."""


def literal(value: Array) -> str:
    """An array as Python."""
    numbers = str(value.tolist()).replace("inf", "np.inf").replace("nan", "np.nan")
    made = f"np.array({numbers}, '{value.dtype}')"
    return made if value.size else f"{made}.reshape({value.shape})"


def distance(new: Array, old: Array) -> Array:
    """How far apart numbers are: 0 for equal ones, NaN where one is not finite or another NaN."""
    if old.dtype.kind in "biu" or old.dtype.kind == "O":
        return np.where(new == old, 0.0, np.nan)
    wide = np.complex128 if old.dtype.kind == "c" else np.float64
    a, b = new.astype(wide), old.astype(wide)
    with np.errstate(all="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        far = np.where(np.isfinite(a) & np.isfinite(b), np.abs(a - b), np.nan)
    return np.where(same, 0.0, far)
