"""Variables: state that lives in a session from run to run.

``tf.Variable`` makes a reference variable as TensorFlow 1 does: a ``VariableV2`` node that stands
for the variable in assignments, and ``v/read``, its value. ``resource_variables`` has the other
kind.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, NoReturn

from stepforge.frontend import state_ops
from stepforge.frontend.convert import convert_to_tensor
from stepforge.frontend.core_ops import identity
from stepforge.frontend.default import session_for
from stepforge.frontend.dtypes import DType, as_dtype
from stepforge.frontend.graph import create_op, get_default_graph
from stepforge.frontend.graph_collections import GraphKeys
from stepforge.frontend.initial_values import guarded
from stepforge.frontend.operation import OPERATORS, Operation, Tensor, TensorReference
from stepforge.frontend.scopes import colocate_with, device, init_scope, name_scope
from stepforge.frontend.shapes import TensorShape


class VariableSynchronization(Enum):
    """When replicas of a variable agree; there is one replica only."""

    AUTO = 0
    NONE = 1
    ON_WRITE = 2
    ON_READ = 3


class VariableAggregation(Enum):
    """How updates of replicas combine; there is one replica only."""

    NONE = 0
    SUM = 1
    MEAN = 2
    ONLY_FIRST_REPLICA = 3


class Variable:
    """State of a session, with an initial value.

    Operators and functions take it for its value. ``use_resource`` chooses the kind of variable, by
    default as the current variable scope says.
    Raises: ValueError without initial value or where its shape is not known (unless
    ``validate_shape`` is False), TypeError where the value has not ``dtype``.
    """

    __array_priority__ = 100
    _read: Tensor
    _initializer: Operation

    def __new__(cls, *args: Any, **keywords: Any) -> Any:
        """A variable of the kind that ``use_resource`` chooses."""
        if cls is not Variable:
            return super().__new__(cls)
        use_resource = args[11] if len(args) > 11 else keywords.get("use_resource")
        return super().__new__(_variable_class(use_resource))

    def __init__(
        self,
        initial_value: Any = None,
        trainable: bool | None = None,
        collections: Any = None,
        validate_shape: bool = True,
        caching_device: Any = None,
        name: str | None = None,
        variable_def: Any = None,
        dtype: Any = None,
        expected_shape: Any = None,
        import_scope: str | None = None,
        constraint: Callable[..., Any] | None = None,
        use_resource: bool | None = None,
        synchronization: VariableSynchronization = VariableSynchronization.AUTO,
        aggregation: VariableAggregation = VariableAggregation.NONE,
        shape: Any = None,
    ) -> None:
        if initial_value is None:
            raise ValueError("initial_value must be specified.")
        if constraint is not None and not callable(constraint):
            raise ValueError("The `constraint` argument must be a callable.")
        self.trainable = synchronization is not VariableSynchronization.ON_READ
        self.trainable = self.trainable if trainable is None else bool(trainable)
        self.constraint = constraint
        self.synchronization, self.aggregation = synchronization, aggregation
        keys = _collections(collections, self.trainable)
        self.graph = get_default_graph()
        self._validate_shape, self._caching_device = validate_shape, caching_device
        self._save_slice_info: Any = None
        with init_scope():
            self._create(initial_value, name, None if dtype is None else as_dtype(dtype), shape)
        self.graph.add_to_collections(keys, self)

    def _create(
        self, initial_value: Any, name: str | None, dtype: DType | None, shape: Any
    ) -> None:
        raise NotImplementedError

    def _static_shape(self, initial: Tensor, shape: Any) -> TensorShape:
        if shape is not None:
            return TensorShape(shape)
        return initial.shape if self._validate_shape else TensorShape(None)

    def _check_initial_shape(self, initial: Tensor) -> None:
        if self._validate_shape and not initial.shape.is_fully_defined():
            raise ValueError(f"initial_value must have a shape specified: {initial}")

    # ---- what it is -----------------------------------------------------------------------------
    def __repr__(self) -> str:
        return f"<tf.Variable '{self.name}' shape={self.shape} dtype={self.dtype.name}>"

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __iter__(self) -> NoReturn:
        raise TypeError("'Variable' object is not iterable.")

    @property
    def name(self) -> str:
        """``"v:0"``."""
        raise NotImplementedError

    @property
    def op(self) -> Operation:
        """The node that stands for the variable."""
        raise NotImplementedError

    @property
    def dtype(self) -> DType:
        """The dtype; a reference dtype for a reference variable."""
        raise NotImplementedError

    @property
    def shape(self) -> TensorShape:
        """The static shape."""
        raise NotImplementedError

    def get_shape(self) -> TensorShape:
        """The static shape."""
        return self.shape

    @property
    def device(self) -> str:
        """The device."""
        return self.op.device

    @property
    def initializer(self) -> Operation:
        """The node that gives the variable its initial value."""
        return self._initializer

    @property
    def initial_value(self) -> Tensor:
        """The tensor that the initializer assigns."""
        return self._initial_value

    _initial_value: Tensor

    @property
    def _shared_name(self) -> str:
        return self.name.partition(":")[0]  # what a Saver calls the variable

    def ref(self) -> TensorReference:
        """A hashable stand-in that compares by identity."""
        return TensorReference(self)

    experimental_ref = ref

    # ---- its value ------------------------------------------------------------------------------
    def value(self) -> Tensor:
        """The tensor that functions get when they are given the variable."""
        raise NotImplementedError

    def read_value(self) -> Tensor:
        """A new tensor with the value, read where this is called."""
        raise NotImplementedError

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Tensor:
        if dtype is not None and not as_dtype(dtype).is_compatible_with(self.dtype.base_dtype):
            raise ValueError(
                f"Incompatible type conversion requested to type '{as_dtype(dtype).name}' for "
                f"variable of type '{self.dtype.name}'"
            )
        return self.value()

    def eval(self, session: Any = None) -> Any:
        """The value in ``session`` or the default session. Raises: ValueError without a session."""
        session = session_for(self.graph, session, noun="tensor", verb="evaluate")
        return session.run(self)

    def load(self, value: Any, session: Any = None) -> None:
        """Set the value in ``session`` or the default one. Raises: ValueError without a session."""
        session = session_for(self.graph, session, noun="operation", verb="execute")
        session.run(self.initializer, {self.initializer.inputs[1]: value})

    def initialized_value(self) -> Tensor:
        """The value, or the initial value while there is none."""
        with init_scope(), name_scope("cond"):
            inputs = [self.op.outputs[0], self.initial_value]
            return create_op("InitializedValue", inputs, None, "Merge").outputs[0]

    # ---- rows -----------------------------------------------------------------------------------
    def scatter_add(
        self, sparse_delta: Any, use_locking: bool = False, name: str | None = None
    ) -> Any:
        """Add ``IndexedSlices``; gives the new value."""
        rows = _slices(sparse_delta)
        return state_ops.scatter_add(self, rows.indices, rows.values, use_locking, name)

    def scatter_sub(
        self, sparse_delta: Any, use_locking: bool = False, name: str | None = None
    ) -> Any:
        """Subtract ``IndexedSlices``; gives the new value."""
        rows = _slices(sparse_delta)
        return state_ops.scatter_sub(self, rows.indices, rows.values, use_locking, name)

    def scatter_update(
        self, sparse_delta: Any, use_locking: bool = False, name: str | None = None
    ) -> Any:
        """Set the rows of ``IndexedSlices``; gives the new value."""
        rows = _slices(sparse_delta)
        return state_ops.scatter_update(self, rows.indices, rows.values, use_locking, name)

    def scatter_nd_add(self, indices: Any, updates: Any, name: str | None = None) -> Any:
        """Add ``updates`` at index vectors; gives the new value."""
        return state_ops.scatter_nd_add(self, indices, updates, name=name)

    def scatter_nd_sub(self, indices: Any, updates: Any, name: str | None = None) -> Any:
        """Subtract ``updates`` at index vectors; gives the new value."""
        return state_ops.scatter_nd_sub(self, indices, updates, name=name)

    def scatter_nd_update(self, indices: Any, updates: Any, name: str | None = None) -> Any:
        """Set ``updates`` at index vectors; gives the new value."""
        return state_ops.scatter_nd_update(self, indices, updates, name=name)


def _variable_class(use_resource: bool | None) -> type[Variable]:
    from stepforge.frontend.resource_variables import ResourceVariable
    from stepforge.frontend.variable_store import use_resource_by_default

    chosen = use_resource_by_default() if use_resource is None else use_resource
    return ResourceVariable if chosen else RefVariable


def _collections(given: Any, trainable: bool) -> list[Any]:
    if given is None:
        given = [GraphKeys.GLOBAL_VARIABLES]
    if not isinstance(given, (list, tuple, set)):
        raise ValueError(
            "collections argument to Variable constructor must be a list, tuple, or set. Got "
            f"{given} of type {type(given)}"
        )
    keys = list(given)
    if trainable and GraphKeys.TRAINABLE_VARIABLES not in keys:
        keys.append(GraphKeys.TRAINABLE_VARIABLES)
    return keys


def _slices(delta: Any) -> Any:
    if not hasattr(delta, "indices"):
        raise TypeError(f"sparse_delta is not IndexedSlices: {delta}")
    return delta


def _operator(name: str) -> Callable[..., Any]:
    def apply(self: Variable, *args: Any) -> Any:
        return getattr(Tensor, name)(self.value(), *args)

    apply.__name__ = name
    return apply


for _name in OPERATORS:
    setattr(Variable, f"__{_name}__", _operator(f"__{_name}__"))


class RefVariable(Variable):
    """A variable whose node gives a reference: ``float32_ref``."""

    _variable: Tensor

    def _create(
        self, initial_value: Any, name: str | None, dtype: DType | None, shape: Any
    ) -> None:
        values = [] if callable(initial_value) else [initial_value]
        with name_scope(name, "Variable", values) as scope:
            if callable(initial_value):
                with name_scope("Initializer"), device(None):
                    initial = convert_to_tensor(initial_value(), dtype, "initial_value")
            else:
                initial = convert_to_tensor(initial_value, dtype, "initial_value")
            attrs = {
                "dtype": initial.dtype.base_dtype.ir,
                "shape": self._static_shape(initial, shape).sizes,
            }
            op = create_op("VariableV2", (), attrs, scope)
            self._variable, self._initial_value = op.outputs[0], initial
            self._check_initial_shape(initial)
            self._initialize_and_read(op)

    def _initialize_and_read(self, op: Operation) -> None:
        value = guarded(self._initial_value, op.name)
        with colocate_with(op):
            assigned = state_ops.assign(self._variable, value, self._validate_shape)
        self._initializer = assigned.op
        place = colocate_with(op) if self._caching_device is None else device(self._caching_device)
        with place:
            self._read = identity(self._variable, name="read")

    @property
    def ref_tensor(self) -> Tensor:
        """The reference, which assignments take."""
        return self._variable

    def _ref(self) -> Tensor:
        return self._variable

    def _as_graph_element(self) -> Tensor:
        return self._variable

    @property
    def name(self) -> str:
        """The node's name with the output's number: ``v:0``."""
        return self._variable.name

    @property
    def op(self) -> Operation:
        """The node that stands for the variable."""
        return self._variable.op

    @property
    def dtype(self) -> DType:
        """The dtype; a reference dtype for a reference variable."""
        return self._variable.dtype

    @property
    def shape(self) -> TensorShape:
        """The static shape."""
        return self._variable.shape

    def set_shape(self, shape: Any) -> None:
        """Say what is known of the shape. Raises: ValueError where it contradicts the variable."""
        self._variable.set_shape(shape)
        self._read.set_shape(shape)

    def value(self) -> Tensor:
        """The tensor that functions get when they are given the variable."""
        return self._read

    def read_value(self) -> Tensor:
        """A new tensor with the value, read where this is called."""
        value: Tensor = identity(self._variable, name="read")
        return value

    def assign(
        self,
        value: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Set the variable; gives a tensor with the new value, or the node."""
        assigned = state_ops.assign(self, value, use_locking=use_locking, name=name)
        return assigned if read_value else assigned.op

    def assign_add(
        self,
        delta: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Add to the variable; gives a tensor with the new value, or the node."""
        assigned = state_ops.assign_add(self, delta, use_locking=use_locking, name=name)
        return assigned if read_value else assigned.op

    def assign_sub(
        self,
        delta: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Subtract from the variable; gives a tensor with the new value, or the node."""
        assigned = state_ops.assign_sub(self, delta, use_locking=use_locking, name=name)
        return assigned if read_value else assigned.op

    def count_up_to(self, limit: int) -> Tensor:
        """Increment the variable, which fails at ``limit``; gives the value before."""
        return state_ops.count_up_to(self, limit)
