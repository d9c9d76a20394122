"""The table of structural rules: each with an example of what it replaces by what.

The examples are expressions of the IR; the tests simplify the left side and want the right one, and
evaluate both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from stepforge.ir.core import Operation
from stepforge.ir.records import record
from stepforge.passes import reductions, structure
from stepforge.passes.structure import Replacement, StructureRule, Tools


@record(frozen=True)
class Structural:
    """A rule of some ops, and examples: (before, after, types of the names in them)."""

    ops: tuple[str, ...]
    apply: StructureRule
    examples: tuple[tuple[str, str, Mapping[str, str]], ...] = ()

    @property
    def title(self) -> str:
        """What the rule says, in a sentence."""
        return (self.apply.__doc__ or "").strip().splitlines()[0]


def structural(
    ops: str,
    apply: Callable[[Operation, Tools], Replacement],
    *examples: str,
    **types: str,
) -> Structural:
    """A rule of the ops named; examples are texts ``before -> after`` on values of ``types``."""
    split = []
    for example in examples:
        before, _, after = example.partition(" -> ")
        split.append((before, after, types))
    return Structural(tuple(ops.split()), apply, tuple(split))


_ALL_REDUCTIONS = " ".join(reductions.REDUCTIONS)

STRUCTURE: tuple[Structural, ...] = (
    structural(
        "reshape broadcast_to refine cast",
        structure.same_type,
        "reshape(x, shape=[n, 4]) -> x",
        "broadcast_to(x, shape=[n, 4]) -> x",
        'cast(x, dtype="f32") -> x',
        x="f32[n, 4]",
    ),
    structural(
        "reshape",
        structure.reshape,
        "reshape(reshape(x, shape=[4*n]), shape=[2*n, 2]) -> reshape(x, shape=[2*n, 2])",
        "reshape(fill(s, shape=[n, 4]), shape=[4*n]) -> fill(s, shape=[4*n])",
        "reshape(dims(values=[n]), shape=[]) -> dims(values=[n], scalar=true)",
        x="f32[n, 4]",
        s="f32",
    ),
    structural(
        "broadcast_to",
        structure.broadcast_to,
        "broadcast_to(broadcast_to(x, shape=[n, 4]), shape=[2, n, 4])"
        " -> broadcast_to(x, shape=[2, n, 4])",
        "broadcast_to(reshape(x, shape=[1, n, 1]), shape=[2, n, 4])"
        " -> broadcast_to(x, shape=[2, n, 4])",
        "broadcast_to(2.0, shape=[n, 4]) -> fill(2.0, shape=[n, 4])",
        x="f32[n, 1]",
    ),
    structural("fill", structure.fill, "fill(s, shape=[]) -> s", s="f32"),
    structural(
        "transpose",
        structure.transpose,
        "transpose(x, perm=[0, 1]) -> x",
        "transpose(transpose(x, perm=[1, 0]), perm=[1, 0]) -> x",
        "transpose(fill(s, shape=[n, 4]), perm=[1, 0]) -> fill(s, shape=[4, n])",
        x="f32[n, 4]",
        s="f32",
    ),
    structural(
        "transpose",
        structure.transpose_of_ones,
        "transpose(x, perm=[1, 0, 2]) -> reshape(x, shape=[1, n, 4])",
        x="f32[n, 1, 4]",
    ),
    structural(
        "matmul",
        structure.matmul,
        "matmul(transpose(x, perm=[1, 0]), y) -> matmul(x, y, transpose_a=true)",
        "matmul(x, transpose(y, perm=[1, 0]), transpose_a=true, transpose_b=true)"
        " -> matmul(x, y, transpose_a=true)",
        x="f32[4, n]",
        y="f32[4, 3]",
    ),
    structural(
        "slice",
        structure.slice_,
        "slice(x, begin=[0, 0], size=[n, 4]) -> x",
        "slice(slice(x, begin=[0, 1], size=[n, 2], strides=[1, 2]), begin=[0, 1], size=[n, 1])"
        " -> slice(x, begin=[0, 3], size=[n, 1], strides=[1, 2])",
        "slice(fill(s, shape=[n, 4]), begin=[0, 1], size=[n, 2]) -> fill(s, shape=[n, 2])",
        "slice(dims(values=[n, 4]), begin=[1], size=[1]) -> dims(values=[4])",
        x="f32[n, 4]",
        s="f32",
    ),
    structural(
        "slice",
        structure.slice_of_joined,
        "slice(concat(x, y, axis=0), begin=[n, 0], size=[m, 4]) -> y",
        "slice(concat(x, x, axis=1), begin=[0, 5], size=[n, 2])"
        " -> slice(x, begin=[0, 1], size=[n, 2])",
        x="f32[n, 4]",
        y="f32[m, 4]",
    ),
    structural(
        "slice",
        structure.slice_of_padded,
        "slice(pad(x, 0.0, low=[1, 0], high=[2, 0]), begin=[1, 0], size=[n, 4]) -> x",
        x="f32[n, 4]",
    ),
    structural(
        "slice",
        structure.slice_of_repeated,
        "slice(broadcast_to(x, shape=[n, 4]), begin=[0, 1], size=[n, 2])"
        " -> broadcast_to(x, shape=[n, 2])",
        x="f32[n, 1]",
    ),
    structural(
        "concat",
        structure.concat,
        "concat(x, axis=0) -> x",
        "concat(concat(x, x, axis=0), x, axis=0) -> concat(x, x, x, axis=0)",
        "concat(x, y, axis=1) -> x",
        x="f32[n, 4]",
        y="f32[n, 0]",
    ),
    structural(
        "concat",
        structure.concat_of_parts,
        "concat(slice(x, begin=[0, 0], size=[n, 1]), slice(x, begin=[0, 1], size=[n, 3]), axis=1)"
        " -> x",
        x="f32[n, 4]",
    ),
    structural(
        "concat",
        structure.concat_of_same,
        "concat(fill(s, shape=[n, 4]), fill(s, shape=[2, 4]), axis=0) -> fill(s, shape=[n + 2, 4])",
        "concat(dims(values=[n]), dims(values=[2, 3]), axis=0) -> dims(values=[n, 2, 3])",
        x="f32[n]",
        s="f32",
    ),
    structural(
        "pad mirror_pad",
        structure.pad,
        "pad(x, 0.0, low=[0, 0], high=[0, 0]) -> x",
        'mirror_pad(x, low=[0, 0], high=[0, 0], mode="reflect") -> x',
        "pad(pad(x, 0.0, low=[1, 0], high=[0, 0]), 0.0, low=[2, 0], high=[0, 1])"
        " -> pad(x, 0.0, low=[3, 0], high=[0, 1])",
        x="f32[n, 4]",
    ),
    structural(
        "tile",
        structure.tile,
        "tile(x, multiples=[1, 1]) -> x",
        "tile(fill(s, shape=[n, 1]), multiples=[2, 3]) -> fill(s, shape=[2*n, 3])",
        "tile(x, multiples=[1, 3]) -> broadcast_to(x, shape=[n, 3])",
        x="f32[n, 1]",
        s="f32",
    ),
    structural(
        "reverse",
        structure.reverse,
        "reverse(x, axes=[]) -> x",
        "reverse(reverse(x, axes=[0]), axes=[0, 1]) -> reverse(x, axes=[1])",
        "reverse(fill(s, shape=[n, 4]), axes=[0]) -> fill(s, shape=[n, 4])",
        x="f32[n, 4]",
        s="f32",
    ),
    structural(
        "cast",
        structure.cast,
        'cast(cast(x, dtype="f32"), dtype="f64") -> cast(x, dtype="f64")',
        'cast(cast(x, dtype="i64"), dtype="i8") -> cast(x, dtype="i8")',
        'cast(cast(y, dtype="i16"), dtype="u8") -> cast(y, dtype="u8")',
        'cast(cast(p, dtype="f32"), dtype="bool") -> p',
        x="i16[n]",
        y="i64[n]",
        p="bool[n]",
    ),
    structural(
        " ".join(structure.TESTS),
        structure.test_of_bool,
        'not_equal(cast(p, dtype="f32"), 0.0) -> p',
        'greater(cast(p, dtype="i32"), 0) -> p',
        'equal(cast(p, dtype="i32"), 0) -> logical_not(p)',
        p="bool[n]",
    ),
    structural("cond", structure.cond),
    structural(
        _ALL_REDUCTIONS,
        reductions.no_axes,
        "reduce_max(x, axes=[]) -> x",
        "reduce_sum(x, axes=[]) -> add(x, 0.0)",
        x="f32[n, 4]",
    ),
    structural(
        _ALL_REDUCTIONS,
        reductions.axes_of_one,
        "reduce_max(x, axes=[1]) -> reshape(x, shape=[n])",
        "reduce_sum(x, axes=[1]) -> reshape(add(x, 0.0), shape=[n])",
        "reduce_sum(i, axes=[1]) -> reshape(i, shape=[n])",
        x="f32[n, 1]",
        i="i32[n, 1]",
    ),
    structural(
        _ALL_REDUCTIONS,
        reductions.of_fill,
        "reduce_sum(fill(0.0, shape=[n, 4]), axes=[0]) -> fill(0.0, shape=[4])",
        "reduce_prod(fill(1.0, shape=[n, 4]), axes=[0]) -> fill(1.0, shape=[4])",
        "reduce_max(fill(s, shape=[n, 4]), axes=[1]) -> broadcast_to(s, shape=[n])",
        "reduce_sum(fill(0.5, shape=[4, n]), axes=[0]) -> fill(2.0, shape=[n])",
        x="f32[n]",
        s="f32",
    ),
    structural(
        _ALL_REDUCTIONS,
        reductions.of_broadcast,
        "reduce_max(broadcast_to(x, shape=[3, n]), axes=[0]) -> x",
        "reduce_sum(broadcast_to(x, shape=[3, n]), axes=[0]) -> add(mul(x, 3.0), 0.0)",
        "reduce_mean(broadcast_to(x, shape=[3, n]), axes=[0]) -> add(x, 0.0)",
        "reduce_sum(broadcast_to(i, shape=[3, n]), axes=[0]) -> mul(i, 3)",
        x="f32[n]",
        i="i32[n]",
    ),
    structural(
        _ALL_REDUCTIONS,
        reductions.of_reduction,
        "reduce_max(reduce_max(x, axes=[1]), axes=[0]) -> reduce_max(x, axes=[0, 1])",
        "reduce_sum(reduce_sum(i, axes=[0]), axes=[0]) -> reduce_sum(i, axes=[0, 1])",
        x="f32[n, 4]",
        i="i32[n, 4]",
    ),
    structural(
        _ALL_REDUCTIONS,
        reductions.of_moved,
        "reduce_max(transpose(x, perm=[1, 0]), axes=[0]) -> reduce_max(x, axes=[1])",
        "reduce_min(reshape(x, shape=[4*n]), axes=[0]) -> reduce_min(x, axes=[0, 1])",
        x="f32[n, 4]",
    ),
    structural(
        "reduce_prod",
        reductions.product_of_sizes,
        "reduce_prod(dims(values=[n, 4]), axes=[0]) -> dims(values=[4*n], scalar=true)",
        x="f32[n]",
    ),
    structural(
        "logical_not",
        reductions.not_of_reduction,
        "logical_not(reduce_any(logical_not(p), axes=[0])) -> reduce_all(p, axes=[0])",
        "logical_not(reduce_all(logical_not(p), axes=[0])) -> reduce_any(p, axes=[0])",
        p="bool[n, 4]",
    ),
    structural(
        "argmax argmin",
        reductions.place_of_negative,
        "argmax(neg(x), axis=1) -> argmin(x, axis=1)",
        "argmin(neg(x), axis=1) -> argmax(x, axis=1)",
        x="f32[n, 4]",
    ),
)

INEXACT_STRUCTURE: tuple[Structural, ...] = (
    structural(
        "transpose",
        structure.transpose_of_product,
        "transpose(matmul(x, y), perm=[1, 0]) -> matmul(y, x, transpose_a=true, transpose_b=true)",
        x="f32[n, 4]",
        y="f32[4, 3]",
    ),
    structural(
        "log",
        structure.log_of_softmax,
        "log(softmax(x)) -> log_softmax(x)",
        x="f32[n, 4]",
    ),
    structural(
        " ".join(reductions.ORDERED),
        reductions.of_reduced_sum,
        "reduce_sum(reduce_sum(x, axes=[1]), axes=[0]) -> reduce_sum(x, axes=[0, 1])",
        "reduce_mean(reduce_mean(x, axes=[1]), axes=[0]) -> reduce_mean(x, axes=[0, 1])",
        x="f32[n, 4]",
    ),
    structural(
        " ".join(reductions.ORDERED),
        reductions.of_moved_sum,
        "reduce_sum(transpose(x, perm=[1, 0]), axes=[0]) -> reduce_sum(x, axes=[1])",
        "reduce_mean(reshape(x, shape=[4*n]), axes=[0]) -> reduce_mean(x, axes=[0, 1])",
        x="f32[n, 4]",
    ),
    structural(
        "reduce_sum reduce_mean",
        reductions.scaled_sum,
        "reduce_sum(mul(x, 0.1), axes=[1]) -> mul(reduce_sum(x, axes=[1]), 0.1)",
        x="f32[n, 4]",
    ),
)


def rules_by_op(rules: Sequence[Structural]) -> dict[str, tuple[StructureRule, ...]]:
    """The rules of each op, in the order of the table."""
    found: dict[str, list[StructureRule]] = {}
    for rule in rules:
        for op in rule.ops:
            found.setdefault(op, []).append(rule.apply)
    return {op: tuple(each) for op, each in found.items()}
