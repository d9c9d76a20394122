"""Special functions: error, gamma and zeta functions. Their arrays are SciPy's, imported on first
use.

Values at poles and outside of the domain are TensorFlow's, which differ from SciPy's here and
there.
"""

from __future__ import annotations

import numpy as np

from stepforge.ir.errors import UnimplementedError
from stepforge.ir.opdef import define_op
from stepforge.ir.ops.arrays import Array
from stepforge.ir.ops.elementwise import Binary, Unary, binary_cases, unary_cases
from stepforge.ir.ops.inference import FLOAT


def _scipy(name: str, *operands: Array) -> Array:
    """A function of SciPy's. Raises: UnimplementedError without SciPy."""
    try:
        from scipy import special  # optional, and slow to import
    except ImportError as error:
        message = f"{name} is SciPy's, which is not installed: pip install 'stepforge[full]'"
        raise UnimplementedError(None, None, message) from error
    result: Array = getattr(special, name)(*operands)
    return result


def _lgamma(x: Array) -> Array:
    return np.where(np.isinf(x), np.inf, _scipy("gammaln", x))


def _digamma(x: Array) -> Array:
    pole = (x <= 0) & (np.floor(x) == x)
    return np.where(pole, np.nan, _scipy("psi", x))


def _igamma(a: Array, x: Array) -> Array:
    value = np.where((a <= 0) | (x < 0), np.nan, _scipy("gammainc", a, x))
    return np.where((x == 0) & ~np.isnan(a), 0, value)


def _igammac(a: Array, x: Array) -> Array:
    return np.where((a <= 0) | (x < 0), np.nan, _scipy("gammaincc", a, x))


def _zeta(x: Array, q: Array) -> Array:
    """At the poles of q, where the signs of both sides differ, there is no value for odd x."""
    pole = (q <= 0) & (np.floor(q) == q) & (x > 1)
    return np.where(pole & (np.fmod(x, 2) != 0), np.nan, _scipy("zeta", x, q))


def _polygamma(n: Array, x: Array) -> Array:
    sign = np.where(np.fmod(n, 2) == 0, -1.0, 1.0)
    value = sign * _scipy("gamma", n + 1.0) * _zeta(n + 1, x)
    value = np.where(n == 0, _digamma(x), value)
    return np.where((n < 0) | (np.floor(n) != n), np.nan, value)


@define_op
class Erf(Unary):
    """The error function. ``%r = erf(%x) : f32[n]``"""

    accepts = FLOAT
    cases = unary_cases("erf", FLOAT)
    function = staticmethod(lambda x: _scipy("erf", x))


@define_op
class Erfc(Unary):
    """``1 - erf(x)``, exact for large x. ``%r = erfc(%x) : f32[n]``"""

    accepts = FLOAT
    cases = unary_cases("erfc", FLOAT)
    function = staticmethod(lambda x: _scipy("erfc", x))


@define_op
class Lgamma(Unary):
    """The logarithm of ``|gamma(x)|``: inf at the poles. ``%r = lgamma(%x) : f32[n]``"""

    accepts = FLOAT
    cases = unary_cases("lgamma", FLOAT)
    function = staticmethod(_lgamma)
    scalar = None


@define_op
class Digamma(Unary):
    """The derivative of ``lgamma``: NaN at the poles. ``%r = digamma(%x) : f32[n]``"""

    accepts = FLOAT
    cases = unary_cases("digamma", FLOAT)
    function = staticmethod(_digamma)
    scalar = None


@define_op
class Igamma(Binary):
    """The regularised lower incomplete gamma function P(a, x). ``%r = igamma(%a, %x) : f32[n]``"""

    accepts = FLOAT
    cases = binary_cases("igamma", FLOAT)
    function = staticmethod(_igamma)
    scalar = None


@define_op
class Igammac(Binary):
    """The regularised upper incomplete gamma function ``1 - P(a, x)``.

    ``%r = igammac(%a, %x) : f32[n]``
    """

    accepts = FLOAT
    cases = binary_cases("igammac", FLOAT)
    function = staticmethod(_igammac)
    scalar = None


@define_op
class Zeta(Binary):
    """The Hurwitz zeta function: the sum of ``(k + q) ** -x`` over k >= 0.

    ``%r = zeta(%x, %q) : f32[n]``
    """

    accepts = FLOAT
    cases = binary_cases("zeta", FLOAT)
    function = staticmethod(_zeta)
    scalar = None


@define_op
class Polygamma(Binary):
    """The n-th derivative of ``digamma``, n a whole float. ``%r = polygamma(%n, %x) : f32[n]``"""

    accepts = FLOAT
    cases = binary_cases("polygamma", FLOAT)
    function = staticmethod(_polygamma)
    scalar = None
