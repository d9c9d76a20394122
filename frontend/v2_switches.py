"""Switches between TensorFlow's versions, which do nothing: there is version 1's behaviour only."""

from __future__ import annotations

from typing import Any, NoReturn


def executing_eagerly() -> bool:
    """False: nodes are made, and run later."""
    return False


executing_eagerly_outside_functions = executing_eagerly


def control_flow_v2_enabled() -> bool:
    """False."""
    return False


def disable_v2_behavior() -> None:
    """Nothing: version 1's behaviour is the only one."""


disable_eager_execution = disable_v2_behavior
disable_control_flow_v2 = disable_v2_behavior
disable_tensor_equality = disable_v2_behavior
disable_v2_tensorshape = disable_v2_behavior


def enable_eager_execution(config: Any = None, **_: Any) -> NoReturn:
    """Raises: NotImplementedError, as there is no eager execution."""
    raise NotImplementedError("stepforge runs graphs; there is no eager execution")


def enable_v2_behavior() -> NoReturn:
    """Raises: NotImplementedError, as version 1's behaviour is the only one."""
    raise NotImplementedError("stepforge has TensorFlow 1's behaviour only")
