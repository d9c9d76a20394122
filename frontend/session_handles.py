"""Tensors that stay in memory between runs: ``tf.get_session_handle`` and what reads and deletes
them.

A handle is a text such as ``GetSessionHandle;3;/job:...``. Fetching one gives a ``TensorHandle``
(``runtime.handles``).
"""

from __future__ import annotations

from typing import Any

from stepforge.frontend.core_ops import placeholder
from stepforge.frontend.dtypes import as_dtype, string
from stepforge.frontend.graph import create_op
from stepforge.frontend.operation import Operation, Tensor
from stepforge.frontend.scopes import colocate_with, device


def get_session_handle(data: Any, name: str | None = None) -> Tensor:
    """A handle of ``data``, which every run that computes it keeps for later runs.

    Raises: TypeError for anything but a tensor.
    """
    if not isinstance(data, Tensor):
        raise TypeError("`data` must be of type Tensor.")
    with colocate_with(data):
        return create_op("GetSessionHandle", [data], None, name).outputs[0]


def get_session_tensor(handle: Any, dtype: Any, name: str | None = None) -> tuple[Tensor, Tensor]:
    """A placeholder that takes a handle, and the tensor of ``dtype`` that the handle stands for."""
    with device(_place(handle)):
        holder = placeholder(string)
        attrs = {"dtype": as_dtype(dtype).base_dtype.ir}
        return holder, create_op("GetSessionTensor", [holder], attrs, name).outputs[0]


def delete_session_tensor(handle: Any, name: str | None = None) -> tuple[Tensor, Operation]:
    """A placeholder that takes a handle, and the operation that lets go of its tensor."""
    with device(_place(handle)):
        holder = placeholder(string)
        return holder, create_op("DeleteSessionTensor", [holder], None, name)


def _place(handle: Any) -> str:
    """The device that a handle names at its end."""
    text = handle.decode() if isinstance(handle, bytes) else str(handle)
    return text.rpartition(";")[2]
