"""The errors that sessions raise for misuse, in TensorFlow's words, which programs and tests match
on.
"""

from __future__ import annotations

from typing import Any

from stepforge.ir.errors import (
    CancelledError,
    DeadlineExceededError,
    InvalidArgumentError,
    NotFoundError,
)


def closed_session() -> RuntimeError:
    """A run of a session that was closed."""
    return RuntimeError("Attempted to use a closed Session.")


def closed_devices() -> CancelledError:
    """A question about the devices of a session that was closed."""
    return CancelledError(None, None, "Session has been closed.")


def empty_graph() -> RuntimeError:
    """A run of a session whose graph has no nodes."""
    return RuntimeError(
        "The Session graph is empty. Add operations to the graph before calling run()."
    )


def no_session_factory(target: Any) -> NotFoundError:
    """A session is to run somewhere else than in this process."""
    text = f"No session factory registered for the given session options: {{target: {target!r}}}"
    return NotFoundError(None, None, text)


def nothing_to_run() -> InvalidArgumentError:
    """A callable without fetches is called."""
    return InvalidArgumentError(None, None, "Must specify at least one target to fetch or execute.")


def wrong_feed_count(wanted: int, given: int) -> InvalidArgumentError:
    """A callable that is made from options is called with too few or too many arrays."""
    return InvalidArgumentError(None, None, f"Expected {wanted} feed tensors, but got {given}")


def unknown_name(kind: str, name: str) -> InvalidArgumentError:
    """Options name a tensor or node that is not in the graph."""
    return InvalidArgumentError(None, None, f"{kind} {name} was not found in the Graph")


def timed_out() -> DeadlineExceededError:
    """A step took longer than its caller wanted to wait."""
    return DeadlineExceededError(None, None, "Timed out waiting for notification")


def feed_of_tensor(value: Any, key: Any) -> TypeError:
    """A tensor was given as the value of a feed."""
    return TypeError(
        "The value of a feed cannot be a tf.Tensor object. Acceptable feed values include Python "
        "scalars, strings, lists, numpy ndarrays, or TensorHandles. For reference, the tensor "
        f"object was {value} which was passed to the argument `feed_dict` with key {key}."
    )


def cannot_place(node: Any, available: list[str]) -> InvalidArgumentError:
    """A node is pinned to a device that the session has not."""
    text = (
        f"Cannot assign a device for operation {node.name}: {{{{node {node.name}}}}} was explicitly"
        f" assigned to {node.device} but available devices are [ {', '.join(available)} ]. Make "
        "sure the device specification refers to a valid device."
    )
    return InvalidArgumentError(None, None, text, site=node.site)
