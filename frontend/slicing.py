"""``tf.slice``, ``tf.strided_slice`` and ``tensor[...]``, which importing this defines."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from stepforge.frontend import indexing_ops
from stepforge.frontend.array_calls import INDEX, make
from stepforge.frontend.array_ops import ones_like
from stepforge.frontend.convert import constant, convert_to_tensor
from stepforge.frontend.dtypes import bool_, int16, int32, int64
from stepforge.frontend.elementwise_ops import cast
from stepforge.frontend.joining_ops import stack
from stepforge.frontend.operation import Tensor
from stepforge.frontend.scopes import name_scope
from stepforge.frontend.shapes import Dimension

newaxis = None
_NOT_AN_INDEX = (
    "Only integers, slices (`:`), ellipsis (`...`), tf.newaxis (`None`) and scalar "
    "tf.int32/tf.int64 tensors are valid indices"
)


def slice(input_: Any, begin: Any, size: Any, name: str | None = None) -> Tensor:
    """``size[i]`` elements of axis i from ``begin[i]`` on; a size of -1 takes the rest."""
    arguments = (("input", input_, None), ("begin", begin, INDEX), ("size", size, INDEX))
    return make("Slice", arguments, None, name).outputs[0]


def slice_grad(dy: Any, begin: Any, input: Any, name: str | None = None) -> Tensor:
    """The gradient of ``slice`` from that of its result: in the shape of ``input``."""
    arguments = (("dy", dy, None), ("begin", begin, INDEX), ("input", input, None))
    return make("SliceGrad", arguments, None, name).outputs[0]


def strided_slice(
    input_: Any,
    begin: Any,
    end: Any,
    strides: Any = None,
    begin_mask: int = 0,
    end_mask: int = 0,
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
    shrink_axis_mask: int = 0,
    var: Any = None,
    name: str | None = None,
) -> Tensor:
    """``input_[begin:end:strides]``; bit i of a mask changes what element i of the three vectors
    means.

    begin_mask, end_mask: no bound; ellipsis_mask: ``...``; new_axis_mask: ``None``;
    shrink_axis_mask: a single index. Raises: ValueError where it is known that the slice does not
    fit.
    """
    if strides is None:
        strides = ones_like(begin)
    attrs = {
        "begin_mask": begin_mask,
        "end_mask": end_mask,
        "ellipsis_mask": ellipsis_mask,
        "new_axis_mask": new_axis_mask,
        "shrink_axis_mask": shrink_axis_mask,
    }
    accepts = (*INDEX, int16)
    arguments = (
        ("input", input_, None),
        ("begin", begin, accepts),
        ("end", end, accepts),
        ("strides", strides, accepts),
    )
    return make("StridedSlice", arguments, attrs, name).outputs[0]


def strided_slice_grad(
    shape: Any, begin: Any, end: Any, strides: Any, dy: Any, name: str | None = None, **masks: int
) -> Tensor:
    """The gradient of ``strided_slice``: zeros of ``shape`` with ``dy`` where the slice was."""
    arguments = (
        ("shape", shape, None),
        ("begin", begin, None),
        ("end", end, None),
        ("strides", strides, None),
        ("dy", dy, None),
    )
    return make("StridedSliceGrad", arguments, masks, name).outputs[0]


# ---- the operator --------------------------------------------------------------------------------
class _Spec:
    """What stands between the brackets, as vectors and masks of ``strided_slice``."""

    def __init__(self) -> None:
        self.begin: list[Any] = []
        self.end: list[Any] = []
        self.strides: list[Any] = []
        self.masks = dict.fromkeys(
            ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"), 0
        )

    def add(self, begin: Any, end: Any, stride: Any, *masks: str) -> None:
        for mask in masks:
            self.masks[mask] |= 1 << len(self.begin)
        self.begin.append(begin)
        self.end.append(end)
        self.strides.append(stride)


def getitem(tensor: Any, key: Any) -> Tensor:
    """``tensor[key]``: integers, slices, ``...``, None and scalar integer tensors; or a mask of
    bools.

    Raises: TypeError for other indices, ValueError where they are known to be out of range.
    """
    value = convert_to_tensor(tensor)
    if isinstance(key, bool) or _is_mask(key):
        return indexing_ops.boolean_mask(value, key)
    spec = _Spec()
    for item in key if isinstance(key, (list, tuple)) else [key]:
        _add_item(spec, item)
    flat = [*spec.begin, *spec.end, *spec.strides]
    tensors = [value, *(v for v in flat if isinstance(v, Tensor))]
    with name_scope(None, "strided_slice", tensors) as scope:
        bounds = _packed(spec)
        return strided_slice(value, *bounds, **spec.masks, name=scope)


def _is_mask(key: Any) -> bool:
    if isinstance(key, Tensor):
        return key.dtype.base_dtype is bool_
    return isinstance(key, np.ndarray) and key.dtype == bool


_PySlice = type(np.s_[:])


def _add_item(spec: _Spec, item: Any) -> None:
    if isinstance(item, _PySlice):
        _add_slice(spec, item)
    elif item is Ellipsis:
        spec.add(0, 0, 1, "ellipsis_mask")
    elif item is None:
        spec.add(0, 0, 1, "new_axis_mask")
    else:
        _check_index(item)
        wide = isinstance(item, Tensor) and item.dtype.base_dtype in (int16, int64)
        after = item + 1
        step = constant(1, item.dtype.base_dtype) if wide else 1
        spec.add(item, after, step, "shrink_axis_mask")


def _add_slice(spec: _Spec, item: Any) -> None:
    """A range; where one of its parts is a tensor, the parts that are missing get its dtype."""
    kinds = [
        t.dtype.base_dtype for t in (item.start, item.stop, item.step) if isinstance(t, Tensor)
    ]
    dtype = next((kind for kind in (int64, int32, int16) if kind in kinds), None)
    masks: list[str] = []
    parts: list[Any] = []
    for part, default, mask in (
        (item.start, 0, "begin_mask"),
        (item.stop, 0, "end_mask"),
        (item.step, 1, ""),
    ):
        if part is None or (isinstance(part, Dimension) and part.value is None):
            parts.append(default if dtype is None else constant(default, dtype))
            masks += [mask] if mask else []
        else:
            _check_index(part)
            parts.append(part)
    spec.add(parts[0], parts[1], parts[2], *masks)


def _check_index(index: Any) -> None:
    if isinstance(index, (numbers.Integral, Dimension)):
        return
    if isinstance(index, Tensor):
        name, rank = index.dtype.base_dtype.name, index.shape.ndims
    else:
        name, rank = str(getattr(index, "dtype", None)), np.ndim(index)
    if name not in ("int16", "int32", "int64") or rank == 1:
        raise TypeError(f"{_NOT_AN_INDEX}, got {index!r}")


def _packed(spec: _Spec) -> tuple[Tensor, Tensor, Tensor]:
    """The three vectors as tensors of one dtype."""
    if not spec.begin:
        empty = constant([], int32)
        return empty, empty, empty
    packed = [stack(part) for part in (spec.begin, spec.end, spec.strides)]
    if any(tensor.dtype.base_dtype is int64 for tensor in packed):
        packed = [cast(tensor, int64) for tensor in packed]
    return packed[0], packed[1], packed[2]


Tensor.overload("__getitem__", getitem)
