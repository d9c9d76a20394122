"""``tf.assert_equal`` and its kin: nodes that make a run fail where something does not hold.

What is known to be wrong already raises while the graph is built.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepforge.frontend import comparison_ops
from stepforge.frontend.array_calls import constant_value
from stepforge.frontend.convert import convert_to_tensor
from stepforge.frontend.core_ops import Assert, no_op
from stepforge.frontend.dtypes import as_dtype
from stepforge.frontend.operation import Operation, Tensor
from stepforge.frontend.reduction_ops import reduce_all
from stepforge.frontend.scopes import name_scope
from stepforge.frontend.shape_ops import rank as rank_of
from stepforge.frontend.shape_ops import shape as shape_of
from stepforge.ir.errors import InvalidArgumentError

_OK = "static_checks_determined_all_ok"


def _comparison(label: str, symbol: str, compare: Callable[..., Tensor], numpy: Any) -> Any:
    """``assert_<label>(x, y)``: a function that checks ``x <symbol> y`` of all elements."""
    scope = f"assert_{label}"

    def function(
        x: Any,
        y: Any,
        data: Sequence[Any] | None = None,
        summarize: int | None = None,
        message: str | None = None,
        name: str | None = None,
    ) -> Operation:
        tensors = [value for value in (x, y) if isinstance(value, Tensor)]
        with name_scope(name, scope, tensors):
            left = convert_to_tensor(x, name="x")
            right = convert_to_tensor(y, left.dtype.base_dtype, "y")
            text = f"Condition x {symbol} y did not hold element-wise:"
            notes = [f"x ({left.name}) = ", f"y ({right.name}) = "]
            first, second = constant_value(left), constant_value(right)
            if first is not None and second is not None:
                if bool(np.all(numpy(first, second))):
                    return no_op()
                parts = [message, text, notes[0], first, notes[1], second]
                raise InvalidArgumentError(None, None, _joined(parts))
            shown = [text, notes[0], left, notes[1], right] if data is None else list(data)
            if message is not None:
                shown.insert(0, message)
            return Assert(reduce_all(compare(left, right)), shown, summarize)

    function.__name__ = function.__qualname__ = scope
    function.__doc__ = (
        f"A node that raises InvalidArgumentError unless ``x {symbol} y`` everywhere; raised at\n"
        "    once where both are known."
    )
    return function


def _joined(parts: Sequence[Any]) -> str:
    return "\n".join(str(part) for part in parts if part is not None)


assert_equal = _comparison("equal", "==", comparison_ops.equal, np.equal)
assert_none_equal = _comparison("none_equal", "!=", comparison_ops.not_equal, np.not_equal)
assert_less = _comparison("less", "<", comparison_ops.less, np.less)
assert_less_equal = _comparison("less_equal", "<=", comparison_ops.less_equal, np.less_equal)
assert_greater = _comparison("greater", ">", comparison_ops.greater, np.greater)
assert_greater_equal = _comparison(
    "greater_equal", ">=", comparison_ops.greater_equal, np.greater_equal
)


def _sign(label: str, symbol: str, check: Any, *, zero_first: bool) -> Any:
    """``assert_<label>(x)``: a function that compares all elements with 0."""
    scope = f"assert_{label}"

    def function(
        x: Any,
        data: Sequence[Any] | None = None,
        summarize: int | None = None,
        message: str | None = None,
        name: str | None = None,
    ) -> Operation:
        with name_scope(name, scope, [x] if isinstance(x, Tensor) else []):
            value = convert_to_tensor(x, name="x")
            if data is None:
                text = f"Condition x {symbol} 0 did not hold element-wise:"
                data = [message or "", text, f"x ({value.name}) = ", value]
            zero = convert_to_tensor(0, value.dtype.base_dtype)
            pair = (zero, value) if zero_first else (value, zero)
            return check(*pair, data=data, summarize=summarize)  # type: ignore[no-any-return]

    function.__name__ = function.__qualname__ = scope
    function.__doc__ = (
        f"A node that raises InvalidArgumentError unless ``x {symbol} 0`` everywhere."
    )
    return function


assert_positive = _sign("positive", ">", assert_less, zero_first=True)
assert_non_negative = _sign("non_negative", ">=", assert_less_equal, zero_first=True)
assert_negative = _sign("negative", "<", assert_less, zero_first=False)
assert_non_positive = _sign("non_positive", "<=", assert_less_equal, zero_first=False)


# ---- ranks and dtypes ----------------------------------------------------------------------------
def _rank_check(label: str, words: str, holds: Callable[[int, int], bool], compare: Any) -> Any:
    scope = f"assert_{label}"

    def function(
        x: Any,
        rank: Any,
        data: Sequence[Any] | None = None,
        summarize: int | None = None,
        message: str | None = None,
        name: str | None = None,
    ) -> Operation:
        with name_scope(name, scope, [v for v in (x, rank) if isinstance(v, Tensor)]):
            value = convert_to_tensor(x, name="x")
            wanted = convert_to_tensor(rank, name="rank")
            have, want = value.shape.ndims, constant_value(wanted)
            if have is not None and want is not None:
                if holds(have, int(want)):
                    return no_op(_OK)
                prefix = f"{message} " if message else ""
                raise ValueError(
                    f"{prefix}Tensor {value.name} must have {words} {int(want)}.  Received rank "
                    f"{have}, shape {value.shape}"
                )
            shape = shape_of(value)
            text = f"Tensor {value.name} must have {words}"
            shown = [message or "", text, wanted, "Received shape: ", shape]
            return Assert(compare(rank_of(value), wanted), data or shown, summarize)

    function.__name__ = function.__qualname__ = scope
    function.__doc__ = f"A node that checks that ``x`` has {words} ``rank``. Raises: ValueError."
    return function


assert_rank = _rank_check("rank", "rank", lambda a, b: a == b, comparison_ops.equal)
assert_rank_at_least = _rank_check(
    "rank_at_least", "rank at least", lambda a, b: a >= b, comparison_ops.greater_equal
)


def assert_type(
    tensor: Any, tf_type: Any, message: str | None = None, name: str | None = None
) -> Operation:
    """Check the dtype of ``tensor`` while the graph is built. Raises: TypeError for another one."""
    wanted = as_dtype(tf_type)
    with name_scope(name, "assert_type", [tensor] if isinstance(tensor, Tensor) else []):
        value = convert_to_tensor(tensor, name="tensor")
        if value.dtype.base_dtype is not wanted:
            prefix = f"{message} " if message else ""
            found = value.dtype.base_dtype
            raise TypeError(f"{prefix}{value.name} must be of type {wanted!r}; got {found!r}")
        return no_op("statically_determined_correct_type")


def assert_scalar(tensor: Any, name: str | None = None, message: str | None = None) -> Tensor:
    """``tensor``, which must not be known to have axes. Raises: ValueError where it has."""
    value = convert_to_tensor(tensor)
    if value.shape.ndims not in (None, 0):
        prefix = f"{message} " if message else ""
        raise ValueError(
            f"{prefix}Expected scalar shape for {value.name}, saw shape: {value.shape}."
        )
    return value


def assert_integer(x: Any, message: str | None = None, name: str | None = None) -> Operation:
    """Check while the graph is built that ``x`` holds integers. Raises: TypeError otherwise."""
    with name_scope(name, "assert_integer", [x] if isinstance(x, Tensor) else []):
        value = convert_to_tensor(x, name="x")
        if not value.dtype.is_integer:
            prefix = f"{message} " if message else ""
            raise TypeError(
                f'{prefix}Expected "x" to be integer type.  Found: {value.name} of dtype '
                f"{value.dtype}"
            )
        return no_op("statically_determined_was_integer")
