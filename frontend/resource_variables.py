"""Resource variables: every read is a node of its own, with its place in the order of effects."""

from __future__ import annotations

from typing import Any

from stepforge.frontend import state_ops
from stepforge.frontend.convert import convert_to_tensor
from stepforge.frontend.core_ops import identity
from stepforge.frontend.dtypes import DType, int32
from stepforge.frontend.graph import create_op
from stepforge.frontend.initial_values import guarded
from stepforge.frontend.operation import Operation, Tensor
from stepforge.frontend.scopes import colocate_with, control_dependencies, device, name_scope
from stepforge.frontend.shapes import TensorShape
from stepforge.frontend.variables import Variable


class ResourceVariable(Variable):
    """A variable behind a handle; ``tf.Variable(..., use_resource=True)`` makes one."""

    _handle: Tensor
    _dtype: DType
    _shape: TensorShape

    def _create(
        self, initial_value: Any, name: str | None, dtype: DType | None, shape: Any
    ) -> None:
        values = [] if callable(initial_value) else [initial_value]
        with name_scope(name, "Variable", values) as scope:
            with name_scope("Initializer"), device(None):
                given = initial_value() if callable(initial_value) else initial_value
                initial = convert_to_tensor(given, dtype, "initial_value")
            self._check_initial_shape(initial)
            self._dtype = initial.dtype.base_dtype
            self._shape = self._static_shape(initial, shape)
            attrs = {"dtype": self._dtype.ir, "shape": self._shape.sizes}
            self._handle = create_op("VarHandleOp", (), attrs, scope).outputs[0]
            self._initial_value = initial
            with name_scope("IsInitialized"):
                create_op("VarIsInitializedOp", [self._handle])
            value = guarded(initial, self._handle.op.name)
            self._initializer = create_op("AssignVariableOp", [self._handle, value], None, "Assign")
            with name_scope("Read"), device(self._caching_device or ""):
                self._read = self._read_node()

    def _read_node(self, name: str | None = None) -> Tensor:
        attrs = {"dtype": self._dtype.ir}
        value = create_op("ReadVariableOp", [self._handle], attrs, name).outputs[0]
        value.set_shape(self._shape)
        return value

    @property
    def handle(self) -> Tensor:
        """The resource that reads and assignments take."""
        return self._handle

    @property
    def name(self) -> str:
        """The handle's name: ``v:0``."""
        return self._handle.name

    @property
    def op(self) -> Operation:
        """The node that stands for the variable."""
        return self._handle.op

    @property
    def dtype(self) -> DType:
        """The dtype."""
        return self._dtype

    @property
    def shape(self) -> TensorShape:
        """The static shape."""
        return self._shape

    def _as_graph_element(self) -> Tensor:
        return self._read

    def value(self) -> Tensor:
        """A new read of the variable, which functions get."""
        with colocate_with(None, ignore_existing=True):
            return self._read_node()

    def read_value(self) -> Tensor:
        """A new tensor with the value, read where this is called."""
        with name_scope("Read"):
            value = self._read_node()
        copied: Tensor = identity(value)
        return copied

    def sparse_read(self, indices: Any, name: str | None = None) -> Tensor:
        """The rows at ``indices``."""
        with name_scope("Gather" if name is None else name, values=[self]) as scope:
            where = convert_to_tensor(indices, name="indices", preferred_dtype=int32)
            attrs = {"dtype": self._dtype.ir}
            inputs = [self._handle, where]
            return create_op("ResourceGather", inputs, attrs, scope).outputs[0]

    def is_initialized(self, name: str | None = None) -> Tensor:
        """Whether the variable has a value: a bool scalar."""
        return create_op("VarIsInitializedOp", [self._handle], None, name).outputs[0]

    # ---- changing it ----------------------------------------------------------------------------
    def assign(
        self,
        value: Any,
        use_locking: bool | None = None,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Set the variable; gives a variable that is read after it, or the node.

        Raises: ValueError for another shape or dtype.
        """
        operand = convert_to_tensor(value, self._dtype)
        if not self._shape.is_compatible_with(operand.shape):
            raise ValueError(
                f"Cannot assign value to variable ' {self.name}': Shape mismatch.The variable "
                f"shape {self._shape}, and the assigned value shape {operand.shape} are "
                "incompatible."
            )
        attrs = {"dtype": self._dtype.ir, "validate_shape": self._shape.is_fully_defined()}
        return self._changed("AssignVariableOp", operand, attrs, name, read_value)

    def assign_add(
        self,
        delta: Any,
        use_locking: bool | None = None,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Add to the variable; gives a variable that is read after it, or the node."""
        operand = convert_to_tensor(delta, self._dtype)
        attrs = {"dtype": self._dtype.ir}
        return self._changed("AssignAddVariableOp", operand, attrs, name, read_value)

    def assign_sub(
        self,
        delta: Any,
        use_locking: bool | None = None,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Subtract from the variable; gives a variable that is read after it, or the node."""
        operand = convert_to_tensor(delta, self._dtype)
        attrs = {"dtype": self._dtype.ir}
        return self._changed("AssignSubVariableOp", operand, attrs, name, read_value)

    def _changed(
        self, type_: str, operand: Tensor, attrs: dict[str, Any], name: str | None, read: bool
    ) -> Any:
        op = create_op(type_, [self._handle, operand], attrs, name)
        return self.read_after(op) if read else op

    def read_after(self, op: Operation) -> ResourceVariable:
        """This variable, to be read after ``op``."""
        return UnreadVariable(self, op)

    def initialized_value(self) -> Tensor:
        """The value, or the initial value while there is none."""
        with name_scope("cond"):
            attrs = [self._handle, self._initial_value]
            return create_op("InitializedValue", attrs, None, "Merge").outputs[0]

    def count_up_to(self, limit: int) -> Tensor:
        """Increment the variable, which fails at ``limit``; gives the value before."""
        return state_ops.count_up_to(self, limit)


class UnreadVariable(ResourceVariable):
    """What an assignment gives: the variable, whose value here is the one after ``op``."""

    def __init__(self, variable: ResourceVariable, op: Operation) -> None:
        self.__dict__.update(vars(variable))
        self._parent = op
        with control_dependencies([op]):
            self._read = self._read_node()

    @property
    def op(self) -> Operation:
        """The node that stands for the variable."""
        return self._parent

    @property
    def name(self) -> str:
        """The handle's name: ``v:0``."""
        return self._parent.name

    def value(self) -> Tensor:
        """A new read of the variable, which functions get."""
        with control_dependencies([self._parent]):
            return super().value()

    def read_value(self) -> Tensor:
        """A new tensor with the value, read where this is called."""
        with control_dependencies([self._parent]):
            return super().read_value()
