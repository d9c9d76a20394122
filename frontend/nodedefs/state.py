"""Node types of variables: making them, reading, assigning and updating them.

An extractor turns a variable into values: ``x.read`` gives the one that an update starts from,
``x.write`` the one that comes after. Reference variables and resource variables differ in when a
read happens, which is the extractor's concern, and in the outputs of their updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from stepforge.frontend import dtypes
from stepforge.frontend.extract.extractor import InferenceExtractor
from stepforge.frontend.extract.messages import told
from stepforge.frontend.nodedefs.base import REQUIRED, NodeDef, define_node
from stepforge.frontend.nodedefs.core import declared_type
from stepforge.frontend.nodedefs.sizes import bracketed
from stepforge.ir import dims
from stepforge.ir.builder import Builder
from stepforge.ir.core import Value
from stepforge.ir.dims import Dim
from stepforge.ir.errors import DTypeError, ShapeError
from stepforge.ir.types import Type

_OPEN = dims.named("?")  # how a size that is not known prints


def variable_output(tensor: Any) -> Any:
    """The output of the variable node that ``tensor`` refers to, through assignments to it."""
    while tensor.op.definition.ref_inputs and tensor.op.definition.ref_outputs:
        tensor = tensor.op.inputs[0]
    return tensor


def declared(tensor: Any) -> tuple[str, tuple[int | None, ...] | None]:
    """Dtype and shape that the variable behind ``tensor`` was declared with."""
    attrs = variable_output(tensor).op.attrs
    return attrs["dtype"], attrs["shape"]


def require_shape(x: Any, value: Any, wanted: Sequence[Dim | None] | None) -> Any:
    """``value``, known to have the shape ``wanted``, in which None stands for any size.

    Raises: ShapeError where it certainly has another.
    """
    have = x.type(value).shape
    if wanted is None:
        return value
    if have is None:
        if not isinstance(x, InferenceExtractor):
            return value
        opened = tuple(dims.named(x.fresh("d")) if n is None else n for n in wanted)
        return Value(x.type(value).with_shape(opened))
    if len(have) != len(wanted):
        raise ShapeError(f"Shapes must be equal rank, but are {len(wanted)} and {len(have)}")
    merged = []
    for axis, (a, b) in enumerate(zip(wanted, have, strict=True)):
        if a is None or a == b:
            merged.append(b)
            continue
        text = "Dimension {} in both shapes must be equal, but are {} and {}. Shapes are {} and {}."
        sizes = [_OPEN if n is None else n for n in wanted]
        problem = told(text, axis, a, b, sizes, have)
        if isinstance(a, int) and isinstance(b, int):
            raise ShapeError(problem)
        merged.append(x.unify(b, a, problem))
    return value if tuple(merged) == have else x.emit("refine", value, shape=tuple(merged))


def require_dtype(node: Any, name: str, value: Any) -> None:
    """Raises: DTypeError where ``value`` has not the dtype of the variable."""
    wanted, _ = declared(node.inputs[0])
    if value.type.dtype != wanted:
        have = node.inputs[-1].dtype.base_dtype.name
        raise DTypeError(
            f"Input '{name}' of '{node.type}' Op has type {have} that does not match type "
            f"{dtypes.from_ir(wanted).name} of argument '{node.definition.inputs[0]}'."
        )


# ---- variables -----------------------------------------------------------------------------------
_VARIABLE_ATTRS: dict[str, Any] = {
    "dtype": REQUIRED,
    "shape": None,
    "container": "",
    "shared_name": "",
}


@define_node
class VariableV2(NodeDef):
    """A reference variable; its output is the value, and the variable in an assignment."""

    attrs: ClassVar[dict[str, Any]] = _VARIABLE_ATTRS
    no_gradient = True
    stateful = True
    ref_outputs = True

    def extract(self, x: Any, node: Any) -> Any:
        """The variable as the extractor keeps it; of any shape where an assignment gives it another
        one than it was declared with.
        """
        if node.attrs.get("_any_shape"):
            return x.variable(node, Type(node.attrs["dtype"], None))
        return x.variable(node, declared_type(x, node))


@define_node
class VarHandleOp(NodeDef):
    """A resource variable's handle."""

    attrs: ClassVar[dict[str, Any]] = _VARIABLE_ATTRS
    no_gradient = True
    stateful = True

    def extract(self, x: Any, node: Any) -> Any:
        """The variable as the extractor keeps it; to the graph, a resource."""
        variable = x.variable(node, declared_type(x, node))
        return Value(Type("resource")) if isinstance(x, InferenceExtractor) else variable


@define_node
class IsVariableInitialized(NodeDef):
    """Whether a reference variable has a value."""

    inputs = ("ref",)
    ref_inputs = ("ref",)
    attrs: ClassVar[dict[str, Any]] = {"dtype": ""}
    no_gradient = True
    stateful = True

    def extract(self, x: Any, node: Any, ref: Any) -> Any:
        """A bool scalar."""
        return x.initialized(variable_output(node.inputs[0]))


@define_node
class VarIsInitializedOp(NodeDef):
    """Whether a resource variable has a value."""

    inputs = ("resource",)
    ref_inputs = ("resource",)
    no_gradient = True
    stateful = True

    def extract(self, x: Any, node: Any, resource: Any) -> Any:
        """A bool scalar."""
        return x.initialized(node.inputs[0])


@define_node
class ReadVariableOp(NodeDef):
    """The value of a resource variable at this node's place in the order of creation."""

    inputs = ("resource",)
    ref_inputs = ("resource",)
    attrs: ClassVar[dict[str, Any]] = {"dtype": ""}
    stateful = True

    def extract(self, x: Any, node: Any, resource: Any) -> Any:
        """The value after all writes made before."""
        return x.read(node.inputs[0])

    def gradient(self, tf: Any, op: Any, dz: Any) -> Any:
        """The handle stands for the variable in ``tf.gradients``."""
        return [dz]


# ---- assignments ---------------------------------------------------------------------------------
class Assignment(NodeDef):
    """What assignments share: the new value is ``update(x, node, value)``."""

    no_gradient = True
    stateful = True
    attrs: ClassVar[dict[str, Any]] = {"use_locking": False}
    op: ClassVar[str] = ""  # the IR op of old and new value; none for a plain assignment

    def extract(self, x: Any, node: Any, target: Any, value: Any) -> Any:
        """The new value, which is also the output of a reference assignment."""
        variable = variable_output(node.inputs[0])
        require_dtype(node, self.inputs[1], value)
        if self.op:
            old = x.read(variable)
            new = x.emit(self.op, old, require_shape(x, value, x.type(old).shape))
        else:
            checked = node.attrs["validate_shape"]
            new = require_shape(x, value, declared(variable)[1]) if checked else value
        written = x.write(variable, new)
        return written if self.ref_outputs else None


@define_node
class Assign(Assignment):
    """Sets a reference variable. Its output stands for the variable and has the new value."""

    inputs = ("ref", "value")
    ref_inputs = ("ref",)
    ref_outputs = True
    attrs: ClassVar[dict[str, Any]] = {"validate_shape": True, "use_locking": True}


@define_node
class AssignAdd(Assignment):
    """Adds to a reference variable."""

    inputs = ("ref", "value")
    ref_inputs = ("ref",)
    ref_outputs = True
    op = "add"


@define_node
class AssignSub(Assignment):
    """Subtracts from a reference variable."""

    inputs = ("ref", "value")
    ref_inputs = ("ref",)
    ref_outputs = True
    op = "sub"


@define_node
class AssignVariableOp(Assignment):
    """Sets a resource variable."""

    inputs = ("resource", "value")
    ref_inputs = ("resource",)
    outputs = 0
    attrs: ClassVar[dict[str, Any]] = {"dtype": "", "validate_shape": True}


@define_node
class AssignAddVariableOp(Assignment):
    """Adds to a resource variable."""

    inputs = ("resource", "value")
    ref_inputs = ("resource",)
    outputs = 0
    attrs: ClassVar[dict[str, Any]] = {"dtype": ""}
    op = "add"


@define_node
class AssignSubVariableOp(Assignment):
    """Subtracts from a resource variable."""

    inputs = ("resource", "value")
    ref_inputs = ("resource",)
    outputs = 0
    attrs: ClassVar[dict[str, Any]] = {"dtype": ""}
    op = "sub"


class Counter(NodeDef):
    """Increments an integer variable; at ``limit`` it is an error. Gives the value before."""

    attrs: ClassVar[dict[str, Any]] = {"limit": REQUIRED}
    no_gradient = True
    stateful = True

    def extract(self, x: Any, node: Any, ref: Any) -> Any:
        """A check against the limit and an addition."""
        variable = variable_output(node.inputs[0])
        old = x.read(variable)
        if old.type.dtype not in ("i32", "i64"):
            raise DTypeError(
                f"Value passed to parameter '{self.inputs[0]}' has DataType "
                f"{dtypes.from_ir(old.type.dtype).name} not in list of allowed values: int32, int64"
            )
        limit = node.attrs["limit"]
        below = x.emit("less", old, x.const(limit, old.type.dtype))
        message = f"Reached limit of {limit}"
        x.emit("require", below, message=message, error="OutOfRangeError")
        x.write(variable, x.emit("add", old, x.const(1, old.type.dtype)))
        return old


@define_node
class CountUpTo(Counter):
    """Increments a reference variable up to a limit."""

    inputs = ("ref",)
    ref_inputs = ("ref",)


@define_node
class ResourceCountUpTo(Counter):
    """Increments a resource variable up to a limit."""

    inputs = ("resource",)
    ref_inputs = ("resource",)


# ---- updates of rows and elements ----------------------------------------------------------------
class Scatter(NodeDef):
    """What scatter updates share; ``kind`` says how a row combines with its update."""

    inputs = ("ref", "indices", "updates")
    ref_inputs = ("ref",)
    ref_outputs = True
    no_gradient = True
    stateful = True
    attrs: ClassVar[dict[str, Any]] = {"use_locking": False}
    kind: ClassVar[str] = "update"

    def extract(self, x: Any, node: Any, ref: Any, indices: Any, updates: Any) -> Any:
        """The value with the rows changed, written back."""
        variable = variable_output(node.inputs[0])
        require_dtype(node, "updates", updates)
        old = x.read(variable)
        written = x.write(variable, self.changed(x, old, indices, updates))
        return written if self.ref_outputs else None

    def changed(self, x: Any, old: Any, indices: Any, updates: Any) -> Any:
        """``old`` with rows of its first axis changed."""
        shape = x.shape(old)
        if not shape:
            raise ShapeError("Shape must be at least rank 1 but is rank 0")
        if x.shape(updates):
            updates = require_shape(x, updates, (*x.shape(indices), *shape[1:]))
        x.emit("check_bounds", indices, limit=shape[0], message="indices")
        return x.emit("scatter_update", old, indices, updates, kind=self.kind)


class ScatterNd(Scatter):
    """What scatter updates at index vectors share."""

    def changed(self, x: Any, old: Any, indices: Any, updates: Any) -> Any:
        """``old`` with slices at index vectors changed."""
        shape, where = x.shape(old), x.shape(indices)
        if not where or not isinstance(where[-1], int) or where[-1] > len(shape):
            raise ShapeError(
                f"The last dimension of indices {bracketed(where)} must be at most the rank of ref "
                f"{bracketed(shape)}"
            )
        depth = where[-1]
        updates = require_shape(x, updates, (*where[:-1], *shape[depth:]))
        if depth:
            message = "indices{place} = {value} does not index into shape {shape}"
            x.emit("check_vectors", indices, shape=shape, message=message)
        return x.emit("scatter_nd_update", old, indices, updates, kind=self.kind)


_KINDS = ("Update", "Add", "Sub", "Mul", "Div", "Min", "Max")


def _define_scatters() -> None:
    """``ScatterAdd``, ``ResourceScatterAdd``, ``ScatterNdAdd`` ... : one class for each kind."""
    resource: dict[str, Any] = {
        "inputs": ("resource", "indices", "updates"),
        "ref_inputs": ("resource",),
        "ref_outputs": False,
        "outputs": 0,
        "attrs": {"dtype": "", "use_locking": False},
    }
    families: tuple[tuple[str, type[NodeDef], dict[str, Any]], ...] = (
        ("Scatter", Scatter, {}),
        ("ResourceScatter", Scatter, resource),
        ("ScatterNd", ScatterNd, {}),
        ("ResourceScatterNd", ScatterNd, resource),
    )
    for prefix, base, members in families:
        for name in _KINDS[:3] if base is ScatterNd else _KINDS:
            doc = f"Rows of a variable, {name.lower()} by ``updates`` at ``indices``."
            body = {"__doc__": doc, "__module__": __name__, "kind": name.lower(), **members}
            define_node(type(prefix + name, (base,), body))


_define_scatters()


@define_node
class ResourceGather(NodeDef):
    """Rows of a resource variable."""

    inputs = ("resource", "indices")
    ref_inputs = ("resource",)
    attrs: ClassVar[dict[str, Any]] = {"dtype": "", "batch_dims": 0, "validate_indices": True}
    stateful = True

    def extract(self, x: Any, node: Any, resource: Any, indices: Any) -> Any:
        """A checked gather from the value."""
        value = x.read(node.inputs[0])
        x.emit("check_bounds", indices, limit=x.shape(value)[0], message="indices")
        return x.emit("gather", value, indices)

    def gradient(self, tf: Any, op: Any, dz: Any) -> Any:
        """Slices at the rows that were read; their dense shape is the variable's."""
        handle, indices = op.inputs
        shape = declared(handle)[1] or ()
        values = tf.reshape(dz, [-1, *shape[1:]])
        rows = tf.reshape(indices, [-1])
        return [tf.IndexedSlices(values, rows, tf.constant(list(shape))), None]


@define_node
class InitializedValue(NodeDef):
    """A variable's value, or ``initial_value`` while it has none."""

    inputs = ("ref", "initial_value")
    ref_inputs = ("ref",)
    stateful = True

    def extract(self, x: Any, node: Any, ref: Any, initial: Any) -> Any:
        """What this step wrote before, else a ``cond`` on whether the variable has a value."""
        if isinstance(x, InferenceExtractor):
            return Value(initial.type)
        variable = variable_output(node.inputs[0])
        value = x.read(variable)
        if not any(op.name == "read" and op.result is value for op in x.builder.ops):
            return value
        then, other = Builder(node.site), Builder(node.site)
        then.emit("yield", then.emit("read", ref))
        other.emit("yield", initial)
        regions = [then.block(), other.block()]
        has_value = x.initialized(variable)
        return x.emit("cond", has_value, types=[initial.type], regions=regions)

    def gradient(self, tf: Any, op: Any, dz: Any) -> Any:
        """To the variable."""
        return [dz, None]
