"""Our own node types in terms of TensorFlow's, for GraphDefs that TensorFlow can run.

Our gradients have nodes like ``SumToLike`` where TensorFlow spends several. Written out, the last
of the nodes has the name of ours, and the others have names below it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepforge.frontend.graphdef.attributes import write_attribute
from stepforge.frontend.graphdef.signatures import signature
from stepforge.frontend.graphdef.tensors import fill_tensor


class Expansion:
    """Writes the nodes that stand for ``op`` into a ``GraphDef``."""

    def __init__(self, message: Any, op: Any, inputs: list[str]) -> None:
        self.op, self.inputs = op, inputs
        self._message = message
        self._control = [f"^{control.name}" for control in op.control_inputs]

    def node(self, suffix: str, type_: str, inputs: list[str], **attrs: Any) -> str:
        """Add a node ``op/suffix``, or ``op`` itself for an empty one; gives its name."""
        name = f"{self.op.name}/{suffix}" if suffix else self.op.name
        node = self._message.node.add(name=name, op=type_, device=self.op.device)
        node.input.extend(inputs + self._control)
        declared = signature(type_)
        assert declared is not None
        for key, value in attrs.items():
            write_attribute(node.attr[key], declared.attributes[key].kind, value)
        return name

    def constant(self, suffix: str, values: Any, dtype: str = "i32") -> str:
        """Add a constant; gives its name."""
        name = self.node(suffix, "Const", [], dtype=dtype)
        array = np.array(values, np.int64 if dtype == "i64" else np.int32)
        fill_tensor(self._message.node[-1].attr["value"].tensor, array, dtype)
        return name

    def shape(self, suffix: str, position: int, dtype: str = "i32") -> str:
        """Add the shape of an input; gives its name."""
        attrs = {"T": self.dtype(position), "out_type": dtype}
        return self.node(suffix, "Shape", [self.inputs[position]], **attrs)

    def dtype(self, position: int) -> str:
        """The dtype of an input."""
        name: str = self.op.inputs[position].dtype.base_dtype.ir
        return name


def _sum_to(e: Expansion, shape: str) -> None:
    kind = e.dtype(0)
    have = e.shape("have", 0)
    axes = e.node("axes", "BroadcastGradientArgs", [shape, have], T="i32")
    attrs = {"T": kind, "Tidx": "i32", "keep_dims": False}
    total = e.node("total", "Sum", [e.inputs[0], axes], **attrs)
    e.node("", "Reshape", [total, shape], T=kind, Tshape="i32")


def _sum_to_like(e: Expansion) -> None:
    _sum_to(e, e.shape("wanted", 1))


def _sum_to_shape(e: Expansion) -> None:
    _sum_to(e, e.constant("wanted", e.op.attrs["shape"]))


def _expand_reduced(e: Expansion) -> None:
    kind = e.dtype(0)
    value, like, axes = e.inputs
    wanted = e.shape("wanted", 1)
    if e.op.attrs["mean"]:
        parts = [
            e.node(f"size_{i}", "Size", [name], T=e.dtype(i), out_type="i32")
            for i, name in enumerate((value, like))
        ]
        one = e.constant("one", 1)
        least = e.node("at_least_1", "Maximum", [parts[0], one], T="i32")
        count = e.node("count", "FloorDiv", [parts[1], least], T="i32")
        number = e.node("number", "Cast", [count], SrcT="i32", DstT=kind, Truncate=False)
        value = e.node("share", "RealDiv", [value, number], T=kind)
    attrs = {"T": e.dtype(1), "Tidx": e.dtype(2), "keep_dims": True}
    kept = e.node("kept", "Sum", [like, axes], **attrs)
    kept_shape = e.node("kept_shape", "Shape", [kept], T=e.dtype(1), out_type="i32")
    value = e.node("spread", "Reshape", [value, kept_shape], T=kind, Tshape="i32")
    e.node("", "BroadcastTo", [value, wanted], T=kind, Tidx="i32")


def _slice_gradient(e: Expansion) -> None:
    kind, index = e.dtype(0), e.dtype(1)
    dy, begin, _ = e.inputs
    after = e.node("end", "Sub", [e.shape("wanted", 2, index), begin], T=index)
    after = e.node("after", "Sub", [after, e.shape("have", 0, index)], T=index)
    paddings = e.node("paddings", "Pack", [begin, after], T=index, N=2, axis=1)
    e.node("", "Pad", [dy, paddings], T=kind, Tpaddings=index)


def _gather_gradient(e: Expansion) -> None:
    """Sums over groups go over the first axes, so the indexed ones move there and back."""
    dy, indices, _ = e.inputs
    kind, index = e.dtype(0), e.dtype(1)
    axis, count = e.op.attrs["axis"], e.op.inputs[1].shape.ndims
    rank = e.op.inputs[2].shape.ndims
    if axis:
        order = [*range(axis, axis + count), *range(axis), *range(axis + count, rank + count - 1)]
        perm = e.constant("perm", order)
        dy = e.node("moved", "Transpose", [dy, perm], T=kind, Tperm="i32")
    parts = [e.shape("wanted", 2), e.constant("axis", axis), e.constant("zero", 0)]
    size = e.node("size", "GatherV2", parts, Tparams="i32", Tindices="i32", Taxis="i32")
    attrs = {"T": kind, "Tindices": index, "Tnumsegments": "i32"}
    total = e.node("total" if axis else "", "UnsortedSegmentSum", [dy, indices, size], **attrs)
    if axis:
        back = e.constant("back", [*range(1, axis + 1), 0, *range(axis + 1, rank)])
        e.node("", "Transpose", [total, back], T=kind, Tperm="i32")


def _gathers_simply(op: Any) -> bool:
    ranks = (op.inputs[1].shape.ndims, op.inputs[2].shape.ndims)
    return None not in ranks and not op.attrs["batch_dims"] and op.attrs["axis"] >= 0


_RULES: dict[str, Callable[[Expansion], None]] = {
    "ExpandReduced": _expand_reduced,
    "GatherGrad": _gather_gradient,
    "SliceGrad": _slice_gradient,
    "SumToLike": _sum_to_like,
    "SumToShape": _sum_to_shape,
}


def expansion_of(op: Any) -> Callable[[Expansion], None] | None:
    """The rule that writes ``op`` as nodes of TensorFlow, None where it is one or there is none."""
    if op.type == "GatherGrad" and not _gathers_simply(op):
        return None
    return _RULES.get(op.type)
