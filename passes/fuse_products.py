"""Products take in the elementwise operations behind them, as an epilogue region.

A ``fused`` op that is the only user of a matrix product or a convolution, and gives one result of
the same type, becomes the product's region: the elements are computed while they are at hand, and
the product itself is never stored.

    %0 = matmul(%x, %w) : f32[n, 8]                        %y = matmul(%x, %w, %b) : f32[n, 8] |
    %y = fused(%0, %b, shape=[n, 8]) : f32[n, 8] |    ->     %acc: f32, %q: f32| {
      %p: f32, %q: f32| { ... yield(%v) }                    ... yield(%v) }
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stepforge.ir import analyses
from stepforge.ir.builder import Builder
from stepforge.ir.core import Block, Function, Operand, Operation, Value
from stepforge.ir.ops.epilogue import WithEpilogue, broadcasts
from stepforge.ir.ops.linear_algebra import small_product


def fuse_products(function: Function) -> Function:
    """Replace pairs of a product and a ``fused`` op by products with a region."""
    ops = function.body.ops
    chosen = _chosen(function)
    if not chosen:
        return function
    gone = set(chosen.values())
    mapped: dict[Operand, Operand] = {}
    builder = Builder()
    for op in ops:
        if op in chosen:
            mapped[op.result] = _emit(builder, chosen[op], op, mapped)
        elif op not in gone:
            operands = tuple(mapped.get(o, o) for o in op.operands)
            same = operands == op.operands
            builder.ops.append(
                op if same else
                Operation(op.defn, operands, op.attrs, op.results, op.regions, op.site)
            )
    return Function(function.name, builder.block(function.params), function.globals)


def _chosen(function: Function) -> dict[Operation, Operation]:
    """For each ``fused`` op that becomes an epilogue, its product: the last that can be."""
    uses = analyses.uses(function.body)
    products: dict[Operand, Operation] = {
        op.result: op
        for op in function.body.ops
        if _fusible(op) and len(uses.get(op.result, ())) == 1
    }
    if not products:
        return {}
    order = {op: position for position, op in enumerate(function.body.ops)}
    chosen: dict[Operation, Operation] = {}
    for op in function.body.ops:
        if op.name != "fused" or len(op.results) != 1:
            continue
        found = [products[o] for o in op.operands if o in products and _fits(op, o)]
        if found:
            chosen[op] = max(found, key=order.__getitem__)
    return chosen


def _fusible(op: Operation) -> bool:
    """True for sums of products that are not computed in place anyway."""
    if not isinstance(op.defn, WithEpilogue) or op.regions:
        return False
    if op.result.type.dtype not in ("f32", "f64"):
        return False
    if op.name != "matmul":
        return True
    m, n = op.result.type.dims[-2:]
    return not small_product(m, n, op.operands[0].type.dims[-2 if op.attr("transpose_a") else -1])


def _fits(op: Operation, product: Operand) -> bool:
    """True where the result is like the product, and each operand is known to broadcast to it."""
    if op.result.type != product.type:
        return False
    return all(broadcasts(operand.type, op.result.type) for operand in op.operands)


def _emit(
    builder: Builder, product: Operation, fused: Operation, mapped: Mapping[Operand, Operand]
) -> Value:
    place = fused.operands.index(product.result)
    others = [o for i, o in enumerate(fused.operands) if i != place]
    region = fused.regions[0]
    params = [p for i, p in enumerate(region.params) if i != place]
    builder.site = product.site
    made: Value = builder.emit(
        product.defn,
        *_operands([*product.operands, *others], mapped),
        types=[fused.result.type],
        names=[fused.result.name],
        regions=[Block((region.params[place], *params), region.ops)],
        **product.attrs,
    )
    return made


def _operands(operands: Sequence[Operand], mapped: Mapping[Operand, Operand]) -> list[Operand]:
    return [mapped.get(operand, operand) for operand in operands]
