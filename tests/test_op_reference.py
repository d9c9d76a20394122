"""The ``numpy`` rules against values that TensorFlow 2.21 computed
(``data/make_op_reference.py``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract import Case, run

import stepforge.ir.ops
from stepforge.ir.opdef import lookup
from stepforge.ir.types import numpy_dtype

assert stepforge.ir.ops  # importing it fills the registry

DATA = json.loads((Path(__file__).parent / "data" / "op_reference.json").read_text())
TOLERANCE = {"f16": 2e-3, "bf16": 1.6e-2, "f32": 2e-6, "f64": 1e-12, "c64": 4e-6, "c128": 1e-12}
# Kernels of TensorFlow that are less exact than the rule.
LOOSE = {"digamma": 1e-5, "lgamma": 1e-5, "zeta": 1e-10, "polygamma": 1e-10, "igamma": 1e-10}
# Where TensorFlow gives NaN and the rule a number: only the rest is compared.
MORE_DEFINED = {("erf", "f64"): "TensorFlow's erf of an infinite double is NaN"}


def decode(entry: dict[str, Any]) -> Any:
    dtype = entry["dtype"]
    if dtype in ("c64", "c128"):
        parts = np.array(entry["data"], "f4" if dtype == "c64" else "f8")
        return parts.view(numpy_dtype(dtype)).reshape(entry["shape"])
    return np.array(entry["data"]).astype(numpy_dtype(dtype)).reshape(entry["shape"])


INPUTS = {key: decode(entry) for key, entry in DATA["inputs"].items()}
OPS = sorted({record["op"] for record in DATA["records"]})


def flushed(x: Any) -> Any:
    """Without subnormal numbers, which TensorFlow's kernels flush to 0."""
    if x.dtype.kind not in "fV":
        return x
    wide = x.astype(np.float64)
    tiny = 1.2e-38 if x.dtype.itemsize != 8 else 2.3e-308
    return np.where(np.abs(wide) < tiny, 0, wide)


def attributes(record: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in record["attrs"].items()}


@pytest.mark.parametrize("op", OPS)
def test_rule_agrees_with_tensorflow(op: str) -> None:
    for record in (r for r in DATA["records"] if r["op"] == op):
        operands = [INPUTS[key] for key in record["inputs"]]
        case = Case(op, op, (), (), attributes(record))
        results = run(case, operands)
        label = f"{op}{record['inputs']}{record['attrs']}"
        for actual, entry in zip(results, record["results"], strict=True):
            expected = decode(entry)
            assert actual.dtype == expected.dtype, label
            rtol = max(TOLERANCE.get(entry["dtype"], 0), LOOSE.get(op, 0))
            pair = flushed(actual), flushed(expected)
            if (op, entry["dtype"]) in MORE_DEFINED:
                pair = tuple(x[~np.isnan(pair[1])] for x in pair)
            np.testing.assert_allclose(*pair, rtol=rtol, atol=rtol / 10, err_msg=label)


def test_reference_covers_the_vocabulary() -> None:
    elementwise = {name for name in OPS if lookup(name).elementwise}
    assert len(elementwise) > 60
    assert len(OPS) > 90
    assert DATA["tensorflow"] == "2.21.0"
