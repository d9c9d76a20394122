"""What ``simplify`` knows of ops that move elements: which are nothing, and which meet in one.

A rule looks at an operation and at what made its operands. It gives what replaces the result, or
None where it does not apply. ``structure_table`` says which rule belongs to which op, with an
example of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from stepforge.ir import analyses
from stepforge.ir.core import Const, Operand, Operation
from stepforge.ir.dims import Dim
from stepforge.ir.types import NUMERIC


class Tools(Protocol):
    """What a rule works with; ``simplify`` provides it."""

    def source(self, operand: Operand, *names: str) -> Operation | None:
        """The operation that made ``operand`` where it is one of ``names``, else None."""

    def replace(self, op: Operation, name: str, *operands: Operand, **attrs: Any) -> Operand:
        """Emit, simplified, what takes the place of the only result of ``op``, under its name."""

    def make(self, name: str, *operands: Operand, **attrs: Any) -> Operand:
        """Emit, simplified, what a replacement is made of."""

    def used_once(self, operand: Operand) -> bool:
        """True where nobody else needs what a rule takes apart."""

    def inlined(self, op: Operation, region: int) -> tuple[Operand, ...]:
        """Emit the ops of a region of ``op`` in its place; what the region yields."""


Replacement = Operand | tuple[Operand, ...] | None
StructureRule = Callable[[Operation, Tools], Replacement]


def same_type(op: Operation, tools: Tools) -> Replacement:
    """An op that gives what it is given."""
    return op.operands[0] if op.operands[0].type == op.result.type else None


# ---- reshape, transpose, broadcast --------------------------------------------------------------


def reshape(op: Operation, tools: Tools) -> Replacement:
    """A reshape of a reshape is one; a filled array is filled in the new shape."""
    source = tools.source(op.operands[0], "reshape", "fill", "dims")
    if source is None:
        return None
    if source.name != "dims":
        return tools.replace(op, source.name, source.operands[0], shape=op.attr("shape"))
    values, rank = source.attr("values"), len(op.attr("shape"))
    if rank > 1 or len(values) != 1:
        return None
    return tools.replace(op, "dims", values=values, dtype=source.attr("dtype"), scalar=rank == 0)


def adds_axes(op: Operation) -> bool:
    """True for a reshape that only adds axes of size 1 in front, or takes such away."""
    before, after = op.operands[0].type.shape, op.result.type.shape
    return before is not None and _without_ones(before) == _without_ones(after)


def _without_ones(shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    return _without_ones(shape[1:]) if shape and shape[0] == 1 else shape


def broadcast_to(op: Operation, tools: Tools) -> Replacement:
    """Repeating twice is once, and repeating a constant is filling."""
    operand = op.operands[0]
    source = tools.source(operand, "broadcast_to", "fill", "reshape")
    if source is not None and (source.name != "reshape" or _only_adds(source)):
        name = "fill" if source.name == "fill" else "broadcast_to"
        return tools.replace(op, name, source.operands[0], shape=op.attr("shape"))
    return tools.replace(op, "fill", operand, shape=op.attr("shape")) if _scalar(operand) else None


def _only_adds(op: Operation) -> bool:
    return adds_axes(op) and op.operands[0].type.rank <= op.result.type.rank


def _scalar(operand: Operand) -> bool:
    return isinstance(operand, Const)


def fill(op: Operation, tools: Tools) -> Replacement:
    """A scalar filled with itself."""
    return op.operands[0] if op.attr("shape") == () else None


def transpose(op: Operation, tools: Tools) -> Replacement:
    """Transposes that are nothing, that meet another, or that turn what is the same everywhere."""
    perm = op.attr("perm")
    if perm == tuple(range(len(perm))):
        return op.operands[0]
    source = tools.source(op.operands[0], "transpose", "fill")
    if source is None:
        return None
    if source.name == "fill":
        return tools.replace(op, "fill", source.operands[0], shape=op.result.type.shape)
    inner = source.attr("perm")
    return tools.replace(op, "transpose", source.operands[0], perm=tuple([inner[i] for i in perm]))


def transpose_of_ones(op: Operation, tools: Tools) -> Replacement:
    """Where only axes of size 1 change places, the elements stay where they are."""
    shape = op.operands[0].type.dims
    moved = [axis for axis in op.attr("perm") if shape[axis] != 1]
    if moved != sorted(moved):
        return None
    return tools.replace(op, "reshape", op.operands[0], shape=op.result.type.shape)


def transpose_of_product(op: Operation, tools: Tools) -> Replacement:
    """The transpose of a product is the product of the transposes, the other way round."""
    source = tools.source(op.operands[0], "matmul")
    if source is None or source.regions or not tools.used_once(op.operands[0]):
        return None
    if not _swaps_last_two(op.attr("perm")) or op.result.type.rank != 2:
        return None
    a, b = source.operands
    flags = {"transpose_a": not source.attr("transpose_b")}
    flags["transpose_b"] = not source.attr("transpose_a")
    return tools.replace(op, "matmul", b, a, **flags)


def matmul(op: Operation, tools: Tools) -> Replacement:
    """A product reads its operands transposed for nothing."""
    if op.regions:
        return None
    operands, flags = list(op.operands), [op.attr("transpose_a"), op.attr("transpose_b")]
    for i, operand in enumerate(op.operands):
        source = tools.source(operand, "transpose")
        if source is not None and _swaps_last_two(source.attr("perm")):
            operands[i], flags[i] = source.operands[0], not flags[i]
    if operands == list(op.operands):
        return None
    return tools.replace(op, "matmul", *operands, transpose_a=flags[0], transpose_b=flags[1])


def _swaps_last_two(perm: tuple[int, ...]) -> bool:
    rank = len(perm)
    return rank >= 2 and perm == (*range(rank - 2), rank - 1, rank - 2)


# ---- cutting and joining ------------------------------------------------------------------------


def steps_of(op: Operation) -> tuple[int, ...]:
    """The strides of a slice, given or not."""
    return op.attr("strides") or (1,) * len(op.attr("size"))


def slice_(op: Operation, tools: Tools) -> Replacement:
    """All of it is the thing itself; a part of a part is a part; one of the same everywhere too."""
    if not any(op.attr("begin")) and all(s == 1 for s in steps_of(op)):
        same = same_type(op, tools)
        if same is not None:
            return same
    source = tools.source(op.operands[0], "slice", "fill", "dims")
    if source is None:
        return None
    if source.name == "fill":
        return tools.replace(op, "fill", source.operands[0], shape=op.attr("size"))
    if source.name == "dims":
        return _slice_of_sizes(op, source, tools)
    inner, outer = steps_of(source), steps_of(op)
    begin = [f + s * g for f, s, g in zip(source.attr("begin"), inner, op.attr("begin"),
                                         strict=True)]
    strides = tuple([s * t for s, t in zip(inner, outer, strict=True)])
    return tools.replace(
        op, "slice", source.operands[0], begin=tuple(begin), size=op.attr("size"), strides=strides
    )


def _slice_of_sizes(op: Operation, source: Operation, tools: Tools) -> Replacement:
    (first,), (count,), (step,) = op.attr("begin"), op.attr("size"), steps_of(op)
    if not isinstance(first, int) or not isinstance(count, int):
        return None
    values = tuple([source.attr("values")[first + step * i] for i in range(count)])
    return tools.replace(op, "dims", values=values, dtype=source.attr("dtype"))


def slice_of_joined(op: Operation, tools: Tools) -> Replacement:
    """A part that lies within one of the operands of a ``concat`` is a part of that one."""
    source = tools.source(op.operands[0], "concat")
    if source is None:
        return None
    axis = source.attr("axis") % op.result.type.rank
    if steps_of(op)[axis] != 1:
        return None
    first, count = op.attr("begin")[axis], op.attr("size")[axis]
    start: Dim = 0
    for part in source.operands:
        behind = start + part.type.dims[axis]
        before, after = first - start, behind - (first + count)
        if _not_negative(before) and _not_negative(after):
            begin = (*op.attr("begin")[:axis], before, *op.attr("begin")[axis + 1 :])
            return tools.replace(
                op, "slice", part, begin=begin, size=op.attr("size"), strides=op.attr("strides")
            )
        start = behind
    return None


def _not_negative(size: Dim) -> bool:
    return isinstance(size, int) and size >= 0


def slice_of_padded(op: Operation, tools: Tools) -> Replacement:
    """What was padded and cut off again was never there."""
    source = tools.source(op.operands[0], "pad")
    if source is None or op.attr("begin") != source.attr("low") or set(steps_of(op)) - {1}:
        return None
    whole = op.attr("size") == source.operands[0].type.shape
    return source.operands[0] if whole else None


def slice_of_repeated(op: Operation, tools: Tools) -> Replacement:
    """A part of a broadcast that cuts repeated axes only is a smaller broadcast."""
    source = tools.source(op.operands[0], "broadcast_to")
    if source is None:
        return None
    x = source.operands[0]
    own = (1,) * (op.result.type.rank - x.type.rank) + x.type.dims
    axes = zip(own, source.attr("shape"), op.attr("begin"), op.attr("size"), steps_of(op),
               strict=True)
    for size, whole, first, count, step in axes:
        if size == 1 and whole != 1:
            continue
        if first != 0 or count != whole or step != 1:
            return None
    return tools.replace(op, "broadcast_to", x, shape=op.attr("size"))


def concat(op: Operation, tools: Tools) -> Replacement:
    """One operand needs no joining, nothing is not joined, and joined parts are joined once."""
    axis = op.attr("axis") % op.result.type.rank
    operands: list[Operand] = []
    for operand in op.operands:
        source = tools.source(operand, "concat")
        inner = source is not None and source.attr("axis") % op.result.type.rank == axis
        if source is not None and inner and tools.used_once(operand):
            operands += source.operands
        elif operand.type.dims[axis] != 0:
            operands.append(operand)
    if len(operands) == 1 and operands[0].type == op.result.type:
        return operands[0]
    if not operands or operands == list(op.operands):
        return None
    return tools.replace(op, "concat", *operands, axis=axis)


def concat_of_parts(op: Operation, tools: Tools) -> Replacement:
    """Parts that lie one behind the other in the same tensor are one part."""
    axis = op.attr("axis") % op.result.type.rank
    parts = [tools.source(operand, "slice") for operand in op.operands]
    first = parts[0]
    if first is None or len(parts) < 2:
        return None
    end = first.attr("begin")[axis]
    for part in parts:
        if part is None or not _continues(first, part, axis, end):
            return None
        end = end + part.attr("size")[axis]
    size = op.result.type.dims
    return tools.replace(
        op, "slice", first.operands[0], begin=first.attr("begin"), size=size,
        strides=first.attr("strides")
    )


def _continues(first: Operation, part: Operation, axis: int, begin: Dim) -> bool:
    """True where ``part`` goes on along ``axis`` from ``begin`` where ``first`` would."""
    if part.operands != first.operands or steps_of(part) != steps_of(first):
        return False
    own, other = list(part.attr("begin")), list(first.attr("begin"))
    position, own[axis] = own[axis], other[axis]
    return own == other and position == begin and steps_of(part)[axis] == 1


def concat_of_same(op: Operation, tools: Tools) -> Replacement:
    """Joined arrays of one constant are filled at once; joined sizes are one vector of sizes."""
    sources = [tools.source(operand, "fill", "dims") for operand in op.operands]
    found = [s for s in sources if s is not None]
    if len(found) != len(sources) or len({s.name for s in found}) != 1:
        return None
    if found[0].name == "fill":
        same = all(s.operands == found[0].operands for s in found)
        filled = found[0].operands[0]
        return tools.replace(op, "fill", filled, shape=op.result.type.shape) if same else None
    values = tuple([value for s in found for value in s.attr("values")])
    return tools.replace(op, "dims", values=values, dtype=op.result.type.dtype)


def pad(op: Operation, tools: Tools) -> Replacement:
    """Nothing padded; padding that is padded by the same."""
    if not any(op.attr("low")) and not any(op.attr("high")):
        return op.operands[0]
    source = tools.source(op.operands[0], "pad") if op.name == "pad" else None
    if source is None or source.operands[1] != op.operands[1]:
        return None
    low, high = _sums(source, op, "low"), _sums(source, op, "high")
    return tools.replace(op, "pad", source.operands[0], op.operands[1], low=low, high=high)


def _sums(first: Operation, second: Operation, name: str) -> tuple[Dim, ...]:
    return tuple([a + b for a, b in zip(first.attr(name), second.attr(name), strict=True)])


def tile(op: Operation, tools: Tools) -> Replacement:
    """Repeated once, filled, or along axes of size 1 only."""
    multiples, x = op.attr("multiples"), op.operands[0]
    if all(m == 1 for m in multiples):
        return x
    source = tools.source(x, "fill")
    if source is not None:
        return tools.replace(op, "fill", source.operands[0], shape=op.result.type.shape)
    if all(m == 1 or n == 1 for m, n in zip(multiples, x.type.dims, strict=True)):
        return tools.replace(op, "broadcast_to", x, shape=op.result.type.shape)
    return None


def reverse(op: Operation, tools: Tools) -> Replacement:
    """Turned round twice is as before, and so is what is the same everywhere."""
    axes = {axis % op.result.type.rank for axis in op.attr("axes")}
    shape = op.result.type.dims
    if all(shape[axis] == 1 for axis in axes):
        return op.operands[0]
    source = tools.source(op.operands[0], "reverse", "fill")
    if source is None or source.name == "fill":
        return op.operands[0] if source is not None else None
    axes ^= {axis % op.result.type.rank for axis in source.attr("axes")}
    return tools.replace(op, "reverse", source.operands[0], axes=tuple(sorted(axes)))


# ---- conversions, branches ----------------------------------------------------------------------


def cast(op: Operation, tools: Tools) -> Replacement:
    """A conversion that loses nothing, or less than the next one, need not be made before it."""
    source = tools.source(op.operands[0], "cast")
    if source is None:
        return None
    first, middle, last = source.operands[0].type.dtype, source.attr("dtype"), op.attr("dtype")
    if not lossless(first, middle) and not _wraps(first, middle, last):
        return None
    return tools.replace(op, "cast", source.operands[0], dtype=last)


def lossless(source: str, target: str) -> bool:
    """True where every value of the dtype ``source`` is exact in ``target``."""
    if source not in NUMERIC or target not in NUMERIC:
        return False
    from_kind, from_bits = NUMERIC[source][1:]
    to_kind, to_bits = NUMERIC[target][1:]
    if source == target or from_kind == "b":
        return to_kind != "b" or from_kind == "b"
    if from_kind in "iu" and to_kind in "iu":
        return to_bits > from_bits and (to_kind == "i" or from_kind == "u")
    if from_kind in "iu" and to_kind == "f":
        return to_bits >= 32 and to_bits >= 2 * from_bits
    return from_kind == to_kind == "f" and to_bits > from_bits


def _wraps(first: str, middle: str, last: str) -> bool:
    """True for integers all three: of the bits that the last one has, the others lose none."""
    if any(NUMERIC.get(dtype, ("", "o", 0))[1] not in "iu" for dtype in (first, middle, last)):
        return False
    return NUMERIC[last][2] <= NUMERIC[middle][2]


TESTS = {"not_equal": True, "greater": True, "equal": False, "less_equal": False}


def test_of_bool(op: Operation, tools: Tools) -> Replacement:
    """A bool that became a number and is compared with 0 is the bool, or its opposite."""
    x, zero = op.operands
    source = tools.source(x, "cast")
    if source is None or source.operands[0].type.dtype != "bool" or not isinstance(zero, Const):
        return None
    if zero.value != 0 or x.type.kind not in "iuf" or op.result.type.shape != x.type.shape:
        return None
    flag = source.operands[0]
    return flag if TESTS[op.name] else tools.replace(op, "logical_not", flag)


def log_of_softmax(op: Operation, tools: Tools) -> Replacement:
    """The logarithm of a softmax, which underflows, is one op that does not."""
    source = tools.source(op.operands[0], "softmax")
    return tools.replace(op, "log_softmax", source.operands[0]) if source is not None else None


def cond(op: Operation, tools: Tools) -> Replacement:
    """A branch that is known to be taken, unless it would have to bind sizes out here."""
    predicate = op.operands[0]
    if not isinstance(predicate, Const) or analyses.bound_sizes(op):
        return None
    region = 0 if predicate.value else 1
    chosen = op.regions[region]
    yielded = [o.type for o in chosen.terminator.operands]
    if yielded != [r.type for r in op.results] or any(map(analyses.bound_sizes, chosen.walk())):
        return None
    return tools.inlined(op, region)


def all_ints(sizes: Sequence[Dim]) -> bool:
    """True where every size is known."""
    return all(isinstance(n, int) for n in sizes)
