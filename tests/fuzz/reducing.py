"""Makers of ops that combine elements: reductions, scans, orders, rows and products."""

from __future__ import annotations

from fuzz.pool import FULL, Known, Pool, fit, rounds

REDUCTIONS = ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod")


def reduction(pool: Pool) -> None:
    x = pool.pick(lambda each: len(each.dims) > 0)
    if x is None or x.kind == "c":
        return
    axes = tuple(i for i in range(len(x.dims)) if pool.flag())
    keep = pool.flag()
    if x.kind == "b":
        pool.emit(pool.choose(("reduce_any", "reduce_all")), x, axes=axes, keep_dims=keep)
        return
    name = pool.choose(REDUCTIONS)
    extreme = name in ("reduce_max", "reduce_min")
    more = pool.count_bits([x.dims[axis] for axis in axes])
    sums = name == "reduce_sum" and not rounds(x, more)
    bits = x.bits if extreme else x.bits + more if sums else FULL
    exact = x.exact and (extreme or sums or x.kind in "iu")
    pool.emit(name, x, exact=exact, bits=bits, axes=axes, keep_dims=keep)


def scan(pool: Pool) -> None:
    x = pool.pick(lambda each: len(each.dims) > 0 and each.kind in "iuf")
    if x is None:
        return
    axis = pool.number(0, len(x.dims) - 1)
    name = pool.choose(("cumsum", "cumprod"))
    more = pool.count_bits(x.dims[axis : axis + 1])
    sums = name == "cumsum" and not rounds(x, more)
    exact = x.exact and (sums or x.kind in "iu")
    bits = x.bits + more if sums else FULL
    flags = {"exclusive": pool.flag(), "reverse": pool.flag()}
    pool.emit(name, x, exact=exact, bits=bits, axis=axis, **flags)


def position(pool: Pool) -> None:
    x = pool.pick(lambda each: each.exact and len(each.dims) > 0 and each.kind in "biuf")
    if x is None:
        return
    axis = pool.number(0, len(x.dims) - 1)
    name = pool.choose(("argmax", "argmin", "argsort", "sort", "top_k"))
    if name == "top_k":
        if x.kind != "b" and isinstance(x.dims[-1], int):
            pool.emit("top_k", x, k=pool.number(0, x.dims[-1]))
    elif x.dims[axis] != 0:
        attrs = {"dtype": "i32"} if name.startswith("arg") and pool.flag() else {}
        pool.emit(name, x, axis=axis, **attrs)


def segments(pool: Pool) -> None:
    x = pool.pick(lambda each: len(each.dims) > 0 and each.kind in "iuf")
    index = pool.pick(lambda each: each.type.dtype in ("i32", "i64") and len(each.dims) == 1)
    if x is not None and index is not None and x.dims[:1] == index.dims:
        kind = pool.choose(("sum", "mean", "prod", "max", "min"))
        exact = x.exact and (kind in ("max", "min") or x.kind in "iu")
        pool.emit("segment_sum", x, index, exact=exact, num=pool.choose((1, 3)), kind=kind)


# ---- rows and products --------------------------------------------------------------------------


def rows(pool: Pool) -> None:
    x = pool.pick(lambda each: each.kind == "f" and len(each.dims) > 0)
    if x is None:
        return
    name = pool.choose(("softmax", "log_softmax", "softmax_cross_entropy", "sparse"))
    if name == "softmax_cross_entropy":
        labels = pool.pick(lambda each: each.type == x.type)
        pool.emit(name, x, labels or x, exact=False)
    elif name == "sparse":
        index = pool.pick(lambda each: each.dims == x.dims[:-1] and each.type.dtype == "i32")
        label = pool.below(index, x.dims[-1]) if index is not None else None
        if label is not None:
            pool.emit("sparse_softmax_cross_entropy", x, label, exact=False)
    else:
        pool.emit(name, x, exact=False)


def matmul(pool: Pool) -> None:
    a = pool.pick(lambda each: len(each.dims) > 1 and each.kind in "if")
    if a is None:
        return
    flag = pool.flag()
    inner = a.dims[-2 if flag else -1]
    dtype = a.type.dtype

    def fits(each: Known) -> bool:
        same = each.type.dtype == dtype and len(each.dims) > 1
        return same and inner in each.dims[-2:] and fit([a.dims[:-2], each.dims[:-2]])

    b = pool.pick(fits)
    if b is None:
        return
    other = b.dims[-2] != inner or (b.dims[-1] == inner and pool.flag())
    more = b.bits + pool.count_bits([inner])
    exact = a.exact and b.exact and not rounds(a, more)
    bits = a.bits + more
    pool.emit("matmul", a, b, exact=exact, bits=bits, transpose_a=flag, transpose_b=other)
