"""``tf.custom_gradient``: a function that says what its own gradient is."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

from stepforge.frontend.convert import convert_to_tensor
from stepforge.frontend.core_ops import identity_n
from stepforge.frontend.gradients import RegisterGradient
from stepforge.frontend.graph import get_default_graph

_numbers = itertools.count()


def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of a function that returns ``(result, gradient)``.

    ``gradient(*upstream)`` takes one tensor for each result and returns one for each argument; the
    nodes that ``f`` makes are not differentiated. The result is a tensor or a list of them.
    """

    @functools.wraps(f)
    def decorated(*args: Any, **keywords: Any) -> Any:
        inputs = [convert_to_tensor(value) for value in args]
        result, gradient = f(*inputs, **keywords)
        several = isinstance(result, (list, tuple))
        results = [convert_to_tensor(value) for value in (result if several else [result])]
        name = f"CustomGradient{next(_numbers)}"
        RegisterGradient(name)(_rule(gradient, len(results), len(inputs)))
        with get_default_graph().gradient_override_map({"IdentityN": name}):
            outputs = identity_n([*results, *inputs])[: len(results)]
        return outputs if several else outputs[0]

    return decorated


def _rule(gradient: Callable[..., Any], results: int, inputs: int) -> Callable[..., Any]:
    """The gradient of the identity node: nothing for the results, ``gradient`` for the inputs."""

    def rule(op: Any, *upstream: Any) -> list[Any]:
        found = gradient(*upstream[:results])
        into = list(found) if isinstance(found, (list, tuple)) else [found]
        if len(into) != inputs:
            raise ValueError(
                f"custom_gradient function expected to return {inputs} gradients, but returned "
                f"{len(into)} instead."
            )
        return [None] * results + into

    return rule
