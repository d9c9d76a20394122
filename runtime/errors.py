"""The errors that sessions raise for misuse, in TensorFlow's words, which programs and tests match
on.
"""

from __future__ import annotations

from typing import Any


def closed_session() -> RuntimeError:
    """A run of a session that was closed."""
    return RuntimeError("Attempted to use a closed Session.")


def empty_graph() -> RuntimeError:
    """A run of a session whose graph has no nodes."""
    return RuntimeError(
        "The Session graph is empty. Add operations to the graph before calling run()."
    )


def feed_of_tensor(value: Any) -> TypeError:
    """A tensor was given as the value of a feed."""
    return TypeError(
        "The value of a feed cannot be a tf.Tensor object. Acceptable feed values include Python "
        "scalars, strings, lists, numpy ndarrays, or TensorHandles. For reference, the tensor "
        f"object was {value} which was passed to the argument `feed_dict` with key {value}."
    )
