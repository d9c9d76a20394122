"""What the functions of ``vector_math`` share: reductions of the argument, scaling, exact products.

All of it but the rare cases is branch-free. It is the same for one element and for sixteen, and
what is rare is decided for each element, so a value never depends on its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from stepforge.codegen import lane_native as native
from stepforge.codegen.coefficients import POLYNOMIALS
from stepforge.codegen.lane_core import Lane, Operand, register_element
from stepforge.codegen.lane_memory import MemoryLanes
from stepforge.codegen.llvm import UNLIKELY, FunctionWriter
from stepforge.ir.records import record

NAN = math.nan


@record(frozen=True, slots=True)
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


def polynomial(k: MemoryLanes, name: str, x: Lane, chain: int = 10) -> Lane:
    """The polynomial ``name`` of ``coefficients`` at ``x``.

    By Horner's rule; where that has more than ``chain`` terms all but the first, whose rounding
    counts most, are taken in pairs, lest each step wait for the one before.
    """
    terms = [k.constant(coefficient, x) for coefficient in POLYNOMIALS[name][x.dtype]]
    if len(terms) <= chain:
        return _horner(k, terms, x)
    first, rest, power = terms[:2], terms[2:], x
    while len(rest) > chain // 2:
        pairs = zip(rest[::2], rest[1::2], strict=False)
        rest = [k.fma(high, power, low) for low, high in pairs] + rest[len(rest) & ~1 :]
        power = k.mul(power, power)
    return _horner(k, [*first, _horner(k, rest, power)], x)


def _horner(k: MemoryLanes, terms: list[Lane], x: Lane) -> Lane:
    result = terms[-1]
    for term in reversed(terms[:-1]):
        result = k.fma(result, x, term)
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
    if k.capabilities.fma:
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
    if k.capabilities.fma:
        return k.fma(k.neg(x), y, z)
    product, error = two_product(k, x, y)
    return k.sub(k.sub(z, product), error)


def two_sum(k: MemoryLanes, x: Operand, y: Lane) -> tuple[Lane, Lane]:
    """x + y as a rounded sum and its error, exact together."""
    total = k.add(x, y)
    back = k.sub(total, y)
    return total, k.add(k.sub(x, back), k.sub(y, k.sub(total, back)))


def corrected_quotient(k: MemoryLanes, x: Lane, y: Lane, y_low: Lane,
                       invert: Callable[[Lane], Lane]) -> Lane:
    """x / (y + y_low), where ``invert`` makes a rough 1 / y of the quotient; both are normal."""
    if k.capabilities.avx512 and x.dtype == "f32":  # corrected, an estimate is as good as x / y
        inverse = native.rough_inverse(k, y)
        rough = k.mul(x, inverse)
    else:
        rough = k.div(x, y)
        inverse = invert(rough)
    left = k.fma(k.neg(rough), y_low, residual(k, rough, y, x))
    return k.fma(left, inverse, rough)


# ---- powers of two -------------------------------------------------------------------------------
@record(frozen=True, slots=True)
class Exponent:
    """A whole number n: as a float, and with the bias of exponents in the last bits of a sum.

    Shifted to where exponents are, those last bits are the number 2**n.
    """

    whole: Lane
    biased: Lane


def nearest_exponent(k: MemoryLanes, x: Lane, factor: float) -> Exponent:
    """The whole number nearest to x * factor."""
    p = PRECISION[x.dtype]
    magic = p.magic + p.bias
    biased = k.fma(x, factor, magic)
    return Exponent(k.sub(biased, magic), biased)


def one_less(k: MemoryLanes, n: Exponent) -> Exponent:
    """n - 1."""
    return Exponent(k.sub(n.whole, 1.0), k.sub(n.biased, 1.0))


def power_of_two(k: MemoryLanes, n: Exponent) -> Lane:
    """2**n for n between the smallest and the largest exponent of normal numbers."""
    dtype = n.whole.dtype
    p = PRECISION[dtype]
    return k.bitcast(k.shl(k.bitcast(n.biased, p.integer), p.fraction), dtype)


def scale_within(k: MemoryLanes, x: Lane, n: Exponent) -> Lane:
    """x * 2**n where both factors and the result are normal."""
    if k.capabilities.avx512:
        return native.scaled(k, x, n.whole)
    return k.mul(x, power_of_two(k, n))


def scale(k: MemoryLanes, x: Lane, n: Exponent) -> Lane:
    """x * 2**n where subnormal and overflowing results come out right."""
    if k.capabilities.avx512:
        return native.scaled(k, x, n.whole)
    p = PRECISION[x.dtype]
    # In two steps, 2**half and 2**(n - half), each with the bias of exponents.
    twice_biased = k.sub(k.bitcast(n.biased, p.integer), p.magic_bits - p.bias)
    half = k.op("lshr", twice_biased, k.constant(1, twice_biased))
    for biased in (half, k.sub(twice_biased, half)):
        x = k.mul(x, k.bitcast(k.shl(biased, p.fraction), x.dtype))
    return x


# ---- exponentials --------------------------------------------------------------------------------
def exponent_reduction(k: MemoryLanes, x: Lane) -> tuple[Lane, Lane, Exponent]:
    """x as r + tail + n ln 2 with |r| <= ln(2)/2: r, what its rounding lost, and n."""
    high, low = PRECISION[x.dtype].ln2
    n = nearest_exponent(k, x, LOG2_E)
    exact = k.fma(n.whole, -high, x)
    r = k.fma(n.whole, -low, exact)
    return r, k.fma(n.whole, -low, k.sub(exact, r)), n


def shifted(k: MemoryLanes, r: Lane, tail: Lane) -> tuple[Lane, Lane]:
    """r + tail for a tail that is more than rounding, as r and a new tail that is not."""
    total = k.add(r, tail)
    return total, k.sub(tail, k.sub(total, r))


def exponential(k: MemoryLanes, r: Lane) -> Lane:
    """exp(r) for |r| <= ln(2)/2."""
    return k.fma(k.fma(polynomial(k, "exp", r), r, 1.0), r, 1.0)


def exponential_of_sum(k: MemoryLanes, r: Lane, tail: Lane) -> Lane:
    """exp(r + tail) for |r| <= ln(2)/2 and a tail below its last bit."""
    g = polynomial(k, "exp", r, chain=9)
    return k.add(k.add(k.fma(k.mul(r, r), g, tail), r), 1.0)


def exponential_minus_one(k: MemoryLanes, r: Lane) -> Lane:
    """exp(r) - 1 for |r| <= ln(2)/2."""
    return k.fma(k.mul(r, r), polynomial(k, "expm1", r), r)


# ---- logarithms ----------------------------------------------------------------------------------
def split_exponent(k: MemoryLanes, x: Lane) -> tuple[Lane, Lane]:
    """A positive normal x as m * 2**e with m in [sqrt(1/2), sqrt(2)]: m and e."""
    if k.capabilities.avx512:
        return split_positive(k, x)
    p = PRECISION[x.dtype]
    bits = k.bitcast(x, p.integer)
    exponent = k.shr(k.sub(bits, p.sqrt_half), p.fraction)
    m = k.bitcast(k.sub(bits, k.shl(exponent, p.fraction)), x.dtype)
    return m, k.convert(k.convert(exponent, "i32"), x.dtype)  # every target converts i32 in vectors


def split_positive(k: MemoryLanes, x: Lane) -> tuple[Lane, Lane]:
    """As ``split_exponent``, of subnormal x too.

    AVX-512 also gives 0 an exponent of -infinity and infinity one of infinity, and m is NaN for
    negative x.
    """
    p = PRECISION[x.dtype]
    if k.capabilities.avx512:
        m, e = native.mantissa(k, x), native.exponent(k, x)
        large = k.ge(m, math.sqrt(2))
        return k.select(large, k.mul(m, 0.5), m), k.select(large, k.add(e, 1.0), e)
    subnormal = k.lt(x, p.smallest)
    m, e = split_exponent(k, k.select(subnormal, k.mul(x, 2.0 ** (p.fraction + 1)), x))
    return m, k.add(e, k.select(subnormal, k.constant(-float(p.fraction + 1), x), 0.0))


def logarithm(k: MemoryLanes, f: Lane, e: Lane) -> Lane:
    """log((1 + f) * 2**e) for 1 + f in [sqrt(1/2), sqrt(2)] and whole floats e."""
    high, low = PRECISION[f.dtype].ln2
    if f.dtype == "f32":
        half = k.mul(f, -0.5)  # exact, unlike the square, which only the small terms take
        tail = k.fma(k.mul(k.mul(f, f), f), polynomial(k, "log", f), k.mul(e, low))
        return k.fma(e, high, k.add(k.fma(half, f, tail), f))
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
    m, e = split_exponent(k, u)
    # m / u, or 0 where that is subnormal: a sum so large has no correction worth its name
    change = k.sub(k.bitcast(m, p.integer), k.bitcast(u, p.integer))
    scale_down = k.bitcast(k.max(k.add(change, p.bias << p.fraction), 0), u.dtype)
    f = k.fma(correction, scale_down, k.sub(m, 1.0))
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
