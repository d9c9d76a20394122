"""``TensorHandle``: what fetching ``tf.get_session_handle(t)`` gives, and what may be fed for any
tensor.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from stepforge.frontend.dtypes import DType
from stepforge.frontend.operation import Tensor
from stepforge.ir.errors import InvalidArgumentError
from stepforge.ir.kept_tensors import PLACE, kept_tensors

RESOURCE = np.dtype([("resource", np.uint8, (1,))])


class TensorHandle:
    """A tensor that a run kept. It is let go of with this object, unless its text was taken."""

    def __init__(self, handle: bytes, dtype: DType) -> None:
        self._handle, self._dtype = handle.decode(), dtype
        self._finalizer = weakref.finalize(self, kept_tensors().forget, self._handle)

    @property
    def handle(self) -> str:
        """The text that names the tensor in later runs."""
        return self._handle

    def eval(self) -> Any:
        """The value. Raises: TypeError after ``delete`` and ``get_raw_handle``."""
        self._check()
        return self.array()[()]

    def array(self) -> np.ndarray[Any, Any]:
        """A copy of the value. Raises: InvalidArgumentError where it was deleted."""
        return np.array(kept_tensors().get(self._handle))

    def delete(self) -> None:
        """Let go of the tensor now. Raises: TypeError the second time."""
        self._check()
        self._finalizer()

    def get_raw_handle(self) -> str:
        """The text; whoever asks for it has to delete the tensor."""
        self._finalizer.detach()
        return self._handle

    def _check(self) -> None:
        if not self._finalizer.alive:
            raise TypeError(f"Persistent tensor {self._handle} may have already been deleted.")

    def __str__(self) -> str:
        return self._handle


def wrapped(tensor: Tensor, value: Any) -> TensorHandle:
    """The object for a fetched handle, the output of ``GetSessionHandle``."""
    return TensorHandle(value, tensor.op.inputs[0].dtype.base_dtype)


def is_handle(element: Any) -> bool:
    """True for the handles among graph elements."""
    return isinstance(element, Tensor) and element.op.type == "GetSessionHandle"


def is_resource(element: Any) -> bool:
    """True for the handles of resource variables, which have no value of their own."""
    return isinstance(element, Tensor) and element.op.type == "VarHandleOp"


def resource_array(variable: Any) -> np.ndarray[Any, Any]:
    """What fetching the handle of a resource variable gives: bytes, as in TensorFlow; here its
    device, container and name.
    """
    name = variable.attrs["shared_name"] or variable.name
    return np.array(np.frombuffer(f"{PLACE};localhost;{name}".encode(), RESOURCE))


def fed(value: Any, tensor: Tensor) -> Any:
    """What a value feeds: of a handle its text where text is wanted, else the tensor kept.

    Raises: InvalidArgumentError where that has another dtype.
    """
    if not isinstance(value, TensorHandle):
        return value
    wanted = tensor.dtype.base_dtype
    if wanted.name == "string":
        return value.handle
    array = value.array()
    if array.dtype != wanted.as_numpy_dtype:
        message = f"Expects {tensor.name} to be {wanted.name} but {array.dtype.name} is provided"
        raise InvalidArgumentError(tensor.op.node_def, tensor.op, message, site=tensor.op.site)
    return array
