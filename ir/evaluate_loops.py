"""The meaning of the loop level, executed on NumPy buffers: what the passes on loops are compared
with.

Each operation does what its declaration says and nothing else: a load of an element that nothing
stored, an index outside of its axis, or two lanes that store to one place are errors here, where
native code would go on with whatever it finds. Variables change as they would natively, also where
the step fails, so that a write before the last check shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from stepforge.ir import dims
from stepforge.ir.analyses import substitute_literal
from stepforge.ir.combining import identity
from stepforge.ir.core import Operand, Operation, Symbol, Value
from stepforge.ir.dims import Dim
from stepforge.ir.errors import BY_NAME, FailedPreconditionError, OpError
from stepforge.ir.evaluate import Observe, State
from stepforge.ir.evaluate_images import conv, conv_filter, native_call
from stepforge.ir.loop_machine import Buffer, Handler, LoopMachine, LoopStep, count, filled, fresh
from stepforge.ir.opdef import lookup
from stepforge.ir.types import numpy_dtype

Array: TypeAlias = np.ndarray[Any, Any]
COMBINE: Mapping[str, np.ufunc] = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.logical_and,
    "or": np.logical_or,
}


def evaluate_loops(
    step: LoopStep,
    arguments: Sequence[Any],
    state: State | None = None,
    *,
    lanes: bool = True,
    observe: Observe | None = None,
) -> tuple[Any, ...]:
    """The results of ``step`` for array-likes in the order of its first parameters.

    ``state`` maps variables to values and random streams to their states, as for ``evaluate``, and
    has what they are afterwards. ``lanes`` runs the turns of a ``simd`` loop side by side, as their
    mark allows; else one after the other. ``observe`` is called after each operation on elements,
    with what it computed or stored.

    Raises: what the operations raise; IRError where the function is wrong.
    """
    machine = LoopMachine(
        step, {} if state is None else state, HANDLERS, lanes=lanes, observe=observe
    )
    try:
        return machine.run(arguments)
    finally:
        if state is not None:
            state.update({name: cell.value for name, cell in machine.cells.items()})


# ---- loops --------------------------------------------------------------------------------------


def _for(machine: LoopMachine, op: Operation) -> Any:
    low, high = machine.size(op.attr("low")), machine.size(op.attr("high"))
    turns = range(low, high, op.attr("step"))
    carried = [machine.value(o) for o in op.operands]
    side_by_side = machine.lanes and not machine.inside_lanes and not op.attr("binds")
    if op.attr("simd") and side_by_side:
        carried = _by_lanes(machine, op, turns, carried) if len(turns) else carried
    else:
        carried = _by_turns(machine, op, turns, carried)
    machine.values.update(zip(op.results, carried, strict=True))
    return carried[0] if len(carried) == 1 else None


def _by_turns(machine: LoopMachine, op: Operation, turns: range, carried: list[Any]) -> list[Any]:
    """One turn after the other, the last one first where the mark says that this is the same."""
    region, binds = op.regions[0], op.attr("binds")
    for turn in reversed(turns) if op.attr("parallel") else turns:
        if binds:
            machine.sizes[binds] = turn
        machine.values[region.params[0]] = turn
        machine.values.update(zip(region.params[1:], carried, strict=True))
        carried = machine.block(region)
    if binds:
        machine.sizes.pop(binds, None)
    return carried


def _by_lanes(machine: LoopMachine, op: Operation, turns: range, initial: list[Any]) -> list[Any]:
    """All turns at once; each lane starts from nothing, and what they carry combines in the end."""
    region, kinds = op.regions[0], op.attr("combine")
    machine.values[region.params[0]] = np.asarray(turns, np.int64)
    for kind, param in zip(kinds, region.params[1:], strict=True):
        start = identity(kind, param.type.dtype).value
        machine.values[param] = np.full(len(turns), start, numpy_dtype(param.type.dtype))
    machine.inside_lanes = True
    try:
        last = machine.block(region)
    finally:
        machine.inside_lanes = False
    carried = []
    for kind, value, start in zip(kinds, last, initial, strict=True):
        lanes = np.broadcast_to(value, len(turns))
        total = COMBINE[kind].reduce(lanes, dtype=lanes.dtype)
        carried.append(np.asarray(COMBINE[kind](start, total)))
    return carried


# ---- memory -------------------------------------------------------------------------------------


def _load(machine: LoopMachine, op: Operation) -> Array:
    buffer = machine.value(op.operands[0])
    at = machine.place_of(op, buffer, op.operands[1:])
    if not np.all(buffer.written[at]):
        raise machine.wrong(op, "reads what nothing stored")
    return np.asarray(buffer.data[at])


def _store(machine: LoopMachine, op: Operation) -> Array:
    value, buffer = machine.value(op.operands[0]), machine.value(op.operands[1])
    at = machine.place_of(op, buffer, op.operands[2:])
    if np.ndim(at) < np.ndim(value) or (np.ndim(at) and np.unique(at).size < at.size):
        raise machine.wrong(op, "stores to one place in several lanes")
    buffer.data[at] = value
    buffer.written[at] = True
    return np.asarray(value)


def _alloc(machine: LoopMachine, op: Operation) -> Buffer:
    dtype, kind = op.attr("dtype"), op.attr("combine")
    buffer = fresh(dtype, machine.shape(op.attr("shape")))
    if kind:
        buffer.data[:] = identity(kind, dtype).value
        buffer.written[:] = True
    return buffer


def _place(machine: LoopMachine, op: Operation) -> Buffer:
    dtype, shape = numpy_dtype(op.attr("dtype")), machine.shape(op.attr("shape"))
    start, size = machine.shape((op.attr("offset"),))[0], count(shape) * dtype.itemsize
    room = machine.arena[start : start + size] if start >= 0 else machine.arena[:0]
    data = room[: room.size - room.size % dtype.itemsize].view(dtype)
    return Buffer(data, np.zeros(data.size, bool), shape)


def _view(machine: LoopMachine, op: Operation) -> Buffer:
    source, shape = machine.value(op.operands[0]), machine.shape(op.attr("shape"))
    part, dtype = slice(count(shape)), numpy_dtype(op.result.type.dtype)
    return Buffer(source.data[part].view(dtype), source.written[part], shape)


def _subview(machine: LoopMachine, op: Operation) -> Buffer:
    source = machine.value(op.operands[0])
    row = machine.place_of(op, source, op.operands[1:])
    shape = source.shape[len(op.operands) - 1 :]
    size = count(shape)
    part = slice(row * size, (row + 1) * size)
    return Buffer(source.data[part], source.written[part], shape)


def _rows(machine: LoopMachine, op: Operation) -> Buffer:
    source = machine.value(op.operands[0])
    low, rows = machine.shape((op.attr("low"), op.attr("count")))
    size = count(source.shape[1:])
    part = slice(low * size, (low + rows) * size)
    return Buffer(source.data[part], source.written[part], (rows, *source.shape[1:]))


def _copy(machine: LoopMachine, op: Operation) -> None:
    source, target = (machine.value(o) for o in op.operands)
    if not source.written.all():
        raise machine.wrong(op, "reads what nothing stored")
    target.data[:] = source.data
    target.written[:] = True


def _transpose_matrix(machine: LoopMachine, op: Operation) -> None:
    source, target = (machine.value(o) for o in op.operands)
    if not source.written.all():
        raise machine.wrong(op, "reads what nothing stored")
    target.data[:] = source.array.T.reshape(-1)
    target.written[:] = True


def _gemm(machine: LoopMachine, op: Operation) -> None:
    a, b, c, _, *operands = (machine.value(o) for o in op.operands)
    if not all(buffer.written.all() for buffer in (a, b, *operands)):
        raise machine.wrong(op, "reads what nothing stored")
    left = a.array.T if op.attr("transpose_a") else a.array
    right = b.array.T if op.attr("transpose_b") else b.array
    result = np.matmul(left, right).reshape(-1)
    for region in op.regions:
        spread = [np.broadcast_to(x.array, c.shape).reshape(-1) for x in operands]
        machine.values.update(zip(region.params, (result, *spread), strict=True))
        machine.inside_lanes = True
        (result,) = machine.block(region)
        machine.inside_lanes = False
    c.data[:] = result
    c.written[:] = True


# ---- state --------------------------------------------------------------------------------------


def _symbol(op: Operation) -> Symbol:
    symbol = op.operands[0]
    assert isinstance(symbol, Symbol)
    return symbol


def _slot(machine: LoopMachine, op: Operation) -> Buffer:
    cell = machine.cells[_symbol(op).name]
    if cell.value is None:
        message = f"Attempting to use uninitialized value {cell.name}"
        raise FailedPreconditionError(None, None, message)
    return filled(cell.value)


def _new_slot(machine: LoopMachine, op: Operation) -> Buffer:
    return fresh(op.result.type.dtype, machine.shape(op.attr("shape")))


def _commit(machine: LoopMachine, op: Operation) -> None:
    buffer = machine.value(op.operands[1])
    if not buffer.written.all():
        raise machine.wrong(op, "commits what was not stored in full")
    machine.cells[_symbol(op).name].value = buffer.array


def _constant(machine: LoopMachine, op: Operation) -> Buffer:
    data = machine.root.globals[_symbol(op).name].data
    assert data is not None
    return filled(np.array(data, order="C"))


def _philox(machine: LoopMachine, op: Operation) -> None:
    from stepforge.ir import philox  # only a program that draws needs it

    stream, target, *bounds = op.operands
    assert isinstance(stream, Symbol)
    out, state = machine.value(target), machine.state[stream.name]
    low_high = [machine.value(bound) for bound in bounds]
    draw = getattr(philox, op.attr("kind"))
    out.data[:] = draw(state, *low_high, out.shape, target.type.dtype).reshape(-1)
    out.written[:] = True


# ---- indices ------------------------------------------------------------------------------------


def _index(machine: LoopMachine, op: Operation) -> Any:
    total: Any = machine.size(op.attr("offset"))
    for counter, scale in zip(op.operands, op.attr("scale"), strict=True):
        total = total + machine.value(counter) * machine.size(scale)
    return total


def _to_index(machine: LoopMachine, op: Operation) -> Any:
    value = np.asarray(machine.value(op.operands[0])).astype(np.int64)
    clamped = np.maximum(np.minimum(value, machine.size(op.attr("limit")) - 1), 0)
    return clamped if clamped.ndim else int(clamped)


def _from_index(machine: LoopMachine, op: Operation) -> Array:
    convert = lookup("cast").numpy
    assert convert is not None
    counter = np.asarray(machine.value(op.operands[0]), np.int64)
    return np.asarray(convert(counter, dtype=op.attr("dtype")))


# ---- failure and the host -----------------------------------------------------------------------

def _fail_if(machine: LoopMachine, op: Operation) -> None:
    condition, *values = [machine.value(o) for o in op.operands]
    if condition:
        text = op.attr("message").format(*[np.asarray(v).item() for v in values])
        raise BY_NAME[op.attr("error")](None, None, text)


def _fail_unless(machine: LoopMachine, op: Operation) -> None:
    left, right = machine.size(op.attr("lhs")), machine.size(op.attr("rhs"))
    if left != right:
        raise BY_NAME[op.attr("error")](None, None, op.attr("message").format(left, right))


def _bind_size(machine: LoopMachine, op: Operation) -> None:
    machine.sizes[op.attr("binds")] = int(machine.value(op.operands[0]))


def _new_result(machine: LoopMachine, op: Operation) -> Buffer:
    made = fresh(op.attr("dtype"), machine.shape(op.attr("shape")))
    machine.results[op.attr("result")] = made
    return made


def _host_call(machine: LoopMachine, op: Operation) -> None:
    """Run the operation of a call; buffers stand for its operands that are values, in order."""
    call = machine.step.host[op.attr("operation")]
    handed = iter(op.operands)
    operands = [
        _host_operand(machine, op, o, handed if isinstance(o, Value) else None)
        for o in call.operands
    ]
    sizes: dict[str, Dim] = {
        name: machine.sizes[name] for size in op.attr("sizes") for name in dims.names(size)
    }
    attrs = {name: substitute_literal(v, sizes) for name, v in call.all_attrs.items()}
    assert call.defn.numpy is not None
    try:
        returned = call.defn.numpy(*operands, **attrs)
    except OpError as error:
        error.site = error.site or call.site
        raise
    values = returned if isinstance(returned, tuple) else (returned,)
    if op.results:
        _keep(machine, op, call, values)
    elif call.results:
        for target, value in zip(handed, values, strict=True):
            buffer = machine.value(target)
            buffer.data[:] = np.asarray(value).reshape(-1)
            buffer.written[:] = True


def _host_operand(machine: LoopMachine, op: Operation, operand: Operand, handed: Any) -> Any:
    if handed is not None:
        buffer = machine.value(next(handed))
        if not buffer.written.all():
            raise machine.wrong(op, "reads what nothing stored")
        return buffer.array
    if isinstance(operand, Symbol):
        entry = machine.root.globals[operand.name]
        if entry.kind == "constant":
            return entry.data
        return machine.cells.get(operand.name) or machine.state[operand.name]
    return machine.value(operand)


def _keep(machine: LoopMachine, op: Operation, call: Operation, values: Sequence[Any]) -> None:
    """Results whose sizes only they themselves tell, and the names of these sizes."""
    for result, made, value in zip(op.results, call.results, values, strict=True):
        array = np.ascontiguousarray(value, numpy_dtype(made.type.dtype))
        machine.values[result] = filled(array)
        for size, have in zip(made.type.dims, array.shape, strict=True):
            name = dims.as_name(size)
            if name in op.attr("binds"):
                machine.sizes[str(name)] = have


HANDLERS: dict[str, Handler] = {
    "for": _for,
    "load": _load,
    "store": _store,
    "alloc": _alloc,
    "place": _place,
    "view": _view,
    "subview": _subview,
    "rows": _rows,
    "copy": _copy,
    "gemm": _gemm,
    "transpose_matrix": _transpose_matrix,
    "slot": _slot,
    "new_slot": _new_slot,
    "commit": _commit,
    "constant": _constant,
    "philox": _philox,
    "index": _index,
    "index_div": lambda m, op: m.value(op.operands[0]) // m.size(op.attr("by")),
    "index_mod": lambda m, op: m.value(op.operands[0]) % m.size(op.attr("by")),
    "to_index": _to_index,
    "from_index": _from_index,
    "fail_if": _fail_if,
    "fail_unless": _fail_unless,
    "bind_size": _bind_size,
    "new_result": _new_result,
    "host_call": _host_call,
    "conv": conv,
    "conv_filter": conv_filter,
    "native_call": native_call,
}
