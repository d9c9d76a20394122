"""``tf.numba_op``: an op that a user writes as a numba function on arrays.

The function takes the arrays of the inputs, then those of the outputs, and fills the latter. Steps
call its machine code; no interpreter is in between.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, overload

from stepforge.frontend.convert import convert_to_tensor
from stepforge.frontend.dtypes import DType, as_dtype, from_ir
from stepforge.frontend.graph import create_op
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError
from stepforge.ir.numba_functions import NumbaFunction, register_numba_function
from stepforge.ir.records import record
from stepforge.ir.types import Type


@record(frozen=True)
class ArrayType:
    """What the declaration of outputs is told of an input.

    ``shape`` is a tuple of sizes, which are numbers or symbols that can be added, multiplied and
    divided by ``//``; it is None where the rank is not known.
    """

    shape: tuple[Dim, ...] | None
    dtype: DType


@record(frozen=True)
class _Outputs:
    """What was declared of the outputs of an op."""

    name: str
    shape: Any
    dtype: Any

    def dtypes(self, inputs: Sequence[ArrayType]) -> tuple[bool, list[DType]]:
        """Whether there is a list of outputs, and their dtypes. Raises: TypeError."""
        given = self.dtype(*inputs) if _is_function(self.dtype) else self.dtype
        if given is None:
            if not inputs:
                raise TypeError(f"{self.name}: an op without inputs needs dtype=...")
            return False, [inputs[0].dtype.base_dtype]
        several = isinstance(given, (list, tuple))
        return several, [as_dtype(each).base_dtype for each in (given if several else [given])]

    def types(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        """The types of the outputs for ranked inputs. Raises: ShapeError."""
        arrays = [ArrayType(t.shape, from_ir(t.dtype)) for t in inputs]
        several, dtypes = self.dtypes(arrays)
        given = self.shape(*arrays) if callable(self.shape) else self.shape
        shapes = list(given) if several else [given]
        if len(shapes) != len(dtypes):
            raise ShapeError(f"{self.name}: {len(shapes)} shapes for {len(dtypes)} dtypes")
        return tuple(
            Type(d.ir, self._sizes(s)) for d, s in zip(dtypes, shapes, strict=True)
        )

    def _sizes(self, shape: Any) -> tuple[Dim, ...]:
        if not isinstance(shape, (list, tuple)):
            raise ShapeError(f"{self.name}: a shape is a tuple of sizes, not {shape!r}")
        return tuple(int(n) if hasattr(n, "__index__") else n for n in shape)


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, (type, DType))


@overload
def numba_op(
    function: Callable[..., Any],
    *,
    shape: Any,
    dtype: Any = None,
    gradient: Callable[..., Any] | None = None,
    name: str | None = None,
) -> Callable[..., Any]: ...
@overload
def numba_op(
    function: None = None,
    *,
    shape: Any,
    dtype: Any = None,
    gradient: Callable[..., Any] | None = None,
    name: str | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
def numba_op(
    function: Callable[..., Any] | None = None,
    *,
    shape: Any,
    dtype: Any = None,
    gradient: Callable[..., Any] | None = None,
    name: str | None = None,
) -> Any:
    """Decorator: ``function(*inputs, *outputs)``, which fills the outputs, becomes an op.

    ``shape`` is the shape of the output, or a function of one ``ArrayType`` per input that gives
    it. ``dtype`` is its dtype (None: that of the first input), or a function likewise. Lists of
    both declare several outputs. ``gradient(op, *grads)`` returns one tensor or None per input;
    without it ``tf.gradients`` through the op raises LookupError. The function must depend on
    nothing but its inputs and change nothing but its outputs. The op takes tensors and ``name=``.
    Raises, where it is called: ImportError where numba is not installed, TypeError for dtypes that
    numba has not.
    """
    if function is None:
        return functools.partial(
            numba_op, shape=shape, dtype=dtype, gradient=gradient, name=name
        )
    label = name or function.__name__
    outputs = _Outputs(label, shape, dtype)
    token = register_numba_function(NumbaFunction(label, function, outputs.types, gradient))

    def op(*inputs: Any, name: str | None = None) -> Any:
        if importlib.util.find_spec("numba") is None:
            raise ImportError(f"{label}: tf.numba_op needs numba: pip install 'stepforge[full]'")
        values = [convert_to_tensor(value) for value in inputs]
        known = [ArrayType(v.abstract.type.shape, v.dtype.base_dtype) for v in values]
        several, dtypes = outputs.dtypes(known)
        attrs = {"token": token, "outputs": len(dtypes)}
        node = create_op("NumbaOp", values, attrs, name or label)
        return node.outputs if several else node.outputs[0]

    return functools.update_wrapper(op, function)
