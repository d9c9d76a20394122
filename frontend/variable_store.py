"""Variables found again by name: what a graph keeps for ``get_variable``.

A ``VariableScope`` is a prefix of names with defaults; ``variable_scope`` has the contexts that
open one.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from stepforge.frontend import dtypes
from stepforge.frontend.convert import convert_to_tensor
from stepforge.frontend.dtypes import DType, as_dtype
from stepforge.frontend.graph import get_default_graph
from stepforge.frontend.graph_collections import GraphKeys
from stepforge.frontend.scopes import colocate_with, get_collection, init_scope, name_scope
from stepforge.frontend.shapes import TensorShape
from stepforge.frontend.variables import Variable
from stepforge.ir.records import record


class _AutoReuse:
    """The type of ``AUTO_REUSE``."""

    def __repr__(self) -> str:
        return "<_ReuseMode.AUTO_REUSE: 1>"


AUTO_REUSE = _AutoReuse()


class VariableScope:
    """A prefix of variable names with defaults for ``get_variable``."""

    def __init__(
        self,
        reuse: Any,
        name: str = "",
        initializer: Any = None,
        regularizer: Any = None,
        caching_device: Any = None,
        partitioner: Any = None,
        custom_getter: Any = None,
        name_scope: str = "",
        dtype: Any = dtypes.float32,
        use_resource: bool | None = None,
        constraint: Any = None,
    ) -> None:
        self.name, self.original_name_scope = name, name_scope
        self.reuse, self.initializer, self.regularizer = reuse, initializer, regularizer
        self.caching_device, self.partitioner = caching_device, partitioner
        self.custom_getter, self.constraint = custom_getter, constraint
        self.dtype, self.use_resource = dtype, use_resource

    def copy(self, **changes: Any) -> VariableScope:
        """This scope with the given fields in place of its own, where they are not None."""
        made = VariableScope(self.reuse)
        made.__dict__.update(vars(self))
        made.__dict__.update({k: v for k, v in changes.items() if v is not None})
        return made

    def reuse_variables(self) -> None:
        """From here on, ``get_variable`` finds variables only and makes none."""
        self.reuse = True

    def set_initializer(self, initializer: Any) -> None:
        """Set the default initializer."""
        self.initializer = initializer

    def set_regularizer(self, regularizer: Any) -> None:
        """Set the default regularizer."""
        self.regularizer = regularizer

    def set_dtype(self, dtype: Any) -> None:
        """Set the default dtype."""
        self.dtype = dtype

    def set_use_resource(self, use_resource: bool | None) -> None:
        """Set the default kind of variable."""
        self.use_resource = use_resource

    def set_caching_device(self, caching_device: Any) -> None:
        """Set the device that values are read on."""
        self.caching_device = caching_device

    def set_custom_getter(self, custom_getter: Any) -> None:
        """Set the function that ``get_variable`` goes through."""
        self.custom_getter = custom_getter

    def set_partitioner(self, partitioner: Any) -> None:
        """Set the partitioner, which is kept but has no effect: variables are not partitioned."""
        self.partitioner = partitioner

    def get_collection(self, name: Any) -> list[Any]:
        """The members of a collection whose names are in this scope."""
        return get_collection(name, f"{self.name}/" if self.name else "")  # type: ignore[no-any-return]

    def trainable_variables(self) -> list[Any]:
        """This scope's trainable variables."""
        return self.get_collection(GraphKeys.TRAINABLE_VARIABLES)

    def global_variables(self) -> list[Any]:
        """This scope's global variables."""
        return self.get_collection(GraphKeys.GLOBAL_VARIABLES)

    def local_variables(self) -> list[Any]:
        """This scope's local variables."""
        return self.get_collection(GraphKeys.LOCAL_VARIABLES)

    def get_variable(self, name: str, **settings: Any) -> Variable:
        """Find or make the variable ``name`` in this scope; settings as of the function."""
        for field in ("regularizer", "caching_device", "custom_getter", "reuse", "use_resource"):
            if settings.get(field) is None:
                settings[field] = getattr(self, field)
        full_name = f"{self.name}/{name}" if self.name else name
        with name_scope(None):
            dtype, initializer = settings.get("dtype"), settings.get("initializer")
            if dtype is not None and initializer is not None and not callable(initializer):
                _check_initializer_dtype(initializer, as_dtype(dtype))
            for field in ("initializer", "constraint", "dtype"):
                if settings.get(field) is None:
                    settings[field] = getattr(self, field)
            found: Variable = _through_getter(settings.pop("custom_getter"), full_name, settings)
            return found


def _check_initializer_dtype(initializer: Any, dtype: DType) -> None:
    have = convert_to_tensor(initializer).dtype.base_dtype
    if have != dtype:
        raise ValueError(f"Initializer type '{have}' and explicit dtype '{dtype}' don't match.")


def _through_getter(getter: Any, name: str, settings: dict[str, Any]) -> Any:
    if getter is None:
        return _find_or_make(name, **settings)
    if not callable(getter):
        raise ValueError(f"Passed a custom_getter which is not callable: {getter}")
    return getter(_find_or_make, name=name, **settings)


# ---- the store of one graph ----------------------------------------------------------------------
class OpenScopes(threading.local):
    """The scopes that are open in one thread, and how often each name was opened."""

    def __init__(self) -> None:
        self.current = VariableScope(False)
        self.counts: dict[str, int] = {}

    def close_subscopes(self, name: str) -> None:
        """Let default names below the scope ``name`` begin anew."""
        for opened in self.counts:
            if opened.startswith(f"{name}/"):
                self.counts[opened] = 0


def open_scopes() -> OpenScopes:
    """The open variable scopes of this thread in the default graph."""
    found: OpenScopes = get_default_graph().data.setdefault("variable_scopes", OpenScopes())
    return found


def _store() -> dict[str, Variable]:
    found: dict[str, Variable] = get_default_graph().data.setdefault("variables", {})
    return found


def use_resource_by_default() -> bool:
    """True where ``tf.Variable`` makes resource variables: as the current scope says."""
    chosen = open_scopes().current.use_resource
    return _toggle.resource if chosen is None else bool(chosen)


@record
class _Toggle:
    resource: bool = False


_toggle = _Toggle()


def enable_resource_variables() -> None:
    """Make resource variables the default from here on."""
    _toggle.resource = True


def disable_resource_variables() -> None:
    """Make reference variables the default from here on."""
    _toggle.resource = False


def resource_variables_enabled() -> bool:
    """True where resource variables are the default."""
    return _toggle.resource


def _find_or_make(
    name: str,
    shape: Any = None,
    dtype: Any = dtypes.float32,
    initializer: Any = None,
    regularizer: Any = None,
    reuse: Any = None,
    **settings: Any,
) -> Variable:
    """The variable called ``name``, made where ``reuse`` allows it."""
    if shape is not None and initializer is not None and not callable(initializer):
        raise ValueError("If initializer is a constant, do not specify shape.")
    wanted = None if shape is None else TensorShape(shape)
    found = _store().get(name)
    if found is not None:
        _check_reuse(found, name, wanted, as_dtype(dtype), reuse)
        return found
    if reuse is True:
        raise ValueError(
            f"Variable {name} does not exist, or was not created with tf.get_variable(). Did you "
            "mean to set reuse=tf.AUTO_REUSE in VarScope?"
        )
    settings.pop("partitioner", None)
    made = _make(name, wanted, as_dtype(dtype), initializer, settings)
    _store()[name] = made
    if regularizer is not None:
        _regularize(made, name, regularizer)
    return made


def _check_reuse(
    found: Variable, name: str, shape: TensorShape | None, dtype: DType, reuse: Any
) -> None:
    if reuse is False or reuse is None:
        raise ValueError(
            f"Variable {name} already exists, disallowed. Did you mean to set reuse=True or "
            f"reuse=tf.AUTO_REUSE in VarScope? Originally defined at:\n\n{_listing(found)}"
        )
    if shape is not None and not shape.is_compatible_with(found.shape):
        raise ValueError(
            f"Trying to share variable {name}, but specified shape {shape} and found shape "
            f"{found.shape}."
        )
    if not dtype.is_compatible_with(found.dtype):
        raise ValueError(
            f"Trying to share variable {name}, but specified dtype {dtype.name} and found dtype "
            f"{found.dtype.name}."
        )


def _listing(found: Variable) -> str:
    lines = []
    for frame in found.op.traceback[::-1][:5]:
        lines.append(f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}')
        lines += [f"    {frame.line}"] if frame.line else []
    return "".join(f"{line}\n" for line in lines)


def _make(
    name: str,
    shape: TensorShape | None,
    dtype: DType,
    initializer: Any,
    settings: dict[str, Any],
) -> Variable:
    if initializer is None:
        if shape is None:
            raise ValueError(
                f"Variable {name} did not get an initializer, so its `shape` argument must be "
                "specified."
            )
        initializer = _default_initializer(name, dtype)
    with init_scope():
        value, variable_dtype = _initial_value(initializer, shape, dtype)
    return Variable(initial_value=value, name=name, dtype=variable_dtype, shape=shape, **settings)


def _default_initializer(name: str, dtype: DType) -> Any:
    from stepforge.frontend import initializers

    if dtype.is_floating:
        return initializers.GlorotUniform()
    if dtype.is_integer or dtype.is_bool or dtype == dtypes.string:
        return initializers.Zeros()
    raise ValueError(f"An initializer for variable {name} of {dtype.base_dtype} is required")


def _initial_value(
    initializer: Any, shape: TensorShape | None, dtype: DType
) -> tuple[Any, DType | None]:
    if not callable(initializer):
        return initializer, None
    made: Any = initializer() if inspect.isclass(initializer) else initializer
    if shape is not None and shape.is_fully_defined():
        keywords: dict[str, Any] = {"dtype": dtype}
        if "partition_info" in _arguments(made):
            keywords["partition_info"] = None
        return partial(made, shape.as_list(), **keywords), dtype.base_dtype
    if not _required_arguments(made):
        return made, None
    raise ValueError(
        "The initializer passed is not valid. It should be a callable with no arguments and the "
        "shape should not be provided or an instance of `tf.keras.initializers.*' and `shape` "
        "should be fully defined."
    )


def _arguments(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return {}


def _required_arguments(function: Callable[..., Any]) -> list[str]:
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = _arguments(function).values()
    return [p.name for p in found if p.default is p.empty and p.kind in positional]


def _regularize(variable: Variable, name: str, regularizer: Callable[..., Any]) -> None:
    with colocate_with(variable.op), name_scope(f"{name}/Regularizer/"), init_scope():
        loss = regularizer(variable)
    if loss is not None:
        get_default_graph().add_to_collection(GraphKeys.REGULARIZATION_LOSSES, loss)
