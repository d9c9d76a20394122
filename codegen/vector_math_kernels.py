"""What the functions of ``vector_math`` share: reductions of the argument, scaling, exact products.

All of it but the rare cases is branch-free. It is the same for one element and for sixteen, and
what is rare is decided for each element, so a value never depends on its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from stepforge.codegen.coefficients import POLYNOMIALS
from stepforge.codegen.lane_core import Lane, Operand, register_element
from stepforge.codegen.lane_memory import MemoryLanes
from stepforge.codegen.llvm import UNLIKELY, FunctionWriter

NAN = math.nan


@dataclass(frozen=True, slots=True)
class Precision:
    """The constants that differ between f32 and f64."""

    integer: str  # the dtype of the same size
    fraction: int  # bits
    bias: int
    magic: float  # 1.5 * 2**fraction: adding it rounds to a whole number, kept in the last bits
    magic_bits: int
    smallest: float  # the smallest normal number
    sqrt_half: int  # the bits of sqrt(1/2)
    ln2: tuple[float, float]  # the first part has so few bits that times an exponent it is exact
    exp_range: tuple[float, float]  # beyond it exp is 0 or infinite
    splitter: float  # 2**(half the fraction) + 1
    tiny: float  # below it x + x*x/2 is x


PRECISION = {
    "f32": Precision("i32", 23, 127, 12582912.0, 0x4B400000, 2.0**-126, 0x3F3504F3,
                     (0.693145751953125, 1.428606765330187e-06), (-104.0, 89.0), 4097.0, 2.0**-26),
    "f64": Precision("i64", 52, 1023, 6755399441055744.0, 0x4338000000000000, 2.0**-1022,
                     0x3FE6A09E667F3BCD, (0.6931471803691238, 1.9082149292705877e-10),
                     (-746.0, 710.0), 134217729.0, 2.0**-55),
}
LOG2_E = 1 / math.log(2)


def polynomial(k: MemoryLanes, name: str, x: Lane) -> Lane:
    """The polynomial ``name`` of ``coefficients`` at ``x``, by Horner's rule."""
    *lower, last = POLYNOMIALS[name][x.dtype]
    result = k.constant(last, x)
    for coefficient in reversed(lower):
        result = k.fma(result, x, coefficient)
    return result


def clamp(k: MemoryLanes, x: Lane, low: float | None, high: float | None) -> Lane:
    """x within bounds; a NaN stays (which is why this is no ``min`` and ``max``)."""
    if high is not None:
        x = k.select(k.gt(x, high), high, x)
    if low is not None:
        x = k.select(k.lt(x, low), low, x)
    return x


# ---- exact products ------------------------------------------------------------------------------
def two_product(k: MemoryLanes, x: Lane, y: Lane) -> tuple[Lane, Lane]:
    """x * y as a rounded product and its error: exact together, but for underflow."""
    product = k.mul(x, y)
    if k.has_fma:
        return product, k.fma(x, y, k.neg(product))
    x_high, x_low = _split(k, x)
    y_high, y_low = _split(k, y)
    error = k.sub(k.mul(x_high, y_high), product)
    error = k.add(k.add(error, k.mul(x_high, y_low)), k.mul(x_low, y_high))
    return product, k.add(error, k.mul(x_low, y_low))


def _split(k: MemoryLanes, x: Lane) -> tuple[Lane, Lane]:
    """x as two numbers of half its bits (Veltkamp)."""
    scaled = k.mul(x, PRECISION[x.dtype].splitter)
    high = k.sub(scaled, k.sub(scaled, x))
    return high, k.sub(x, high)


def residual(k: MemoryLanes, x: Lane, y: Lane, z: Lane) -> Lane:
    """z - x * y, where the product is close to z: rounded once on every target."""
    if k.has_fma:
        return k.fma(k.neg(x), y, z)
    product, error = two_product(k, x, y)
    return k.sub(k.sub(z, product), error)


def two_sum(k: MemoryLanes, x: Operand, y: Lane) -> tuple[Lane, Lane]:
    """x + y as a rounded sum and its error, exact together."""
    total = k.add(x, y)
    back = k.sub(total, y)
    return total, k.add(k.sub(x, back), k.sub(y, k.sub(total, back)))


def corrected_quotient(k: MemoryLanes, x: Lane, y: Lane, y_low: Lane,
                       inverse: Callable[[Lane], Lane]) -> Lane:
    """x / (y + y_low), where ``inverse`` makes a rough 1 / y of the quotient."""
    quotient = k.div(x, y)
    left = k.fma(k.neg(quotient), y_low, residual(k, quotient, y, x))
    return k.fma(left, inverse(quotient), quotient)


# ---- exponentials --------------------------------------------------------------------------------
def exponent_reduction(k: MemoryLanes, x: Lane) -> tuple[Lane, Lane, Lane]:
    """x as r + tail + n ln 2 with |r| <= ln(2)/2: r, what its rounding lost, and n as integers."""
    p = PRECISION[x.dtype]
    rounded = k.fma(x, LOG2_E, p.magic)
    whole = k.sub(rounded, p.magic)
    exact = k.fma(whole, -p.ln2[0], x)
    r = k.fma(whole, -p.ln2[1], exact)
    tail = k.fma(whole, -p.ln2[1], k.sub(exact, r))
    return r, tail, k.sub(k.bitcast(rounded, p.integer), p.magic_bits)


def shifted(k: MemoryLanes, r: Lane, tail: Lane) -> tuple[Lane, Lane]:
    """r + tail for a tail that is more than rounding, as r and a new tail that is not."""
    total = k.add(r, tail)
    return total, k.sub(tail, k.sub(total, r))


def exponential(k: MemoryLanes, r: Lane, tail: Lane) -> Lane:
    """exp(r + tail) for |r| <= ln(2)/2 and a tail below its last bit."""
    g = polynomial(k, "exp", r)
    return k.add(k.add(k.fma(k.mul(r, r), g, tail), r), 1.0)


def exponential_minus_one(k: MemoryLanes, r: Lane) -> Lane:
    """exp(r) - 1 for |r| <= ln(2)/2."""
    return k.fma(k.mul(r, r), polynomial(k, "expm1", r), r)


def power_of_two(k: MemoryLanes, n: Lane, dtype: str) -> Lane:
    """2**n for integers n between the smallest and the largest exponent."""
    p = PRECISION[dtype]
    return k.bitcast(k.shl(k.add(n, p.bias), p.fraction), dtype)


def scale(k: MemoryLanes, x: Lane, n: Lane) -> Lane:
    """x * 2**n in two steps, so that subnormal and overflowing results come out right."""
    half = k.shr(n, 1)
    scaled = k.mul(x, power_of_two(k, half, x.dtype))
    return k.mul(scaled, power_of_two(k, k.sub(n, half), x.dtype))


# ---- logarithms ----------------------------------------------------------------------------------
def split_exponent(k: MemoryLanes, x: Lane) -> tuple[Lane, Lane]:
    """A positive normal x as m * 2**e with m in [sqrt(1/2), sqrt(2)]: m, and e as integers."""
    p = PRECISION[x.dtype]
    bits = k.bitcast(x, p.integer)
    exponent = k.shr(k.sub(bits, p.sqrt_half), p.fraction)
    return k.bitcast(k.sub(bits, k.shl(exponent, p.fraction)), x.dtype), exponent


def exponent_value(k: MemoryLanes, e: Lane, dtype: str) -> Lane:
    """A small integer lane as floats; through i32, which every target converts in vectors."""
    return k.convert(k.convert(e, "i32"), dtype)


def normalised(k: MemoryLanes, x: Lane) -> tuple[Lane, Lane]:
    """x made normal, and what its exponent (a float) has to be corrected by."""
    p = PRECISION[x.dtype]
    subnormal = k.lt(x, p.smallest)
    scaled = k.select(subnormal, k.mul(x, 2.0 ** (p.fraction + 1)), x)
    return scaled, k.select(subnormal, k.constant(-float(p.fraction + 1), x), 0.0)


def logarithm(k: MemoryLanes, f: Lane, e: Lane) -> Lane:
    """log((1 + f) * 2**e) for 1 + f in [sqrt(1/2), sqrt(2)] and whole floats e."""
    high, low = PRECISION[f.dtype].ln2
    if f.dtype == "f32":
        square = k.mul(f, f)
        tail = k.fma(k.mul(square, f), polynomial(k, "log", f), k.mul(e, low))
        return k.fma(e, high, k.add(k.fma(square, -0.5, tail), f))
    s = k.div(f, k.add(f, 2.0))
    z = k.mul(s, s)
    half = k.mul(f, 0.5)
    half_square = k.mul(half, f)
    lost = residual(k, half, f, half_square)
    tail = k.fma(s, k.fma(z, polynomial(k, "log", z), half_square), k.fma(e, low, lost))
    return k.fma(e, high, k.sub(f, k.sub(half_square, tail)))


def logarithm_of_sum(k: MemoryLanes, u: Lane, correction: Lane,
                     doubled: Lane | None = None) -> Lane:
    """log(u + correction) for normal u and a correction below its last bit.

    Where ``doubled`` (bool) holds, the logarithm of twice that.
    """
    p = PRECISION[u.dtype]
    m, n = split_exponent(k, u)
    # 2**-n, or 0 where that is subnormal: a sum so large has no correction worth its name
    scale_down = k.bitcast(k.shl(k.max(k.sub(p.bias, n), 0), p.fraction), u.dtype)
    f = k.fma(correction, scale_down, k.sub(m, 1.0))
    e = exponent_value(k, n, u.dtype)
    if doubled is not None:
        e = k.select(doubled, k.add(e, 1.0), e)
    return logarithm(k, f, e)


# ---- rare cases ----------------------------------------------------------------------------------
def repaired(k: MemoryLanes, name: str, rare: Lane, usual: Lane, *operands: Lane) -> Lane:
    """``usual``, but the C library's ``name`` of the operands where ``rare`` holds.

    One test per vector; the elements go one by one in a function of their own, off the hot path.
    """
    fn, dtype = k.fn, usual.dtype
    function = name + ("f" if dtype == "f32" else "")
    symbol = f"libm.{function}.{dtype}x{k.width}"
    type_ = k.register_type(dtype)
    arguments = [(k.vector("i1"), rare.text), *((type_, x.text) for x in (usual, *operands))]
    types = [t for t, _ in arguments]
    callee = fn.module.helper(symbol, lambda: _one_by_one(k, symbol, function, dtype, types))
    before, call, after = fn.block, fn.label("rare"), fn.label("usual")
    fn.branch_if(k.any(rare).text, call, after, UNLIKELY)
    fn.start(call)
    replaced = fn.call(type_, callee, *arguments)
    fn.branch(after)
    fn.start(after)
    return Lane(dtype, fn.phi(type_, (usual.text, before), (replaced, call)))


def _one_by_one(k: MemoryLanes, symbol: str, function: str, dtype: str, types: list[str]) -> str:
    """The text of the function that ``repaired`` calls: parameters are mask, results, operands."""
    element, count = register_element(dtype), len(types) - 2
    fn = FunctionWriter(k.fn.module, symbol, types[1], [(t, f"x{i}") for i, t in enumerate(types)],
                        linkage="internal", attributes="cold noinline")
    many = k.rewritten(fn)
    one = many.rewritten(width=1)
    library = fn.module.declare(function, element, ", ".join([element] * count))
    mask = fn.alloca("i8", k.width)
    many.store(Lane("bool", "%x0"), mask)
    memory = [fn.alloca(types[1]) for _ in types[1:]]
    for i, pointer in enumerate(memory):
        many.store(Lane(dtype, f"%x{i + 1}"), pointer)

    def visit(i: str) -> None:
        def call() -> None:
            places = [fn.offset(pointer, i, element) for pointer in memory]
            operands = [one.load(place, dtype).text for place in places[1:]]
            result = fn.call(element, library, *((element, text) for text in operands))
            one.store(Lane(dtype, result), places[0])

        fn.if_(one.load(fn.offset(mask, i), "bool").text, call)

    fn.loop(0, k.width, visit)
    fn.do(f"ret {types[1]} {many.load(memory[0], dtype).text}")
    return fn.finish()
