"""API functions that join, cut, pad and rearrange tensors: ``tf.concat``, ``tf.split`` ..."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepforge.frontend.array_calls import INDEX, make, tensor_list
from stepforge.frontend.convert import convert_to_tensor
from stepforge.frontend.core_ops import identity
from stepforge.frontend.dtypes import int32
from stepforge.frontend.graph import create_op
from stepforge.frontend.node_calls import renamed
from stepforge.frontend.operation import Tensor
from stepforge.frontend.scopes import name_scope
from stepforge.frontend.shapes import Dimension


def concat(values: Any, axis: Any, name: str = "concat") -> Tensor:
    """Tensors one after the other along ``axis``; their other sizes must agree.

    Raises: TypeError for several dtypes, ValueError where ranks or sizes are known to differ.
    """
    values = list(values) if isinstance(values, (list, tuple)) else [values]
    if len(values) == 1:
        with name_scope(name):
            place = convert_to_tensor(axis, int32, "concat_dim")
            place.shape.assert_has_rank(0)
            return identity(values[0], name)  # type: ignore[no-any-return]
    tensors = [value for value in values if isinstance(value, Tensor)]
    with name_scope(name, "ConcatV2", tensors) as scope:
        inputs = tensor_list("ConcatV2", "values", values)
        arguments = [("values", value, None) for value in inputs]
        axis_argument = ("axis", axis, INDEX)
        attrs = {"N": len(inputs)}
        return make("ConcatV2", [*arguments, axis_argument], attrs, scope).outputs[0]


def stack(values: Any, axis: int = 0, name: str = "stack") -> Tensor:
    """Tensors of one shape along a new axis. Raises: ValueError, TypeError."""
    if axis == 0:
        try:
            return convert_to_tensor(values, name=name)
        except (TypeError, ValueError, NotImplementedError):
            pass  # a node will say what is wrong
    count = convert_to_tensor(values[0], name=name).shape.ndims
    if count is not None and not -count - 1 <= axis <= count:
        raise ValueError(f"Argument `axis` = {axis} not in range [{-count - 1}, {count + 1})")
    tensors = [value for value in values if isinstance(value, Tensor)]
    with name_scope(name, "Pack", tensors) as scope:
        inputs = tensor_list("Pack", "values", values)
        attrs = {"axis": axis, "N": len(inputs)}
        return create_op("Pack", inputs, attrs, scope).outputs[0]


def unstack(
    value: Any, num: int | None = None, axis: int = 0, name: str = "unstack"
) -> list[Tensor]:
    """The pieces of a tensor along ``axis``, without that axis.

    Raises: ValueError where their number is neither given nor known.
    """
    if num is None:
        value = convert_to_tensor(value)
        shape = value.shape
        if shape.ndims is not None:
            if not -shape.ndims <= axis < shape.ndims:
                raise ValueError(
                    f"Argument `axis` = {axis} not in range [{-shape.ndims}, {shape.ndims})"
                )
            num = shape.dims[axis].value
        if num is None:
            raise ValueError(f"Cannot infer argument `num` from shape {shape}")
    attrs = {"num": int(num), "axis": axis}
    return make("Unpack", (("value", value, None),), attrs, name).outputs


def split(
    value: Any,
    num_or_size_splits: Any,
    axis: Any = 0,
    num: int | None = None,
    name: str = "split",
) -> list[Tensor]:
    """A tensor cut along ``axis`` into a number of equal pieces, or into pieces of given sizes.

    One size may be -1, the rest. Raises: ValueError where the sizes are known not to fit.
    """
    if isinstance(num_or_size_splits, (int, np.integer, Dimension)):
        attrs = {"num_split": int(num_or_size_splits)}
        equal = (("split_dim", axis, (int32,)), ("value", value, None))
        return make("Split", equal, attrs, name).outputs
    lengths = convert_to_tensor(num_or_size_splits)
    if lengths.shape.ndims == 0:
        raise ValueError(
            "Rank-0 tensors are not supported as the num_or_size_splits argument to split. "
            f"Argument provided: {num_or_size_splits}"
        )
    if num is None:
        num = lengths.shape[0].value if lengths.shape.ndims else None
        if num is None:
            raise ValueError(f"Cannot infer argument `num` from shape {num_or_size_splits}")
    arguments = (
        ("value", value, None),
        ("size_splits", lengths, INDEX),
        ("split_dim", axis, INDEX),
    )
    return make("SplitV", arguments, {"num_split": int(num)}, name).outputs


def split_v(
    value: Any,
    size_splits: Any,
    split_dim: Any = 0,
    num: int | None = None,
    name: str = "split",
) -> list[Tensor]:
    """``split`` as it was called before TensorFlow 1.0."""
    return split(value, size_splits, split_dim, num, name)


def tile(input: Any, multiples: Any, name: str | None = None) -> Tensor:
    """``input`` repeated ``multiples[i]`` times along axis i."""
    arguments = (("input", input, None), ("multiples", multiples, INDEX))
    return make("Tile", arguments, None, name).outputs[0]


def pad(
    tensor: Any,
    paddings: Any,
    mode: str = "CONSTANT",
    name: str | None = None,
    constant_values: Any = 0,
) -> Tensor:
    """``tensor`` with ``paddings[i, 0]`` elements before and ``paddings[i, 1]`` behind axis i.

    ``mode`` is CONSTANT (copies of ``constant_values``), REFLECT or SYMMETRIC, in any case.
    Raises: ValueError for another mode.
    """
    kind = mode.upper()
    arguments: list[Any] = [("input", tensor, None), ("paddings", paddings, INDEX)]
    if kind in ("REFLECT", "SYMMETRIC"):
        return make("MirrorPad", arguments, {"mode": kind}, name).outputs[0]
    if kind != "CONSTANT":
        raise ValueError(
            'Value of argument `mode` expected to be one of "CONSTANT", "REFLECT", or "SYMMETRIC". '
            f"Received `mode` = {kind}"
        )
    if (
        not isinstance(constant_values, Tensor)
        and np.isscalar(constant_values)
        and constant_values == 0
    ):
        return make("Pad", arguments, None, name).outputs[0]
    value = convert_to_tensor(tensor) if not isinstance(tensor, Tensor) else tensor
    arguments[0] = ("input", value, None)
    arguments.append(("constant_values", constant_values, value.dtype.base_dtype))
    return make("PadV2", arguments, None, name).outputs[0]


def mirror_pad_grad(input: Any, paddings: Any, mode: str, name: str | None = None) -> Tensor:
    """The gradient of a mirroring ``pad`` from that of its result."""
    arguments = (("input", input, None), ("paddings", paddings, INDEX))
    return make("MirrorPadGrad", arguments, {"mode": mode}, name).outputs[0]


def reverse(tensor: Any, axis: Any, name: str | None = None) -> Tensor:
    """``tensor`` with the order along the axes in the vector ``axis`` turned round."""
    arguments = (("tensor", tensor, None), ("axis", axis, INDEX))
    return make("ReverseV2", arguments, None, name).outputs[0]


reverse_v2 = reverse


def reverse_sequence(
    input: Any,
    seq_lengths: Any,
    seq_axis: int | None = None,
    batch_axis: int | None = None,
    name: str | None = None,
    seq_dim: int | None = None,
    batch_dim: int | None = None,
) -> Tensor:
    """Each sequence of a batch turned round, up to its own length; the rest stays as it is."""
    time = renamed("seq_axis", seq_axis, "seq_dim", seq_dim)
    batch = renamed("batch_axis", batch_axis, "batch_dim", batch_dim)
    attrs = {"seq_dim": time, "batch_dim": batch or 0}
    arguments = (("input", input, None), ("seq_lengths", seq_lengths, INDEX[::-1]))
    return make("ReverseSequence", arguments, attrs, name).outputs[0]


def space_to_depth(
    input: Any, block_size: int, name: str | None = None, data_format: str = "NHWC"
) -> Tensor:
    """Square blocks of pixels moved into the channels."""
    attrs = {"block_size": block_size, "data_format": data_format}
    return make("SpaceToDepth", (("input", input, None),), attrs, name).outputs[0]


def depth_to_space(
    input: Any, block_size: int, name: str | None = None, data_format: str = "NHWC"
) -> Tensor:
    """Channels moved into square blocks of pixels."""
    attrs = {"block_size": block_size, "data_format": data_format}
    return make("DepthToSpace", (("input", input, None),), attrs, name).outputs[0]


def parallel_stack(values: Sequence[Any], name: str = "parallel_stack") -> Tensor:
    """``stack`` along axis 0."""
    with name_scope(name):
        inputs = tensor_list("Pack", "values", values)
        return create_op("Pack", inputs, {"axis": 0, "N": len(inputs)}, "stack").outputs[0]
