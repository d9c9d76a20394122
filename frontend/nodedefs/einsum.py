"""What an ``Einsum`` of one or two operands is in the IR, and its gradients.

Every axis gets a label: a letter of the equation, or a number for the axes under ``...`` (counted
from the right, so that they align as in broadcasting). The rest is bookkeeping: diagonals where a
label repeats, sums over labels that nothing else has, then one ``matmul`` whose batch, row, inner
and column axes are groups of labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from stepforge.ir import dims
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError
from stepforge.ir.records import record

Label: TypeAlias = "str | int"
ELLIPSIS = "..."


@record(frozen=True)
class Labelled:
    """An operand whose axes have labels."""

    operand: Any
    labels: tuple[Label, ...]

    def size(self, x: Any, label: Label) -> Dim:
        """The size of the axis called ``label``."""
        size: Dim = x.shape(self.operand)[self.labels.index(label)]
        return size

    def ordered(self, x: Any, labels: Sequence[Label]) -> Labelled:
        """The same with its axes in the order of ``labels``."""
        if tuple(labels) == self.labels:
            return self
        perm = tuple(self.labels.index(label) for label in labels)
        return Labelled(x.emit("transpose", self.operand, perm=perm), tuple(labels))


def split(equation: str) -> tuple[list[str], str]:
    """The subscripts of the operands and of the result."""
    sources, _, target = equation.partition("->")
    return sources.split(","), target


def lower(x: Any, equation: str, operands: Sequence[Any]) -> Any:
    """Emit the einsum ``equation`` of one or two operands.

    Raises: ShapeError where the equation does not fit the operands.
    """
    sources, target = split(equation)
    if len(sources) != len(operands):
        raise ShapeError(
            f"Expected {len(sources)} inputs for the equation {equation!r}, got {len(operands)}"
        )
    parts = [
        _diagonal(x, Labelled(operand, _labels(subscripts, len(x.shape(operand)), equation)))
        for operand, subscripts in zip(operands, sources, strict=True)
    ]
    hidden = max((sum(isinstance(n, int) for n in part.labels) for part in parts), default=0)
    wanted = _target(target, hidden)
    unique = tuple(dict.fromkeys(wanted))
    parts = [_without_lonely(x, i, parts, unique) for i in range(len(parts))]
    whole = parts[0] if len(parts) == 1 else _product(x, parts[0], parts[1], unique)
    return _inflated(x, whole.ordered(x, unique), wanted)


def _labels(subscripts: str, rank: int, equation: str) -> tuple[Label, ...]:
    before, ellipsis, after = subscripts.partition(ELLIPSIS)
    hidden = rank - len(before) - len(after)
    if hidden < 0 or (hidden and not ellipsis):
        raise ShapeError(
            f"Expected input of rank {len(before) + len(after)} for {subscripts!r} of the equation "
            f"{equation!r}, got rank {rank}"
        )
    return (*before, *range(hidden - 1, -1, -1), *after)


def _target(subscripts: str, hidden: int) -> tuple[Label, ...]:
    before, ellipsis, after = subscripts.partition(ELLIPSIS)
    if hidden and not ellipsis:
        raise ShapeError(f"the result {subscripts!r} lacks the axes under '...'")
    return (*before, *range(hidden - 1, -1, -1), *after)


def _diagonal(x: Any, part: Labelled) -> Labelled:
    """Axes of equal label become one, the diagonal."""
    for label in part.labels:
        places = [axis for axis, other in enumerate(part.labels) if other == label]
        if len(places) == 1:
            continue
        first, second = places[:2]
        shape = x.shape(part.operand)
        x.unify(shape[first], shape[second], f"axes labelled {label!r} must have one size")
        rest = [axis for axis in range(len(shape)) if axis not in (first, second)]
        moved = x.emit("transpose", part.operand, perm=(*rest, first, second))
        labels = (*[part.labels[axis] for axis in rest], label)
        return _diagonal(x, Labelled(x.emit("matrix_diag_part", moved), labels))
    return part


def _inflated(x: Any, part: Labelled, wanted: tuple[Label, ...]) -> Any:
    """The reverse of ``_diagonal``: a label wanted twice becomes a diagonal of two axes."""
    if len(part.labels) == len(wanted):
        return part.operand
    label = next(n for n in wanted if wanted.count(n) > part.labels.count(n))
    rest = [n for n in part.labels if n != label]
    moved = part.ordered(x, [*rest, label])
    places = [axis for axis, n in enumerate(wanted) if n == label]
    if len(places) != 2 or part.labels.count(label) != 1:
        raise ShapeError(f"the label {label!r} appears more than twice in the result")
    whole = Labelled(x.emit("matrix_diag", moved.operand), (*rest, label, f"{label}'"))
    renamed = list(wanted)
    renamed[places[1]] = f"{label}'"
    return _inflated(x, _in_order_of(x, whole, renamed), tuple(renamed))


def _in_order_of(x: Any, part: Labelled, wanted: Sequence[Label]) -> Labelled:
    return part.ordered(x, [n for n in dict.fromkeys(wanted) if n in part.labels])


def _without_lonely(x: Any, index: int, parts: list[Labelled], target: Sequence[Label]) -> Labelled:
    """The operand summed over labels that neither the result nor the other operand has."""
    part = parts[index]
    others = {label for i, other in enumerate(parts) if i != index for label in other.labels}
    axes = tuple(
        axis for axis, n in enumerate(part.labels) if n not in target and n not in others
    )
    if not axes:
        return part
    kept = tuple(n for axis, n in enumerate(part.labels) if axis not in axes)
    return Labelled(x.emit("reduce_sum", part.operand, axes=axes), kept)


def _product(x: Any, a: Labelled, b: Labelled, target: tuple[Label, ...]) -> Labelled:
    """One ``matmul``; labels of both that the result keeps are batch axes."""
    hidden: list[Label] = [n for n in target if isinstance(n, int)]
    shared: list[Label] = [n for n in a.labels if n in b.labels and not isinstance(n, int)]
    for label in shared:
        x.unify(a.size(x, label), b.size(x, label), f"axes labelled {label!r} must have one size")
    batch = [*hidden, *[n for n in shared if n in target]]
    inner = [n for n in shared if n not in target]
    rows = [n for n in a.labels if n not in batch and n not in inner]
    columns = [n for n in b.labels if n not in batch and n not in inner]
    left = _grouped(x, a, batch, rows, inner)
    right = _grouped(x, b, batch, inner, columns)
    x.broadcast(x.shape(left)[:-2], x.shape(right)[:-2])
    op = "matmul" if inner else "mul"
    product = x.emit(op, left, right)
    sizes = [*x.shape(product)[: len(batch)], *[a.size(x, n) for n in rows],
             *[b.size(x, n) for n in columns]]
    product = x.emit("reshape", product, shape=tuple(sizes))
    return Labelled(product, (*batch, *rows, *columns))


def _grouped(x: Any, part: Labelled, batch: list[Label], first: list[Label],
             second: list[Label]) -> Any:
    """Axes in order, each of two groups as one axis; a batch label that is missing has size 1."""
    present = [n for n in batch if n in part.labels]
    ordered = part.ordered(x, [*present, *first, *second])
    sizes = [part.size(x, n) if n in part.labels else 1 for n in batch]
    groups = [dims.product([part.size(x, n) for n in group]) for group in (first, second)]
    return x.emit("reshape", ordered.operand, shape=(*sizes, *groups))


# ---- gradients ----------------------------------------------------------------------------------
def gradients(tf: Any, equation: str, inputs: list[Any], dz: Any) -> list[Any]:
    """The gradient of each operand, written with API functions."""
    sources, target = split(equation)
    found = []
    for index, operand in enumerate(inputs):
        others = [
            (tf.conj(other), sources[i]) for i, other in enumerate(inputs) if i != index
        ]
        found.append(operand_gradient(tf, operand, sources[index], others, dz, target))
    return found


def operand_gradient(tf: Any, operand: Any, subscripts: str, others: list[tuple[Any, str]],
                     dz: Any, target: str) -> Any:
    """The gradient of ``operand``: dz with the other operand, spread over labels that were summed.

    The axes under ``...`` go first meanwhile, so that what they broadcast is summed like anything
    else.
    """
    front = ELLIPSIS if ELLIPSIS in target else ""
    labels = "".join(dict.fromkeys(subscripts.replace(ELLIPSIS, "")))
    seen = target + "".join(subs for _, subs in others)
    kept = front + "".join(n for n in labels if n in seen)
    summed = [n for n in labels if n not in seen]
    equation = ",".join([target, *[subs for _, subs in others]]) + "->" + kept
    slope = tf.einsum_node([dz, *[other for other, _ in others]], equation)
    if summed:
        slope = _spread(tf, slope, operand, subscripts, summed)
    order = front + subscripts.replace(ELLIPSIS, "")
    given = "".join(summed) + kept
    if given != order:
        slope = tf.einsum_node([slope], f"{given}->{order}")
    if not front:
        return slope
    if ELLIPSIS not in subscripts:
        return tf.sum_to(slope, operand)
    like = tf.einsum_node([operand], f"{subscripts}->{order}") if order != subscripts else operand
    slope = tf.sum_to(slope, like)
    return slope if order == subscripts else tf.einsum_node([slope], f"{order}->{subscripts}")


def _spread(tf: Any, slope: Any, operand: Any, subscripts: str, summed: list[str]) -> Any:
    """Repeat ``slope`` along new first axes, one for each summed label."""
    sizes = tf.stack([tf.shape(operand)[_axis_of(subscripts, label)] for label in summed])
    shape = tf.shape(slope)
    ones = tf.ones_like(sizes)
    reshaped = tf.reshape(slope, tf.concat([ones, shape], 0))
    return tf.broadcast_to(reshaped, tf.concat([sizes, shape], 0))


def _axis_of(subscripts: str, label: str) -> int:
    before, _, after = subscripts.partition(ELLIPSIS)
    return before.index(label) if label in before else after.index(label) - len(after)
