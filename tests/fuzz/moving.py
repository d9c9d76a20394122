"""Makers of ops that move elements: reshapes, slices, concatenations, and those with indices."""

from __future__ import annotations

from fuzz.pool import DTYPES, Known, Pool, bits_of, is_exact, rounds
from stepforge.ir.dims import Dim, product


def reshape(pool: Pool) -> None:
    x = pool.pick(lambda each: True)
    if x is None:
        return
    shape, place = list(x.dims), pool.number(0, len(x.dims))
    how = pool.choose(("flat", "one", "merge", "split", "drop"))
    if how == "flat":
        shape = [product(shape)]
    elif how == "one":
        shape.insert(place, 1)
    elif how == "merge" and place + 1 < len(shape):
        shape[place : place + 2] = [shape[place] * shape[place + 1]]
    elif how == "split" and place < len(shape) and shape[place] in (4, 8, 16):
        shape[place : place + 1] = [2, shape[place] // 2]  # type: ignore[operator]
    elif how == "drop":
        shape = [n for n in shape if n != 1]
    pool.move("reshape", x, shape=tuple(shape))


def transpose(pool: Pool) -> None:
    x = pool.pick(lambda each: len(each.dims) > 1)
    if x is not None:
        perm = list(range(len(x.dims)))
        for i in range(len(perm) - 1):
            j = pool.number(i, len(perm) - 1)
            perm[i], perm[j] = perm[j], perm[i]
        pool.move("transpose", x, perm=tuple(perm))


def broadcast(pool: Pool) -> None:
    x, other = pool.pick(lambda each: True), pool.pick(lambda each: True)
    if x is None or other is None:
        return
    shape = list(other.dims)
    own = x.dims
    fits = len(own) <= len(shape) and all(
        a in (1, b) for a, b in zip(own[::-1], shape[::-1], strict=False)
    )
    if fits:
        pool.move("broadcast_to", x, shape=tuple(shape))
    elif pool.flag():
        pool.move("broadcast_to", x, shape=(pool.choose((1, 2, 3)), *own))


def fill(pool: Pool) -> None:
    other = pool.pick(lambda each: True)
    if other is None:
        return
    value = pool.pick(lambda each: not each.dims) if pool.flag() else None
    operand = value or pool.constant(pool.choose(DTYPES))
    pool.emit("fill", operand, exact=is_exact(operand), bits=bits_of(operand), shape=other.dims)


def counting(pool: Pool) -> None:
    other = pool.pick(lambda each: len(each.dims) > 0)
    if other is None:
        return
    dtype = pool.choose(("i32", "i64", "f32"))
    if pool.flag():
        axis = pool.number(0, len(other.dims) - 1)
        bits = pool.count_bits(other.dims[axis : axis + 1])
        pool.emit("iota", shape=other.dims, axis=axis, dtype=dtype, bits=bits)
    elif pool.flag():
        pool.emit("dims", values=other.dims, dtype=pool.choose(("i32", "i64")))
    else:
        size = pool.choose(other.dims)
        pool.emit("dims", values=(size,), dtype=pool.choose(("i32", "i64")), scalar=True)


def concat(pool: Pool) -> None:
    x = pool.pick(lambda each: len(each.dims) > 0)
    if x is None:
        return
    axis = pool.number(0, len(x.dims) - 1)

    def fits(each: Known) -> bool:
        same = each.type.dtype == x.type.dtype and len(each.dims) == len(x.dims)
        return same and all(
            a == b for i, (a, b) in enumerate(zip(each.dims, x.dims, strict=True)) if i != axis
        )

    parts = [x, *[pool.pick(fits) or x for _ in range(pool.number(0, 2))]]
    exact, bits = all(p.exact for p in parts), max(p.bits for p in parts)
    if pool.flag():
        pool.emit("concat", *parts, exact=exact, bits=bits, axis=axis)
    else:
        same = [p for p in parts if p.dims == x.dims]
        pool.emit("stack", *same, exact=exact, bits=bits, axis=axis)


def slice_(pool: Pool) -> None:
    x = pool.pick(lambda each: len(each.dims) > 0)
    if x is None:
        return
    cuts = [cut(pool, size) for size in x.dims]
    begin, size, strides = (tuple(part) for part in zip(*cuts, strict=True))
    pool.move("slice", x, begin=begin, size=size, strides=strides)


def cut(pool: Pool, size: Dim) -> tuple[Dim, Dim, int]:
    """Begin, size and stride of a slice of one axis."""
    if not isinstance(size, int):
        shorter = ((1, size - 1, 1), (0, 1, 1)) if (pool.size(size) or 0) > 0 else ()
        return pool.choose(((0, size, 1), (size - 1, size, -1), *shorter))
    if size == 0:
        return 0, 0, 1
    first, step = pool.number(0, size - 1), pool.choose((1, 1, 1, -1, 2, -2))
    room = (size - 1 - first) // step if step > 0 else first // -step
    return first, pool.number(0, room + 1), step


def pad(pool: Pool) -> None:
    x = pool.pick(lambda each: len(each.dims) > 0)
    if x is None:
        return
    low = tuple(pool.number(0, 2) for _ in x.dims)
    high = tuple(pool.number(0, 2) for _ in x.dims)
    if pool.number(0, 3):
        pool.move("pad", x, pool.constant(x.type.dtype), low=low, high=high)
    else:
        small = tuple(min(n, 1) for n in low)
        mode = pool.choose(("reflect", "symmetric"))
        if all(isinstance(n, int) and n > 1 for n in x.dims):
            pool.move("mirror_pad", x, low=small, high=small, mode=mode)


def repeat(pool: Pool) -> None:
    x = pool.pick(lambda each: len(each.dims) > 0)
    if x is None:
        return
    if pool.flag():
        pool.move("tile", x, multiples=tuple(pool.number(1, 2) for _ in x.dims))
    else:
        axes = tuple(i for i in range(len(x.dims)) if pool.flag())
        pool.move("reverse", x, axes=axes)


def matrices(pool: Pool) -> None:
    x = pool.pick(lambda each: len(each.dims) > 1)
    if x is None:
        return
    name = pool.choose(("matrix_diag", "matrix_diag_part", "matrix_band_part", "matrix_set_diag"))
    if name == "matrix_band_part":
        pool.move(name, x, lower=pool.number(-1, 2), upper=pool.number(-1, 2))
    elif name == "matrix_set_diag":
        part = pool.emit("matrix_diag_part", x, exact=x.exact, bits=x.bits)
        if part:
            pool.move(name, x, part[0])
    else:
        pool.move(name, x)


# ---- indices ------------------------------------------------------------------------------------


def gather(pool: Pool) -> None:
    x = pool.pick(lambda each: len(each.dims) > 0)
    index = pool.pick(lambda each: each.type.dtype in ("i32", "i64") and len(each.dims) < 3)
    if x is None or index is None or 0 in x.dims:
        return
    axis = pool.number(0, len(x.dims) - 1)
    if pool.number(0, 3) == 0:
        pool.emit("check_bounds", index, limit=x.dims[axis])
    inside = pool.below(index, x.dims[axis])
    if inside is not None:
        pool.move("gather", x, inside, axis=axis)


def scatter(pool: Pool) -> None:
    x = pool.pick(lambda each: len(each.dims) > 0 and each.kind in "iuf")
    index = pool.pick(lambda each: each.type.dtype in ("i32", "i64") and len(each.dims) == 1)
    if x is None or index is None or 0 in x.dims:
        return
    inside = pool.below(index, x.dims[0])
    rest = (*index.dims, *x.dims[1:])
    updates = pool.pick(lambda each: each.type.dtype == x.type.dtype and each.dims == rest)
    kinds = ("update", "add", "sub", "mul", "min", "max")
    if inside is not None:
        value = updates or pool.constant(x.type.dtype)
        pool.emit(
            "scatter_update",
            x,
            inside,
            value,
            exact=x.exact and is_exact(value),
            kind=pool.choose(kinds),
        )


def scatter_nd(pool: Pool) -> None:
    x = pool.pick(lambda each: len(each.dims) > 0 and each.kind in "if")
    index = pool.pick(lambda each: each.type.dtype in ("i32", "i64"))
    if x is None or index is None or 0 in x.dims or x.dims[:1] != index.dims[:1]:
        return
    inside = pool.below(index, 5)
    if inside is None or len(index.dims) != 1:
        return
    at = pool.emit("reshape", inside, exact=True, shape=(*index.dims, 1))
    exact = x.exact and not rounds(x, pool.count_bits(x.dims[:1]))
    if at:
        pool.emit("scatter_nd", at[0], x, exact=exact, shape=(5, *x.dims[1:]))


def one_hot(pool: Pool) -> None:
    index = pool.pick(lambda each: each.kind in "iu" and len(each.dims) < 3)
    if index is not None:
        dtype = pool.choose(("f32", "i32", "bool"))
        depth = pool.choose((1, 3, 5))
        axis = pool.number(-1, len(index.dims))
        pool.emit(
            "one_hot",
            index,
            pool.constant(dtype),
            pool.constant(dtype),
            depth=depth,
            axis=axis,
            bits=3,
        )
