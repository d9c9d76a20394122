"""What ``simplify`` knows of ops that move elements: which are nothing, and which meet in one.

One table from op names to rules. A rule gives what replaces the result, or None where it does not
apply.
"""

from __future__ import annotations

from collections.abc import Callable
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

    def inlined(self, op: Operation, region: int) -> tuple[Operand, ...]:
        """Emit the ops of a region of ``op`` in its place; what the region yields."""


Replacement = Operand | tuple[Operand, ...] | None
StructureRule = Callable[[Operation, Tools], Replacement]


def _same_type(op: Operation, tools: Tools) -> Replacement:
    return op.operands[0] if op.operands[0].type == op.result.type else None


def _reshape(op: Operation, tools: Tools) -> Replacement:
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


def _broadcast_to(op: Operation, tools: Tools) -> Replacement:
    source = tools.source(op.operands[0], "broadcast_to", "fill")
    if source is not None:
        return tools.replace(op, source.name, source.operands[0], shape=op.attr("shape"))
    if isinstance(op.operands[0], Const):
        return tools.replace(op, "fill", op.operands[0], shape=op.attr("shape"))
    return None


def _fill(op: Operation, tools: Tools) -> Replacement:
    return op.operands[0] if op.attr("shape") == () else None


def _transpose(op: Operation, tools: Tools) -> Replacement:
    perm = op.attr("perm")
    if perm == tuple(range(len(perm))):
        return op.operands[0]
    source = tools.source(op.operands[0], "transpose")
    if source is not None:
        inner = source.attr("perm")
        return tools.replace(
            op, "transpose", source.operands[0], perm=tuple([inner[i] for i in perm])
        )
    source = tools.source(op.operands[0], "fill")
    if source is not None:
        return tools.replace(op, "fill", source.operands[0], shape=op.result.type.shape)
    return None


def _slice(op: Operation, tools: Tools) -> Replacement:
    whole = not any(op.attr("begin")) and all(s == 1 for s in op.attr("strides") or ())
    return _same_type(op, tools) if whole else None


def _only_operand(op: Operation, tools: Tools) -> Replacement:
    return op.operands[0] if len(op.operands) == 1 else None


def _pad(op: Operation, tools: Tools) -> Replacement:
    return None if any(op.attr("low")) or any(op.attr("high")) else op.operands[0]


def _tile(op: Operation, tools: Tools) -> Replacement:
    return op.operands[0] if all(m == 1 for m in op.attr("multiples")) else None


def _no_axes(op: Operation, tools: Tools) -> Replacement:
    return op.operands[0] if op.attr("axes") == () else None


def _cast(op: Operation, tools: Tools) -> Replacement:
    """A conversion that loses nothing need not be made before another one."""
    source = tools.source(op.operands[0], "cast")
    if source is None or not lossless(source.operands[0].type.dtype, source.attr("dtype")):
        return None
    return tools.replace(op, "cast", source.operands[0], dtype=op.attr("dtype"))


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


def _matmul(op: Operation, tools: Tools) -> Replacement:
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


def _cond(op: Operation, tools: Tools) -> Replacement:
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


REDUCTIONS = tuple(f"reduce_{kind}" for kind in ("sum", "prod", "max", "min", "mean", "any", "all"))

STRUCTURE: dict[str, tuple[StructureRule, ...]] = {
    "reshape": (_same_type, _reshape),
    "broadcast_to": (_same_type, _broadcast_to),
    "refine": (_same_type,),
    "cast": (_same_type, _cast),
    "fill": (_fill,),
    "transpose": (_transpose,),
    "slice": (_slice,),
    "concat": (_only_operand,),
    "pad": (_pad,),
    "mirror_pad": (_pad,),
    "tile": (_tile,),
    "reverse": (_no_axes,),
    "matmul": (_matmul,),
    "cond": (_cond,),
    **{name: (_no_axes,) for name in REDUCTIONS},
}
